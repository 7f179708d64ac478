//! Shows a text's lexical weights in words, and which words two texts share: `cargo run --release --example lexical`.
//!
//! ```text
//! weights of the question's tokens:
//!     ▁W         0.132
//!     hi         0.149
//!     ch         0.113
//!     ▁bak       0.228
//!     ery        0.163
//!     ▁se        0.160
//!     lls        0.163
//!     ▁ry        0.184
//!     e          0.115
//!     ▁bre       0.180
//!     ad         0.153
//!     ▁on        0.119
//!     ▁Sunday    0.255
//!     s          0.125
//!     ?          0.092
//! tokens that both texts have, and what each adds to the lexical score:
//!     ▁Sunday    0.255 x 0.240 = 0.061
//!     ▁bak       0.228 x 0.195 = 0.044
//!     ▁bre       0.180 x 0.184 = 0.033
//!     ▁ry        0.184 x 0.173 = 0.032
//!     ery        0.163 x 0.160 = 0.026
//!     ad         0.153 x 0.154 = 0.024
//!     e          0.115 x 0.111 = 0.013
//!     ▁on        0.119 x 0.104 = 0.012
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
