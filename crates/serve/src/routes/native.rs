//! trivec's own routes `/v1/encode` and `/v1/score`: all three representations, and the five scores of pairs.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rows::base64_of;
use super::{binary, pairs, rows};
use crate::answer::{JSON, Step, Steps, json};
use crate::app::{App, Tokenized, ms};
use crate::body::Body;
use crate::error::{ApiError, Dialect, Result};
use crate::fields::{Word, Words, whole};
use crate::inputs::{Pair, Texts};
use crate::memory::{self, Part};
use crate::scheduler::Timing;
use trivec::similarity::{MOST_WEIGHT, ScoreWeights, Scores, Thresholds};
use trivec::{Embedding, Modes};
use trivec::{Model, Prompt};
use trivec_cache::Wanted;

/// How an answer has the numbers of vectors: as JSON numbers, or as base64 of little-endian f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    Float,
    Base64,
}

impl Words for Encoding {
    const WORDS: &'static [(&'static str, Encoding)] = &[("float", Encoding::Float), ("base64", Encoding::Base64)];
}

/// The body of `/v1/encode`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EncodeRequest {
    input: Texts,
    dense: Option<bool>,
    sparse: Option<bool>,
    colbert: Option<bool>,
    #[serde(default, deserialize_with = "whole")]
    max_length: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    dimensions: Option<usize>,
    normalize: Option<bool>,
    encoding_format: Option<Word<Encoding>>,
    model: Option<String>,
    /// The name of one of the model's prompts. Without this and without `prompt`, the model's default prompt is used.
    prompt_name: Option<String>,
    /// The text of a prompt.
    prompt: Option<String>,
}

/// The prompt that a request asks for, by a name or as a text; both are an error. `side` is the prefix of the two fields' names.
pub(super) fn prompt_of(side: &str, name: Option<String>, text: Option<String>) -> Result<Prompt> {
    match (name, text) {
        (None, None) => Ok(Prompt::Default),
        (Some(name), None) => Ok(Prompt::Name(name)),
        (None, Some(text)) => Ok(Prompt::Text(text)),
        (Some(_), Some(_)) => {
            let what = format!("give `{side}prompt_name` or `{side}prompt`, not both");
            Err(ApiError::invalid(format!("{side}prompt_name"), what))
        }
    }
}

/// The numbers of an answer. They are written from f32: in a [`Value`] they would be f64, with twice the digits.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Numbers<'a> {
    Float(&'a [f32]),
    Base64(String),
}

impl<'a> Numbers<'a> {
    pub(super) fn new(values: &'a [f32], encoding: Encoding) -> Numbers<'a> {
        match encoding {
            Encoding::Float => Numbers::Float(values),
            Encoding::Base64 => Numbers::Base64(base64_of(values)),
        }
    }
}

#[derive(Serialize)]
struct Sparse<'a> {
    indices: &'a [u32],
    values: &'a [f32],
}

/// The fields of a text in an answer, except its ColBERT vectors, which are written after these.
#[derive(Serialize)]
struct Encoded<'a> {
    index: usize,
    tokens: usize,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dense: Option<Numbers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse: Option<Sparse<'a>>,
}

impl<'a> Encoded<'a> {
    /// `truncated` comes from the tokenizer: an embedding that was computed from token ids does not know whether its text was cut.
    fn new(index: usize, truncated: bool, embedding: &'a Embedding, encoding: Encoding) -> Encoded<'a> {
        Encoded {
            index,
            tokens: embedding.tokens,
            truncated,
            dense: embedding.dense.as_ref().map(|dense| Numbers::new(dense, encoding)),
            sparse: embedding
                .lexical
                .as_ref()
                .map(|lexical| Sparse { indices: lexical.ids(), values: lexical.weights() }),
        }
    }
}

/// Appends one step of the list `data`: the beginning of a text's object, some of its ColBERT vectors, or its end.
fn append_encoded(step: Step, embeddings: &[Embedding], truncated: &[bool], encoding: Encoding, out: &mut Vec<u8>) {
    let float = encoding == Encoding::Float;
    match step {
        Step::Begin(at) => {
            if at > 0 {
                out.push(b',');
            }
            json(out, &Encoded::new(at, truncated[at], &embeddings[at], encoding));
            if embeddings[at].colbert.is_some() {
                // The rows are one more field of the object.
                out.pop();
                out.extend_from_slice(if float { b",\"colbert\":[" } else { b",\"colbert\":\"" });
            }
        }
        Step::Rows(at, range) if float => rows::append_json(&embeddings[at], range, out),
        Step::Rows(at, range) => rows::append_base64(&embeddings[at], range, out),
        Step::End(at) => match &embeddings[at].colbert {
            Some(_) if float => out.extend_from_slice(b"]}"),
            Some(rows) => {
                out.extend_from_slice(b"\",\"colbert_shape\":");
                json(out, &[rows.rows(), rows.dim()]);
                out.push(b'}');
            }
            None => {}
        },
        Step::Last => {}
    }
}

/// Appends the beginning of an object: the fields of `head`, which has at least one, and the beginning of a list called `name`.
pub(super) fn begin_list(head: &Value, name: &str, out: &mut Vec<u8>) {
    json(out, head);
    out.pop();
    out.push(b',');
    json(out, &name);
    out.extend_from_slice(b":[");
}

/// The last fields of an answer: the number of tokens, and the times.
#[derive(Serialize)]
pub(super) struct Tail {
    pub usage: Value,
    pub timing: Value,
}

impl Tail {
    /// Ends the list, appends the fields `usage` and `timing` to the object that has been begun, and ends the object.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        out.push(b']');
        self.append_fields(out);
    }

    /// Appends the fields `usage` and `timing` to an object that has been begun, and ends the object.
    pub(super) fn append_fields(&self, out: &mut Vec<u8>) {
        let from = out.len();
        json(out, self);
        // The fields were written as an object of their own, so its `{` becomes the comma before them.
        out[from] = b',';
    }
}

/// The times of a request in milliseconds, with which every answer of these routes ends.
pub(super) fn timing_of(timing: Timing, tokenized: std::time::Duration, begin: Instant) -> Value {
    json!({
        "queue_ms": ms(timing.queued),
        "tokenize_ms": ms(tokenized),
        "encode_ms": ms(timing.computed),
        "total_ms": ms(begin.elapsed()),
    })
}

/// The number of tokens, in the form of OpenAI's `usage`.
pub(super) fn usage(texts: &[Tokenized]) -> Value {
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    json!({"prompt_tokens": tokens, "total_tokens": tokens})
}

/// `POST /v1/encode`.
pub(super) async fn encode(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(request): Body<EncodeRequest>,
) -> Response {
    encode_inner(&app, &headers, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Tokenises and embeds the texts of a request, and answers in JSON or in a binary form.
async fn encode_inner(app: &App, headers: &HeaderMap, request: EncodeRequest) -> Result<Response> {
    let begin = Instant::now();
    let model = app.model();
    app.names.check(request.model.as_deref())?;
    let texts = request.input.into_vec();
    app.check_count(texts.len(), "input")?;
    let asked = |mode: Option<bool>| mode.unwrap_or(false);
    let modes =
        Modes { dense: request.dense.unwrap_or(true), sparse: asked(request.sparse), colbert: asked(request.colbert) };
    if !(modes.dense || modes.sparse || modes.colbert) {
        return Err(ApiError::invalid("dense", "nothing is asked for: set dense, sparse or colbert"));
    }
    let form = binary::Form::of(headers)?;
    if let Some(form) = form {
        form.check(modes)?;
    }
    let Word(encoding) = request.encoding_format.unwrap_or_default();
    let prompt = prompt_of("", request.prompt_name, request.prompt)?;
    let tokenized = app.tokenize(&model, texts, request.max_length, prompt).await?;
    let tokenize_time = begin.elapsed();
    let wanted = Wanted { dimensions: request.dimensions, normalize: request.normalize, ..modes.into() };
    let (embeddings, timing) = app.encode(&model, &tokenized, wanted).await?;
    if let Some(form) = form {
        return form.answer(app, embeddings, modes);
    }
    let end = Tail { usage: usage(&tokenized), timing: timing_of(timing, tokenize_time, begin) };
    let head = json!({"model": app.names.first()});
    let truncated: Vec<bool> = tokenized.iter().map(|text| text.truncated).collect();
    let steps = rows::steps(&embeddings);
    let write = move |step: Step, out: &mut Vec<u8>| match step {
        Step::Last => end.append(out),
        step => append_encoded(step, &embeddings, &truncated, encoding, out),
    };
    app.answer(JSON, None, Steps::begun_by(move |out| begin_list(&head, "data", out), steps, write))
}

/// The body of `/v1/score`: pairs of texts, or a query and documents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScoreRequest {
    pairs: Option<Vec<Pair>>,
    query: Option<String>,
    documents: Option<Vec<String>>,
    weights: Option<Vec<f64>>,
    thresholds: Option<Vec<f32>>,
    #[serde(default, deserialize_with = "whole")]
    max_length: Option<usize>,
    model: Option<String>,
    // The prompts before queries and the first texts of pairs, and before documents and the second texts, each by its name or as text.
    query_prompt_name: Option<String>,
    query_prompt: Option<String>,
    document_prompt_name: Option<String>,
    document_prompt: Option<String>,
}

/// The weights of the scores that a request asks for; the default ones without any.
pub(super) fn weights(weights: Option<&[f64]>) -> Result<ScoreWeights> {
    let Some(weights) = weights else { return Ok(ScoreWeights::default()) };
    // A number just above the limit would be rounded to the limit, and accepted.
    let narrow = |&x: &f64| if x > MOST_WEIGHT { f32::INFINITY } else { x as f32 };
    ScoreWeights::from_slice(&weights.iter().map(narrow).collect::<Vec<f32>>())
        .map_err(|e| ApiError::invalid("weights", e.to_string()))
}

/// The fields of a pair in an answer: the five scores, the percentage and the verdict.
pub(super) fn scores_of(scores: &Scores, thresholds: &Thresholds) -> serde_json::Map<String, Value> {
    let cosine = scores.dense.unwrap_or(f32::NAN);
    let mut map = serde_json::Map::new();
    for (name, value) in scores.named() {
        map.insert(name.to_owned(), json!(value));
    }
    map.insert("percent".to_owned(), json!(scores.percent()));
    map.insert("verdict".to_owned(), json!(thresholds.verdict(cosine).as_str()));
    map
}

/// Refuses scores that are NaN or infinite, which JSON cannot hold. `name` gives the name of their pair for the error.
pub(super) fn check_scores(scores: &Scores, name: impl FnOnce() -> String) -> Result<()> {
    let Some(score) = scores.not_finite() else { return Ok(()) };
    let name = name();
    let what = format!("{name}: the {score} score is not a finite number");
    Err(ApiError { param: Some(name), ..ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "not_finite", what) })
}

/// `POST /v1/score`.
pub(super) async fn score_route(State(app): State<Arc<App>>, Body(request): Body<ScoreRequest>) -> Response {
    score_inner(&app, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Tokenises queries and documents, each after the prompt of its side; returns the queries, then the documents.
pub(super) async fn both_sides(
    app: &App,
    model: &Arc<Model>,
    [queries, documents]: [&Arc<Vec<String>>; 2],
    max_length: Option<usize>,
    [of_queries, of_documents]: [Prompt; 2],
) -> Result<Vec<Tokenized>> {
    let mut tokenized = app.tokenize_beside(model, queries, max_length, of_queries, 0).await?;
    let counted = tokenized.iter().map(|text| memory::token_ids(text.ids.len())).sum();
    tokenized.extend(app.tokenize_beside(model, documents, max_length, of_documents, counted).await?);
    Ok(tokenized)
}

/// Tokenises the texts of all pairs, scores the pairs, and answers with their five scores in order.
async fn score_inner(app: &App, request: ScoreRequest) -> Result<Response> {
    let begin = Instant::now();
    let model = app.model();
    app.names.check(request.model.as_deref())?;
    let weights = weights(request.weights.as_deref())?;
    let thresholds = match request.thresholds.as_deref() {
        None => Thresholds::default(),
        Some(&[near, related, unrelated]) => {
            Thresholds::new(near, related, unrelated).map_err(|e| ApiError::invalid("thresholds", e.to_string()))?
        }
        Some(other) => {
            return Err(ApiError::invalid("thresholds", format!("{} thresholds, expected 3", other.len())));
        }
    };
    let of_pairs = request.pairs.is_some();
    let sides = [
        prompt_of("query_", request.query_prompt_name, request.query_prompt)?,
        prompt_of("document_", request.document_prompt_name, request.document_prompt)?,
    ];
    // One list has the queries and then the documents, and a pair is two indices into it. A request with `query` has one query for all pairs.
    let (queries, documents, is_one) = match (request.pairs, request.query, request.documents) {
        (Some(pairs), None, None) => {
            let (queries, documents): (Vec<_>, Vec<_>) = pairs.into_iter().map(|Pair(a, b)| (a, b)).unzip();
            (queries, documents, false)
        }
        (None, Some(query), Some(documents)) => (vec![query], documents, true),
        _ => return Err(ApiError::invalid("pairs", "expected either `pairs`, or `query` and `documents`")),
    };
    app.check_count(queries.len() + documents.len(), "pairs")?;
    let (first, pairs) = (queries.len(), documents.len());
    let place = |document: usize| (if is_one { 0 } else { document }, first + document);
    let places: Vec<(usize, usize)> = (0..pairs).map(place).collect();
    let (queries, documents) = (Arc::new(queries), Arc::new(documents));
    let tokenized = both_sides(app, &model, [&queries, &documents], request.max_length, sides).await?;
    drop((queries, documents));
    app.held().free(Part::Body);
    let tokenize_time = begin.elapsed();
    let text = |index: usize| match (of_pairs, index) {
        (true, _) => format!("pairs[{}][{}]", index % first.max(1), index / first.max(1)),
        (false, 0) => "query".to_owned(),
        (false, _) => format!("documents[{}]", index - 1),
    };
    let scored = pairs::score_all(app, &model, &tokenized, &places, weights).await;
    let (scores, timing) = scored.map_err(|e| e.named(text))?;
    for (pair, scores) in scores.iter().enumerate() {
        check_scores(scores, || if of_pairs { format!("pairs[{pair}]") } else { format!("documents[{pair}]") })?;
    }
    let end = Tail { usage: usage(&tokenized), timing: timing_of(timing, tokenize_time, begin) };
    let head = json!({"model": app.names.first()});
    let write = move |pair: usize, out: &mut Vec<u8>| {
        if pair == pairs {
            return end.append(out);
        }
        let (a, b) = places[pair];
        let mut map = scores_of(&scores[pair], &thresholds);
        map.insert("index".to_owned(), json!(pair));
        map.insert("tokens".to_owned(), json!([tokenized[a].ids.len(), tokenized[b].ids.len()]));
        map.insert("truncated".to_owned(), json!([tokenized[a].truncated, tokenized[b].truncated]));
        if pair > 0 {
            out.push(b',');
        }
        json(out, &map);
    };
    app.answer(JSON, None, Steps::begun_by(move |out| begin_list(&head, "data", out), 0..=pairs, write))
}
