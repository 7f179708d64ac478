//! Reads the tokens that other files add to those of `tokenizer.json`: `tokenizer_config.json`, and in older models
//! `special_tokens_map.json` and `added_tokens.json`.
//!
//! Source: transformers 5 `PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__`. The older two files only count if
//! `tokenizer_config.json` has no `added_tokens_decoder`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::spec::AddedTokenSpec;
use crate::error::{Error, Result};

/// A file's bytes, and its path for errors.
pub(crate) type File<'a> = (&'a [u8], &'a Path);

/// The fields for the special tokens of every tokenizer, in the order in which tokens that are new are added.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The tokens that other files add to those of the tokenizer's own file.
#[derive(Debug, Default)]
pub(crate) struct ExtraTokens {
    /// Tokens with all their properties. If a token exists already, they replace its properties.
    described: Vec<AddedTokenSpec>,
    /// Tokens that are added only if they do not exist yet.
    special: Vec<AddedTokenSpec>,
}

impl ExtraTokens {
    /// Reads those of the three files that exist.
    pub(crate) fn read(
        tokenizer_config: Option<File<'_>>,
        special_tokens_map: Option<File<'_>>,
        added_tokens: Option<File<'_>>,
    ) -> Result<ExtraTokens> {
        let object = |file: Option<File<'_>>| match file {
            None => Ok(Map::new()),
            Some((bytes, path)) => serde_json::from_slice::<Map<String, Value>>(bytes)
                .map_err(|e| Error::format(path, format!("not the JSON that was expected: {e}"))),
        };
        let config_path = tokenizer_config.map_or(Path::new("tokenizer_config.json"), |(_, path)| path);
        let mut fields = object(tokenizer_config)?;
        let mut described = BTreeMap::new();
        // The file that errors about `fields` name.
        let mut path = config_path;
        if let Some(decoder) = fields.get("added_tokens_decoder").filter(|decoder| !decoder.is_null()) {
            let refuse = |what: String| Error::format(config_path, format!("`added_tokens_decoder`: {what}"));
            let entries = decoder.as_object().ok_or_else(|| refuse("it is no object".to_owned()))?;
            for (id, token) in entries {
                let id: u64 = id.parse().map_err(|_| refuse(format!("`{id}` is no token id")))?;
                described.insert(id, added_token(token, false).map_err(refuse)?);
            }
        } else {
            if let Some((_, map_path)) = special_tokens_map {
                path = map_path;
                fields.extend(object(special_tokens_map)?);
            }
            let special = special_tokens(&fields, path)?;
            for (content, id) in object(added_tokens)? {
                let id = id.as_u64().ok_or_else(|| {
                    let path = added_tokens.map_or(config_path, |(_, path)| path);
                    Error::format(path, format!("the id of `{content}` is {id}"))
                })?;
                let is_special = special.iter().any(|token| token.content == content);
                let token =
                    AddedTokenSpec { normalized: !is_special, ..AddedTokenSpec::plain(0, &content, is_special) };
                described.insert(id, token);
            }
        }
        Ok(ExtraTokens { described: described.into_values().collect(), special: special_tokens(&fields, path)? })
    }

    /// Appends these tokens to the tokenizer's `own`; a token with the content of an earlier one changes its properties (`numbering.rs`).
    pub(super) fn add_to(&self, own: &mut Vec<AddedTokenSpec>) {
        own.extend(self.described.iter().cloned());
        for token in &self.special {
            if !own.iter().any(|other| other.content == token.content) {
                own.push(token.clone());
            }
        }
    }
}

/// The special tokens in `fields`: those of [`NAMED`], those in other fields whose names end with `_token`, and those in the first of
/// `extra_special_tokens` and `additional_special_tokens` that is not empty. `path` names the file in errors.
fn special_tokens(fields: &Map<String, Value>, path: &Path) -> Result<Vec<AddedTokenSpec>> {
    let mut found = Vec::new();
    let mut push = |field: &str, token: &Value| -> Result<()> {
        if !token.is_null() {
            found.push(added_token(token, true).map_err(|what| Error::format(path, format!("`{field}`: {what}")))?);
        }
        Ok(())
    };
    for name in NAMED {
        fields.get(name).map_or(Ok(()), |token| push(name, token))?;
    }
    let is_token = |value: &Value| value.is_string() || value.get("content").is_some();
    for (name, token) in fields.iter().filter(|(name, _)| name.ends_with("_token") && !NAMED.contains(&name.as_str())) {
        if is_token(token) {
            push(name, token)?;
        }
    }
    let is_filled = |value: &&Value| match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        value => !value.is_null(),
    };
    let names = ["extra_special_tokens", "additional_special_tokens"];
    let further = names.into_iter().find_map(|name| Some((name, fields.get(name).filter(is_filled)?)));
    match further {
        None => {}
        Some((name, Value::Array(list))) => list.iter().try_for_each(|token| push(name, token))?,
        Some((name, Value::Object(map))) => map.values().try_for_each(|token| push(name, token))?,
        Some((name, other)) => return Err(Error::format(path, format!("`{name}` is {other}, expected a list"))),
    }
    Ok(found)
}

/// Reads a token: a string, or an object with `content` and flags. If `special` is true the token is special whatever its flag says.
fn added_token(token: &Value, special: bool) -> std::result::Result<AddedTokenSpec, String> {
    let flag = |name: &str, default: bool| match token.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(format!("`{name}` is {other}, expected true or false")),
    };
    let content = token.as_str().or_else(|| token.get("content")?.as_str());
    let content =
        content.ok_or_else(|| format!("it is {token}, expected a string or an object with `content`"))?.to_owned();
    let special = special || flag("special", false)?;
    Ok(AddedTokenSpec {
        // Set later, by `numbering::number`.
        id: 0,
        content,
        single_word: flag("single_word", false)?,
        lstrip: flag("lstrip", false)?,
        rstrip: flag("rstrip", false)?,
        normalized: flag("normalized", !special)?,
        special,
    })
}
