//! `trivec serve` as a child process on loopback, and a client that sends any bytes, also those that no client library would send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

pub use crate::program::trivec;
use crate::wait::{DEADLINE, wait_for, wait_until};
pub use crate::{closed_port, program, wait};

/// `trivec serve` on a free port; killed when dropped.
pub struct Server {
    pub child: Child,
    pub port: u16,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts `trivec serve` with these options. Without `--model` among them it serves the starter.
    pub fn start(args: &[&str]) -> Server {
        let mut command = trivec();
        command.args(["serve", "--port", "0"]).args(args);
        Server::run(command)
    }

    /// Runs a command that starts `trivec serve`, and waits until it listens.
    pub fn run(mut command: Command) -> Server {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the service ended before it listened");
            if let Some((_, port)) = line.split_once("listening on ").and_then(|(_, at)| at.rsplit_once(':')) {
                break port.trim().parse().unwrap();
            }
        };
        // If nothing read the log, the service would block once the pipe is full.
        let log = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = own.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Server { child, port, log, reader: Some(reader) }
    }

    /// Waits until the log contains `expected`, and returns the log.
    #[track_caller]
    pub fn log_with(&self, expected: &str) -> String {
        wait_for(&format!("`{expected}` in the log"), || {
            let log = self.log.lock().unwrap().clone();
            log.contains(expected).then_some(log)
        })
    }

    /// Waits for the line of a JSON log about a request to `route` that ended with `status`, and returns it.
    #[track_caller]
    pub fn logged(&self, route: &str, status: u16) -> Value {
        wait_for(&format!("a line about {route} with {status} in the log"), || {
            let log = self.log.lock().unwrap();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["route"] == route && line["status"] == status)
        })
    }

    /// Ends the service by SIGTERM, as an operator does, and returns everything that it has logged.
    #[cfg(unix)]
    #[track_caller]
    pub fn end(&mut self) -> String {
        self.signal("TERM");
        assert_eq!(self.exit_code(), Some(0));
        // The log ends with the process, and so does its reader.
        self.reader.take().unwrap().join().unwrap();
        self.log.lock().unwrap().clone()
    }

    /// Waits for the service's end, and returns its exit code.
    #[track_caller]
    pub fn exit_code(&mut self) -> Option<i32> {
        wait_for("the service's end", || self.child.try_wait().unwrap()).code()
    }

    /// Opens a connection to the service.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads the answer; `None` if the connection closes without one.
    pub fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // A service that refuses early may have closed already.
        let _ = stream.write_all(bytes);
        Answer::read(&mut stream)
    }

    /// Sends a request on a connection of its own, and reads the answer.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let answer = self.raw(&[head.as_bytes(), body].concat());
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// The number in the line of `/metrics` that begins with `name`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Gets `path` again and again until `done` holds for its JSON.
    #[track_caller]
    pub fn wait_for(&self, path: &str, done: impl Fn(&Value) -> bool) {
        wait_until(path, || done(&self.get(path).json()));
    }

    /// Waits until a number of `/metrics` is `value`. A request is counted when it is over, which may be after its client has the answer.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, value: f64) {
        wait_until(&format!("{name} {value}"), || self.metric(name) == Some(value));
    }

    /// Sends the process the signal of this name, such as `TERM`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer; `head` is its status line and headers.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads one answer; `None` if the connection closes without one.
    pub fn read(stream: &mut TcpStream) -> Option<Answer> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return None,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => head.push_str(&line),
            }
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let field = |name: &str| {
            head.lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(|value| value.trim().to_owned()))
        };
        let mut body = Vec::new();
        match field("content-length:") {
            Some(length) => {
                body.resize(length.parse().ok()?, 0);
                reader.read_exact(&mut body).ok()?;
            }
            None if field("transfer-encoding:").as_deref() == Some("chunked") => loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let from = body.len();
                body.resize(from + usize::from_str_radix(line.trim(), 16).ok()?, 0);
                reader.read_exact(&mut body[from..]).ok()?;
                // The line end after a chunk; after the last one, there are no trailers.
                reader.read_line(&mut String::new()).ok()?;
                if from == body.len() {
                    break;
                }
            },
            None => {
                reader.read_to_end(&mut body).ok()?;
            }
        }
        Some(Answer { status, head, body })
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// The value of the header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        let prefix = format!("{}:", name.to_ascii_lowercase());
        self.head.lines().find_map(|line| {
            line.to_ascii_lowercase().starts_with(&prefix).then(|| line[prefix.len()..].trim().to_owned())
        })
    }
}
