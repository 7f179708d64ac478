//! Cancel handles, by which other threads end a call.

use trivec::Cancel;

/// Ends calls that were given it, from any thread.
pub struct trivec_cancel(pub(crate) Cancel);

/// A handle that is not set.
#[unsafe(no_mangle)]
pub extern "C" fn trivec_cancel_new() -> *mut trivec_cancel {
    Box::into_raw(Box::new(trivec_cancel(Cancel::new())))
}

/// Ends every call that was given this handle, and every later one, with TRIVEC_CANCELLED: within the time of one layer, and also if all is computed
/// by then and the call has only to return. Any thread may call it, and a signal handler. NULL is allowed and does nothing.
///
/// # Safety
/// `cancel` is NULL or a handle that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_cancel_set(cancel: *const trivec_cancel) {
    // SAFETY: the caller's promise.
    if let Some(cancel) = unsafe { cancel.as_ref() } {
        cancel.0.cancel();
    }
}

/// Frees a handle. A call that is going on with it is not disturbed: it ends if the handle was set before, and otherwise can no longer be ended by
/// it. NULL is allowed and does nothing.
///
/// # Safety
/// `cancel` is NULL or a handle that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_cancel_free(cancel: *mut trivec_cancel) {
    if !cancel.is_null() {
        // SAFETY: it came out of a box, and the caller gives it back.
        drop(unsafe { Box::from_raw(cancel) });
    }
}
