//! The native class behind Python's `trivec.Index`. Documents, hits and statistics are passed as JSON, which the Python modules turn into dicts.

use std::path::PathBuf;

use pyo3::prelude::*;
use trivec::EncodeOptions;
use trivec_search::{ColbertBits, Document, Error, Fusion, IndexOptions, ModelId, Query};

use crate::engine::{Engine, detached};
use crate::errors;
use crate::signals::Watch;

/// An index with the model that made its vectors.
#[pyclass(frozen, module = "trivec._trivec")]
pub(crate) struct Index {
    index: trivec_search::Index,
    engine: Py<Engine>,
    id: ModelId,
}

/// The result of a call of the index; its error becomes an exception.
fn answer<T>(py: Python<'_>, result: trivec_search::Result<T>) -> PyResult<T> {
    result.map_err(|error| errors::search(py, &error))
}

/// As [`answer`], for a call that a signal can end: if the call failed and Python has raised an exception meanwhile, that exception.
fn watched<T>(py: Python<'_>, watch: &Watch, result: trivec_search::Result<T>) -> PyResult<T> {
    result.map_err(|error| watch.raised().unwrap_or_else(|| errors::search(py, &error)))
}

fn json<T: serde::Serialize>(py: Python<'_>, value: &T) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| errors::value(py, &error.to_string()))
}

/// Parses a JSON list of documents.
fn documents(py: Python<'_>, text: &str) -> PyResult<Vec<Document>> {
    serde_json::from_str(text).map_err(|error| errors::value(py, &format!("documents: {error}")))
}

#[pymethods]
impl Index {
    /// Opens the index in `directory`, or with `create` makes it if there is none. Options that an index which is there was not made with are
    /// refused; those that are not given are not compared.
    #[staticmethod]
    #[pyo3(signature = (directory, engine, *, create=false, colbert=None, language=None, languages=None, max_length=None,
                        document_prompt=None, query_prompt=None))]
    #[allow(clippy::too_many_arguments, reason = "they are the keywords of a Python call")]
    fn open(
        py: Python<'_>,
        directory: PathBuf,
        engine: Py<Engine>,
        create: bool,
        colbert: Option<&str>,
        language: Option<String>,
        languages: Option<Vec<String>>,
        max_length: Option<usize>,
        document_prompt: Option<String>,
        query_prompt: Option<String>,
    ) -> PyResult<Index> {
        let colbert = answer(py, colbert.map(str::parse::<ColbertBits>).transpose())?;
        let given = move |others: IndexOptions| IndexOptions {
            colbert: colbert.unwrap_or(others.colbert),
            language: language.or(others.language),
            languages: languages.unwrap_or(others.languages),
            max_length: max_length.or(others.max_length),
            document_prompt: document_prompt.or(others.document_prompt),
            query_prompt: query_prompt.or(others.query_prompt),
        };
        let model = &engine.get().model;
        let opened = detached(py, || {
            let id = ModelId::of(model)?;
            let index = match trivec_search::Index::open(&directory) {
                Ok(index) => {
                    // An index of another model is refused here, and not only at the first query.
                    index.encoder(model, &id)?;
                    index.check_options(&given(index.options()))?;
                    index
                }
                Err(Error::NotAnIndex { .. }) if create => {
                    let options = given(IndexOptions::default());
                    options.check(model)?;
                    trivec_search::Index::create(&directory, &id, &options)?
                }
                Err(error) => return Err(error),
            };
            Ok((index, id))
        })?;
        let (index, id) = answer(py, opened)?;
        Ok(Index { index, engine, id })
    }

    /// Deletes the documents with these `keys`, adds documents, each in the place of the one that has its key, and commits: (how many were
    /// added, how many keys were given).
    #[pyo3(signature = (documents_json, keys=Vec::new()))]
    fn change(&self, py: Python<'_>, documents_json: &str, keys: Vec<String>) -> PyResult<(u64, usize)> {
        let documents = documents(py, documents_json)?;
        let model = &self.engine.get().model;
        let watch = Watch::new();
        let embed = |texts: &[String], options: &EncodeOptions| {
            model.encode(texts, &EncodeOptions { cancel: Some(watch.cancel.clone()), ..options.clone() })
        };
        let changed = detached(py, || {
            let encoder = self.index.encoder(model, &self.id)?.with_embed(embed);
            let mut writer = self.index.writer()?;
            keys.iter().try_for_each(|key| writer.delete(key))?;
            writer.upsert(&encoder, &documents)?;
            Ok((writer.finish()?.added, keys.len()))
        })?;
        watched(py, &watch, changed)
    }

    /// The hits of a query, as JSON.
    #[pyo3(signature = (text, *, top=10, filter=None, lang=None, arms=None, rerank=None, explain=false))]
    #[allow(clippy::too_many_arguments, reason = "they are the keywords of a Python call")]
    fn search(
        &self,
        py: Python<'_>,
        text: &str,
        top: usize,
        filter: Option<&str>,
        lang: Option<String>,
        arms: Option<&str>,
        rerank: Option<usize>,
        explain: bool,
    ) -> PyResult<String> {
        let filter = answer(py, filter.map(str::parse).transpose())?;
        let arms = answer(py, arms.map(str::parse).transpose())?;
        let watch = Watch::new();
        let cancel = Some(watch.cancel.clone());
        let mut query = Query { top, filter, lang, explain, cancel, ..Query::new(text) };
        query.arms = arms.unwrap_or(query.arms);
        query.fusion = Fusion::usual(query.arms);
        query.rerank = rerank.unwrap_or(query.rerank);
        let model = &self.engine.get().model;
        let hits = detached(py, || {
            let encoder = self.index.encoder(model, &self.id)?;
            self.index.reader()?.search(&encoder, &query)
        })?;
        json(py, &watched(py, &watch, hits)?)
    }

    /// What is under a key, as JSON: a document, or its chunks.
    fn get(&self, py: Python<'_>, key: &str) -> PyResult<String> {
        let document = detached(py, || self.index.reader()?.get(key))?;
        json(py, &answer(py, document)?)
    }

    /// What the index is and how large, as JSON.
    fn stats(&self, py: Python<'_>) -> PyResult<String> {
        let stats = detached(py, || self.index.stats())?;
        json(py, &answer(py, stats)?)
    }

    /// Rewrites segments without their deleted rows, and merges small ones: how many segments were rewritten.
    #[pyo3(signature = (all=false))]
    fn compact(&self, py: Python<'_>, all: bool) -> PyResult<usize> {
        let compacted = detached(py, || {
            let mut writer = self.index.writer()?;
            let joined = writer.compact(all)?;
            writer.finish()?;
            Ok(joined)
        })?;
        answer(py, compacted)
    }
}
