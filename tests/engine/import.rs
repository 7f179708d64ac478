//! Tests of importing checkpoints: the result has the same numbers in safetensors, and is there whole or not at all.

use trivec_testing as common;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;
use trivec::pack::{ImportOptions, ImportReport, import};
use trivec::{EncodeOptions, Error, ErrorKind, Model};

const MODELS: [&str; 11] = [
    "f32-h64",
    "f16-h128",
    "bf16-h60",
    "sharded-h96",
    "noheads-h64",
    "mean-dense-h64",
    "unnormalized-h64",
    "q4-h64",
    "long-h32",
    "torch-h24",
    "mean-torch-h16",
];

fn fixture(model: &str) -> PathBuf {
    common::data("models").join(model)
}

fn import_to(source: &Path, target: &Path, force: bool) -> trivec::Result<ImportReport> {
    import(source, target, &ImportOptions::default().force(force), &mut |_, _| {})
}

/// The names of all entries of a directory, hidden ones included.
fn listing(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { fs::copy(entry.path(), to).map(drop).unwrap() }
    }
}

#[test]
fn every_fixture_gives_the_same_bits_after_import_and_the_same_file_each_time() {
    let directory = TempDir::new().unwrap();
    for name in MODELS {
        let targets = ["a", "b", "c"].map(|run| directory.path().join(run).join(name));
        let report = import_to(&fixture(name), &targets[0], false).unwrap();
        import_to(&fixture(name), &targets[1], false).unwrap();
        import_to(&targets[0], &targets[2], false).unwrap();
        let weights = targets.each_ref().map(|target| fs::read(target.join("model.safetensors")).unwrap());
        assert!(weights[0] == weights[1] && weights[1] == weights[2], "{name}");
        let sizes: usize = report
            .files
            .iter()
            .filter(|file| file.ends_with(".safetensors"))
            .map(|file| fs::read(targets[0].join(file)).unwrap().len())
            .sum();
        assert_eq!(report.bytes, sizes as u64, "{name}");

        let [before, after] = [fixture(name), targets[0].clone()].map(|path| Model::load(path).unwrap());
        let options = EncodeOptions { modes: before.info().modes, ..Default::default() };
        let ids = [vec![0, 5, 9, 2], vec![0, 20, 21, 22, 23, 24, 3, 2]];
        assert_eq!(before.encode_ids(&ids, &options).unwrap(), after.encode_ids(&ids, &options).unwrap(), "{name}");
        assert_eq!(
            before.encode(&["a text "], &options).unwrap(),
            after.encode(&["a text "], &options).unwrap(),
            "{name}"
        );
        assert_eq!(before.info().max_length, after.info().max_length, "{name}");
    }
    assert_eq!(listing(directory.path()), ["a", "b", "c"].map(String::from).into());
}

#[test]
fn names_lose_their_prefixes_and_types_stay() {
    let directory = TempDir::new().unwrap();
    let target = directory.path().join("model");
    let report = import_to(&fixture("torch-h24"), &target, false).unwrap();
    assert_eq!((report.tensors, report.left_out), (43, 1));
    let bytes = fs::read(target.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 43);
    for name in ["sparse_linear.weight", "sparse_linear.bias", "colbert_linear.weight", "colbert_linear.bias"] {
        assert_eq!(file.tensor(name).unwrap().dtype(), Dtype::F16, "{name}");
    }
    assert_eq!(file.tensor("embeddings.word_embeddings.weight").unwrap().dtype(), Dtype::F32);
    assert!(file.tensor("embeddings.position_ids").is_err());

    let target = directory.path().join("sharded");
    import_to(&fixture("mean-torch-h16"), &target, false).unwrap();
    let bytes = fs::read(target.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.names().iter().all(|name| name.starts_with("embeddings.") || name.starts_with("encoder.")));
    let expected =
        ["1_Pooling", "2_Dense", "config.json", "model.safetensors", "modules.json", "sentencepiece.bpe.model"];
    assert_eq!(listing(&target), expected.map(String::from).into());
    assert_eq!(listing(&target.join("2_Dense")), ["config.json", "model.safetensors"].map(String::from).into());
}

#[test]
fn progress_ends_at_the_total() {
    let directory = TempDir::new().unwrap();
    let mut last = (0, 0);
    let target = directory.path().join("new/folders/model");
    import(&fixture("torch-h24"), &target, &ImportOptions::default(), &mut |done, total| {
        assert!(done > last.0 && done <= total);
        last = (done, total);
    })
    .unwrap();
    assert!(last.0 == last.1 && last.0 > 0);
}

#[test]
fn a_target_is_replaced_only_if_it_is_a_model_and_force_is_given() {
    let directory = TempDir::new().unwrap();
    let target = directory.path().join("model");
    let refusal = |force| {
        let error = import_to(&fixture("torch-h24"), &target, force).expect_err("it was replaced");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        error.to_string()
    };
    // An empty directory may be replaced without force.
    fs::create_dir(&target).unwrap();
    import_to(&fixture("f32-h64"), &target, false).unwrap();
    assert!(refusal(false).contains("there already"));
    import_to(&fixture("torch-h24"), &target, true).unwrap();
    assert!(!target.join("tokenizer.json").exists(), "nothing of the old model stays");
    assert_eq!(Model::load(&target).unwrap().info().vocabulary, 120);

    fs::remove_file(target.join("config.json")).unwrap();
    assert!(refusal(true).contains("no model directory"));
    fs::remove_dir_all(&target).unwrap();
    fs::write(&target, "a file").unwrap();
    for force in [false, true] {
        assert!(refusal(force).contains("not a directory"));
    }
    assert_eq!(listing(directory.path()), ["model".to_owned()].into());
}

#[test]
fn a_model_is_not_replaced_by_itself_or_by_what_is_in_it() {
    let directory = TempDir::new().unwrap();
    let outer = directory.path().join("model");
    copy(&fixture("torch-h24"), &outer);
    copy(&fixture("torch-h24"), &outer.join("original"));
    for source in [outer.clone(), outer.join("original")] {
        let error = import_to(&source, &outer, true).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("holds the model"), "{error}");
    }
    // The target may lie inside the source.
    import_to(&outer, &outer.join("imported"), false).unwrap();
}

#[test]
fn a_damaged_source_leaves_nothing_and_the_old_model_stays() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source");
    let target = directory.path().join("model");
    import_to(&fixture("torch-h24"), &target, false).unwrap();
    let before = fs::read(target.join("model.safetensors")).unwrap();
    type Damage = fn(&Path);
    let damages: [(Damage, &str); 6] = [
        (|path| fs::write(path.join("pytorch_model.bin"), "<html>").unwrap(), "HTML page"),
        (|path| fs::write(path.join("sparse_linear.pt"), "").unwrap(), "empty"),
        (|path| fs::write(path.join("sentencepiece.bpe.model"), "x").unwrap(), "SentencePiece"),
        (|path| fs::remove_file(path.join("config.json")).unwrap(), "config.json"),
        (|path| flip(&path.join("pytorch_model.bin"), 20_000), "checksum"),
        (|path| edit_config(path, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"), "it is missing"),
    ];
    for (damage, expected) in damages {
        copy(&fixture("torch-h24"), &source);
        damage(&source);
        let error = import_to(&source, &target, true).unwrap_err();
        assert!(error.kind() == ErrorKind::Model && error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(listing(directory.path()), ["model", "source"].map(String::from).into(), "{expected}");
        assert_eq!(fs::read(target.join("model.safetensors")).unwrap(), before);
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn edit_config(directory: &Path, from: &str, to: &str) {
    let path = directory.join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    assert!(config.contains(from));
    fs::write(path, config.replace(from, to)).unwrap();
}

#[test]
fn an_error_found_while_writing_leaves_nothing_either() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("source");
    copy(&fixture("torch-h24"), &source);
    edit_config(&source, "\"intermediate_size\": 40", "\"intermediate_size\": 41");
    let error = import_to(&source, &directory.path().join("model"), false).unwrap_err();
    assert!(error.to_string().contains("expected [41"), "{error}");
    // A value that is not finite, in a file without checksums.
    copy(&fixture("f32-h64"), &source);
    fs::remove_file(source.join("pytorch_model.bin")).unwrap();
    let path = source.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let at = header["encoder.layer.1.output.dense.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + len + at + 4 * 131..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = import_to(&source, &directory.path().join("model"), false).unwrap_err().to_string();
    assert!(error.contains("layer.1.output.dense.weight") && error.contains("at 131 (row 1, column 3)"), "{error}");
    assert_eq!(listing(directory.path()), ["source".to_owned()].into());
}

#[test]
fn what_a_killed_run_left_is_cleaned_up() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    // The run was killed while it wrote.
    fs::create_dir_all(at(".model.trivec-new/folder")).unwrap();
    fs::write(at(".model.trivec-new/junk"), "half").unwrap();
    fs::write(at(".model.trivec-lock"), "").unwrap();
    import_to(&fixture("torch-h24"), &at("model"), false).unwrap();
    assert_eq!(listing(directory.path()), ["model".to_owned()].into());
    assert!(!at("model/junk").exists());
    // It was killed between the two renames: the old model is put back, and replaced only with force.
    fs::rename(at("model"), at(".model.trivec-old")).unwrap();
    let error = import_to(&fixture("f32-h64"), &at("model"), false).unwrap_err();
    assert!(error.to_string().contains("there already"), "{error}");
    assert_eq!(listing(directory.path()), ["model".to_owned()].into());
    // It was killed after the renames, before it removed the old model.
    copy(&at("model"), &at(".model.trivec-old"));
    import_to(&fixture("f32-h64"), &at("model"), true).unwrap();
    assert_eq!(listing(directory.path()), ["model".to_owned()].into());
    assert_eq!(Model::load(at("model")).unwrap().info().vocabulary, 300);
}

#[test]
fn an_import_is_refused_while_another_process_writes_the_target() {
    let directory = TempDir::new().unwrap();
    let target = directory.path().join("model");
    let lock = fs::File::create(directory.path().join(".model.trivec-lock")).unwrap();
    lock.lock().unwrap();
    match import_to(&fixture("torch-h24"), &target, false).unwrap_err() {
        Error::Io { source, path, .. } => assert!(source.kind() == io::ErrorKind::ResourceBusy && path == target),
        other => panic!("{other}"),
    }
    lock.unlock().unwrap();
    import_to(&fixture("torch-h24"), &target, false).unwrap();
    assert_eq!(listing(directory.path()), ["model".to_owned()].into());
}
