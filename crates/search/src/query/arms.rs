//! The lists that a search makes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
