//! What an input is made of, and how it is read.

use std::path::Path;

use serde_json::value::RawValue;

use crate::args::InputFormat;

/// What a record gives to embed: a text, or token ids.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Text(String),
    Ids(Vec<u32>),
}

/// One record of the input.
#[derive(Debug)]
pub(crate) struct Record {
    /// The record's `id`, as the input wrote it.
    pub id: Option<Box<RawValue>>,
    pub content: Content,
    /// The line of the input where the record begins; for a text of the command line, its number. Both count from 1.
    pub line: u64,
}

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Jsonl,
    Json,
    Csv,
    Tsv,
}

/// How an input is read, as the options of a command say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub format: InputFormat,
    /// The file's name, which may tell its form.
    pub path: Option<&'a Path>,
    /// Whether invalid text is replaced. `None` if the command has no options for its input: nothing is replaced, and errors name no option.
    pub lossy: Option<bool>,
    /// The field or column that holds the text.
    pub column: Option<&'a str>,
}

impl<'a> Reading<'a> {
    /// How the file at `path` is read by a command that has no options for its input (`--input-format`, `--lossy`, `--column`).
    pub(crate) fn of(path: &'a Path) -> Reading<'a> {
        Reading { format: InputFormat::Auto, path: Some(path), lossy: None, column: None }
    }
}
