//! What an input is made of, and how it is read.

use std::path::Path;

use serde_json::value::RawValue;

use crate::args::InputFormat;

/// What a record asks to embed.
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
    /// Line of the input, from 1; 0 for a text of the command line.
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

/// How a command's options say that its input is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub format: InputFormat,
    /// The file's name, which may tell its form.
    pub path: Option<&'a Path>,
    /// Whether invalid text is replaced; `None`: the command does not have these options.
    pub lossy: Option<bool>,
    /// The field or column that holds the text.
    pub column: Option<&'a str>,
}

impl<'a> Reading<'a> {
    /// For a command that has no options for it.
    pub(crate) fn of(path: &'a Path) -> Reading<'a> {
        Reading { format: InputFormat::Auto, path: Some(path), lossy: None, column: None }
    }
}
