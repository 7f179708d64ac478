//! Reads the settings in `tokenizer_config.json`. The tokens that this file adds are read by `src/text/extra.rs`.

use std::path::Path;

use serde_json::{Map, Value};

use super::json::parse_json;
use crate::error::{Error, Result};

/// A maximum length, as a file sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Tokens(usize),
    /// No limit, for which a file has a huge number: `transformers` writes 10^30.
    Unlimited,
}

/// Lengths of this and more stand for no limit.
const UNLIMITED: f64 = 1e15;

/// The maximum length that `value`, the value of `field`, sets; `None` if it is null.
pub(super) fn length(value: &Value, field: &str, path: &Path) -> Result<Option<Length>> {
    let number = match value {
        Value::Null => return Ok(None),
        value => value.as_f64(),
    };
    match number {
        Some(number) if number >= UNLIMITED => Ok(Some(Length::Unlimited)),
        Some(number) if number >= 2.0 && number.fract() == 0.0 => Ok(Some(Length::Tokens(number as usize))),
        _ => Err(Error::format(path, format!("`{field}` is {value}, expected 2 or more tokens, or null"))),
    }
}

/// Refuses a `truncation_side` other than "right", because texts are only ever cut at their end.
pub(super) fn check_truncation_side(value: &Value, path: &Path) -> Result<()> {
    match value.as_str() {
        None if value.is_null() => Ok(()),
        Some("right") => Ok(()),
        _ => Err(Error::format(
            path,
            format!("`truncation_side` is {value}, expected \"right\": texts are cut at their end"),
        )),
    }
}

/// The tokenizer classes of `transformers` that use `tokenizer.json` as it is, or build the same tokenizer from XLM-RoBERTa's vocabulary.
const CLASSES: [&str; 4] =
    ["XLMRobertaTokenizer", "XLMRobertaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"];

/// The settings in `tokenizer_config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenizerSettings {
    /// `model_max_length`, or its older name `max_len`.
    pub max_length: Option<Length>,
    /// Whether the file says that texts are cut at their end, which overrules `tokenizer.json`.
    pub cuts_right: bool,
}

impl TokenizerSettings {
    /// Reads and checks the file. `path` names it in errors.
    pub(crate) fn from_json(bytes: &[u8], path: &Path) -> Result<TokenizerSettings> {
        let fields: Map<String, Value> = parse_json(bytes, path)?;
        let get = |field: &str| fields.get(field).filter(|value| !value.is_null());
        let refuse = |what: String| Err(Error::format(path, what));
        if let Some(class) = get("tokenizer_class")
            && !class.as_str().is_some_and(|class| CLASSES.contains(&class))
        {
            return refuse(format!("`tokenizer_class` is {class}, expected one of {}", CLASSES.join(", ")));
        }
        for (field, expected) in [("add_prefix_space", true), ("split_special_tokens", false)] {
            if let Some(found) = get(field).filter(|found| **found != Value::Bool(expected)) {
                return refuse(format!("`{field}` is {found}, expected {expected}"));
            }
        }
        let side = get("truncation_side");
        if let Some(side) = side {
            check_truncation_side(side, path)?;
        }
        // `max_len` is the older name.
        let field = if fields.contains_key("model_max_length") { "model_max_length" } else { "max_len" };
        let max_length = fields.get(field).map_or(Ok(None), |value| length(value, field, path))?;
        Ok(TokenizerSettings { max_length, cuts_right: side.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<TokenizerSettings> {
        TokenizerSettings::from_json(json.as_bytes(), Path::new("tokenizer_config.json"))
    }

    #[test]
    fn maximum_lengths_are_read_in_every_form_that_files_have() {
        for (json, expected) in [
            (r#"{"model_max_length":16}"#, Some(Length::Tokens(16))),
            (r#"{"model_max_length":512.0}"#, Some(Length::Tokens(512))),
            (r#"{"model_max_length":1000000000000000019884624838656}"#, Some(Length::Unlimited)),
            (r#"{"model_max_length":1e30}"#, Some(Length::Unlimited)),
            (r#"{"model_max_length":null,"max_len":16}"#, None),
            (r#"{"max_len":16}"#, Some(Length::Tokens(16))),
            ("{}", None),
        ] {
            assert_eq!(read(json).unwrap().max_length, expected, "{json}");
        }
        for bad in ["0", "1", "-1", "16.5", "\"16\"", "true", "[]"] {
            let message = read(&format!(r#"{{"model_max_length":{bad}}}"#)).unwrap_err().to_string();
            assert!(message.contains(&format!("`model_max_length` is {bad}")), "{message}");
        }
    }

    #[test]
    fn settings_that_change_ids_are_refused_and_others_ignored() {
        for (json, expected) in [
            (r#"{"truncation_side":"left"}"#, "texts are cut at their end"),
            (r#"{"add_prefix_space":false}"#, "`add_prefix_space` is false"),
            (r#"{"split_special_tokens":true}"#, "`split_special_tokens` is true"),
            (r#"{"tokenizer_class":"BertTokenizer"}"#, "\"BertTokenizer\", expected one of XLMRobertaTokenizer"),
        ] {
            let message = read(json).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let harmless =
            r#"{"padding_side":"left","do_lower_case":true,"clean_up_tokenization_spaces":true,"chat_template":"x"}"#;
        assert_eq!(read(harmless).unwrap(), TokenizerSettings::default());
    }
}
