//! Recognises an input's format by its file name, or by an unambiguous beginning.

use std::io::BufRead;

use serde_json::value::RawValue;

use super::source::Source;
use super::types::{Form, Reading};
use crate::args::InputFormat;
use crate::exit::Result;

/// Bytes that are looked at for the first line that is not blank.
const LOOKED_AT: usize = 1 << 16;

/// The form of records (texts to embed, documents to sort).
pub(super) fn of_records<R: BufRead>(source: &mut Source<R>, reading: Reading<'_>) -> Result<Form> {
    if let Some(form) = asked(reading.format) {
        return Ok(form);
    }
    Ok(match (extension(reading).as_deref(), beginning(source)?) {
        // A list, and objects over several lines, are found in files of both names.
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

/// The form of pairs. Those of a file of lines may be JSON each, or two texts with a tab between them.
/// A first line with the names of the `columns` that are asked for is a header; in a file whose name ends in `.tsv` or `.tab`, so is one with
/// the names `a` and `b`.
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
    /// An object that ends in the line: alone, or with another after it.
    Object {
        alone: bool,
    },
    /// A list of texts, objects or lists, or of nothing, alone in the line.
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

/// What a first line is.
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

/// Names of columns that stand beside a column `text`. A first line of such names alone is a header, and no text.
const BESIDE_TEXT: [&str; 16] = [
    "id", "_id", "doc_id", "docid", "uuid", "index", "label", "title", "url", "lang", "language", "category", "source",
    "score", "date", "author",
];

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

/// Whether it is a name as programs write them: small letters, digits, `_`.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') && !text.is_empty()
}
