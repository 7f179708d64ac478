//! Recognises an input's format by its file name, or by an unambiguous beginning.

use std::io::BufRead;

use serde_json::value::RawValue;

use super::source::Source;
use super::types::{Form, Reading};
use crate::args::InputFormat;
use crate::exit::Result;

/// How many bytes are searched for the end of the first line that is not blank.
const LOOKED_AT: usize = 1 << 16;

/// Finds the form of an input of records (texts to embed, documents to sort): the one that the options ask for, else by the file's name and
/// first line.
pub(super) fn of_records<R: BufRead>(source: &mut Source<R>, reading: Reading<'_>) -> Result<Form> {
    if let Some(form) = asked(reading.format) {
        return Ok(form);
    }
    Ok(match (extension(reading).as_deref(), beginning(source)?) {
        // A file whose name says JSONL may hold a list all the same, or objects over several lines.
        (Some("jsonl" | "ndjson" | "jsonlines"), Beginning::Open | Beginning::List { .. }) => Form::Json,
        (Some("jsonl" | "ndjson" | "jsonlines"), _) => Form::Jsonl,
        (Some("json"), _) => Form::Json,
        (Some("csv"), _) => Form::Csv,
        (Some("tsv" | "tab"), _) => Form::Tsv,
        (_, Beginning::Object { alone: true }) => Form::Jsonl,
        (_, Beginning::Object { alone: false } | Beginning::List { .. } | Beginning::Open) => Form::Json,
        (_, Beginning::Header { tab: false }) => Form::Csv,
        (_, Beginning::Header { tab: true }) => Form::Tsv,
        (_, Beginning::Other) => Form::Lines,
    })
}

/// Finds the form of an input of pairs, where [`Form::Lines`] has a pair a line: JSON, or two texts with a tab between them.
/// A first line that has the names of the `columns` is the header of a table with tabs. Without `columns`, so is one that has the names `a`
/// and `b`, in a file whose name ends in `.tsv` or `.tab`.
pub(super) fn of_pairs<R: BufRead>(
    source: &mut Source<R>,
    reading: Reading<'_>,
    columns: Option<[&str; 2]>,
) -> Result<Form> {
    if let Some(form) = asked(reading.format) {
        return Ok(form);
    }
    let line = first_line(source)?;
    let names: Vec<&str> = line.split('\t').map(|name| name.trim().trim_matches('"')).collect();
    let is_named =
        |columns: [&str; 2]| columns.iter().all(|column| names.iter().any(|n| n.eq_ignore_ascii_case(column)));
    Ok(match (extension(reading).as_deref(), of_line(&line)) {
        (Some("csv"), _) => Form::Csv,
        _ if columns.is_some_and(is_named) => Form::Tsv,
        (Some("tsv" | "tab"), _) if columns.is_none() && is_named(["a", "b"]) => Form::Tsv,
        // A list of two texts is a pair, a line of JSONL; any other list holds pairs.
        (_, Beginning::List { of_texts: false }) => Form::Json,
        (_, Beginning::Open | Beginning::Object { alone: false }) => Form::Json,
        _ => Form::Lines,
    })
}

/// The form that the options ask for; `None` for `auto`.
fn asked(format: InputFormat) -> Option<Form> {
    Some(match format {
        InputFormat::Auto => return None,
        InputFormat::Lines => Form::Lines,
        InputFormat::Jsonl => Form::Jsonl,
        InputFormat::Json => Form::Json,
        InputFormat::Csv => Form::Csv,
        InputFormat::Tsv => Form::Tsv,
    })
}

fn extension(reading: Reading<'_>) -> Option<String> {
    Some(reading.path?.extension()?.to_str()?.to_ascii_lowercase())
}

/// How the first line that is not blank begins.
#[derive(Debug, PartialEq)]
pub(super) enum Beginning {
    /// An object that ends in the line: alone in it, or with another object after it.
    Object {
        alone: bool,
    },
    /// A list that ends in the line and is alone in it. Its first element is a text, or it is an object or a list, or there is none.
    List {
        of_texts: bool,
    },
    /// A list or object that does not end in the line.
    Open,
    /// The header of a table of texts, with tabs, commas or semicolons between the names.
    Header {
        tab: bool,
    },
    Other,
}

fn beginning<R: BufRead>(source: &mut Source<R>) -> Result<Beginning> {
    Ok(of_line(&first_line(source)?))
}

/// The first line that is not blank, or as much of it as is looked at.
fn first_line<R: BufRead>(source: &mut Source<R>) -> Result<String> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace();
    let line_of = |bytes: &[u8]| {
        let begin = bytes.iter().position(|byte| !is_blank(byte))?;
        let length = bytes[begin..].iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
        Some(begin..begin + length)
    };
    let looked = source.look(|bytes| bytes.len() >= LOOKED_AT || line_of(bytes).is_some())?;
    let line = line_of(looked).map_or(looked, |range| &looked[range]);
    Ok(String::from_utf8_lossy(line).into_owned())
}

/// Tells how a first line begins.
pub(super) fn of_line(line: &str) -> Beginning {
    let line = line.trim();
    if !line.starts_with(['{', '[']) {
        return header(line);
    }
    let mut values = serde_json::Deserializer::from_str(line).into_iter::<&RawValue>();
    let first = match values.next() {
        Some(Ok(first)) => first.get(),
        Some(Err(error)) if error.is_eof() && !line.contains('\t') => return Beginning::Open,
        _ => return Beginning::Other,
    };
    let rest = line[values.byte_offset()..].trim();
    match (first.starts_with('{'), rest.is_empty()) {
        (true, true) => Beginning::Object { alone: true },
        (true, false) if rest.starts_with('{') => Beginning::Object { alone: false },
        (false, true) => match first[1..].trim_start().bytes().next() {
            Some(b'"') => Beginning::List { of_texts: true },
            Some(b'{' | b'[' | b']') => Beginning::List { of_texts: false },
            _ => Beginning::Other,
        },
        _ => Beginning::Other,
    }
}

/// Names of columns that tables have beside a column `text`.
const BESIDE_TEXT: [&str; 16] = [
    "id", "_id", "doc_id", "docid", "uuid", "index", "label", "title", "url", "lang", "language", "category", "source",
    "score", "date", "author",
];

/// A first line is a header if all its fields look like names of columns, one of them is `text`, and another is in [`BESIDE_TEXT`].
fn header(line: &str) -> Beginning {
    let Some(separator) = [',', '\t', ';'].into_iter().find(|separator| line.contains(*separator)) else {
        return Beginning::Other;
    };
    let bare = |name| str::strip_prefix(name, '"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    let names: Vec<&str> = line.split(separator).map(bare).collect();
    let known = |name: &&str| *name == "text" || BESIDE_TEXT.contains(name);
    if names.contains(&"text")
        && names.iter().filter(|name| known(name)).count() > 1
        && names.iter().all(|name| is_name(name))
    {
        return Beginning::Header { tab: separator == '\t' };
    }
    Beginning::Other
}

/// Whether a text is a name as programs write them: lower-case letters, digits and `_`.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') && !text.is_empty()
}
