//! Fetches a model from a hub, packs it, compares the packed model with its source, installs it and loads it by name:
//! `cargo run --release --example pull`.
//!
//! This example starts a hub on the loopback that serves a tiny model of the tests. With `FetchOptions::default()` the same calls fetch
//! the real BGE-M3 from Hugging Face.
//!
//! ```text
//! fetched 1026830 bytes, packed to 685184 bytes
//! packed and source agree: mean cosine 0.9998
//! bge-m3: 128 numbers a text
//! ```

use trivec::{EncodeOptions, Model, WeightFormat};
use trivec_hub::{FetchOptions, Hub, PullOptions, Store, names::Spec, pull};
use trivec_testing::hub::{Hub as LoopbackHub, small_model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hub = LoopbackHub::serve(&small_model());
    let directory = tempfile::tempdir()?;

    // Where models are installed. Store::from_env() is the one that the program `trivec` uses.
    let store = Store::at(directory.path().to_path_buf());
    let fetch = FetchOptions {
        endpoint: Some(hub.url.clone()),
        hubs: vec![Hub::HuggingFace],
        pinned: false, // the tiny model does not have BGE-M3's hashes
        ..FetchOptions::default()
    };
    let options = PullOptions { fetch, ..PullOptions::new(WeightFormat::Int8) };

    // `&()` reports no progress.
    let pulled = pull(&Spec::parse("bge-m3")?, &options, &store, &())?;
    let made = pulled.made.as_ref().expect("the store was empty");
    println!("fetched {} bytes, packed to {} bytes", made.source_bytes, pulled.record.bytes);
    println!("packed and source agree: mean cosine {:.4}", made.report.dense.mean);

    // Later, or in another program: the installed model by its name.
    let record = store.find("bge-m3")?.expect("it was installed above");
    let model = Model::load(store.path(&record))?;
    let embeddings = model.encode(&["a text"], &EncodeOptions::default())?;
    println!("{}: {} numbers a text", record.name, embeddings[0].dense.as_ref().map_or(0, Vec::len));
    Ok(())
}
