//! Ctrl-C in the middle of a call, and Python functions that are told of its progress.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use trivec::{Cancel, Progress};

/// The time between two checks of Python's signals. A call ends at most this long, and the time of one layer, after Ctrl-C.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// What ends a call of the engine: a signal whose handler raises (`KeyboardInterrupt`), or an exception of the function that is told of its progress.
pub(crate) struct Watch {
    raised: Arc<Mutex<Option<PyErr>>>,
    pub cancel: Cancel,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        let raised = Arc::new(Mutex::new(None));
        let cancel = match on_main_thread() {
            true => asking(Arc::clone(&raised)),
            // Signals are handled on the main thread alone, which is not held up by this call.
            false => Cancel::new(),
        };
        Watch { raised, cancel }
    }

    /// A progress that calls `function(before + done, total)`; `None` without a function.
    pub(crate) fn progress(&self, function: Option<&Py<PyAny>>, before: usize, total: usize) -> Option<Progress> {
        let function = function?;
        let function = Python::attach(|py| function.clone_ref(py));
        let own = Watch { raised: Arc::clone(&self.raised), cancel: self.cancel.clone() };
        Some(Progress::new(move |done, _| own.call(|py| function.call1(py, (before + done, total)).map(drop))))
    }

    /// Calls Python; what that raises ends the call of the engine.
    pub(crate) fn call(&self, function: impl FnOnce(Python<'_>) -> PyResult<()>) {
        if let Err(error) = Python::attach(function) {
            keep(&self.raised, error);
            self.cancel.cancel();
        }
    }

    /// What Python raised, if that ended the call.
    pub(crate) fn raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn keep(raised: &Mutex<Option<PyErr>>, error: PyErr) {
    raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// A cancel flag that asks Python for a raised signal, at most once in [`BETWEEN_LOOKS`].
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

fn on_main_thread() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::thread::gettid() == rustix::process::getpid();
    #[cfg(not(target_os = "linux"))]
    true
}
