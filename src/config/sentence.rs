//! Reads the settings that sentence-transformers stores with a model: how its texts are cut (`sentence_bert_config.json`, which has older
//! names too), its prompts, and how many values of its vectors are kept (`config_sentence_transformers.json`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::json::parse_json;
use super::kind::{ModelKind, ScoreActivation};
use super::tokenizer::{Length, check_truncation_side, length};
use crate::error::{Error, Result};

/// The names that the file with the encoder's settings may have, in the order in which they are looked for. The first one that has any
/// field counts.
pub(crate) const SENTENCE_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// The arguments that sentence-transformers passes on when it loads a model, and that cannot change this engine's results.
/// (`dtype` and `torch_dtype` do not choose this engine's arithmetic.)
const HARMLESS_ARGUMENTS: [&str; 20] = [
    "add_pooling_layer",
    "attn_implementation",
    "cache_dir",
    "clean_up_tokenization_spaces",
    "device_map",
    "dtype",
    "export",
    "file_name",
    "local_files_only",
    "low_cpu_mem_usage",
    "padding_side",
    "provider",
    "revision",
    "token",
    "torch_dtype",
    "trust_remote_code",
    "use_cache",
    "use_fast",
    "use_memory_efficient_attention",
    "use_safetensors",
];

/// `sentence_bert_config.json`, or one of its older names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SentenceSettings {
    /// The maximum length, and the name of the field that sets it, for errors.
    pub max_length: Option<(&'static str, Length)>,
    /// Whether texts are converted to lower case first.
    pub lower_case: bool,
}

impl SentenceSettings {
    /// Reads the file; `None` if it has no fields, so that the next of [`SENTENCE_FILES`] counts.
    pub(crate) fn from_json(bytes: &[u8], path: &Path, kind: ModelKind) -> Result<Option<SentenceSettings>> {
        let fields: Map<String, Value> = parse_json(bytes, path)?;
        if fields.is_empty() {
            return Ok(None);
        }
        let (task, output, method_output) = match kind {
            ModelKind::Embedder => ("feature-extraction", "token_embeddings", "last_hidden_state"),
            ModelKind::Reranker => ("sequence-classification", "scores", "logits"),
        };
        let refuse = |what: String| Error::format(path, what);
        let mut settings = SentenceSettings::default();
        // The three places for a maximum length. Each overrules those before it.
        let (mut of_field, mut of_arguments, mut of_calls) = (None, None, None);
        for (field, value) in &fields {
            let expect = |expected: &str| match value {
                Value::Null => Ok(()),
                value if value == expected => Ok(()),
                value => Err(refuse(format!("`{field}` is {value}, expected \"{expected}\""))),
            };
            match field.as_str() {
                "max_seq_length" => {
                    of_field = length(value, field, path)?.map(|length| ("max_seq_length", length));
                }
                "do_lower_case" => match value {
                    Value::Bool(lower_case) => settings.lower_case = *lower_case,
                    Value::Null => {}
                    value => return Err(refuse(format!("`do_lower_case` is {value}, expected true or false"))),
                },
                "transformer_task" => expect(task)?,
                "module_output_name" => expect(output)?,
                "modality_config" => check_modalities(value, method_output, path)?,
                "model_args" | "model_kwargs" | "config_args" | "config_kwargs" => {
                    check_arguments(field, value, path, |_, _| Ok(false))?;
                }
                "tokenizer_args" | "processor_kwargs" => {
                    check_arguments(field, value, path, |name, value| match name {
                        "model_max_length" => {
                            of_arguments = length(value, name, path)?.map(|length| ("model_max_length", length));
                            Ok(true)
                        }
                        "truncation_side" => check_truncation_side(value, path).map(|()| true),
                        _ => Ok(false),
                    })?
                }
                "processing_kwargs" => of_calls = processing(value, path)?,
                // This engine has no padding at all.
                "unpad_inputs" => {}
                "query_length" | "document_length" | "query_expansion" | "tokenizer_name_or_path" => {
                    if !value.is_null() {
                        return Err(refuse(format!("`{field}` is {value}, which is not supported: expected null")));
                    }
                }
                _ => return Err(refuse(format!("there is no field `{field}` of a Transformer module"))),
            }
        }
        settings.max_length = of_calls.or(of_arguments).or(of_field);
        Ok(Some(settings))
    }
}

/// Checks that the object `value` of `field` has no arguments but [`HARMLESS_ARGUMENTS`] and those for which `own` returns `true`.
fn check_arguments(
    field: &str,
    value: &Value,
    path: &Path,
    mut own: impl FnMut(&str, &Value) -> Result<bool>,
) -> Result<()> {
    let refuse = |what: String| Err(Error::format(path, what));
    let arguments = match value {
        Value::Null => return Ok(()),
        Value::Object(arguments) => arguments,
        value => return refuse(format!("`{field}` is {value}, expected an object")),
    };
    for (name, value) in arguments {
        if !HARMLESS_ARGUMENTS.contains(&name.as_str()) && !own(name, value)? {
            return refuse(format!(
                "`{field}` has `{name}`, which is not supported: set it in the file that it is about"
            ));
        }
    }
    Ok(())
}

/// Reads `processing_kwargs`, the arguments for every call of the tokenizer: returns the maximum length, if they set one, and refuses
/// arguments that are not known.
fn processing(value: &Value, path: &Path) -> Result<Option<(&'static str, Length)>> {
    let refuse = |what: String| Err(Error::format(path, what));
    let mut found = None;
    for (kind, arguments) in value.as_object().into_iter().flatten() {
        if !matches!(kind.as_str(), "text" | "common") {
            continue;
        }
        for (name, value) in arguments.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("max_length", value) => {
                    found = length(value, name, path)?.map(|length| ("max_length of processing_kwargs", length));
                }
                ("padding" | "pad_to_multiple_of" | "return_tensors", _) => {}
                ("truncation", Value::Bool(true)) => {}
                ("truncation", Value::String(how)) if how == "longest_first" => {}
                _ => return refuse(format!("`processing_kwargs` has `{name}`: {value}, which is not supported")),
            }
        }
    }
    Ok(found)
}

/// Checks `modality_config`: it must say that texts go through `forward`, whose result is `output`.
fn check_modalities(value: &Value, output: &str, path: &Path) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    let text = &value["text"];
    if value.get("message").is_none() && text["method"] == "forward" && text["method_output_name"] == output {
        return Ok(());
    }
    let what = format!(
        "`modality_config` is {value}, expected `text` with the method \"forward\" and its output \"{output}\""
    );
    Err(Error::format(path, what))
}

/// The prompts of a model: texts that it puts before queries or documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prompts {
    /// The prompts by name.
    pub named: BTreeMap<String, String>,
    /// The name of the prompt that every text gets unless the caller asks for another.
    pub default: Option<String>,
}

/// `config_sentence_transformers.json`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ModelSettings {
    pub prompts: Prompts,
    pub truncate_dim: Option<usize>,
    pub similarity: Option<String>,
    /// How a reranker's logit becomes its score; it overrules what `config.json` says.
    pub activation: Option<ScoreActivation>,
}

/// `config_sentence_transformers.json` as it is written.
#[derive(Deserialize)]
struct RawModelSettings {
    model_type: Option<String>,
    prompts: Option<BTreeMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
    truncate_dim: Option<i64>,
    similarity_fn_name: Option<String>,
    activation_fn: Option<String>,
}

/// The prompt names that sentence-transformers gives every model. Where the model has no text for one, it stands for no prompt.
const KNOWN_PROMPTS: [&str; 2] = ["query", "document"];

impl ModelSettings {
    /// Reads and checks the file. `path` names it in errors.
    pub(crate) fn from_json(bytes: &[u8], path: &Path, kind: ModelKind) -> Result<ModelSettings> {
        let raw: RawModelSettings = parse_json(bytes, path)?;
        let refuse = |what: String| Err(Error::format(path, what));
        let expected: &[&str] = match kind {
            ModelKind::Embedder => &["SentenceTransformer"],
            // sentence-transformers reads a missing `model_type` as "SentenceTransformer", whatever the model is.
            ModelKind::Reranker => &["CrossEncoder", "SentenceTransformer"],
        };
        if let Some(found) = raw.model_type.filter(|found| !expected.contains(&found.as_str())) {
            return refuse(format!("`model_type` is \"{found}\", expected \"{}\"", expected[0]));
        }
        let prompts = raw.prompts.unwrap_or_default();
        let named: BTreeMap<String, String> =
            prompts.into_iter().map(|(name, text)| (name, text.unwrap_or_default())).collect();
        let prompts = Prompts { named, default: raw.default_prompt_name };
        Self::check_prompts(&prompts, path)?;
        let truncate_dim = match raw.truncate_dim {
            None => None,
            Some(dim) => match usize::try_from(dim) {
                Ok(dim) if dim > 0 => Some(dim),
                _ => return refuse(format!("`truncate_dim` is {dim}, expected 1 or more")),
            },
        };
        let activation = match (kind, raw.activation_fn) {
            (ModelKind::Reranker, Some(class)) => Some(ScoreActivation::by_class(&class, "activation_fn", path)?),
            _ => None,
        };
        Ok(ModelSettings { prompts, truncate_dim, similarity: raw.similarity_fn_name, activation })
    }

    /// Checks that the default prompt is one of the model's prompts or of [`KNOWN_PROMPTS`].
    pub(crate) fn check_prompts(prompts: &Prompts, path: &Path) -> Result<()> {
        match &prompts.default {
            Some(name) if !prompts.named.contains_key(name) && !KNOWN_PROMPTS.contains(&name.as_str()) => {
                let names: Vec<_> = prompts.named.keys().map(String::as_str).collect();
                let what =
                    format!("`default_prompt_name` is \"{name}\", which is none of its prompts ({})", names.join(", "));
                Err(Error::format(path, what))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(json: &str) -> Result<Option<SentenceSettings>> {
        SentenceSettings::from_json(json.as_bytes(), Path::new("sentence_bert_config.json"), ModelKind::Embedder)
    }

    #[test]
    fn of_several_maximum_lengths_that_nearest_to_the_tokenizers_call_counts() {
        let all = r#"{"max_seq_length":16,"processor_kwargs":{"model_max_length":32},
            "processing_kwargs":{"text":{"max_length":64,"truncation":true}}}"#;
        let length = |json: &str| sentence(json).unwrap().unwrap().max_length;
        assert_eq!(length(all), Some(("max_length of processing_kwargs", Length::Tokens(64))));
        assert_eq!(
            length(r#"{"max_seq_length":16,"tokenizer_args":{"model_max_length":32}}"#).unwrap().0,
            "model_max_length"
        );
        assert_eq!(length(r#"{"max_seq_length":null,"do_lower_case":false}"#), None);
        assert_eq!(sentence("{}").unwrap(), None);
    }

    #[test]
    fn settings_that_are_not_supported_are_refused_by_name() {
        for (json, expected) in [
            (r#"{"max_seq_length":1}"#, "`max_seq_length` is 1, expected 2 or more"),
            (r#"{"max_len":16}"#, "no field `max_len`"),
            (r#"{"query_expansion":{"length":32}}"#, "`query_expansion`"),
            (r#"{"model_args":{"num_hidden_layers":1}}"#, "`model_args` has `num_hidden_layers`"),
            (r#"{"transformer_task":"fill-mask"}"#, "\"fill-mask\", expected \"feature-extraction\""),
            (r#"{"processor_kwargs":{"truncation_side":"left"}}"#, "truncation_side"),
        ] {
            let message = sentence(json).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn prompts_are_read_and_an_unknown_default_is_refused() {
        let read = |json: &str| ModelSettings::from_json(json.as_bytes(), Path::new("c.json"), ModelKind::Embedder);
        let settings =
            read(r#"{"prompts":{"query":"q: ","document":null},"default_prompt_name":"query","truncate_dim":4}"#)
                .unwrap();
        assert_eq!(settings.prompts.named["query"], "q: ");
        assert_eq!(settings.prompts.named["document"], "");
        assert_eq!((settings.prompts.default.as_deref(), settings.truncate_dim), (Some("query"), Some(4)));
        assert!(read(r#"{"default_prompt_name":"document"}"#).is_ok());
        let message = |json: &str| read(json).unwrap_err().to_string();
        assert!(message(r#"{"prompts":{"a":"b"},"default_prompt_name":"x"}"#).contains("none of its prompts (a)"));
        assert!(message(r#"{"truncate_dim":0}"#).contains("`truncate_dim` is 0"));
        assert!(message(r#"{"model_type":"SparseEncoder"}"#).contains("SparseEncoder"));
    }
}
