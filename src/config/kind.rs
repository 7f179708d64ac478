//! What a model is for, and how a reranker's logits become scores.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::torch_class;
use crate::error::{Error, Result};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelKind {
    /// Texts in, vectors out: `XLMRobertaModel`, and every other architecture but the reranker's.
    #[default]
    Embedder,
    /// Pairs of texts in, one score a pair out: `XLMRobertaForSequenceClassification` with one label.
    Reranker,
}

/// The function that turns a reranker's logit into its score: sentence-transformers' `activation_fn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScoreActivation {
    #[default]
    Sigmoid,
    Identity,
}

impl ScoreActivation {
    /// The activation for the torch class `class`, which `field` of the file `path` names; an error if it is another class.
    pub(crate) fn by_class(class: &str, field: &str, path: &Path) -> Result<ScoreActivation> {
        match torch_class(class) {
            Some("Sigmoid") => Ok(ScoreActivation::Sigmoid),
            Some("Identity") => Ok(ScoreActivation::Identity),
            _ => {
                let what = format!(
                    "`{field}` is \"{class}\", expected torch's Sigmoid or Identity: set one of them, scores are to be read as that"
                );
                Err(Error::format(path, what))
            }
        }
    }
}
