//! Tests that models written after a training are loaded by the engine, and give what the trained heads give.

use std::fs;
use std::path::Path;

use trivec::{EncodeOptions, Model, Modes};
use trivec_testing::data;
use trivec_train::{Error, ExportOptions, Trained, check_output};

use crate::{inputs, load, options, run, starter};

fn trained(model: &Model) -> Trained {
    let directory = tempfile::tempdir().unwrap();
    run(model, inputs(), &options(), directory.path(), None).unwrap()
}

/// The dense vector of a text, computed here from the model's pooled state and the trained head's map.
fn dense_by_hand(model: &Model, trained: &Trained, text: &str) -> Vec<f32> {
    let ids = model.token_ids(text, &EncodeOptions::default()).unwrap().0;
    let mut pooled = Vec::new();
    model.hidden_states(&[ids], &EncodeOptions::default(), |_, states| pooled = model.pooled(states, 0)).unwrap();
    let map = &trained.heads.iter().find(|head| head.name == "dense").unwrap().map;
    let rows = map.weight.chunks(map.inputs).zip(&map.bias);
    let vector: Vec<f32> = rows.map(|(row, b)| b + row.iter().zip(&pooled).map(|(w, x)| w * x).sum::<f32>()).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.into_iter().map(|x| x / norm).collect()
}

/// Panics unless `found` gives the dense vector of the trained head, and lexical weights and ColBERT vectors too.
fn assert_same(found: &Model, before: &Model, trained: &Trained) {
    let text = "a cat sleeps on the roof";
    let options = EncodeOptions { modes: Modes::ALL, ..EncodeOptions::default() };
    let embedding = found.encode(&[text], &options).unwrap().remove(0);
    let expected = dense_by_hand(before, trained, text);
    let dense = embedding.dense.unwrap();
    let cosine: f32 = dense.iter().zip(&expected).map(|(a, b)| a * b).sum();
    assert!((cosine - 1.0).abs() < 1e-4, "{cosine}");
    assert!(!embedding.lexical.unwrap().is_empty());
    assert_eq!(embedding.colbert.unwrap().dim(), before.info().hidden);
}

#[test]
fn a_packed_model_gives_a_packed_file() {
    let directory = tempfile::tempdir().unwrap();
    let model = starter(2);
    let (first, second) = (trained(&model), trained(&model));
    let (path, again) = (directory.path().join("my-model"), directory.path().join("again"));
    first.write(&model, &path, ExportOptions::default()).unwrap();
    second.write(&model, &again, ExportOptions::default()).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap(), "two runs, the same bytes");
    let loaded = load(&path, 1);
    assert_eq!(loaded.packed_format(), model.packed_format());
    assert_same(&loaded, &model, &first);
    // The encoder, which was not trained, gives the same token states.
    let ids = [model.token_ids("the same states", &EncodeOptions::default()).unwrap().0];
    let states = |model: &Model| {
        let mut all = Vec::new();
        model.hidden_states(&ids, &EncodeOptions::default(), |_, states| all = states.to_vec()).unwrap();
        all
    };
    assert_eq!(states(&loaded), states(&model));
    // The file describes its training.
    let bytes = fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert!(header.metadata().as_ref().unwrap()["trivec.train"].contains("\"kept_epoch\""));
    let error = first.write(&model, &path, ExportOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Option { option: "output", .. }), "{error}");
    first.write(&model, &path, ExportOptions { force: true }).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn a_directory_gives_a_directory_with_both_kinds_of_heads() {
    let directory = tempfile::tempdir().unwrap();
    let source = data("models/f32-h64");
    let model = load(&source, 2);
    let trained = trained(&model);
    let path = directory.path().join("my-model");
    trained.write(&model, &path, ExportOptions::default()).unwrap();
    assert_same(&load(&path, 1), &model, &trained);
    for name in [
        "config.json",
        "modules.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "1_Pooling/config.json",
        "training.json",
        "colbert_linear.pt",
        "sparse_linear.safetensors",
    ] {
        assert!(path.join(name).is_file(), "{name}");
    }
    // The two `.pt` files alone give the same heads as the `.safetensors` files.
    let both = |path: &Path| {
        let options = EncodeOptions { modes: Modes::ALL, ..EncodeOptions::default() };
        load(path, 1).encode(&["the sun rises"], &options).unwrap()
    };
    let expected = both(&path);
    for name in ["colbert_linear", "sparse_linear"] {
        fs::remove_file(path.join(format!("{name}.safetensors"))).unwrap();
    }
    assert_eq!(both(&path), expected);
    let error = check_output(&model, &path, ExportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
    check_output(&model, &path, ExportOptions { force: true }).unwrap();
    trained.write(&model, &path, ExportOptions { force: true }).unwrap();
    assert_eq!(both(&path), expected);
    let error = check_output(&model, &source, ExportOptions { force: true }).unwrap_err();
    assert!(error.to_string().contains("holds the model"), "{error}");
    fs::write(directory.path().join("file"), "x").unwrap();
    check_output(&model, &directory.path().join("file"), ExportOptions { force: true }).unwrap_err();
}

#[test]
fn heads_that_are_not_trained_stay_and_bge_m3s_layout_has_no_dense_module() {
    let directory = tempfile::tempdir().unwrap();
    let model = load(&data("models/torch-h24"), 1);
    let options = trivec_train::TrainOptions { heads: [false, true, true], ..options() };
    let work = directory.path().join("work");
    let trained = run(&model, inputs(), &options, &work, None).unwrap();
    let path = directory.path().join("my-model");
    trained.write(&model, &path, ExportOptions::default()).unwrap();
    assert!(!path.join("2_Dense").exists() && path.join("sparse_linear.pt").is_file());
    let modes = EncodeOptions { modes: Modes::DENSE, ..EncodeOptions::default() };
    assert_eq!(load(&path, 1).encode(&["x"], &modes).unwrap(), model.encode(&["x"], &modes).unwrap());
}
