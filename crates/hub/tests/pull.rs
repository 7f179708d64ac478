//! `pull` called from the library, without the program, with a hub on loopback.
#![cfg(feature = "fetch")]

use std::sync::Mutex;
use std::time::Duration;

use trivec::pack::Stage;
use trivec::{EncodeOptions, LoadOptions, Model, WeightFormat};
use trivec_hub::names::Spec;
use trivec_hub::staged::Watcher;
use trivec_hub::{FetchOptions, Hub, HubErrorKind, Patience, Progress, PullOptions, PullProgress, Pulled, Store, pull};
use trivec_testing::hub::{Hub as LoopbackHub, small_model};
use trivec_testing::world::nowhere;

/// Records the notes of a pull, and the files that were fetched.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, _: usize, _: u64) {}
    fn start(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: &str, _: u64) {}
    fn done(&self, path: &str) {
        self.note(&format!("done {path}"));
    }
    fn end(&self) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Watcher for Notes {
    fn measuring(&self, _: Stage, _: usize, _: usize) {}
    fn writing(&self, _: u64, _: u64) {}
    fn resumed(&self, _: &str) {}
}

impl PullProgress for Notes {
    fn comparing(&self, _: usize, _: usize) {}
}

/// Options to pull an int8 model from Hugging Face's API at `endpoint`, without other attempts and without pinned hashes.
fn options(endpoint: &str) -> PullOptions {
    let patience = Patience { stall: Duration::from_secs(600), retries: 0, delay: Duration::from_millis(1) };
    let fetch = FetchOptions {
        endpoint: Some(endpoint.to_owned()),
        hubs: vec![Hub::HuggingFace],
        pinned: false,
        patience,
        ..FetchOptions::default()
    };
    let load = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    PullOptions { fetch, weights: WeightFormat::Int8, force: false, keep_source: false, load }
}

#[test]
fn a_library_call_pulls_a_model_and_knows_it_again() {
    let (directory, hub) = (tempfile::tempdir().unwrap(), LoopbackHub::serve(&small_model()));
    let store = Store::at(directory.path().join("home"));
    let spec = Spec::parse("bge-m3").unwrap();
    let notes = Notes::default();
    let Pulled { record, made } = pull(&spec, &options(&hub.url), &store, &notes).unwrap();
    let made = made.unwrap();
    assert_eq!((record.name.as_str(), record.weights.as_str()), ("bge-m3", "int8"));
    assert!(made.source.is_none() && made.source_bytes > 0 && made.report.dense.mean > 0.99);
    assert!(notes.0.lock().unwrap().iter().any(|note| note == "done model.safetensors"), "{:?}", notes.0);

    let load = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let (packed, source) = (Model::load_with(store.path(&record), &load), Model::load_with(small_model(), &load));
    let dense =
        |model: &Model| model.encode(&["some text"], &EncodeOptions::default()).unwrap()[0].dense.clone().unwrap();
    let (found, expected) = (dense(&packed.unwrap()), dense(&source.unwrap()));
    let cosine: f32 = found.iter().zip(&expected).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.99, "{cosine}");

    // A second call finds the model installed.
    let again = pull(&spec, &options(&hub.url), &store, &Notes::default()).unwrap();
    assert!(again.made.is_none());
    assert_eq!(again.record.file, record.file);
}

#[test]
fn a_hub_that_cannot_be_reached_is_an_error_of_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::at(directory.path().join("home"));
    let spec = Spec::parse("bge-m3").unwrap();
    let error = pull(&spec, &options(&nowhere()), &store, &Notes::default()).unwrap_err();
    assert_eq!(error.kind, HubErrorKind::Network, "{error:?}");
    assert!(!directory.path().join("home/models").exists());
}
