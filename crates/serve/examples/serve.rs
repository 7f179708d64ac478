//! Runs the HTTP service inside another program: `cargo run --release --example serve`.
//!
//! The service answers one request, which this program sends itself, and then ends.
//!
//! ```text
//! dense 0.609, "related"
//! all requests were answered in time: true
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use trivec::Model;
use trivec_serve::{Options, Server, Signal, runtime};

fn main() -> Result<(), Box<dyn Error>> {
    let model = Model::starter()?;
    // Port 0: the operating system chooses a free one.
    let options = Options { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Options::default() };

    runtime()?.block_on(async {
        let server = Server::bind(model, options).await?;
        let address = server.address().trim_start_matches("http://").to_owned();

        // The service runs until it is told to end.
        let (signals, told) = mpsc::channel(1);
        let asking = async {
            let answer: Value = serde_json::from_str(&spawn_blocking(move || request(&address)).await??)?;
            let pair = &answer["data"][0];
            println!("dense {:.3}, {}", pair["dense"].as_f64().unwrap_or(f64::NAN), pair["verdict"]);
            signals.send(Signal::End).await?;
            Ok::<(), Box<dyn Error>>(())
        };
        let (finished, asked) = tokio::join!(server.run(told), asking);
        asked?;
        println!("all requests were answered in time: {finished}");
        Ok::<(), Box<dyn Error>>(())
    })
}

/// Sends a request for the similarity of two texts, in plain HTTP/1.1, and returns the body of the answer.
fn request(address: &str) -> std::io::Result<String> {
    let body = r#"{"pairs": [["a green tea", "ein grüner Tee"]]}"#;
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /v1/score HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}
