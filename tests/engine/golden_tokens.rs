//! Compares token ids of the full XLM-RoBERTa vocabulary with those of the `tokenizers` library.

use trivec_testing as common;

use std::collections::BTreeMap;

use common::{data, report, texts};
use serde_json::Value;
use trivec::SpecialTokens;
use trivec::text::Tokenizer;

const MAX_TOKENS: usize = 8192;

#[derive(serde::Deserialize)]
struct Golden {
    ids: BTreeMap<String, Vec<u32>>,
    variants: Vec<Variant>,
    cuts: Vec<Cut>,
}

/// Another tokenizer.json of the family: what changes, and the texts that then have other ids.
#[derive(serde::Deserialize)]
struct Variant {
    /// For each JSON pointer the value to put there; with `copy`, the pointer to the value to put there.
    change: BTreeMap<String, Value>,
    copy: bool,
    ids: BTreeMap<String, Vec<u32>>,
}

/// A long text: `unit` repeated, then `tail`. It has `tokens` tokens, of which `kept` are left after cutting.
#[derive(serde::Deserialize)]
struct Cut {
    unit: String,
    repeat: usize,
    tail: String,
    tokens: usize,
    kept: usize,
    truncated: bool,
    first: Vec<u32>,
    last: Vec<u32>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(data("golden/tokenizer_ids.json")).unwrap()).unwrap()
}

fn tokenizer(json: &[u8]) -> Tokenizer {
    Tokenizer::from_json(json, &data("xlmr-tokenizer.json.gz")).unwrap()
}

/// The texts for which the ids of `tokenizer` are not the expected ones of the text's name, and those said to be cut.
fn mismatches(tokenizer: &Tokenizer, expected: impl Fn(&str) -> Vec<u32>) -> Vec<String> {
    let mut failures = Vec::new();
    for text in texts() {
        let (found, expected) = (tokenizer.encode(&text.text, MAX_TOKENS, SpecialTokens::Parse), expected(&text.id));
        if found.ids != expected {
            let at = found.ids.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            failures.push(format!("{}: from token {at}: {:?}, expected {expected:?}", text.id, found.ids));
        }
        if found.truncated {
            failures.push(format!("{}: said to be cut", text.id));
        }
    }
    failures
}

#[test]
fn ids_agree_with_the_tokenizers_library() {
    let golden = golden();
    assert_eq!(golden.ids.len(), texts().len(), "remake it: tools/reference.py tokenizer-ids");
    report(mismatches(&tokenizer(&common::full_tokenizer()), |id| golden.ids[id].clone()));
}

#[test]
fn ids_agree_for_other_files_of_the_family() {
    let (golden, json) = (golden(), serde_json::from_slice::<Value>(&common::full_tokenizer()).unwrap());
    for Variant { change, copy, ids } in &golden.variants {
        let mut changed = json.clone();
        for (pointer, value) in change {
            let value = if *copy { json.pointer(value.as_str().unwrap()).unwrap() } else { value };
            *changed.pointer_mut(pointer).unwrap() = value.clone();
        }
        eprintln!("with {change:?}");
        let tokenizer = tokenizer(&serde_json::to_vec(&changed).unwrap());
        report(mismatches(&tokenizer, |id| ids.get(id).unwrap_or(&golden.ids[id]).clone()));
    }
}

#[test]
fn texts_around_8192_tokens_are_cut_like_the_library_does() {
    let tokenizer = tokenizer(&common::full_tokenizer());
    for cut in golden().cuts {
        let text = cut.unit.repeat(cut.repeat) + &cut.tail;
        let whole = tokenizer.encode(&text, usize::MAX, SpecialTokens::Parse);
        assert_eq!((whole.ids.len(), whole.truncated), (cut.tokens, false));
        let found = tokenizer.encode(&text, MAX_TOKENS, SpecialTokens::Parse);
        assert_eq!((found.ids.len(), found.truncated), (cut.kept, cut.truncated), "{} tokens", cut.tokens);
        assert_eq!(found.ids[..cut.first.len()], cut.first, "{} tokens", cut.tokens);
        assert_eq!(found.ids[cut.kept - cut.last.len()..], cut.last, "{} tokens", cut.tokens);
        assert_eq!(found.ids[..cut.kept - 1], whole.ids[..cut.kept - 1], "{} tokens", cut.tokens);
    }
}
