//! Embeddings for whoever compares models.

use std::path::Path;

use crate::embedding::Embedding;
use crate::engine::{EncodeOptions, Model};
use crate::error::{Error, Result};

/// Embeddings of texts. An error of one of them says which model's it is, and which text `name` says it is.
pub(super) fn embeddings<S: AsRef<str> + Sync>(
    model: &Model,
    texts: &[S],
    options: &EncodeOptions,
    name: impl Fn(usize) -> String,
) -> Result<Vec<Embedding>> {
    model.encode(texts, options).map_err(|error| match error.of_input() {
        Some((index, what)) => Error::format(Path::new(&model.info().name), format!("{}: {what}", name(index))),
        None => error,
    })
}
