//! Aligns the tokens of a question with those of a text by their ColBERT vectors: `cargo run --release --example colbert`.
//!
//! ```text
//! ▁new     is nearest to 新      0.59
//! ▁phone   is nearest to 手机     0.71
//! </s>     is nearest to ▁      0.42
//! ColBERT score: 0.574, the mean of these
//! ```

use trivec::{EncodeOptions, Model, similarity};

fn main() -> trivec::Result<()> {
    let model = Model::starter()?;
    let options = EncodeOptions::default();
    let question = model.inspect("new phone", &options)?;
    let text = model.inspect("苹果公司发布新手机", &options)?;

    let rows = |inspection: &trivec::Inspection| inspection.embedding.colbert.clone().expect("the starter has ColBERT");
    let (question_rows, text_rows) = (rows(&question), rows(&text));

    // Row i belongs to token i + 1, because <s> has no ColBERT vector.
    for (row, best) in similarity::align(&question_rows, &text_rows).iter().enumerate() {
        let (from, to) = (&question.tokens[row + 1].piece, &text.tokens[best.document_row + 1].piece);
        println!("{from:<8} is nearest to {to:<6} {:.2}", best.similarity);
    }
    println!("ColBERT score: {:.3}, the mean of these", similarity::colbert(&question_rows, &text_rows));
    Ok(())
}
