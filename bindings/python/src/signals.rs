//! Ends calls of the engine when Ctrl-C is pressed, and calls Python functions with the progress of a call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use trivec::{Cancel, Progress};

/// The time between two checks of Python's signals. A call ends at most this long, and the time of one layer, after Ctrl-C.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// Ends a call of the engine early: if the handler of a signal raises an exception (`KeyboardInterrupt`), or if the progress function does.
/// `raised` is the first such exception, `cancel` the flag that the engine checks.
pub(crate) struct Watch {
    raised: Arc<Mutex<Option<PyErr>>>,
    pub cancel: Cancel,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        let raised = Arc::new(Mutex::new(None));
        let cancel = match on_main_thread() {
            true => asking(Arc::clone(&raised)),
            // Python handles signals on the main thread only, and this call does not block the main thread.
            false => Cancel::new(),
        };
        Watch { raised, cancel }
    }

    /// A progress that calls the Python function `function(before + done, total)`; `None` without a function.
    pub(crate) fn progress(&self, function: Option<&Py<PyAny>>, before: usize, total: usize) -> Option<Progress> {
        let function = function?;
        let function = Python::attach(|py| function.clone_ref(py));
        let own = Watch { raised: Arc::clone(&self.raised), cancel: self.cancel.clone() };
        Some(Progress::new(move |done, _| own.call(|py| function.call1(py, (before + done, total)).map(drop))))
    }

    /// Calls a function of Python from within a call of the engine. An exception that it raises ends the engine's call.
    pub(crate) fn call(&self, function: impl FnOnce(Python<'_>) -> PyResult<()>) {
        if let Err(error) = Python::attach(function) {
            keep(&self.raised, error);
            self.cancel.cancel();
        }
    }

    /// Takes the exception that Python raised during the call, if there is one.
    pub(crate) fn raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Remembers an exception, unless there is an earlier one.
fn keep(raised: &Mutex<Option<PyErr>>, error: PyErr) {
    raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// A cancel flag that lets Python handle its signals whenever the engine checks the flag, but at most once in [`BETWEEN_LOOKS`]. It is set if
/// a handler raises.
fn asking(raised: Arc<Mutex<Option<PyErr>>>) -> Cancel {
    let next = Mutex::new(Instant::now() + BETWEEN_LOOKS);
    Cancel::asking(move || {
        let now = Instant::now();
        {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            if now < *next {
                return false;
            }
            *next = now + BETWEEN_LOOKS;
        }
        match Python::attach(|py| py.check_signals()) {
            Ok(()) => false,
            Err(error) => {
                keep(&raised, error);
                true
            }
        }
    })
}

/// Whether this is the process's main thread; always `true` on other systems than Linux, where it is not known.
fn on_main_thread() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::thread::gettid() == rustix::process::getpid();
    #[cfg(not(target_os = "linux"))]
    true
}
