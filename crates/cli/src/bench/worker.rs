//! `trivec bench --worker`: answers each line of JSON with a line of JSON, so that a script can measure this engine and others in turn.

use std::io::{BufRead, Write};
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use super::super::exit::{Failure, Result};
use super::super::style::grouped;
use super::shapes;
use trivec::{EncodeOptions, Model};

/// A request. It has one of the first three fields; beside `ids` the others are ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// How many texts to embed, and how many tokens each has; answered by the milliseconds of each run.
    shape: Option<(usize, usize)>,
    /// The token count of each text to embed; answered like `shape`.
    lengths: Option<Vec<usize>>,
    /// The token ids of each text, answered by the dense vectors.
    ids: Option<Vec<Vec<u32>>>,
    #[serde(default = "one")]
    runs: usize,
}

fn one() -> usize {
    1
}

/// Prints a line that says it is ready, and then answers requests until standard input ends.
pub(super) fn run(model: &Model) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut answer =
        |value: serde_json::Value| writeln!(out, "{value}").and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e));
    answer(
        json!({"ready": true, "weights": model.info().weights, "isa": model.info().isa, "threads": model.info().threads}),
    )?;
    for (index, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|e| Failure::io("standard input", &e))?;
        let bad = |what: String| Failure::input(format!("standard input, line {}: {what}", index + 1));
        let request: Request = serde_json::from_str(&line).map_err(|e| bad(e.to_string()))?;
        let options = EncodeOptions::default();
        if let Some(ids) = request.ids {
            let place = |at: usize| format!("standard input, line {}: ids {at}", index + 1);
            let vectors = model.encode_ids(&ids, &options).map_err(|e| Failure::of_input(e, place))?;
            answer(json!({"cls": vectors.into_iter().map(|embedding| embedding.dense).collect::<Vec<_>>()}))?;
            continue;
        }
        let lengths = match (request.shape, request.lengths) {
            (Some((texts, tokens)), None) if texts <= 1 << 16 => vec![tokens; texts],
            (None, Some(lengths)) => lengths,
            _ => return Err(bad("expected `shape`, `lengths` or `ids`".to_owned())),
        };
        if let Some(length) = lengths.iter().find(|&&length| !(1..=model.info().max_length).contains(&length)) {
            return Err(bad(format!(
                "{} tokens, expected 1 to {}",
                grouped(*length),
                grouped(model.info().max_length)
            )));
        }
        let ids = shapes::ids(&lengths, model.info().vocabulary);
        let mut times = Vec::new();
        for _ in 0..request.runs {
            let from = Instant::now();
            std::hint::black_box(model.encode_ids(&ids, &options)?);
            times.push(from.elapsed().as_secs_f64() * 1e3);
        }
        answer(json!({"ms": times, "peak_rss_mb": peak_rss_mb()}))?;
    }
    Ok(())
}

/// The most memory that this process has held (peak resident set), in megabytes; 0 where /proc/self/status does not tell.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kb.map_or(0.0, |kb: f64| kb * 1024.0 / 1e6)
}
