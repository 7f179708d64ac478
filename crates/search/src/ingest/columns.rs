//! Which columns of an input are what, and the limits of its records.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest line of an input, or record of a CSV file, in bytes.
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// Most columns of a CSV file.
pub const MAX_COLUMNS: usize = 10_000;

/// How an input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated values with a line of names first.
    Csv,
    /// The same with tabs.
    Tsv,
    /// Parquet, if this program was built with it.
    Parquet,
    /// A file is a document, its path the key.
    Text,
}

impl Format {
    /// The format of a file by its name's ending; what is not known is text.
    pub fn of_path(path: &std::path::Path) -> Format {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("jsonl" | "ndjson" | "json") => Format::Jsonl,
            Some("csv") => Format::Csv,
            Some("tsv") => Format::Tsv,
            Some("parquet") => Format::Parquet,
            _ => Format::Text,
        }
    }
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Format> {
        Ok(match name {
            "jsonl" => Format::Jsonl,
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "parquet" => Format::Parquet,
            "txt" | "text" => Format::Text,
            _ => {
                let parquet = if cfg!(feature = "parquet") { "parquet, " } else { "" };
                let what = format!("found `{}`, expected one of jsonl, csv, tsv, {parquet}txt", name.escape_debug());
                return Err(Error::option("format", what));
            }
        })
    }
}

/// The names of an input's columns. In JSON, dots in a name go into objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The key.
    pub key: String,
    /// The text.
    pub text: String,
    /// The title, which a document need not have.
    pub title: String,
    /// The language, which a document need not have.
    pub lang: String,
    /// What becomes metadata; `None`: every other column.
    pub fields: Option<Vec<String>>,
}

impl Default for Columns {
    fn default() -> Self {
        let [key, text, title, lang] = ["id", "text", "title", "lang"].map(str::to_owned);
        Columns { key, text, title, lang, fields: None }
    }
}
