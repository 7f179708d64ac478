//! What a search answers.

use serde::{Deserialize, Serialize};

use super::fusion::Ranked;
use crate::document::Document;
use crate::explanation::Explanation;

/// How long the parts of a search took, in milliseconds. The arms run beside each other.
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
    /// ColBERT scores.
    pub rerank_ms: f64,
    /// Reading documents and explaining hits.
    pub documents_ms: f64,
    /// All of it.
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
    /// The language its words were stemmed by.
    pub lang: String,
    /// Its place and score in each arm.
    pub arms: ArmScores,
    /// What explains it, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// A hit's places and scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmScores {
    /// By the dense vectors' product.
    pub dense: Option<Ranked>,
    /// By BM25.
    pub bm25: Option<Ranked>,
    /// By the lexical weights' product.
    pub sparse: Option<Ranked>,
    /// By MaxSim, among the reranked.
    pub colbert: Option<Ranked>,
    /// By a cross-encoder, among those that it read ([`Hits::rerank_with`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<Ranked>,
    /// The BM25 score as a part of the most that any document could get for this query: 0 to 1. Some 0.4 to 0.5 if it has every word once.
    pub share: f32,
    /// The fused score before the rerank, as [`Hit::score`].
    pub fused: f32,
    /// The place by the fused score, from 1 on.
    pub fused_rank: u32,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hits {
    /// The documents, best first.
    pub hits: Vec<Hit>,
    /// Entries (documents, and each chunk of those that were cut) that the filter let through, of all that live.
    pub searched: usize,
    /// Whether documents were cut into chunks, as [`Reader::has_chunks`](crate::Reader::has_chunks) knows it; if not, an entry is a document.
    #[serde(default)]
    pub in_chunks: bool,
    /// Entries that an arm gave as candidates.
    pub candidates: usize,
    /// Whether the query is longer than the index's maximum length, so that the vectors are of its beginning alone.
    #[serde(default)]
    pub query_truncated: bool,
    /// The largest [share](ArmScores::share) of a document: near 0 where the documents are in another language.
    pub best_share: f32,
    /// The query's words, and how many entries have each.
    pub words: Vec<WordInfo>,
    /// Words that were not looked up because the query has too many: the most frequent ones.
    pub words_dropped: usize,
    /// The languages that the query may be in; one, if that was told or is sure.
    pub languages: Vec<String>,
    /// How long it took.
    pub timings: Timings,
}

/// A word of a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WordInfo {
    /// In lower case; in languages that do not separate words, one or two characters.
    pub word: String,
    /// How many entries of the index have it, in the form that most tells entries apart; those that a filter leaves out count too, and
    /// deleted ones until their files are merged.
    pub documents: u64,
    /// Whether a document has it that was searched: neither deleted nor left out by a filter.
    #[serde(default)]
    pub found: bool,
    /// Its inverse document frequency, in natural logarithms.
    pub idf: f32,
}
