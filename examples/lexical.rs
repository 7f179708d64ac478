//! Prints the lexical weight of each token of a text, and the tokens that two texts share: `cargo run --release --example lexical`.
//!
//! ```text
//! weights of the question's tokens:
//!     ▁W         0.025
//!     hi         0.056
//!     ch         0.021
//!     ▁bak       0.281
//!     ery        0.199
//!     ▁se        0.171
//!     lls        0.145
//!     ▁ry        0.328
//!     e          0.180
//!     ▁bre       0.223
//!     ad         0.147
//!     ▁on        0.106
//!     ▁Sunday    0.297
//!     s          0.131
//!     ?          0.180
//! tokens that both texts have, and what each adds to the lexical score:
//!     ▁ry        0.328 x 0.322 = 0.106
//!     ▁Sunday    0.297 x 0.295 = 0.088
//!     ▁bak       0.281 x 0.236 = 0.066
//!     ▁bre       0.223 x 0.231 = 0.051
//!     ery        0.199 x 0.198 = 0.039
//!     e          0.180 x 0.209 = 0.038
//!     ad         0.147 x 0.213 = 0.031
//!     ▁on        0.106 x 0.170 = 0.018
//! ```

use trivec::similarity::shared_pieces;
use trivec::{EncodeOptions, Model};

fn main() -> trivec::Result<()> {
    let model = Model::starter()?;
    let options = EncodeOptions::default();
    let [question, answer] = model.inspect_pair(
        "Which bakery sells rye bread on Sundays?",
        "Our bakery bakes rye bread and is open on Sunday.",
        [&options, &options],
    )?;

    // One weight for every token of the question, in the order of the text.
    let weights = question.token_weights.as_ref().expect("the starter has a sparse head");
    println!("weights of the question's tokens:");
    for (token, weight) in question.tokens.iter().zip(weights).filter(|(token, _)| !token.special) {
        println!("    {:<10} {weight:.3}", token.piece);
    }

    println!("tokens that both texts have, and what each adds to the lexical score:");
    for token in shared_pieces(&question, &answer) {
        println!("    {:<10} {:.3} x {:.3} = {:.3}", token.piece, token.weight_a, token.weight_b, token.product);
    }
    Ok(())
}
