//! The tokenizer made of a SentencePiece model against what `transformers` makes of it: its pipeline in the `tokenizers` library on the full
//! XLM-R vocabulary, and the ids that `XLMRobertaTokenizer` itself gave (`tools/reference.py sentencepiece-ids`).

use trivec_testing as common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use base64::Engine;
use common::random::Random;
use serde_json::{Value, json};
use trivec::SpecialTokens;
use trivec::text::Tokenizer;

fn full_json() -> &'static Value {
    static JSON: OnceLock<Value> = OnceLock::new();
    JSON.get_or_init(|| serde_json::from_slice(&common::full_tokenizer()).unwrap())
}

// --- protobuf, written ---

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | 5), value.to_le_bytes().to_vec()].concat()
}

/// A piece; kind 1 is the default and not written.
fn piece(text: &str, score: Option<f32>, kind: u64) -> Vec<u8> {
    let score = score.map_or(vec![], |score| float(2, score));
    let kind = if kind == 1 { vec![] } else { number(3, kind) };
    bytes(1, &[bytes(1, text.as_bytes()), score, kind].concat())
}

/// `<unk>`, `<s>`, `</s>`, and these.
fn model<'a>(pieces: impl IntoIterator<Item = (&'a str, f32)>, charsmap: &[u8]) -> Vec<u8> {
    let mut out = [piece("<unk>", Some(0.0), 2), piece("<s>", Some(0.0), 3), piece("</s>", Some(0.0), 3)].concat();
    pieces.into_iter().for_each(|(text, score)| out.extend(piece(text, Some(score), 1)));
    let normalizer = [bytes(1, b"nmt_nfkc"), bytes(2, charsmap), number(3, 1), number(4, 1), number(5, 1)].concat();
    [out, bytes(2, &number(3, 1)), bytes(3, &normalizer)].concat()
}

fn charsmap() -> Vec<u8> {
    let text = full_json()["normalizer"]["normalizers"][0]["precompiled_charsmap"].as_str().unwrap();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// XLM-R's pieces with their scores, which are f32 in the model (the JSON's parser is not exact in the last bit of an f64).
fn pieces() -> impl Iterator<Item = (&'static str, f32)> {
    let vocab = full_json()["model"]["vocab"].as_array().unwrap();
    vocab[4..vocab.len() - 1].iter().map(|entry| (entry[0].as_str().unwrap(), entry[1].as_f64().unwrap() as f32))
}

/// XLM-R's model.
fn full() -> &'static Tokenizer {
    static FULL: OnceLock<Tokenizer> = OnceLock::new();
    FULL.get_or_init(|| read(&model(pieces(), &charsmap())).unwrap())
}

fn read(bytes: &[u8]) -> trivec::Result<Tokenizer> {
    Tokenizer::from_sentencepiece(bytes, Path::new("s.model"))
}

fn refusal(bytes: &[u8]) -> String {
    let message = read(bytes).expect_err("it was read").to_string();
    assert!(message.starts_with("s.model: "), "{message}");
    message
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, usize::MAX, SpecialTokens::Parse).ids
}

/// The pipeline that transformers builds around the same vocabulary.
fn library() -> tokenizers::Tokenizer {
    let mut json = full_json().clone();
    json["normalizer"] = json["normalizer"]["normalizers"][0].clone();
    json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
    ]});
    let mut library = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&json).unwrap()).unwrap();
    let specials = ["<s>", "<pad>", "</s>", "<unk>"].map(|special| (special.to_owned(), 0.0));
    let pieces = pieces().map(|(piece, score)| (piece.to_owned(), f64::from(score)));
    let vocab = specials.into_iter().chain(pieces).chain([("<mask>".to_owned(), 0.0)]).collect();
    library.with_model(tokenizers::models::unigram::Unigram::from(vocab, Some(3), false).unwrap());
    library
}

#[test]
fn fixtures_and_a_hundred_thousand_random_strings_agree_with_the_library() {
    let library = library();
    let mut random = Random(0x5e47);
    let random = (0..100_000).map(|_| random.text());
    for text in common::texts().into_iter().map(|text| text.text).chain(random) {
        let expected = library.encode_fast(text.as_str(), true).unwrap();
        assert_eq!(ids(full(), &text), expected.get_ids(), "{text:?}");
    }
}

#[test]
fn ids_are_those_of_transformers_itself() {
    #[derive(serde::Deserialize)]
    struct Golden {
        other: BTreeMap<String, Vec<u32>>,
    }
    #[derive(serde::Deserialize)]
    struct Plain {
        ids: BTreeMap<String, Vec<u32>>,
    }
    let read = |name: &str| std::fs::read_to_string(common::data("golden").join(name)).unwrap();
    let Golden { mut other } = serde_json::from_str(&read("sentencepiece_ids.json")).unwrap();
    let Plain { ids: plain } = serde_json::from_str(&read("tokenizer_ids.json")).unwrap();
    // Texts for which both pipelines agree are only in the other file.
    for text in common::texts() {
        let expected = other.remove(&text.id).unwrap_or_else(|| plain[&text.id].clone());
        assert_eq!(ids(full(), &text.text), expected, "{}", text.id);
    }
    // The rest are texts of their own, named by themselves.
    assert!(other.len() >= 10, "{}", other.len());
    for (text, expected) in other {
        assert_eq!(ids(full(), &text), expected, "{text:?}");
    }
}

#[test]
fn ids_are_shifted_as_fairseq_does() {
    let small = read(&model([("▁a", -1.0), ("b", -2.0)], &[])).unwrap();
    assert_eq!(small.vocab_size(), 7);
    let pieces: Vec<_> = (0..8).map(|id| small.piece(id)).collect();
    let expected = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "b", "<mask>"].map(Some);
    assert_eq!(pieces[..7], expected);
    assert_eq!(pieces[7], None);
    assert_eq!(ids(&small, "ab <mask>"), [0, 4, 5, 6, 2]);
    assert_eq!(full().vocab_size(), 250_002);
}

#[test]
fn white_space_at_the_end_is_no_token_here_but_is_one_in_the_pipeline_of_tokenizer_json() {
    let json = Tokenizer::from_json(&common::full_tokenizer(), Path::new("tokenizer.json")).unwrap();
    assert_eq!(ids(full(), "a "), ids(full(), "a"));
    assert_eq!(ids(&json, "a "), [&ids(&json, "a")[..2], &[6, 2]].concat());
}

#[test]
fn user_defined_pieces_are_found_whole() {
    let mut bytes = model([("▁", -1.0), ("a", -2.0), ("b", -2.0)], &[]);
    bytes.extend(piece("ab", Some(0.0), 4));
    bytes.extend(piece("<x>", Some(0.0), 3));
    let tokenizer = read(&bytes).unwrap();
    assert_eq!(ids(&tokenizer, "abab<x>a"), [0, 7, 7, 8, 4, 5, 2]);
}

#[test]
fn damaged_and_foreign_models_are_refused() {
    let good = model([("▁a", -1.0), ("b", -2.0)], &[]);
    let with = |more: Vec<u8>| [good.clone(), more].concat();
    let with_specs = |pieces: Vec<u8>| [pieces, bytes(2, &number(3, 1)), bytes(3, &[])].concat();
    let cases = [
        (vec![], "it has no pieces"),
        (b"not a model".to_vec(), "not a SentencePiece model"),
        (b"<!doctype html>".to_vec(), "not a SentencePiece model"),
        (with(piece("c", None, 1)), "piece 5 (`c`) has no score"),
        (with(piece("c", Some(f32::NAN), 1)), "piece 5 (`c`) has the score NaN"),
        (with(piece("c", Some(f32::NEG_INFINITY), 1)), "has the score -inf"),
        (with(piece("", Some(0.0), 1)), "is empty"),
        (with(piece("b", Some(0.0), 1)), "piece 5 (`b`) comes twice"),
        (with(piece("<0x00>", Some(0.0), 6)), "byte fallback"),
        (with(piece("u", Some(0.0), 2)), "second unknown"),
        (with(piece("u", Some(0.0), 7)), "of the type 7"),
        (with(bytes(1, &bytes(1, b"\xff"))), "piece 5: it is not UTF-8"),
        (with(bytes(1, &number(1, 4))), "expected bytes"),
        (with(bytes(2, &number(3, 2))), "of type 2 (BPE), expected 1 (unigram)"),
        (with(bytes(2, &number(3, u64::MAX))), "expected 1 (unigram)"),
        (with(bytes(2, &number(24, 1))), "treat_whitespace_as_suffix"),
        (with(bytes(2, &number(35, 1))), "byte_fallback"),
        (with(bytes(3, &number(3, 0))), "add_dummy_prefix` is false"),
        (with(bytes(3, &number(4, 0))), "remove_extra_whitespaces` is false"),
        (with(bytes(3, &number(5, 0))), "escape_whitespaces` is false"),
        (with(bytes(3, &bytes(2, b"\x01\0"))), "character map"),
        (with(bytes(3, &bytes(2, &[0xff; 64]))), "character map"),
        (with(vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]), "cut"),
        (with(vec![0x0b]), "wire type 3"),
        (good[..good.len() - 20].to_vec(), "the file is cut"),
        (with_specs(piece("<s>", Some(0.0), 3)), "piece 0 is `<s>`, expected `<unk>`"),
        (with_specs(piece("<unk>", Some(0.0), 2)), "piece 1 is `(nothing)`"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn cut_or_flipped_it_never_panics() {
    let good = model([("▁a", -1.0), ("b", -2.0), ("苹果", -3.0)], &charsmap()[..]);
    let pieces = model([("▁a", -1.0), ("b", -2.0), ("苹果", -3.0)], &[]);
    for cut in 0..pieces.len() {
        if let Ok(tokenizer) = read(&pieces[..cut]) {
            ids(&tokenizer, "a b 苹果 <mask>");
        }
    }
    for bit in 0..pieces.len() * 8 {
        let mut flipped = pieces.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(tokenizer) = read(&flipped) {
            ids(&tokenizer, "a b 苹果 <mask>");
        }
    }
    let mut random = Random(5);
    for _ in 0..300 {
        let mut flipped = good.clone();
        flipped[random.below(good.len())] ^= 1 << random.below(8);
        if let Ok(tokenizer) = read(&flipped) {
            ids(&tokenizer, &random.text());
        }
    }
}
