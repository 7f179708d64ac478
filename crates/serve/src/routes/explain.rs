//! `/v1/explain`: two texts' tokens and weights, and how their ColBERT rows meet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::native::{Behind, both_sides, check_scores, internal, prompt_of, scores_of, timing_of, usage, weights};
use crate::answer::{self, JSON, Step, Steps, json};
use crate::app::{App, Tokenized};
use crate::body::Body;
use crate::error::{ApiError, Dialect, Result};
use crate::fields::whole;
use crate::memory::{self, Part};
use crate::scheduler::cost;
use trivec::Embedding;
use trivec::similarity::{Scores, Thresholds, score, shared, similarities};
use trivec::{EncodeOptions, Inspection};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainRequest {
    a: String,
    b: String,
    weights: Option<Vec<f64>>,
    #[serde(default, deserialize_with = "whole")]
    max_length: Option<usize>,
    model: Option<String>,
    // Of `a` and of `b`, as in `ScoreRequest`.
    query_prompt_name: Option<String>,
    query_prompt: Option<String>,
    document_prompt_name: Option<String>,
    document_prompt: Option<String>,
}

/// Numbers of an alignment matrix that are answered at most: 1,024 tokens by as many.
const MOST_CELLS: usize = 1 << 20;

/// Bytes of a token with its piece.
const TOKEN: u64 = 96;

#[derive(Serialize)]
struct ExplainedToken<'a> {
    id: u32,
    piece: &'a str,
    special: bool,
    weight: Option<f32>,
}

/// Appends a text's tokens as they are answered.
fn append_side(side: &Inspection, out: &mut Vec<u8>) {
    let weights = side.token_weights.as_ref();
    let tokens = side.tokens.iter().enumerate().map(|(at, token)| ExplainedToken {
        id: token.id,
        piece: &token.piece,
        special: token.special,
        weight: weights.map(|weights| weights[at]),
    });
    let tokens: Vec<ExplainedToken<'_>> = tokens.collect();
    out.extend_from_slice(b"{\"tokens\":");
    json(out, &tokens);
    out.extend_from_slice(if side.embedding.truncated { b",\"truncated\":true}" } else { b",\"truncated\":false}" });
}

#[derive(Serialize)]
struct SharedToken<'a> {
    id: u32,
    piece: &'a str,
    weight_a: f32,
    weight_b: f32,
    product: f32,
}

/// The tokens that both have, with their weights.
fn append_shared(a: &Inspection, b: &Inspection, out: &mut Vec<u8>) {
    let pieces: HashMap<u32, &str> = a.tokens.iter().map(|token| (token.id, token.piece.as_str())).collect();
    let tokens: Vec<SharedToken<'_>> = match (&a.embedding.lexical, &b.embedding.lexical) {
        (Some(left), Some(right)) => shared(left, right)
            .iter()
            .map(|s| SharedToken {
                id: s.id,
                piece: pieces.get(&s.id).copied().unwrap_or_default(),
                weight_a: s.left,
                weight_b: s.right,
                product: s.product(),
            })
            .collect(),
        _ => Vec::new(),
    };
    json(out, &tokens);
}

/// All similarities of ColBERT rows, if they are not too many.
fn alignment(a: &Embedding, b: &Embedding) -> Option<Vec<Vec<f32>>> {
    let (a, b) = (a.colbert.as_ref()?, b.colbert.as_ref()?);
    (a.rows() * b.rows() <= MOST_CELLS).then(|| similarities(a, b))
}

pub(super) async fn explain(State(app): State<Arc<App>>, Body(request): Body<ExplainRequest>) -> Response {
    explain_inner(&app, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

async fn explain_inner(app: &App, request: ExplainRequest) -> Result<Response> {
    let begin = Instant::now();
    let model = app.model();
    app.names.check(request.model.as_deref())?;
    let weights = weights(request.weights.as_deref())?;
    let sides = [
        prompt_of("query_", request.query_prompt_name, request.query_prompt)?,
        prompt_of("document_", request.document_prompt_name, request.document_prompt)?,
    ];
    let texts = [request.a, request.b].map(|text| Arc::new(vec![text]));
    let tokenized = both_sides(app, &model, texts.each_ref(), request.max_length, sides.clone()).await?;
    let tokenize_time = begin.elapsed();
    let held = app.held();
    let results = |text: &Tokenized| {
        let tokens = text.ids.len();
        memory::embedding(model.info(), model.info().modes, tokens) + TOKEN * tokens as u64
    };
    let cells = tokenized.iter().map(|text| text.ids.len()).product::<usize>().min(MOST_CELLS);
    held.set(Part::Results, tokenized.iter().map(results).sum::<u64>() + 4 * cells as u64)?;
    let inspect = |(at, tokens): (usize, &Tokenized)| {
        let options =
            EncodeOptions { max_length: request.max_length, prompt: sides[at].clone(), ..EncodeOptions::default() };
        let (own, text, held) = (Arc::clone(&model), Arc::clone(&texts[at]), Arc::clone(&held));
        let call = move || {
            let _held = held;
            own.inspect(&text[0], &options).map_err(|e| e.at_input(|_| at))
        };
        (cost(tokens.ids.len()), call)
    };
    let calls = tokenized.iter().enumerate().map(inspect).collect();
    let both = app.scheduler.calls(calls).await;
    let (both, timing) = both.map_err(|e| ApiError::from(e).named(|index| ["a", "b"][index % 2].to_owned()))?;
    let [a, b]: [Inspection; 2] = both.try_into().map_err(|_| internal())?;
    app.computed(tokenized.iter().map(|text| text.ids.len()).sum(), timing);
    let of = move || {
        let scores = score(&a.embedding, &b.embedding, &weights);
        let matrix = alignment(&a.embedding, &b.embedding);
        (a, b, scores, matrix)
    };
    let (a, b, scores, matrix) = app.beside(of).await?;
    check_scores(&scores, || "a, b".to_owned())?;
    let end = Behind { usage: usage(&tokenized), timing: timing_of(timing, tokenize_time, begin) };
    answer_explained(app, app.names.first(), (a, b), (scores, matrix), end)
}

/// Writes an explanation: the matrix row by row.
fn answer_explained(
    app: &App,
    model: String,
    (a, b): (Inspection, Inspection),
    (scores, matrix): (Scores, Option<Vec<Vec<f32>>>),
    end: Behind,
) -> Result<Response> {
    let mut named = scores_of(&scores, &Thresholds::default());
    let (percent, verdict) = (named.remove("percent"), named.remove("verdict"));
    let head = json!({"model": model, "scores": named, "percent": percent, "verdict": verdict});
    let best: Option<Vec<usize>> = matrix.as_ref().map(|matrix| {
        let best = |row: &Vec<f32>| (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best });
        matrix.iter().map(best).collect()
    });
    let steps = answer::steps(matrix.iter().map(Vec::len).collect(), 1);
    let write = move |step: Step, out: &mut Vec<u8>| match (step, &matrix) {
        (Step::Begin(_), _) => out.extend_from_slice(b"{\"matrix\":["),
        (Step::Rows(_, range), Some(matrix)) => {
            for row in range {
                if row > 0 {
                    out.push(b',');
                }
                json(out, &matrix[row]);
            }
        }
        (Step::End(_), _) => {
            out.extend_from_slice(b"],\"best\":");
            json(out, &best);
            out.extend_from_slice(b",\"score\":");
            json(out, &scores.colbert);
            out.push(b'}');
        }
        (Step::Last, matrix) => {
            if matrix.is_none() {
                out.extend_from_slice(b"null");
            }
            end.append_fields(out);
        }
        (Step::Rows(..), None) => {}
    };
    let before = move |out: &mut Vec<u8>| {
        json(out, &head);
        out.pop();
        out.extend_from_slice(b",\"a\":");
        append_side(&a, out);
        out.extend_from_slice(b",\"b\":");
        append_side(&b, out);
        out.extend_from_slice(b",\"shared\":");
        append_shared(&a, &b, out);
        out.extend_from_slice(b",\"alignment\":");
    };
    app.answer(JSON, None, Steps::begun_by(before, steps, write))
}
