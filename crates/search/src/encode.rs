//! From texts to the vectors of an index.

use std::sync::Arc;

use trivec::{Embedding, Model};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// Entries that are embedded together: so many, or so many bytes of text, for their vectors take memory too.
pub(crate) const BATCH: usize = 64;
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// A model that has been compared with an index, and how the index embeds texts.
#[derive(Debug)]
pub struct Encoder<'m> {
    model: &'m Model,
    settings: Arc<Settings>,
}

impl<'m> Encoder<'m> {
    pub(crate) fn new(model: &'m Model, settings: Arc<Settings>) -> Encoder<'m> {
        Encoder { model, settings }
    }

    /// The model.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// The options that documents are embedded with: for callers that embed by themselves and use
    /// [`Writer::upsert_embedded`](crate::Writer::upsert_embedded).
    pub fn document_options(&self) -> trivec::EncodeOptions {
        self.settings.encode_options(&self.settings.document_prompt)
    }

    /// The options that queries are embedded with.
    pub fn query_options(&self) -> trivec::EncodeOptions {
        self.settings.encode_options(&self.settings.query_prompt)
    }

    /// The vectors of documents, in order.
    ///
    /// # Errors
    /// [`Error::Engine`]; [`Error::Document`] names the document that the model cannot embed.
    pub fn documents(&self, documents: &[Document]) -> Result<Vec<Embedding>> {
        let texts: Vec<String> = documents.iter().map(Document::searched_text).collect();
        self.model.encode(&texts, &self.document_options()).map_err(|e| match &e {
            trivec::Error::Input { index, .. } | trivec::Error::NotFinite { index, .. } => {
                match documents.get(*index) {
                    Some(document) => Error::document(&document.key, e.to_string()),
                    None => e.into(),
                }
            }
            _ => e.into(),
        })
    }

    /// The vectors of a query.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn query(&self, text: &str) -> Result<Embedding> {
        let mut embeddings = self.model.encode(&[text], &self.query_options())?;
        embeddings.pop().ok_or_else(|| Error::option("query", "the model gave no embedding"))
    }

    /// The vectors of queries, in order.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn queries<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Embedding>> {
        Ok(self.model.encode(texts, &self.query_options())?)
    }
}

/// How many of the first documents are embedded together: one at least.
pub(crate) fn batch_len(documents: &[Document]) -> usize {
    let mut bytes = 0;
    let fits = documents.iter().take(BATCH).take_while(|document| {
        bytes += document.text.len() + document.title.as_deref().map_or(0, str::len);
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}
