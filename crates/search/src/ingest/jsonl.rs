//! JSON Lines: an object a line.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Columns, MAX_RECORD_BYTES};
use crate::document::{Document, RESERVED_NAMES};
use crate::error::{Error, Result};

/// The documents of a file: a bad line is an error with its number, and the next one follows. White lines are passed over.
pub fn read<R: Read>(input: R, path: &Path, columns: &Columns) -> impl Iterator<Item = Result<Document>> + use<R> {
    Lines { input: BufReader::new(input), path: path.to_path_buf(), columns: columns.clone(), line: 0, ended: false }
}

struct Lines<R> {
    input: BufReader<R>,
    path: PathBuf,
    columns: Columns,
    line: u64,
    ended: bool,
}

impl<R: Read> Lines<R> {
    /// The next line, without its end; `None` behind the last.
    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let fail = |e: io::Error| Error::io(&self.path, e);
        (&mut self.input).take(MAX_RECORD_BYTES as u64 + 1).read_until(b'\n', &mut line).map_err(fail)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if line.len() > MAX_RECORD_BYTES {
            // What is left of it.
            while line.last() != Some(&b'\n') {
                line.clear();
                (&mut self.input).take(1 << 16).read_until(b'\n', &mut line).map_err(fail)?;
                if line.is_empty() {
                    break;
                }
            }
            return Err(self.wrong(format!("it is longer than {MAX_RECORD_BYTES} bytes")));
        }
        if self.line == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        Ok(Some(line))
    }

    fn wrong(&self, what: String) -> Error {
        Error::Line { path: self.path.clone(), line: self.line, what }
    }

    fn document(&self, line: &[u8]) -> Result<Document> {
        let value: Value = serde_json::from_slice(line).map_err(|e| self.wrong(e.to_string()))?;
        let Value::Object(object) = value else { return Err(self.wrong("it is no JSON object".to_owned())) };
        let document = document_of(object, &self.columns).map_err(|what| self.wrong(what))?;
        document.validate().map_err(|e| self.wrong(e.to_string()))?;
        Ok(document)
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        while !self.ended {
            match self.line() {
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => return Some(self.document(&line)),
                Ok(None) => self.ended = true,
                Err(e) => {
                    self.ended = matches!(e, Error::Io { .. });
                    return Some(Err(e));
                }
            }
        }
        None
    }
}

/// Makes a document of an object.
pub(super) fn document_of(mut object: Map<String, Value>, columns: &Columns) -> Result<Document, String> {
    let key = match take(&mut object, &columns.key) {
        Some(Value::String(key)) => key,
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(format!("`{}`, its key, is neither a string nor a number", columns.key)),
        None => return Err(format!("it has no `{}`, which is to be its key", columns.key)),
    };
    let text = match take(&mut object, &columns.text) {
        Some(Value::String(text)) => text,
        Some(_) => return Err(format!("`{}`, its text, is no string", columns.text)),
        None => return Err(format!("it has no `{}`, which is to be its text", columns.text)),
    };
    let mut optional = |column: &str| match take(&mut object, column) {
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Value::Null) | None => Ok(None),
        Some(_) => Err(format!("`{column}` is no string")),
    };
    let (title, lang) = (optional(&columns.title)?, optional(&columns.lang)?);
    let metadata = match &columns.fields {
        None => object
            .into_iter()
            .filter(|(name, value)| !RESERVED_NAMES.contains(&name.as_str()) && !value.is_null())
            .collect(),
        Some(fields) => fields
            .iter()
            .filter_map(|field| take(&mut object, field).filter(|v| !v.is_null()).map(|v| (field.clone(), v)))
            .collect(),
    };
    Ok(Document { key, text, title, lang, document: None, metadata })
}

/// Takes a value out: by its name as it stands, or by parts between dots.
fn take(object: &mut Map<String, Value>, name: &str) -> Option<Value> {
    if let Some(value) = object.remove(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    take(object.get_mut(first)?.as_object_mut()?, rest)
}
