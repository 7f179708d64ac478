//! The tokenizer against the `tokenizers` library, its reference: on the full XLM-R vocabulary, on hand-written texts, on 100,000
//! random Unicode strings, and on the other forms that XLM-R's `tokenizer.json` takes.

use trivec_testing as common;

use std::path::Path;
use std::sync::OnceLock;

use common::random::Random;
use serde_json::{Value, json};
use trivec::SpecialTokens;
use trivec::text::Tokenizer;

const ALL: usize = usize::MAX;

/// `tokenizer.json` of XLM-R, 250,002 pieces.
fn full_json() -> &'static Value {
    static JSON: OnceLock<Value> = OnceLock::new();
    JSON.get_or_init(|| serde_json::from_slice(&common::full_tokenizer()).unwrap())
}

/// One file, read by both.
struct Pair {
    ours: Tokenizer,
    library: tokenizers::Tokenizer,
}

impl Pair {
    fn new(json: &Value) -> Pair {
        let bytes = serde_json::to_vec(json).unwrap();
        Pair {
            ours: Tokenizer::from_json(&bytes, Path::new("tokenizer.json")).unwrap(),
            library: tokenizers::Tokenizer::from_bytes(&bytes).unwrap(),
        }
    }

    fn assert_same(&self, text: &str) {
        let expected = self.library.encode_fast(text, true).unwrap();
        let found = self.ours.encode(text, ALL, SpecialTokens::Parse).ids;
        if found != expected.get_ids() {
            let at = found.iter().zip(expected.get_ids()).take_while(|(a, b)| a == b).count();
            panic!(
                "{text:?}: token {at} is {:?}, expected {:?}",
                found.get(at).map(|&id| self.ours.piece(id)),
                expected.get_tokens().get(at)
            );
        }
    }
}

fn full() -> &'static Pair {
    static FULL: OnceLock<Pair> = OnceLock::new();
    FULL.get_or_init(|| Pair::new(full_json()))
}

fn nasty() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "a",
        " a",
        "a ",
        " a ",
        "a  b",
        "a\tb",
        "a\r\nb",
        "a\rb",
        "a\u{3000}b",
        "a\u{a0}b",
        "\u{feff}a",
        "\u{0}",
        "a\u{0}b",
        "a\u{7f}b\u{80}c\u{9f}",
        "\u{ffff}",
        "\u{e000}\u{f8ff}",
        "\u{10ffff}",
        "\u{378}\u{379}",
        "\u{202e}abc\u{202c}",
        "\u{2066}x\u{2069}",
        "<s>",
        "</s>",
        "<mask>",
        "<pad>",
        "<unk>",
        "a<mask>b",
        "a <mask> b",
        "a  <mask>  b",
        "<mask><mask>",
        "<mask",
        "< mask>",
        "<<s>>",
        "</s></s> x",
        "＜ｓ＞ ＜mask＞",
        "▁",
        "▁▁",
        "a▁b",
        " ▁ ",
        "ﾊﾟﾋﾟﾌﾟ",
        "ｶﾞｷﾞｸﾞ",
        "か\u{3099}",
        "カ\u{309a}",
        "e\u{301}",
        "e\u{301}\u{302}\u{303}",
        "\u{301}",
        " \u{301}",
        "\u{1112}\u{1161}\u{11ab}",
        "\u{ac00}\u{11a8}",
        "👩\u{200d}👩\u{200d}👧",
        "👍🏽",
        "🇩🇪🇯🇵🇫",
        "1\u{fe0f}\u{20e3}",
        "ﬁ ﬂ ﬀ ﬃ",
        "½ ² ™ ℡ ㎏ ㍿",
        "𝐀𝒷𝔤𝟘",
        "ABC１２３ＡＢＣ",
        "क्षत्रिय श्री",
        "র্\u{200d}য",
        "ไทยภาษา",
        "ខ្ញុំ",
        "བོད་ཡིག",
        "مرحبا بالعالم",
        "שלום עולם",
        "\u{600}12",
        "\u{6dd}3",
        "ab\u{308}c",
        "x\u{200b}y\u{200c}z\u{2060}",
        "soft\u{ad}hyphen",
        "İstanbul ıI",
        "ΟΔΥΣΣΕΥΣ",
        "ǅ ǆ",
        "…‥․",
        "\u{2028}\u{2029}\u{85}",
        "\u{1680}\u{2003}",
        "𠮷野家",
        "苹果公司发布新手机",
        "  leading and trailing  ",
        "tabs\t\tand\n\nlines",
        "http://a.b/c?d=e&f#g",
        "fn main() { x::<u8>(); }",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend(common::texts().into_iter().map(|text| text.text));
    texts.push("\u{301}".repeat(10_000));
    texts.push(format!("a{}", "\u{301}".repeat(10_000)));
    texts.push("अ".repeat(500));
    texts.push("\u{10fffd}".repeat(500));
    texts
}

#[test]
fn hand_written_texts() {
    for text in nasty() {
        full().assert_same(&text);
    }
}

#[test]
fn a_hundred_thousand_random_strings() {
    let mut random = Random(0x5eed);
    for _ in 0..100_000 {
        full().assert_same(&random.text());
    }
}

/// A small vocabulary with the real character map, in every form that the files take.
fn small_json() -> Value {
    let full = full_json();
    let mut json = full.clone();
    let keep = |piece: &str| piece.chars().count() <= 1 || piece.len() <= 3;
    let all = full["model"]["vocab"].as_array().unwrap();
    let mut vocab: Vec<Value> = all[..4].to_vec();
    vocab.extend(all[4..250_001].iter().take(40_000).filter(|piece| keep(piece[0].as_str().unwrap())).cloned());
    vocab.push(all[250_001].clone());
    let mask = vocab.len() - 1;
    json["model"]["vocab"] = vocab.into();
    json["added_tokens"].as_array_mut().unwrap().last_mut().unwrap()["id"] = mask.into();
    json
}

fn variants() -> Vec<Value> {
    let base = small_json();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json = base.clone();
        change(&mut json);
        json
    };
    let mask = |json: &mut Value, key: &str, value: bool| {
        json["added_tokens"].as_array_mut().unwrap().last_mut().unwrap()[key] = value.into();
    };
    let charsmap = base["normalizer"]["normalizers"][0].clone();
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    vec![
        base.clone(),
        with(&|json| json["normalizer"] = Value::Null),
        with(&|json| json["normalizer"] = charsmap.clone()),
        with(&|json| {
            json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Strip", "strip_left": true, "strip_right": true}, charsmap.clone(),
            {"type": "Replace", "pattern": {"String": "bc"}, "content": " x"}]})
        }),
        with(&|json| json["pre_tokenizer"] = metaspace("always", false)),
        with(&|json| json["pre_tokenizer"] = metaspace("never", true)),
        with(&|json| json["pre_tokenizer"] = metaspace("first", true)),
        with(&|json| {
            json["pre_tokenizer"] =
                json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("always", true)]})
        }),
        with(&|json| mask(json, "lstrip", true)),
        with(&|json| mask(json, "rstrip", true)),
        with(&|json| {
            mask(json, "normalized", true);
            mask(json, "lstrip", true);
        }),
        with(&|json| {
            let id = json["model"]["vocab"].as_array().unwrap().len();
            let more = json!({"id": id, "content": "<mask>x", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false});
            json["added_tokens"].as_array_mut().unwrap().push(more);
        }),
        with(&|json| {
            let own = json["post_processor"].take();
            json["post_processor"] = json!({"type": "Sequence", "processors": [own]});
        }),
        with(
            &|json| json["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true}),
        ),
    ]
}

#[test]
fn other_forms_of_the_file() {
    for (index, json) in variants().iter().enumerate() {
        println!("variant {index}");
        let pair = Pair::new(json);
        nasty().iter().filter(|text| text.len() < 2000).for_each(|text| pair.assert_same(text));
        let mut random = Random(index as u64 + 1);
        (0..3000).for_each(|_| pair.assert_same(&random.text()));
    }
}

/// Fields that the library numbers anew, or that decide nothing.
fn numbered_anew() -> Vec<Value> {
    let base = small_json();
    let pieces = base["model"]["vocab"].as_array().unwrap().len() as u64;
    let token = |id: u64, content: &str, special: bool| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special});
    let with = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut json = base.clone();
        change(json["added_tokens"].as_array_mut().unwrap());
        json
    };
    let piece = base["model"]["vocab"][200][0].as_str().unwrap().to_owned();
    let mut files = vec![
        // Ids that do not follow the vocabulary, that lie in it, that are far beyond, in any order.
        with(&|tokens| tokens.push(token(pieces + 1, "<ent>", false))),
        with(&|tokens| tokens.push(token(7, "<ent>", false))),
        with(&|tokens| tokens.push(token(4_000_000_000, "<ent>", true))),
        with(&|tokens| {
            tokens.extend([token(pieces + 1, "<b>", false), token(pieces, "<ent>", false), token(5, "<c>", true)])
        }),
        with(&|tokens| tokens.insert(0, token(pieces, "<ent>", false))),
        with(&|tokens| tokens.reverse()),
        with(&|tokens| tokens.iter_mut().for_each(|token| token["id"] = 0.into())),
        // A piece of the vocabulary keeps its id.
        with(&|tokens| tokens.push(token(pieces, &piece, false))),
        with(&|tokens| tokens.push(token(pieces, &piece, true))),
        // Twice: the last properties count.
        with(&|tokens| {
            tokens.extend([token(pieces, "<ent>", true), token(pieces + 1, "<ent>", false)]);
            tokens.last_mut().unwrap()["lstrip"] = true.into();
        }),
        with(&|tokens| {
            let mask = tokens.last().unwrap().clone();
            tokens.push(json!({"rstrip": true, "id": pieces, "content": mask["content"], "single_word": false, "lstrip": false, "normalized": false, "special": true}));
        }),
        with(&|tokens| tokens.push(token(pieces, "", false))),
        with(&|tokens| tokens.extend([token(pieces, "", false), token(pieces + 1, "<ent>", false)])),
        with(&|tokens| tokens.clear()),
    ];
    let mut json = base.clone();
    json.as_object_mut().unwrap().remove("added_tokens");
    files.push(json);
    for (field, value) in
        [("truncation", json!(null)), ("padding", json!(null)), ("decoder", json!(null)), ("version", json!("1.0"))]
    {
        let mut json = base.clone();
        json[field] = value;
        files.push(json);
    }
    let mut json = base.clone();
    json["model"]["byte_fallback"] = true.into();
    files.push(json);
    let mut json = base.clone();
    json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Lowercase"}, base["normalizer"]]});
    files.push(json);
    files
}

#[test]
fn added_tokens_have_the_ids_that_the_library_gives_them() {
    for (index, json) in numbered_anew().iter().enumerate() {
        println!("file {index}");
        let pair = Pair::new(json);
        let texts =
            ["a<ent>b", "<b><ent> <c>", " <ent> ", "<ENT>", "<s><mask>x</s> <mask> ", "ΟΔΥΣΣΕΥΣ İI", "Ａ<ent>ｂ"];
        texts.iter().for_each(|text| pair.assert_same(text));
        nasty().iter().filter(|text| text.len() < 500).for_each(|text| pair.assert_same(text));
        for content in ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<ent>", "<b>", "<c>"] {
            if let Some(id) = pair.library.token_to_id(content) {
                assert_eq!(pair.ours.piece(id), Some(content), "file {index}");
            }
        }
    }
}

#[test]
fn the_cut_is_exact() {
    let tokenizer = &full().ours;
    for words in [8_188, 8_189, 8_190, 8_191, 8_200] {
        let text = " the".repeat(words);
        let whole = tokenizer.encode(&text, ALL, SpecialTokens::Parse);
        assert_eq!((whole.ids.len(), whole.truncated), (words + 2, false));
        let cut = tokenizer.encode(&text, 8192, SpecialTokens::Parse);
        assert_eq!(cut.truncated, words + 2 > 8192, "{words}");
        assert_eq!(cut.ids.len(), (words + 2).min(8192));
        assert_eq!(cut.ids[..cut.ids.len() - 1], whole.ids[..cut.ids.len() - 1]);
        assert_eq!(cut.ids.last(), Some(&2));
    }
}

#[test]
fn stopping_early_changes_nothing() {
    let tokenizer = &full().ours;
    let mut random = Random(7);
    let mut texts = vec![
        "人工智能正在改变世界".repeat(20_000),
        "abcdefghij".repeat(60_000),
        format!("a{}", "\u{301}".repeat(100_000)),
        "\u{10fffd}".repeat(100_000),
    ];
    texts.push((0..300_000).map(|_| char::from_u32(0x4e00 + random.below(0x5200) as u32).unwrap()).collect());
    texts.push((0..300_000).map(|_| (b'a' + random.below(26) as u8) as char).collect());
    texts.push((0..20_000).map(|_| random.text()).collect());
    for text in texts {
        let whole = tokenizer.encode(&text, ALL, SpecialTokens::Parse).ids;
        for max in [2, 3, 10, 512, 8192, 30_000] {
            let cut = tokenizer.encode(&text, max, SpecialTokens::Parse);
            let kept = (max - 2).min(whole.len() - 2);
            assert_eq!(cut.ids[..=kept], whole[..=kept], "{max} of {}", whole.len());
            assert_eq!((cut.ids.len(), cut.truncated), (kept + 2, whole.len() > max));
        }
    }
}

#[test]
fn special_tokens_can_be_plain_text() {
    let tokenizer = &full().ours;
    let text = "a <s> b</s> <mask> <pad><unk>";
    let parsed = tokenizer.encode(text, ALL, SpecialTokens::Parse).ids;
    assert!([0, 1, 2, 3, 250_001].iter().all(|id| parsed[1..parsed.len() - 1].contains(id)));
    let literal = tokenizer.encode(text, ALL, SpecialTokens::Literal).ids;
    assert!(literal[1..literal.len() - 1].iter().all(|&id| id > 3 && id < 250_001), "{literal:?}");
    let pieces: String = literal[1..literal.len() - 1].iter().map(|&id| tokenizer.piece(id).unwrap()).collect();
    assert_eq!(pieces.replace('▁', " ").trim(), text);
}

#[test]
fn special_tokens_and_decoding_are_the_librarys() {
    let mut json = small_json();
    // A fine-tuned model's own tokens: special ones and others, found in the text as it is or after normalisation.
    let more = [("<query>", true, false), ("[DOC]", true, true), ("<ent>", false, false), ("ＡＢ", false, true)];
    let first = json["model"]["vocab"].as_array().unwrap().len();
    for (id, (content, special, normalized)) in (first..).zip(more) {
        json["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": id, "content": content, "special": special, "normalized": normalized, "single_word": false, "lstrip": false,
            "rstrip": false,
        }));
    }
    for json in [&json, full_json()] {
        let Pair { ours, library } = Pair::new(json);
        let added: Vec<u32> = library.get_added_tokens_decoder().into_keys().collect();
        assert!(added.len() >= 5);
        for (id, token) in library.get_added_tokens_decoder() {
            assert_eq!(ours.is_special(id), token.special, "{}", token.content);
            assert_eq!(ours.piece(id).map(str::to_owned), library.id_to_token(id), "{}", token.content);
        }
        assert!(!ours.is_special(10) && !ours.is_special(u32::MAX));
        let mut random = Random(5);
        for round in 0..3000 {
            let id = |random: &mut Random| match random.below(3) {
                0 => added[random.below(added.len())],
                _ => random.below(ours.vocab_size()) as u32,
            };
            let mut ids: Vec<u32> = (0..random.below(8)).map(|_| id(&mut random)).collect();
            if round % 2 == 0 {
                ids = ours.encode(&random.text(), 40, SpecialTokens::Parse).ids;
            }
            for skip in [true, false] {
                let expected = library.decode(&ids, skip).unwrap();
                assert_eq!(ours.decode(&ids, skip), Ok(expected), "{ids:?} {skip}");
            }
        }
        let none = ours.vocab_size() as u32;
        assert_eq!(ours.decode(&[0, none, none + 1], true), Err(none));
    }
}

#[test]
fn damaged_files_are_refused() {
    let good = small_json();
    let refuse = |json: &Value| {
        let error = Tokenizer::from_json(&serde_json::to_vec(json).unwrap(), Path::new("tokenizer.json"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("tokenizer.json: "), "{error}");
        error
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        refuse(&json)
    };
    assert!(with(&|json| json["model"]["type"] = "BPE".into()).contains("BPE"));
    assert!(with(&|json| json["model"]["vocab"] = json!([])).contains("0 pieces"));
    assert!(with(&|json| json["model"]["vocab"][9] = json!(["x"])).contains("invalid length"));
    assert!(with(&|json| json["model"]["unk_id"] = Value::Null).contains("unk_id"));
    assert!(with(&|json| json["model"]["unk_id"] = 1_000_000.into()).contains("1000000"));
    assert!(
        with(&|json| {
            json["model"]["byte_fallback"] = true.into();
            json["model"]["vocab"][9] = json!(["<0x41>", -3.0]);
        })
        .contains("byte_fallback")
    );
    for field in ["id", "content"] {
        let message = with(&|json| drop(json["added_tokens"][4].as_object_mut().unwrap().remove(field)));
        assert!(message.contains(&format!("missing field `{field}`")), "{message}");
    }
    assert!(with(&|json| json["version"] = "2.0".into()).contains("`version` is \"2.0\""));
    let left = json!({"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0});
    assert!(with(&|json| json["truncation"] = left.clone()).contains("at their beginning"));
    assert!(with(&|json| json["added_tokens"][4]["single_word"] = true.into()).contains("single_word"));
    assert!(with(&|json| json["normalizer"] = json!({"type": "BertNormalizer"})).contains("BertNormalizer"));
    assert!(
        with(&|json| json["normalizer"] = json!({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}))
            .contains("a+")
    );
    assert!(with(&|json| json["pre_tokenizer"] = json!({"type": "ByteLevel"})).contains("ByteLevel"));
    assert!(with(&|json| json["pre_tokenizer"] = json!({"type": "WhitespaceSplit"})).contains("Metaspace"));
    with(&|json| json["post_processor"] = Value::Null);
    assert!(with(&|json| json["post_processor"]["special_tokens"] = json!({})).contains("no single id"));
    for map in ["", "!!!", "AAAA", "/////w==", "BAAAAA==", "BAAAAAAAAAD/"] {
        let error = with(&|json| json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": map}));
        assert!(error.contains("character map"), "{map}: {error}");
    }
    let text = serde_json::to_string(&good).unwrap();
    for cut in [0, 1, text.len() / 3, text.len() - 1] {
        assert!(Tokenizer::from_json(&text.as_bytes()[..cut], Path::new("t")).is_err(), "cut at {cut}");
    }
    let infinite = text.replacen("-3.46", "-1e999, -3.46", 1);
    assert!(Tokenizer::from_json(infinite.as_bytes(), Path::new("t")).is_err());
}

#[test]
fn a_damaged_character_map_is_harmless() {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let mut json = small_json();
    let good = engine.decode(json["normalizer"]["normalizers"][0]["precompiled_charsmap"].as_str().unwrap()).unwrap();
    json["model"]["vocab"].as_array_mut().unwrap().truncate(300);
    json["added_tokens"].as_array_mut().unwrap().truncate(4);
    let trie = 4 + u32::from_le_bytes(good[..4].try_into().unwrap()) as usize;
    let mut random = Random(3);
    for _ in 0..60 {
        let mut map = good.clone();
        for _ in 0..200 {
            map[4 + random.below(trie - 4)] = random.below(256) as u8;
        }
        json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": engine.encode(&map)});
        let tokenizer = Tokenizer::from_json(&serde_json::to_vec(&json).unwrap(), Path::new("t")).unwrap();
        for _ in 0..20 {
            tokenizer.encode(&random.text(), ALL, SpecialTokens::Parse);
        }
    }
}
