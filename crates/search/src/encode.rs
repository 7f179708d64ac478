//! Embeds documents and queries as an index wants them: with its prompts, its longest length and the representations that it stores.

use std::sync::Arc;

use trivec::{Cancel, Embedding, Model};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// Limits of a batch of entries that are embedded together: their number and their bytes of text. They bound the memory for the vectors
/// too.
pub(crate) const BATCH: usize = 64;
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// A function that embeds texts with a model, or takes their embeddings from a cache.
type Embed<'m> = dyn Fn(&[String], &trivec::EncodeOptions) -> trivec::Result<Vec<Embedding>> + Send + Sync + 'm;

/// A model that was found to be the one of an index, and the settings by which that index embeds texts.
pub struct Encoder<'m> {
    model: &'m Model,
    settings: Arc<Settings>,
    embed: Option<Box<Embed<'m>>>,
}

impl std::fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("model", &self.model).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<'m> Encoder<'m> {
    pub(crate) fn new(model: &'m Model, settings: Arc<Settings>) -> Encoder<'m> {
        Encoder { model, settings, embed: None }
    }

    /// Calls `embed` instead of the model for documents; queries are still embedded by the model. `embed` must return, for each text, the
    /// embedding that the model would compute with the options; it may take embeddings from a cache.
    #[must_use]
    pub fn with_embed(
        self,
        embed: impl Fn(&[String], &trivec::EncodeOptions) -> trivec::Result<Vec<Embedding>> + Send + Sync + 'm,
    ) -> Encoder<'m> {
        Encoder { embed: Some(Box::new(embed)), ..self }
    }

    /// The model.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// The options with which documents are embedded: for callers that embed by themselves and use
    /// [`Writer::upsert_embedded`](crate::Writer::upsert_embedded).
    pub fn document_options(&self) -> trivec::EncodeOptions {
        self.settings.encode_options(&self.settings.document_prompt)
    }

    /// The options with which queries are embedded.
    pub fn query_options(&self) -> trivec::EncodeOptions {
        self.settings.encode_options(&self.settings.query_prompt)
    }

    /// The vectors of documents, in order.
    ///
    /// # Errors
    /// [`Error::Document`] names the document that the model cannot embed; [`Error::Engine`] for other failures of the model;
    /// [`Error::Option`] if the function of [`with_embed`](Self::with_embed) returned another number of embeddings.
    pub fn documents(&self, documents: &[Document]) -> Result<Vec<Embedding>> {
        let texts: Vec<String> = documents.iter().map(Document::searched_text).collect();
        let options = self.document_options();
        let embeddings = match &self.embed {
            Some(embed) => embed(&texts, &options),
            None => self.model.encode(&texts, &options),
        };
        let embeddings = embeddings.map_err(|e| match &e {
            trivec::Error::Input { index, .. } | trivec::Error::NotFinite { index, .. } => {
                match documents.get(*index) {
                    Some(document) => Error::document(&document.key, e.to_string()),
                    None => e.into(),
                }
            }
            _ => e.into(),
        })?;
        match embeddings.len() == documents.len() {
            true => Ok(embeddings),
            false => {
                let what = format!("{} for {} documents", embeddings.len(), documents.len());
                Err(Error::option("embeddings", what))
            }
        }
    }

    /// The vectors of a query.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn query(&self, text: &str) -> Result<Embedding> {
        self.one_query(self.queries(&[text])?)
    }

    /// As [`Encoder::query`], but the call fails with [`trivec::Error::Cancelled`] once `cancel` is set.
    pub(crate) fn query_until(&self, text: &str, cancel: Option<Cancel>) -> Result<Embedding> {
        self.one_query(self.queries_until(&[text], cancel)?)
    }

    fn one_query(&self, mut embeddings: Vec<Embedding>) -> Result<Embedding> {
        embeddings.pop().ok_or_else(|| Error::option("query", "the model gave no embedding"))
    }

    /// The vectors of queries, in order.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn queries<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Embedding>> {
        self.queries_until(texts, None)
    }

    /// As [`Encoder::queries`], but the call fails with [`trivec::Error::Cancelled`] once `cancel` is set.
    pub(crate) fn queries_until<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        cancel: Option<Cancel>,
    ) -> Result<Vec<Embedding>> {
        Ok(self.model.encode(texts, &trivec::EncodeOptions { cancel, ..self.query_options() })?)
    }
}

/// How many of the first documents fit into one batch: at least one, so that a document longer than a batch is a batch by itself.
pub(crate) fn batch_len(documents: &[Document]) -> usize {
    let mut bytes = 0;
    let fits = documents.iter().take(BATCH).take_while(|document| {
        bytes += document.text.len() + document.title.as_deref().map_or(0, str::len);
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}
