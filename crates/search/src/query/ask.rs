//! What a search is asked.

use trivec::Cancel;
use trivec::numbers::grouped;

use super::arms::Arms;
use super::fusion::Fusion;
use crate::analyze::is_blank;
use crate::error::{Error, Result};
use crate::filter::Filter;

/// Most documents that can be asked for.
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
    /// Weight of the [share](crate::ArmScores::share) in the reranked score. Not used by the fusion `weighted`.
    pub rerank_share: f32,
    /// How many candidates each arm gives, if `top` and `rerank` are fewer.
    pub candidates: usize,
    /// How many threads the search may use, counting the calling one. With 0 it uses as many as the model does, or, without a model, one for
    /// each CPU.
    pub threads: usize,
    /// Whether hits come with what explains them.
    pub explain: bool,
    /// Whether hits come with the snippet of their explanation, where they do not come with all of it.
    pub snippets: bool,
    /// A flag by which another thread can end the search early, with [`trivec::Error::Cancelled`]. It is looked at in the forward pass, between
    /// blocks of rows in every arm, and before each document that is reranked, read or explained.
    pub cancel: Option<Cancel>,
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

    /// Whether there is a question, and the numbers can be used. Whether an index has what the query asks for is seen when it is searched.
    ///
    /// # Errors
    /// [`Error::Option`] names the first that cannot, what was found and what is allowed.
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

    /// Checks a query whose vectors are given, so that its text is needed only for its words.
    pub(crate) fn check_with_vectors(&self) -> Result<()> {
        if self.arms.bm25 || self.explains() {
            self.check_text()?;
        }
        self.check_options()
    }

    /// Whether everything but the text can be used: for callers that do not have the text yet.
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
