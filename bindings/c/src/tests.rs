//! Tests of calls as C programs make them, right and wrong ones.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::arguments::trivec_text;
use crate::cancel::*;
use crate::encode::*;
use crate::error::trivec_status::*;
use crate::error::*;
use crate::load::*;
use crate::rerank::*;
use crate::result::*;
use crate::score::*;
use crate::tokens::*;
use crate::version::*;

fn text(of: &str) -> trivec_text {
    trivec_text { data: of.as_ptr().cast(), size: of.len() }
}

/// What a call returned: its status, and the message and index of its error.
#[derive(Debug)]
struct Outcome(trivec_status, String, usize);

/// Makes a call that may fail; reads and frees its error.
fn outcome(call: impl FnOnce(*mut *mut trivec_error) -> trivec_status) -> Outcome {
    let mut error = null_mut();
    let status = call(&mut error);
    // SAFETY: NULL or an error, which is freed once.
    unsafe {
        assert_eq!(trivec_error_status(error), status);
        assert_eq!(error.is_null(), status == TRIVEC_OK);
        let message = CStr::from_ptr(trivec_error_message(error)).to_str().unwrap().to_owned();
        let index = trivec_error_index(error);
        trivec_error_free(error);
        Outcome(status, message, index)
    }
}

/// Makes a call that must fail with this status and with these words in its message. Returns the index of the error.
#[track_caller]
fn refused(expected: trivec_status, words: &str, call: impl FnOnce(*mut *mut trivec_error) -> trivec_status) -> usize {
    let Outcome(status, message, index) = outcome(call);
    assert_eq!(status, expected, "{message}");
    assert!(message.contains(words), "{message}: {words}");
    index
}

/// A model that is freed when this is dropped.
struct Loaded(*mut trivec_model);

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: it is freed once.
        unsafe { trivec_model_free(self.0) };
    }
}

fn load(name: &str) -> Loaded {
    let path = CString::new(trivec_testing::data(name).to_str().unwrap()).unwrap();
    let mut model = null_mut();
    // SAFETY: the pointers are good or NULL.
    let Outcome(status, message, _) =
        outcome(|error| unsafe { trivec_model_load(path.as_ptr(), null(), &mut model, error) });
    assert_eq!(status, TRIVEC_OK, "{message}");
    Loaded(model)
}

fn embedder() -> Loaded {
    load("models/f32-h64")
}

fn encode_defaults() -> trivec_encode_options {
    let mut options = MaybeUninit::uninit();
    // SAFETY: it is written in full.
    unsafe {
        trivec_encode_options_init(options.as_mut_ptr());
        options.assume_init()
    }
}

const TEXTS: [&str; 3] = ["the cat sat", "", "天気\0がいい"];

fn texts() -> [trivec_text; 3] {
    TEXTS.map(text)
}

#[test]
fn results_equal_those_of_the_engine() {
    let model = embedder();
    let options = trivec_encode_options { modes: 7, ..encode_defaults() };
    let mut result = null_mut();
    // SAFETY: all pointers are good, and the result is freed at the end.
    unsafe {
        let own = texts();
        assert_eq!(trivec_encode(model.0, own.as_ptr(), 3, &options, &mut result, null_mut()), TRIVEC_OK);
        let engine = trivec::EncodeOptions { modes: trivec::Modes::ALL, ..Default::default() };
        let expected = (*model.0).model.encode(&TEXTS, &engine).unwrap();
        assert_eq!(trivec_result_len(result), 3);
        for (index, expected) in expected.iter().enumerate() {
            let (mut dim, mut rows, mut width) = (9, 9, 9);
            let dense = trivec_result_dense(result, index, &mut dim);
            assert_eq!(std::slice::from_raw_parts(dense, dim), expected.dense.as_deref().unwrap());
            let (mut ids, mut weights) = (null(), null());
            let count = trivec_result_sparse(result, index, &mut ids, &mut weights);
            let lexical = expected.lexical.as_ref().unwrap();
            assert_eq!(std::slice::from_raw_parts(ids, count), lexical.ids());
            assert_eq!(std::slice::from_raw_parts(weights, count), lexical.weights());
            let colbert = trivec_result_colbert(result, index, &mut rows, &mut width);
            let vectors = expected.colbert.as_ref().unwrap();
            assert_eq!((rows, width), (vectors.rows(), vectors.dim()));
            assert_eq!(std::slice::from_raw_parts(colbert, rows * width), vectors.as_slice());
            assert_eq!(trivec_result_tokens(result, index), expected.tokens);
            assert_eq!(trivec_result_truncated(result, index), 0);
        }
        let mut dim = 9;
        assert!(trivec_result_dense(result, 3, &mut dim).is_null() && dim == 0);
        assert!(trivec_result_colbert(result, usize::MAX, null_mut(), null_mut()).is_null());
        assert_eq!(trivec_result_sparse(result, 3, null_mut(), null_mut()), 0);
        assert_eq!((trivec_result_len(null()), trivec_result_tokens(null(), 0)), (0, 0));

        let info = (*model.0).model.info().clone();
        let mut floats = vec![0.0; 3 * info.dense_dim];
        let status =
            trivec_encode_dense(model.0, own.as_ptr(), 3, null(), floats.as_mut_ptr(), floats.len(), null_mut());
        assert_eq!(status, TRIVEC_OK);
        for (row, expected) in floats.chunks_exact(info.dense_dim).zip(&expected) {
            assert_eq!(row, expected.dense.as_deref().unwrap());
        }
        // The result outlives the model.
        drop(model);
        assert!(!trivec_result_dense(result, 0, null_mut()).is_null());
        trivec_result_free(result);
        trivec_result_free(null_mut());
        trivec_model_free(null_mut());
    }
}

#[test]
fn texts_are_tokenised_and_ids_have_pieces_and_embeddings() {
    let model = embedder();
    // SAFETY: all pointers are good or NULL.
    unsafe {
        let (mut needed, mut cut, mut ids) = (0, 9, [0; 64]);
        let ask = text(TEXTS[0]);
        let status = trivec_tokenize(model.0, ask, null(), null_mut(), 0, &mut needed, &mut cut, null_mut());
        assert_eq!((status, cut), (TRIVEC_OK, 0));
        assert!(needed > 3);
        refused(TRIVEC_USAGE, "room for 2 ids", |error| {
            trivec_tokenize(model.0, ask, null(), ids.as_mut_ptr(), 2, &mut needed, &mut cut, error)
        });
        let short = trivec_encode_options { max_length: 3, ..encode_defaults() };
        let status = trivec_tokenize(model.0, ask, &short, ids.as_mut_ptr(), 64, &mut needed, &mut cut, null_mut());
        assert_eq!((status, needed, cut, ids[0], ids[2]), (TRIVEC_OK, 3, 1, 0, 2));
        let mut size = 0;
        let piece = trivec_piece(model.0, ids[1], &mut size);
        let piece = std::str::from_utf8(std::slice::from_raw_parts(piece.cast::<u8>(), size)).unwrap();
        assert_eq!((*model.0).model.piece(ids[1]), Some(piece));
        assert!(trivec_piece(model.0, u32::MAX, &mut size).is_null() && size == 0);
        let mut counts = [0; 3];
        assert_eq!(trivec_count_tokens(model.0, texts().as_ptr(), 3, counts.as_mut_ptr(), null_mut()), TRIVEC_OK);
        assert_eq!(counts[1], 2);

        let (sequences, mut result) = ([ids.as_ptr(), ids.as_ptr()], null_mut());
        let status =
            trivec_encode_ids(model.0, sequences.as_ptr(), [3, 2].as_ptr(), 2, null(), &mut result, null_mut());
        assert_eq!((status, trivec_result_tokens(result, 1)), (TRIVEC_OK, 2));
        trivec_result_free(result);
        let index = refused(TRIVEC_INPUT, "token id 4294967295", |error| {
            let bad = [u32::MAX];
            let sequences = [ids.as_ptr(), bad.as_ptr()];
            trivec_encode_ids(model.0, sequences.as_ptr(), [3, 1].as_ptr(), 2, null(), &mut result, error)
        });
        assert!(index == 1 && result.is_null());
    }
}

#[test]
fn null_arguments_and_wrong_struct_sizes_are_refused() {
    let (model, mut result) = (embedder(), null_mut());
    let own = texts();
    // SAFETY: all pointers are good or NULL, or are looked at by their sizes alone.
    unsafe {
        let null_argument = |words: &str, call: &mut dyn FnMut(*mut *mut trivec_error) -> trivec_status| {
            refused(TRIVEC_NULL_ARGUMENT, words, call);
        };
        null_argument("`model`", &mut |e| trivec_encode(null(), own.as_ptr(), 3, null(), &mut result, e));
        null_argument("`texts`", &mut |e| trivec_encode(model.0, null(), 3, null(), &mut result, e));
        null_argument("`out`", &mut |e| trivec_encode(model.0, own.as_ptr(), 3, null(), null_mut(), e));
        null_argument("`path`", &mut |e| trivec_model_load(null(), null(), &mut null_mut(), e));
        null_argument("`out`", &mut |e| trivec_encode_dense(model.0, own.as_ptr(), 3, null(), null_mut(), 999, e));
        null_argument("`each`", &mut |e| trivec_encode_each(model.0, own.as_ptr(), 3, null(), None, null_mut(), e));
        null_argument("`bytes`", &mut |e| trivec_model_from_memory(null(), 3, null(), &mut null_mut(), e));
        null_argument("`needed`", &mut |e| {
            trivec_tokenize(model.0, own[0], null(), null_mut(), 0, null_mut(), null_mut(), e)
        });
        null_argument("`info`", &mut |e| trivec_model_info(model.0, null_mut(), e));
        // Without a place for the error, the call only returns the status.
        assert_eq!(trivec_encode(null(), null(), 0, null(), &mut result, null_mut()), TRIVEC_NULL_ARGUMENT);
        // No texts are no failure.
        assert_eq!(trivec_encode(model.0, null(), 0, null(), &mut result, null_mut()), TRIVEC_OK);
        assert_eq!(trivec_result_len(result), 0);
        trivec_result_free(result);

        for size in [0, 8, size_of::<trivec_encode_options>() - 1, usize::MAX] {
            let options = trivec_encode_options { struct_size: size, ..encode_defaults() };
            refused(TRIVEC_STRUCT_SIZE, "struct_size", |e| {
                trivec_encode(model.0, own.as_ptr(), 3, &options, &mut result, e)
            });
            let mut info = trivec_info { struct_size: size, ..std::mem::zeroed() };
            refused(TRIVEC_STRUCT_SIZE, "trivec_info", |e| trivec_model_info(model.0, &mut info, e));
        }
        // A structure of a later header: the fields that this version does not know must be 0.
        #[repr(C)]
        struct Later(trivec_encode_options, u64);
        let later =
            |extra| Later(trivec_encode_options { struct_size: size_of::<Later>(), ..encode_defaults() }, extra);
        let zero = later(0);
        let status = trivec_encode(model.0, own.as_ptr(), 3, (&raw const zero).cast(), &mut result, null_mut());
        assert_eq!(status, TRIVEC_OK);
        trivec_result_free(result);
        let one = later(1);
        refused(TRIVEC_STRUCT_SIZE, "does not know", |e| {
            trivec_encode(model.0, own.as_ptr(), 3, (&raw const one).cast(), &mut result, e)
        });

        let mut info = trivec_info { struct_size: size_of::<trivec_info>(), ..std::mem::zeroed() };
        assert_eq!(trivec_model_info(model.0, &mut info, null_mut()), TRIVEC_OK);
        assert_eq!((info.hidden, info.modes, info.is_reranker, info.dense_normalized), (64, 7, 0, 1));
        let isa = CStr::from_ptr(trivec_model_string(model.0, 2)).to_str().unwrap();
        assert_eq!(isa, (*model.0).model.info().isa);
        assert!(trivec_model_string(model.0, 99).is_null() && trivec_model_string(null(), 0).is_null());
    }
}

#[test]
fn bad_texts_options_and_buffers_are_refused_with_a_reason() {
    let (model, mut result) = (embedder(), null_mut());
    // SAFETY: all pointers are good, NULL, or not followed.
    unsafe {
        let bad = [text("good"), trivec_text { data: b"a\xff".as_ptr().cast(), size: 2 }];
        let index = refused(TRIVEC_INPUT, "not UTF-8 from byte 1 on", |e| {
            trivec_encode(model.0, bad.as_ptr(), 2, null(), &mut result, e)
        });
        assert!(index == 1 && result.is_null());
        let bad = [text("good"), text("good"), trivec_text { data: null(), size: 2 }];
        let index = refused(TRIVEC_INPUT, "NULL", |e| trivec_encode(model.0, bad.as_ptr(), 3, null(), &mut result, e));
        assert_eq!(index, 2);
        let huge = [trivec_text { data: b"a".as_ptr().cast(), size: i32::MAX as usize + 1 }];
        refused(TRIVEC_INPUT, "at most", |e| trivec_encode(model.0, huge.as_ptr(), 1, null(), &mut result, e));
        let nothing = [trivec_text { data: null(), size: 0 }];
        assert_eq!(trivec_encode(model.0, nothing.as_ptr(), 1, null(), &mut result, null_mut()), TRIVEC_OK);
        trivec_result_free(result);
        refused(TRIVEC_USAGE, "no array is so large", |e| {
            trivec_encode(model.0, bad.as_ptr(), usize::MAX, null(), &mut result, e)
        });

        let base = encode_defaults();
        for (options, words) in [
            (trivec_encode_options { modes: 8, ..base }, "modes"),
            (trivec_encode_options { normalize: 2, ..base }, "normalize"),
            (trivec_encode_options { max_length: 1, ..base }, "max_length"),
            (trivec_encode_options { dimensions: 10_000, ..base }, "dimensions"),
        ] {
            refused(TRIVEC_USAGE, words, |e| trivec_encode(model.0, texts().as_ptr(), 3, &options, &mut result, e));
        }
        let mut floats = [7.0; 100];
        refused(TRIVEC_USAGE, "room for 100 floats, expected 192: 3 texts of 64", |e| {
            trivec_encode_dense(model.0, texts().as_ptr(), 3, null(), floats.as_mut_ptr(), 100, e)
        });
        assert_eq!(floats, [7.0; 100]);
        let mut logits = [0.0; 3];
        refused(TRIVEC_UNAVAILABLE, "rerank", |e| {
            trivec_rerank(model.0, text("q"), texts().as_ptr(), 3, null(), logits.as_mut_ptr(), null_mut(), e)
        });
        refused(TRIVEC_MODEL, "/nowhere", |e| trivec_model_load(c"/nowhere".as_ptr(), null(), &mut null_mut(), e));
        refused(TRIVEC_MODEL, "packed bytes", |e| {
            trivec_model_from_memory(b"no model".as_ptr(), 8, null(), &mut null_mut(), e)
        });
        let mut options = MaybeUninit::uninit();
        trivec_load_options_init(options.as_mut_ptr());
        let options = trivec_load_options { isa: c"mmx".as_ptr(), ..options.assume_init() };
        let path = CString::new(trivec_testing::data("models/f32-h64").to_str().unwrap()).unwrap();
        refused(TRIVEC_USAGE, "mmx", |e| trivec_model_load(path.as_ptr(), &options, &mut null_mut(), e));
        #[cfg(not(feature = "starter"))]
        refused(TRIVEC_UNAVAILABLE, "starter", |e| trivec_model_starter(null(), &mut null_mut(), e));
    }
}

#[test]
fn a_panic_is_a_status_and_the_model_stays_usable() {
    let model = embedder();
    // SAFETY: the place of the error is good.
    refused(TRIVEC_PANIC, "internal error: a \u{fffd} mistake", |error| unsafe {
        guard(error, || panic!("a {} mistake", '\0'))
    });
    // A panic in the middle of a call, after the model's threads have begun.
    let progress = trivec::Progress::new(|_, _| panic!("in the middle"));
    // SAFETY: the place of the error and the model are good.
    refused(TRIVEC_PANIC, "in the middle", |error| unsafe {
        guard(error, || {
            let options = trivec::EncodeOptions { progress: Some(progress), ..Default::default() };
            (*model.0).model.encode(&TEXTS, &options).map(|_| ()).map_err(Failure::from)
        })
    });
    let mut result = null_mut();
    // SAFETY: all pointers are good.
    unsafe {
        assert_eq!(trivec_encode(model.0, texts().as_ptr(), 3, null(), &mut result, null_mut()), TRIVEC_OK);
        trivec_result_free(result);
    }
}

/// A sequence of ids.
const IDS: [u32; 4] = [0, 10, 11, 2];

/// What the tests' callbacks get as `user`: it counts how often they were called, and says at which text they end the call.
struct Watch {
    calls: AtomicUsize,
    stop: usize,
}

impl Watch {
    fn until(stop: usize) -> Watch {
        Watch { calls: AtomicUsize::new(0), stop }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn user(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

unsafe extern "C" fn count_and_stop_at(user: *mut c_void, done: usize, _: usize) -> i32 {
    // SAFETY: the tests pass what `Watch::user` gives.
    let watch = unsafe { &*user.cast::<Watch>() };
    watch.calls.fetch_add(1, Ordering::Relaxed);
    i32::from(done >= watch.stop)
}

unsafe extern "C" fn each(user: *mut c_void, index: usize, one: *const trivec_result) -> i32 {
    // SAFETY: as above; the result is good during the call.
    unsafe {
        let watch = &*user.cast::<Watch>();
        assert_eq!((watch.calls.fetch_add(1, Ordering::Relaxed), trivec_result_len(one)), (index, 1));
        i32::from(index + 1 >= watch.stop)
    }
}

#[test]
fn callbacks_are_called_and_end_calls_and_so_do_cancel_handles() {
    let (model, mut result) = (embedder(), null_mut());
    let many: Vec<trivec_text> = (0..600).map(|_| text("the cat sat on the mat")).collect();
    // SAFETY: all pointers are good; users are what their functions take them for.
    unsafe {
        let user = Watch::until(usize::MAX);
        let watched = trivec_encode_options {
            progress: Some(count_and_stop_at),
            progress_user: user.user(),
            ..encode_defaults()
        };
        assert_eq!(trivec_encode(model.0, many.as_ptr(), 600, &watched, &mut result, null_mut()), TRIVEC_OK);
        assert!(user.calls() >= 2);
        trivec_result_free(result);
        let user = Watch::until(1);
        let watched = trivec_encode_options { progress_user: user.user(), ..watched };
        refused(TRIVEC_CANCELLED, "cancelled", |e| {
            trivec_encode(model.0, many.as_ptr(), 600, &watched, &mut result, e)
        });
        assert_eq!(user.calls(), 1);

        let user = Watch::until(usize::MAX);
        assert_eq!(
            trivec_encode_each(model.0, many.as_ptr(), 600, null(), Some(each), user.user(), null_mut()),
            TRIVEC_OK
        );
        assert_eq!(user.calls(), 600);

        let cancel = trivec_cancel_new();
        let options = trivec_encode_options { cancel, ..encode_defaults() };
        assert_eq!(trivec_encode(model.0, many.as_ptr(), 3, &options, &mut result, null_mut()), TRIVEC_OK);
        trivec_result_free(result);
        trivec_cancel_set(cancel);
        refused(TRIVEC_CANCELLED, "cancelled", |e| trivec_encode(model.0, many.as_ptr(), 3, &options, &mut result, e));
        trivec_cancel_free(cancel);
        trivec_cancel_free(null_mut());
        trivec_cancel_set(null());
    }
}

/// A callback for each text. At the third, the last of the test, it sets the cancel handle that it gets as `user`, and returns 0.
unsafe extern "C" fn set_at_the_last(user: *mut c_void, index: usize, _: *const trivec_result) -> i32 {
    if index + 1 == 3 {
        // SAFETY: the test passes a handle.
        unsafe { trivec_cancel_set(user.cast()) };
    }
    0
}

#[test]
fn a_call_that_is_ended_at_its_last_text_is_cancelled_too() {
    let (model, mut result) = (embedder(), null_mut());
    let many: Vec<trivec_text> = (0..600).map(|_| text("the cat sat on the mat")).collect();
    let ids: Vec<*const u32> = vec![IDS.as_ptr(); 600];
    let (lengths, mut rows) = (vec![IDS.len(); 600], vec![0.0; 600 * 64]);
    let (texts, ids, lengths, out) = (many.as_ptr(), ids.as_ptr(), lengths.as_ptr(), rows.as_mut_ptr());
    // SAFETY: all pointers are good; users are what their functions take them for.
    unsafe {
        // A callback may end any call at the last text, with a cancel handle or without.
        for cancel in [null(), trivec_cancel_new().cast_const()] {
            let user = Watch::until(600);
            let watched = trivec_encode_options {
                cancel,
                progress: Some(count_and_stop_at),
                progress_user: user.user(),
                ..encode_defaults()
            };
            refused(TRIVEC_CANCELLED, "cancelled", |e| trivec_encode(model.0, texts, 600, &watched, &mut result, e));
            assert!(result.is_null() && user.calls() >= 2);
            if !cancel.is_null() {
                // Then the handle is set, so later calls with it are cancelled too, even those without a text.
                let later = trivec_encode_options { cancel, ..encode_defaults() };
                for count in [0, 1] {
                    refused(TRIVEC_CANCELLED, "", |e| trivec_encode(model.0, texts, count, &later, &mut result, e));
                    refused(TRIVEC_CANCELLED, "", |e| {
                        trivec_encode_each(model.0, texts, count, &later, Some(each), Watch::until(0).user(), e)
                    });
                }
                trivec_cancel_free(cancel.cast_mut());
            }
        }
        let user = Watch::until(600);
        let watched = trivec_encode_options {
            progress: Some(count_and_stop_at),
            progress_user: user.user(),
            ..encode_defaults()
        };
        refused(TRIVEC_CANCELLED, "cancelled", |e| {
            trivec_encode_ids(model.0, ids, lengths, 600, &watched, &mut result, e)
        });
        assert!(result.is_null());
        refused(TRIVEC_CANCELLED, "cancelled", |e| {
            trivec_encode_dense(model.0, texts, 600, &watched, out, 600 * 64, e)
        });
        assert!((0..600 * 64).all(|at| *out.add(at) == 0.0), "a call that fails writes nothing");
        let all = Watch::until(usize::MAX);
        refused(TRIVEC_CANCELLED, "cancelled", |e| {
            trivec_encode_each(model.0, texts, 600, &watched, Some(each), all.user(), e)
        });
        assert_eq!(all.calls(), 600);
        // The callback that gets each result may end the call too, also at the last text.
        for stop in [300, 600] {
            let user = Watch::until(stop);
            refused(TRIVEC_CANCELLED, "", |e| {
                trivec_encode_each(model.0, texts, 600, null(), Some(each), user.user(), e)
            });
            assert_eq!(user.calls(), stop);
        }
        let cancel = trivec_cancel_new();
        let options = trivec_encode_options { cancel, ..encode_defaults() };
        refused(TRIVEC_CANCELLED, "cancelled", |e| {
            trivec_encode_each(model.0, texts, 3, &options, Some(set_at_the_last), cancel.cast(), e)
        });
        trivec_cancel_free(cancel);
    }
}

#[test]
fn a_callback_may_end_a_call_of_the_reranker_at_the_last_document() {
    let model = load("rerankers/reranker-h48");
    let documents = texts();
    // SAFETY: all pointers are good; the user is what its function takes it for.
    unsafe {
        for (stop, status) in [(documents.len() + 1, TRIVEC_OK), (documents.len(), TRIVEC_CANCELLED)] {
            let user = Watch::until(stop);
            let mut options = MaybeUninit::uninit();
            trivec_rerank_options_init(options.as_mut_ptr());
            let options = trivec_rerank_options {
                progress: Some(count_and_stop_at),
                progress_user: user.user(),
                ..options.assume_init()
            };
            let (mut logits, count) = ([0.0; 3], documents.len());
            let (documents, logits) = (documents.as_ptr(), logits.as_mut_ptr());
            let given = trivec_rerank(model.0, text("q"), documents, count, &options, logits, null_mut(), null_mut());
            assert!(given == status && user.calls() > 0, "{given:?}, expected {status:?}");
        }
    }
}

#[test]
fn documents_are_scored_as_by_the_engine() {
    let model = load("rerankers/reranker-h48");
    // SAFETY: all pointers are good or NULL.
    unsafe {
        let (mut logits, mut scores) = ([0.0; 3], [0.0; 3]);
        let mut options = MaybeUninit::uninit();
        trivec_rerank_options_init(options.as_mut_ptr());
        let options = options.assume_init();
        let (own, query) = (texts(), text("what is it"));
        let status = trivec_rerank(
            model.0,
            query,
            own.as_ptr(),
            3,
            &options,
            logits.as_mut_ptr(),
            scores.as_mut_ptr(),
            null_mut(),
        );
        assert_eq!(status, TRIVEC_OK);
        let expected = (*model.0).model.rerank("what is it", &TEXTS, &trivec::RerankOptions::default()).unwrap();
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!((logits[index], scores[index]), (expected.logit, expected.score));
        }
        let bad = trivec_text { data: b"\xff".as_ptr().cast(), size: 1 };
        let index = refused(TRIVEC_INPUT, "query: not UTF-8", |e| {
            trivec_rerank(model.0, bad, own.as_ptr(), 3, null(), logits.as_mut_ptr(), null_mut(), e)
        });
        assert_eq!(index, usize::MAX);
        let mut result = null_mut();
        refused(TRIVEC_UNAVAILABLE, "reranker", |e| trivec_encode(model.0, own.as_ptr(), 3, null(), &mut result, e));
    }
}

#[test]
fn scores_have_their_known_values_and_are_nan_without_vectors() {
    let (a, b) = ([3.0f32, 4.0, 0.0, 1.0], [0.6f32, 0.8]);
    // SAFETY: all pointers are good or NULL.
    unsafe {
        assert_eq!(trivec_dense_score(a.as_ptr(), b.as_ptr(), 2), 5.0);
        assert!(trivec_dense_score(null(), b.as_ptr(), 2).is_nan());
        let (ids, weights) = ([9u32, 5], [0.5f32, 0.25]);
        let score = trivec_lexical_score(ids.as_ptr(), weights.as_ptr(), 2, ids[1..].as_ptr(), [4.0f32].as_ptr(), 1);
        assert_eq!(score, 1.0);
        assert_eq!(trivec_lexical_score(null(), null(), 0, ids.as_ptr(), weights.as_ptr(), 2), 0.0);
        assert!(trivec_lexical_score(null(), null(), 1, ids.as_ptr(), weights.as_ptr(), 2).is_nan());
        let score = trivec_colbert_score(a.as_ptr(), 2, b.as_ptr(), 1, 2);
        assert!((score - (5.0 + 0.8) / 2.0).abs() < 1e-6, "{score}");
        assert!(trivec_colbert_score(a.as_ptr(), 0, b.as_ptr(), 1, 2).is_nan());
        assert!(trivec_colbert_score(a.as_ptr(), usize::MAX, b.as_ptr(), 1, 2).is_nan());
        assert_eq!(trivec_combined_score(1.0, 2.0, 4.0, [1.0f32, 1.0, 2.0].as_ptr()), 2.75);
        assert!(trivec_combined_score(1.0, 2.0, 4.0, [0.0f32; 3].as_ptr()).is_nan());
        assert!(trivec_combined_score(1.0, 2.0, 4.0, null()).is_nan());
    }
}

#[test]
fn versions_and_instruction_sets_equal_those_of_the_engine() {
    // SAFETY: the strings end with a NUL and the list with NULL.
    unsafe {
        assert_eq!(CStr::from_ptr(trivec_version()).to_str(), Ok(env!("CARGO_PKG_VERSION")));
        assert_eq!(trivec_abi_version(), 1);
        let mut names = Vec::new();
        let mut at: *const *const c_char = trivec_instruction_sets();
        while !(*at).is_null() {
            names.push(CStr::from_ptr(*at).to_str().unwrap());
            at = at.add(1);
        }
        assert_eq!(names, trivec::instruction_sets());
    }
}
