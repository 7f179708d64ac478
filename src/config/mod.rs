//! Reads `config.json` and the other settings files of a model, and checks every size and switch once. `docs/model-files.md` lists what
//! becomes of each field.

mod json;
mod kind;
mod pipeline;
mod sentence;
mod tokenizer;

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::json::parse_json;
pub(crate) use self::kind::{ModelKind, ScoreActivation};
pub use self::pipeline::is_plain_relative;
pub(crate) use self::pipeline::{
    Activation, DenseModule, DenseModuleConfig, DensePipeline, MAX_DENSE_MODULES, Pooling, PoolingMode,
    only_transformer,
};
pub(crate) use self::sentence::{ModelSettings, Prompts, SENTENCE_FILES, SentenceSettings};
pub(crate) use self::tokenizer::{Length, TokenizerSettings};
use crate::error::{Error, Result};

/// The architecture that a reranker's `config.json` names.
const RERANKER: &str = "XLMRobertaForSequenceClassification";

/// The smallest limit on a pair's tokens that a reranker can work with: after a query of three quarters of them (12) and four special
/// tokens, one is left for the document.
pub const MIN_PAIR_TOKENS: usize = 17;

/// The sizes and switches of an XLM-RoBERTa encoder, from `config.json` or a packed file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelConfig {
    pub kind: ModelKind,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub ffn: usize,
    pub vocabulary: usize,
    /// Rows of the position table; token `i` uses row `i + pad_id + 1`.
    pub positions: usize,
    pub token_types: usize,
    pub layer_norm_eps: f32,
    pub pad_id: u32,
    /// How a reranker's logit becomes its score.
    pub activation: ScoreActivation,
}

/// `config.json` as it is written. Sizes have no defaults: without them the file is refused.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    num_hidden_layers: Option<usize>,
    hidden_size: Option<usize>,
    num_attention_heads: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: Option<usize>,
    // The switches. The defaults are those of `transformers` for XLM-RoBERTa.
    #[serde(default = "default_eps")]
    layer_norm_eps: f64,
    #[serde(default = "default_pad")]
    pad_token_id: Option<u32>,
    #[serde(default = "default_act")]
    hidden_act: String,
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    add_cross_attention: Option<bool>,
    quantization_config: Option<Value>,
    pruned_heads: Option<Value>,
    // The activation of a reranker: where sentence-transformers' `CrossEncoder` stores it, and where it did before its release 4.
    sentence_transformers: Option<OfSentenceTransformers>,
    sbert_ce_default_activation_function: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    // How many labels a classifier has. `transformers` writes `id2label`, the labels' names, and reads either field.
    num_labels: Option<usize>,
    id2label: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
struct OfSentenceTransformers {
    activation_fn: Option<String>,
}

impl RawConfig {
    /// Refuses switches that describe another encoder than the one implemented here.
    fn check_switches(&self, path: &Path) -> Result<()> {
        let expect = |field: &str, found: &str, expected: &str| {
            if found == expected {
                return Ok(());
            }
            Err(Error::format(path, format!("`{field}` is \"{found}\", expected \"{expected}\"")))
        };
        expect("model_type", self.model_type.as_deref().unwrap_or("(absent)"), "xlm-roberta")?;
        // `gelu_new`, `gelu_pytorch_tanh` and `quick_gelu` are other functions, so they are refused.
        expect("hidden_act", &self.hidden_act, "gelu")?;
        expect("position_embedding_type", self.position_embedding_type.as_deref().unwrap_or("absolute"), "absolute")?;
        for (field, value) in [("is_decoder", self.is_decoder), ("add_cross_attention", self.add_cross_attention)] {
            if value == Some(true) {
                return Err(Error::format(path, format!("`{field}` is true, expected an encoder")));
            }
        }
        if self.quantization_config.is_some() {
            let what = "`quantization_config` is set: dequantize the weights and save them as floats (`trivec pack` makes int8 and int4)";
            return Err(Error::format(path, what));
        }
        let is_empty = |heads: &Value| heads.as_object().is_some_and(serde_json::Map::is_empty);
        if self.pruned_heads.as_ref().is_some_and(|heads| !is_empty(heads)) {
            return Err(Error::format(path, "`pruned_heads` is set: layers of different sizes are not supported"));
        }
        Ok(())
    }

    /// How a reranker's logit becomes its score; the newer of the two fields counts.
    fn activation(&self, path: &Path) -> Result<ScoreActivation> {
        let newer = self.sentence_transformers.as_ref().and_then(|of| of.activation_fn.as_ref());
        let named = [
            ("sentence_transformers.activation_fn", newer),
            ("sbert_ce_default_activation_function", self.sbert_ce_default_activation_function.as_ref()),
        ];
        match named.into_iter().find_map(|(field, class)| Some((field, class?))) {
            None => Ok(ScoreActivation::default()),
            Some((field, class)) => ScoreActivation::by_class(class, field, path),
        }
    }

    /// Whether the model is a reranker; an error if it is one with several labels.
    fn kind(&self, path: &Path) -> Result<ModelKind> {
        if !self.architectures.as_ref().is_some_and(|names| names.iter().any(|name| name == RERANKER)) {
            return Ok(ModelKind::Embedder);
        }
        let labels = [("num_labels", self.num_labels), ("id2label", self.id2label.as_ref().map(serde_json::Map::len))];
        match labels.into_iter().find(|(_, labels)| labels.is_some_and(|labels| labels != 1)) {
            None => Ok(ModelKind::Reranker),
            Some((field, labels)) => {
                let labels = labels.unwrap_or_default();
                let what = format!("`{field}` says {labels} labels, expected 1: a reranker gives one score a pair");
                Err(Error::format(path, what))
            }
        }
    }
}

fn default_eps() -> f64 {
    1e-12
}
fn default_pad() -> Option<u32> {
    Some(1)
}
fn default_act() -> String {
    "gelu".into()
}

/// Checks that `bytes` are the `config.json` of a model that can be loaded; `path` names the file in errors.
///
/// # Errors
/// [`ErrorKind::Model`](crate::ErrorKind::Model) if they are not.
pub fn check_config(bytes: &[u8], path: &Path) -> Result<()> {
    ModelConfig::from_json(bytes, path).map(|_| ())
}

impl ModelConfig {
    /// Reads and checks `config.json`. `path` names the file in errors.
    pub(crate) fn from_json(bytes: &[u8], path: &Path) -> Result<Self> {
        let raw: RawConfig = parse_json(bytes, path)?;
        raw.check_switches(path)?;
        let size = |field: &str, value: Option<usize>| match value {
            Some(value) if (1..=i32::MAX as usize).contains(&value) => Ok(value),
            Some(value) => Err(Error::format(path, format!("`{field}` is {value}, expected 1 to {}", i32::MAX))),
            None => Err(Error::format(path, format!("`{field}` is missing"))),
        };
        let config = ModelConfig {
            kind: raw.kind(path)?,
            layers: size("num_hidden_layers", raw.num_hidden_layers)?,
            hidden: size("hidden_size", raw.hidden_size)?,
            heads: size("num_attention_heads", raw.num_attention_heads)?,
            ffn: size("intermediate_size", raw.intermediate_size)?,
            vocabulary: size("vocab_size", raw.vocab_size)?,
            positions: size("max_position_embeddings", raw.max_position_embeddings)?,
            token_types: size("type_vocab_size", raw.type_vocab_size)?,
            layer_norm_eps: raw.layer_norm_eps as f32,
            pad_id: raw.pad_token_id.ok_or_else(|| {
                let what =
                    "`pad_token_id` is null, expected the id that positions are counted from (1 for XLM-RoBERTa)";
                Error::format(path, what)
            })?,
            activation: raw.activation(path)?,
        };
        config.check(path)?;
        Ok(config)
    }

    /// Checks that the sizes are in range and fit each other. `path` names the file in errors.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let sizes = [
            ("layers", self.layers),
            ("hidden size", self.hidden),
            ("heads", self.heads),
            ("ffn size", self.ffn),
            ("vocabulary", self.vocabulary),
            ("positions", self.positions),
            ("token types", self.token_types),
        ];
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| !(1..=i32::MAX as usize).contains(size)) {
            return Err(Error::format(path, format!("{name} {size}, expected 1 to {}", i32::MAX)));
        }
        if !self.hidden.is_multiple_of(self.heads) {
            let what = format!("hidden_size {} is no multiple of num_attention_heads {}", self.hidden, self.heads);
            return Err(Error::format(path, what));
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps.is_finite()) {
            return Err(Error::format(path, format!("`layer_norm_eps` is {}", self.layer_norm_eps)));
        }
        if self.max_tokens() < 2 {
            let what = format!(
                "max_position_embeddings {} leaves no room for <s> and </s> after pad_token_id {}",
                self.positions, self.pad_id
            );
            return Err(Error::format(path, what));
        }
        if self.kind == ModelKind::Reranker && self.max_tokens() < MIN_PAIR_TOKENS {
            let what = format!(
                "max_position_embeddings {} leaves room for {} tokens, expected {MIN_PAIR_TOKENS} or more: \
                 a reranker takes a query, a document and four special tokens",
                self.positions,
                self.max_tokens()
            );
            return Err(Error::format(path, what));
        }
        Ok(())
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// The most tokens of an input: as many as the position table has rows after `pad_id`.
    pub(crate) fn max_tokens(&self) -> usize {
        self.positions.saturating_sub(self.pad_id as usize + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(change: &str) -> String {
        let base = r#"{"model_type":"xlm-roberta","num_hidden_layers":2,"hidden_size":64,"num_attention_heads":2,
            "intermediate_size":128,"vocab_size":300,"max_position_embeddings":514,"type_vocab_size":1"#;
        format!("{base}{change}}}")
    }

    fn error(text: &str) -> String {
        ModelConfig::from_json(text.as_bytes(), Path::new("config.json")).unwrap_err().to_string()
    }

    #[test]
    fn reads_sizes_and_fills_absent_switches_with_defaults() {
        let config = ModelConfig::from_json(json("").as_bytes(), Path::new("config.json")).unwrap();
        assert_eq!((config.head_dim(), config.max_tokens(), config.pad_id), (32, 512, 1));
        assert_eq!(config.layer_norm_eps, 1e-12);
    }

    #[test]
    fn missing_or_wrong_settings_and_damaged_json_are_refused() {
        assert!(error(&json("").replace("xlm-roberta", "bert")).contains("`model_type` is \"bert\""));
        assert!(error(&json("").replace("\"hidden_size\":64,", "")).contains("`hidden_size` is missing"));
        assert!(error(&json("").replace("\"hidden_size\":64", "\"hidden_size\":65")).contains("multiple"));
        assert!(error(&json("").replace("300", "0")).contains("`vocab_size` is 0"));
        assert!(error(&json("").replace("514", "3")).contains("no room"));
        assert!(error(&json(",\"hidden_act\":\"relu\"")).contains("hidden_act"));
        assert!(error(&json(",\"layer_norm_eps\":-1")).contains("layer_norm_eps"));
        assert!(error("{").contains("not the JSON"));
        assert!(error(&"[".repeat(10_000)).contains("not the JSON"));
    }

    #[test]
    fn a_reranker_has_one_label_and_room_for_a_pair() {
        let kind = |text: &str| ModelConfig::from_json(json(text).as_bytes(), Path::new("config.json")).map(|c| c.kind);
        let names = r#","architectures":["XLMRobertaForSequenceClassification"]"#;
        assert_eq!(kind("").unwrap(), ModelKind::Embedder);
        assert_eq!(kind(r#","architectures":["XLMRobertaModel"],"num_labels":2"#).unwrap(), ModelKind::Embedder);
        assert_eq!(kind(r#","architectures":null"#).unwrap(), ModelKind::Embedder);
        for one in ["", r#","num_labels":1"#, r#","id2label":{"0":"LABEL_0"}"#] {
            assert_eq!(kind(&format!("{names}{one}")).unwrap(), ModelKind::Reranker);
        }
        for (other, count) in [
            (r#","num_labels":2"#, "2 labels"),
            (r#","id2label":{"0":"a","1":"b","2":"c"}"#, "3 labels"),
            (r#","num_labels":0"#, "0 labels"),
        ] {
            let message = kind(&format!("{names}{other}")).unwrap_err().to_string();
            assert!(message.contains(count) && message.contains("expected 1"), "{message}");
        }
        // 18 positions less `pad_id` + 1.
        let short = json(names).replace("514", "18");
        assert!(error(&short).contains("16 tokens, expected 17 or more"), "{}", error(&short));
    }
}
