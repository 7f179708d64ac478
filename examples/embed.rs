//! Embeds texts and scores them: `cargo run --release --example embed`.
//!
//! ```text
//! Apple launched a new iPhone: 384 numbers, 8 lexical weights, 9 ColBERT rows
//! 苹果公司发布新手机: dense 0.74, related
//!     colbert              0.702
//!     sparse               0.000
//!     dense                0.743
//!     sparse+dense         0.372
//!     colbert+sparse+dense 0.482
//! the soup is cooked with leek: dense 0.12, unrelated
//!     colbert              0.236
//!     sparse               0.012
//!     dense                0.125
//!     sparse+dense         0.068
//!     colbert+sparse+dense 0.124
//! ```

use trivec::similarity::{ScoreWeights, Thresholds, score};
use trivec::{EncodeOptions, Model, Modes};

const TEXTS: [&str; 3] = ["Apple launched a new iPhone", "苹果公司发布新手机", "the soup is cooked with leek"];

fn main() -> trivec::Result<()> {
    // The small model inside this program. Model::load("path/to/bge-m3") loads a checkpoint or a packed file.
    let model = Model::starter()?;

    let options = EncodeOptions { modes: Modes::ALL, ..Default::default() };
    let embeddings = model.encode(&TEXTS, &options)?;

    let first = &embeddings[0];
    println!(
        "{}: {} numbers, {} lexical weights, {} ColBERT rows",
        TEXTS[0],
        first.dense.as_ref().map_or(0, Vec::len),
        first.lexical.as_ref().map_or(0, |weights| weights.len()),
        first.colbert.as_ref().map_or(0, |rows| rows.rows()),
    );

    for (text, embedding) in TEXTS.iter().zip(&embeddings).skip(1) {
        let scores = score(first, embedding, &ScoreWeights::default());
        let dense = scores.dense.unwrap_or(f32::NAN);
        println!("{text}: dense {dense:.2}, {}", Thresholds::default().verdict(dense));
        for (name, value) in scores.named() {
            println!("    {name:<20} {:.3}", value.unwrap_or(f32::NAN));
        }
    }
    Ok(())
}
