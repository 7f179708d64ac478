//! trivec's own routes: all three representations, the five scores, and what explains them.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::binary;
use crate::cache::Wanted;
use crate::embedding::{Embedding, Modes};
use crate::engine::{EncodeOptions, Inspection};
use crate::server::app::{App, Tokenized, ms};
use crate::server::body::Body;
use crate::server::error::{ApiError, Dialect, Result};
use crate::server::fields::{Word, Words, whole};
use crate::server::inputs::{Pair, Texts};
use crate::server::scheduler::{Timing, cost};
use crate::similarity::{MOST_WEIGHT, ScoreWeights, Scores, Thresholds, score, shared, similarities};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    Float,
    Base64,
}

impl Words for Encoding {
    const WORDS: &'static [(&'static str, Encoding)] = &[("float", Encoding::Float), ("base64", Encoding::Base64)];
}

/// Little-endian f32 in base64, as OpenAI's clients read it.
pub(super) fn base64_of(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

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
}

/// Numbers of an answer. They are written as f32: through a [`Value`] they would become f64, with twice the digits.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Numbers<'a> {
    Float(&'a [f32]),
    Rows(Vec<&'a [f32]>),
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

#[derive(Serialize)]
struct Encoded<'a> {
    index: usize,
    tokens: usize,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dense: Option<Numbers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse: Option<Sparse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    colbert: Option<Numbers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    colbert_shape: Option<[usize; 2]>,
}

#[derive(Serialize)]
struct EncodeAnswer<'a> {
    model: String,
    data: Vec<Encoded<'a>>,
    usage: Value,
    timing: Value,
}

impl<'a> Encoded<'a> {
    fn new(index: usize, text: &Tokenized, embedding: &'a Embedding, encoding: Encoding) -> Encoded<'a> {
        let colbert = embedding.colbert.as_ref();
        Encoded {
            index,
            tokens: text.ids.len(),
            truncated: text.truncated,
            dense: embedding.dense.as_ref().map(|dense| Numbers::new(dense, encoding)),
            sparse: embedding
                .lexical
                .as_ref()
                .map(|lexical| Sparse { indices: lexical.ids(), values: lexical.weights() }),
            colbert: colbert.map(|rows| match encoding {
                Encoding::Float => Numbers::Rows(rows.iter().collect()),
                Encoding::Base64 => Numbers::Base64(base64_of(rows.as_slice())),
            }),
            colbert_shape: colbert.filter(|_| encoding == Encoding::Base64).map(|rows| [rows.rows(), rows.dim()]),
        }
    }
}

/// What every answer ends with.
pub(super) fn timing_of(timing: Timing, tokenized: std::time::Duration, begin: Instant) -> Value {
    json!({
        "queue_ms": ms(timing.queued),
        "tokenize_ms": ms(tokenized),
        "encode_ms": ms(timing.computed),
        "total_ms": ms(begin.elapsed()),
    })
}

pub(super) fn usage(texts: &[Tokenized]) -> Value {
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    json!({"prompt_tokens": tokens, "total_tokens": tokens})
}

pub(super) async fn encode(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(request): Body<EncodeRequest>,
) -> Response {
    encode_inner(&app, &headers, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

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
    let Word(encoding) = request.encoding_format.unwrap_or_default();
    let tokenized = app.tokenize(&model, texts, request.max_length).await?;
    let tokenize_time = begin.elapsed();
    let wanted = Wanted { modes, dimensions: request.dimensions, normalize: request.normalize };
    let (embeddings, timing) = app.encode(&model, &tokenized, wanted).await?;
    if let Some(form) = form {
        return form.answer(&embeddings, modes);
    }
    Ok(app.written(|| {
        let data = tokenized.iter().zip(&embeddings).enumerate();
        EncodeAnswer {
            model: app.names.first(),
            data: data.map(|(at, (text, embedding))| Encoded::new(at, text, embedding, encoding)).collect(),
            usage: usage(&tokenized),
            timing: timing_of(timing, tokenize_time, begin),
        }
    }))
}

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
}

fn weights(weights: Option<&[f64]>) -> Result<ScoreWeights> {
    let Some(weights) = weights else { return Ok(ScoreWeights::default()) };
    // A number just above the limit would be rounded to it.
    let narrow = |&x: &f64| if x > MOST_WEIGHT { f32::INFINITY } else { x as f32 };
    ScoreWeights::from_slice(&weights.iter().map(narrow).collect::<Vec<f32>>())
        .map_err(|e| ApiError::invalid("weights", e.to_string()))
}

fn scores_of(scores: &Scores, thresholds: &Thresholds) -> serde_json::Map<String, Value> {
    let cosine = scores.dense.unwrap_or(f32::NAN);
    let mut map = serde_json::Map::new();
    for (name, value) in [
        ("colbert", scores.colbert),
        ("sparse", scores.sparse),
        ("dense", scores.dense),
        ("sparse+dense", scores.sparse_dense),
        ("colbert+sparse+dense", scores.colbert_sparse_dense),
    ] {
        map.insert(name.to_owned(), json!(value));
    }
    map.insert("percent".to_owned(), json!(scores.dense.map(|cosine| f64::from(cosine) * 100.0)));
    map.insert("verdict".to_owned(), json!(thresholds.verdict(cosine).as_str()));
    map
}

/// Scores must be numbers: JSON has no others. `name` says whose they are.
fn check_scores(scores: &Scores, name: impl FnOnce() -> String) -> Result<()> {
    let Some(score) = scores.not_finite() else { return Ok(()) };
    let name = name();
    let what = format!("{name}: the {score} score is not a finite number");
    Err(ApiError { param: Some(name), ..ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "not_finite", what) })
}

pub(super) async fn score_route(State(app): State<Arc<App>>, Body(request): Body<ScoreRequest>) -> Response {
    score_inner(&app, request).await.map_or_else(|e| e.answer(Dialect::OpenAi), |answer| app.written(|| answer))
}

async fn score_inner(app: &App, request: ScoreRequest) -> Result<Value> {
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
    // Each text once; a pair is two places in the list.
    let (texts, places): (Vec<String>, Vec<(usize, usize)>) = match (request.pairs, request.query, request.documents) {
        (Some(pairs), None, None) => {
            let places = (0..pairs.len()).map(|pair| (2 * pair, 2 * pair + 1)).collect();
            (pairs.into_iter().flat_map(|Pair(a, b)| [a, b]).collect(), places)
        }
        (None, Some(query), Some(documents)) => {
            let places = (0..documents.len()).map(|document| (0, document + 1)).collect();
            (std::iter::once(query).chain(documents).collect(), places)
        }
        _ => return Err(ApiError::invalid("pairs", "expected either `pairs`, or `query` and `documents`")),
    };
    app.check_count(texts.len(), "pairs")?;
    let tokenized = app.tokenize(&model, texts, request.max_length).await?;
    let tokenize_time = begin.elapsed();
    let text = |index: usize| match (of_pairs, index) {
        (true, _) => format!("pairs[{}][{}]", index / 2, index % 2),
        (false, 0) => "query".to_owned(),
        (false, _) => format!("documents[{}]", index - 1),
    };
    let encoded = app.encode(&model, &tokenized, model.info().modes.into()).await;
    let (embeddings, timing) = encoded.map_err(|e| e.named(text))?;
    // ColBERT scores of many long texts are work: not for the runtime's threads.
    let data = tokio::task::spawn_blocking(move || {
        let of = |(index, (a, b)): (usize, (usize, usize))| {
            let scores = score(&embeddings[a], &embeddings[b], &weights);
            check_scores(&scores, || if of_pairs { format!("pairs[{index}]") } else { format!("documents[{index}]") })?;
            let mut map = scores_of(&scores, &thresholds);
            map.insert("index".to_owned(), json!(index));
            map.insert("tokens".to_owned(), json!([embeddings[a].tokens, embeddings[b].tokens]));
            Ok((map, (a, b)))
        };
        places.into_iter().enumerate().map(of).collect::<Result<Vec<_>>>()
    });
    let data = data.await.map_err(|_| internal())??;
    let data: Vec<Value> = data
        .into_iter()
        .map(|(mut map, (a, b))| {
            map.insert("truncated".to_owned(), json!([tokenized[a].truncated, tokenized[b].truncated]));
            Value::Object(map)
        })
        .collect();
    Ok(json!({
        "model": app.names.first(),
        "data": data,
        "usage": usage(&tokenized),
        "timing": timing_of(timing, tokenize_time, begin),
    }))
}

pub(super) fn internal() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", "the request failed; others are not affected")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainRequest {
    a: String,
    b: String,
    weights: Option<Vec<f64>>,
    #[serde(default, deserialize_with = "whole")]
    max_length: Option<usize>,
    model: Option<String>,
}

/// Numbers of an alignment matrix that are answered at most: 1,024 tokens by as many.
const MOST_CELLS: usize = 1 << 20;

fn side(side: &Inspection) -> Value {
    let weights = side.token_weights.as_ref();
    let tokens: Vec<Value> = side
        .tokens
        .iter()
        .enumerate()
        .map(|(at, token)| json!({"id": token.id, "piece": token.piece, "special": token.special, "weight": weights.map(|w| w[at])}))
        .collect();
    json!({"tokens": tokens, "truncated": side.embedding.truncated})
}

/// All similarities of ColBERT rows, and where each row's best is.
fn alignment(a: &Embedding, b: &Embedding, score: Option<f32>) -> Option<Value> {
    let (a, b) = (a.colbert.as_ref()?, b.colbert.as_ref()?);
    if a.rows() * b.rows() > MOST_CELLS {
        return None;
    }
    let matrix = similarities(a, b);
    let best: Vec<usize> = matrix
        .iter()
        .map(|row| (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best }))
        .collect();
    Some(json!({"matrix": matrix, "best": best, "score": score}))
}

pub(super) async fn explain(State(app): State<Arc<App>>, Body(request): Body<ExplainRequest>) -> Response {
    explain_inner(&app, request).await.map_or_else(|e| e.answer(Dialect::OpenAi), |answer| app.written(|| answer))
}

async fn explain_inner(app: &App, request: ExplainRequest) -> Result<Value> {
    let begin = Instant::now();
    let model = app.model();
    app.names.check(request.model.as_deref())?;
    let weights = weights(request.weights.as_deref())?;
    let texts = vec![request.a.clone(), request.b.clone()];
    let tokenized = app.tokenize(&model, texts, request.max_length).await?;
    let tokenize_time = begin.elapsed();
    let options = EncodeOptions { max_length: request.max_length, ..EncodeOptions::default() };
    let inspect = |(index, (text, tokens)): (usize, (String, &Tokenized))| {
        let (own, options) = (Arc::clone(&model), options.clone());
        (cost(tokens.ids.len()), move || own.inspect(&text, &options).map_err(|e| e.at_input(|_| index)))
    };
    let calls = [request.a, request.b].into_iter().zip(&tokenized).enumerate().map(inspect).collect();
    let both = app.scheduler.calls(calls).await;
    let (both, timing) = both.map_err(|e| ApiError::from(e).named(|index| ["a", "b"][index % 2].to_owned()))?;
    let [a, b] = both.try_into().map_err(|_| internal())?;
    app.computed(tokenized.iter().map(|text| text.ids.len()).sum(), timing);
    let name = app.names.first();
    let answer = tokio::task::spawn_blocking(move || {
        let scores = score(&a.embedding, &b.embedding, &weights);
        check_scores(&scores, || "a, b".to_owned())?;
        let mut named = scores_of(&scores, &Thresholds::default());
        let (percent, verdict) = (named.remove("percent"), named.remove("verdict"));
        let piece = |id: u32| a.tokens.iter().find(|token| token.id == id).map_or("", |token| token.piece.as_str());
        let shared: Vec<Value> = match (&a.embedding.lexical, &b.embedding.lexical) {
            (Some(left), Some(right)) => shared(left, right)
                .iter()
                .map(|s| json!({"id": s.id, "piece": piece(s.id), "weight_a": s.left, "weight_b": s.right, "product": s.product()}))
                .collect(),
            _ => Vec::new(),
        };
        Ok::<Value, ApiError>(json!({
            "scores": named,
            "percent": percent,
            "verdict": verdict,
            "a": side(&a),
            "b": side(&b),
            "shared": shared,
            "alignment": alignment(&a.embedding, &b.embedding, scores.colbert),
        }))
    });
    let mut answer = answer.await.map_err(|_| internal())??;
    answer["model"] = json!(name);
    answer["usage"] = usage(&tokenized);
    answer["timing"] = timing_of(timing, tokenize_time, begin);
    Ok(answer)
}

/// Answers that are not JSON say what they are.
pub(super) fn bytes_answer(bytes: Vec<u8>, kind: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}
