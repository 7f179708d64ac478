//! Reranking, with the field names and the answers of the services that clients are written for: Cohere (v1 and v2), Jina, Voyage, vLLM,
//! Infinity, and text-embeddings-inference. A request may have the fields of all of them; fields without effect are ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::native::{Tail, begin_list, timing_of};
use crate::answer::{self, JSON, Step, Steps};
use crate::app::App;
use crate::body::Body;
use crate::error::{ApiError, Dialect, Result};
use crate::fields::{Direction, Truncate, Word, agreed, integer, truncate_prompt_tokens, whole};
use crate::inputs::Document;
use crate::memory::{self, Part};
use crate::scheduler::{BATCH_TOKENS, Timing, cost};
use trivec::Model;
use trivec::internal::MIN_PAIR_TOKENS;
use trivec::{RerankOptions, Reranked};

/// The body of all rerank routes.
#[derive(Debug, Deserialize)]
pub(super) struct RerankRequest {
    query: Document,
    /// The documents.
    documents: Option<Vec<Document>>,
    /// text-embeddings-inference's name of `documents`.
    texts: Option<Vec<Document>>,
    model: Option<String>,
    /// How many of the best documents the answer has; 0 is all, as for vLLM.
    #[serde(default, deserialize_with = "whole")]
    top_n: Option<usize>,
    /// Voyage's name of `top_n`.
    #[serde(default, deserialize_with = "whole")]
    top_k: Option<usize>,
    return_documents: Option<bool>,
    return_text: Option<bool>,
    raw_scores: Option<bool>,
    #[serde(default, deserialize_with = "whole")]
    max_length: Option<usize>,
    /// vLLM's name of `max_length`; -1 is the model's own.
    #[serde(default, deserialize_with = "integer")]
    truncate_prompt_tokens: Option<i64>,
    #[serde(default, deserialize_with = "whole")]
    max_tokens_per_doc: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    max_tokens_per_query: Option<usize>,
    truncate: Option<Truncate>,
    /// Voyage's name of `truncate`.
    truncation: Option<bool>,
    truncation_direction: Option<Word<Direction>>,
    /// vLLM's name of `truncation_direction`.
    truncation_side: Option<Word<Direction>>,
    rank_fields: Option<Vec<String>>,
    instruction: Option<String>,
    /// Cohere's option to mark the relevant spans of documents, which is refused.
    relevant_spans: Option<IgnoredAny>,
}

/// A request that has been checked.
struct Asked {
    query: String,
    documents: Arc<Vec<String>>,
    /// What the request calls its documents.
    name: &'static str,
    options: RerankOptions,
    top: usize,
    /// Whether a pair may be cut.
    truncate: bool,
}

impl RerankRequest {
    /// Checks the request, and returns what it asks for. `documents` are those of the field `name`.
    fn asked(self, documents: Vec<Document>, name: &'static str, app: &App, model: &Model) -> Result<Asked> {
        app.names.check(self.model.as_deref())?;
        app.check_count(documents.len(), name)?;
        Direction::check("truncation_direction", self.truncation_direction)?;
        Direction::check("truncation_side", self.truncation_side)?;
        if self.rank_fields.iter().flatten().any(|field| field != "text") {
            return Err(ApiError::invalid("rank_fields", "of a document only `text` is read"));
        }
        if self.instruction.iter().any(|instruction| !instruction.is_empty()) {
            return Err(ApiError::invalid("instruction", "the model takes no instructions"));
        }
        if self.relevant_spans.is_some() {
            return Err(ApiError::invalid("relevant_spans", "spans of documents are not found here"));
        }
        let top = agreed([("top_n", self.top_n), ("top_k", self.top_k)])?;
        let truncate = agreed([("truncate", self.truncate.map(|Truncate(cut)| cut)), ("truncation", self.truncation)])?;
        Ok(Asked {
            options: self.options(model.info().max_length)?,
            query: self.query.0,
            documents: Arc::new(documents.into_iter().map(|Document(text)| text).collect()),
            name,
            top: top.filter(|&top| top > 0).unwrap_or(usize::MAX),
            truncate: truncate.unwrap_or(true),
        })
    }

    /// The limits of tokens that the request asks for; `most` is the model's own limit of a pair.
    fn options(&self, most: usize) -> Result<RerankOptions> {
        let prompt = truncate_prompt_tokens(self.truncate_prompt_tokens, most)?;
        let lengths = [("max_length", self.max_length), ("truncate_prompt_tokens", prompt)];
        for (name, length) in lengths {
            if length.is_some_and(|length| !(MIN_PAIR_TOKENS..=most).contains(&length)) {
                return Err(ApiError::invalid(name, format!("expected {MIN_PAIR_TOKENS} to {most} tokens of a pair")));
            }
        }
        let own =
            [("max_tokens_per_doc", self.max_tokens_per_doc), ("max_tokens_per_query", self.max_tokens_per_query)];
        if let Some((name, _)) = own.into_iter().find(|(_, tokens)| *tokens == Some(0)) {
            return Err(ApiError::invalid(name, "expected at least 1 token"));
        }
        Ok(RerankOptions {
            // If documents have a limit of their own, a pair may be as long as the model allows: the default length of pairs could cut it first.
            max_length: agreed(lengths)?.or(self.max_tokens_per_doc.map(|_| most)),
            max_query: self.max_tokens_per_query,
            max_document: self.max_tokens_per_doc,
            ..RerankOptions::default()
        })
    }
}

/// `/v1/rerank`: Cohere's first version, which Jina, Voyage, vLLM and Infinity have varied.
pub(super) async fn v1(State(app): State<Arc<App>>, Body(request): Body<RerankRequest>) -> Response {
    documents(&app, request, Version::One).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// `/v2/rerank`: Cohere's second version.
pub(super) async fn v2(State(app): State<Arc<App>>, Body(request): Body<RerankRequest>) -> Response {
    documents(&app, request, Version::Two).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// `/rerank`: with `texts` it is text-embeddings-inference's route; with `documents` it is vLLM's, which Dify, RAGFlow and LiteLLM call too.
pub(super) async fn tei(State(app): State<Arc<App>>, Body(request): Body<RerankRequest>) -> Response {
    tei_inner(&app, request).await.unwrap_or_else(|e| e.answer(Dialect::Tei))
}

/// Answers as text-embeddings-inference or as vLLM does, by the field that has the documents.
async fn tei_inner(app: &App, mut request: RerankRequest) -> Result<Response> {
    if !app.model().info().rerank {
        // TEI's status for a model that cannot do what is asked.
        return Err(ApiError::new(StatusCode::FAILED_DEPENDENCY, "backend", "model is not a re-ranker model"));
    }
    let (texts, documents_too) = (request.texts.take(), request.documents.is_some());
    match texts {
        Some(_) if documents_too => Err(ApiError::invalid("documents", "expected either `texts` or `documents`")),
        Some(texts) => texts_in_order(app, request, texts).await,
        None if documents_too => documents(app, request, Version::One).await,
        None => Err(missing("texts")),
    }
}

/// The error for a request without this field.
fn missing(field: &'static str) -> ApiError {
    ApiError::invalid(field, format!("missing field `{field}`"))
}

/// Which version of Cohere's answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Answers as Cohere does, and with the fields of the others.
async fn documents(app: &App, mut request: RerankRequest, version: Version) -> Result<Response> {
    let begin = Instant::now();
    let model = app.model();
    let documents = request.documents.take().ok_or_else(|| missing("documents"))?;
    if !model.info().rerank {
        let what = "the model is no reranker: it has no classification head; start the service with `--model` and a cross-encoder, such as bge-reranker-v2-m3";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "mode_unavailable", what));
    }
    let raw = request.raw_scores.unwrap_or(false);
    let with_text = request.return_documents.or(request.return_text).unwrap_or(false);
    let asked = request.asked(documents, "documents", app, &model)?;
    let (ranked, timing) = rank(app, &model, &asked).await?;
    let tokens: usize = ranked.iter().map(|r| r.tokens).sum();
    let best = best(ranked, asked.top);
    let of = move |r: &Reranked| if raw { r.logit } else { r.score };
    let end = Tail {
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
        timing: timing_of(timing, Duration::ZERO, begin),
    };
    let before = {
        let head = json!({
            "id": answer_id(),
            "model": app.names.first(),
            "meta": {
                "api_version": {"version": if version == Version::One { "1" } else { "2" }},
                "billed_units": {"search_units": 1},
                "tokens": {"input_tokens": tokens},
            },
        });
        move |out: &mut Vec<u8>| begin_list(&head, "results", out)
    };
    // Voyage's clients read the results from the field `data`, so version 1 has them twice.
    let lists = if version == Version::One { vec![best.len(); 2] } else { vec![best.len()] };
    let write = move |step: Step, out: &mut Vec<u8>| match step {
        Step::Begin(0) | Step::End(_) => {}
        Step::Begin(_) => out.extend_from_slice(b"],\"data\":["),
        Step::Rows(list, range) => {
            for at in range {
                let r = &best[at];
                let text = with_text.then(|| asked.documents[r.index].as_str());
                if at > 0 {
                    out.push(b',');
                }
                if list == 0 {
                    let (relevance_score, document) = (of(r), text.map(|text| Text { text }));
                    answer::json(
                        out,
                        &Entry { index: r.index, relevance_score, logit: r.logit, truncated: r.truncated, document },
                    );
                } else {
                    answer::json(out, &VoyageEntry { index: r.index, relevance_score: of(r), document: text });
                }
            }
        }
        Step::Last => end.append(out),
    };
    app.answer(JSON, None, Steps::begun_by(before, answer::steps(lists, 1), write))
}

/// A result as Cohere writes it, with `logit` and `truncated` added.
#[derive(Serialize)]
struct Entry<'a> {
    index: usize,
    relevance_score: f32,
    logit: f32,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text<'a>>,
}

/// A document in a result of Cohere's form.
#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

/// A result as Voyage writes it.
#[derive(Serialize)]
struct VoyageEntry<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'a str>,
}

/// A new id for an answer.
fn answer_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
    format!("rerank-{now:x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Answers as text-embeddings-inference does: a list, best first.
async fn texts_in_order(app: &App, request: RerankRequest, texts: Vec<Document>) -> Result<Response> {
    super::tei_refusals::not_empty(texts.len())?;
    let model = app.model();
    let raw = request.raw_scores.unwrap_or(false);
    let with_text = request.return_text.or(request.return_documents).unwrap_or(false);
    let asked = request.asked(texts, "texts", app, &model)?;
    let (ranked, _) = rank(app, &model, &asked).await?;
    let best = best(ranked, asked.top);
    let entries = best.len();
    let entry = move |at: usize, out: &mut Vec<u8>| {
        let r = &best[at];
        let text = with_text.then(|| asked.documents[r.index].as_str());
        answer::json(out, &TeiEntry { index: r.index, text, score: if raw { r.logit } else { r.score } });
    };
    app.answer(JSON, None, answer::list(entries, entry))
}

/// A result as text-embeddings-inference writes it.
#[derive(Serialize)]
struct TeiEntry<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    score: f32,
}

/// The `top` best, best first, ordered by logit, because many logits give the score 1.
fn best(mut ranked: Vec<Reranked>, top: usize) -> Vec<Reranked> {
    ranked.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.index.cmp(&b.index)));
    ranked.truncate(top);
    ranked
}

/// Scores the hits of a search with the cross-encoder `model`, through the queue; the results are in the order of `documents`.
#[cfg(feature = "search")]
pub(super) async fn scores(
    app: &App,
    model: &Arc<Model>,
    query: &str,
    documents: Vec<String>,
) -> Result<Vec<Reranked>> {
    let asked = Asked {
        query: query.to_owned(),
        documents: Arc::new(documents),
        name: "hits",
        options: RerankOptions::default(),
        top: usize::MAX,
        truncate: true,
    };
    Ok(rank(app, model, &asked).await?.0)
}

/// Scores each document with the query by the cross-encoder `model`, through the queue; the results are in the order of the documents.
async fn rank(app: &App, model: &Arc<Model>, asked: &Asked) -> Result<(Vec<Reranked>, Timing)> {
    let Asked { query, documents, options, .. } = asked;
    // The options are checked even if there are no documents.
    model.rerank::<&str>(query, &[], options)?;
    // The texts are not tokenised yet, so bytes stand for tokens: there are at least as many.
    let most = model.pair_length(options);
    // The model's default prompt counts as the query does.
    let query_bytes = model.prompt_text(&options.prompt)?.len() + query.len();
    let costs: Vec<u64> = documents.iter().map(|document| pair_cost(query_bytes, document, most)).collect();
    app.check_cost(costs.iter().sum())?;
    app.note_texts(std::slice::from_ref(query))?;
    app.note_texts(documents)?;
    let held = app.held();
    // A pair has four special tokens.
    let tokens = |document: &String| memory::token_ids((query_bytes + document.len() + 4).min(most));
    held.add(Part::Results, documents.iter().map(tokens).sum())?;
    // A call occupies the engine until it ends. So each has about as many documents as a batch, and other requests get their turn in between. The
    // results are the same as in one call.
    let query: Arc<str> = query.as_str().into();
    let (mut calls, mut from, mut work) = (Vec::new(), 0, 0);
    for (at, cost) in costs.iter().enumerate() {
        work += cost;
        if work >= BATCH_TOKENS as u64 || at + 1 == documents.len() {
            let (own, query, options, held) =
                (Arc::clone(model), Arc::clone(&query), options.clone(), Arc::clone(&held));
            let first = std::mem::replace(&mut from, at + 1);
            let documents = Arc::clone(documents);
            let call = move || {
                let _held = held;
                own.rerank(&query, &documents[first..=at], &options).map_err(|e| e.at_input(|index| first + index))
            };
            calls.push((std::mem::take(&mut work), call));
        }
    }
    let parts = app.scheduler.calls(calls).await;
    let (parts, timing) = parts.map_err(|e| ApiError::from(e).named(|index| format!("{}[{index}]", asked.name)))?;
    let mut ranked: Vec<Reranked> = parts.into_iter().flatten().collect();
    ranked.iter_mut().enumerate().for_each(|(index, result)| result.index = index);
    app.computed(ranked.iter().map(|result| result.tokens).sum(), timing);
    match ranked.iter().find(|result| result.truncated).filter(|_| !asked.truncate) {
        Some(cut) => {
            let place = format!("{}[{}]", asked.name, cut.index);
            Err(super::tei_refusals::too_long(&place, "a pair has too many tokens; set `truncate` to cut it"))
        }
        None => Ok((ranked, timing)),
    }
}

/// The most that a pair can cost: it has at most as many tokens as bytes, and at most `most`.
fn pair_cost(query_bytes: usize, document: &str, most: usize) -> u64 {
    cost((document.len() + query_bytes).min(most))
}
