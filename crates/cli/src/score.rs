//! `trivec score`: the five similarity scores of a pair of texts, and a verdict.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use super::args::{JudgeArgs, ModelArgs, ScoreArgs};
use super::exit::{Failure, Result};
use super::input::pairs::{Pair, Pairs};
use super::input::{self, Reading};
use super::loading;
use super::style::{self, excerpt};
use trivec::similarity::{ScoreWeights, Scores, Thresholds, Verdict, score};
use trivec::{Embedding, EncodeOptions, Model};

/// Pairs that are read and scored at a time.
const CHUNK: usize = 32;

/// The weights and thresholds of the options, which have been checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    pub weights: ScoreWeights,
    pub thresholds: Thresholds,
}

impl Judge {
    /// Checks the weights and the thresholds of the options.
    pub(super) fn new(args: &JudgeArgs) -> Result<Judge> {
        let weights = ScoreWeights::from_slice(&args.weights).map_err(|e| Failure::option("weights", e))?;
        let thresholds = match args.thresholds[..] {
            [near_identical, related, unrelated] => Thresholds::new(near_identical, related, unrelated),
            _ => {
                return Err(Failure::option(
                    "thresholds",
                    format!("expected three numbers, found {}", args.thresholds.len()),
                ));
            }
        };
        let thresholds = thresholds.map_err(|e| Failure::option("thresholds", e))?;
        Ok(Judge { weights, thresholds })
    }

    /// The verdict on a cosine, and the cosine in percent, with two decimals or as many more as it takes not to contradict the verdict: a
    /// cosine of 0.85001 is near-identical with a threshold of 0.85, and 85.00 % would not be above it, so that it is shown as 85.001.
    pub(super) fn verdict(&self, cosine: f32) -> (Verdict, String) {
        let verdict = self.thresholds.verdict(cosine);
        let percent = f64::from(cosine) * 100.0;
        let text = (2..=7).map(|digits| format!("{percent:.digits$}")).find(|text| {
            let shown = text.parse::<f64>().map(|percent| self.thresholds.verdict((percent / 100.0) as f32));
            shown == Ok(verdict)
        });
        (verdict, text.unwrap_or_else(|| format!("{percent}")))
    }
}

/// The scores of a pair as JSON. Scores whose head the model lacks, and mixed scores whose weights add up to 0, are `null`.
#[derive(Serialize)]
pub(super) struct JsonScores<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(flatten)]
    scores: Scores,
    verdict: &'static str,
    percent: Option<f64>,
    /// Whether text A and text B had more tokens than are allowed, and were cut.
    truncated: [bool; 2],
}

impl<'a> JsonScores<'a> {
    pub(super) fn new(scored: &Scored, judge: &Judge, index: Option<u64>, id: Option<&'a RawValue>) -> Self {
        let (verdict, percent) = judge.verdict(scored.scores.dense.unwrap_or(f32::NAN));
        JsonScores {
            index,
            id,
            scores: scored.scores,
            truncated: scored.truncated,
            verdict: verdict.as_str(),
            percent: percent.parse().ok().filter(|percent: &f64| percent.is_finite()),
        }
    }
}

pub(super) fn run(args: &ScoreArgs, model_args: &ModelArgs) -> Result<()> {
    let judge = Judge::new(&args.judge)?;
    let columns = match args.columns.as_deref() {
        None => None,
        Some([a, b]) if a.is_empty() || b.is_empty() || a == b => {
            return Err(Failure::option(
                "columns",
                format!("expected the names of two columns, found `{a}` and `{b}`"),
            ));
        }
        Some([a, b]) => Some([a.as_str(), b.as_str()]),
        Some(other) => return Err(Failure::option("columns", format!("expected two names, found {}", other.len()))),
    };
    match (&args.a, &args.b, &args.pairs) {
        (Some(a), Some(b), None) => {
            let model = loading::load(model_args)?;
            let options = args.sides.options(args.text.options(&model)?, &model)?;
            let scores = score_pairs(&model, &[(a, b)], &options, &judge, |_| String::new())?;
            scores.iter().try_for_each(|scores| print_one(scores, &judge, args.json))
        }
        (None, None, Some(path)) => {
            let opened = input::open(path)?;
            let model = loading::load(model_args)?;
            let reading =
                Reading { format: args.input_format, path: Some(path), lossy: Some(args.lossy), column: None };
            let pairs = Pairs::new(opened.reader, opened.name, reading, columns)?;
            run_pairs(pairs, &model, args, &judge)
        }
        (None, None, None) => {
            Err(Failure::usage("nothing to score: give two texts or --pairs FILE (see trivec score --help)"))
        }
        _ => Err(Failure::usage("give two texts or --pairs, not both")),
    }
}

/// The scores of a pair.
pub(super) struct Scored {
    scores: Scores,
    /// Whether text A and text B were cut.
    truncated: [bool; 2],
}

/// Computes the scores of each pair, in every mode that the model has. An error about a pair begins with `place` of its index.
fn score_pairs(
    model: &Model,
    pairs: &[(&str, &str)],
    options: &[EncodeOptions; 2],
    judge: &Judge,
    place: impl Fn(usize) -> String,
) -> Result<Vec<Scored>> {
    let of_model = |options: &EncodeOptions| EncodeOptions { modes: model.info().modes, ..options.clone() };
    let [left, right] = [&options[0], &options[1]].map(of_model);
    let of_pair = |index: usize, a: &Embedding, b: &Embedding| {
        let scores = checked(score(a, b, &judge.weights), || place(index))?;
        Ok(Scored { scores, truncated: [a.truncated, b.truncated] })
    };
    if left.prompt == right.prompt {
        // Texts A and B are embedded together, in larger batches.
        let texts: Vec<&str> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
        let side = |index: usize| format!("{}text {}", place(index / 2), ["A", "B"][index % 2]);
        let embeddings = model.encode(&texts, &left).map_err(|e| Failure::of_input(e, side))?;
        return embeddings.as_chunks().0.iter().enumerate().map(|(index, [a, b])| of_pair(index, a, b)).collect();
    }
    let (a, b): (Vec<&str>, Vec<&str>) = pairs.iter().copied().unzip();
    let encode = |texts: &[&str], options: &EncodeOptions, name: &str| {
        model.encode(texts, options).map_err(|e| Failure::of_input(e, |index| format!("{}text {name}", place(index))))
    };
    let (a, b) = (encode(&a, &left, "A")?, encode(&b, &right, "B")?);
    a.iter().zip(&b).enumerate().map(|(index, (a, b))| of_pair(index, a, b)).collect()
}

/// Fails if a score is not a finite number; `place` begins the error.
pub(super) fn checked(scores: Scores, place: impl FnOnce() -> String) -> Result<Scores> {
    match scores.not_finite() {
        Some(name) => Err(Failure::model(format!("{}the {name} score is not a finite number", place()))),
        None => Ok(scores),
    }
}

/// The line with the percentage and the verdict, in the verdict's colour.
pub(super) fn verdict_line(scores: &Scores, judge: &Judge) -> String {
    let (verdict, percent) = judge.verdict(scores.dense.unwrap_or(f32::NAN));
    let style = style::of_verdict(verdict);
    format!("{style}{percent} %  {verdict}{style:#}")
}

fn print_one(scored: &Scored, judge: &Judge, json: bool) -> Result<()> {
    let mut out = anstream::stdout().lock();
    write_one(&mut out, scored, judge, json).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// Writes the scores of two texts of the command line, as JSON or for a terminal.
fn write_one(out: &mut impl Write, scored: &Scored, judge: &Judge, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", style::json(&JsonScores::new(scored, judge, None, None))?);
    }
    let scores = &scored.scores;
    writeln!(out, "{}", verdict_line(scores, judge))?;
    for (name, value) in scores.named() {
        match value {
            Some(value) => writeln!(out, "  {name:<22}{value:>8.4}")?,
            None => writeln!(out, "  {name:<22}{dim}{:>8}{dim:#}", "n/a", dim = style::DIM)?,
        }
    }
    if let Some(reason) = why_not_available(scores) {
        writeln!(out, "{dim}  n/a: not available, {reason}{dim:#}", dim = style::DIM)?;
    }
    write_cut(out, scored.truncated)
}

/// Says which texts were cut, if any.
pub(super) fn write_cut(out: &mut impl Write, truncated: [bool; 2]) -> io::Result<()> {
    let which = match truncated {
        [true, true] => "both texts have",
        [true, false] => "text A has",
        [false, true] => "text B has",
        [false, false] => return Ok(()),
    };
    writeln!(out, "{dim}cut: {which} more tokens than are allowed{dim:#}", dim = style::DIM)
}

/// Why a score is missing, if one is.
pub(super) fn why_not_available(scores: &Scores) -> Option<&'static str> {
    match (scores.sparse, scores.colbert) {
        (None, None) => Some("the model has no sparse_linear and no colbert_linear head"),
        (None, _) => Some("the model has no sparse_linear head"),
        (_, None) => Some("the model has no colbert_linear head"),
        _ if scores.sparse_dense.is_none() => Some("the weights of sparse and dense add up to 0"),
        _ => None,
    }
}

/// Scores the pairs of a file, some at a time, and prints the result of each.
fn run_pairs<R: BufRead>(mut input: Pairs<R>, model: &Model, args: &ScoreArgs, judge: &Judge) -> Result<()> {
    let options = args.sides.options(args.text.options(model)?, model)?;
    let file = input.name().to_owned();
    let mut out = anstream::stdout().lock();
    let mut index = 0;
    loop {
        let mut pairs = Vec::new();
        while pairs.len() < CHUNK {
            let Some(pair) = input.next()? else { break };
            pairs.push(pair);
        }
        if pairs.is_empty() {
            return out.flush().map_err(|e| Failure::stdout(&e));
        }
        let texts: Vec<(&str, &str)> = pairs.iter().map(|pair| (pair.a.as_str(), pair.b.as_str())).collect();
        let place = |at: usize| format!("{file}: pair {}: ", index + at as u64 + 1);
        let scores = score_pairs(model, &texts, &options, judge, place)?;
        for (pair, scored) in pairs.iter().zip(scores) {
            let row = Row { index, pair, scored: &scored };
            row.write(&mut out, judge, args.json).map_err(|e| Failure::stdout(&e))?;
            index += 1;
        }
        out.flush().map_err(|e| Failure::stdout(&e))?;
    }
}

/// The result of a pair of a file: a row of a table, or a line of JSON.
struct Row<'a> {
    index: u64,
    pair: &'a Pair,
    scored: &'a Scored,
}

impl Row<'_> {
    /// Writes the row, after a header if it is the first one, or the line of JSON.
    fn write(&self, out: &mut impl Write, judge: &Judge, json: bool) -> io::Result<()> {
        if json {
            let scores = JsonScores::new(self.scored, judge, Some(self.index), self.pair.id.as_deref());
            return writeln!(out, "{}", style::json(&scores)?);
        }
        if self.index == 0 {
            let names = ["colbert", "sparse", "dense", "s+d", "c+s+d"].map(|name| format!("{name:>8}")).concat();
            writeln!(
                out,
                "{dim}{:>6}{:>10}  {:<16}{names}  texts{dim:#}",
                "index",
                "percent",
                "verdict",
                dim = style::DIM
            )?;
        }
        let (verdict, percent) = judge.verdict(self.scored.scores.dense.unwrap_or(f32::NAN));
        let style = style::of_verdict(verdict);
        let numbers: String = self
            .scored
            .scores
            .named()
            .iter()
            .map(|(_, value)| value.map_or_else(|| format!("{:>8}", "n/a"), |value| format!("{value:>8.4}")))
            .collect();
        let (a, b) = (excerpt(&self.pair.a, EXCERPT), excerpt(&self.pair.b, EXCERPT));
        let cut = if self.scored.truncated.contains(&true) { "  (cut)" } else { "" };
        writeln!(out, "{:>6}{percent:>10}  {style}{verdict:<16}{style:#}{numbers}  {a} | {b}{cut}", self.index)
    }
}

/// Terminal columns of each text of a pair in the table.
const EXCERPT: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge() -> Judge {
        Judge { weights: ScoreWeights::default(), thresholds: Thresholds::default() }
    }

    #[test]
    fn a_percentage_never_contradicts_its_verdict() {
        for (cosine, verdict, percent) in [
            (0.8496, Verdict::Related, "84.96"),
            (0.849_999, Verdict::Related, "85.00"),
            (0.850_01, Verdict::NearIdentical, "85.001"),
            (0.600_01, Verdict::Related, "60.001"),
            (0.299_99, Verdict::Unrelated, "29.999"),
            (-0.2, Verdict::Unrelated, "-20.00"),
            (1.0, Verdict::NearIdentical, "100.00"),
        ] {
            assert_eq!(judge().verdict(cosine), (verdict, percent.to_owned()), "{cosine}");
        }
        // A cosine that equals a threshold is not above it.
        assert_eq!(judge().verdict(0.85).0, Verdict::Related);
        assert_eq!(judge().verdict(f32::NAN).0, Verdict::Unclear);
    }
}
