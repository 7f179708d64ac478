//! `load_packed` packs a checkpoint once, called from the library without the program.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use trivec::pack::Stage;
use trivec::{EncodeOptions, LoadOptions, Model, WeightFormat};
use trivec_hub::staged::Watcher;
use trivec_hub::{Copies, CopyError, CopyProgress, Store, load_packed};

/// Records the notes of `load_packed`, and checks that no progress exceeds its total.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Watcher for Notes {
    fn measuring(&self, _: Stage, _: usize, _: usize) {}
    fn writing(&self, _: u64, _: u64) {}
    fn resumed(&self, _: &str) {}
}

impl CopyProgress for Notes {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
    fn reading(&self, done: u64, total: u64) {
        assert!(done <= total);
    }
    fn comparing(&self, done: usize, total: usize) {
        assert!(done <= total);
    }
    fn end(&self) {}
}

impl Notes {
    /// Whether a note says that something was packed.
    fn has_packed(&self) -> bool {
        self.0.lock().unwrap().iter().any(|note| note.starts_with("packing "))
    }
}

/// Copies a tiny checkpoint to `to`.
fn checkpoint(to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(trivec_testing::data("models/f32-h64")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn dense(model: &Model) -> Vec<f32> {
    model.encode(&["some text"], &EncodeOptions::default()).unwrap()[0].dense.clone().unwrap()
}

#[test]
fn a_checkpoint_is_packed_once_and_known_by_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    checkpoint(&one);
    checkpoint(&two);
    let store = Store::at(directory.path().join("home"));
    let load = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let packed = |path: &Path, notes: &Notes| load_packed(path, WeightFormat::Int8, &load, &store, notes).unwrap();

    let notes = Notes::default();
    let first = packed(&one, &notes);
    assert!(notes.has_packed() && first.packed_format() == Some(WeightFormat::Int8));
    assert_eq!(first.info().name, one.display().to_string(), "it has the checkpoint's name");
    let (found, expected) = (dense(&first), dense(&Model::load_with(&one, &load).unwrap()));
    let cosine: f32 = found.iter().zip(&expected).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.99, "{cosine}");
    // Neither a second call nor another directory with the same content packs again.
    for path in [&one, &two] {
        let notes = Notes::default();
        assert_eq!(dense(&packed(path, &notes)), found);
        assert!(!notes.has_packed(), "{:?}", notes.0);
    }
    assert_eq!(Copies::of(&store).list().len(), 1);
}

#[test]
fn an_error_says_whether_the_checkpoint_or_the_store_is_at_fault() {
    let directory = tempfile::tempdir().unwrap();
    let one = directory.path().join("one");
    checkpoint(&one);
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let load = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let of =
        |path: &Path, home: &Path| load_packed(path, WeightFormat::F16, &load, &Store::at(home), &()).err().unwrap();
    let found = of(&one, &file.join("home"));
    assert!(matches!(found, CopyError::NotKept(_)), "{found}");
    fs::remove_file(one.join("model.safetensors")).unwrap();
    let found = of(&one, &directory.path().join("home"));
    assert!(matches!(&found, CopyError::Checkpoint(_)) && found.to_string().contains("model.safetensors"), "{found}");
}
