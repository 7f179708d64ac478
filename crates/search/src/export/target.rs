//! The engines for which an index can be exported.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An engine, or a kind of files, for which an index is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Qdrant's points.
    Qdrant,
    /// Milvus' rows.
    Milvus,
    /// PostgreSQL with pgvector.
    Pgvector,
    /// Elasticsearch's and OpenSearch's bulk lines.
    Elasticsearch,
    /// Vespa's feed.
    Vespa,
    /// Arrays for NumPy, DuckDB, sqlite-vec and others.
    Npy,
    /// The arrays of [`Target::Npy`] with a script for FAISS.
    Faiss,
    /// The arrays of [`Target::Npy`] with a script for LanceDB.
    Lancedb,
    /// Parquet, if this program was built with it.
    Parquet,
}

/// Targets by their names on the command line.
const NAMES: [(&str, Target); 10] = [
    ("qdrant", Target::Qdrant),
    ("milvus", Target::Milvus),
    ("pgvector", Target::Pgvector),
    ("lancedb", Target::Lancedb),
    ("elasticsearch", Target::Elasticsearch),
    ("opensearch", Target::Elasticsearch),
    ("vespa", Target::Vespa),
    ("faiss", Target::Faiss),
    ("npy", Target::Npy),
    ("parquet", Target::Parquet),
];

impl Target {
    /// Whether the engine has ids, which are made of the keys, and so keeps only one of several entries with the same key.
    pub(super) fn has_ids(self) -> bool {
        match self {
            Target::Qdrant | Target::Milvus | Target::Pgvector | Target::Elasticsearch | Target::Vespa => true,
            Target::Npy | Target::Faiss | Target::Lancedb | Target::Parquet => false,
        }
    }
}

impl std::str::FromStr for Target {
    type Err = Error;

    fn from_str(name: &str) -> Result<Target> {
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, target)| target).ok_or_else(|| {
            let is_built = |target: Target| target != Target::Parquet || cfg!(feature = "parquet");
            let known: Vec<&str> =
                NAMES.iter().filter(|&&(_, target)| is_built(target)).map(|&(name, _)| name).collect();
            Error::option("to", format!("found `{}`, expected one of {}", name.escape_debug(), known.join(", ")))
        })
    }
}
