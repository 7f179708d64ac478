//! Tests of packed files: their embeddings have the same bits whatever the neighbours, the order, the threads and (except for bf16) the
//! instruction set; their tokens are those of the checkpoint; and damaged files are refused by name, without a panic.

use trivec_testing as common;

use std::path::{Path, PathBuf};

use common::{data, report, same_bits};
use trivec::pack::{Calibration, PackOptions, Writing, pack};
use trivec::{Embedding, EncodeOptions, Error, ErrorKind, LoadOptions, Model, Modes, WeightFormat};

const ALL: EncodeOptions = EncodeOptions {
    modes: Modes::ALL,
    max_length: None,
    dimensions: None,
    normalize: None,
    special_tokens: trivec::SpecialTokens::Parse,
    prompt: trivec::Prompt::Default,
    prompt_tokens: 0,
    cancel: None,
    progress: None,
    colbert_dimensions: None,
    colbert_raw: false,
};

/// Packs a small model of odd sizes (hidden size 60) into a file and returns its path.
fn pack_small(format: WeightFormat, directory: &Path) -> PathBuf {
    let model = Model::load(data("models/bf16-h60")).unwrap();
    let path = directory.join(format!("{}.safetensors", format.name()));
    let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(format) };
    pack(&model, &options, &path, &mut std::fs::File::create(&path).unwrap()).unwrap();
    path
}

fn load(path: &Path, threads: usize, isa: &str) -> Model {
    let options = LoadOptions { threads: Some(threads), isa: Some(isa.to_owned()), ..Default::default() };
    Model::load_with(path, &options).unwrap()
}

/// Sequences of every length from 2 to 70, and two long ones.
fn sequences(vocabulary: u32) -> Vec<Vec<u32>> {
    let sequence = |n: u32| {
        let inner = (0..n - 2).map(|i| 4 + (i * i * 7 + i * n + n) % (vocabulary - 4));
        [0].into_iter().chain(inner).chain([2]).collect()
    };
    (2..=70).chain([129, 513]).map(sequence).collect()
}

#[test]
fn every_format_gives_the_same_bits_whatever_the_neighbours_order_and_threads() {
    let directory = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for format in WeightFormat::ALL {
        let path = pack_small(format, directory.path());
        let mut expected: Option<Vec<Embedding>> = None;
        for isa in trivec::instruction_sets() {
            let single = load(&path, 1, isa);
            let texts = sequences(single.info().vocabulary as u32);
            // The bf16 instructions round in their own way, so bf16 results are only compared on the same instruction set.
            if format == WeightFormat::Bf16 {
                expected = None;
            }
            let expected = expected.get_or_insert_with(|| {
                texts.iter().flat_map(|text| single.encode_ids(&[text.as_slice()], &ALL).unwrap()).collect()
            });
            for threads in [1, 2, 8] {
                let model = load(&path, threads, isa);
                // Two threads get the texts backward, the others in an order in which long ones come beside short ones.
                let step = if threads == 2 { texts.len() - 1 } else { 31 };
                let order: Vec<usize> = (0..texts.len()).map(|i| (i * step + 5) % texts.len()).collect();
                let batch: Vec<&[u32]> = order.iter().map(|&text| texts[text].as_slice()).collect();
                for (&text, found) in order.iter().zip(model.encode_ids(&batch, &ALL).unwrap()) {
                    if let Err(what) = same_bits(&found, &expected[text]) {
                        failures.push(format!("{}, {isa}, {threads} threads, text {text}: {what}", format.name()));
                    }
                }
                if threads == 1 {
                    continue;
                }
                // For dense vectors alone the last layer computes only what they need.
                let dense = model.encode_ids(&texts, &EncodeOptions::default()).unwrap();
                for (text, found) in dense.iter().enumerate() {
                    if found.dense != expected[text].dense {
                        failures.push(format!("{}, {isa}, {threads} threads, dense alone, text {text}", format.name()));
                    }
                }
            }
        }
    }
    report(failures);
}

#[cfg(feature = "starter")]
#[test]
fn the_tokens_are_those_of_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let starter = common::starter_checkpoint();
    let path = directory.path().join("f16.safetensors");
    let report =
        pack(&starter, &PackOptions::new(WeightFormat::F16), &path, &mut std::fs::File::create(&path).unwrap())
            .unwrap();
    assert_eq!(report.bytes, std::fs::metadata(&path).unwrap().len());
    let packed = Model::load(&path).unwrap();
    let (found, expected) = (packed.info(), starter.info());
    assert_eq!(
        (found.modes, found.max_length, found.dense_dim),
        (expected.modes, expected.max_length, expected.dense_dim)
    );
    assert_eq!((found.weights.as_str(), &found.pooling), ("f16", &expected.pooling));
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut texts: Vec<String> = common::texts().into_iter().map(|text| text.text).collect();
    for _ in 0..3000 {
        let c = |bits: u64| char::from_u32((bits % 0x3_0000) as u32).unwrap_or(' ');
        texts.push((0..random() % 24).map(|_| c(random() >> (random() % 40))).collect());
    }
    let options = EncodeOptions::default();
    for text in &texts {
        let (found, expected) = (packed.tokenize(text, &options).unwrap(), starter.tokenize(text, &options).unwrap());
        assert_eq!(found, expected, "{text:?}");
    }
}

fn refusal(path: &Path, bytes: &[u8]) -> Error {
    std::fs::write(path, bytes).unwrap();
    Model::load(path).expect_err("the file was taken")
}

/// The file with its header changed as text, and the same data.
fn with_header(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = change(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
    let mut header = header.trim_end().as_bytes().to_vec();
    header.resize((8 + header.len()).next_multiple_of(64) - 8, b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]].concat()
}

#[test]
fn damaged_packed_files_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let good = std::fs::read(pack_small(WeightFormat::Int8, directory.path())).unwrap();
    let path = directory.path().join("bad.safetensors");
    for cut in [0, 1, 7, 8, 9, 100, good.len() / 2, good.len() - 1] {
        let error = refusal(&path, &good[..cut]);
        assert!(matches!(error, Error::FileLength { .. }), "cut at {cut}: {error}");
    }
    for (from, to, expected) in [
        (
            r#""trivec.packed":"3""#,
            r#""trivec.packed":"4""#,
            "format version `4`, expected 3: it was packed by a newer",
        ),
        (r#""trivec.packed":"3","#, "", "not a packed one"),
        (r#""trivec.weights":"int8""#, r#""trivec.weights":"int3""#, "scheme `int3`"),
        (r#""trivec.weights":"int8""#, r#""trivec.weights":"int4""#, "expected U8"),
        (r#""trivec.weights":"int8""#, r#""trivec.weights":"f16""#, "expected F16"),
        (r#""trivec.rotated":"true""#, r#""trivec.rotated":"yes""#, "expected true or false"),
        (r#"\"hidden\":60"#, r#"\"hidden\":63"#, "expected [63]"),
        (r#"\"hidden\":60"#, r#"\"hidden\":0"#, "hidden size 0"),
        (r#"\"layers\":"#, r#"\"layers\":2147483"#, "layers, but has"),
        (r#"\"heads\":"#, r#"\"heds\":"#, "trivec.model"),
        ("attention.self.query.weight_scale", "attention.self.query.weight_scole", "scales are missing"),
        ("encoder.layer.0.output.dense.weight\"", "encoder.layer.0.output.dense.waight\"", "it is missing"),
    ] {
        let bad = with_header(&good, |header| {
            assert!(header.contains(from), "{from} is not in the header");
            header.replacen(from, to, 1)
        });
        let error = refusal(&path, &bad);
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
        assert!(error.to_string().contains(expected) && error.to_string().contains("bad.safetensors"), "{error}");
    }
    // Since version 2 only the layout of int4 weights has changed: the error for such a file says what to do, and other files still load.
    std::fs::write(
        &path,
        with_header(&good, |header| header.replacen(r#""trivec.packed":"3""#, r#""trivec.packed":"2""#, 1)),
    )
    .unwrap();
    assert_eq!(Model::load(&path).unwrap().packed_format(), Some(WeightFormat::Int8));
    let int4 = std::fs::read(pack_small(WeightFormat::Int4, directory.path())).unwrap();
    for (from, to, expected) in [
        (
            r#""trivec.packed":"3""#,
            r#""trivec.packed":"2""#,
            "format version `2`, expected 3: its int4 weights lie otherwise: pack it again",
        ),
        (r#""trivec.grouped":"false""#, r#""trivec.grouped":"true""#, "expected U8"),
        (r#""trivec.weights":"int4""#, r#""trivec.weights":"int8""#, "expected U8"),
        ("layer.1.output.dense.weight_scale", "layer.1.output.dense.weight_scole", "scales are missing"),
    ] {
        let bad = with_header(&int4, |header| {
            assert!(header.contains(from), "{from} is not in the header");
            header.replacen(from, to, 1)
        });
        let error = refusal(&path, &bad);
        assert!(error.kind() == ErrorKind::Model && error.to_string().contains(expected), "{error}");
    }
    // Data that do not begin at a multiple of 64 bytes.
    let length = u64::from_le_bytes(good[..8].try_into().unwrap());
    let mut moved = (length + 4).to_le_bytes().to_vec();
    moved.extend_from_slice(&good[8..8 + length as usize]);
    moved.extend_from_slice(b"    ");
    moved.extend_from_slice(&good[8 + length as usize..]);
    assert!(refusal(&path, &moved).to_string().contains("aligned"));
    // A checkpoint's file is not a packed one, and says what to do.
    let error = Model::load(data("models/bf16-h60/model.safetensors")).unwrap_err();
    assert!(error.to_string().contains("trivec pack"), "{error}");
    assert!(Model::load(directory.path().join("absent.safetensors")).unwrap_err().to_string().contains("no such"));
}

/// Overwrites the beginning of a tensor with `with`.
fn overwrite(file: &mut [u8], tensor: &str, with: &[u8]) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let begin = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 8 + length;
    file[begin..begin + with.len()].copy_from_slice(with);
}

#[test]
fn values_that_are_not_finite_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.safetensors");
    for (format, tensor, nan) in [
        (WeightFormat::Int8, "encoder.layer.1.intermediate.dense.weight_scale", &f32::NAN.to_le_bytes()[..]),
        (WeightFormat::Int8, "encoder.layer.0.attention.self.input_scale", &f32::INFINITY.to_le_bytes()),
        (WeightFormat::Int4, "encoder.layer.1.output.dense.weight_scale", &f32::NAN.to_le_bytes()),
        (WeightFormat::F32, "encoder.layer.0.output.dense.weight", &f32::NAN.to_le_bytes()),
        (WeightFormat::F16, "encoder.layer.0.output.dense.weight", &[0x00, 0x7c]),
        (WeightFormat::Bf16, "encoder.layer.0.output.dense.weight", &[0xc0, 0x7f]),
    ] {
        let mut bytes = std::fs::read(pack_small(format, directory.path())).unwrap();
        overwrite(&mut bytes, tensor, nan);
        let error = refusal(&path, &bytes);
        assert!(error.to_string().contains(tensor) && error.to_string().contains("not finite"), "{error}");
    }
    // The scales in a checkpoint's own q4_0 blocks are scanned too.
    let mut bytes = Vec::new();
    let model = Model::load(data("models/q4-h64")).unwrap();
    pack(&model, &PackOptions::new(WeightFormat::Int4), &path, &mut bytes).unwrap();
    let tensor = "encoder.layer.1.output.dense.weight";
    overwrite(&mut bytes, tensor, &[0x00, 0x7e]);
    let error = refusal(&path, &bytes);
    assert!(error.to_string().contains(tensor) && error.to_string().contains("not finite"), "{error}");
}

#[cfg(feature = "starter")]
#[test]
fn flipped_bits_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flipped.safetensors");
    let mut good = Vec::new();
    pack(&common::starter_checkpoint(), &PackOptions::new(WeightFormat::Int4), &path, &mut good).unwrap();
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&good[8..8 + length]).unwrap();
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % n
    };
    let places: Vec<(usize, usize)> = ["units", "ends", "text", "scores", "charsmap_units", "charsmap_text", "spec"]
        .iter()
        .map(|part| {
            let offsets = &header[format!("tokenizer.{part}")]["data_offsets"];
            (offsets[0].as_u64().unwrap() as usize, offsets[1].as_u64().unwrap() as usize)
        })
        .collect();
    for round in 0..60 {
        let mut bad = good.clone();
        // Flips one bit of the header, or in one part of the tokenizer half as many bits as the part has bytes.
        let (from, to) = match round % 8 {
            0 => (8, 8 + length),
            part => (places[part - 1].0 + 8 + length, places[part - 1].1 + 8 + length),
        };
        for _ in 0..if round % 8 == 0 { 1 } else { 1 + (to - from) / 2 } {
            bad[from + random(to - from)] ^= 1 << random(8);
        }
        std::fs::write(&path, &bad).unwrap();
        if let Ok(model) = Model::load_with(&path, &LoadOptions { threads: Some(1), ..Default::default() }) {
            for text in ["", "Guten Morgen, 世界! ﬁ ①", "a\u{301}\u{302} <s>x</s>"] {
                let tokens = model.tokenize(text, &EncodeOptions::default()).unwrap();
                assert!(tokens.tokens.iter().all(|token| (token.id as usize) < model.info().vocabulary));
                model.encode(&[text], &ALL).unwrap();
            }
        }
    }
}

/// Whatever the bytes of int4 panels are, they are weights: a model with any of them runs, and gives the same bits on every ISA.
#[test]
fn any_bytes_are_int4_weights() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(pack_small(WeightFormat::Int4, directory.path())).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut state = 99u64;
    let mut panels = 0;
    for (_, entry) in header.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("dense.weight")) {
        if entry["dtype"] == "U8" {
            let [from, to] = [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap() as usize + 8 + length);
            for byte in &mut bytes[from..to] {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            panels += 1;
        }
    }
    assert_eq!(panels, 6);
    let path = directory.path().join("any.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let mut expected = None;
    for isa in trivec::instruction_sets() {
        let model = load(&path, 2, isa);
        let texts = sequences(model.info().vocabulary as u32);
        let found = model.encode_ids(&texts[..40], &ALL).unwrap();
        for (found, expected) in found.iter().zip(expected.get_or_insert_with(|| found.clone())) {
            same_bits(found, expected).unwrap_or_else(|what| panic!("{isa}: {what}"));
        }
    }
}

#[test]
fn a_packed_model_is_not_packed_again() {
    let directory = tempfile::tempdir().unwrap();
    let model = Model::load(pack_small(WeightFormat::F32, directory.path())).unwrap();
    let error = pack(&model, &PackOptions::new(WeightFormat::Int8), Path::new("x"), &mut Vec::new()).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("packed already"), "{error}");
    // Nor is it with a plan that was made for the original, although that plan fits its shape.
    let original = Model::load(data("models/bf16-h60")).unwrap();
    let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(WeightFormat::Int8) };
    let plan = trivec::pack::plan(&original, &options, &|_, _, _| ()).unwrap();
    assert!(Writing::new(&original, &options, &plan, &|_, _, _| ()).is_ok());
    let error = Writing::new(&model, &options, &plan, &|_, _, _| ()).err().unwrap();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("packed already"), "{error}");
}

#[test]
fn writing_goes_on_only_where_a_part_of_the_file_ends() {
    let model = Model::load(data("models/bf16-h60")).unwrap();
    let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(WeightFormat::Int8) };
    let plan = trivec::pack::plan(&model, &options, &|_, _, _| ()).unwrap();
    let writing = Writing::new(&model, &options, &plan, &|_, _, _| ()).unwrap();
    let mut whole = Vec::new();
    let report = writing.write(Path::new("x"), &mut whole, 0, &|_, _| ()).unwrap();
    assert_eq!(report.bytes, whole.len() as u64);
    let boundary = writing.last_boundary(report.bytes / 2).unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    let mut rest = Vec::new();
    let tell = |done, total| told.borrow_mut().push((done, total));
    let resumed = writing.write(Path::new("x"), &mut rest, boundary, &tell).unwrap();
    assert!(boundary > 0 && rest == whole[boundary as usize..], "from {boundary}");
    // Progress and report count from the file's beginning.
    assert_eq!((told.borrow()[0], resumed.bytes), ((boundary, report.bytes), report.bytes));
    for from in [1, boundary - 1, boundary + 1, report.bytes + 1] {
        let mut out = Vec::new();
        let error = writing.write(Path::new("x"), &mut out, from, &|_, _| ()).unwrap_err();
        let shown = error.to_string();
        assert!(error.kind() == ErrorKind::Usage && shown.contains(&format!("from: found {from}")), "{shown}");
        assert!(out.is_empty(), "nothing is written");
    }
}

#[test]
fn a_file_replaced_under_a_model_does_not_change_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = pack_small(WeightFormat::Int8, directory.path());
    let model = Model::load(&path).unwrap();
    let texts = sequences(model.info().vocabulary as u32);
    let before = model.encode_ids(&texts[..5], &ALL).unwrap();
    let other = directory.path().join("other");
    std::fs::write(&other, b"something else").unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(model.encode_ids(&texts[..5], &ALL).unwrap(), before);
    assert!(Model::load(&path).is_err());
}
