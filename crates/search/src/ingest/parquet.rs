//! Reads Parquet, in which each row is a document. Columns of simple types, lists, maps and structs become the same values in JSON;
//! decimals, dates and times become text.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::ConvertedType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::columns::Columns;
use super::jsonl::document_of;
use crate::document::Document;
use crate::error::{Error, Result, guarded};

/// Reads the documents of a file. For a row that cannot be used the iterator gives an error with the row's number, from 1 on, and goes on
/// with the next one; a row that cannot be decoded is the last.
///
/// # Errors
/// [`Error::Columns`] if the file lacks a column that is named; [`Error::Line`] if it is no Parquet file.
pub fn read(file: File, path: &Path, columns: &Columns) -> Result<impl Iterator<Item = Result<Document>> + use<>> {
    let wrong = |what: String| Error::Line { path: path.to_path_buf(), line: 0, what };
    let rows = guarded(path, || {
        let reader = SerializedFileReader::new(file).map_err(|e| wrong(e.to_string()))?;
        let schema = reader.metadata().file_metadata().schema();
        let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        columns.check(path, |name| has(schema, name), &names)?;
        Ok(reader.into_iter())
    });
    // Damage in a user's file is an input error, not damage of the index.
    let rows = rows.map_err(|e| if matches!(e, Error::Damaged { .. }) { wrong(e.to_string()) } else { e })?;
    Ok(Rows { rows: Some(rows), path: path.to_path_buf(), columns: columns.clone(), row: 0 })
}

/// Whether a group of columns has a column with this name, in which dots separate a group from the columns in it. Names inside a map are
/// held to exist, because they differ from row to row.
fn has(group: &Type, name: &str) -> bool {
    let named = |name: &str| group.get_fields().iter().find(|field| field.name() == name);
    if named(name).is_some() {
        return true;
    }
    let Some((first, rest)) = name.split_once('.') else { return false };
    match named(first) {
        Some(inner) if inner.is_primitive() => false,
        Some(inner) => match inner.get_basic_info().converted_type() {
            ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => true,
            ConvertedType::LIST => false,
            _ => has(inner, rest),
        },
        None => false,
    }
}

struct Rows {
    /// `None` after the last row, or after one that could not be decoded.
    rows: Option<RowIter<'static>>,
    path: PathBuf,
    columns: Columns,
    row: u64,
}

impl Rows {
    fn document(&self, row: &Row) -> Result<Document> {
        let wrong = |what: String| Error::Line { path: self.path.clone(), line: self.row, what };
        let document = object(row).and_then(|object| document_of(object, &self.columns)).map_err(wrong)?;
        document.validate().map_err(|e| wrong(e.to_string()))?;
        Ok(document)
    }
}

impl Iterator for Rows {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        let rows = self.rows.as_mut()?;
        self.row += 1;
        // The decoder panics on some inconsistent files. After a panic it is dropped.
        let next = catch_unwind(AssertUnwindSafe(|| rows.next())).unwrap_or_else(|_| {
            Some(Err(parquet::errors::ParquetError::General("the file contradicts itself".into())))
        });
        match next {
            Some(Ok(row)) => Some(self.document(&row)),
            Some(Err(e)) => {
                self.rows = None;
                Some(Err(Error::Line { path: self.path.clone(), line: self.row, what: e.to_string() }))
            }
            None => {
                self.rows = None;
                None
            }
        }
    }
}

/// A row as a JSON object, or why it cannot be one.
fn object(row: &Row) -> Result<Map<String, Value>, String> {
    row.get_column_iter()
        .map(|(name, field)| Ok((name.clone(), value(field).map_err(|what| format!("`{name}`: {what}"))?)))
        .collect()
}

/// A value of Parquet as JSON, or why it cannot be JSON.
fn value(field: &Field) -> Result<Value, String> {
    let float = |x: f64| Number::from_f64(x).map(Value::Number).ok_or_else(|| format!("found {x}, expected a number"));
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(x) => (*x).into(),
        Field::Byte(x) => (*x).into(),
        Field::Short(x) => (*x).into(),
        Field::Int(x) => (*x).into(),
        Field::Long(x) => (*x).into(),
        Field::UByte(x) => (*x).into(),
        Field::UShort(x) => (*x).into(),
        Field::UInt(x) => (*x).into(),
        Field::ULong(x) => (*x).into(),
        Field::Float16(x) => float(x.to_f64())?,
        // The f64 with the same short decimal form: 0.1 stays 0.1.
        Field::Float(x) => float(x.to_string().parse().unwrap_or(f64::NAN))?,
        Field::Double(x) => float(*x)?,
        Field::Str(text) => text.clone().into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => return Err("bytes that are not UTF-8".to_owned()),
        },
        Field::Group(row) => object(row)?.into(),
        Field::ListInternal(list) => list.elements().iter().map(value).collect::<Result<Vec<_>, _>>()?.into(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(name, field)| {
                let name = match name {
                    Field::Str(name) => name.clone(),
                    other => other.to_string(),
                };
                Ok::<_, String>((name, value(field)?))
            });
            Value::Object(entries.collect::<Result<_, _>>()?)
        }
        // Decimals, dates, times.
        other => Value::String(other.to_string()),
    })
}
