//! Keeps embeddings on disk, so that no text is embedded twice: `cargo run --release --example cached`.
//!
//! ```text
//! first: 0 hits, 2 misses
//! again: 2 hits, 0 misses
//! the same bits: true
//! ```

use std::sync::Arc;

use trivec::{Embedding, EncodeOptions, Model};
use trivec_cache::{Cache, DEFAULT_BYTES, Identity, Wanted, WhenBehind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::starter()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("embeddings.sqlite");
    let texts = ["a first text", "a second text"];

    // A cache never stops a program: whatever goes wrong with the file is a warning, and the text is embedded again.
    let cache = Cache::open(&path, DEFAULT_BYTES, Box::new(|warning| eprintln!("{warning}")))?;
    let identity = Arc::new(cache.identify(&model)?);
    let first = embed(&model, &cache, &identity, &texts)?;
    println!("first: {} hits, {} misses", cache.stats().hits, cache.stats().misses);
    cache.close(); // writes what is still waiting

    let cache = Cache::open(&path, DEFAULT_BYTES, Box::new(|warning| eprintln!("{warning}")))?;
    let again = embed(&model, &cache, &identity, &texts)?;
    println!("again: {} hits, {} misses", cache.stats().hits, cache.stats().misses);
    println!("the same bits: {}", first == again);
    Ok(())
}

/// Embeds the texts that the cache does not have, and gives all embeddings in the order of the texts.
fn embed(model: &Model, cache: &Cache, identity: &Arc<Identity>, texts: &[&str]) -> trivec::Result<Vec<Embedding>> {
    let options = EncodeOptions::default();
    let ids: Vec<Vec<u32>> =
        texts.iter().map(|text| Ok(model.token_ids(text, &options)?.0)).collect::<trivec::Result<_>>()?;
    let wanted = Wanted::from(options.modes);
    let plan = cache.plan(identity, &wanted, &ids);
    let missing = plan.missing_of(&ids);
    let computed = model.encode_ids(&missing, &options)?;
    cache.insert(identity, &wanted, missing.iter().zip(&computed), WhenBehind::Wait);
    Ok(plan.complete(computed))
}
