//! `trivec explain`: what makes two texts similar, token by token.

use std::io::{self, Write};

use serde::Serialize;

use super::args::{ExplainArgs, ModelArgs};
use super::exit::{Failure, Result};
use super::loading;
use super::score::{Judge, checked, verdict_line, why_not_available, write_cut};
use super::style::{self, BOLD, DIM, bar, pad, readable, width};
use trivec::similarity::{ExplainedText, Explanation, explain};

/// Terminal columns of a full bar.
const BAR: usize = 16;

pub(super) fn run(args: &ExplainArgs, model_args: &ModelArgs) -> Result<()> {
    let judge = Judge::new(&args.judge)?;
    let model = loading::load(model_args)?;
    let options = args.sides.options(args.text.options(&model)?, &model)?;
    let side = |index: usize| format!("text {}", ["A", "B"][index % 2]);
    let inspected = model.inspect_pair(&args.a, &args.b, options.each_ref()).map_err(|e| Failure::of_input(e, side))?;
    let [a, b] = &inspected;
    let why = explain(a, b, &judge.weights, &judge.thresholds);
    checked(why.scores, String::new)?;
    let printed = Printed { model: &model.info().name, why };
    let mut out = anstream::stdout().lock();
    let written = if args.json { printed.write_json(&mut out) } else { printed.write(&mut out, &judge) };
    written.and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// A token of the first text and its best match in the second.
struct Aligned<'a> {
    token: &'a str,
    best: &'a str,
    similarity: f32,
    /// Whether the token is `</s>`, which counts in the score but means nothing to a reader.
    end: bool,
}

/// The tokens that a reader sees: all but `<s>` and `</s>` at the ends.
fn inner<T>(tokens: &[T]) -> &[T] {
    tokens.get(1..tokens.len().saturating_sub(1)).unwrap_or_default()
}

/// What the program prints of an explanation.
struct Printed<'a> {
    model: &'a str,
    why: Explanation<'a>,
}

impl Printed<'_> {
    /// Tokens with weights, if the model has a sparse head.
    fn weighted<'t>(side: &'t ExplainedText<'_>) -> Option<Vec<(&'t str, f32)>> {
        inner(&side.tokens).iter().map(|token| Some((token.piece, token.weight?))).collect()
    }

    /// Each token of the first text with its best match, if the model has a ColBERT head.
    fn aligned(&self) -> Option<Vec<Aligned<'_>>> {
        let alignment = self.why.alignment.as_ref()?;
        let (a, b) = (&self.why.a.tokens, &self.why.b.tokens);
        // Row i belongs to token i + 1: `<s>` has no row.
        let rows = alignment.best.iter().enumerate().filter_map(|(row, &best)| {
            let similarity = *alignment.matrix[row].get(best)?;
            let end = row + 2 == a.len();
            Some(Aligned { token: a.get(row + 1)?.piece, best: b.get(best + 1)?.piece, similarity, end })
        });
        Some(rows.collect())
    }

    /// Writes the explanation for a terminal.
    fn write(&self, out: &mut impl Write, judge: &Judge) -> io::Result<()> {
        writeln!(out, "{}", verdict_line(&self.why.scores, judge))?;
        let numbers = self.why.scores.named().map(|(name, value)| match value {
            Some(value) => format!("{name} {value:.4}"),
            None => format!("{name} n/a"),
        });
        writeln!(out, "{DIM}{}{DIM:#}", numbers.join("  "))?;
        if let Some(reason) = why_not_available(&self.why.scores) {
            writeln!(out, "{DIM}n/a: not available, {reason}{DIM:#}")?;
        }
        write_cut(out, [self.why.a.truncated, self.why.b.truncated])?;
        if let (Some(a), Some(b)) = (Self::weighted(&self.why.a), Self::weighted(&self.why.b)) {
            heading(out, "Lexical weights")?;
            // Both texts share one scale for the bars and one width for the pieces.
            let pieces = || a.iter().chain(&b).map(|(piece, _)| readable(piece));
            let columns = pieces().map(|piece| width(&piece)).max().unwrap_or(0);
            let largest = a.iter().chain(&b).map(|&(_, weight)| weight).fold(f32::MIN_POSITIVE, f32::max);
            for (label, side) in [("A", &a), ("B", &b)] {
                for (index, (piece, weight)) in side.iter().enumerate() {
                    let label = if index == 0 { label } else { " " };
                    let bar = bar(weight / largest, BAR);
                    let piece = pad(&readable(piece), columns);
                    writeln!(out, "{}", format!("  {label}  {piece}  {weight:.4}  {bar}").trim_end())?;
                }
            }
        }
        if self.why.a.tokens.iter().all(|token| token.weight.is_some()) {
            let tokens = &self.why.shared;
            heading(out, "Shared tokens")?;
            let columns = tokens.iter().map(|token| width(&readable(token.piece))).max().unwrap_or(0);
            for token in tokens {
                let piece = pad(&readable(token.piece), columns);
                writeln!(out, "  {piece}  {:.4} · {:.4} = {:.4}", token.weight_a, token.weight_b, token.product)?;
            }
            match tokens.len() {
                0 => writeln!(out, "  {DIM}none{DIM:#}")?,
                _ => writeln!(out, "  {DIM}together {:.4}{DIM:#}", self.why.scores.sparse.unwrap_or(0.0))?,
            }
        }
        if let Some(rows) = self.aligned() {
            heading(out, "Alignment (each token of A → the nearest of B)")?;
            let columns = |f: fn(&Aligned<'_>) -> String| rows.iter().map(|row| width(&f(row))).max().unwrap_or(0);
            let left = columns(|row| readable(row.token));
            let right = columns(|row| readable(row.best));
            for row in &rows {
                let style = if row.end { DIM } else { anstyle::Style::new() };
                let (token, best) = (pad(&readable(row.token), left), pad(&readable(row.best), right));
                let line = format!("{token} → {best}  {:>5.2}  {}", row.similarity, bar(row.similarity, BAR));
                writeln!(out, "  {style}{}{style:#}", line.trim_end())?;
            }
        }
        Ok(())
    }

    /// Writes the JSON that the service's `/v1/explain` answers with, without the fields that only the service has.
    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Json<'a> {
            model: &'a str,
            #[serde(flatten)]
            why: &'a Explanation<'a>,
        }
        writeln!(out, "{}", style::json(&Json { model: self.model, why: &self.why })?)
    }
}

fn heading(out: &mut impl Write, title: &str) -> io::Result<()> {
    writeln!(out, "\n{BOLD}{title}{BOLD:#}")
}
