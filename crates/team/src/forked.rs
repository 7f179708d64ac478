//! Tells whether this process is the one in which a value was created, or a child that `fork` made of it.
//!
//! The child of a `fork` has a copy of all memory and none of the threads but the one that called. Locks that other threads held stay locked in
//! it for ever, so nothing here takes one.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// How many forks lie between this process and the one that called [`watch`] first.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The handler that the system calls in the child of every `fork`.
#[cfg(unix)]
extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Registers a handler that counts forks. Calling it again does no harm.
///
/// # Errors
/// The system's error, which can only be that memory is exhausted.
pub(crate) fn watch() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::ffi::c_int;
        use std::sync::atomic::AtomicBool;
        unsafe extern "C" {
            fn pthread_atfork(
                prepare: Option<extern "C" fn()>,
                parent: Option<extern "C" fn()>,
                child: Option<extern "C" fn()>,
            ) -> c_int;
        }
        static WATCHED: AtomicBool = AtomicBool::new(false);
        if WATCHED.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        // SAFETY: the declaration is that of <pthread.h>; `in_child` lives as long as this library, and only adds to an atomic number, which
        // is allowed in the child of any fork.
        let failed = unsafe { pthread_atfork(None, None, Some(in_child)) };
        if failed != 0 {
            WATCHED.store(false, Ordering::SeqCst);
            return Err(std::io::Error::from_raw_os_error(failed));
        }
    }
    Ok(())
}

/// Tells a process from the processes that were forked from it, or from their children, since [`watch`] was called: holds its [`GENERATION`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u64);

impl Process {
    /// The process that runs this call.
    pub(crate) fn this() -> Process {
        Process(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether this process is the one in which the value was made, and not a child that inherited it.
    #[inline]
    pub(crate) fn is_this(self) -> bool {
        self.0 == GENERATION.load(Ordering::Relaxed)
    }
}

/// A value that is created at first use. If two threads create it at a time, the value that is stored first is used by both. No thread waits
/// for another, because after a fork the other may not exist.
#[derive(Debug)]
pub(crate) struct Once<T>(AtomicPtr<T>, PhantomData<Box<T>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once(AtomicPtr::new(std::ptr::null_mut()), PhantomData)
    }
}

impl<T> Once<T> {
    /// The value, which `make` creates if there is none yet.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> T) -> &T
    where
        T: Send + Sync,
    {
        let mut value = self.0.load(Ordering::Acquire);
        if value.is_null() {
            let made = Box::into_raw(Box::new(make()));
            match self.0.compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => value = made,
                Err(first) => {
                    value = first;
                    // SAFETY: `made` came from a box in this function, and no other thread has seen the pointer.
                    drop(unsafe { Box::from_raw(made) });
                }
            }
        }
        // SAFETY: a pointer that is not null came from a box, has not changed since, and is valid until `self` is dropped, which the borrow does not outlive.
        unsafe { &*value }
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        let value = *self.0.get_mut();
        if !value.is_null() {
            // SAFETY: the pointer came from a box, and no borrow of it outlives `self`.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

#[cfg(test)]
mod tests;
