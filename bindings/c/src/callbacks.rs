//! Callbacks: functions of the caller for the progress of a call, and for the library's messages.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Mutex, Once, PoisonError};

use trivec::{Cancel, Progress};

/// A function that the library calls, on the thread of the call, with the number of texts that are done and the number of all. If it returns
/// anything but 0, the call ends with TRIVEC_CANCELLED, also if that was the last text. It must return: no exception, no longjmp.
pub type trivec_progress = Option<unsafe extern "C" fn(user: *mut c_void, done: usize, total: usize) -> i32>;

/// A function that the library calls with messages: `level` is 0 for an error, 1 for information; `message` is UTF-8 that ends with a NUL, and is
/// valid during the call. Any thread may call it, several at a time. It must return: no exception, no longjmp.
pub type trivec_log = Option<unsafe extern "C" fn(user: *mut c_void, level: i32, message: *const c_char)>;

/// The pointer that the caller gave together with a callback, and that each call of it gets.
struct User(*mut c_void);

// SAFETY: the pointer is handed back to the function it came with, on the thread of the call it came with: see `progress`.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl User {
    fn pointer(&self) -> *mut c_void {
        self.0
    }
}

/// A progress that calls the caller's function, if there is one. If the function returns anything but 0, it sets `cancel`.
///
/// # Safety
/// The function can be called with `user` until the call ends. The engine calls it on the thread of the call alone.
pub(crate) unsafe fn progress(function: trivec_progress, user: *mut c_void, cancel: Cancel) -> Option<Progress> {
    let function = function?;
    let user = User(user);
    Some(Progress::new(move |done, total| {
        // SAFETY: the caller's promise.
        if unsafe { function(user.pointer(), done, total) } != 0 {
            cancel.cancel();
        }
    }))
}

/// The function that messages go to, if one was set.
static LOG: Mutex<Option<(unsafe extern "C" fn(*mut c_void, i32, *const c_char), User)>> = Mutex::new(None);

/// From now on tells `function` what happens: models that were loaded, and mistakes inside the library, which otherwise appear on stderr. NULL ends
/// that. One function serves the whole process.
///
/// # Safety
/// `function` is NULL or can be called with `user`, by any thread, until it is replaced and calls that were going on then have ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_set_log(function: trivec_log, user: *mut c_void) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !log(0, &format!("internal error: {panic}")) {
                usual(panic);
            }
        }));
    });
    *LOG.lock().unwrap_or_else(PoisonError::into_inner) = function.map(|function| (function, User(user)));
}

/// Calls the function of [`trivec_set_log`] with a message. Returns whether there is such a function.
pub(crate) fn log(level: i32, message: &str) -> bool {
    let listener = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((function, user)) = listener.as_ref().map(|(function, user)| (*function, user.pointer())) else {
        return false;
    };
    // The lock is not held during the call, because the function may itself call `trivec_set_log`.
    drop(listener);
    let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    // SAFETY: the promise of the caller of `trivec_set_log`.
    unsafe { function(user, level, message.as_ptr()) };
    true
}
