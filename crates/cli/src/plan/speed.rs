//! How fast a machine is: from a report of `trivec bench --json`, or measured here.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::bench;
use super::super::exit::{Failure, Result};
use super::super::input;
use super::super::style::grouped;
use trivec::Model;
use trivec::corpus::{Estimate, Speed};

/// The fewest tokens of a batch that keeps a machine busy; smaller batches do not show its full speed.
const FULL: usize = 512;
/// The shapes that are measured on this machine; the second only if the corpus has texts that are long enough for attention to count.
const SHAPES: [&str; 2] = ["8x128", "1x512"];
/// The most bytes of a report that is read, and the most shapes in it.
const LONGEST: u64 = 1 << 20;
const MOST_SHAPES: usize = 256;

/// The fields of a report of `trivec bench --json` that are used here.
#[derive(Deserialize)]
struct Report {
    machine: Machine,
    weights: String,
    results: Vec<Shape>,
}

/// The machine that was measured.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Machine {
    pub cpu: String,
    pub isa: String,
    pub threads: usize,
}

#[derive(Deserialize)]
struct Shape {
    shape: String,
    median_ms: f64,
    weight_bytes: u64,
}

/// A machine and its speed.
pub(super) struct Measured {
    pub machine: Machine,
    pub speed: Speed,
    /// The measured shapes that the speed follows from.
    pub shapes: Vec<String>,
    /// Whether all of them have fewer tokens than [`FULL`].
    pub is_small: bool,
}

/// The speed in a report, which must be of a model with layers of the same format and size.
pub(super) fn of_report(path: &Path, model: &Model) -> Result<Measured> {
    let opened = input::open(path)?;
    let name = opened.name.clone();
    if opened.length.is_some_and(|length| length > LONGEST) {
        return Err(Failure::input(format!("{name}: longer than a report of `trivec bench --json` is")));
    }
    let text = input::whole_text(opened.reader, &name)?;
    let bad = |what: String| Failure::input(format!("{name}: no report of `trivec bench --json`: {what}"));
    let report: Report = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    if report.weights != model.info().weights {
        let what = format!("{name} measured {} weights, the model has {}", report.weights, model.info().weights);
        return Err(Failure::option("bench", what));
    }
    if report.results.len() > MOST_SHAPES {
        return Err(bad(format!(
            "found {} results, expected at most {}",
            grouped(report.results.len()),
            grouped(MOST_SHAPES)
        )));
    }
    let mut batches = Vec::new();
    for Shape { shape, median_ms, weight_bytes } in report.results {
        let lengths = bench::lengths(&shape).map_err(&bad)?;
        if !(median_ms > 0.0 && median_ms.is_finite()) {
            return Err(bad(format!("{shape}: found a median of {median_ms} ms, expected more than 0")));
        }
        let own = model.work(&lengths).weight_bytes;
        if weight_bytes != own {
            let what = format!("{name} measured a model of {weight_bytes} bytes of layers, this one has {own}");
            return Err(Failure::option("bench", what));
        }
        batches.push((shape, lengths, median_ms / 1e3));
    }
    if batches.is_empty() {
        return Err(bad("`results` is empty, expected at least one shape (8x128 is a good one)".to_owned()));
    }
    measured(report.machine, batches)
}

/// Measures this machine, for about `seconds` with each shape.
pub(super) fn here(model: &Model, corpus: &Estimate, seconds: f64) -> Result<Measured> {
    let info = model.info();
    let mut batches = Vec::new();
    for shape in SHAPES {
        let lengths = bench::lengths(shape).map_err(Failure::usage)?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // If all texts of the corpus are short, attention takes next to no time.
        let is_wanted = batches.is_empty() || corpus.longest as usize > longest / 2;
        if longest <= info.max_length && is_wanted {
            let seconds = bench::seconds(model, shape, seconds)?;
            batches.push((shape.to_owned(), lengths, seconds));
        }
    }
    if batches.is_empty() {
        // The model allows only texts that are shorter than those of all shapes.
        let shape = format!("64x{}", info.max_length.clamp(1, 128));
        let (lengths, seconds) =
            (bench::lengths(&shape).map_err(Failure::usage)?, bench::seconds(model, &shape, seconds)?);
        batches.push((shape, lengths, seconds));
    }
    let machine = Machine { cpu: bench::cpu_name(), isa: info.isa.to_owned(), threads: info.threads };
    measured(machine, batches)
}

/// Fits a speed to batches (shape, token counts, seconds): to those of at least [`FULL`] tokens, or to the largest where none has as many.
fn measured(machine: Machine, batches: Vec<(String, Vec<usize>, f64)>) -> Result<Measured> {
    let tokens = |lengths: &[usize]| lengths.iter().sum::<usize>();
    let most = batches.iter().map(|(_, lengths, _)| tokens(lengths)).max().unwrap_or(0);
    let least = most.min(FULL);
    let used: Vec<_> = batches.into_iter().filter(|(_, lengths, _)| tokens(lengths) >= least).collect();
    let fitted: Vec<_> = used.iter().map(|(_, lengths, seconds)| (lengths.clone(), *seconds)).collect();
    Ok(Measured {
        machine,
        speed: Speed::fit(&fitted)?,
        shapes: used.into_iter().map(|(shape, ..)| shape).collect(),
        is_small: least < FULL,
    })
}
