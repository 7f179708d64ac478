//! Turns Rust's errors into Python's exceptions. Their classes are written in Python (`trivec._errors`), because they have several bases.

use std::path::Path;

use pyo3::prelude::*;

/// The exception that `trivec._errors.NAME(*arguments)` makes; `NAME` is a class or a function.
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

/// The exception for an option that makes no sense.
pub(crate) fn value(py: Python<'_>, message: &str) -> PyErr {
    make(py, "OptionError", (message,))
}

/// The exception for an input of the right type whose value cannot be used: a text with a lone surrogate, or a pair that does not have two texts.
pub(crate) fn input(py: Python<'_>, index: usize, what: &str) -> PyErr {
    make(py, "InputError", (format!("input {index}: {what}"), index))
}

/// The exception for an input of the wrong type, such as a number in the place of a text.
pub(crate) fn input_type(py: Python<'_>, index: usize, what: &str) -> PyErr {
    make(py, "InputTypeError", (format!("input {index}: {what}"), index))
}

/// The exception for a known model that is not installed.
pub(crate) fn not_installed(py: Python<'_>, message: &str, name: &Path) -> PyErr {
    make(py, "not_found", (message, name.to_string_lossy().into_owned()))
}

/// The exception for a panic, which is a mistake inside the library.
pub(crate) fn panicked(py: Python<'_>, panic: Box<dyn std::any::Any + Send>) -> PyErr {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    let message = format!("internal error: {}", text.unwrap_or("no reason given"));
    // The destructor of the panic's payload could panic again.
    std::mem::forget(panic);
    make(py, "InternalError", (message,))
}

/// The exception for an error of the engine.
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

/// The exception for an error of an index.
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

/// The exception for an error of training.
pub(crate) fn train(py: Python<'_>, error: &trivec_train::Error) -> PyErr {
    use trivec_train::{Error, ErrorKind};
    let message = error.to_string();
    match error {
        Error::Engine(error) => engine(py, error),
        Error::Io { path, source } => {
            let path = path.to_string_lossy().into_owned();
            make(py, "os_error", (source.raw_os_error(), source.to_string(), path))
        }
        // The exception's `index` counts from 0, lines count from 1.
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
