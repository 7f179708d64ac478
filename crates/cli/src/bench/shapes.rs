//! The shapes that are measured (batches of texts by their token counts), and their times.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::exit::{Failure, Result};
use super::machine::Machine;
use trivec::{EncodeOptions, Model};

/// The number of texts of the mixed shape.
const MIXED_TEXTS: usize = 256;
/// The fewest and the most runs of a shape that are timed; after a [`LONG_RUN`], two are enough.
const RUNS: std::ops::RangeInclusive<usize> = 3..=500;
/// A first run of at least this many seconds is counted, because warming up does not show in it, and one more run is enough.
const LONG_RUN: f64 = 5.0;

/// A batch of texts, described by their token counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A number of texts with the same number of tokens.
    Even { texts: usize, tokens: usize },
    /// The texts of [`mixed_lengths`].
    Mixed,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Shape, String> {
        if text == "mixed" {
            return Ok(Shape::Mixed);
        }
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=1 << 20).contains(n));
        let parsed = text.split_once('x').and_then(|(texts, tokens)| Some((number(texts)?, number(tokens)?)));
        match parsed {
            Some((texts, tokens)) => Ok(Shape::Even { texts, tokens }),
            None => Err(format!("`{text}`: expected BxL (texts x tokens, each at least 1) or mixed")),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Even { texts, tokens } => write!(f, "{texts}x{tokens}"),
            Shape::Mixed => f.write_str("mixed"),
        }
    }
}

impl Shape {
    /// The token count of each text.
    pub(super) fn lengths(&self) -> Vec<usize> {
        match self {
            Shape::Even { texts, tokens } => vec![*tokens; *texts],
            Shape::Mixed => mixed_lengths(),
        }
    }
}

/// 256 token counts from 8 to 1,024, evenly spaced on a logarithmic scale (with a median of 90), in a shuffled order that is always the same.
pub(super) fn mixed_lengths() -> Vec<usize> {
    let length = |i: usize| (8.0 * 128.0f64.powf(i as f64 / (MIXED_TEXTS - 1) as f64)).round() as usize;
    // 97 and 256 have no common factor, so that this is a permutation.
    (0..MIXED_TEXTS).map(|i| length(i * 97 % MIXED_TEXTS)).collect()
}

/// The token ids of a text for each length: `<s>`, pseudorandom ids from the whole vocabulary, `</s>`. The same lengths give the same ids.
pub(super) fn ids(lengths: &[usize], vocabulary: usize) -> Vec<Vec<u32>> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let first = 5.min(vocabulary as u64 - 1);
    let text = |&length: &usize| {
        let mut ids: Vec<u32> = (0..length).map(|_| (first + next() % (vocabulary as u64 - first)) as u32).collect();
        if let Some(last) = ids.last_mut() {
            *last = 2;
        }
        ids[0] = 0;
        ids
    };
    lengths.iter().map(text).collect()
}

/// Times runs of the model on texts of a shape, and returns the milliseconds of each. The runs go on until `seconds` have passed, but there
/// are at least three (two, if they are long) and at most 500.
pub(super) fn measure(model: &Model, shape: &Shape, seconds: f64) -> Result<Vec<f64>> {
    let ids = ids(&shape.lengths(), model.info().vocabulary);
    let span = Duration::from_secs_f64(seconds);
    let options = EncodeOptions::default();
    let run = || -> Result<Duration> {
        let from = Instant::now();
        let embeddings = model.encode_ids(&ids, &options);
        std::hint::black_box(embeddings.map_err(|e| Failure::of_input(e, |_| format!("measuring {shape}")))?);
        Ok(from.elapsed())
    };
    let first = run()?;
    let mut times = Vec::new();
    let mut least = *RUNS.start();
    if first.as_secs_f64() >= LONG_RUN {
        times.push(first.as_secs_f64() * 1e3);
        least = 2;
    }
    let begin = Instant::now();
    while times.len() < least || (begin.elapsed() < span && times.len() < *RUNS.end()) {
        times.push(run()?.as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// What was measured for a shape, and the least time that the machine's limits allow.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub shape: String,
    pub median_ms: f64,
    pub p95_ms: f64,
    pub tokens_s: f64,
    /// Bytes of the layers' weights, which a pass has to read once.
    pub weight_bytes: u64,
    /// The least time that the machine's limits allow: for reading the weights, or for the multiply-adds, whichever is longer.
    pub limit_ms: f64,
    /// `memory` or `arithmetic`: which of these two times is the longer.
    pub bound: &'static str,
    /// `limit_ms / median_ms`
    pub share: f64,
    pub runs: usize,
}

impl Measured {
    /// The figures of a shape from the milliseconds of its runs.
    pub(super) fn new(model: &Model, shape: &Shape, mut times: Vec<f64>, machine: &Machine) -> Measured {
        times.sort_by(f64::total_cmp);
        let median_ms = percentile(&times, 0.5);
        let lengths = shape.lengths();
        let work = model.work(&lengths);
        let memory_ms = work.weight_bytes as f64 / (machine.read_gb_s * 1e6);
        let arithmetic_ms: f64 =
            work.operations.iter().map(|&(format, count)| count / (machine.peak(format) * 1e6)).sum();
        let limit_ms = memory_ms.max(arithmetic_ms);
        Measured {
            shape: shape.to_string(),
            median_ms,
            p95_ms: percentile(&times, 0.95),
            tokens_s: lengths.iter().sum::<usize>() as f64 / median_ms * 1e3,
            weight_bytes: work.weight_bytes,
            limit_ms,
            bound: if memory_ms > arithmetic_ms { "memory" } else { "arithmetic" },
            share: limit_ms / median_ms,
            runs: times.len(),
        }
    }
}

/// The smallest of the sorted values for which at least the share `p` of all values is not greater (nearest rank); NaN without values.
pub(super) fn percentile(sorted: &[f64], p: f64) -> f64 {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_shapes_are_those_of_the_list_that_all_benches_share() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/workloads/workloads.json");
        let workloads: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let passes: Vec<&str> =
            workloads["passes"].as_array().unwrap().iter().map(|pass| pass.as_str().unwrap()).collect();
        assert_eq!(crate::args::DEFAULT_SHAPES, format!("{},mixed", passes.join(",")));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.95), percentile(&values, 1.0)), (10.0, 19.0, 20.0));
        assert_eq!(percentile(&[7.0], 0.95), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn mixed_lengths_are_a_fixed_spread() {
        let mut lengths = mixed_lengths();
        assert_eq!(lengths, mixed_lengths());
        lengths.sort_unstable();
        assert_eq!((lengths.len(), lengths[0], lengths[255]), (256, 8, 1024));
        assert_eq!(lengths[127], 90);
    }

    #[test]
    fn shapes_are_read_and_refused() {
        assert_eq!("8x128".parse(), Ok(Shape::Even { texts: 8, tokens: 128 }));
        assert_eq!("mixed".parse(), Ok(Shape::Mixed));
        for bad in ["", "8", "0x8", "8x0", "x", "8x128x2", "-1x8", "8x99999999999999999999"] {
            assert!(bad.parse::<Shape>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_complete_texts_inside_the_vocabulary() {
        for text in ids(&[1, 2, 9], 300) {
            assert!(text[0] == 0 && text.iter().all(|&id| id < 300));
            assert!(text.len() == 1 || text.last() == Some(&2));
        }
    }
}
