//! What an export says of itself.

use serde::{Deserialize, Serialize};

use super::expected::Expected;
use super::files::ExportedFile;
use super::target::Target;
use crate::settings::ModelId;

/// What is written to `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// For which engine.
    pub target: Target,
    /// The model that made the vectors.
    pub model: ModelId,
    /// Values of a dense vector.
    pub dense_dim: usize,
    /// Values of a ColBERT row, if the export has them.
    pub colbert_dim: Option<usize>,
    /// Documents; one that was cut into chunks counts once.
    pub documents: u64,
    /// What was written of them: documents, and each chunk of those that were cut.
    pub entries: u64,
    /// Entries with lexical weights.
    pub with_sparse: u64,
    /// Entries whose ColBERT rows were cut to the target's limit.
    pub cut_colbert: u64,
    /// Entries whose text or title was cut to the target's limit.
    pub cut_texts: u64,
    /// Entries in which characters that the target refuses were replaced by `U+FFFD`.
    pub replaced_characters: u64,
    /// The files.
    pub files: Vec<ExportedFile>,
    /// Queries to compare a load by.
    pub queries: Vec<Expected>,
}
