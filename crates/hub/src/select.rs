//! Which files of a repository a model needs.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::HubError;
use super::listing::{Listing, RemoteFile, is_safe};

pub(super) const CONFIG: &str = "config.json";
const MODULES: &str = "modules.json";
const INDEXES: [&str; 2] = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];
const SINGLES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Small files beside the weights, each of which is fetched if the repository has it. The last six are older names of the first.
const SMALL: [&str; 12] = [
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "generation_config.json",
    "added_tokens.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

const TOKENIZERS: [&str; 2] = ["tokenizer.json", "sentencepiece.bpe.model"];

/// The files that are requested from a hub without listings. The first one exists in every model.
pub(super) const USUAL: [&str; 25] = [
    CONFIG,
    MODULES,
    SINGLES[0],
    SINGLES[1],
    INDEXES[0],
    INDEXES[1],
    TOKENIZERS[0],
    TOKENIZERS[1],
    SMALL[0],
    SMALL[1],
    SMALL[2],
    SMALL[3],
    SMALL[4],
    SMALL[5],
    SMALL[6],
    SMALL[7],
    SMALL[8],
    SMALL[9],
    SMALL[10],
    SMALL[11],
    "colbert_linear.safetensors",
    "colbert_linear.pt",
    "sparse_linear.safetensors",
    "sparse_linear.pt",
    "1_Pooling/config.json",
];

/// Whether [`needed`] may select a file, as far as its path tells before the guides are read.
pub(super) fn may_be_needed(path: &str) -> bool {
    let is_shard = |path: &str| path.ends_with(".safetensors") || path.ends_with(".bin");
    let of_module = |name: &str| [CONFIG, SINGLES[0], SINGLES[1]].contains(&name);
    match path.split_once('/') {
        None => USUAL.contains(&path) || is_shard(path),
        Some((_, name)) => of_module(name),
    }
}

/// The most shards or modules that a model may name.
const MAX_NAMED: usize = 1000;

/// Where the weights are: in one file, or in shards that an index names.
enum Weights {
    Single(&'static str),
    Sharded(&'static str),
}

/// Finds the weights, safetensors before PyTorch's format.
fn weights(listing: &Listing) -> Result<Weights, HubError> {
    for (single, index) in SINGLES.into_iter().zip(INDEXES) {
        if listing.file(single).is_some() {
            return Ok(Weights::Single(single));
        }
        if listing.file(index).is_some() {
            return Ok(Weights::Sharded(index));
        }
    }
    let found: Vec<&str> = listing
        .files
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| {
            [".safetensors", ".bin", ".onnx", ".gguf", ".msgpack", ".h5", ".pt"].iter().any(|end| path.ends_with(end))
        })
        .take(5)
        .collect();
    let found = if found.is_empty() { "no weights".to_owned() } else { found.join(", ") };
    let expected = [SINGLES, INDEXES].concat().join(", ");
    Err(HubError::model(format!("{}: expected one of {expected}, found {found}", listing.repository)))
}

/// The files that decide which others are needed. They are fetched first.
pub(super) fn guides(listing: &Listing) -> Result<Vec<&RemoteFile>, HubError> {
    let mut names = vec![CONFIG, MODULES];
    if let Weights::Sharded(index) = weights(listing)? {
        names.push(index);
    }
    Ok(names.into_iter().filter_map(|name| listing.file(name)).collect())
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

/// All files that the model needs. `read` returns the content of a guide (see [`guides`]).
pub(super) fn needed(
    listing: &Listing,
    read: impl Fn(&str) -> Result<Vec<u8>, HubError>,
) -> Result<Vec<RemoteFile>, HubError> {
    let bad = |file: &str, what: String| HubError::model(format!("{}: {file}: {what}", listing.repository));
    let mut paths: BTreeSet<String> = BTreeSet::new();
    let one_of = |names: &[&str]| names.iter().find(|name| listing.file(name).is_some()).map(|name| (*name).to_owned());

    paths.insert(one_of(&[CONFIG]).ok_or_else(|| bad(CONFIG, "the repository has no such file".into()))?);
    let tokenizer = one_of(&TOKENIZERS);
    paths.insert(tokenizer.ok_or_else(|| bad("tokenizer", format!("expected one of {}", TOKENIZERS.join(", "))))?);
    paths.extend(SMALL.iter().filter_map(|name| one_of(&[name])));
    for head in ["colbert_linear", "sparse_linear"] {
        paths.extend(one_of(&[&format!("{head}.safetensors"), &format!("{head}.pt")]));
    }

    match weights(listing)? {
        Weights::Single(name) => {
            paths.insert(name.to_owned());
        }
        Weights::Sharded(name) => {
            let index: Index = serde_json::from_slice(&read(name)?).map_err(|e| bad(name, e.to_string()))?;
            let shards: BTreeSet<String> = index.weight_map.into_values().collect();
            if shards.is_empty() || shards.len() > MAX_NAMED {
                return Err(bad(name, format!("{} shards, expected 1 to {MAX_NAMED}", shards.len())));
            }
            for shard in shards {
                if !is_safe(&shard) || shard.contains('/') {
                    return Err(bad(name, format!("shard `{shard}` is not a file name")));
                }
                if listing.file(&shard).is_none() {
                    return Err(bad(name, format!("it names the shard {shard}, which the repository does not have")));
                }
                paths.insert(shard);
            }
            paths.insert(name.to_owned());
        }
    }

    if listing.file(MODULES).is_some() {
        paths.insert(MODULES.to_owned());
        let modules: Vec<Module> = serde_json::from_slice(&read(MODULES)?).map_err(|e| bad(MODULES, e.to_string()))?;
        if modules.len() > MAX_NAMED {
            return Err(bad(MODULES, format!("{} modules, expected at most {MAX_NAMED}", modules.len())));
        }
        for module in modules {
            let kind = module.kind.rsplit('.').next().unwrap_or_default();
            if !matches!(kind, "Pooling" | "Dense") {
                continue;
            }
            if !is_safe(&module.path) {
                return Err(bad(
                    MODULES,
                    format!("module path `{}` is not a folder inside the model's directory", module.path),
                ));
            }
            let file = |name: &str| format!("{}/{name}", module.path);
            paths.extend(one_of(&[&file("config.json")]));
            if kind == "Dense" {
                paths.extend(one_of(&[&file("model.safetensors"), &file("pytorch_model.bin")]));
            }
        }
    }
    Ok(paths.iter().filter_map(|path| listing.file(path)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::super::hash::Hash;
    use super::super::listing::Hub;
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        let file = |path: &&str| RemoteFile { path: (*path).to_owned(), bytes: 1, hash: Hash::Unknown };
        Listing {
            hub: Hub::HuggingFace,
            repository: "o/r".into(),
            revision: "0".repeat(40),
            address: "main".into(),
            files: paths.iter().map(file).collect(),
        }
    }

    fn paths(listing: &Listing, read: impl Fn(&str) -> String) -> Result<Vec<String>, String> {
        let needed = needed(listing, |name| Ok(read(name).into_bytes())).map_err(|e| e.message)?;
        Ok(needed.into_iter().map(|file| file.path).collect())
    }

    const BGE_M3: [&str; 18] = [
        ".gitattributes",
        "1_Pooling/config.json",
        "README.md",
        "colbert_linear.pt",
        "config.json",
        "config_sentence_transformers.json",
        "imgs/bm25.jpg",
        "long.jpg",
        "modules.json",
        "onnx/model.onnx",
        "onnx/tokenizer.json",
        "pytorch_model.bin",
        "sentence_bert_config.json",
        "sentencepiece.bpe.model",
        "sparse_linear.pt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];

    const MODULES_TEXT: &str = r#"[{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
        {"idx":2,"path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#;

    #[test]
    fn only_what_bge_m3_needs_is_selected() {
        let found = paths(&listing(&BGE_M3), |_| MODULES_TEXT.to_owned()).unwrap();
        assert_eq!(
            found,
            [
                "1_Pooling/config.json",
                "colbert_linear.pt",
                "config.json",
                "config_sentence_transformers.json",
                "modules.json",
                "pytorch_model.bin",
                "sentence_bert_config.json",
                "sparse_linear.pt",
                "special_tokens_map.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ]
        );
        let safe = listing(&[&BGE_M3[..], &["model.safetensors", "colbert_linear.safetensors"]].concat());
        let found = paths(&safe, |_| MODULES_TEXT.to_owned()).unwrap();
        assert!(
            found.contains(&"model.safetensors".to_owned()) && found.contains(&"colbert_linear.safetensors".to_owned())
        );
        assert!(!found.contains(&"pytorch_model.bin".to_owned()) && !found.contains(&"colbert_linear.pt".to_owned()));
    }

    #[test]
    fn shards_and_dense_modules_are_followed() {
        let names = [
            "config.json",
            "sentencepiece.bpe.model",
            "model.safetensors.index.json",
            "a.safetensors",
            "modules.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
        ];
        let read = |name: &str| match name {
            "modules.json" => r#"[{"path":"2_Dense","type":"x.Dense"}]"#.to_owned(),
            _ => r#"{"weight_map":{"t":"a.safetensors"}}"#.to_owned(),
        };
        assert_eq!(paths(&listing(&names), read).unwrap().len(), 7);
        let hostile = |name: &str| read(name).replace("2_Dense", "../../x").replace("a.safetensors", "../a");
        assert!(paths(&listing(&names), hostile).unwrap_err().contains("not a file name"));
        let missing = |name: &str| read(name).replace("a.safe", "b.safe");
        assert!(paths(&listing(&names), missing).unwrap_err().contains("does not have"));
        let hostile = |name: &str| read(name).replace("2_Dense", "../../x");
        assert!(paths(&listing(&names), hostile).unwrap_err().contains("is not a folder inside"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let read = |_: &str| String::new();
        assert!(paths(&listing(&["config.json"]), read).unwrap_err().contains("tokenizer"));
        assert!(paths(&listing(&["tokenizer.json"]), read).unwrap_err().contains("config.json"));
        let onnx = listing(&["config.json", "tokenizer.json", "onnx/model.onnx"]);
        assert!(paths(&onnx, read).unwrap_err().contains("found onnx/model.onnx"));
    }
}
