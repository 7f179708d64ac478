//! The type of a search's query, and its checks.

use trivec::Cancel;
use trivec::numbers::grouped;

use super::arms::Arms;
use super::fusion::Fusion;
use crate::analyze::is_blank;
use crate::error::{Error, Result};
use crate::filter::Filter;

/// The largest `top`, `rerank` and `candidates` of a [`Query`].
pub const MAX_TOP: usize = 10_000;

/// Longest query, in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;

/// What to search for, and how.
///
/// ```
/// use trivec_search::{Fusion, Query};
///
/// let query = Query { top: 5, fusion: Fusion::RRF, filter: Some(r#"lang = "en""#.parse()?), ..Query::new("red shoes") };
/// assert!(query.check().is_ok());
/// assert!(Query { top: 1_000_000_000, ..Query::new("red shoes") }.check().is_err());
/// assert!(Query::new(" \n").check().is_err());
/// # Ok::<(), trivec_search::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The text to search for.
    pub text: String,
    /// The code of its language, by whose rules its words are stemmed; `None`: the language is detected among those of the index.
    pub lang: Option<String>,
    /// Which documents may be found.
    pub filter: Option<Filter>,
    /// How many hits are wanted: 0 to [`MAX_TOP`].
    pub top: usize,
    /// Which arms search.
    pub arms: Arms,
    /// How the arms' lists become one.
    pub fusion: Fusion,
    /// How many of the best are reordered by their ColBERT scores, mixed with the share (or by the mix of the fusion `weighted`); 0: none.
    /// If the index stores no ColBERT vectors, none are.
    pub rerank: usize,
    /// Weight of the [share](crate::ArmScores::share) in the reranked score. Not used by the fusion `weighted`.
    pub rerank_share: f32,
    /// How many candidates each arm gives; `top` or `rerank` instead, if one of them is larger.
    pub candidates: usize,
    /// How many threads the search may use, counting the calling one. With 0 it uses as many as the model does, or, without a model, one for
    /// each CPU.
    pub threads: usize,
    /// Whether hits come with their whole explanations.
    pub explain: bool,
    /// Whether hits come with the snippets of their explanations, if not with the whole ones.
    pub snippets: bool,
    /// A flag by which another thread can end the search early, with [`trivec::Error::Cancelled`]. It is looked at in the forward pass, between
    /// blocks of rows in every arm, and before each document that is reranked, read or explained.
    pub cancel: Option<Cancel>,
}

impl Query {
    /// A query for the ten best by all arms, the fusion `share` and a rerank of the best 200.
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
            cancel: None,
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

    /// Checks the text and the options, without an index. What an index lacks of what the query asks for is found when it is searched.
    ///
    /// # Errors
    /// [`Error::Option`] names the first option that cannot be used, what was found and what is allowed.
    pub fn check(&self) -> Result<()> {
        self.check_text()?;
        self.check_options()
    }

    fn check_text(&self) -> Result<()> {
        if is_blank(&self.text) {
            let what = "it has no character that can be seen: there is nothing to search for";
            return Err(Error::option("query", what));
        }
        if self.text.len() > MAX_QUERY_BYTES {
            return Err(Error::option(
                "query",
                format!("{} bytes, expected at most {}", grouped(self.text.len()), grouped(MAX_QUERY_BYTES)),
            ));
        }
        Ok(())
    }

    /// Checks a query whose vectors are given. It needs a text only for the BM25 arm or for explanations.
    pub(crate) fn check_with_vectors(&self) -> Result<()> {
        if self.arms.bm25 || self.explains() {
            self.check_text()?;
        }
        self.check_options()
    }

    /// Checks everything but the text, for callers that do not have the text yet.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_options(&self) -> Result<()> {
        for (option, found) in [("top", self.top), ("rerank", self.rerank), ("candidates", self.candidates)] {
            if found > MAX_TOP {
                return Err(Error::option(
                    option,
                    format!("found {}, expected 0 to {}", grouped(found), grouped(MAX_TOP)),
                ));
            }
        }
        if !(0.0..=1e6).contains(&self.rerank_share) {
            return Err(Error::option("rerank_share", format!("found {}, expected 0 to 1,000,000", self.rerank_share)));
        }
        if self.arms == (Arms { dense: false, bm25: false, sparse: false }) {
            return Err(Error::option("arms", "none is asked for, expected one of dense, bm25, sparse at least"));
        }
        if let (Fusion::Share { .. }, Arms { dense: true, bm25: false, sparse: true }) = (self.fusion, self.arms) {
            let what = "`share` gives the lexical weights no say beside the dense vectors: expected `rrf` or `weighted` \
                        for dense and sparse, or bm25 among the arms";
            return Err(Error::option("fusion", what));
        }
        self.fusion.check()?;
        if !self.fusion.hears(self.arms) {
            let what =
                "its weights give none of the arms that are asked for a say, so every document would have the score 0";
            return Err(Error::option("fusion", what));
        }
        Ok(())
    }
}
