//! The call that scores documents for a query by a reranker.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

use trivec::RerankOptions;

use crate::arguments::{Versioned, buffer, fill, object, structure, text, texts, trivec_text};
use crate::callbacks::{self, trivec_progress};
use crate::cancel::trivec_cancel;
use crate::encode::{cancel, given, prompt, special_tokens, unless_cancelled};
use crate::error::{Failure, guard, trivec_error, trivec_status};
use crate::load::trivec_model;

/// How to rerank.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct trivec_rerank_options {
    /// The size of this structure: set by trivec_rerank_options_init.
    pub struct_size: usize,
    /// Tokens kept of a query and a document together, 17 to the model's; 0: 512, or the model's where that is less.
    pub max_length: usize,
    /// Tokens kept of the query at most; 0: three quarters of max_length.
    pub max_query: usize,
    /// Tokens kept of a document at most; 0: what is left.
    pub max_document: usize,
    /// Whether special tokens that are written out in a text are read as text. 0 by default.
    pub literal_specials: i32,
    /// Nothing: 0.
    pub reserved: u32,
    /// What is put before the query. Without data: the model's default prompt. With data and the size 0: nothing.
    pub prompt: trivec_text,
    /// Ends the call early; may be NULL.
    pub cancel: *const trivec_cancel,
    /// The library calls it to tell how far the call is; may be NULL. If it ends the call, `cancel` is set too, where there is one.
    pub progress: trivec_progress,
    /// What `progress` is given.
    pub progress_user: *mut c_void,
}

// SAFETY: numbers, pointers, and a pointer to a function that may be NULL.
unsafe impl Versioned for trivec_rerank_options {
    const DEFAULT: Self = trivec_rerank_options {
        struct_size: size_of::<Self>(),
        max_length: 0,
        max_query: 0,
        max_document: 0,
        literal_specials: 0,
        reserved: 0,
        prompt: trivec_text { data: ptr::null(), size: 0 },
        cancel: ptr::null(),
        progress: None,
        progress_user: ptr::null_mut(),
    };
    const FIRST_SIZE: usize = size_of::<Self>();
    const NAME: &'static str = "trivec_rerank_options";
}

/// Fills the options with their defaults.
///
/// # Safety
/// `options` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_rerank_options_init(options: *mut trivec_rerank_options) {
    // SAFETY: the caller's promise.
    if let Some(options) = unsafe { options.cast::<MaybeUninit<trivec_rerank_options>>().as_mut() } {
        options.write(trivec_rerank_options::DEFAULT);
    }
}

/// The engine's options from the caller's.
///
/// # Safety
/// As [`structure`], and everything that the options point to lives during the call.
unsafe fn rerank_options(options: *const trivec_rerank_options) -> Result<RerankOptions, Failure> {
    // SAFETY: the caller's promise.
    let options = unsafe { structure(options) }?;
    // SAFETY: the caller's promise.
    let cancel = unsafe { cancel(options.cancel, options.progress) };
    // SAFETY: the caller's promise.
    let progress = cancel
        .clone()
        .and_then(|cancel| unsafe { callbacks::progress(options.progress, options.progress_user, cancel) });
    Ok(RerankOptions {
        max_length: given(options.max_length),
        max_query: given(options.max_query),
        max_document: given(options.max_document),
        special_tokens: special_tokens(options.literal_specials),
        // SAFETY: the caller's promise.
        prompt: unsafe { prompt(options.prompt) }?,
        cancel,
        progress,
    })
}

/// How well each of `count` documents answers the query: their logits at `logits`, and at `scores`, which may be NULL, the model's scores: the
/// logits' sigmoids, 0 to 1, or the logits themselves where the model's files say Identity, in the order of the documents. Both have room for
/// `count` floats. `options` may be NULL. An error's index is a document's.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_rerank(
    model: *const trivec_model,
    query: trivec_text,
    documents: *const trivec_text,
    count: usize,
    options: *const trivec_rerank_options,
    logits: *mut f32,
    scores: *mut f32,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let model = object(model, "model")?;
            let options = rerank_options(options)?;
            let query = text(query, 0).map_err(|failure| {
                let what = failure.message.replacen("input 0: ", "query: ", 1);
                Failure { message: what, index: None, ..failure }
            })?;
            let documents = texts(documents, count, "documents")?;
            let logits = buffer(logits, count, "logits")?;
            let results = model.model.rerank(query, &documents, &options);
            let results = unless_cancelled(results, options.cancel.as_ref())?;
            fill(logits, results.iter().map(|result| result.logit));
            if !scores.is_null() {
                fill(buffer(scores, count, "scores")?, results.iter().map(|result| result.score));
            }
            Ok(())
        })
    }
}
