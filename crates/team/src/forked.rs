//! Tells whether this process is the one in which a value was created, or a child that `fork` made of it.
//!
//! The child of a `fork` has a copy of all memory and none of the threads but the one that called. Locks that other threads held stay locked in
//! it for ever, so nothing here takes one.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// How many forks lie between the first process and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

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
        // SAFETY: the declaration is that of <pthread.h>; the function it is given lives as long as this library, and adds to a number, which is
        // allowed in the child of any fork.
        let failed = unsafe { pthread_atfork(None, None, Some(in_child)) };
        if failed != 0 {
            WATCHED.store(false, Ordering::SeqCst);
            return Err(std::io::Error::from_raw_os_error(failed));
        }
    }
    Ok(())
}

/// Identifies a process among those forked from it since [`watch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u64);

impl Process {
    pub(crate) fn this() -> Process {
        Process(GENERATION.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn is_this(self) -> bool {
        self.0 == GENERATION.load(Ordering::Relaxed)
    }
}

/// A value that is created at first use. Two threads may both create one; the first is kept. No thread waits for another, which may not
/// exist after a fork.
#[derive(Debug)]
pub(crate) struct Once<T>(AtomicPtr<T>, PhantomData<Box<T>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once(AtomicPtr::new(std::ptr::null_mut()), PhantomData)
    }
}

impl<T> Once<T> {
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
