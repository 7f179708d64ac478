//! `trivec explain`: what makes two texts similar, token by token.

use std::io::{self, Write};

use serde::Serialize;

use super::args::{ExplainArgs, ModelArgs};
use super::exit::{Failure, Result};
use super::score::{JsonScores, Judge, checked, named, verdict_line, why_not_available};
use super::style::{BOLD, DIM, bar, pad, readable, width};
use trivec::similarity::{Scores, align, score, shared};
use trivec::{EncodeOptions, Inspection, Model, Token};

/// Columns of a full bar.
const BAR: usize = 16;

pub(super) fn run(args: &ExplainArgs, model_args: &ModelArgs) -> Result<()> {
    let judge = Judge::new(&args.judge)?;
    let model = super::load(model_args)?;
    let options = args.sides.options(args.text.options(&model)?, &model)?;
    let explanation = Explanation::new(&model, &args.a, &args.b, &options, &judge)?;
    let mut out = anstream::stdout().lock();
    let written =
        if args.json { explanation.write_json(&mut out, &judge) } else { explanation.write(&mut out, &judge) };
    written.and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// A token with its lexical weight.
#[derive(Serialize)]
struct Weighted<'a> {
    id: u32,
    piece: &'a str,
    weight: f32,
}

/// A token that both texts have.
#[derive(Serialize)]
struct Shared<'a> {
    id: u32,
    piece: &'a str,
    left: f32,
    right: f32,
    product: f32,
}

/// A token of the first text and its best match in the second.
#[derive(Serialize)]
struct Aligned<'a> {
    token: &'a str,
    best: &'a str,
    similarity: f32,
    /// `</s>`: it counts in the score, and means nothing to a reader.
    #[serde(skip)]
    end: bool,
}

struct Explanation {
    a: Inspection,
    b: Inspection,
    scores: Scores,
}

/// The tokens that a reader sees: all but `<s>` and `</s>` at the ends.
fn inner<T>(tokens: &[T]) -> &[T] {
    tokens.get(1..tokens.len().saturating_sub(1)).unwrap_or_default()
}

impl Explanation {
    fn new(model: &Model, a: &str, b: &str, options: &[EncodeOptions; 2], judge: &Judge) -> Result<Explanation> {
        let inspect = |name: &str, text, options| {
            model.inspect(text, options).map_err(|e| Failure::of_input(e, |_| format!("text {name}")))
        };
        let (a, b) = (inspect("A", a, &options[0])?, inspect("B", b, &options[1])?);
        let scores = checked(score(&a.embedding, &b.embedding, &judge.weights), String::new)?;
        Ok(Explanation { a, b, scores })
    }

    fn weighted(side: &Inspection) -> Option<Vec<Weighted<'_>>> {
        let weights = side.token_weights.as_ref()?;
        let tokens = inner(&side.tokens).iter().zip(inner(weights));
        Some(tokens.map(|(token, &weight)| Weighted { id: token.id, piece: &token.piece, weight }).collect())
    }

    fn shared(&self) -> Option<Vec<Shared<'_>>> {
        let (a, b) = (self.a.embedding.lexical.as_ref()?, self.b.embedding.lexical.as_ref()?);
        let piece = |id| self.a.tokens.iter().find(|token| token.id == id).map_or("", |token| token.piece.as_str());
        let mut tokens: Vec<Shared<'_>> = shared(a, b)
            .iter()
            .map(|s| Shared { id: s.id, piece: piece(s.id), left: s.left, right: s.right, product: s.product() })
            .collect();
        tokens.sort_by(|x, y| y.product.total_cmp(&x.product));
        Some(tokens)
    }

    fn aligned(&self) -> Option<Vec<Aligned<'_>>> {
        let (a, b) = (self.a.embedding.colbert.as_ref()?, self.b.embedding.colbert.as_ref()?);
        // Row i belongs to token i + 1: `<s>` has no row.
        let piece = |tokens: &'_ [Token], row: usize| -> Option<usize> { (row + 1 < tokens.len()).then_some(row + 1) };
        let rows = align(a, b).into_iter().enumerate().filter_map(|(row, best)| {
            let token = &self.a.tokens[piece(&self.a.tokens, row)?].piece;
            let best_token = &self.b.tokens[piece(&self.b.tokens, best.document_row)?].piece;
            let end = row + 2 == self.a.tokens.len();
            Some(Aligned { token, best: best_token, similarity: best.similarity, end })
        });
        Some(rows.collect())
    }

    fn write(&self, out: &mut impl Write, judge: &Judge) -> io::Result<()> {
        writeln!(out, "{}", verdict_line(&self.scores, judge))?;
        let numbers = named(&self.scores).map(|(name, value)| match value {
            Some(value) => format!("{name} {value:.4}"),
            None => format!("{name} n/a"),
        });
        writeln!(out, "{DIM}{}{DIM:#}", numbers.join("  "))?;
        if let Some(reason) = why_not_available(&self.scores) {
            writeln!(out, "{DIM}n/a: not available, {reason}{DIM:#}")?;
        }
        if let (Some(a), Some(b)) = (Self::weighted(&self.a), Self::weighted(&self.b)) {
            heading(out, "Lexical weights")?;
            // One scale and one column for both texts.
            let pieces = || a.iter().chain(&b).map(|token| readable(token.piece));
            let columns = pieces().map(|piece| width(&piece)).max().unwrap_or(0);
            let largest = a.iter().chain(&b).map(|token| token.weight).fold(f32::MIN_POSITIVE, f32::max);
            for (label, side) in [("A", &a), ("B", &b)] {
                for (index, token) in side.iter().enumerate() {
                    let label = if index == 0 { label } else { " " };
                    let bar = bar(token.weight / largest, BAR);
                    let piece = pad(&readable(token.piece), columns);
                    writeln!(out, "{}", format!("  {label}  {piece}  {:.4}  {bar}", token.weight).trim_end())?;
                }
            }
        }
        if let Some(tokens) = self.shared() {
            heading(out, "Shared tokens")?;
            let columns = tokens.iter().map(|token| width(&readable(token.piece))).max().unwrap_or(0);
            for token in &tokens {
                let piece = pad(&readable(token.piece), columns);
                writeln!(out, "  {piece}  {:.4} · {:.4} = {:.4}", token.left, token.right, token.product)?;
            }
            match tokens.len() {
                0 => writeln!(out, "  {DIM}none{DIM:#}")?,
                _ => writeln!(out, "  {DIM}together {:.4}{DIM:#}", self.scores.sparse.unwrap_or(0.0))?,
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

    fn write_json(&self, out: &mut impl Write, judge: &Judge) -> io::Result<()> {
        #[derive(Serialize)]
        struct Json<'a> {
            scores: JsonScores<'a>,
            a: Option<Vec<Weighted<'a>>>,
            b: Option<Vec<Weighted<'a>>>,
            shared: Option<Vec<Shared<'a>>>,
            alignment: Option<Vec<Aligned<'a>>>,
        }
        let json = Json {
            scores: JsonScores::new(&self.scores, judge, None, None),
            a: Self::weighted(&self.a),
            b: Self::weighted(&self.b),
            shared: self.shared(),
            alignment: self.aligned(),
        };
        writeln!(out, "{}", serde_json::to_string(&json)?)
    }
}

fn heading(out: &mut impl Write, title: &str) -> io::Result<()> {
    writeln!(out, "\n{BOLD}{title}{BOLD:#}")
}
