//! Embeds the texts on which models are compared.

use std::path::Path;

use crate::embedding::Embedding;
use crate::engine::{EncodeOptions, Model};
use crate::error::{Error, Result};

/// Embeds texts. An error about one text says which model made it, and calls the text by what `name` returns for its index.
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
