//! Documents: key, text and metadata, and the rules by which a document is accepted.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use trivec::numbers::grouped;

use crate::analyze::is_blank;
use crate::error::{Error, Result};

/// Longest key, in bytes. (tantivy drops terms of more than 65,530 bytes without an error.)
pub const MAX_KEY_BYTES: usize = 4096;
/// Longest text, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// Longest title, in bytes.
pub const MAX_TITLE_BYTES: usize = 64 << 10;
/// Longest metadata, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 256 << 10;
/// Longest string in the metadata, in bytes.
pub const MAX_METADATA_STRING: usize = 16 << 10;
/// How deep metadata may be nested.
pub const MAX_METADATA_DEPTH: usize = 8;
/// Most values in the metadata of a document.
pub const MAX_METADATA_VALUES: usize = 4096;
/// Names that filters use for the document's own fields, and metadata may not.
pub const RESERVED_NAMES: [&str; 6] = ["key", "id", "document", "lang", "text", "title"];

/// A document, or a chunk of one.
///
/// ```
/// use trivec_search::Document;
///
/// let document = Document::new("greeting", "Good morning").with_lang("en").with_field("year", 2024);
/// assert!(document.validate().is_ok());
/// assert!(Document::new("", "no key").validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The unique key: 1 to [`MAX_KEY_BYTES`] bytes, without control characters. A second document with the same key replaces
    /// the first. An index refuses a document whose key a chunk of another document has, and a chunk whose key another document has.
    pub key: String,
    /// The text that is searched.
    pub text: String,
    /// A title, which is embedded and searched as a line before the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The language, such as `en` or `zh-CN`; `None`: it is detected from the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// For a chunk, the key of the document that it is a part of: deleting or replacing that document deletes all its chunks. `None` for a
    /// whole document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Values that filters can compare: numbers, strings, booleans, lists of them, objects.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Document {
    /// A document without title, language and metadata.
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> Document {
        let (key, text) = (key.into(), text.into());
        Document { key, text, title: None, lang: None, document: None, metadata: Map::new() }
    }

    /// Sets the document's title.
    pub fn with_title(mut self, title: impl Into<String>) -> Document {
        self.title = Some(title.into());
        self
    }

    /// Sets the language of the document's text.
    pub fn with_lang(mut self, lang: impl Into<String>) -> Document {
        self.lang = Some(lang.into());
        self
    }

    /// Adds a value to the document's metadata.
    pub fn with_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Document {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// The key of the whole document: for a chunk, that of the document it is a part of, else the own key.
    pub fn group(&self) -> &str {
        self.document.as_deref().unwrap_or(&self.key)
    }

    /// The text that is embedded and searched: a line with the title, if there is one, then the text.
    pub fn searched_text(&self) -> String {
        match &self.title {
            Some(title) if !title.is_empty() => format!("{title}\n{}", self.text),
            _ => self.text.clone(),
        }
    }

    /// The first 64 bits of a SHA-256 of everything that the index stores of the document: two documents with the same hash are held to be
    /// equal.
    pub fn content_hash(&self) -> u64 {
        let mut hash = Sha256::new();
        let metadata = Value::Object(self.metadata.clone()).to_string();
        let parts = [
            Some(self.key.as_str()),
            Some(self.text.as_str()),
            self.title.as_deref(),
            self.lang.as_deref(),
            self.document.as_deref(),
            Some(metadata.as_str()),
        ];
        for part in parts {
            // Each part is preceded by its length, so that different lists of parts never have the same bytes.
            hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hash.update(part.unwrap_or_default());
        }
        let digest: [u8; 32] = hash.finalize().into();
        u64::from_le_bytes(digest.first_chunk().copied().unwrap_or_default())
    }

    /// Checks whether the index accepts the document.
    ///
    /// # Errors
    /// [`Error::Document`] says what is wrong and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::document(&self.key, what));
        for (name, key) in [("key", Some(self.key.as_str())), ("document", self.document.as_deref())] {
            let Some(key) = key else { continue };
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                return wrong(format!(
                    "a {name} of {} bytes, expected 1 to {}",
                    grouped(key.len()),
                    grouped(MAX_KEY_BYTES)
                ));
            }
            if key.chars().any(char::is_control) {
                return wrong(format!("the {name} has a control character in it"));
            }
        }
        if is_blank(&self.text) && self.title.as_deref().is_none_or(is_blank) {
            return wrong("it has no text".to_owned());
        }
        if self.text.len() > MAX_TEXT_BYTES {
            return wrong(format!(
                "a text of {} bytes, expected at most {}",
                grouped(self.text.len()),
                grouped(MAX_TEXT_BYTES)
            ));
        }
        let title = self.title.as_deref().unwrap_or_default();
        if title.len() > MAX_TITLE_BYTES {
            return wrong(format!(
                "a title of {} bytes, expected at most {}",
                grouped(title.len()),
                grouped(MAX_TITLE_BYTES)
            ));
        }
        if let Some(lang) = &self.lang {
            let fits = (2..=32).contains(&lang.len())
                && lang.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !fits {
                return wrong(format!("the language `{}`, expected a code as `en` or `zh-CN`", lang.escape_debug()));
            }
        }
        if let Some(name) = self.metadata.keys().find(|name| RESERVED_NAMES.contains(&name.as_str())) {
            return wrong(format!("its metadata has the name `{name}`, which is the document's own"));
        }
        let mut values = 0;
        for (name, value) in &self.metadata {
            if let Some(what) = unfit(name, value, 1, &mut values) {
                return wrong(what);
            }
        }
        let bytes = Value::Object(self.metadata.clone()).to_string().len();
        if bytes > MAX_METADATA_BYTES {
            return wrong(format!(
                "metadata of {} bytes, expected at most {}",
                grouped(bytes),
                grouped(MAX_METADATA_BYTES)
            ));
        }
        Ok(())
    }
}

/// A document as a segment stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub docno: u64,
    pub document: Document,
    /// The code of the language by whose rules its words were stemmed.
    pub analyzed: String,
}

impl Stored {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::document(&self.document.key, e.to_string()))
    }

    /// Parses a stored document, which must have the number `docno`.
    ///
    /// # Errors
    /// [`Error::Damaged`], which names `path`, if `bytes` are no document or one with another number.
    pub fn read(bytes: &[u8], docno: u64, path: &Path) -> Result<Stored> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|e| Error::damaged(path, e.to_string()))?;
        match stored.docno == docno {
            true => Ok(stored),
            false => Err(Error::damaged(path, format!("document {docno} is stored as {}", stored.docno))),
        }
    }
}

/// Describes what is wrong with a value of the metadata, if anything is. `values` counts the values that were looked at so far.
fn unfit(name: &str, value: &Value, depth: usize, values: &mut usize) -> Option<String> {
    *values += 1;
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return Some(
            "a name in its metadata is empty, longer than 256 bytes or has a control character in it".to_owned(),
        );
    }
    if depth > MAX_METADATA_DEPTH || *values > MAX_METADATA_VALUES {
        return Some(format!(
            "its metadata is too large: expected at most {} values, nested at most {MAX_METADATA_DEPTH} deep",
            grouped(MAX_METADATA_VALUES)
        ));
    }
    match value {
        Value::String(text) if text.len() > MAX_METADATA_STRING => Some(format!(
            "`{name}` has {} bytes, expected at most {}",
            grouped(text.len()),
            grouped(MAX_METADATA_STRING)
        )),
        Value::Array(list) => list.iter().find_map(|value| unfit(name, value, depth + 1, values)),
        Value::Object(map) => map.iter().find_map(|(name, value)| unfit(name, value, depth + 1, values)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_documents_are_refused_with_a_reason() {
        let deep = (0..20).fold(Value::from(1), |value, _| serde_json::json!([value]));
        let bad = [
            (Document::new("", "text"), "0 bytes"),
            (Document::new("k".repeat(MAX_KEY_BYTES + 1), "text"), "4,097 bytes, expected 1 to 4,096"),
            (Document::new("a\0b", "text"), "control character"),
            (Document::new("a", " \n\t "), "no text"),
            (Document::new("a", "\u{0}\u{200b}\u{feff}").with_title("\u{2060}"), "no text"),
            (Document::new("a", "t").with_lang("de utsch"), "expected a code"),
            (Document::new("a", "t").with_field("lang", "en"), "document's own"),
            (
                Document::new("a", "t").with_field("x", "y".repeat(MAX_METADATA_STRING + 1)),
                "16,385 bytes, expected at most 16,384",
            ),
            (Document::new("a", "t").with_field("x", deep), "too large"),
            (Document::new("a", "t").with_field("", 1), "is empty"),
        ];
        for (document, expected) in bad {
            let error = document.validate().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}: {expected}");
        }
        let good =
            Document::new("a", "t").with_title("x").with_lang("zh-CN").with_field("n", u64::MAX).with_field("s", "ä");
        good.validate().unwrap();
    }

    #[test]
    fn the_hash_tells_every_field_apart() {
        let base = Document::new("a", "bc");
        let others = [
            Document::new("ab", "c"),
            base.clone().with_title(""),
            base.clone().with_lang("en"),
            base.clone().with_field("x", 1),
            Document { document: Some("d".to_owned()), ..base.clone() },
        ];
        assert_eq!(base.content_hash(), base.clone().content_hash());
        for other in others {
            assert_ne!(base.content_hash(), other.content_hash(), "{other:?}");
        }
    }
}
