//! Reads the texts, pairs and token ids that Python callers pass. Texts are borrowed from Python, not copied.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyString, PyTuple};

use crate::errors;

/// The text of a `str`; an exception for another object, or for a lone surrogate. `index` is its place in the call.
fn text(item: &Bound<'_, PyAny>, index: usize) -> PyResult<PyBackedStr> {
    let py = item.py();
    let Ok(text) = item.cast::<PyString>() else {
        let kind = item.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string());
        return Err(errors::input_type(py, index, &format!("expected a str, found {kind}")));
    };
    text.clone()
        .try_into()
        .map_err(|_: PyErr| errors::input(py, index, "it is not Unicode text: it has a lone surrogate"))
}

/// The texts of an iterable of `str`.
pub(crate) fn texts(items: &Bound<'_, PyAny>) -> PyResult<Vec<PyBackedStr>> {
    let mut texts = Vec::with_capacity(items.len().unwrap_or(0));
    for (index, item) in items.try_iter()?.enumerate() {
        texts.push(text(&item?, index)?);
    }
    Ok(texts)
}

/// Pairs of texts: each a tuple, a list or another iterable of two `str`.
pub(crate) fn pairs(items: &Bound<'_, PyAny>) -> PyResult<Vec<(PyBackedStr, PyBackedStr)>> {
    let mut pairs = Vec::with_capacity(items.len().unwrap_or(0));
    for (index, item) in items.try_iter()?.enumerate() {
        let item = item?;
        let parts = match item.is_instance_of::<PyString>() {
            true => None,
            false => item.try_iter().ok().map(|parts| parts.collect::<PyResult<Vec<_>>>()),
        };
        match parts.transpose()?.as_deref() {
            Some([query, document]) => pairs.push((text(query, index)?, text(document, index)?)),
            Some(parts) => {
                let what = format!("expected a pair of texts, found {} values", parts.len());
                return Err(errors::input(item.py(), index, &what));
            }
            None => {
                let kind = item.get_type().name()?;
                return Err(errors::input_type(item.py(), index, &format!("expected a pair of texts, found {kind}")));
            }
        }
    }
    Ok(pairs)
}

/// Sequences of token ids; an exception if an id is no u32.
pub(crate) fn ids(items: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u32>>> {
    let mut all = Vec::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = item?;
        let what = || errors::input_type(item.py(), index, "expected a sequence of token ids from 0 to 4294967295");
        all.push(item.extract::<Vec<u32>>().map_err(|_| what())?);
    }
    Ok(all)
}

/// A Python tuple of these objects.
pub(crate) fn tuple<'py>(py: Python<'py>, items: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, items)
}
