//! Writes Parquet: one row per entry, in row groups of 1,000 rows. Vectors are lists, which every common reader turns into its own arrays.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::files::{BATCH, Files};
use super::manifest::Manifest;
use super::source::Source;
use crate::error::{Error, Result};

const NAME: &str = "documents.parquet";

const SCHEMA: &str = "message documents {
    required binary key (UTF8);
    required binary text (UTF8);
    optional binary title (UTF8);
    optional binary lang (UTF8);
    optional binary document (UTF8);
    required binary metadata (UTF8);
    required group dense (LIST) { repeated group list { required float element; } }
    required group sparse_ids (LIST) { repeated group list { required int32 element; } }
    required group sparse_weights (LIST) { repeated group list { required float element; } }
    required group colbert (LIST) {
        repeated group list { required group element (LIST) { repeated group list { required float element; } } }
    }
}";

/// Passes the bytes of the Parquet writer on to the open file of the export.
struct Sink<'a>(&'a mut Files);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The values of a column in a row group, with Parquet's definition and repetition levels, which say how the values belong to rows and
/// lists.
struct Column<T> {
    values: Vec<T>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl<T> Column<T> {
    fn new() -> Column<T> {
        Column { values: Vec::new(), definitions: Vec::new(), repetitions: Vec::new() }
    }

    /// Adds a row's single value; `None` if the row has no value.
    fn one(&mut self, value: Option<T>) {
        self.definitions.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    /// Adds a row's list of values, which may be empty.
    fn list(&mut self, values: impl IntoIterator<Item = T>) {
        let before = self.values.len();
        for value in values {
            self.level(i16::from(self.values.len() > before), 1);
            self.values.push(value);
        }
        if self.values.len() == before {
            self.level(0, 0);
        }
    }

    /// Adds a row's list of lists of values. The outer list may be empty; an inner list must not be, because it would be left out.
    fn lists(&mut self, lists: Vec<Vec<T>>) {
        if lists.is_empty() {
            self.level(0, 0);
        }
        for (outer, list) in lists.into_iter().enumerate() {
            for (inner, value) in list.into_iter().enumerate() {
                // The repetition level: this value begins a new row (0), a new inner list of the row (1), or continues an inner list (2).
                self.level(if inner > 0 { 2 } else { i16::from(outer > 0) }, 2);
                self.values.push(value);
            }
        }
    }

    /// Adds the levels of a value, or of an empty list.
    fn level(&mut self, repetition: i16, definition: i16) {
        self.repetitions.push(repetition);
        self.definitions.push(definition);
    }

    /// Writes the column as the next one of a row group.
    fn write<D: DataType<T = T>, W: Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let Some(mut column) = group.next_column()? else {
            return Err(ParquetError::General("the schema has fewer columns".to_owned()));
        };
        let repetitions = Some(self.repetitions.as_slice()).filter(|levels| !levels.is_empty());
        column.typed::<D>().write_batch(&self.values, Some(&self.definitions), repetitions)?;
        column.close()
    }
}

/// A string as Parquet's bytes.
fn text(text: &str) -> ByteArray {
    ByteArray::from(text)
}

/// Writes the documents of the rows `order` with their vectors, in this order.
pub(super) fn write(source: &Source<'_>, order: &[usize], files: &mut Files, manifest: &mut Manifest) -> Result<()> {
    files.begin(NAME)?;
    let path = files.directory.join(NAME);
    let fail = |e: ParquetError| Error::io(&path, io::Error::other(e.to_string()));
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(fail)?);
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let mut writer = SerializedFileWriter::new(Sink(files), schema, properties).map_err(fail)?;
    for batch in order.chunks(BATCH) {
        let mut texts: [Column<ByteArray>; 6] = std::array::from_fn(|_| Column::new());
        let (mut dense, mut ids, mut weights, mut colbert) =
            (Column::new(), Column::new(), Column::new(), Column::new());
        for &row in batch {
            let document = source.reader.stored(row)?.document;
            let metadata = serde_json::Value::Object(document.metadata.clone()).to_string();
            let optional = [&document.title, &document.lang, &document.document];
            let [key, body, title, lang, group, meta] = &mut texts;
            key.one(Some(text(&document.key)));
            body.one(Some(text(&document.text)));
            for (column, value) in [title, lang, group].into_iter().zip(optional) {
                column.one(value.as_deref().map(text));
            }
            meta.one(Some(text(&metadata)));
            dense.list(source.dense(row)?);
            let sparse = source.sparse(row)?;
            manifest.with_sparse += u64::from(!sparse.is_empty());
            ids.list(sparse.iter().map(|&(id, _)| id as i32));
            weights.list(sparse.iter().map(|&(_, weight)| weight));
            colbert.lists(source.colbert(row)?.0);
        }
        let mut group = writer.next_row_group().map_err(fail)?;
        for column in &texts {
            column.write::<ByteArrayType, _>(&mut group).map_err(fail)?;
        }
        dense.write::<FloatType, _>(&mut group).map_err(fail)?;
        ids.write::<Int32Type, _>(&mut group).map_err(fail)?;
        weights.write::<FloatType, _>(&mut group).map_err(fail)?;
        colbert.write::<FloatType, _>(&mut group).map_err(fail)?;
        group.close().map_err(fail)?;
    }
    writer.close().map_err(fail).map(drop)
}
