//! Makes Rust values of the arguments that C callers pass: texts, arrays, and structures, whose size says which version of the header the
//! caller has.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

use crate::error::{Failure, trivec_status};

/// A text: `size` bytes of UTF-8 at `data`. It needs no NUL at its end and may have some inside. `data` may be NULL if `size` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct trivec_text {
    /// The first byte.
    pub data: *const c_char,
    /// How many bytes.
    pub size: usize,
}

/// Returns the object at `pointer`. Fails if this is NULL; `name` is the argument's name in the message.
///
/// # Safety
/// `pointer` is NULL or points to a `T` that lives, unchanged, for as long as it is used.
pub(crate) unsafe fn object<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(name))
}

/// Returns the place at `pointer` for a result. Fails if this is NULL; `name` is the argument's name in the message.
///
/// # Safety
/// `pointer` is NULL or points to memory for a `T` that only this call may write.
pub(crate) unsafe fn place<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut MaybeUninit<T>, Failure> {
    // SAFETY: the caller's promise; what is there need not be a `T` yet.
    unsafe { pointer.cast::<MaybeUninit<T>>().as_mut() }.ok_or_else(|| Failure::null(name))
}

/// Returns the array of `len` elements at `pointer`. If `len` is 0 the array is empty, whatever `pointer` is. Fails if `pointer` is NULL and
/// `len` is not 0, or if so many elements cannot be in memory; `name` is the argument's name in the message.
///
/// # Safety
/// `pointer` is NULL or points to `len` elements that live, unchanged, for as long as they are used.
pub(crate) unsafe fn array<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Failure::null(name));
    }
    check_len::<T>(len, name)?;
    // SAFETY: the caller's promise; the pointer is not NULL, and `check_len` has made sure that the array's size fits `isize`.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Returns the buffer of `len` elements at `pointer`, to be filled with results. An empty one, NULL and `name` are treated as in [`array`].
///
/// # Safety
/// `pointer` is NULL or points to `len` elements which this call alone may write.
pub(crate) unsafe fn buffer<'a, T: Copy>(
    pointer: *mut T,
    len: usize,
    name: &str,
) -> Result<&'a mut [MaybeUninit<T>], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    if pointer.is_null() {
        return Err(Failure::null(name));
    }
    check_len::<T>(len, name)?;
    // SAFETY: the caller's promise; the pointer is not NULL, nothing is read, and `check_len` has made sure that the size fits `isize`.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), len) })
}

/// Refuses an array of more bytes than `isize` can count: no such array can be in memory.
fn check_len<T>(len: usize, name: &str) -> Result<(), Failure> {
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Failure::usage(format!("`{name}` has {len} elements: no array is so large"))),
    }
}

/// Copies values to the front of a buffer that has room for them.
pub(crate) fn fill<T: Copy>(buffer: &mut [MaybeUninit<T>], values: impl IntoIterator<Item = T>) {
    for (place, value) in buffer.iter_mut().zip(values) {
        place.write(value);
    }
}

/// Returns the string at `pointer`, which ends with a NUL; a `pointer` that is NULL counts as no string. Fails if it is not UTF-8.
///
/// # Safety
/// `pointer` is NULL or points to such a string that lives, unchanged, for as long as it is used.
pub(crate) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some).map_err(|_| Failure::usage(format!("`{name}` is not UTF-8")))
}

/// The most bytes of a text.
const MOST_BYTES: usize = i32::MAX as usize;

/// Returns a text as a `&str`. Fails if it is not UTF-8, too long, or NULL with a size; `index` is its place among the call's texts, for the
/// error.
///
/// # Safety
/// The text's bytes live, unchanged, for as long as they are used.
pub(crate) unsafe fn text<'a>(text: trivec_text, index: usize) -> Result<&'a str, Failure> {
    if text.size == 0 {
        return Ok("");
    }
    if text.size > MOST_BYTES {
        return Err(Failure::input(index, &format!("a text of {} bytes, expected at most {MOST_BYTES}", text.size)));
    }
    if text.data.is_null() {
        return Err(Failure::input(index, &format!("its data is NULL, and its size {}", text.size)));
    }
    // SAFETY: the caller's promise; it is not NULL and small enough.
    let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.size) };
    std::str::from_utf8(bytes)
        .map_err(|error| Failure::input(index, &format!("not UTF-8 from byte {} on", error.valid_up_to())))
}

/// Returns the `len` texts at `pointer`, in order. Fails as [`array`] and [`text`] do.
///
/// # Safety
/// As [`array`] and [`text`].
pub(crate) unsafe fn texts<'a>(pointer: *const trivec_text, len: usize, name: &str) -> Result<Vec<&'a str>, Failure> {
    // SAFETY: the caller's promise.
    let texts = unsafe { array(pointer, len, name) }?;
    // SAFETY: the caller's promise.
    texts.iter().enumerate().map(|(index, &of)| unsafe { text(of, index) }).collect()
}

/// A structure whose first field is its size as the caller's header has it, so that later headers can add fields at its end.
///
/// # Safety
/// Any bytes that a C program can write are a valid value of the type: it has only numbers and pointers, and its padding is never read.
pub(crate) unsafe trait Versioned: Copy {
    /// The value that stands for a missing structure, and for fields that an older header does not have.
    const DEFAULT: Self;
    /// The size in the first version of the header: no caller has a smaller one.
    const FIRST_SIZE: usize;
    /// The name of the type.
    const NAME: &'static str;
}

/// Returns a copy of the caller's structure, or the defaults if `pointer` is NULL. Fields that the caller's older header does not have get their
/// defaults. Fails if a newer header's additional bytes, which this library does not know, are not all 0, or if the size is impossible.
///
/// # Safety
/// `pointer` is NULL or points to a `size_t` with the number of bytes, itself included, that can be read there.
pub(crate) unsafe fn structure<T: Versioned>(pointer: *const T) -> Result<T, Failure> {
    let mut value = T::DEFAULT;
    if pointer.is_null() {
        return Ok(value);
    }
    // SAFETY: the caller's promise.
    let size = unsafe { pointer.cast::<usize>().read() };
    let wrong = |what: String| Err(Failure::new(trivec_status::TRIVEC_STRUCT_SIZE, format!("{}: {what}", T::NAME)));
    if size < T::FIRST_SIZE || isize::try_from(size).is_err() {
        return wrong(format!("struct_size is {size}, expected {} or more: see its _init function", T::FIRST_SIZE));
    }
    // SAFETY: the caller's promise: so many bytes can be read.
    let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<MaybeUninit<u8>>(), size) };
    let known = size.min(size_of::<T>());
    // SAFETY: `value` has at least `known` bytes, and the trait says that a C program can write no bytes which are not a `T`.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut value).cast::<MaybeUninit<u8>>(), known) };
    // SAFETY: the caller has filled the structure, whose later versions have no padding at their ends.
    if bytes[known..].iter().any(|byte| unsafe { byte.assume_init() } != 0) {
        return wrong(format!("it has values from byte {known} on, which this version of the library does not know"));
    }
    Ok(value)
}
