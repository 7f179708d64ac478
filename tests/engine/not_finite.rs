//! Models whose weights are finite but so large that a layer overflows, or are not finite and were loaded without a check. NaN and infinity
//! never leave the library: the error names the text that would give them, and no other text is affected.

use trivec_testing as common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tempfile::TempDir;
use trivec::pack::{Calibration, PackOptions, pack};
use trivec::{EncodeOptions, Error, ErrorKind, LoadOptions, Model, Modes, RerankOptions, WeightFormat};

/// Returns the new value for a place in a tensor and its old value.
type Change<'a> = &'a dyn Fn(usize, f32) -> f32;

/// A copy of a fixture in which each value of some tensors was replaced by what its `Change` returns. f16 tensors become f32.
fn changed(fixture: &str, changes: &[(&str, Change<'_>)]) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(common::data(fixture)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let path = copy.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<String, (Dtype, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    for (name, change) in changes {
        let (dtype, _, data) = tensors.get_mut(*name).unwrap();
        if *dtype == Dtype::F16 {
            let halves = data.as_chunks::<2>().0.iter();
            *data = halves.flat_map(|bytes| half::f16::from_le_bytes(*bytes).to_f32().to_le_bytes()).collect();
            *dtype = Dtype::F32;
        }
        assert_eq!(*dtype, Dtype::F32, "{name}");
        for (at, value) in data.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *value = change(at, f32::from_le_bytes(*value)).to_le_bytes();
        }
    }
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    copy
}

/// A large finite value with the sign of the old one.
fn huge(_: usize, x: f32) -> f32 {
    3e38f32.copysign(x)
}

fn all() -> EncodeOptions {
    EncodeOptions { modes: Modes::ALL, ..EncodeOptions::default() }
}

const WORDS: &str = "embeddings.word_embeddings.weight";

/// The token whose embedding overflows in [`broken_token`].
const BROKEN: u32 = 77;

/// A model that overflows on every text with the token [`BROKEN`], and on no other.
fn broken_token() -> TempDir {
    changed("models/f32-h64", &[(WORDS, &|at, x| if at / 64 == BROKEN as usize { 3e38 } else { x })])
}

/// The input, the mode and the place in a result that must be [`Error::NotFinite`].
fn place<T: std::fmt::Debug>(result: trivec::Result<T>) -> (usize, &'static str, usize) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    match error {
        Error::NotFinite { index, mode, at } => (index, mode, at),
        other => panic!("{other}"),
    }
}

#[test]
fn the_text_is_named_and_its_neighbours_are_not_affected() {
    let directory = broken_token();
    let model = Model::load(directory.path()).unwrap();
    let sound = Model::load(common::data("models/f32-h64")).unwrap();
    let good: [&[u32]; 4] = [&[0, 5, 2], &[0, 9, 10, 11, 2], &[0, 2], &[0, 100, 200, 250, 40, 41, 42, 2]];
    let expected = sound.encode_ids(&good, &all()).unwrap();
    assert_eq!(model.encode_ids(&good, &all()).unwrap(), expected, "texts without the token");
    for modes in [Modes::DENSE, Modes::SPARSE, Modes::COLBERT, Modes::ALL] {
        let options = EncodeOptions { modes, ..EncodeOptions::default() };
        for at in 0..=good.len() {
            // The longest text is computed first, but the error names the first text in the order of the call.
            let long: Vec<u32> = [0].into_iter().chain(vec![BROKEN; 20]).chain([2]).collect();
            let mut texts = good.to_vec();
            texts.insert(at, &[0, 5, BROKEN, 2]);
            texts.push(&long);
            assert_eq!(place(model.encode_ids(&texts, &options)).0, at, "{modes}");
            texts.remove(at);
            assert_eq!(place(model.encode_ids(&texts, &options)).0, good.len(), "{modes}");
        }
    }
    let error = model.encode_ids(&[[0, BROKEN, 2]], &all()).unwrap_err().to_string();
    assert!(error.starts_with("input 0: value 0 of the dense vector is not a finite number"), "{error}");
}

#[test]
fn texts_and_inspections_are_checked_as_ids_are() {
    let sound = Model::load(common::data("models/f32-h64")).unwrap();
    let text = common::texts().into_iter().find(|text| text.text.len() > 20).unwrap().text;
    let ids = sound.token_ids(&text, &all()).unwrap().0;
    let bad = ids[ids.len() / 2] as usize;
    let directory = changed("models/f32-h64", &[(WORDS, &move |at, x| if at / 64 == bad { 3e38 } else { x })]);
    let model = Model::load(directory.path()).unwrap();
    assert_eq!(place(model.encode(&["", &text], &all())).0, 1);
    assert_eq!(place(model.inspect(&text, &EncodeOptions::default())).0, 0);
    assert_eq!(model.inspect("", &all()).unwrap(), sound.inspect("", &all()).unwrap());
}

#[test]
fn an_overflow_is_found_whichever_weights_cause_it() {
    let layer = |what: &str| format!("encoder.layer.1.{what}");
    let everywhere = [
        "attention.self.query.weight",
        "attention.self.key.weight",
        "attention.self.value.weight",
        "attention.output.dense.weight",
        "intermediate.dense.weight",
        "output.dense.weight",
        "output.LayerNorm.weight",
        "attention.output.LayerNorm.weight",
    ];
    for name in everywhere.map(layer).into_iter().chain(["embeddings.LayerNorm.weight".to_owned()]) {
        let directory = changed("models/f32-h64", &[(&name, &huge)]);
        for isa in trivec::instruction_sets() {
            let options = LoadOptions { isa: Some(isa.to_owned()), threads: Some(2), ..LoadOptions::default() };
            let model = Model::load_with(directory.path(), &options).unwrap();
            for modes in [Modes::DENSE, Modes::SPARSE, Modes::COLBERT, Modes::ALL] {
                let options = EncodeOptions { modes, ..EncodeOptions::default() };
                let result = model.encode_ids(&[[0, 9, 10, 11, 12, 13, 14, 2]], &options);
                assert_eq!(place(result).0, 0, "{name}, {modes}, {isa}");
            }
        }
    }
}

#[test]
fn a_head_that_overflows_breaks_its_own_mode_alone() {
    let ids = [[0, 9, 10, 11, 2]];
    let sound = Model::load(common::data("models/f32-h64")).unwrap().encode_ids(&ids, &all()).unwrap();
    let weight = |mode: &'static str| format!("{mode}_linear.weight");
    // An output of minus infinity must not become a lexical weight of 0, and a vector whose squares overflow must not become zeros.
    let minus = |_: usize, _: f32| -3e38f32;
    let large = |_: usize, x: f32| x * 1e25;
    let cases: [(&'static str, String, Change<'_>); 4] = [
        ("sparse", weight("sparse"), &huge),
        ("sparse", "sparse_linear.bias".to_owned(), &minus),
        ("colbert", weight("colbert"), &huge),
        ("colbert", weight("colbert"), &large),
    ];
    for (mode, name, change) in cases {
        let changes: Vec<(&str, Change<'_>)> = match name.ends_with("bias") {
            true => vec![(&name, change), ("sparse_linear.weight", &|_, x| x * 1e38)],
            false => vec![(&name, change)],
        };
        let directory = changed("models/f32-h64", &changes);
        let model = Model::load(directory.path()).unwrap();
        let asked: Modes = mode.parse().unwrap();
        let (index, found, at) = place(model.encode_ids(&ids, &EncodeOptions { modes: asked, ..all() }));
        assert!((index, found) == (0, mode) && at < 5, "{name}: {found} {at}");
        assert_eq!(place(model.encode_ids(&ids, &all())).1, mode, "{name}");
        let dense = model.encode_ids(&ids, &EncodeOptions::default()).unwrap();
        assert_eq!(dense[0].dense, sound[0].dense, "{name}");
    }
}

#[test]
fn normalising_a_dense_vector_whose_norm_overflows_is_an_error() {
    // The values are finite and their squares are not. Divided by their norm they would all become 0.
    let large = |_: usize, x: f32| if x == 0.0 { 1e25 } else { x * 1e25 };
    let name = "encoder.layer.1.output.LayerNorm.weight";
    let directory = changed("models/f32-h64", &[(name, &large)]);
    let model = Model::load(directory.path()).unwrap();
    let ids = [[0, 9, 10, 2]];
    assert_eq!(place(model.encode_ids(&ids, &EncodeOptions::default())), (0, "dense", 0));
    let raw = EncodeOptions { normalize: Some(false), ..EncodeOptions::default() };
    let raw = model.encode_ids(&ids, &raw).unwrap()[0].dense.clone().unwrap();
    assert!(raw.iter().all(|x| x.is_finite()) && raw.iter().any(|x| x.abs() > 1e20), "{raw:?}");
}

#[test]
fn a_reranker_names_the_document() {
    let directory = changed("rerankers/reranker-h48", &[("classifier.out_proj.weight", &huge)]);
    let model = Model::load(directory.path()).unwrap();
    let result = model.rerank("a", &["b", "c"], &RerankOptions::default());
    assert_eq!(place(result), (0, "rerank", 0));
    // The embedding of one token overflows. Only one of the documents has that token.
    let sound = Model::load(common::data("rerankers/reranker-h48")).unwrap();
    let ids = |text: &str| -> Vec<u32> {
        let tokens = sound.tokenize_pair("", text, &RerankOptions::default()).unwrap();
        tokens.tokens.iter().map(|token| token.id).collect()
    };
    let all = common::texts();
    let usual = ids("a");
    let (bad, token) = all
        .iter()
        .find_map(|text| Some((&text.text, ids(&text.text).into_iter().find(|id| *id > 3 && !usual.contains(id))?)))
        .unwrap();
    let width = sound.info().hidden;
    let change = move |at: usize, x: f32| if at / width == token as usize { 3e38 } else { x };
    let directory = changed("rerankers/reranker-h48", &[("roberta.embeddings.word_embeddings.weight", &change)]);
    let model = Model::load(directory.path()).unwrap();
    let good = model.rerank("a", &["a", ""], &RerankOptions::default()).unwrap();
    assert_eq!(good, sound.rerank("a", &["a", ""], &RerankOptions::default()).unwrap());
    assert_eq!(place(model.rerank("a", &["a", bad.as_str(), ""], &RerankOptions::default())).0, 1);
}

/// Overwrites the beginning of a tensor of a packed file with `with`.
fn overwrite(file: &mut [u8], tensor: &str, with: &[u8]) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let begin = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 8 + length;
    file[begin..begin + with.len()].copy_from_slice(with);
}

#[test]
fn packed_files_that_were_not_scanned_give_errors_and_no_numbers() {
    let directory = TempDir::new().unwrap();
    let packed = |model: &str, format: WeightFormat| {
        let model = Model::load(common::data(model)).unwrap();
        let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(format) };
        let mut bytes = Vec::new();
        pack(&model, &options, Path::new("packed"), &mut bytes).unwrap();
        bytes
    };
    let (nan, infinity) = (f32::NAN.to_le_bytes(), f32::INFINITY.to_le_bytes());
    let (half_nan, half_infinity) = ([0x00, 0x7e], [0x00, 0x7c]);
    let huge: Vec<u8> = std::iter::repeat_n(3e38f32.to_le_bytes(), 60).flatten().collect();
    let scale = "encoder.layer.1.output.dense.weight_scale";
    let weight = "encoder.layer.1.output.dense.weight";
    let norm = "encoder.layer.0.output.LayerNorm.weight";
    let small = "models/bf16-h60";
    let cases: Vec<(&str, WeightFormat, &str, &[u8])> = vec![
        (small, WeightFormat::Int8, scale, &nan),
        (small, WeightFormat::Int8, scale, &infinity),
        (small, WeightFormat::Int4, scale, &nan),
        (small, WeightFormat::Int4, scale, &infinity),
        // The f16 scales between a checkpoint's own q4_0 weights.
        ("models/q4-h64", WeightFormat::Int4, weight, &half_nan),
        ("models/q4-h64", WeightFormat::Int4, weight, &half_infinity),
        (small, WeightFormat::F16, weight, &half_nan),
        (small, WeightFormat::F16, weight, &half_infinity),
        (small, WeightFormat::Bf16, weight, &[0xc0, 0x7f]),
        (small, WeightFormat::Bf16, weight, &[0x80, 0x7f]),
        (small, WeightFormat::F32, weight, &nan),
        // States that overflow before they enter a layer. int8 and int4 round them to bytes there.
        (small, WeightFormat::Int8, norm, &huge),
        (small, WeightFormat::Int4, norm, &huge),
        (small, WeightFormat::F16, norm, &huge),
        (small, WeightFormat::Bf16, norm, &huge),
    ];
    let path = directory.path().join("bad.safetensors");
    for (model, format, tensor, bytes) in cases {
        let mut file = packed(model, format);
        overwrite(&mut file, tensor, bytes);
        fs::write(&path, file).unwrap();
        for isa in trivec::instruction_sets() {
            let options = LoadOptions { check_finite: false, isa: Some(isa.to_owned()), ..LoadOptions::default() };
            let model = Model::load_with(&path, &options).unwrap();
            for modes in [Modes::DENSE, model.info().modes] {
                let options = EncodeOptions { modes, ..EncodeOptions::default() };
                let result = model.encode_ids(&[[0, 9, 10, 11, 12, 13, 2]], &options);
                assert_eq!(place(result).0, 0, "{format:?} {tensor} {bytes:?}, {modes}, {isa}");
            }
        }
    }
}
