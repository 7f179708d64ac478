//! The results of a call, and the functions that read them. Results own their memory, so they may outlive the model.

use std::ptr;

use trivec::Embedding;

/// What was computed of some texts. It never changes, and any number of threads may read it. Pointers into it are valid until it is freed.
pub struct trivec_result(Vec<Embedding>);

impl trivec_result {
    pub(crate) fn of(embeddings: Vec<Embedding>) -> trivec_result {
        trivec_result(embeddings)
    }

    /// A result that belongs to the C caller, who frees it with trivec_result_free.
    pub(crate) fn boxed(embeddings: Vec<Embedding>) -> *mut trivec_result {
        Box::into_raw(Box::new(Self::of(embeddings)))
    }
}

/// The embedding of the text at `index`; `None` if there is no such text.
///
/// # Safety
/// `result` is NULL or a result that was not freed.
unsafe fn entry<'a>(result: *const trivec_result, index: usize) -> Option<&'a Embedding> {
    // SAFETY: the caller's promise.
    unsafe { result.as_ref() }?.0.get(index)
}

/// Writes `value` to `place`, unless this is NULL.
///
/// # Safety
/// `place` is NULL or can be written.
unsafe fn tell<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { place.write(value) };
    }
}

/// How many texts. 0 of NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_result_len(result: *const trivec_result) -> usize {
    // SAFETY: the caller's promise.
    unsafe { result.as_ref() }.map_or(0, |result| result.0.len())
}

/// The dense vector of a text, and its length in `dim`. NULL and 0 if it was not asked for, or there is no such text. `dim` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_result_dense(
    result: *const trivec_result,
    index: usize,
    dim: *mut usize,
) -> *const f32 {
    // SAFETY: the caller's promise.
    let vector = unsafe { entry(result, index) }.and_then(|entry| entry.dense.as_deref());
    // SAFETY: the caller's promise.
    unsafe { tell(dim, vector.map_or(0, <[f32]>::len)) };
    vector.map_or(ptr::null(), <[f32]>::as_ptr)
}

/// How many tokens of a text have a lexical weight: their ids, ascending, at `ids` and their weights at `weights`. 0 and NULL if they were not
/// asked for, or there is no such text; an empty text has 0. `ids` and `weights` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_result_sparse(
    result: *const trivec_result,
    index: usize,
    ids: *mut *const u32,
    weights: *mut *const f32,
) -> usize {
    // SAFETY: the caller's promise.
    let lexical = unsafe { entry(result, index) }.and_then(|entry| entry.lexical.as_ref());
    // SAFETY: the caller's promise.
    unsafe { tell(ids, lexical.map_or(ptr::null(), |lexical| lexical.ids().as_ptr())) };
    // SAFETY: the caller's promise.
    unsafe { tell(weights, lexical.map_or(ptr::null(), |lexical| lexical.weights().as_ptr())) };
    lexical.map_or(0, |lexical| lexical.len())
}

/// The ColBERT vectors of a text, [rows, dim], one row after another: row i belongs to its token i + 1. NULL and 0 if they were not asked for, or
/// there is no such text. `rows` and `dim` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_result_colbert(
    result: *const trivec_result,
    index: usize,
    rows: *mut usize,
    dim: *mut usize,
) -> *const f32 {
    // SAFETY: the caller's promise.
    let vectors = unsafe { entry(result, index) }.and_then(|entry| entry.colbert.as_ref());
    // SAFETY: the caller's promise.
    unsafe { tell(rows, vectors.map_or(0, |vectors| vectors.rows())) };
    // SAFETY: the caller's promise.
    unsafe { tell(dim, vectors.map_or(0, |vectors| vectors.dim())) };
    vectors.map_or(ptr::null(), |vectors| vectors.as_slice().as_ptr())
}

/// How many tokens of a text went through the model, the special ones included. 0 if there is no such text.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_result_tokens(result: *const trivec_result, index: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { entry(result, index) }.map_or(0, |entry| entry.tokens)
}

/// Whether a text was longer and was cut: 1, or 0.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_result_truncated(result: *const trivec_result, index: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { entry(result, index) }.is_some_and(|entry| entry.truncated).into()
}

/// Frees a result. NULL is allowed and does nothing.
///
/// # Safety
/// `result` is NULL or a result of trivec_encode or trivec_encode_ids that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_result_free(result: *mut trivec_result) {
    if !result.is_null() {
        // SAFETY: it came out of a box, and the caller gives it back.
        drop(unsafe { Box::from_raw(result) });
    }
}
