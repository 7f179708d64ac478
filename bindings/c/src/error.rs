//! Statuses, error objects, and the guard that turns every outcome of a call into them.

use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// What became of a call. Later versions may return values that are not listed here: treat them as errors.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum trivec_status {
    /// The call did what it was asked.
    TRIVEC_OK = 0,
    /// An option makes no sense, or a buffer is too small.
    TRIVEC_USAGE = 1,
    /// A text cannot be processed; trivec_error_index says which.
    TRIVEC_INPUT = 2,
    /// A model file is damaged or of a kind that is not run here, or its results are not finite numbers.
    TRIVEC_MODEL = 3,
    /// The model has no head for what was asked, or the library was built without it.
    TRIVEC_UNAVAILABLE = 4,
    /// The system refused to read or map a file, or to start a thread.
    TRIVEC_IO = 5,
    /// The call was ended by its cancel handle or by a callback.
    TRIVEC_CANCELLED = 6,
    /// A pointer that must not be NULL is NULL.
    TRIVEC_NULL_ARGUMENT = 7,
    /// The struct_size of a structure is one that no version of the header has, or it has values that this library does not know.
    TRIVEC_STRUCT_SIZE = 8,
    /// A mistake inside the library. Models stay usable.
    TRIVEC_PANIC = 9,
}

/// An error of a call: what it was, in words.
pub struct trivec_error {
    status: trivec_status,
    message: CString,
    index: Option<usize>,
}

/// Why a call failed; `index` is the text that is to blame, if one is.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: trivec_status,
    pub message: String,
    pub index: Option<usize>,
}

impl Failure {
    pub(crate) fn new(status: trivec_status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into(), index: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Self::new(trivec_status::TRIVEC_USAGE, message)
    }

    /// The failure for an argument that must not be NULL.
    pub(crate) fn null(name: &str) -> Failure {
        Self::new(trivec_status::TRIVEC_NULL_ARGUMENT, format!("`{name}` is NULL"))
    }

    /// The failure for a text that cannot be processed.
    pub(crate) fn input(index: usize, what: &str) -> Failure {
        let message = format!("input {index}: {what}");
        Failure { status: trivec_status::TRIVEC_INPUT, message, index: Some(index) }
    }
}

impl From<trivec::Error> for Failure {
    fn from(error: trivec::Error) -> Failure {
        use trivec::ErrorKind;
        let status = match error.kind() {
            ErrorKind::Usage => trivec_status::TRIVEC_USAGE,
            ErrorKind::Input => trivec_status::TRIVEC_INPUT,
            ErrorKind::Cancelled => trivec_status::TRIVEC_CANCELLED,
            ErrorKind::ModeUnavailable => trivec_status::TRIVEC_UNAVAILABLE,
            ErrorKind::Io => trivec_status::TRIVEC_IO,
            _ => trivec_status::TRIVEC_MODEL,
        };
        let index = match &error {
            trivec::Error::Input { index, .. } | trivec::Error::NotFinite { index, .. } => Some(*index),
            _ => None,
        };
        Failure { status, message: error.to_string(), index }
    }
}

/// Runs `call` and returns its status; a panic is a status too. If `error` is not NULL, it is set to an error object, or to NULL after a success.
///
/// # Safety
/// `error` is NULL, or can be written.
pub(crate) unsafe fn guard(error: *mut *mut trivec_error, call: impl FnOnce() -> Result<(), Failure>) -> trivec_status {
    // After a panic the data of the call is dropped, and a model is never changed, so nothing is left in a broken state.
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
            let message = format!("internal error: {}", text.unwrap_or("no reason given"));
            // The destructor of the panic's payload could panic again.
            std::mem::forget(panic);
            Some(Failure::new(trivec_status::TRIVEC_PANIC, message))
        }
    };
    let status = failure.as_ref().map_or(trivec_status::TRIVEC_OK, |failure| failure.status);
    if !error.is_null() {
        let object = failure.map_or(ptr::null_mut(), |Failure { status, message, index }| {
            let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
            Box::into_raw(Box::new(trivec_error { status, message, index }))
        });
        // SAFETY: the caller's promise.
        unsafe { error.write(object) };
    }
    status
}

/// The status of an error. NULL has TRIVEC_OK.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_error_status(error: *const trivec_error) -> trivec_status {
    // SAFETY: the caller's promise.
    unsafe { error.as_ref() }.map_or(trivec_status::TRIVEC_OK, |error| error.status)
}

/// What went wrong, in UTF-8 that ends with a NUL: it names the file, what was found and what was expected. Valid until the error is freed.
/// NULL has an empty text.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_error_message(error: *const trivec_error) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.as_ptr())
}

/// Which of a call's texts the error is about; SIZE_MAX if it is about none.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_error_index(error: *const trivec_error) -> usize {
    // SAFETY: the caller's promise.
    unsafe { error.as_ref() }.and_then(|error| error.index).unwrap_or(usize::MAX)
}

/// Frees an error. NULL is allowed and does nothing.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_error_free(error: *mut trivec_error) {
    if !error.is_null() {
        // SAFETY: it came out of a box, and the caller gives it back.
        drop(unsafe { Box::from_raw(error) });
    }
}
