//! `/v1/explain`: two texts' scores, their tokens with weights, the pieces that they share, and the alignment of their ColBERT vectors.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::native::{Tail, both_sides, check_scores, prompt_of, timing_of, usage, weights};
use crate::answer::{self, JSON, Step, Steps, json};
use crate::app::{App, Tokenized};
use crate::body::Body;
use crate::error::{ApiError, Dialect, Result};
use crate::fields::whole;
use crate::memory::{self, Part};
use crate::scheduler::cost;
use trivec::similarity::{
    ExplainedText, MOST_CELLS, RowAlignment, Scores, Thresholds, row_alignment, score, shared_pieces,
};
use trivec::{EncodeOptions, Inspection};

/// The body of `/v1/explain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainRequest {
    a: String,
    b: String,
    weights: Option<Vec<f64>>,
    #[serde(default, deserialize_with = "whole")]
    max_length: Option<usize>,
    model: Option<String>,
    // The prompts before `a` (the query) and before `b` (the document), each by its name or as text.
    query_prompt_name: Option<String>,
    query_prompt: Option<String>,
    document_prompt_name: Option<String>,
    document_prompt: Option<String>,
}

/// Bytes of a token with its piece in an explanation, for the memory account.
const TOKEN: u64 = 96;

/// The fields that an explanation begins with.
#[derive(Serialize)]
struct Head {
    model: String,
    scores: Scores,
    percent: Option<f64>,
    verdict: &'static str,
}

/// `POST /v1/explain`.
pub(super) async fn explain(State(app): State<Arc<App>>, Body(request): Body<ExplainRequest>) -> Response {
    explain_inner(&app, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Tokenises both texts, computes them in the engine, and aligns their ColBERT vectors on a blocking thread.
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
    let [of_a, of_b] = [&tokenized[0], &tokenized[1]];
    let inspect = |places: std::ops::Range<usize>| {
        let prompt_tokens = tokenized[places.start].prompt_tokens;
        let options = EncodeOptions { max_length: request.max_length, prompt_tokens, ..EncodeOptions::default() };
        let ids: Vec<Vec<u32>> = tokenized[places.clone()].iter().map(|text| text.ids.clone()).collect();
        let (own, held) = (Arc::clone(&model), Arc::clone(&held));
        let first = places.start;
        let cost = ids.iter().map(|ids| cost(ids.len())).sum();
        let call = move || {
            let _held = held;
            own.inspect_ids(&ids, &options).map_err(|e| e.at_input(|at| first + at))
        };
        (cost, call)
    };
    // Both texts are computed in one call, unless dense vectors leave out different numbers of their prompt tokens.
    let calls =
        if of_a.prompt_tokens == of_b.prompt_tokens { vec![inspect(0..2)] } else { vec![inspect(0..1), inspect(1..2)] };
    let both = app.scheduler.calls(calls).await;
    let (both, timing) = both.map_err(|e| ApiError::from(e).named(|index| ["a", "b"][index % 2].to_owned()))?;
    let both: Vec<Inspection> = both.into_iter().flatten().collect();
    let [mut a, mut b]: [Inspection; 2] = both.try_into().map_err(|_| ApiError::internal())?;
    // Embeddings that were computed from token ids do not know whether their texts were cut.
    (a.embedding.truncated, b.embedding.truncated) = (of_a.truncated, of_b.truncated);
    app.computed(tokenized.iter().map(|text| text.ids.len()).sum(), timing);
    let of = move || {
        let scores = score(&a.embedding, &b.embedding, &weights);
        let alignment = row_alignment(&a, &b, &scores);
        (a, b, scores, alignment)
    };
    let (a, b, scores, alignment) = app.beside(of).await?;
    check_scores(&scores, || "a, b".to_owned())?;
    let end = Tail { usage: usage(&tokenized), timing: timing_of(timing, tokenize_time, begin) };
    answer_explained(app, app.names.first(), (a, b), (scores, alignment), end)
}

/// Answers with an explanation as JSON. The alignment's matrix, up to [`MOST_CELLS`] numbers, is written one row in each step; all else is
/// written at once. Without an alignment there is only the last step, which writes `null` in its place.
fn answer_explained(
    app: &App,
    model: String,
    (a, b): (Inspection, Inspection),
    (scores, alignment): (Scores, Option<RowAlignment>),
    end: Tail,
) -> Result<Response> {
    let verdict = Thresholds::default().verdict(scores.dense.unwrap_or(f32::NAN)).as_str();
    let head = Head { model, scores, percent: scores.percent(), verdict };
    let steps = answer::steps(alignment.iter().map(|alignment| alignment.matrix.len()).collect(), 1);
    let write = move |step: Step, out: &mut Vec<u8>| match (step, &alignment) {
        (Step::Begin(_), _) => out.extend_from_slice(b"{\"matrix\":["),
        (Step::Rows(_, range), Some(alignment)) => {
            for row in range {
                if row > 0 {
                    out.push(b',');
                }
                json(out, &alignment.matrix[row]);
            }
        }
        (Step::End(_), Some(alignment)) => {
            out.extend_from_slice(b"],\"best\":");
            json(out, &alignment.best);
            out.extend_from_slice(b",\"score\":");
            json(out, &alignment.score);
            out.push(b'}');
        }
        (Step::Last, alignment) => {
            if alignment.is_none() {
                out.extend_from_slice(b"null");
            }
            end.append_fields(out);
        }
        (Step::Rows(..) | Step::End(_), None) => {}
    };
    let before = move |out: &mut Vec<u8>| {
        json(out, &head);
        out.pop();
        out.extend_from_slice(b",\"a\":");
        json(out, &ExplainedText::of(&a));
        out.extend_from_slice(b",\"b\":");
        json(out, &ExplainedText::of(&b));
        out.extend_from_slice(b",\"shared\":");
        json(out, &shared_pieces(&a, &b));
        out.extend_from_slice(b",\"alignment\":");
    };
    app.answer(JSON, None, Steps::begun_by(before, steps, write))
}
