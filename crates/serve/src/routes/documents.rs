//! `/v1/documents`: adds documents to an index, gives one by its key, and deletes one by its key or several by a filter.

use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::app::{App, Tokenized};
use crate::body::{PARSED_AT_ONCE, PathPart, QueryPart, not_json, read};
use crate::error::{ApiError, Dialect, Result};
use crate::header_fields::{self, Documents};
use crate::memory::{self, Part};
use crate::scheduler::{BATCH_TOKENS, cost};
use crate::search::Served;
use crate::search::writer::{MOST_PENDING, Turn};
use trivec::Embedding;
use trivec_cache::Wanted;
use trivec_search::{Document, Error, Filter, Kept};

/// The most refused documents that an answer names.
const MOST_TOLD: usize = 100;

/// The index that a request names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichIndex {
    pub index: Option<String>,
}

/// The index that a request writes to, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HowToWrite {
    index: Option<String>,
    /// Whether to commit before the request is answered.
    #[serde(default = "yes")]
    commit: bool,
    /// Which documents are deleted; only for `DELETE` without a key.
    filter: Option<String>,
}

fn yes() -> bool {
    true
}

/// The index to write to. Refused unless the service was started with writing allowed and with keys.
pub(super) fn check_write(app: &App, index: Option<&str>) -> Result<Arc<Served>> {
    let forbidden = |what: &str| Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", what));
    let served = app.search.get(index)?;
    if !app.search.is_writable() {
        return forbidden("this service does not write to its indexes: start it with `--index-write` and an API key");
    }
    // `trivec serve` refuses to start a writing service without keys; this check covers other callers.
    if !app.needs_key() {
        return forbidden("writing to an index needs an API key, and this service has none");
    }
    Ok(served)
}

/// `GET /v1/documents/{key}`: the document with this key, with all its chunks if it has some.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    PathPart(key): PathPart,
    QueryPart(which): QueryPart<WhichIndex>,
) -> Response {
    let of = async {
        let served = app.search.get(which.index.as_deref())?;
        let held = app.held();
        let find = move || -> Result<Kept> {
            let reader = served.reader()?;
            // A document may have any number of chunks.
            held.set(Part::Results, 4 * reader.bytes_of_key(&key)? + 4096)?;
            Ok(reader.get(&key)?)
        };
        Ok(Json(app.beside(find).await??).into_response())
    };
    of.await.unwrap_or_else(|e: ApiError| e.answer(Dialect::OpenAi))
}

/// `DELETE /v1/documents/{key}`: deletes one document.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    PathPart(key): PathPart,
    QueryPart(how): QueryPart<HowToWrite>,
) -> Response {
    let of = async {
        if how.filter.is_some() {
            return Err(ApiError::invalid("filter", "a key and a filter, expected one of them"));
        }
        delete_entries(&app, &how, What::Key(key)).await
    };
    of.await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// `DELETE /v1/documents?filter=…`: deletes the documents that the filter selects.
pub(super) async fn delete_where(State(app): State<Arc<App>>, QueryPart(how): QueryPart<HowToWrite>) -> Response {
    let of = async {
        // A missing filter would delete everything, so it is refused.
        let missing = || ApiError::invalid("filter", "expected `?filter=`, which says what is deleted");
        let filter = how.filter.as_deref().ok_or_else(missing)?;
        let filter = filter.parse::<Filter>()?;
        delete_entries(&app, &how, What::Filter(filter)).await
    };
    of.await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Which documents are deleted.
enum What {
    Key(String),
    Filter(Filter),
}

/// Deletes documents in a turn of the writer; answers with how many entries (documents and chunks) were deleted.
async fn delete_entries(app: &App, how: &HowToWrite, what: What) -> Result<Response> {
    let served = check_write(app, how.index.as_deref())?;
    let turn = Turn::take(app, &served).await?;
    let own = Arc::clone(&served);
    let work = move |turn: &mut Turn| match what {
        What::Key(key) => {
            let entries = own.reader()?.count_of_key(&key)?;
            turn.writer()?.delete(&key)?;
            Ok(entries as u64)
        }
        What::Filter(filter) => turn.writer()?.delete_where(&filter),
    };
    let (turn, deleted) = turn.run(app, work).await?;
    let committed = finish(app, turn, how.commit).await?;
    app.search.metrics.count(&served.name, "deleted", deleted);
    Ok(Json(json!({"deleted": deleted, "committed": committed})).into_response())
}

/// Commits if `commit`, or if many documents are pending; else leaves the changes to a later commit. Returns whether it has committed.
async fn finish(app: &App, mut turn: Turn, commit: bool) -> Result<bool> {
    let many = turn.writer()?.pending() >= MOST_PENDING;
    if commit || many {
        turn.commit(app).await?;
        return Ok(true);
    }
    turn.keep();
    Ok(false)
}

/// The answer to a batch of documents.
#[derive(Serialize)]
struct Upserted {
    added: u64,
    refused: u64,
    /// How many of the added ones were cut to the index's maximum length.
    truncated: u64,
    /// Whether the documents are committed: because the request asked for it, or because many were pending.
    committed: bool,
    errors: Vec<Refused>,
}

/// A document that was not added, and why.
#[derive(Debug, Clone, Serialize)]
struct Refused {
    /// The document's index in the batch, from 0 on; blank lines do not count.
    index: usize,
    message: String,
}

/// `POST /v1/documents`: adds documents; each replaces the one that has its key.
pub(super) async fn upsert(
    State(app): State<Arc<App>>,
    QueryPart(how): QueryPart<HowToWrite>,
    request: Request,
) -> Response {
    upsert_inner(&app, how, request).await.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Reads, embeds and adds the documents of a request. Documents that cannot be read or added are named in the answer; an error only if none
/// was added.
async fn upsert_inner(app: &Arc<App>, how: HowToWrite, request: Request) -> Result<Response> {
    let served = check_write(app, how.index.as_deref())?;
    if how.filter.is_some() {
        return Err(ApiError::invalid("filter", "documents are added whatever they are: `filter` is for DELETE"));
    }
    let form = header_fields::documents(request.headers())?;
    let held = app.held();
    let bytes = read(request.into_body(), app.limits.body_bytes, app.body_idle, &held).await?;
    let at_once = bytes.len() <= PARSED_AT_ONCE;
    let parse = move || -> Result<Batch> {
        // Metadata are trees of values, which take a few times as much memory as lists.
        held.set(Part::Body, 3 * memory::parsed(&bytes))?;
        Batch::parse(&bytes, form)
    };
    let batch = if at_once { parse()? } else { app.beside(parse).await?? };
    app.check_count(batch.documents.len() + batch.refused.len(), "documents")?;
    if let (true, Some(first)) = (batch.documents.is_empty(), batch.refused.first()) {
        return Err(nothing_taken(first));
    }
    let Added { added, truncated, refused, committed } = add(app, &served, batch.documents, how.commit).await?;
    let mut errors = batch.refused;
    errors.extend(refused);
    errors.sort_by_key(|refused| refused.index);
    if let (0, Some(first)) = (added, errors.first()) {
        return Err(nothing_taken(first));
    }
    let refused = errors.len() as u64;
    app.search.metrics.count(&served.name, "added", added);
    app.search.metrics.count(&served.name, "refused", refused);
    errors.truncate(MOST_TOLD);
    Ok(Json(Upserted { added, refused, truncated, committed, errors }).into_response())
}

/// The error for a request of which no document can be added. `first` is the first refused one.
fn nothing_taken(first: &Refused) -> ApiError {
    let what = format!("documents[{}]: {}; nothing else is in the request to be taken", first.index, first.message);
    ApiError::invalid(format!("documents[{}]", first.index), what)
}

/// What [`add`] did with the documents of a request.
#[derive(Debug, Default)]
struct Added {
    /// How many were added.
    added: u64,
    /// How many of those were cut to the index's maximum length.
    truncated: u64,
    /// Documents that the index refused, because they are not valid or an entry of another document has their key.
    refused: Vec<Refused>,
    /// Whether they are committed.
    committed: bool,
}

/// The documents that were read from a request, each with its index in it, and those that could not be read.
#[derive(Debug, Default)]
struct Batch {
    documents: Vec<(usize, Document)>,
    refused: Vec<Refused>,
}

impl Batch {
    /// Reads a body: a JSON list of documents or a single one, or one document on each line.
    fn parse(bytes: &[u8], form: Documents) -> Result<Batch> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let what = format!("the body is not UTF-8 at byte {}", e.valid_up_to());
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", what)
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut batch = Batch::default();
        match form {
            Documents::Lines => {
                let lines = text.split('\n').filter(|line| !line.trim().is_empty());
                lines.enumerate().for_each(|(index, line)| batch.take(index, line));
            }
            Documents::Json if text.trim_start().starts_with('[') => {
                let list: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| not_json(text, &e))?;
                list.into_iter().enumerate().for_each(|(index, value)| batch.take(index, value.get()));
            }
            Documents::Json => {
                let one: &RawValue = serde_json::from_str(text).map_err(|e| not_json(text, &e))?;
                batch.take(0, one.get());
            }
        }
        Ok(batch)
    }

    /// Reads the document `text`, and adds it to the documents or to the refused ones.
    fn take(&mut self, index: usize, text: &str) {
        let value = trivec::json::read(text).map_err(|e| trivec::json::fault_in_line(text, &e));
        match value.and_then(trivec_search::ingest::from_json) {
            Ok(document) => self.documents.push((index, document)),
            Err(message) => self.refused.push(Refused { index, message }),
        }
    }
}

/// Embeds documents through the queue, a part at a time, and adds them to the index; then commits if `commit`.
async fn add(app: &Arc<App>, served: &Arc<Served>, batch: Vec<(usize, Document)>, commit: bool) -> Result<Added> {
    let model = app.model();
    let options = served.encoder(&model)?.document_options();
    let wanted = Wanted { normalize: options.normalize, ..options.modes.into() };
    let (places, documents): (Vec<usize>, Vec<Document>) = batch.into_iter().unzip();
    let named = |e: ApiError, from: usize| {
        e.at_text(|at| from + at).named(|at| format!("documents[{}]", places.get(at).copied().unwrap_or(at)))
    };
    let texts: Vec<String> = documents.iter().map(Document::searched_text).collect();
    app.held().add(Part::Body, texts.iter().map(|text| text.len() as u64).sum())?;
    let tokenized = app.tokenize_as(&model, &Arc::new(texts), options, 0).await.map_err(|e| named(e, 0))?;
    let total = tokenized.iter().map(|text| cost(text.ids.len())).sum();
    app.check_cost(total)?;
    let parts = parts_of(&tokenized);
    let bytes = |part: &Range<usize>| {
        let of = |text: &Tokenized| memory::embedding(model.info(), wanted.modes, text.ids.len());
        tokenized[part.clone()].iter().map(of).sum::<u64>()
    };
    app.held().set(Part::Results, parts.iter().map(bytes).max().unwrap_or(0))?;
    // The request waits for the writer's turn first, because while it waits it should reserve no room in the queue.
    let mut turn = Turn::take(app, served).await?;
    let room = app.scheduler.reserve(total)?;
    let (mut documents, mut done) = (documents.into_iter().zip(places.iter().copied()), Added::default());
    for part in parts {
        let texts: Vec<&Tokenized> = tokenized[part.clone()].iter().collect();
        let encoded = app.encode_part(&model, &texts, wanted, Some(&room)).await;
        let (mut embeddings, _) = encoded.map_err(|e| named(e, part.start))?;
        for (embedding, text) in embeddings.iter_mut().zip(&texts) {
            embedding.truncated = text.truncated;
        }
        let own: Vec<((Document, usize), Embedding)> = documents.by_ref().take(part.len()).zip(embeddings).collect();
        let work = move |turn: &mut Turn| {
            let writer = turn.writer()?;
            for ((document, index), embedding) in &own {
                match writer.upsert_embedded(document, embedding) {
                    Ok(()) => {
                        done.added += 1;
                        done.truncated += u64::from(embedding.truncated);
                    }
                    Err(e @ Error::Document { .. }) => {
                        done.refused.push(Refused { index: *index, message: e.to_string() });
                    }
                    Err(e) => return Err(e),
                }
            }
            Ok(done)
        };
        (turn, done) = turn.run(app, work).await?;
    }
    drop(room);
    let committed = finish(app, turn, commit).await?;
    Ok(Added { committed, ..done })
}

/// Cuts texts into parts that are embedded together: each has at most [`BATCH_TOKENS`] tokens, or is one longer text.
fn parts_of(texts: &[Tokenized]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut sum = 0;
    for (at, text) in texts.iter().enumerate() {
        let tokens = text.ids.len();
        match parts.last_mut() {
            Some(part) if sum + tokens <= BATCH_TOKENS => {
                sum += tokens;
                part.end = at + 1;
            }
            _ => {
                sum = tokens;
                parts.push(at..at + 1);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_document_is_refused_by_its_index_and_the_others_are_read() {
        let read = |text: &str, form| {
            let batch = Batch::parse(text.as_bytes(), form).unwrap();
            let taken: Vec<(usize, String)> = batch.documents.into_iter().map(|(at, own)| (at, own.key)).collect();
            (taken, batch.refused.into_iter().map(|refused| (refused.index, refused.message)).collect::<Vec<_>>())
        };
        let list = r#"[{"id": "a", "text": "x"}, {"id": "b"}, 5, {"key": "c", "text": "cut \ud83d"}, {"key": "d", "text": "y"}]"#;
        let (taken, refused) = read(list, Documents::Json);
        assert_eq!(taken, [(0, "a".to_owned()), (4, "d".to_owned())]);
        assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(refused[0].1.contains("no `text`") && refused[1].1.contains("no JSON object"), "{refused:?}");
        let (taken, refused) = read("\u{feff}{\"id\": 1, \"text\": \"x\"}\r\n\n{bad\n", Documents::Lines);
        assert_eq!((taken, refused[0].0), (vec![(0, "1".to_owned())], 1));
        assert_eq!(read(r#" {"key": "one", "text": "x"}"#, Documents::Json).0, [(0, "one".to_owned())]);
        assert_eq!(read("[]", Documents::Json), (Vec::new(), Vec::new()));
        for (bad, expected) in [
            ("[", "character 2: it ends before it is complete"),
            ("", "character 1: it ends before it is complete"),
            ("[{}", "character 4: it ends before it is complete"),
            ("[{}] x", "character 6: expected nothing more after the value"),
            ("[\n{\"id\": 1},\n]", "line 3, character 1: expected something after the comma"),
            ("{\"id\": nope}", "character 9: expected a value of JSON"),
        ] {
            let error = Batch::parse(bad.as_bytes(), Documents::Json).unwrap_err();
            let said = format!("the body is not JSON: at {expected}");
            assert_eq!((error.code, error.message), ("invalid_json", said), "{bad}");
        }
        assert_eq!(Batch::parse(b"[\xff]", Documents::Json).unwrap_err().status, 400);
    }

    #[test]
    fn texts_are_embedded_in_parts_of_a_batch() {
        let text = |tokens: usize| Tokenized { ids: vec![0; tokens], truncated: false, prompt_tokens: 0 };
        let texts: Vec<Tokenized> = [4000, 96, 1, 5000, 10].into_iter().map(text).collect();
        assert_eq!(parts_of(&texts), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(parts_of(&[]), Vec::<Range<usize>>::new());
    }
}
