//! Which columns of an input have the key, the text and the other fields of documents, in which format it is, and the limits of its
//! records.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest line of an input, or longest record of a CSV file, in bytes.
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// The largest number of names that an error lists.
pub(super) const MOST_LISTED: usize = 12;
/// The largest number of characters of a name that an error shows.
const MOST_CHARS: usize = 40;

/// The largest number of columns of a CSV file.
pub const MAX_COLUMNS: usize = 10_000;

/// The format in which an input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON: one object per line, objects in a list, or objects over several lines.
    Jsonl,
    /// Comma-separated values with a line of names first.
    Csv,
    /// Values separated by tabs, with a line of names first.
    Tsv,
    /// Parquet, if this program was built with it.
    Parquet,
    /// Text: each file is a document, and its path is the key.
    Text,
}

impl Format {
    /// The format of a file by the ending of its name; text if the ending is not known.
    pub fn of_path(path: &Path) -> Format {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("jsonl" | "ndjson" | "jsonlines" | "json") => Format::Jsonl,
            Some("csv") => Format::Csv,
            Some("tsv" | "tab") => Format::Tsv,
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

/// The names of the columns, or of the fields in JSON, that make a document. In JSON and Parquet, a dot in a name may lead into a nested
/// object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The key.
    pub key: String,
    /// The text.
    pub text: String,
    /// The title, which a document need not have; `None`: `title`, if the input has it.
    pub title: Option<String>,
    /// The language, which a document need not have; `None`: `lang`, if the input has it.
    pub lang: Option<String>,
    /// The columns that become metadata; `None`: every column that is not named above.
    pub fields: Option<Vec<String>>,
}

impl Default for Columns {
    fn default() -> Self {
        Columns { key: "id".to_owned(), text: "text".to_owned(), title: None, lang: None, fields: None }
    }
}

impl Columns {
    pub(super) fn title(&self) -> &str {
        self.title.as_deref().unwrap_or("title")
    }

    pub(super) fn lang(&self) -> &str {
        self.lang.as_deref().unwrap_or("lang")
    }

    /// The names that the caller gave of columns that a document need not have. In an input as a whole each of them must occur.
    pub(super) fn given(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().flatten().map(String::as_str);
        self.title.as_deref().into_iter().chain(self.lang.as_deref()).chain(fields)
    }

    /// Refuses an input that declares its columns `names` if it lacks the key, the text or another column that the caller named.
    pub(super) fn check(&self, path: &Path, has: impl Fn(&str) -> bool, names: &[String]) -> Result<()> {
        let needed = [self.key.as_str(), self.text.as_str()].into_iter().chain(self.given());
        match needed.into_iter().find(|name| !has(name)) {
            None => Ok(()),
            Some(name) => {
                let what = format!("there is no column `{}`, only {}", name.escape_debug(), listed(names));
                Err(Error::Columns { path: path.to_path_buf(), what })
            }
        }
    }
}

/// A list of names for an error: the first names, and the beginning of each.
pub(super) fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let mut names = names.into_iter();
    let quoted = names.by_ref().take(MOST_LISTED).map(|name| {
        let name = name.as_ref();
        let short: String = name.chars().take(MOST_CHARS).collect();
        let more = if short.len() < name.len() { "…" } else { "" };
        format!("`{}{more}`", short.escape_debug())
    });
    let list = quoted.collect::<Vec<_>>().join(", ");
    match (list.is_empty(), names.next().is_some()) {
        (true, _) => "none".to_owned(),
        (false, true) => format!("{list}, …"),
        (false, false) => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_header_is_cut_in_a_message() {
        let columns = |count: usize, length: usize| (0..count).map(|n| format!("{n:0>length$}")).collect::<Vec<_>>();
        let said =
            |names: &[String]| Columns::default().check(Path::new("t.csv"), |_| false, names).unwrap_err().to_string();
        let long = said(&columns(200, 5_000));
        assert!(
            long.len() < 900 && long.ends_with(", …") && long.contains(&format!("`{}…`", "0".repeat(40))),
            "{long}"
        );
        let few = said(&columns(2, 3));
        assert!(few.ends_with("only `000`, `001`"), "{few}");
    }
}
