//! OpenAI's API of embeddings and models: `/v1/embeddings` and `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::native::{Encoding, Numbers, prompt_of, usage};
use super::tei::refuse_cut;
use crate::answer::{JSON, Steps, json};
use crate::app::App;
use crate::body::{Body, PathPart};
use crate::error::{ApiError, Dialect, Result};
use crate::fields::{Direction, Listed, Truncate, Word, Words, agreed, integer, truncate_prompt_tokens, whole};
use crate::inputs::Inputs;
use crate::work::note;
use trivec::{Embedding, Modes};
use trivec_cache::Wanted;

/// OpenAI's fields, and those that Cohere, Jina, Mixedbread, NVIDIA, vLLM and Voyage add on the same route. Fields that would change the
/// vectors are obeyed or refused. Fields without effect here (`user`, `input_type`, `task`) and unknown fields are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct EmbeddingsRequest {
    input: Inputs,
    model: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    dimensions: Option<usize>,
    /// Voyage's name of `dimensions`.
    #[serde(default, deserialize_with = "whole")]
    output_dimension: Option<usize>,
    encoding_format: Option<Listed<Encoding>>,
    /// Jina's name of `encoding_format`.
    embedding_type: Option<Listed<Encoding>>,
    /// Cohere's name of `encoding_format`.
    embedding_types: Option<Listed<Encoding>>,
    /// Voyage's name of the type of the numbers.
    #[serde(rename = "output_dtype")]
    _output_dtype: Option<Word<Float>>,
    /// vLLM's name of the type of the numbers.
    #[serde(rename = "embed_dtype")]
    _embed_dtype: Option<Word<Float>>,
    #[serde(rename = "endianness")]
    _endianness: Option<Word<Endianness>>,
    /// vLLM's name.
    normalize: Option<bool>,
    /// Jina's and Mixedbread's name of `normalize`.
    normalized: Option<bool>,
    #[serde(default, deserialize_with = "whole")]
    max_length: Option<usize>,
    /// vLLM's name of `max_length`; -1 is the model's own.
    #[serde(default, deserialize_with = "integer")]
    truncate_prompt_tokens: Option<i64>,
    truncate: Option<Truncate>,
    /// Voyage's name of `truncate`.
    truncation: Option<bool>,
    truncation_side: Option<Word<Direction>>,
    add_special_tokens: Option<bool>,
    late_chunking: Option<bool>,
    return_multivector: Option<bool>,
    /// The text of a prompt. Token ids get no prompt.
    prompt: Option<String>,
    /// The name of one of the model's prompts. Without this and without `prompt`, texts get the model's default prompt.
    prompt_name: Option<String>,
}

/// The type of an answer's numbers, of which there is only one.
#[derive(Debug, Clone, Copy)]
struct Float;

impl Words for Float {
    const WORDS: &'static [(&'static str, Float)] = &[("float", Float), ("float32", Float)];
}

/// The order of bytes in base64, of which there is only one.
#[derive(Debug, Clone, Copy)]
struct Endianness;

impl Words for Endianness {
    const WORDS: &'static [(&'static str, Endianness)] = &[("little", Endianness), ("native", Endianness)];
}

impl EmbeddingsRequest {
    /// Refuses requests for what the service cannot do.
    fn check(&self) -> Result<()> {
        Direction::check("truncation_side", self.truncation_side)?;
        for (name, asked) in [("late_chunking", self.late_chunking), ("return_multivector", self.return_multivector)] {
            if asked == Some(true) {
                return Err(ApiError::invalid(name, format!("`{name}` is not supported here, expected false")));
            }
        }
        if self.add_special_tokens == Some(false) {
            let what = "the model reads no text without its special tokens, expected true";
            return Err(ApiError::invalid("add_special_tokens", what));
        }
        Ok(())
    }
}

/// `POST /v1/embeddings`.
pub(super) async fn embeddings(State(app): State<Arc<App>>, Body(request): Body<EmbeddingsRequest>) -> Response {
    embeddings_inner(&app, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Checks the request, embeds its inputs as dense vectors, and answers as OpenAI does.
async fn embeddings_inner(app: &App, request: EmbeddingsRequest) -> Result<Response> {
    let model = app.model();
    app.names.check(request.model.as_deref())?;
    request.check()?;
    let most = model.info().max_length;
    let prompt = truncate_prompt_tokens(request.truncate_prompt_tokens, most)?;
    let lengths = [("max_length", request.max_length), ("truncate_prompt_tokens", prompt)];
    if let Some((name, _)) = lengths.iter().find(|(_, n)| n.is_some_and(|n| !(2..=most).contains(&n))) {
        return Err(ApiError::invalid(*name, format!("expected 2 to {most} tokens")));
    }
    let max_length = agreed(lengths)?;
    let truncate = request.truncate.map(|Truncate(cut)| cut);
    let truncate = agreed([("truncate", truncate), ("truncation", request.truncation)])?;
    let form = |form: Option<Listed<Encoding>>| form.map(|Listed(encoding)| encoding);
    let encoding = agreed([
        ("encoding_format", form(request.encoding_format)),
        ("embedding_type", form(request.embedding_type)),
        ("embedding_types", form(request.embedding_types)),
    ])?
    .unwrap_or_default();
    let wanted = Wanted {
        dimensions: agreed([("dimensions", request.dimensions), ("output_dimension", request.output_dimension)])?,
        normalize: agreed([("normalize", request.normalize), ("normalized", request.normalized)])?,
        ..Modes::DENSE.into()
    };
    let prompt = prompt_of("", request.prompt_name, request.prompt)?;
    let tokenized = app.tokenize_inputs(&model, request.input.0, "input", max_length, prompt).await?;
    refuse_cut(&tokenized, "input", truncate, max_length.unwrap_or(most))?;
    note(|work| work.texts = tokenized.len());
    let (embeddings, _) = app.encode(&model, &tokenized, wanted).await?;
    let count = embeddings.len();
    let (model, usage) = (app.names.first(), usage(&tokenized));
    let write = move |at: usize, out: &mut Vec<u8>| {
        if at == count {
            out.extend_from_slice(b"],\"model\":");
            json(out, &model);
            out.extend_from_slice(b",\"usage\":");
            json(out, &usage);
            out.push(b'}');
            return;
        }
        if at > 0 {
            out.push(b',');
        }
        json(out, &EmbeddingEntry::new(at, &embeddings[at], encoding));
    };
    let before = |out: &mut Vec<u8>| out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    app.answer(JSON, None, Steps::begun_by(before, 0..=count, write))
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

/// An entry of `/v1/models`, as if the model was created when the service started.
fn entry(app: &App, id: &str) -> Value {
    let created = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.as_secs().saturating_sub(app.started.elapsed().as_secs()));
    json!({"id": id, "object": "model", "created": created, "owned_by": "trivec"})
}

/// `GET /v1/models`: an entry for each name of the model.
pub(super) async fn models(State(app): State<Arc<App>>) -> Response {
    let entries: Vec<Value> = app.names.all().iter().map(|id| entry(&app, id)).collect();
    Json(json!({"object": "list", "data": entries})).into_response()
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(State(app): State<Arc<App>>, PathPart(id): PathPart) -> Response {
    match app.names.known(&id) {
        Ok(id) => Json(entry(&app, &id)).into_response(),
        Err(e) => e.answer(Dialect::OpenAi),
    }
}
