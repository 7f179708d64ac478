//! The calls that turn texts into token ids, and ids into their pieces.

use std::ffi::c_char;
use std::ptr;

use crate::arguments::{buffer, fill, object, place, text, texts, trivec_text};
use crate::encode::{encode_options, trivec_encode_options};
use crate::error::{Failure, guard, trivec_error, trivec_status};
use crate::load::trivec_model;

/// The token ids of a text, special ones included, cut as trivec_encode cuts them: `capacity` of them at the most go to `out`, and their number
/// to `needed`. TRIVEC_USAGE if there are more than `capacity`, unless `out` is NULL and `capacity` 0. `truncated`, which may be NULL, says whether
/// the text was cut to the maximum length. `options` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_tokenize(
    model: *const trivec_model,
    of: trivec_text,
    options: *const trivec_encode_options,
    out: *mut u32,
    capacity: usize,
    needed: *mut usize,
    truncated: *mut i32,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let needed = place(needed, "needed")?;
            needed.write(0);
            let model = object(model, "model")?;
            let options = encode_options(options)?;
            let (ids, cut) = model.model.token_ids(text(of, 0)?, &options)?;
            needed.write(ids.len());
            if !truncated.is_null() {
                truncated.write(cut.into());
            }
            let asks = out.is_null() && capacity == 0;
            let out = buffer(out, capacity, "out")?;
            let fits = ids.len() <= capacity;
            let count = ids.len();
            fill(out, ids);
            match fits || asks {
                true => Ok(()),
                false => Err(Failure::usage(format!("out: room for {capacity} ids, expected {count}"))),
            }
        })
    }
}

/// The piece of the vocabulary of a token, `size` bytes of UTF-8 that live as long as the model and do not end with a NUL. NULL if the id has
/// none, or the model no tokenizer.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_piece(model: *const trivec_model, id: u32, size: *mut usize) -> *const c_char {
    // SAFETY: the caller's promise.
    let piece = unsafe { model.as_ref() }.and_then(|model| model.model.piece(id));
    if !size.is_null() {
        // SAFETY: the caller's promise.
        unsafe { size.write(piece.map_or(0, str::len)) };
    }
    piece.map_or(ptr::null(), |piece| piece.as_ptr().cast())
}

/// How many tokens each of `count` texts has, special ones included, once it was cut to the model's maximum length: at `out`, which has room for
/// `count` numbers.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_count_tokens(
    model: *const trivec_model,
    of: *const trivec_text,
    count: usize,
    out: *mut usize,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let model = object(model, "model")?;
            let of = texts(of, count, "texts")?;
            let out = buffer(out, count, "out")?;
            let ids = model.model.token_ids_of(&of, &trivec::EncodeOptions::default())?;
            fill(out, ids.iter().map(|(ids, _)| ids.len()));
            Ok(())
        })
    }
}
