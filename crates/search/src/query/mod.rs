//! Queries: the query is encoded once; the dense, BM25 and lexical arms run in parallel; their lists are fused; ColBERT reorders the best;
//! then the documents are read.

pub(crate) mod bm25;
mod cross;
pub(crate) mod dense;
pub(crate) mod fusion;
pub(crate) mod lexical;
mod rerank;
mod search;
pub(crate) mod topk;

use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::explain::Explanation;
use crate::filter::Filter;
pub use fusion::{Fusion, Ranked};
pub(crate) use rerank::{query_rows, rerank};
pub use search::Best;
pub(crate) use search::Ranking;

/// Most documents that can be asked for.
pub const MAX_TOP: usize = 10_000;

/// Longest query, in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;

/// Which lists a search makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arms {
    /// Of the dense vectors' products.
    pub dense: bool,
    /// Of the words, by BM25.
    pub bm25: bool,
    /// Of the lexical weights' products.
    pub sparse: bool,
}

impl Arms {
    /// All that the index has.
    pub const ALL: Arms = Arms { dense: true, bm25: true, sparse: true };

    pub(crate) fn is_dense_alone(self) -> bool {
        self == (Arms { dense: true, bm25: false, sparse: false })
    }
}

impl Default for Arms {
    fn default() -> Self {
        Arms::ALL
    }
}

impl std::str::FromStr for Arms {
    type Err = Error;

    /// A list of `dense`, `bm25` and `sparse`, or `all`.
    fn from_str(text: &str) -> Result<Arms> {
        let mut arms = Arms { dense: false, bm25: false, sparse: false };
        for name in text.split(',').map(str::trim) {
            match name {
                "dense" => arms.dense = true,
                "bm25" | "words" => arms.bm25 = true,
                "sparse" | "lexical" => arms.sparse = true,
                "all" => arms = Arms::ALL,
                _ => {
                    let what =
                        format!("found `{}`, expected a list of dense, bm25, sparse, or all", name.escape_debug());
                    return Err(Error::option("arms", what));
                }
            }
        }
        Ok(arms)
    }
}

/// What to search for, and how.
///
/// ```
/// use trivec_search::{Fusion, Query};
///
/// let query = Query { top: 5, fusion: Fusion::RRF, filter: Some(r#"lang = "en""#.parse()?), ..Query::new("red shoes") };
/// assert!(query.check().is_ok());
/// assert!(Query { top: 1_000_000_000, ..Query::new("red shoes") }.check().is_err());
/// # Ok::<(), trivec_search::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The question.
    pub text: String,
    /// Its language, for stemming; `None`: it is detected, among those of the index.
    pub lang: Option<String>,
    /// Which documents may be found.
    pub filter: Option<Filter>,
    /// How many documents: 0 to [`MAX_TOP`].
    pub top: usize,
    /// Which lists are made.
    pub arms: Arms,
    /// How they become one.
    pub fusion: Fusion,
    /// How many of the best are put in the order of their ColBERT scores; 0: none. Without stored ColBERT vectors none are.
    pub rerank: usize,
    /// Weight of the [share](ArmScores::share) in the reranked score. Not used by the fusion `weighted`.
    pub rerank_share: f32,
    /// How many candidates each arm gives, if `top` and `rerank` are fewer.
    pub candidates: usize,
    /// Threads that the search may use, this one among them; 0: as many as the model, or without one
    /// as there are CPUs.
    pub threads: usize,
    /// Whether hits come with what explains them.
    pub explain: bool,
    /// Whether hits come with the snippet of their explanation, where they do not come with all of it.
    pub snippets: bool,
}

impl Query {
    /// The ten best by all arms, `share` and the rerank of 200.
    pub fn new(text: impl Into<String>) -> Query {
        Query {
            text: text.into(),
            lang: None,
            filter: None,
            top: 10,
            arms: Arms::default(),
            fusion: Fusion::default(),
            rerank: 200,
            rerank_share: 0.3,
            candidates: 1_000,
            threads: 0,
            explain: false,
            snippets: false,
        }
    }

    /// How many threads it uses.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Whether hits are explained, in whole or by a snippet.
    pub(crate) fn explains(&self) -> bool {
        self.explain || self.snippets
    }

    /// Whether the numbers can be used.
    ///
    /// # Errors
    /// [`Error::Option`] names the first that cannot, what was found and what is allowed.
    pub fn check(&self) -> Result<()> {
        for (option, found) in [("top", self.top), ("rerank", self.rerank), ("candidates", self.candidates)] {
            if found > MAX_TOP {
                return Err(Error::option(option, format!("found {found}, expected 0 to {MAX_TOP}")));
            }
        }
        if self.text.len() > MAX_QUERY_BYTES {
            return Err(Error::option(
                "query",
                format!("{} bytes, expected at most {MAX_QUERY_BYTES}", self.text.len()),
            ));
        }
        if !(0.0..=1e6).contains(&self.rerank_share) {
            return Err(Error::option("rerank_share", format!("found {}, expected 0 to 1000000", self.rerank_share)));
        }
        if self.arms == (Arms { dense: false, bm25: false, sparse: false }) {
            return Err(Error::option("arms", "none is asked for, expected one of dense, bm25, sparse at least"));
        }
        if let (Fusion::Share { .. }, Arms { dense: true, bm25: false, sparse: true }) = (self.fusion, self.arms) {
            let what = "`share` gives the lexical weights no say beside the dense vectors: expected `rrf` or `weighted` \
                        for dense and sparse, or bm25 among the arms";
            return Err(Error::option("fusion", what));
        }
        self.fusion.check()
    }
}

/// How long the parts of a search took, in milliseconds. The arms run beside each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Embedding the query; 0 if the caller did it.
    pub encode_ms: f64,
    /// Evaluating the filter.
    pub filter_ms: f64,
    /// The dense arm.
    pub dense_ms: f64,
    /// The words' arm.
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
    /// Place, from 1 on.
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
    /// The place by it, from 1 on.
    pub fused_rank: u32,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hits {
    /// The documents, best first.
    pub hits: Vec<Hit>,
    /// Documents that the filter let through, of all that live.
    pub searched: usize,
    /// Documents that an arm gave as candidates.
    pub candidates: usize,
    /// The largest [share](ArmScores::share) of a document: near 0 where the documents are in another language.
    pub best_share: f32,
    /// The query's words, and how many documents have each.
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
    /// How many documents have it, in the form that most tells documents apart.
    pub documents: u64,
    /// Its inverse document frequency, in natural logarithms.
    pub idf: f32,
}
