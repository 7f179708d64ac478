//! Unusual texts: empty ones, one token repeated thousands of times, unknown scripts, and special tokens that are written out. `row_N` in a
//! test's name is the number of the case in the list from which these tests were made.

use trivec_testing as common;

use common::data;
use trivec::{EncodeOptions, Model, Modes};

const ALL: EncodeOptions = EncodeOptions {
    modes: Modes::ALL,
    max_length: None,
    dimensions: None,
    normalize: None,
    special_tokens: trivec::SpecialTokens::Parse,
    prompt: trivec::Prompt::Default,
    prompt_tokens: 0,
    cancel: None,
    progress: None,
    colbert_dimensions: None,
    colbert_raw: false,
};

#[test]
fn empty_texts_are_two_tokens_and_an_empty_list_is_empty() {
    let model = Model::starter().unwrap();
    assert!(model.encode::<&str>(&[], &ALL).unwrap().is_empty());
    let embedding = model.encode(&[""], &ALL).unwrap().remove(0);
    assert_eq!((embedding.tokens, embedding.truncated), (2, false));
    assert!(embedding.lexical.unwrap().is_empty());
    assert_eq!(embedding.colbert.unwrap().rows(), 1);
    let norm: f32 = embedding.dense.unwrap().iter().map(|x| x * x).sum();
    assert!((norm - 1.0).abs() < 1e-5);
}

#[test]
fn one_token_eight_thousand_times() {
    let model = Model::load(data("models/long-h32")).unwrap();
    let mut ids = vec![9u32; 8002];
    (ids[0], ids[8001]) = (0, 2);
    let embedding = model.encode_ids(&[ids], &ALL).unwrap().remove(0);
    let lexical = embedding.lexical.unwrap();
    assert!(lexical.ids() == [9] || lexical.is_empty(), "{:?}", lexical.ids());
    let colbert = embedding.colbert.unwrap();
    assert_eq!(colbert.rows(), 8001);
    assert!(colbert.as_slice().iter().chain(&embedding.dense.unwrap()).all(|x| x.is_finite()));
}

#[test]
fn unknown_and_special_tokens_never_reach_the_lexical_weights() {
    let model = Model::starter().unwrap();
    let texts = ["<s> a </s> <pad> b <unk>", "\u{10fffd}\u{10fffc} \u{378}", "ꯃꯤꯇꯩꯂꯣꯟ ߒߞߏ 𐌰𐌱"];
    for embedding in model.encode(&texts, &ALL).unwrap() {
        assert!(embedding.lexical.unwrap().ids().iter().all(|&id| id > 3));
        assert!(embedding.dense.unwrap().iter().all(|x| x.is_finite()));
    }
    let unknown = model.tokenize("\u{10fffd}\u{10fffc}\u{10fffb}", &ALL).unwrap();
    assert_eq!(
        unknown.tokens.iter().filter(|token| token.id == 3).count(),
        1,
        "neighbouring unknown characters are one token"
    );
}
