//! The routes of text-embeddings-inference (TEI), with its field names and its rules for their values.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rows;
use super::tei_refusals::{not_empty, tokenizer, too_long};
use crate::answer::{self, Pieces, Step, Steps};
use crate::app::{App, Tokenized};
use crate::body::Body;
use crate::error::{ApiError, Dialect, Result};
use crate::fields::{Direction, Object, Word, whole};
use crate::inputs::{IdLists, Input, Inputs, Texts};
use crate::memory::{self, Part};
use trivec::similarity;
use trivec::{Embedding, Modes};
use trivec::{EncodeOptions, Model, Prompt};
use trivec_cache::Wanted;

/// The answer, or the answer of the error in TEI's shape.
fn respond(result: Result<Response>) -> Response {
    result.unwrap_or_else(|e| e.answer(Dialect::Tei))
}

/// The body of `/embed`.
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

/// `POST /`, where `huggingface_hub` and libraries built on it send requests: the same as `/rerank` for a reranker, and as `/embed` for any
/// other model.
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

/// The name of a text in the errors of these routes.
fn input(index: usize) -> String {
    format!("inputs[{index}]")
}

/// Tokenises the inputs after the named prompt, or after the model's default prompt. With `truncate: false`, refuses a text that is too long.
async fn tokens(
    app: &App,
    model: &Arc<Model>,
    inputs: Vec<Input>,
    (truncate, direction): (Option<bool>, Option<Word<Direction>>),
    prompt_name: Option<String>,
) -> Result<Vec<Tokenized>> {
    not_empty(inputs.len())?;
    Direction::check("truncation_direction", direction)?;
    let prompt = prompt_name.map_or(Prompt::Default, Prompt::Name);
    let tokenized = app.tokenize_inputs(model, inputs, "inputs", None, prompt).await?;
    refuse_cut(&tokenized, "inputs", truncate, model.info().max_length)?;
    Ok(tokenized)
}

/// With `truncate: false`, refuses texts of which one was cut to `most` tokens. `name` is the field of the texts.
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

/// `/embed`: dense vectors, which have the length 1 unless `normalize` is false.
pub(super) async fn embed(State(app): State<Arc<App>>, Body(request): Body<EmbedRequest>) -> Response {
    respond(embed_inner(&app, request).await)
}

async fn embed_inner(app: &App, request: EmbedRequest) -> Result<Response> {
    let model = app.model();
    let cut = (request.truncate, request.truncation_direction);
    let tokenized = tokens(app, &model, request.inputs.0, cut, request.prompt_name).await?;
    let normalize = Some(request.normalize.unwrap_or(true));
    let wanted = Wanted { dimensions: request.dimensions, normalize, ..Modes::DENSE.into() };
    let (embeddings, _) = app.encode(&model, &tokenized, wanted).await.map_err(|e| e.named(input))?;
    let vector =
        move |at: usize, out: &mut Vec<u8>| answer::json(out, &embeddings[at].dense.as_deref().unwrap_or_default());
    app.answer(answer::JSON, None, answer::list(tokenized.len(), vector))
}

/// The body of `/embed_all` and `/embed_sparse`.
#[derive(Debug, Deserialize)]
pub(super) struct TokenStatesRequest {
    inputs: Inputs,
    truncate: Option<bool>,
    truncation_direction: Option<Word<Direction>>,
    prompt_name: Option<String>,
}

/// `/embed_all`: a vector for each token. TEI answers with raw token states; this service answers with ColBERT vectors, which are made for
/// comparing texts token by token.
pub(super) async fn embed_all(State(app): State<Arc<App>>, Body(request): Body<TokenStatesRequest>) -> Response {
    let answered = with_modes(&app, request, Modes::COLBERT).await.and_then(|embeddings| {
        let steps = rows::steps(&embeddings);
        let write = move |step: Step, out: &mut Vec<u8>| match step {
            Step::Begin(0) => out.extend_from_slice(b"[["),
            Step::Begin(_) => out.extend_from_slice(b",["),
            Step::Rows(text, range) => rows::append_json(&embeddings[text], range, out),
            Step::End(_) => out.push(b']'),
            Step::Last => out.push(b']'),
        };
        app.answer(answer::JSON, None, Steps::new(steps, write))
    });
    respond(answered)
}

#[derive(Serialize)]
struct SparseValue {
    index: u32,
    value: f32,
}

/// `/embed_sparse`: lexical weights, as pairs of a token id (`index`) and a weight (`value`).
pub(super) async fn embed_sparse(State(app): State<Arc<App>>, Body(request): Body<TokenStatesRequest>) -> Response {
    let answered = with_modes(&app, request, Modes::SPARSE).await.and_then(|embeddings| {
        let texts = embeddings.len();
        let pairs = move |at: usize, out: &mut Vec<u8>| {
            let pairs = embeddings[at].lexical.iter().flat_map(|weights| weights.iter());
            answer::json(out, &pairs.map(|(index, value)| SparseValue { index, value }).collect::<Vec<_>>());
        };
        app.answer(answer::JSON, None, answer::list(texts, pairs))
    });
    respond(answered)
}

/// The embeddings that a request asks for, of these modes.
async fn with_modes(app: &App, request: TokenStatesRequest, modes: Modes) -> Result<Vec<Embedding>> {
    let model = app.model();
    let cut = (request.truncate, request.truncation_direction);
    let tokenized = tokens(app, &model, request.inputs.0, cut, request.prompt_name).await?;
    let encoded = app.encode(&model, &tokenized, modes.into()).await;
    let (embeddings, _) = encoded.map_err(|e| match e.code {
        // TEI's status for a model that cannot do what is asked.
        "mode_unavailable" => ApiError { status: StatusCode::FAILED_DEPENDENCY, ..e },
        _ => e.named(input),
    })?;
    Ok(embeddings)
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
    prompt_name: Option<String>,
}

/// `/similarity`: the cosines of one sentence with the others.
pub(super) async fn similarity(State(app): State<Arc<App>>, Body(request): Body<SimilarityRequest>) -> Response {
    respond(similarity_inner(&app, request).await)
}

async fn similarity_inner(app: &App, request: SimilarityRequest) -> Result<Response> {
    let model = app.model();
    let Object(parameters) = request.parameters.unwrap_or_default();
    let Object(SimilarityInputs { source_sentence, sentences }) = request.inputs;
    not_empty(sentences.len())?;
    let all = texts(std::iter::once(source_sentence).chain(sentences).collect());
    let cut = (parameters.truncate, parameters.truncation_direction);
    let tokenized = tokens(app, &model, all, cut, parameters.prompt_name).await?;
    let encoded = app.encode(&model, &tokenized, Modes::DENSE.into()).await;
    let (embeddings, _) = encoded.map_err(|e| {
        e.named(|index| match index {
            0 => "inputs.source_sentence".to_owned(),
            _ => format!("inputs.sentences[{}]", index - 1),
        })
    })?;
    let mut vectors = embeddings.iter().filter_map(|e| e.dense.as_deref());
    let source = vectors.next().unwrap_or_default();
    let cosines: Vec<f32> = vectors.map(|vector| similarity::cosine(source, vector)).collect();
    app.answer(answer::JSON, None, answer::list(cosines.len(), move |at, out| answer::json(out, &cosines[at])))
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenizeRequest {
    inputs: Texts,
    add_special_tokens: Option<bool>,
    prompt_name: Option<String>,
}

/// `/tokenize`: the tokens of each text.
pub(super) async fn tokenize(State(app): State<Arc<App>>, Body(request): Body<TokenizeRequest>) -> Response {
    respond(tokenize_inner(&app, request))
}

fn tokenize_inner(app: &App, request: TokenizeRequest) -> Result<Response> {
    let model = app.model();
    let texts = request.inputs.into_vec();
    not_empty(texts.len())?;
    app.check_count(texts.len(), "inputs")?;
    app.note_texts(&texts)?;
    let prompt = request.prompt_name.map_or(Prompt::Default, Prompt::Name);
    let prompt_bytes = model.prompt_text(&prompt)?.len();
    let options = EncodeOptions { prompt, ..EncodeOptions::default() };
    // A model without a tokenizer is refused here; after this, tokenising cannot fail.
    model.token_ids("", &options)?;
    // Only one text's tokens are in memory at a time.
    let longest = prompt_bytes + texts.iter().map(String::len).max().unwrap_or(0);
    let ids = memory::token_ids((longest + 2).min(model.info().max_length));
    app.held().set(Part::Tokens, ids + memory::normalized(longest))?;
    let special = request.add_special_tokens.unwrap_or(true);
    let lists = TokenLists { model, texts, options, special, at: 0, now: None };
    app.answer(answer::JSON, None, lists)
}

/// How many tokens of a text are written at a time.
const TOKENS_OF_A_PIECE: usize = 512;

/// Writes the answer of `/tokenize`, a list of tokens for each text. A text is tokenised only when its list is written.
struct TokenLists {
    model: Arc<Model>,
    texts: Vec<String>,
    options: EncodeOptions,
    special: bool,
    at: usize,
    /// The ids of text `at`, and how many of them have been written.
    now: Option<(Vec<u32>, usize)>,
}

#[derive(Serialize)]
struct WrittenToken<'a> {
    id: u32,
    text: Option<&'a str>,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

impl TokenLists {
    /// The ids of text `at`, without `<s>` and `</s>` if those are not asked for.
    fn ids(&self) -> Vec<u32> {
        let mut ids = self.model.token_ids(&self.texts[self.at], &self.options).map(|(ids, _)| ids).unwrap_or_default();
        if !self.special {
            ids.pop();
            ids = ids.split_off(1.min(ids.len()));
        }
        ids
    }
}

impl Pieces for TokenLists {
    fn append(&mut self, out: &mut Vec<u8>) -> bool {
        if self.at > self.texts.len() {
            return false;
        }
        if self.at == self.texts.len() {
            out.push(b']');
            self.at += 1;
            return true;
        }
        let (ids, written) = match self.now.take() {
            Some(now) => now,
            None => {
                out.extend_from_slice(if self.at == 0 { b"[[" } else { b",[" });
                (self.ids(), 0)
            }
        };
        let end = ids.len().min(written + TOKENS_OF_A_PIECE);
        for (at, &id) in ids[written..end].iter().enumerate() {
            if written + at > 0 {
                out.push(b',');
            }
            let (text, special) = (self.model.piece(id), self.model.is_special(id));
            answer::json(out, &WrittenToken { id, text, special, start: None, stop: None });
        }
        if end < ids.len() {
            self.now = Some((ids, end));
        } else {
            out.push(b']');
            self.at += 1;
        }
        true
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct DecodeRequest {
    ids: IdLists,
    skip_special_tokens: Option<bool>,
}

/// `/decode`: the texts of lists of token ids.
pub(super) async fn decode(State(app): State<Arc<App>>, Body(request): Body<DecodeRequest>) -> Response {
    respond(decode_inner(&app, request))
}

fn decode_inner(app: &App, request: DecodeRequest) -> Result<Response> {
    let model = app.model();
    let IdLists(lists) = request.ids;
    not_empty(lists.len())?;
    app.check_count(lists.len(), "ids")?;
    // Unknown ids are refused here, before anything is written: decoding cannot fail after this.
    if let Some(id) = lists.iter().flatten().find(|&&id| model.piece(id).is_none()) {
        let unknown = tokenizer(format!("there is no token id {id}"));
        return Err(ApiError { param: Some("ids".to_owned()), ..unknown });
    }
    let skip = request.skip_special_tokens.unwrap_or(true);
    let steps = answer::steps(lists.iter().map(Vec::len).collect(), TOKENS_OF_A_PIECE);
    let mut first = true;
    let write = move |step: Step, out: &mut Vec<u8>| match step {
        Step::Begin(list) => {
            first = true;
            out.extend_from_slice(if list == 0 { b"[\"" } else { b",\"" });
        }
        Step::Rows(list, range) => {
            let text = model.decode_part(&lists[list][range], skip, &mut first);
            answer::inside_string(out, &text.unwrap_or_default());
        }
        Step::End(_) => out.push(b'"'),
        Step::Last => out.push(b']'),
    };
    app.answer(answer::JSON, None, Steps::new(steps, write))
}

/// `GET /info`: the model and the limits, under TEI's names.
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
            "memory": app.limits.memory,
        },
    }))
    .into_response()
}
