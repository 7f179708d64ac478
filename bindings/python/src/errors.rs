//! Rust's errors as Python's: the classes are Python's own (`trivec._errors`), for they have several bases.

use std::path::Path;

use pyo3::prelude::*;

/// Calls `trivec._errors.NAME(*arguments)`, which makes an exception.
fn make<'py, A>(py: Python<'py>, name: &str, arguments: A) -> PyErr
where
    A: pyo3::call::PyCallArgs<'py>,
{
    let made = py.import("trivec._errors").and_then(|module| module.getattr(name)?.call1(arguments));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// An option makes no sense.
pub(crate) fn value(py: Python<'_>, message: &str) -> PyErr {
    make(py, "OptionError", (message,))
}

/// A text cannot be taken.
pub(crate) fn input(py: Python<'_>, index: usize, what: &str) -> PyErr {
    make(py, "InputError", (format!("input {index}: {what}"), index))
}

/// A text is no text.
pub(crate) fn input_type(py: Python<'_>, index: usize, what: &str) -> PyErr {
    make(py, "InputTypeError", (format!("input {index}: {what}"), index))
}

/// A known model is not installed.
pub(crate) fn not_installed(py: Python<'_>, message: &str, name: &Path) -> PyErr {
    make(py, "not_found", (message, name.to_string_lossy().into_owned()))
}

/// A mistake inside the library, as an ordinary exception.
pub(crate) fn panicked(py: Python<'_>, panic: Box<dyn std::any::Any + Send>) -> PyErr {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    let message = format!("internal error: {}", text.unwrap_or("no reason given"));
    // Its destructor could panic again.
    std::mem::forget(panic);
    make(py, "InternalError", (message,))
}

/// What the engine says.
pub(crate) fn engine(py: Python<'_>, error: &trivec::Error) -> PyErr {
    use trivec::{Error, ErrorKind};
    let message = error.to_string();
    match error {
        Error::Io { path, source } => {
            let path = path.to_string_lossy().into_owned();
            make(py, "os_error", (source.raw_os_error(), source.to_string(), path))
        }
        Error::Input { index, .. } => make(py, "InputError", (message, *index)),
        Error::NotFinite { index, .. } => make(py, "ModelError", (message, *index)),
        other => {
            let class = match other.kind() {
                ErrorKind::Usage => "OptionError",
                ErrorKind::Input => "InputError",
                ErrorKind::ModeUnavailable => "ModeUnavailable",
                ErrorKind::Cancelled => "Cancelled",
                ErrorKind::Io => "Error",
                _ => "ModelError",
            };
            make(py, class, (message,))
        }
    }
}

/// An error of an index as Python's exception.
pub(crate) fn search(py: Python<'_>, error: &trivec_search::Error) -> PyErr {
    use trivec_search::{Error, ErrorKind};
    let message = error.to_string();
    match error {
        Error::Engine(error) => engine(py, error),
        Error::Io { path, source } => {
            let path = path.to_string_lossy().into_owned();
            make(py, "os_error", (source.raw_os_error(), source.to_string(), path))
        }
        Error::NotAnIndex { path, .. } => make(py, "not_found", (message, path.to_string_lossy().into_owned())),
        Error::NoDocument { key } => make(py, "NoDocument", (message, key.clone())),
        other => {
            let class = match other.kind() {
                ErrorKind::Usage => "OptionError",
                ErrorKind::Input => "InputError",
                ErrorKind::Locked => "IndexLocked",
                ErrorKind::Damaged | ErrorKind::Mismatch => "IndexDamaged",
                _ => "Error",
            };
            make(py, class, (message,))
        }
    }
}

/// An error of training as Python's exception.
pub(crate) fn train(py: Python<'_>, error: &trivec_train::Error) -> PyErr {
    use trivec_train::{Error, ErrorKind};
    let message = error.to_string();
    match error {
        Error::Engine(error) => engine(py, error),
        Error::Io { path, source } => {
            let path = path.to_string_lossy().into_owned();
            make(py, "os_error", (source.raw_os_error(), source.to_string(), path))
        }
        // `index` counts from 0, lines from 1.
        Error::Line { line, .. } => make(py, "InputError", (message, line.saturating_sub(1))),
        Error::Overlap { .. } => {
            make(py, "InputError", (format!("{message}; allow_overlap=True takes it all the same"),))
        }
        other => {
            let class = match other.kind() {
                ErrorKind::Usage => "OptionError",
                ErrorKind::Input => "InputError",
                ErrorKind::Locked => "TrainingLocked",
                ErrorKind::Io => "Error",
                _ => "ModelError",
            };
            make(py, class, (message,))
        }
    }
}
