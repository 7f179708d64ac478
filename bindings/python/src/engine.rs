//! The native class behind Python's `trivec.Model` and `trivec.Reranker`: a model, and the calls of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use trivec::{
    Embedding, EncodeOptions, LexicalWeights, LoadOptions, Model, Modes, Prompt, RerankOptions, Reranked, SpecialTokens,
};

use crate::errors;
use crate::inputs;
use crate::signals::Watch;

/// How many texts `encode` gives to one call of the engine. More texts are given part by part, and each part's results become Python objects
/// before the next. Results have the same bits however the texts are divided.
const PIECE: usize = 2048;

#[pyclass(frozen, module = "trivec._trivec")]
pub(crate) struct Engine {
    pub(crate) model: Model,
}

/// Calls the engine without the interpreter's lock; a panic becomes a Python exception.
pub(crate) fn detached<T: Send>(py: Python<'_>, call: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| catch_unwind(AssertUnwindSafe(call))).map_err(|panic| errors::panicked(py, panic))
}

/// The result of a call of the engine; but the exception that Python raised meanwhile, if it did, even if the call was complete by then.
fn answer<T>(py: Python<'_>, watch: &Watch, result: trivec::Result<T>) -> PyResult<T> {
    match watch.raised() {
        Some(raised) => Err(raised),
        None => result.map_err(|error| errors::engine(py, &error)),
    }
}

/// Loads a model without the interpreter's lock.
fn load(
    py: Python<'_>,
    options: LoadOptions,
    load: impl FnOnce(&LoadOptions) -> trivec::Result<Model> + Send,
) -> PyResult<Engine> {
    let model = detached(py, || load(&options))?.map_err(|error| errors::engine(py, &error))?;
    Ok(Engine { model })
}

/// The prompt of a call: a text, else the name of one of the model's prompts, else the model's default.
fn prompt(text: Option<String>, name: Option<String>) -> Prompt {
    match (text, name) {
        (Some(text), _) => Prompt::Text(text),
        (None, Some(name)) => Prompt::Name(name),
        (None, None) => Prompt::Default,
    }
}

/// Whether special tokens that are written in a text are read as text (`literal`) or as tokens.
fn special(literal: bool) -> SpecialTokens {
    if literal { SpecialTokens::Literal } else { SpecialTokens::Parse }
}

/// The results of a call, which are collected text by text and become Python's arrays.
struct Collected<'py> {
    py: Python<'py>,
    dense: Vec<Vec<f32>>,
    sparse: Vec<Bound<'py, PyAny>>,
    colbert: Vec<Bound<'py, PyAny>>,
    tokens: Vec<usize>,
    truncated: Vec<bool>,
}

impl<'py> Collected<'py> {
    fn new(py: Python<'py>, capacity: usize) -> Self {
        let (tokens, truncated) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Collected { py, dense: Vec::new(), sparse: Vec::new(), colbert: Vec::new(), tokens, truncated }
    }

    /// Adds the results of a text. If `order` has the text's token ids and their weights, the lexical weights are put in the order of the
    /// tokens; else their ids are ascending.
    fn take(&mut self, embedding: Embedding, order: Option<(&[u32], &[f32])>, truncated: bool) -> PyResult<()> {
        let py = self.py;
        self.dense.extend(embedding.dense);
        if let Some(lexical) = embedding.lexical {
            let (of_ids, weights) = match order {
                Some((ids, weights)) => first_seen(ids, weights, &lexical),
                None => (lexical.ids().to_vec(), lexical.weights().to_vec()),
            };
            let pair = (PyArray1::from_vec(py, of_ids), PyArray1::from_vec(py, weights));
            self.sparse.push(pair.into_pyobject(py)?.into_any());
        }
        if let Some(vectors) = embedding.colbert {
            let shape = [vectors.rows(), vectors.dim()];
            // numpy takes over the engine's own memory, without a copy.
            self.colbert.push(PyArray1::from_vec(py, vectors.into_values()).reshape(shape)?.into_any());
        }
        self.tokens.push(embedding.tokens);
        self.truncated.push(truncated);
        Ok(())
    }

    /// The results of all texts as a Python tuple: `(dense | None, [(ids, weights)] | None, [colbert] | None, [tokens], [truncated])`.
    fn finish(self, modes: Modes, dim: usize) -> PyResult<Bound<'py, PyTuple>> {
        let py = self.py;
        let none = || py.None().into_bound(py);
        let dense = match modes.dense {
            true => matrix(py, self.dense, dim)?,
            false => none(),
        };
        let list = |wanted: bool, items| if wanted { PyList::new(py, items).map(Bound::into_any) } else { Ok(none()) };
        let (sparse, colbert) = (list(modes.sparse, self.sparse)?, list(modes.colbert, self.colbert)?);
        let (tokens, truncated) =
            (PyList::new(py, self.tokens)?.into_any(), PyList::new(py, self.truncated)?.into_any());
        inputs::tuple(py, vec![dense, sparse, colbert, tokens, truncated])
    }
}

/// Rows of `dim` values as one array.
fn matrix<'py>(py: Python<'py>, mut rows: Vec<Vec<f32>>, dim: usize) -> PyResult<Bound<'py, PyAny>> {
    let count = rows.len();
    let values = match rows.pop() {
        // The most usual call has one text, whose values are used without a copy.
        Some(only) if count == 1 => only,
        last => {
            let mut values = Vec::with_capacity(count * dim);
            rows.into_iter().chain(last).for_each(|row| values.extend(row));
            values
        }
    };
    Ok(PyArray1::from_vec(py, values).reshape([count, dim])?.into_any())
}

/// The lexical weights in the order in which their ids first occur in the text with a weight above 0. FlagEmbedding's dicts have this order.
fn first_seen(ids: &[u32], token_weights: &[f32], lexical: &LexicalWeights) -> (Vec<u32>, Vec<f32>) {
    let mut left = vec![true; lexical.len()];
    let (mut in_order, mut weights) = (Vec::with_capacity(lexical.len()), Vec::with_capacity(lexical.len()));
    for (id, &weight) in ids.iter().zip(token_weights) {
        if weight > 0.0
            && let Ok(at) = lexical.ids().binary_search(id)
            && std::mem::take(&mut left[at])
        {
            in_order.push(*id);
            weights.push(lexical.weights()[at]);
        }
    }
    (in_order, weights)
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (path, *, threads=None, isa=None, check_finite=true, preload=false))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        threads: Option<usize>,
        isa: Option<String>,
        check_finite: bool,
        preload: bool,
    ) -> PyResult<Engine> {
        let options = LoadOptions { threads, isa, check_finite, preload, ..LoadOptions::default() };
        load(py, options, |options| Model::load_with(&path, options))
    }

    #[staticmethod]
    #[pyo3(signature = (data, *, threads=None, isa=None, check_finite=true))]
    fn from_bytes(
        py: Python<'_>,
        data: &Bound<'_, PyBytes>,
        threads: Option<usize>,
        isa: Option<String>,
        check_finite: bool,
    ) -> PyResult<Engine> {
        let options = LoadOptions { threads, isa, check_finite, ..LoadOptions::default() };
        let bytes = data.as_bytes();
        load(py, options, |options| Model::from_packed_bytes(bytes, options))
    }

    /// What the model is.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (info, facts) = (self.model.info(), PyDict::new(py));
        facts.set_item("name", &info.name)?;
        for (name, number) in [
            ("layers", info.layers),
            ("hidden", info.hidden),
            ("heads", info.heads),
            ("ffn", info.ffn),
            ("vocabulary", info.vocabulary),
            ("parameters", info.parameters),
            ("max_length", info.max_length),
            ("dense_dim", info.dense_dim),
            ("threads", info.threads),
        ] {
            facts.set_item(name, number)?;
        }
        facts.set_item("colbert_dim", info.colbert_dim)?;
        facts.set_item("modes", info.modes.names().collect::<Vec<_>>())?;
        facts.set_item("rerank", info.rerank)?;
        facts.set_item("dense_normalized", info.dense_normalized)?;
        facts.set_item("pooling", &info.pooling)?;
        facts.set_item("weights", &info.weights)?;
        facts.set_item("isa", info.isa)?;
        facts.set_item("prompts", info.prompts.clone())?;
        facts.set_item("default_prompt", &info.default_prompt)?;
        Ok(facts)
    }

    /// Embeds a list of texts. `modes` are dense, sparse and colbert, in this order; see `Collected::finish` for what comes back.
    #[pyo3(signature = (texts, modes, *, max_length=None, dimensions=None, normalize=None, colbert_dimensions=None, colbert_raw=false,
                        literal_specials=false, prompt_text=None, prompt_name=None, in_order=false, progress=None))]
    #[allow(clippy::too_many_arguments, reason = "they are the keywords of a Python call")]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        modes: (bool, bool, bool),
        max_length: Option<usize>,
        dimensions: Option<usize>,
        normalize: Option<bool>,
        colbert_dimensions: Option<usize>,
        colbert_raw: bool,
        literal_specials: bool,
        prompt_text: Option<String>,
        prompt_name: Option<String>,
        in_order: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let texts = inputs::texts(texts)?;
        let modes = Modes { dense: modes.0, sparse: modes.1, colbert: modes.2 };
        let watch = Watch::new();
        let mut options = EncodeOptions {
            modes,
            max_length,
            dimensions,
            normalize,
            colbert_dimensions,
            colbert_raw,
            special_tokens: special(literal_specials),
            prompt: prompt(prompt_text, prompt_name),
            cancel: Some(watch.cancel.clone()),
            ..EncodeOptions::default()
        };
        let dim = dimensions.unwrap_or(self.model.info().dense_dim);
        if texts.is_empty() {
            // Options that make no sense are refused even if there are no texts.
            answer(py, &watch, self.model.encode::<&str>(&[], &options))?;
        }
        let mut collected = Collected::new(py, texts.len());
        for (piece, part) in texts.chunks(PIECE).enumerate() {
            let first = piece * PIECE;
            options.progress = watch.progress(progress.as_ref(), first, texts.len());
            let results = detached(py, || self.ids_and_embeddings(part, &options))?;
            let results = results.map_err(|error| error.at_input(|index| first + index));
            let (ids, embeddings) = answer(py, &watch, results)?;
            for ((ids, truncated), (embedding, weights)) in ids.iter().zip(embeddings) {
                let order = weights.as_deref().filter(|_| in_order).map(|weights| (ids.as_slice(), weights));
                collected.take(embedding, order, *truncated)?;
            }
        }
        collected.finish(modes, dim)
    }

    /// Embeds sequences of token ids, each with its special tokens. A sequence that is empty or too long is refused and never cut. `modes` and
    /// the result are those of `encode`.
    #[pyo3(signature = (ids, modes, *, dimensions=None, normalize=None))]
    fn encode_ids<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        modes: (bool, bool, bool),
        dimensions: Option<usize>,
        normalize: Option<bool>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let ids = inputs::ids(ids)?;
        let modes = Modes { dense: modes.0, sparse: modes.1, colbert: modes.2 };
        let watch = Watch::new();
        let cancel = Some(watch.cancel.clone());
        let options = EncodeOptions { modes, dimensions, normalize, cancel, ..EncodeOptions::default() };
        let results = detached(py, || self.model.encode_ids(&ids, &options))?;
        let mut collected = Collected::new(py, ids.len());
        for embedding in answer(py, &watch, results)? {
            collected.take(embedding, None, false)?;
        }
        collected.finish(modes, dimensions.unwrap_or(self.model.info().dense_dim))
    }

    /// Scores pairs of texts: (logits, scores, tokens, truncated).
    #[pyo3(signature = (pairs, *, max_length=None, max_query=None, max_document=None, literal_specials=false, prompt_text=None,
                        prompt_name=None, progress=None))]
    #[allow(clippy::too_many_arguments, reason = "they are the keywords of a Python call")]
    fn rerank<'py>(
        &self,
        py: Python<'py>,
        pairs: &Bound<'py, PyAny>,
        max_length: Option<usize>,
        max_query: Option<usize>,
        max_document: Option<usize>,
        literal_specials: bool,
        prompt_text: Option<String>,
        prompt_name: Option<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let pairs = inputs::pairs(pairs)?;
        let watch = Watch::new();
        let options = RerankOptions {
            max_length,
            max_query,
            max_document,
            special_tokens: special(literal_specials),
            prompt: prompt(prompt_text, prompt_name),
            cancel: Some(watch.cancel.clone()),
            progress: watch.progress(progress.as_ref(), 0, pairs.len()),
        };
        let results = detached(py, || self.model.rerank_pairs(&pairs, &options))?;
        let results: Vec<Reranked> = answer(py, &watch, results)?;
        let floats = |of: fn(&Reranked) -> f32| PyArray1::from_vec(py, results.iter().map(of).collect()).into_any();
        let tokens: Vec<usize> = results.iter().map(|result| result.tokens).collect();
        let truncated: Vec<bool> = results.iter().map(|result| result.truncated).collect();
        let lists = [PyList::new(py, tokens)?.into_any(), PyList::new(py, truncated)?.into_any()];
        let [tokens, truncated] = lists;
        inputs::tuple(py, vec![floats(|result| result.logit), floats(|result| result.score), tokens, truncated])
    }

    /// The token ids of texts, and whether each was cut: ([[id]], [truncated]).
    #[pyo3(signature = (texts, *, max_length=None, literal_specials=false, prompt_text=None, prompt_name=None))]
    fn token_ids(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyAny>,
        max_length: Option<usize>,
        literal_specials: bool,
        prompt_text: Option<String>,
        prompt_name: Option<String>,
    ) -> PyResult<(Vec<Vec<u32>>, Vec<bool>)> {
        let texts = inputs::texts(texts)?;
        let options = EncodeOptions {
            max_length,
            special_tokens: special(literal_specials),
            prompt: prompt(prompt_text, prompt_name),
            ..EncodeOptions::default()
        };
        let ids = detached(py, || self.model.token_ids_of(&texts, &options))?;
        Ok(ids.map_err(|error| errors::engine(py, &error))?.into_iter().unzip())
    }

    /// The piece of the vocabulary of a token.
    fn piece(&self, id: u32) -> Option<&str> {
        self.model.piece(id)
    }

    /// The text of tokens.
    #[pyo3(signature = (ids, *, skip_special=false))]
    fn decode(&self, py: Python<'_>, ids: Vec<u32>, skip_special: bool) -> PyResult<String> {
        let text = self.model.decode_part(&ids, skip_special, &mut true);
        text.map_err(|id| errors::value(py, &format!("there is no token of the id {id}")))
    }
}

impl Engine {
    /// The token ids of texts, with whether each was cut, and their embeddings.
    #[allow(clippy::type_complexity, reason = "a pair of lists")]
    fn ids_and_embeddings<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        options: &EncodeOptions,
    ) -> trivec::Result<(Vec<(Vec<u32>, bool)>, Vec<(Embedding, Option<Vec<f32>>)>)> {
        let options = EncodeOptions { prompt_tokens: self.model.prompt_tokens(options)?, ..options.clone() };
        let tokenised = self.model.token_ids_of(texts, &options)?;
        let ids: Vec<&[u32]> = tokenised.iter().map(|(ids, _)| ids.as_slice()).collect();
        let embeddings = self.model.encode_ids_weighted(&ids, &options)?;
        Ok((tokenised, embeddings))
    }
}
