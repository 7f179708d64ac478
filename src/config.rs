//! `config.json` and the sentence-transformers files around it: every size and switch of a model, read and checked once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelKind {
    /// Texts in, vectors out: `XLMRobertaModel` and whatever else is not named here.
    #[default]
    Embedder,
    /// Pairs of texts in, one score a pair out: `XLMRobertaForSequenceClassification` with one label.
    Reranker,
}

/// The architecture that `config.json` of a reranker names.
const RERANKER: &str = "XLMRobertaForSequenceClassification";

/// Fewest tokens that a reranker must be able to take: three quarters of them for the query and four special tokens leave one for
/// the document.
pub(crate) const MIN_PAIR_TOKENS: usize = 17;

/// The sizes of an XLM-RoBERTa encoder, from `config.json`.
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
}

/// `config.json` as it is written. Sizes have no defaults: a file without them is not a model's.
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
    // The switches: where a file leaves them out, `transformers` has these values for XLM-RoBERTa.
    #[serde(default = "default_eps")]
    layer_norm_eps: f64,
    #[serde(default = "default_pad")]
    pad_token_id: u32,
    #[serde(default = "default_act")]
    hidden_act: String,
    #[serde(default = "default_position_type")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    // How many labels a classifier has: `transformers` writes their names, and reads either.
    num_labels: Option<usize>,
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
}

impl RawConfig {
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
fn default_pad() -> u32 {
    1
}
fn default_act() -> String {
    "gelu".into()
}
fn default_position_type() -> String {
    "absolute".into()
}

pub(crate) fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::format(path, format!("not the JSON that was expected: {e}")))
}

impl ModelConfig {
    pub(crate) fn from_json(bytes: &[u8], path: &Path) -> Result<Self> {
        let raw: RawConfig = parse_json(bytes, path)?;
        let expect = |field: &str, found: &str, expected: &str| {
            if found == expected {
                return Ok(());
            }
            Err(Error::format(path, format!("`{field}` is \"{found}\", expected \"{expected}\"")))
        };
        expect("model_type", raw.model_type.as_deref().unwrap_or("(absent)"), "xlm-roberta")?;
        expect("hidden_act", &raw.hidden_act, "gelu")?;
        expect("position_embedding_type", &raw.position_embedding_type, "absolute")?;
        if raw.is_decoder {
            return Err(Error::format(path, "`is_decoder` is true, expected an encoder"));
        }
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
            pad_id: raw.pad_token_id,
        };
        config.check(path)?;
        Ok(config)
    }

    /// Whether the sizes fit each other.
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
                "max_position_embeddings {} leaves no room for <s> and </s> behind pad_token_id {}",
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

    /// Longest input that the position table serves: rows `pad_id + 1 ..`.
    pub(crate) fn max_tokens(&self) -> usize {
        self.positions.saturating_sub(self.pad_id as usize + 1)
    }
}

/// How token states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Cls,
    Mean,
}

impl Pooling {
    /// The name users read.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pooling::Cls => "cls",
            Pooling::Mean => "mean",
        }
    }
}

/// What follows the encoder on the way to the dense vector: sentence-transformers' `modules.json`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DensePipeline {
    pub pooling: Pooling,
    /// Folders of `Dense` modules, in order.
    pub dense: Vec<String>,
    pub normalize: bool,
}

impl Default for DensePipeline {
    /// BGE-M3's own way, for a directory without `modules.json`: CLS, then L2.
    fn default() -> Self {
        DensePipeline { pooling: Pooling::Cls, dense: Vec::new(), normalize: true }
    }
}

#[derive(Deserialize)]
struct RawModule {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct RawPooling {
    // Older files have one switch a mode, newer ones a name.
    pooling_mode: Option<String>,
    #[serde(flatten)]
    switches: serde_json::Map<String, serde_json::Value>,
}

/// `2_Dense/config.json`.
#[derive(Deserialize)]
pub(crate) struct DenseModuleConfig {
    pub in_features: usize,
    pub out_features: usize,
    #[serde(default = "default_true")]
    pub bias: bool,
    pub activation_function: Option<String>,
}

fn default_true() -> bool {
    true
}

/// A folder named by a model's file must lie inside the model's directory.
pub(crate) fn is_plain_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

impl DensePipeline {
    /// Reads `modules.json`; `read` fetches the pooling module's `config.json` by its relative path.
    pub(crate) fn from_modules(
        bytes: &[u8],
        path: &Path,
        read: impl Fn(&str) -> Result<Box<[u8]>>,
    ) -> Result<DensePipeline> {
        let modules: Vec<RawModule> = parse_json(bytes, path)?;
        let mut pipeline = DensePipeline { pooling: Pooling::Cls, dense: Vec::new(), normalize: false };
        // The order is fixed: Transformer, Pooling, any Dense, at most one Normalize at the end.
        let mut stage = 0;
        for module in modules {
            let kind = module.kind.rsplit('.').next().unwrap_or_default();
            let next = match kind {
                "Transformer" => 1,
                "Pooling" => 2,
                "Dense" => 3,
                "Normalize" => 4,
                other => return Err(Error::format(path, format!("module type `{other}` is not supported"))),
            };
            if next < stage || (next == stage && kind != "Dense") || next > stage + 1 && stage < 2 {
                return Err(Error::format(path, format!("module `{kind}` stands where it cannot")));
            }
            stage = next;
            if next > 1 && next < 4 && !is_plain_relative(&module.path) {
                return Err(Error::format(path, format!("module path `{}` leaves the directory", module.path)));
            }
            match kind {
                "Pooling" => {
                    let file = format!("{}/config.json", module.path);
                    pipeline.pooling = parse_pooling(&read(&file)?, &path.with_file_name(&file))?;
                }
                "Dense" => pipeline.dense.push(module.path),
                "Normalize" => pipeline.normalize = true,
                _ => {}
            }
        }
        if stage < 2 {
            return Err(Error::format(path, "there is no Pooling module"));
        }
        Ok(pipeline)
    }
}

fn parse_pooling(bytes: &[u8], path: &Path) -> Result<Pooling> {
    let raw: RawPooling = parse_json(bytes, path)?;
    let on: Vec<&str> = match &raw.pooling_mode {
        Some(mode) => vec![mode.as_str()],
        None => raw
            .switches
            .iter()
            .filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true))
            .map(|(key, _)| key.trim_start_matches("pooling_mode_"))
            .collect(),
    };
    match on[..] {
        ["cls" | "cls_token"] => Ok(Pooling::Cls),
        ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
        _ => Err(Error::format(path, format!("pooling is {on:?}, expected exactly one of cls and mean"))),
    }
}

/// `sentence_bert_config.json`.
#[derive(Deserialize, Default)]
pub(crate) struct SentenceConfig {
    pub max_seq_length: Option<usize>,
    #[serde(default)]
    pub do_lower_case: bool,
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
    fn reads_sizes_and_fills_switches_only() {
        let config = ModelConfig::from_json(json("").as_bytes(), Path::new("config.json")).unwrap();
        assert_eq!((config.head_dim(), config.max_tokens(), config.pad_id), (32, 512, 1));
        assert_eq!(config.layer_norm_eps, 1e-12);
    }

    #[test]
    fn refuses_what_it_does_not_run() {
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
    fn a_reranker_has_one_label() {
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
        let short = json(names).replace("514", "18");
        assert!(error(&short).contains("16 tokens, expected 17 or more"), "{}", error(&short));
    }

    fn pipeline(modules: &str, pooling: &str) -> Result<DensePipeline> {
        DensePipeline::from_modules(modules.as_bytes(), Path::new("modules.json"), |file| {
            assert_eq!(file, "1_Pooling/config.json");
            Ok(pooling.as_bytes().into())
        })
    }

    #[test]
    fn reads_sentence_transformers_modules() {
        let module = |path: &str, kind: &str| format!(r#"{{"idx":0,"name":"","path":"{path}","type":"{kind}"}}"#);
        let list = |modules: &[String]| format!("[{}]", modules.join(","));
        let transformer = module("", "sentence_transformers.models.Transformer");
        let pool = module("1_Pooling", "sentence_transformers.models.Pooling");
        let dense = module("2_Dense", "sentence_transformers.models.Dense");
        let norm = module("3_Normalize", "sentence_transformers.models.Normalize");
        let mean = r#"{"word_embedding_dimension":64,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true}"#;
        let all = list(&[transformer.clone(), pool.clone(), dense.clone(), norm.clone()]);
        let expected = DensePipeline { pooling: Pooling::Mean, dense: vec!["2_Dense".into()], normalize: true };
        assert_eq!(pipeline(&all, mean).unwrap(), expected);
        let short = list(&[transformer.clone(), pool.clone()]);
        assert!(!pipeline(&short, r#"{"pooling_mode":"cls"}"#).unwrap().normalize);

        let max = r#"{"pooling_mode_max_tokens":true}"#;
        assert!(pipeline(&all, max).unwrap_err().to_string().contains("max_tokens"));
        assert!(pipeline(&list(&[transformer.clone(), norm, pool]), mean).is_err());
        assert!(pipeline(&list(std::slice::from_ref(&transformer)), mean).is_err());
        let outside = list(&[transformer.clone(), module("../x", "Pooling")]);
        assert!(pipeline(&outside, mean).unwrap_err().to_string().contains("leaves"));
        assert!(
            pipeline(&list(&[transformer, module("1", "models.LSTM")]), mean).unwrap_err().to_string().contains("LSTM")
        );
    }
}
