//! calls MODEL THREADS TEXTS: measures how long the engine's own calls take, for the comparison with the bindings (tools/bindings_cost/).
//!
//! For each line `COUNT RUNS` of standard input it makes RUNS calls, each of which embeds the first COUNT lines of the file TEXTS, and prints how
//! many microseconds each took.

use std::error::Error;
use std::io::BufRead;
use std::time::Instant;

use trivec::{EncodeOptions, LoadOptions, Model};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, threads, texts] = &arguments[..] else { return Err("usage: calls MODEL THREADS TEXTS".into()) };
    let model = Model::load_with(model, &LoadOptions { threads: Some(threads.parse()?), ..LoadOptions::default() })?;
    let texts = std::fs::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().collect();
    let options = EncodeOptions::default();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (count, runs) = line.split_once(' ').ok_or("expected COUNT RUNS")?;
        let texts = texts.get(..count.parse()?).ok_or("there are fewer texts")?;
        let mut times = Vec::new();
        for _ in 0..runs.parse()? {
            let begin = Instant::now();
            std::hint::black_box(model.encode(texts, &options)?);
            times.push(format!("{:.3}", begin.elapsed().as_secs_f64() * 1e6));
        }
        println!("{}", times.join(" "));
    }
    Ok(())
}
