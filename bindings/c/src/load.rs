//! Loads, describes and frees models.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

use trivec::{LoadOptions, Model, ModelInfo, Modes};

use crate::arguments::{Versioned, array, object, place, string, structure};
use crate::callbacks;
use crate::error::{Failure, guard, trivec_error, trivec_status};

/// A loaded model. It never changes, and any number of threads may use it at a time.
pub struct trivec_model {
    pub(crate) model: Model,
    name: CString,
    weights: CString,
    isa: CString,
    pooling: CString,
}

/// How to load a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct trivec_load_options {
    /// The size of this structure: set by trivec_load_options_init.
    pub struct_size: usize,
    /// Worker threads, 1 to 1024; 0: as many as CPUs this process may use.
    pub threads: usize,
    /// The instruction set by name, one of trivec_instruction_sets; NULL: the best this CPU has.
    pub isa: *const c_char,
    /// Whether to look for NaN and infinities among all weights and to refuse the model if there is one. 1 by default.
    pub check_finite: i32,
    /// Whether to bring a packed file into memory while it is loaded, instead of as it is used. 0 by default.
    pub preload: i32,
}

// SAFETY: numbers and a pointer.
unsafe impl Versioned for trivec_load_options {
    const DEFAULT: Self = trivec_load_options {
        struct_size: size_of::<Self>(),
        threads: 0,
        isa: ptr::null(),
        check_finite: 1,
        preload: 0,
    };
    const FIRST_SIZE: usize = size_of::<Self>();
    const NAME: &'static str = "trivec_load_options";
}

/// Fills the options with their defaults.
///
/// # Safety
/// `options` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_load_options_init(options: *mut trivec_load_options) {
    // SAFETY: the caller's promise.
    if let Some(options) = unsafe { options.cast::<MaybeUninit<trivec_load_options>>().as_mut() } {
        options.write(trivec_load_options::DEFAULT);
    }
}

/// The engine's options from the caller's.
///
/// # Safety
/// As [`structure`]; the options' strings end with a NUL.
unsafe fn load_options(options: *const trivec_load_options) -> Result<LoadOptions, Failure> {
    // SAFETY: the caller's promise.
    let options = unsafe { structure(options) }?;
    // SAFETY: the caller's promise.
    let isa = unsafe { string(options.isa, "isa") }?;
    Ok(LoadOptions {
        threads: (options.threads != 0).then_some(options.threads),
        isa: isa.map(str::to_owned),
        check_finite: options.check_finite != 0,
        preload: options.preload != 0,
        ..LoadOptions::default()
    })
}

/// Loads a model and puts it into `out`; NULL if loading fails.
fn hand_out(
    out: &mut MaybeUninit<*mut trivec_model>,
    load: impl FnOnce() -> trivec::Result<Model>,
) -> Result<(), Failure> {
    out.write(ptr::null_mut());
    let model = load()?;
    let c = |text: &str| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
    let info = model.info();
    callbacks::log(1, &format!("{}: {} layers, {}, {} threads", info.name, info.layers, info.isa, info.threads));
    let (name, weights, isa, pooling) = (c(&info.name), c(&info.weights), c(info.isa), c(&info.pooling));
    out.write(Box::into_raw(Box::new(trivec_model { model, name, weights, isa, pooling })));
    Ok(())
}

/// Loads a packed file, or a directory in Hugging Face layout. Files are mapped: they must stay in place and unchanged while the model lives.
/// `options` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_model_load(
    path: *const c_char,
    options: *const trivec_load_options,
    out: *mut *mut trivec_model,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let out = place(out, "out")?;
            out.write(ptr::null_mut());
            let path = string(path, "path")?.ok_or_else(|| Failure::null("path"))?;
            let options = load_options(options)?;
            hand_out(out, || Model::load_with(Path::new(path), &options))
        })
    }
}

/// Loads the content of a packed file, of which the model keeps a copy. `options` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_model_from_memory(
    bytes: *const u8,
    size: usize,
    options: *const trivec_load_options,
    out: *mut *mut trivec_model,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let out = place(out, "out")?;
            out.write(ptr::null_mut());
            let bytes = array(bytes, size, "bytes")?;
            let options = load_options(options)?;
            hand_out(out, || Model::from_packed_bytes(bytes, &options))
        })
    }
}

/// Loads the small model inside the library, which is good for a first try and not BGE-M3. TRIVEC_UNAVAILABLE if the library was built without
/// it. `options` may be NULL.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_model_starter(
    options: *const trivec_load_options,
    out: *mut *mut trivec_model,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for.
    unsafe {
        guard(error, || {
            let out = place(out, "out")?;
            out.write(ptr::null_mut());
            let options = load_options(options)?;
            starter(out, &options)
        })
    }
}

#[cfg(feature = "starter")]
fn starter(out: &mut MaybeUninit<*mut trivec_model>, options: &LoadOptions) -> Result<(), Failure> {
    hand_out(out, || Model::starter_with(options))
}

#[cfg(not(feature = "starter"))]
fn starter(_: &mut MaybeUninit<*mut trivec_model>, _: &LoadOptions) -> Result<(), Failure> {
    Err(Failure::new(trivec_status::TRIVEC_UNAVAILABLE, "this library was built without the starter model"))
}

/// Frees a model. No other thread may be using it; results that it gave stay. NULL is allowed and does nothing.
///
/// # Safety
/// `model` is NULL or a model that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_model_free(model: *mut trivec_model) {
    if !model.is_null() {
        // SAFETY: it came out of a box, and the caller gives it back.
        drop(unsafe { Box::from_raw(model) });
    }
}

/// What a model is. Set struct_size to the size of this structure before it is asked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct trivec_info {
    /// The size of this structure as the caller knows it.
    pub struct_size: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Width of the token states.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward layers.
    pub ffn: usize,
    /// Rows of the token table.
    pub vocabulary: usize,
    /// Longest input in tokens.
    pub max_length: usize,
    /// Length of the dense vectors; 0 for a reranker.
    pub dense_dim: usize,
    /// Length of the ColBERT vectors; 0 if the model has none.
    pub colbert_dim: usize,
    /// Worker threads, the caller's included.
    pub threads: usize,
    /// What the model can give: TRIVEC_DENSE, TRIVEC_SPARSE, TRIVEC_COLBERT, added up.
    pub modes: u32,
    /// Whether it is a reranker, which scores pairs and embeds nothing.
    pub is_reranker: i32,
    /// Whether dense vectors have the length 1.
    pub dense_normalized: i32,
    /// Nothing: 0.
    pub reserved: u32,
}

/// The dense vector of a text.
pub const TRIVEC_DENSE: u32 = 1;
/// The lexical weights of a text's tokens.
pub const TRIVEC_SPARSE: u32 = 2;
/// A vector for every token of a text.
pub const TRIVEC_COLBERT: u32 = 4;

/// The modes as bits of TRIVEC_DENSE, TRIVEC_SPARSE and TRIVEC_COLBERT.
pub(crate) fn mode_bits(modes: Modes) -> u32 {
    let bit = |has: bool, bit: u32| if has { bit } else { 0 };
    bit(modes.dense, TRIVEC_DENSE) | bit(modes.sparse, TRIVEC_SPARSE) | bit(modes.colbert, TRIVEC_COLBERT)
}

/// The description of a model in C's form.
fn info_of(info: &ModelInfo, struct_size: usize) -> trivec_info {
    trivec_info {
        struct_size,
        layers: info.layers,
        hidden: info.hidden,
        heads: info.heads,
        ffn: info.ffn,
        vocabulary: info.vocabulary,
        max_length: info.max_length,
        dense_dim: info.dense_dim,
        colbert_dim: info.colbert_dim.unwrap_or(0),
        threads: info.threads,
        modes: mode_bits(info.modes),
        is_reranker: info.rerank.into(),
        dense_normalized: info.dense_normalized.into(),
        reserved: 0,
    }
}

/// Says what a model is: fills the first struct_size bytes of `info`. Bytes after the fields that this library knows become 0.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_model_info(
    model: *const trivec_model,
    info: *mut trivec_info,
    error: *mut *mut trivec_error,
) -> trivec_status {
    // SAFETY: the callers' promises of this function are those that the functions here ask for; of `info` so many bytes can be written as its
    // first field says.
    unsafe {
        guard(error, || {
            let model = object(model, "model")?;
            place(info, "info")?;
            let size = info.cast::<usize>().read();
            let least = size_of::<trivec_info>();
            if size < least || isize::try_from(size).is_err() {
                let what = format!(
                    "trivec_info: struct_size is {size}, expected {least} or more: set it to sizeof(trivec_info)"
                );
                return Err(Failure::new(trivec_status::TRIVEC_STRUCT_SIZE, what));
            }
            info.cast::<u8>().write_bytes(0, size);
            info.write(info_of(model.model.info(), size));
            Ok(())
        })
    }
}

/// A text about a model.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum trivec_string {
    /// Where it came from: its path, or "starter".
    TRIVEC_STRING_NAME = 0,
    /// The types of its weights.
    TRIVEC_STRING_WEIGHTS = 1,
    /// The instruction set that it uses.
    TRIVEC_STRING_ISA = 2,
    /// How its dense vector is pooled.
    TRIVEC_STRING_POOLING = 3,
}

/// A text about a model (`which` is a trivec_string), in UTF-8 that ends with a NUL and lives as long as the model. NULL if there is no such text,
/// or no model.
///
/// # Safety
/// `model` is NULL or a model that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_model_string(model: *const trivec_model, which: i32) -> *const c_char {
    // SAFETY: the caller's promise.
    let Some(model) = (unsafe { model.as_ref() }) else { return ptr::null() };
    let texts = [
        (trivec_string::TRIVEC_STRING_NAME, &model.name),
        (trivec_string::TRIVEC_STRING_WEIGHTS, &model.weights),
        (trivec_string::TRIVEC_STRING_ISA, &model.isa),
        (trivec_string::TRIVEC_STRING_POOLING, &model.pooling),
    ];
    texts.iter().find(|(of, _)| *of as i32 == which).map_or(ptr::null(), |(_, text)| text.as_ptr())
}
