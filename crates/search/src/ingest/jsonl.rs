//! Reads JSON: one object per line, objects in a list, or objects over several lines.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use trivec::records::{Problem, Record, Records};

use super::columns::{Columns, MAX_RECORD_BYTES, MOST_LISTED, listed};
use crate::document::{Document, RESERVED_NAMES};
use crate::error::{Error, Result};

/// Reads the documents of a file. For one that cannot be used the iterator gives an error with its line, and goes on with the next one.
/// Blank lines are skipped. If `columns` names a field other than key and text that no document has, the last item is [`Error::Columns`].
pub fn read<R: Read>(input: R, path: &Path, columns: &Columns) -> impl Iterator<Item = Result<Document>> + use<R> {
    Documents::new(input, path, columns, Absent::new(columns))
}

/// As [`read`], but without a check of the named fields: [`look_for`] has found them in the file or in another one of its directory.
pub(super) fn read_checked<R: Read>(
    input: R,
    path: &Path,
    columns: &Columns,
) -> impl Iterator<Item = Result<Document>> + use<R> {
    Documents::new(input, path, columns, Absent::default())
}

/// Checks that every field that `columns` names, other than key and text, is in some document of the files. Reads only until all were
/// found, which mostly takes one document.
///
/// # Errors
/// [`Error::Columns`] names a field that no document has, and `path`, the input to which the files belong.
pub(super) fn look_for<'f>(path: &Path, files: impl Iterator<Item = &'f Path>, columns: &Columns) -> Result<()> {
    let mut absent = Absent::new(columns);
    for file in files {
        if absent.names.is_empty() {
            break;
        }
        // A file that cannot be opened, and a record that is no document, are reported when the file is read.
        let Ok(input) = File::open(file) else { continue };
        for record in Records::new(BufReader::new(input), MAX_RECORD_BYTES) {
            match record {
                Ok(record) => {
                    if let Ok(Value::Object(object)) = trivec::json::read(&record.text) {
                        absent.look(&object);
                    }
                }
                Err(Problem::Io(_)) => break,
                Err(Problem::Record { .. }) => {}
            }
            if absent.names.is_empty() {
                break;
            }
        }
    }
    absent.error(path).map_or(Ok(()), Err)
}

/// Which of the named fields no object has had so far.
#[derive(Debug, Default)]
struct Absent {
    /// The named fields that were not found yet.
    names: Vec<String>,
    /// Fields that objects have, for the error: not all, but one more than it lists.
    there: BTreeSet<String>,
    /// Whether there was an object.
    any: bool,
}

impl Absent {
    fn new(columns: &Columns) -> Absent {
        Absent { names: columns.given().map(str::to_owned).collect(), ..Absent::default() }
    }

    /// Notes which fields an object has.
    fn look(&mut self, object: &Map<String, Value>) {
        if self.names.is_empty() {
            return;
        }
        self.any = true;
        self.names.retain(|name| !has(object, name));
        for name in object.keys() {
            // One more than an error lists, so that it can say that there are more.
            if self.there.len() <= MOST_LISTED && !self.there.contains(name) {
                self.there.insert(name.clone());
            }
        }
    }

    /// The error at the end of the input, if a field was not found; none for an input without objects.
    fn error(&self, path: &Path) -> Option<Error> {
        let name = self.names.first().filter(|_| self.any)?;
        let what = format!("no document has the field `{}`, only {}", name.escape_debug(), listed(&self.there));
        Some(Error::Columns { path: path.to_path_buf(), what })
    }
}

struct Documents<R> {
    records: Records<BufReader<R>>,
    path: PathBuf,
    columns: Columns,
    absent: Absent,
    ended: bool,
}

impl<R: Read> Documents<R> {
    fn new(input: R, path: &Path, columns: &Columns, absent: Absent) -> Documents<R> {
        let records = Records::new(BufReader::new(input), MAX_RECORD_BYTES);
        Documents { records, path: path.to_path_buf(), columns: columns.clone(), absent, ended: false }
    }

    /// Makes a document of a record, and notes which of the named fields it has.
    fn document(&mut self, record: &Record) -> Result<Document> {
        let wrong = |what: String| Error::Line { path: self.path.clone(), line: record.line, what };
        let value: Value =
            trivec::json::read(&record.text).map_err(|e| wrong(trivec::json::fault_in_line(&record.text, &e)))?;
        let Value::Object(object) = value else { return Err(wrong("it is no JSON object".to_owned())) };
        self.absent.look(&object);
        let document = document_of(object, &self.columns).map_err(&wrong)?;
        document.validate().map_err(|e| wrong(e.to_string()))?;
        Ok(document)
    }
}

impl<R: Read> Iterator for Documents<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        if self.ended {
            return None;
        }
        match self.records.next() {
            Some(Ok(record)) => Some(self.document(&record)),
            Some(Err(problem)) => Some(Err(error_of(problem, &self.path))),
            None => {
                self.ended = true;
                self.absent.error(&self.path).map(Err)
            }
        }
    }
}

/// The error of a record that cannot be read.
pub(crate) fn error_of(problem: Problem, path: &Path) -> Error {
    match problem {
        Problem::Io(source) => Error::io(path, source),
        Problem::Record { line, what } => Error::Line { path: path.to_path_buf(), line, what },
    }
}

/// The fields of a document in the form of JSON that has a `key`.
const FIELDS: [&str; 6] = ["key", "text", "title", "lang", "document", "metadata"];

/// Makes a document of JSON in one of two forms: an object with `key`, `text` and the other fields of a [`Document`], as documents are
/// returned; or an object with `id` and `text`, perhaps `title` and `lang`, whose other fields are metadata, as in an input file.
///
/// # Errors
/// A text that says what is wrong with it, and what is allowed.
pub fn from_json(value: Value) -> std::result::Result<Document, String> {
    let Value::Object(object) = value else { return Err("it is no JSON object".to_owned()) };
    let document = match (object.contains_key("key"), object.contains_key("id")) {
        (true, true) => return Err("it has both `key` and `id`, expected one of them".to_owned()),
        (false, _) => document_of(object, &Columns::default())?,
        (true, false) => {
            if let Some(name) = object.keys().find(|name| !FIELDS.contains(&name.as_str())) {
                return Err(format!(
                    "it has a field `{}`, expected {} (with `id` in the place of `key`, other fields are metadata)",
                    name.escape_debug(),
                    FIELDS.join(", ")
                ));
            }
            of_fields(object)?
        }
    };
    document.validate().map_err(|e| match e {
        Error::Document { what, .. } => what,
        other => other.to_string(),
    })?;
    Ok(document)
}

/// Makes a document of an object with the fields of a [`Document`].
fn of_fields(mut object: Map<String, Value>) -> Result<Document, String> {
    let mut text = |name: &str| match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is no string")),
    };
    let key = text("key")?.ok_or("`key` is no string")?;
    let body = text("text")?.ok_or("it has no `text`")?;
    let (title, lang, document) = (text("title")?, text("lang")?, text("document")?);
    let metadata = match object.remove("metadata") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(metadata)) => metadata,
        Some(_) => return Err("`metadata` is no object".to_owned()),
    };
    Ok(Document { key, text: body, title, lang, document, metadata })
}

/// Makes a document of an object whose fields `columns` names. The document is not checked yet.
pub(super) fn document_of(mut object: Map<String, Value>, columns: &Columns) -> Result<Document, String> {
    let key = match take(&mut object, &columns.key) {
        Some(Value::String(key)) => key,
        Some(Value::Number(number)) if is_exact(&number) => number.to_string(),
        Some(Value::Number(_)) => {
            return Err(format!(
                "`{}`, its key, is a number with more digits than are kept: write it as a string",
                columns.key
            ));
        }
        Some(_) => return Err(format!("`{}`, its key, is neither a string nor a number", columns.key)),
        None => {
            return Err(format!("it has no `{}`, which is to be its key, only {}", columns.key, listed(object.keys())));
        }
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
    let (title, lang) = (optional(columns.title())?, optional(columns.lang())?);
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

/// Whether [`take`] would find a value.
pub(super) fn has(object: &Map<String, Value>, name: &str) -> bool {
    object.contains_key(name)
        || name.split_once('.').is_some_and(|(first, rest)| {
            object.get(first).and_then(Value::as_object).is_some_and(|inner| has(inner, rest))
        })
}

/// Whether a number is certain to be the one that was written. An integer of more than 64 bits is read as a float, which has only its first
/// digits, so that two different ones may become equal.
pub(crate) fn is_exact(number: &serde_json::Number) -> bool {
    const EVERY_INTEGER: f64 = 9_007_199_254_740_992.0; // 2^53
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|x| x.abs() < EVERY_INTEGER)
}

/// Removes a value from an object and returns it: the value of the whole name if there is one, else the nested value whose path is the
/// parts of the name between dots.
fn take(object: &mut Map<String, Value>, name: &str) -> Option<Value> {
    if let Some(value) = object.remove(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    take(object.get_mut(first)?.as_object_mut()?, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_in_two_forms_of_json() {
        let read = |text: &str| from_json(serde_json::from_str(text).unwrap());
        let given = Document::new("a", "b").with_title("t").with_lang("en").with_field("year", 2024);
        assert_eq!(read(&serde_json::to_string(&given).unwrap()).unwrap(), given, "as it is given back");
        let line = r#"{"id": "a", "text": "b", "title": "t", "lang": "en", "year": 2024}"#;
        assert_eq!(read(line).unwrap(), given);
        assert_eq!(read(r#"{"id": 7, "text": "b"}"#).unwrap().key, "7");
        assert_eq!(read(r#"{"id": 18446744073709551615, "text": "b"}"#).unwrap().key, "18446744073709551615");
        for (bad, expected) in [
            ("5", "no JSON object"),
            ("{}", "no `id`"),
            (r#"{"id": "a"}"#, "no `text`"),
            (r#"{"id": 12345678901234567890123, "text": "b"}"#, "more digits than are kept"),
            (r#"{"key": "a"}"#, "no `text`"),
            (r#"{"key": 5, "text": "b"}"#, "`key` is no string"),
            (r#"{"key": null, "text": "b"}"#, "`key` is no string"),
            (r#"{"key": "a", "text": "b", "title": []}"#, "`title` is no string"),
            (r#"{"key": "a", "text": "b", "document": 1}"#, "`document` is no string"),
            (r#"{"key": "a", "text": "b", "metadata": [1]}"#, "`metadata` is no object"),
            (r#"{"key": "a", "id": "b", "text": "c"}"#, "both"),
            (r#"{"key": "a", "text": "b", "year": 5}"#, "a field `year`"),
            (r#"{"key": "a", "text": 5}"#, "`text` is no string"),
            (r#"{"key": "", "text": "b"}"#, "0 bytes"),
            (r#"{"id": "a", "text": " "}"#, "no text"),
            (r#"{"key": "a", "text": "b", "metadata": {"lang": 1}}"#, "document's own"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
