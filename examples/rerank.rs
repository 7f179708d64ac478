//! Orders documents by how well they answer a question, with a cross-encoder:
//! `cargo run --release --example rerank -- path/to/bge-reranker-v2-m3`.
//!
//! Without a path it uses the tiny reranker of the tests, whose weights are random: the output then shows the calls, not a good order.
//!
//! ```text
//! 0.550 (logit +0.202, 58 tokens)  Soup is cooked with leek.
//! 0.492 (logit -0.031, 62 tokens)  The night train leaves at ten.
//! 0.275 (logit -0.970, 65 tokens)  Trains to Vienna run every hour.
//! ```

use std::path::PathBuf;

use trivec::{Model, RerankOptions};

fn main() -> trivec::Result<()> {
    let of_the_tests = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rerankers/reranker-h48"));
    let path = std::env::args_os().nth(1).map_or_else(of_the_tests, PathBuf::from);
    let model = Model::load(path)?;

    let documents = ["The night train leaves at ten.", "Soup is cooked with leek.", "Trains to Vienna run every hour."];
    let mut results = model.rerank("When does the train to Vienna leave?", &documents, &RerankOptions::default())?;

    results.sort_by(|a, b| b.score.total_cmp(&a.score));
    for result in &results {
        println!(
            "{:.3} (logit {:+.3}, {} tokens)  {}",
            result.score, result.logit, result.tokens, documents[result.index]
        );
    }
    Ok(())
}
