//! The arms of a search: the ways in which it finds documents, each of which gives a list.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which arms a search uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arms {
    /// Documents with the largest products of dense vectors.
    pub dense: bool,
    /// Documents with the query's words, by BM25.
    pub bm25: bool,
    /// Documents with the largest products of lexical weights.
    pub sparse: bool,
}

impl Arms {
    /// All arms. In an index without lexical weights the arm `sparse` is left out.
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

    /// Parses names separated by commas: `dense`, `bm25` (or `words`), `sparse` (or `lexical`), or `all`.
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
