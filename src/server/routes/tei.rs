//! The routes of text-embeddings-inference, with its field names and its limits on what a field may be.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::native::{Texts, rank};
use crate::cache::Wanted;
use crate::embedding::{Embedding, Modes, TokenVectors};
use crate::engine::Model;
use crate::server::app::{App, Tokenized};
use crate::server::body::{Body, Whole, whole};
use crate::server::error::{ApiError, Dialect, Result};
use crate::similarity;

fn answer(result: Result<Response>) -> Response {
    result.unwrap_or_else(|e| e.answer(Dialect::Tei))
}

/// Where a text is cut when it is too long. Only the right end can be cut here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum Direction {
    #[default]
    #[serde(alias = "right")]
    Right,
    #[serde(alias = "left")]
    Left,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
pub(super) struct EmbedRequest {
    inputs: Texts,
    #[serde(default = "yes")]
    normalize: bool,
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Direction,
    #[serde(default, deserialize_with = "whole")]
    dimensions: Option<usize>,
    prompt_name: Option<String>,
}

/// TEI's root, which is where `huggingface_hub` and what is built on it send to: a reranker's is `/rerank`, any other model's `/embed`.
pub(super) async fn root(State(app): State<Arc<App>>, request: Request) -> Response {
    if app.model().info().rerank {
        match Body::from_request(request, &app).await {
            Ok(body) => rerank(State(app), body).await,
            Err(bad) => bad.into_response(),
        }
    } else {
        match Body::from_request(request, &app).await {
            Ok(body) => embed(State(app), body).await,
            Err(bad) => bad.into_response(),
        }
    }
}

fn not_empty(texts: usize) -> Result<()> {
    if texts > 0 {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::BAD_REQUEST, "empty", "`inputs` cannot be empty"))
}

fn tokenizer(what: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "tokenizer", what)
}

/// The texts' tokens; with `truncate: false` a text that is too long is refused.
async fn tokens(
    app: &App,
    model: &Arc<Model>,
    texts: Vec<String>,
    truncate: Option<bool>,
    direction: Direction,
) -> Result<Vec<Tokenized>> {
    not_empty(texts.len())?;
    app.check_count(texts.len(), "inputs")?;
    if direction == Direction::Left {
        return Err(ApiError::invalid("truncation_direction", "`Left` is not supported: texts are cut at their end"));
    }
    let tokenized = app.tokenize(model, texts, None).await?;
    let most = model.info().max_length;
    if truncate == Some(false) && tokenized.iter().any(|text| text.truncated) {
        return Err(tokenizer(format!("a text has more than {most} tokens; set `truncate` to cut it")));
    }
    Ok(tokenized)
}

pub(super) async fn embed(State(app): State<Arc<App>>, Body(request): Body<EmbedRequest>) -> Response {
    answer(embed_inner(&app, request).await)
}

async fn embed_inner(app: &App, request: EmbedRequest) -> Result<Response> {
    let model = app.model();
    if let Some(name) = request.prompt_name {
        return Err(ApiError::invalid("prompt_name", format!("the model has no prompt `{name}`")));
    }
    let tokenized =
        tokens(app, &model, request.inputs.into_vec(), request.truncate, request.truncation_direction).await?;
    let normalize = Some(request.normalize);
    let wanted = Wanted { modes: Modes::DENSE, dimensions: request.dimensions, normalize };
    let (embeddings, _) = app.encode(&model, &tokenized, wanted).await?;
    Ok(app.written(|| embeddings.iter().map(|e| e.dense.as_deref().unwrap_or_default()).collect::<Vec<_>>()))
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenStatesRequest {
    inputs: Texts,
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Direction,
}

/// One vector a token. TEI answers raw states here; this gives BGE-M3's ColBERT vectors, which are what late interaction takes.
pub(super) async fn embed_all(State(app): State<Arc<App>>, Body(request): Body<TokenStatesRequest>) -> Response {
    let rows = |e: &Embedding| e.colbert.iter().flat_map(TokenVectors::iter).map(<[f32]>::to_vec).collect::<Vec<_>>();
    answer(with_modes(&app, request, Modes::COLBERT, rows).await)
}

#[derive(Serialize)]
struct SparseValue {
    index: u32,
    value: f32,
}

pub(super) async fn embed_sparse(State(app): State<Arc<App>>, Body(request): Body<TokenStatesRequest>) -> Response {
    let pairs = |e: &Embedding| {
        let pairs = e.lexical.iter().flat_map(|weights| weights.iter());
        pairs.map(|(index, value)| SparseValue { index, value }).collect::<Vec<_>>()
    };
    answer(with_modes(&app, request, Modes::SPARSE, pairs).await)
}

async fn with_modes<T: Serialize>(
    app: &App,
    request: TokenStatesRequest,
    modes: Modes,
    of: impl Fn(&Embedding) -> T,
) -> Result<Response> {
    let model = app.model();
    let (texts, truncate) = (request.inputs.into_vec(), request.truncate);
    let tokenized = tokens(app, &model, texts, truncate, request.truncation_direction).await?;
    let encoded = app.encode(&model, &tokenized, modes.into()).await;
    let (embeddings, _) = encoded.map_err(|e| match e.code {
        // TEI's status for a model that cannot do what is asked.
        "mode_unavailable" => ApiError { status: StatusCode::FAILED_DEPENDENCY, ..e },
        _ => e,
    })?;
    Ok(app.written(|| embeddings.iter().map(of).collect::<Vec<_>>()))
}

#[derive(Debug, Deserialize)]
pub(super) struct SimilarityRequest {
    inputs: SimilarityInputs,
    parameters: Option<SimilarityParameters>,
}

#[derive(Debug, Deserialize)]
struct SimilarityInputs {
    source_sentence: String,
    sentences: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct SimilarityParameters {
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Direction,
}

pub(super) async fn similarity(State(app): State<Arc<App>>, Body(request): Body<SimilarityRequest>) -> Response {
    answer(similarity_inner(&app, request).await)
}

async fn similarity_inner(app: &App, request: SimilarityRequest) -> Result<Response> {
    let model = app.model();
    let parameters = request.parameters.unwrap_or_default();
    not_empty(request.inputs.sentences.len())?;
    let texts = std::iter::once(request.inputs.source_sentence).chain(request.inputs.sentences).collect();
    let tokenized = tokens(app, &model, texts, parameters.truncate, parameters.truncation_direction).await?;
    let (embeddings, _) = app.encode(&model, &tokenized, Modes::DENSE.into()).await?;
    let mut vectors = embeddings.iter().filter_map(|e| e.dense.as_deref());
    let source = vectors.next().unwrap_or_default();
    Ok(app.written(|| vectors.map(|vector| similarity::cosine(source, vector)).collect::<Vec<f32>>()))
}

#[derive(Debug, Deserialize)]
pub(super) struct RerankRequest {
    query: String,
    texts: Vec<String>,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    return_text: bool,
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Direction,
}

pub(super) async fn rerank(State(app): State<Arc<App>>, Body(request): Body<RerankRequest>) -> Response {
    answer(rerank_inner(&app, request).await)
}

async fn rerank_inner(app: &App, request: RerankRequest) -> Result<Response> {
    let model = app.model();
    if !model.info().rerank {
        let what = "model is not a re-ranker model";
        return Err(ApiError::new(StatusCode::FAILED_DEPENDENCY, "backend", what));
    }
    not_empty(request.texts.len())?;
    app.check_count(request.texts.len(), "texts")?;
    if request.truncation_direction == Direction::Left {
        return Err(ApiError::invalid("truncation_direction", "`Left` is not supported: texts are cut at their end"));
    }
    let (ranked, _) = rank(app, &model, request.query, request.texts.clone(), None).await?;
    if request.truncate == Some(false) && ranked.iter().any(|r| r.truncated) {
        return Err(tokenizer("a pair has too many tokens; set `truncate` to cut it".to_owned()));
    }
    let mut order: Vec<_> = ranked.iter().collect();
    order.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.index.cmp(&b.index)));
    let entry = |r: &&crate::Reranked| Ranked {
        index: r.index,
        score: if request.raw_scores { r.logit } else { r.score },
        text: request.return_text.then(|| request.texts[r.index].as_str()),
    };
    Ok(app.written(|| order.iter().map(entry).collect::<Vec<_>>()))
}

#[derive(Serialize)]
struct Ranked<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    score: f32,
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenizeRequest {
    inputs: Texts,
    #[serde(default = "yes")]
    add_special_tokens: bool,
}

pub(super) async fn tokenize(State(app): State<Arc<App>>, Body(request): Body<TokenizeRequest>) -> Response {
    answer(tokenize_inner(&app, request).await.map(|value| app.written(|| value)))
}

async fn tokenize_inner(app: &App, request: TokenizeRequest) -> Result<Value> {
    let model = app.model();
    let tokenized = tokens(app, &model, request.inputs.into_vec(), None, Direction::Right).await?;
    let lists = tokenized.iter().map(|text| {
        let inner = match request.add_special_tokens {
            true => &text.ids[..],
            false => text.ids.get(1..text.ids.len().saturating_sub(1)).unwrap_or_default(),
        };
        let token = |id: &u32| {
            json!({"id": id, "text": model.piece(*id), "special": is_special(*id), "start": null, "stop": null})
        };
        inner.iter().map(token).collect::<Value>()
    });
    Ok(lists.collect())
}

/// `<s>`, `<pad>`, `</s>`, `<unk>` of XLM-RoBERTa.
fn is_special(id: u32) -> bool {
    id <= 3
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a list of token ids, or a list of such lists")]
enum IdLists {
    One(Vec<Whole<u32>>),
    Many(Vec<Vec<Whole<u32>>>),
}

#[derive(Debug, Deserialize)]
pub(super) struct DecodeRequest {
    ids: IdLists,
    #[serde(default = "yes")]
    skip_special_tokens: bool,
}

pub(super) async fn decode(State(app): State<Arc<App>>, Body(request): Body<DecodeRequest>) -> Response {
    answer(decode_inner(&app, request).map(|value| app.written(|| value)))
}

fn decode_inner(app: &App, request: DecodeRequest) -> Result<Value> {
    let model = app.model();
    let lists = match request.ids {
        IdLists::One(ids) => vec![ids],
        IdLists::Many(lists) => lists,
    };
    not_empty(lists.len())?;
    app.check_count(lists.len(), "ids")?;
    let text = |ids: &Vec<Whole<u32>>| -> Result<String> {
        let mut text = String::new();
        for &Whole(id) in ids {
            let piece = model.piece(id).ok_or_else(|| tokenizer(format!("there is no token id {id}")))?;
            if !(request.skip_special_tokens && is_special(id)) {
                text.push_str(&piece.replace('▁', " "));
            }
        }
        Ok(text.strip_prefix(' ').map_or_else(|| text.clone(), str::to_owned))
    };
    lists.iter().map(text).collect::<Result<Vec<_>>>().map(|texts| json!(texts))
}

pub(super) async fn info(State(app): State<Arc<App>>) -> Response {
    let model = app.model();
    let info = model.info();
    let model_type = if info.rerank {
        json!({"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}})
    } else {
        json!({"embedding": {"pooling": info.pooling}})
    };
    Json(json!({
        "model_id": super::model_id(&model),
        "model_sha": model.packed_source(),
        "model_dtype": info.weights,
        "model_type": model_type,
        "max_concurrent_requests": app.limits.queue_cost,
        "max_input_length": info.max_length,
        "max_batch_tokens": 4096,
        "max_batch_requests": null,
        "max_client_batch_size": app.limits.texts,
        "auto_truncate": true,
        "tokenization_workers": info.threads,
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
        "limits": {
            "body_bytes": app.limits.body_bytes, "texts": app.limits.texts, "queue_cost": app.limits.queue_cost,
        },
    }))
    .into_response()
}
