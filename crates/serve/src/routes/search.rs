//! `/v1/search`: finds the documents of an index for a query, and says how each was found.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::documents::WhichIndex;
use crate::answer::{JSON, Steps, json};
use crate::app::{App, ms};
use crate::body::{Body, QueryPart};
use crate::error::{ApiError, Dialect, Result};
use crate::fields::whole;
use crate::memory::Part;
use crate::search::Served;
use crate::search::wanted::beside_while_wanted;
use trivec::numbers::grouped;
use trivec::{Cancel, Embedding, Model};
use trivec_cache::Wanted;
use trivec_search::{Arms, Fusion, Hits, MAX_TOP, Query, analyze};

/// The most hits that are explained: an explanation takes about a millisecond and up to a hundred kilobytes.
const MOST_EXPLAINED: usize = 100;

/// Bytes of a candidate in the lists of the arms and in the fused list.
const CANDIDATE: u64 = 512;

/// Bytes of a hit besides its document: ranks, scores, and the structures around them.
const HIT: u64 = 512;

/// The most bytes of an explanation besides the document's text.
const EXPLANATION: u64 = 96 << 10;

/// The body of `/v1/search`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchRequest {
    query: String,
    index: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    top: Option<usize>,
    arms: Option<ArmList>,
    fusion: Option<FusionField>,
    #[serde(default, deserialize_with = "whole")]
    rerank: Option<usize>,
    rerank_share: Option<f32>,
    #[serde(default, deserialize_with = "whole")]
    reranker_top: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    candidates: Option<usize>,
    filter: Option<String>,
    lang: Option<String>,
    explain: Option<bool>,
    snippets: Option<bool>,
}

/// Arms as a list of names, or as on the command line: names separated by commas.
#[derive(Debug)]
struct ArmList(Arms);

impl<'de> Deserialize<'de> for ArmList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = ArmList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of `dense`, `bm25` and `sparse`, or `all`")
            }

            fn visit_str<E: de::Error>(self, names: &str) -> std::result::Result<ArmList, E> {
                names.parse().map(ArmList).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<ArmList, A::Error> {
                let mut arms = Arms { dense: false, bm25: false, sparse: false };
                while let Some(name) = list.next_element::<String>()? {
                    let one: Arms = name.parse().map_err(de::Error::custom)?;
                    arms.dense |= one.dense;
                    arms.bm25 |= one.bm25;
                    arms.sparse |= one.sparse;
                }
                Ok(ArmList(arms))
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// A fusion by its name, as on the command line, or as an object with its numbers.
#[derive(Debug)]
struct FusionField(Fusion);

impl<'de> Deserialize<'de> for FusionField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NameOrNumbers;
        impl<'de> Visitor<'de> for NameOrNumbers {
            type Value = FusionField;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`share`, `rrf`, `weighted`, or an object with its `kind` and numbers")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<FusionField, E> {
                name.parse().map(FusionField).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<FusionField, A::Error> {
                Fusion::deserialize(MapAccessDeserializer::new(map)).map(FusionField)
            }
        }
        deserializer.deserialize_any(NameOrNumbers)
    }
}

/// A request to reorder hits by the service's cross-encoder.
struct Reordered {
    /// The cross-encoder.
    by: Arc<Model>,
    /// How many of the best hits the cross-encoder scores.
    count: usize,
    /// How many hits the answer has.
    top: usize,
}

impl SearchRequest {
    /// The request with the index that its address names, if its body names none. An error if they name different ones.
    fn of_index(mut self, WhichIndex { index }: WhichIndex) -> Result<SearchRequest> {
        if let (Some(address), Some(body)) = (&index, &self.index)
            && address != body
        {
            let what = "the request's address and its body name two indexes, expected one";
            return Err(ApiError::invalid("index", what));
        }
        self.index = self.index.or(index);
        Ok(self)
    }

    /// What the request asks of the service's cross-encoder; `None` if it asks for none.
    fn reordered(&self, app: &App) -> Result<Option<Reordered>> {
        let Some(count) = self.reranker_top.filter(|&count| count > 0) else { return Ok(None) };
        if count > MAX_TOP {
            return Err(ApiError::invalid(
                "reranker_top",
                format!("found {}, expected 0 to {}", grouped(count), grouped(MAX_TOP)),
            ));
        }
        let Some(by) = app.search.reranker().map(Arc::clone) else {
            let what = "this service has no cross-encoder: start it with `--reranker MODEL`";
            return Err(ApiError::invalid("reranker_top", what));
        };
        Ok(Some(Reordered { by, count, top: self.top.unwrap_or_else(|| Query::new("").top) }))
    }

    /// The query; an error if its numbers make no sense.
    fn into_query(self) -> Result<Query> {
        let default = Query::new("");
        let arms = self.arms.map_or(default.arms, |ArmList(arms)| arms);
        let query = Query {
            text: self.query,
            lang: self.lang,
            filter: self.filter.as_deref().map(str::parse).transpose()?,
            // The search finds as many hits as the cross-encoder scores, if those are more than the answer has.
            top: self.top.unwrap_or(default.top).max(self.reranker_top.unwrap_or(0)),
            arms,
            fusion: self.fusion.map_or_else(|| Fusion::usual(arms), |FusionField(fusion)| fusion),
            rerank: self.rerank.unwrap_or(default.rerank),
            rerank_share: self.rerank_share.unwrap_or(default.rerank_share),
            candidates: self.candidates.unwrap_or(default.candidates),
            explain: self.explain.unwrap_or(false),
            snippets: self.snippets.unwrap_or(false),
            threads: 0,
            cancel: None,
        };
        query.check()?;
        if (query.explain || query.snippets) && query.top > MOST_EXPLAINED {
            let option = if self.reranker_top == Some(query.top) { "reranker_top" } else { "top" };
            let what = format!(
                "{option}: found {}, expected at most {MOST_EXPLAINED} with `explain` or `snippets`",
                grouped(query.top)
            );
            return Err(ApiError::invalid(option, what));
        }
        Ok(query)
    }
}

/// `POST /v1/search`.
pub(super) async fn search(
    State(app): State<Arc<App>>,
    QueryPart(which): QueryPart<WhichIndex>,
    Body(request): Body<SearchRequest>,
) -> Response {
    let found = match request.of_index(which) {
        Ok(request) => search_inner(&app, request).await,
        Err(e) => Err(e),
    };
    found.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// Checks the request, embeds the query, searches, and reorders the best hits by the cross-encoder if it is asked for.
async fn search_inner(app: &Arc<App>, request: SearchRequest) -> Result<Response> {
    let served = app.search.get(request.index.as_deref())?;
    let model = app.model();
    let reordered = request.reordered(app)?;
    let query = Query { threads: model.info().threads, ..request.into_query()? };
    check_lang(app, &served, query.lang.as_deref()).await?;
    let begin = Instant::now();
    let embedding = embed(app, &model, &served, &query).await?;
    let encode_ms = ms(begin.elapsed());
    let (arms, with_filter) = (query.arms, query.filter.is_some());
    let question = if reordered.is_some() { query.text.clone() } else { String::new() };
    let mut hits = find(app, &model, &served, query, embedding).await?;
    if let Some(Reordered { by, count, top }) = reordered {
        let begin = Instant::now();
        let texts = hits.texts(count);
        app.held().set(Part::Body, texts.iter().map(|text| text.len() as u64).sum())?;
        let scores = super::rerank::scores(app, &by, &question, texts).await?;
        hits.rerank_by(&scores, begin.elapsed())?;
        hits.hits.truncate(top);
    }
    hits.timings.encode_ms = encode_ms;
    hits.timings.total_ms += encode_ms;
    app.search.metrics.searched(arms, with_filter, &hits.timings);
    answer(app, hits)
}

/// Refuses a language code that is unknown and that no document of the index has, before anything is computed.
async fn check_lang(app: &App, served: &Arc<Served>, code: Option<&str>) -> Result<()> {
    let is_unknown = |code: &&str| !analyze::is_language(&analyze::normalize_code(code));
    let Some(code) = code.filter(is_unknown).map(str::to_owned) else { return Ok(()) };
    // Documents of the index may have the unknown code.
    let served = Arc::clone(served);
    Ok(app.beside(move || served.reader()?.check_lang(&code)).await??)
}

/// The query's vectors, through the queue.
async fn embed(app: &App, model: &Arc<Model>, served: &Served, query: &Query) -> Result<Embedding> {
    let options = served.encoder(model)?.query_options();
    let wanted = Wanted { normalize: options.normalize, ..options.modes.into() };
    let texts = Arc::new(vec![query.text.clone()]);
    let named = |e: ApiError| e.named(|_| "query".to_owned());
    let tokenized = app.tokenize_as(model, &texts, options, 0).await.map_err(named)?;
    app.held().free(Part::Body);
    let (mut embeddings, _) = app.encode(model, &tokenized, wanted).await.map_err(named)?;
    // The embedding was computed from token ids and does not know whether the text was cut.
    let truncated = tokenized.iter().any(|text| text.truncated);
    embeddings.pop().map(|own| Embedding { truncated, ..own }).ok_or_else(ApiError::internal)
}

/// Searches on a blocking thread. When the documents are found, and before they are read, it is known how much memory they take.
async fn find(
    app: &Arc<App>,
    model: &Arc<Model>,
    served: &Arc<Served>,
    query: Query,
    embedding: Embedding,
) -> Result<Hits> {
    let held = app.held();
    let (model, served, own) = (Arc::clone(model), Arc::clone(served), Arc::clone(app));
    let job = move |query: &Query| -> Result<Hits> {
        let reader = served.reader()?;
        // The memory of sets of documents, and of the arms' lists.
        let candidates = query.candidates.max(query.top).max(query.rerank).min(reader.len());
        let lists = (64 << 10) + reader.rows() as u64 / 2 + CANDIDATE * candidates as u64;
        held.set(Part::Tokens, lists)?;
        let best = reader.best(query, &embedding)?;
        let (sum, largest) = best.bytes()?;
        let found = best.len() as u64;
        // Documents are parsed from JSON: text, names and values of the metadata take up to four times its bytes.
        let mut bytes = 4 * sum + HIT * found;
        if query.explain || query.snippets {
            // One document at a time is cut into words and tokens.
            bytes += EXPLANATION * found + 16 * largest;
        }
        held.set(Part::Results, bytes)?;
        Ok(best.hits(&served.encoder(&model)?)?)
    };
    let until_gone = move |cancel: Cancel| {
        let found = job(&Query { cancel: Some(cancel.clone()), ..query });
        if found.is_err() && cancel.is_set() {
            own.search.metrics.cancelled.inc();
        }
        found
    };
    beside_while_wanted(app, until_gone).await?
}

/// Answers with the hits in the same JSON as the library's, written hit by hit.
fn answer(app: &App, mut hits: Hits) -> Result<Response> {
    app.held().free(Part::Tokens);
    let list = std::mem::take(&mut hits.hits);
    let steps = 0..=list.len();
    let mut around = Vec::new();
    json(&mut around, &hits);
    // `hits` is the first field, so the text before and after the list is that of an answer with an empty one.
    const BEGIN: &[u8] = b"{\"hits\":[";
    let rest = around.strip_prefix(BEGIN).ok_or_else(ApiError::internal)?.to_vec();
    let write = move |at: usize, out: &mut Vec<u8>| match list.get(at) {
        None => out.extend_from_slice(&rest),
        Some(hit) => {
            if at > 0 {
                out.push(b',');
            }
            json(out, hit);
        }
    };
    app.answer(JSON, None, Steps::begun_by(|out| out.extend_from_slice(BEGIN), steps, write))
}
