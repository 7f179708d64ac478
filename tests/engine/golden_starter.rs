//! Compares the starter's checkpoint with PyTorch, from text to all three outputs, and the file in the binary with that checkpoint.

use trivec_testing as common;

use common::{Golden, check, report, starter_checkpoint, texts};
use trivec::pack::verify::{Promise, verify};
use trivec::pack::{PackOptions, WeightFormat, pack};
use trivec::{EncodeOptions, LoadOptions, Model, Modes};

#[test]
fn starter_agrees_with_pytorch() {
    let (model, golden, texts) = (starter_checkpoint(), Golden::read("starter"), texts());
    assert_eq!(golden.cases().count(), texts.len(), "remake it: tools/reference.py golden-starter");

    let mut failures = Vec::new();
    let options = EncodeOptions { modes: Modes::ALL, ..Default::default() };
    let strings: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
    let embeddings = model.encode(&strings, &options).unwrap();
    assert_eq!(embeddings.len(), texts.len());
    for (text, embedding) in texts.iter().zip(&embeddings) {
        let tokens = model.tokenize(&text.text, &options).unwrap();
        let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
        if ids != golden.ids(&text.id) {
            // Wrong ids make every value wrong, so only the ids are reported.
            failures.push(format!("{}: ids {ids:?}, expected {:?}", text.id, golden.ids(&text.id)));
            continue;
        }
        failures.extend(check(embedding, &golden, &text.id, 1.0));
    }
    report(failures);
}

#[test]
fn the_file_in_the_binary_is_the_checkpoint_packed() {
    let inside = Model::starter().unwrap();
    assert_eq!(inside.packed_format(), Some(WeightFormat::Int4));
    let options =
        PackOptions { source: inside.packed_source().map(str::to_owned), ..PackOptions::new(WeightFormat::Int4) };
    let mut packed = Vec::new();
    let report = pack(&starter_checkpoint(), &options, "starter".as_ref(), &mut packed).unwrap();
    assert!(report.q4_0);
    let stored = std::fs::read(common::root("models/starter.safetensors")).unwrap();
    assert!(packed == stored, "make it anew: tools/pack_starter.sh");
}

#[test]
fn the_file_in_the_binary_computed_exactly_gives_the_bits_of_the_checkpoint() {
    let exact = Model::starter_with(&LoadOptions { exact: true, ..LoadOptions::default() }).unwrap();
    let checkpoint = starter_checkpoint();
    // The file has the position table in f16, which holds the checkpoint's values exactly.
    assert_eq!((exact.packed_format(), exact.info().weights.as_str()), (None, "F16,F32,Q4_0"));
    let options = EncodeOptions { modes: Modes::ALL, ..EncodeOptions::default() };
    let texts: Vec<String> = texts().into_iter().take(12).map(|text| text.text).collect();
    assert_eq!(exact.encode(&texts, &options).unwrap(), checkpoint.encode(&texts, &options).unwrap());
}

#[test]
fn the_file_in_the_binary_keeps_the_promise_of_its_format() {
    let texts: Vec<String> = texts().into_iter().map(|text| text.text).filter(|text| text.len() < 400).collect();
    let report = verify(&starter_checkpoint(), &Model::starter().unwrap(), &texts, &|_, _| ()).unwrap();
    let failures = report.failures(&Promise::of(WeightFormat::Int4));
    assert!(failures.is_empty(), "{failures:?}\n{report}");
}

#[test]
fn exact_is_refused_for_a_file_with_rounded_weights() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("int8.safetensors");
    let options = PackOptions { calibration: trivec::pack::Calibration::None, ..PackOptions::new(WeightFormat::Int8) };
    pack(&starter_checkpoint(), &options, &path, &mut std::fs::File::create(&path).unwrap()).unwrap();
    let error = Model::load_with(&path, &LoadOptions { exact: true, ..LoadOptions::default() }).unwrap_err();
    assert_eq!(error.kind(), trivec::ErrorKind::Usage);
    assert!(error.to_string().contains("rounded to int8"), "{error}");
}
