//! The manifest of an export.

use serde::{Deserialize, Serialize};

use super::expected::Expected;
use super::files::ExportedFile;
use super::target::Target;
use crate::settings::ModelId;

/// The manifest of an export: the content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The engine for which the export was made.
    pub target: Target,
    /// The model that made the vectors.
    pub model: ModelId,
    /// The number of values of a dense vector.
    pub dense_dim: usize,
    /// The number of values of a ColBERT row, if the export has ColBERT rows.
    pub colbert_dim: Option<usize>,
    /// How many documents were written; one that was cut into chunks counts once.
    pub documents: u64,
    /// How many entries were written: documents that are stored whole, and each chunk of the others.
    pub entries: u64,
    /// How many entries have lexical weights.
    pub with_sparse: u64,
    /// How many entries have more ColBERT rows than the target accepts, and lost the last ones.
    pub cut_colbert: u64,
    /// How many entries have a text or title that was cut to the target's limit.
    pub cut_texts: u64,
    /// How many entries had characters that the target refuses, which were replaced by `U+FFFD`.
    pub replaced_characters: u64,
    /// The files, except the manifest itself.
    pub files: Vec<ExportedFile>,
    /// Queries by which a loaded export can be checked.
    pub queries: Vec<Expected>,
}
