//! The starter against PyTorch, from text to all three outputs.
#![cfg(feature = "starter")]

mod common;

use common::{Golden, check, report, texts};
use trivec::{EncodeOptions, Model, Modes};

#[test]
fn starter_agrees_with_pytorch() {
    let (model, golden, texts) = (Model::starter().unwrap(), Golden::read("starter"), texts());
    assert_eq!(golden.cases().count(), texts.len(), "remake it: tools/reference.py golden-starter");

    let mut failures = Vec::new();
    let options = EncodeOptions { modes: Modes::ALL, ..Default::default() };
    let strings: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
    let embeddings = model.encode(&strings, &options).unwrap();
    assert_eq!(embeddings.len(), texts.len());
    for (text, embedding) in texts.iter().zip(&embeddings) {
        let tokens = model.tokenize(&text.text, &options).unwrap();
        let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
        if ids != golden.ids(&text.id) {
            // Wrong ids make every value wrong: say only this.
            failures.push(format!("{}: ids {ids:?}, expected {:?}", text.id, golden.ids(&text.id)));
            continue;
        }
        failures.extend(check(embedding, &golden, &text.id, 1.0));
    }
    report(failures);
}
