//! The calls that embed texts and sequences of token ids.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

use trivec::{Cancel, Embedding, EncodeOptions, Model, Modes, Prompt, SpecialTokens};

use crate::arguments::{Versioned, array, buffer, fill, object, place, structure, text, trivec_text};
use crate::callbacks::{self, trivec_progress};
use crate::cancel::trivec_cancel;
use crate::error::{Failure, guard, trivec_error, trivec_status};
use crate::load::{TRIVEC_COLBERT, TRIVEC_DENSE, TRIVEC_SPARSE, trivec_model};
use crate::result::trivec_result;

/// What to compute of each text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct trivec_encode_options {
    /// The size of this structure: set by trivec_encode_options_init.
    pub struct_size: usize,
    /// TRIVEC_DENSE, TRIVEC_SPARSE, TRIVEC_COLBERT, added up. TRIVEC_DENSE by default.
    pub modes: u32,
    /// Whether dense vectors are given the length 1: 1 yes, 0 no, -1 as the model's files say (the default).
    pub normalize: i32,
    /// Tokens kept of each text, 2 to the model's; 0: the model's.
    pub max_length: usize,
    /// Leading values of the dense vector to keep; 0: all.
    pub dimensions: usize,
    /// Leading values of the ColBERT vectors to keep; 0: all.
    pub colbert_dimensions: usize,
    /// Whether ColBERT vectors stay as long as they are, instead of being given the length 1. 0 by default.
    pub colbert_raw: i32,
    /// Whether special tokens that are written out in a text ("<s>") are read as text. 0 by default.
    pub literal_specials: i32,
    /// What is put before each text. Without data: the model's default prompt. With data and the size 0: nothing.
    pub prompt: trivec_text,
    /// Ends the call early; may be NULL.
    pub cancel: *const trivec_cancel,
    /// The library calls it to tell how far the call is; may be NULL. If it ends the call, `cancel` is set too, where there is one.
    pub progress: trivec_progress,
    /// What `progress` is given.
    pub progress_user: *mut c_void,
}

// SAFETY: numbers, pointers, and a pointer to a function that may be NULL.
unsafe impl Versioned for trivec_encode_options {
    const DEFAULT: Self = trivec_encode_options {
        struct_size: size_of::<Self>(),
        modes: TRIVEC_DENSE,
        normalize: -1,
        max_length: 0,
        dimensions: 0,
        colbert_dimensions: 0,
        colbert_raw: 0,
        literal_specials: 0,
        prompt: trivec_text { data: ptr::null(), size: 0 },
        cancel: ptr::null(),
        progress: None,
        progress_user: ptr::null_mut(),
    };
    const FIRST_SIZE: usize = size_of::<Self>();
    const NAME: &'static str = "trivec_encode_options";
}

/// Fills the options with their defaults.
///
/// # Safety
/// `options` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_encode_options_init(options: *mut trivec_encode_options) {
    // SAFETY: the caller's promise.
    if let Some(options) = unsafe { options.cast::<MaybeUninit<trivec_encode_options>>().as_mut() } {
        options.write(trivec_encode_options::DEFAULT);
    }
}

/// The modes that are set in `bits`; fails if other bits are set.
fn modes(bits: u32) -> Result<Modes, Failure> {
    let all = TRIVEC_DENSE | TRIVEC_SPARSE | TRIVEC_COLBERT;
    if bits & !all != 0 {
        return Err(Failure::usage(format!(
            "modes: found {bits:#x}, expected a sum of 1 (dense), 2 (sparse) and 4 (ColBERT)"
        )));
    }
    let has = |bit: u32| bits & bit != 0;
    Ok(Modes { dense: has(TRIVEC_DENSE), sparse: has(TRIVEC_SPARSE), colbert: has(TRIVEC_COLBERT) })
}

/// The prompt of a call: a text without data means the model's default prompt.
///
/// # Safety
/// The text's bytes live, unchanged, during the call.
pub(crate) unsafe fn prompt(of: trivec_text) -> Result<Prompt, Failure> {
    if of.data.is_null() && of.size == 0 {
        return Ok(Prompt::Default);
    }
    // SAFETY: the caller's promise.
    match unsafe { text(of, 0) } {
        Ok(text) => Ok(Prompt::Text(text.to_owned())),
        Err(failure) => Err(Failure::usage(format!("prompt: {}", failure.message.trim_start_matches("input 0: ")))),
    }
}

/// How special tokens that are written in a text are read.
pub(crate) fn special_tokens(literal: i32) -> SpecialTokens {
    if literal != 0 { SpecialTokens::Literal } else { SpecialTokens::Parse }
}

/// An option's number; `None` for 0, which means that it is not given.
pub(crate) fn given(number: usize) -> Option<usize> {
    (number != 0).then_some(number)
}

/// The cancel flag of a call: its handle's, or a new one if only `progress` may end the call; `None` if neither is given.
///
/// # Safety
/// `handle` is NULL or a handle that lives during the call.
pub(crate) unsafe fn cancel(handle: *const trivec_cancel, progress: trivec_progress) -> Option<Cancel> {
    // SAFETY: the caller's promise.
    let own = unsafe { handle.as_ref() }.map(|handle| handle.0.clone());
    own.or_else(|| progress.map(|_| Cancel::new()))
}

/// The result of a call; but [`Cancelled`](trivec::Error::Cancelled) if its cancel flag is set, even if everything was computed by then, for
/// example when `progress` set the flag at the last text. So a call that was cancelled never returns a result.
pub(crate) fn unless_cancelled<T>(
    given: Result<T, trivec::Error>,
    cancel: Option<&Cancel>,
) -> Result<T, trivec::Error> {
    match (given, cancel) {
        (Ok(_), Some(cancel)) if cancel.is_cancelled() => Err(trivec::Error::Cancelled),
        (given, _) => given,
    }
}

/// The engine's options from the caller's; fails if one of them makes no sense.
///
/// # Safety
/// As [`structure`], and everything that the options point to lives during the call.
pub(crate) unsafe fn encode_options(options: *const trivec_encode_options) -> Result<EncodeOptions, Failure> {
    // SAFETY: the caller's promise.
    let options = unsafe { structure(options) }?;
    let normalize = match options.normalize {
        -1 => None,
        0 => Some(false),
        1 => Some(true),
        other => return Err(Failure::usage(format!("normalize: found {other}, expected -1, 0 or 1"))),
    };
    // SAFETY: the caller's promise.
    let cancel = unsafe { cancel(options.cancel, options.progress) };
    // SAFETY: the caller's promise.
    let progress = cancel
        .clone()
        .and_then(|cancel| unsafe { callbacks::progress(options.progress, options.progress_user, cancel) });
    Ok(EncodeOptions {
        modes: modes(options.modes)?,
        max_length: given(options.max_length),
        dimensions: given(options.dimensions),
        normalize,
        colbert_dimensions: given(options.colbert_dimensions),
        colbert_raw: options.colbert_raw != 0,
        special_tokens: special_tokens(options.literal_specials),
        // SAFETY: the caller's promise.
        prompt: unsafe { prompt(options.prompt) }?,
        cancel,
        progress,
        ..EncodeOptions::default()
    })
}

/// The texts' embeddings, unless the call was cancelled.
fn encode<T: AsRef<str> + Sync>(
    model: &Model,
    texts: &[T],
    options: &EncodeOptions,
) -> Result<Vec<Embedding>, trivec::Error> {
    unless_cancelled(model.encode(texts, options), options.cancel.as_ref())
}

/// Embeds `count` texts: one entry a text in the result, in their order, with the same bits whatever its neighbours and however many threads.
/// `options` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_encode(
    model: *const trivec_model,
    texts: *const trivec_text,
    count: usize,
    options: *const trivec_encode_options,
    out: *mut *mut trivec_result,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let out = place(out, "out")?;
            out.write(ptr::null_mut());
            let model = object(model, "model")?;
            let options = encode_options(options)?;
            let texts = crate::arguments::texts(texts, count, "texts")?;
            out.write(trivec_result::boxed(encode(&model.model, &texts, &options)?));
            Ok(())
        })
    }
}

/// Embeds `count` sequences of token ids, the sequence i of lengths[i] ids at ids[i], each complete with its special tokens and its prompt.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_encode_ids(
    model: *const trivec_model,
    ids: *const *const u32,
    lengths: *const usize,
    count: usize,
    options: *const trivec_encode_options,
    out: *mut *mut trivec_result,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let out = place(out, "out")?;
            out.write(ptr::null_mut());
            let model = object(model, "model")?;
            let options = encode_options(options)?;
            let (ids, lengths) = (array(ids, count, "ids")?, array(lengths, count, "lengths")?);
            let sequence = |(index, (&ids, &length)): (usize, (&*const u32, &usize))| {
                array(ids, length, "ids").map_err(|failure| Failure { index: Some(index), ..failure })
            };
            let sequences: Vec<&[u32]> = ids.iter().zip(lengths).enumerate().map(sequence).collect::<Result<_, _>>()?;
            let embeddings = model.model.encode_ids(&sequences, &options);
            out.write(trivec_result::boxed(unless_cancelled(embeddings, options.cancel.as_ref())?));
            Ok(())
        })
    }
}

/// How many texts [`trivec_encode_each`] computes before it hands over their results: enough for full batches.
const WINDOW: usize = 256;

/// Writes the dense vectors of `count` texts into `out`, one after another: [count, dense_dim], or [count, options.dimensions]. TRIVEC_USAGE
/// if it has room for fewer floats. Only TRIVEC_DENSE may be asked for. If the call fails, `out` is as it was.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_encode_dense(
    model: *const trivec_model,
    texts: *const trivec_text,
    count: usize,
    options: *const trivec_encode_options,
    out: *mut f32,
    out_floats: usize,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let model = &object(model, "model")?.model;
            let options = encode_options(options)?;
            if options.modes != Modes::DENSE {
                return Err(Failure::usage("modes: this call gives dense vectors alone"));
            }
            let texts = crate::arguments::texts(texts, count, "texts")?;
            // The model's refusals come before those about the buffer.
            model.encode::<&str>(&[], &options)?;
            let dim = options.dimensions.unwrap_or(model.info().dense_dim);
            let needed = count.saturating_mul(dim);
            if out_floats < needed {
                return Err(Failure::usage(format!(
                    "out: room for {out_floats} floats, expected {needed}: {count} texts of {dim}"
                )));
            }
            let out = buffer(out, needed, "out")?;
            write_dense(model, &texts, &options, out, dim)
        })
    }
}

/// Embeds the texts and copies their dense vectors into `out`, `dim` values each.
fn write_dense(
    model: &Model,
    texts: &[&str],
    options: &EncodeOptions,
    out: &mut [MaybeUninit<f32>],
    dim: usize,
) -> Result<(), Failure> {
    let embeddings = encode(model, texts, options)?;
    for (row, embedding) in out.chunks_exact_mut(dim.max(1)).zip(embeddings) {
        fill(row, embedding.dense.unwrap_or_default());
    }
    Ok(())
}

/// A function that the library calls with the result of one text: `one` has the length 1 and is valid during the call. If the function returns
/// anything but 0, the call ends with TRIVEC_CANCELLED, also if that was the last text. It must return: no exception, no longjmp.
pub type trivec_each = Option<unsafe extern "C" fn(user: *mut c_void, index: usize, one: *const trivec_result) -> i32>;

/// Embeds `count` texts, 256 at a time, and hands each one's result over: in their order, on the thread of the call. After each 256 texts their
/// results are handed over before the next ones are computed, so that no more than 256 results are held at a time. Indices in errors, and progress, are those of the whole call.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_encode_each(
    model: *const trivec_model,
    texts: *const trivec_text,
    count: usize,
    options: *const trivec_encode_options,
    each: trivec_each,
    user: *mut c_void,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let model = &object(model, "model")?.model;
            let raw = structure(options)?;
            let each = each.ok_or_else(|| Failure::null("each"))?;
            let options = EncodeOptions { progress: None, ..encode_options(options)? };
            let all = crate::arguments::texts(texts, count, "texts")?;
            encode::<&str>(model, &[], &options)?;
            for (window, texts) in all.chunks(WINDOW).enumerate() {
                let first = window * WINDOW;
                let results = encode(model, texts, &options).map_err(|error| shifted(error, first))?;
                for (at, embedding) in results.into_iter().enumerate() {
                    hand_over(each, user, first + at, embedding)?;
                    unless_cancelled(Ok(()), options.cancel.as_ref())?;
                }
                let done = first + texts.len();
                if let Some(progress) = raw.progress
                    && progress(raw.progress_user, done, count) != 0
                {
                    if let Some(cancel) = &options.cancel {
                        cancel.cancel();
                    }
                    return Err(trivec::Error::Cancelled.into());
                }
            }
            Ok(())
        })
    }
}

/// Turns an error of a window into one of the call: a text's index in it counts from the call's first text. `first` is the window's first text.
fn shifted(error: trivec::Error, first: usize) -> Failure {
    error.at_input(|index| first + index).into()
}

/// Calls the caller's function with the result of one text. Fails with `Cancelled` if it returns anything but 0.
///
/// # Safety
/// The function can be called with `user`.
unsafe fn hand_over(
    each: unsafe extern "C" fn(*mut c_void, usize, *const trivec_result) -> i32,
    user: *mut c_void,
    index: usize,
    embedding: Embedding,
) -> Result<(), Failure> {
    let one = trivec_result::of(vec![embedding]);
    // SAFETY: the caller's promise; the result lives until the function returns.
    match unsafe { each(user, index, &one) } {
        0 => Ok(()),
        _ => Err(trivec::Error::Cancelled.into()),
    }
}
