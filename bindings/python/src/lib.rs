//! The native module `trivec._trivec` of the Python package, which the package's Python modules wrap. It turns Python's values into Rust's,
//! calls the library without the interpreter's lock, and turns the results into numpy arrays, without a copy where this is possible.

mod engine;
mod errors;
mod inputs;
mod search;
mod signals;
mod train;

use numpy::PyReadonlyArray2;
use pyo3::prelude::*;
use trivec::{TokenVectors, similarity};

/// The mean, over the rows of `query`, of the largest dot product with a row of `document`.
#[pyfunction]
fn colbert_score(
    py: Python<'_>,
    query: PyReadonlyArray2<'_, f32>,
    document: PyReadonlyArray2<'_, f32>,
) -> PyResult<f32> {
    let vectors = |array: &PyReadonlyArray2<'_, f32>| {
        let view = array.as_array();
        let dim = view.ncols();
        match (view.nrows(), dim) {
            (_, 0) => Err(errors::value(py, "a ColBERT array has no columns")),
            (0, _) => Err(errors::value(py, "a ColBERT array has no rows: there is no mean of nothing")),
            _ => Ok(TokenVectors::new(view.iter().copied().collect(), dim)),
        }
    };
    let (query, document) = (vectors(&query)?, vectors(&document)?);
    if query.dim() != document.dim() {
        return Err(errors::value(py, &format!("rows of {} values and of {}", query.dim(), document.dim())));
    }
    Ok(py.detach(|| similarity::colbert(&query, &document)))
}

/// Where an installed model lies; None if the name is none of them.
#[pyfunction]
fn locate(py: Python<'_>, name: std::path::PathBuf) -> PyResult<Option<std::path::PathBuf>> {
    match trivec_hub::locate(&name) {
        Ok(trivec_hub::Located::Path(path)) => Ok(path.exists().then_some(path)),
        Ok(trivec_hub::Located::Starter) => Ok(None),
        Err(error) => Err(errors::not_installed(py, &error.to_string(), &name)),
    }
}

/// Where the model lies that is used if none is named; None if none was chosen.
#[pyfunction]
fn locate_default(py: Python<'_>) -> PyResult<Option<std::path::PathBuf>> {
    match trivec_hub::locate_default() {
        Ok(found) => Ok(found.map(|(_, path)| path)),
        Err(error) => Err(errors::value(py, &error.to_string())),
    }
}

/// Names of the instruction sets that this CPU runs, slowest first.
#[pyfunction]
fn instruction_sets() -> Vec<&'static str> {
    trivec::instruction_sets()
}

#[pymodule(gil_used = false)]
fn _trivec(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<search::Index>()?;
    module.add_function(wrap_pyfunction!(colbert_score, module)?)?;
    module.add_function(wrap_pyfunction!(train::train, module)?)?;
    module.add_function(wrap_pyfunction!(locate, module)?)?;
    module.add_function(wrap_pyfunction!(locate_default, module)?)?;
    module.add_function(wrap_pyfunction!(instruction_sets, module)?)
}
