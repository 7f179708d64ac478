//! The routes of text-embeddings-inference, with its field names and its limits on what a field may be.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cache::Wanted;
use crate::embedding::{Embedding, Modes, TokenVectors};
use crate::engine::Model;
use crate::server::app::{App, Tokenized};
use crate::server::body::Body;
use crate::server::error::{ApiError, Dialect, Result};
use crate::server::fields::{Direction, Object, Word, whole};
use crate::server::inputs::{IdLists, Input, Inputs, Texts};
use crate::similarity;

fn answer(result: Result<Response>) -> Response {
    result.unwrap_or_else(|e| e.answer(Dialect::Tei))
}

#[derive(Debug, Deserialize)]
pub(super) struct EmbedRequest {
    inputs: Inputs,
    normalize: Option<bool>,
    truncate: Option<bool>,
    truncation_direction: Option<Word<Direction>>,
    #[serde(default, deserialize_with = "whole")]
    dimensions: Option<usize>,
    prompt_name: Option<String>,
}

/// TEI's root, which is where `huggingface_hub` and what is built on it send to: a reranker's is `/rerank`, any other model's `/embed`.
pub(super) async fn root(State(app): State<Arc<App>>, request: Request) -> Response {
    if app.model().info().rerank {
        match Body::from_request(request, &app).await {
            Ok(body) => super::rerank::tei(State(app), body).await,
            Err(bad) => bad.into_response(),
        }
    } else {
        match Body::from_request(request, &app).await {
            Ok(body) => embed(State(app), body).await,
            Err(bad) => bad.into_response(),
        }
    }
}

/// What these routes call a text.
fn input(index: usize) -> String {
    format!("inputs[{index}]")
}

pub(super) fn not_empty(texts: usize) -> Result<()> {
    if texts > 0 {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::BAD_REQUEST, "empty", "`inputs` cannot be empty"))
}

fn tokenizer(what: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "tokenizer", what)
}

/// A text that would have to be cut, where that is not wanted.
pub(super) fn too_long(place: &str, what: impl Into<String>) -> ApiError {
    ApiError { param: Some(place.to_owned()), ..tokenizer(what.into()) }
}

/// The inputs' tokens; with `truncate: false` a text that is too long is refused.
async fn tokens(
    app: &App,
    model: &Arc<Model>,
    inputs: Vec<Input>,
    truncate: Option<bool>,
    direction: Option<Word<Direction>>,
) -> Result<Vec<Tokenized>> {
    not_empty(inputs.len())?;
    Direction::check("truncation_direction", direction)?;
    let tokenized = app.tokenize_inputs(model, inputs, "inputs", None).await?;
    refuse_cut(&tokenized, "inputs", truncate, model.info().max_length)?;
    Ok(tokenized)
}

/// With `truncate: false`, no text may have had to be cut to `most` tokens.
pub(super) fn refuse_cut(tokenized: &[Tokenized], name: &str, truncate: Option<bool>, most: usize) -> Result<()> {
    match tokenized.iter().position(|text| text.truncated).filter(|_| truncate == Some(false)) {
        Some(at) => {
            let what = format!("a text has more than {most} tokens; set `truncate` to cut it");
            Err(too_long(&format!("{name}[{at}]"), what))
        }
        None => Ok(()),
    }
}

fn texts(texts: Vec<String>) -> Vec<Input> {
    texts.into_iter().map(Input::Text).collect()
}

pub(super) async fn embed(State(app): State<Arc<App>>, Body(request): Body<EmbedRequest>) -> Response {
    answer(embed_inner(&app, request).await)
}

async fn embed_inner(app: &App, request: EmbedRequest) -> Result<Response> {
    let model = app.model();
    if let Some(name) = request.prompt_name {
        return Err(ApiError::invalid("prompt_name", format!("the model has no prompt `{name}`")));
    }
    let tokenized = tokens(app, &model, request.inputs.0, request.truncate, request.truncation_direction).await?;
    let normalize = Some(request.normalize.unwrap_or(true));
    let wanted = Wanted { modes: Modes::DENSE, dimensions: request.dimensions, normalize };
    let (embeddings, _) = app.encode(&model, &tokenized, wanted).await.map_err(|e| e.named(input))?;
    Ok(app.written(|| embeddings.iter().map(|e| e.dense.as_deref().unwrap_or_default()).collect::<Vec<_>>()))
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenStatesRequest {
    inputs: Inputs,
    truncate: Option<bool>,
    truncation_direction: Option<Word<Direction>>,
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
    let tokenized = tokens(app, &model, request.inputs.0, request.truncate, request.truncation_direction).await?;
    let encoded = app.encode(&model, &tokenized, modes.into()).await;
    let (embeddings, _) = encoded.map_err(|e| match e.code {
        // TEI's status for a model that cannot do what is asked.
        "mode_unavailable" => ApiError { status: StatusCode::FAILED_DEPENDENCY, ..e },
        _ => e.named(input),
    })?;
    Ok(app.written(|| embeddings.iter().map(of).collect::<Vec<_>>()))
}

#[derive(Debug, Deserialize)]
pub(super) struct SimilarityRequest {
    inputs: Object<SimilarityInputs>,
    parameters: Option<Object<SimilarityParameters>>,
}

#[derive(Debug, Deserialize)]
struct SimilarityInputs {
    source_sentence: String,
    sentences: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct SimilarityParameters {
    truncate: Option<bool>,
    truncation_direction: Option<Word<Direction>>,
}

pub(super) async fn similarity(State(app): State<Arc<App>>, Body(request): Body<SimilarityRequest>) -> Response {
    answer(similarity_inner(&app, request).await)
}

async fn similarity_inner(app: &App, request: SimilarityRequest) -> Result<Response> {
    let model = app.model();
    let Object(parameters) = request.parameters.unwrap_or_default();
    let Object(SimilarityInputs { source_sentence, sentences }) = request.inputs;
    not_empty(sentences.len())?;
    let all = texts(std::iter::once(source_sentence).chain(sentences).collect());
    let tokenized = tokens(app, &model, all, parameters.truncate, parameters.truncation_direction).await?;
    let encoded = app.encode(&model, &tokenized, Modes::DENSE.into()).await;
    let (embeddings, _) = encoded.map_err(|e| {
        e.named(|index| match index {
            0 => "inputs.source_sentence".to_owned(),
            _ => format!("inputs.sentences[{}]", index - 1),
        })
    })?;
    let mut vectors = embeddings.iter().filter_map(|e| e.dense.as_deref());
    let source = vectors.next().unwrap_or_default();
    Ok(app.written(|| vectors.map(|vector| similarity::cosine(source, vector)).collect::<Vec<f32>>()))
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenizeRequest {
    inputs: Texts,
    add_special_tokens: Option<bool>,
}

pub(super) async fn tokenize(State(app): State<Arc<App>>, Body(request): Body<TokenizeRequest>) -> Response {
    answer(tokenize_inner(&app, request).await.map(|value| app.written(|| value)))
}

async fn tokenize_inner(app: &App, request: TokenizeRequest) -> Result<Value> {
    let model = app.model();
    let tokenized = tokens(app, &model, texts(request.inputs.into_vec()), None, None).await?;
    let special = request.add_special_tokens.unwrap_or(true);
    let lists = tokenized.iter().map(|text| {
        let inner = match special {
            true => &text.ids[..],
            false => text.ids.get(1..text.ids.len().saturating_sub(1)).unwrap_or_default(),
        };
        let token = |&id: &u32| {
            json!({"id": id, "text": model.piece(id), "special": model.is_special(id), "start": null, "stop": null})
        };
        inner.iter().map(token).collect::<Value>()
    });
    Ok(lists.collect())
}

#[derive(Debug, Deserialize)]
pub(super) struct DecodeRequest {
    ids: IdLists,
    skip_special_tokens: Option<bool>,
}

pub(super) async fn decode(State(app): State<Arc<App>>, Body(request): Body<DecodeRequest>) -> Response {
    answer(decode_inner(&app, request).map(|value| app.written(|| value)))
}

fn decode_inner(app: &App, request: DecodeRequest) -> Result<Value> {
    let model = app.model();
    let IdLists(lists) = request.ids;
    not_empty(lists.len())?;
    app.check_count(lists.len(), "ids")?;
    let skip = request.skip_special_tokens.unwrap_or(true);
    let text = |ids: &Vec<u32>| {
        model
            .decode(ids, skip)
            .map_err(|id| ApiError { param: Some("ids".to_owned()), ..tokenizer(format!("there is no token id {id}")) })
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
        "model_id": app.names.first(),
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
