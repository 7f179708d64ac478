//! The types of a search's result.

use serde::{Deserialize, Serialize};

use super::fusion::Ranked;
use crate::document::Document;
use crate::explanation::Explanation;

/// How long the parts of a search took, in milliseconds. The dense arm may run in parallel with the other two. If several queries were
/// searched together, each has an equal share of the time of what was done for all of them at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Embedding the query; 0 if the caller did it.
    pub encode_ms: f64,
    /// Evaluating the filter.
    pub filter_ms: f64,
    /// The dense arm.
    pub dense_ms: f64,
    /// The BM25 arm.
    pub bm25_ms: f64,
    /// The lexical arm.
    pub sparse_ms: f64,
    /// Fusing the lists.
    pub fusion_ms: f64,
    /// Reranking by ColBERT vectors, and by a cross-encoder if there was one.
    pub rerank_ms: f64,
    /// Reading documents and explaining hits.
    pub documents_ms: f64,
    /// The whole search.
    pub total_ms: f64,
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The hit's place, from 1 on.
    pub rank: u32,
    /// 0 to 1: the score that decided the hit's place, divided by the largest possible score. If dense vectors alone were searched, without
    /// a rerank, it is the cosine.
    pub score: f32,
    /// The document, as it was given.
    pub document: Document,
    /// The code of the language by whose rules its words were stemmed.
    pub lang: String,
    /// Its rank and score in each arm.
    pub arms: ArmScores,
    /// What explains it, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// A hit's ranks and scores; `None` for an arm that has not scored it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmScores {
    /// Rank and score by the product of the dense vectors.
    pub dense: Option<Ranked>,
    /// Rank and score by BM25.
    pub bm25: Option<Ranked>,
    /// Rank and score by the product of the lexical weights.
    pub sparse: Option<Ranked>,
    /// Rank and score by MaxSim, among the hits that were reranked.
    pub colbert: Option<Ranked>,
    /// Rank and score by a cross-encoder, among the hits that it read ([`Hits::rerank_with`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<Ranked>,
    /// The BM25 score divided by the largest that any document could get for this query: 0 to 1. About 0.4 to 0.5 if the document has every
    /// word once.
    pub share: f32,
    /// The fused score, by which the hit was ranked before the rerank: 0 to 1, or the cosine, as [`Hit::score`].
    pub fused: f32,
    /// The rank by the fused score, from 1 on.
    pub fused_rank: u32,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hits {
    /// The documents, best first.
    pub hits: Vec<Hit>,
    /// How many entries (documents that are stored whole, and each chunk of the others) are not deleted and fulfil the filter.
    pub searched: usize,
    /// Whether documents were cut into chunks, by [`Reader::has_chunks`](crate::Reader::has_chunks); if not, an entry is a document.
    #[serde(default)]
    pub in_chunks: bool,
    /// How many entries at least one arm gave as candidates.
    pub candidates: usize,
    /// Whether the query is longer than the index's maximum length, so that the vectors are of its beginning alone.
    #[serde(default)]
    pub query_truncated: bool,
    /// The largest [share](ArmScores::share) of a document: near 0 where the documents are in another language.
    pub best_share: f32,
    /// The query's words, and how many entries have each.
    pub words: Vec<WordInfo>,
    /// How many of the query's words were not looked up because it has too many: the most frequent ones.
    pub words_dropped: usize,
    /// The languages that the query may be in; only one if the query names it or it was detected with certainty.
    pub languages: Vec<String>,
    /// How long it took.
    pub timings: Timings,
}

/// A word of a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WordInfo {
    /// The word in lower case; in languages that do not separate words, one or two characters.
    pub word: String,
    /// How many entries of the index have it: of the forms in which it is looked up, the rarest one counts. Entries that a filter leaves
    /// out count too, and deleted ones until their files are merged.
    pub documents: u64,
    /// Whether an entry has it that is neither deleted nor left out by the filter.
    #[serde(default)]
    pub found: bool,
    /// Its inverse document frequency, a natural logarithm.
    pub idf: f32,
}
