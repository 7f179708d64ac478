//! OpenAI's embeddings API.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::native::{Encoding, Numbers, check_model, usage};
use crate::cache::Wanted;
use crate::embedding::{Embedding, Modes};
use crate::server::app::{App, Tokenized};
use crate::server::body::{Body, Whole, whole};
use crate::server::error::{ApiError, Dialect, Result};
use crate::server::work::note;

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string, a list of strings, a list of token ids, or a list of such lists")]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<Whole<u32>>),
    IdLists(Vec<Vec<Whole<u32>>>),
}

/// Fields that OpenAI's API gets later are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct EmbeddingsRequest {
    input: Input,
    model: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Encoding,
    /// Who asks, for OpenAI's own use.
    #[serde(rename = "user")]
    _user: Option<String>,
}

pub(super) async fn embeddings(State(app): State<Arc<App>>, Body(request): Body<EmbeddingsRequest>) -> Response {
    embeddings_inner(&app, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Ids given as such must be of the vocabulary, and not too many.
fn check_ids(lists: Vec<Vec<Whole<u32>>>, vocabulary: usize, max_length: usize) -> Result<Vec<Tokenized>> {
    let check = |ids: Vec<Whole<u32>>| {
        let ids = Whole::plain(ids);
        if ids.is_empty() || ids.len() > max_length {
            return Err(ApiError::invalid("input", format!("{} token ids, expected 1 to {max_length}", ids.len())));
        }
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(id) => Err(ApiError::invalid("input", format!("token id {id}, expected one below {vocabulary}"))),
            None => Ok(Tokenized { ids, truncated: false }),
        }
    };
    lists.into_iter().map(check).collect()
}

async fn embeddings_inner(app: &App, request: EmbeddingsRequest) -> Result<Response> {
    let model = app.model();
    check_model(&model, request.model.as_deref())?;
    let info = model.info();
    let tokenized = match request.input {
        Input::Text(text) => app.tokenize(&model, vec![text], None).await?,
        Input::Texts(texts) => {
            app.check_count(texts.len(), "input")?;
            app.tokenize(&model, texts, None).await?
        }
        Input::Ids(ids) => check_ids(vec![ids], info.vocabulary, info.max_length)?,
        Input::IdLists(lists) => {
            app.check_count(lists.len(), "input")?;
            check_ids(lists, info.vocabulary, info.max_length)?
        }
    };
    note(|work| work.texts = tokenized.len());
    let wanted = Wanted { dimensions: request.dimensions, ..Modes::DENSE.into() };
    let (embeddings, _) = app.encode(&model, &tokenized, wanted).await?;
    Ok(app.written(|| EmbeddingsAnswer {
        object: "list",
        data: embeddings
            .iter()
            .enumerate()
            .map(|(at, of)| EmbeddingEntry::new(at, of, request.encoding_format))
            .collect(),
        model: super::model_id(&model),
        usage: usage(&tokenized),
    }))
}

#[derive(Serialize)]
struct EmbeddingEntry<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

impl<'a> EmbeddingEntry<'a> {
    fn new(index: usize, embedding: &'a Embedding, encoding: Encoding) -> EmbeddingEntry<'a> {
        let dense = embedding.dense.as_deref().unwrap_or_default();
        EmbeddingEntry { object: "embedding", index, embedding: Numbers::new(dense, encoding) }
    }
}

#[derive(Serialize)]
struct EmbeddingsAnswer<'a> {
    object: &'static str,
    data: Vec<EmbeddingEntry<'a>>,
    model: String,
    usage: Value,
}

fn entry(app: &App) -> Value {
    let created = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.as_secs().saturating_sub(app.started.elapsed().as_secs()));
    json!({"id": super::model_id(&app.model()), "object": "model", "created": created, "owned_by": "trivec"})
}

pub(super) async fn models(State(app): State<Arc<App>>) -> Response {
    Json(json!({"object": "list", "data": [entry(&app)]})).into_response()
}

pub(super) async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match check_model(&app.model(), Some(&id)) {
        Ok(()) => Json(entry(&app)).into_response(),
        Err(e) => e.answer(Dialect::OpenAi),
    }
}
