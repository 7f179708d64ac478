//! Records from lines, JSONL, JSON, CSV or TSV, one at a time: memory is bounded by the longest record.

mod form;
pub(super) mod json;
mod lines;
pub(super) mod pairs;
mod record;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod types;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::json::Values;
use self::lines::Lines;
use self::source::{Place, Source};
use self::table::Table;
use self::types::Form;
pub(super) use self::types::{Content, Reading, Record};
use super::args::InputFormat;
use super::exit::{Failure, INPUT, Result};

/// Records of a stream.
pub(super) struct Records<R> {
    reader: Reader<R>,
    column: Option<String>,
    /// Whether the form was guessed, and no record has been read yet. An error in the first record then advises `--input-format lines`.
    guessed: bool,
}

/// A stream in one of the forms.
enum Reader<R> {
    Lines(Lines<R>),
    Jsonl(Lines<R>),
    Json(Values<R>),
    /// With the indices of the columns of the id and of the text; `None` before the header has been read.
    Table(Table<R>, Option<[Option<usize>; 2]>),
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(opened: R, name: String, reading: Reading<'_>) -> Result<Self> {
        let mut source = Source::new(opened, name, reading.lossy);
        let form = form::of_records(&mut source, reading)?;
        let reader = match form {
            Form::Lines => Reader::Lines(Lines::new(source)),
            Form::Jsonl => Reader::Jsonl(Lines::new(source)),
            Form::Json => Reader::Json(Values::new(source, true)),
            Form::Csv => Reader::Table(Table::new(source, b','), None),
            Form::Tsv => Reader::Table(Table::new(source, b'\t'), None),
        };
        let guessed = reading.format == InputFormat::Auto && form != Form::Lines;
        let column = reading.column.map(str::to_owned);
        if column.is_some() && form == Form::Lines {
            return Err(Failure::usage(
                "--column: lines have no columns (--input-format says how the input is written)",
            ));
        }
        Ok(Records { reader, column, guessed })
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        let next = self.next_record();
        let guessed = std::mem::take(&mut self.guessed);
        match next {
            Err(Failure::Message { code: INPUT, message }) if guessed => {
                let advice = self.source().advice("--input-format lines takes each line as a text");
                Err(Failure::input(format!("{message}{advice}")))
            }
            next => next,
        }
    }

    fn next_record(&mut self) -> Result<Option<Record>> {
        let column = self.column.as_deref();
        match &mut self.reader {
            Reader::Lines(lines) => {
                Ok(lines.next()?.map(|(line, text)| Record { id: None, content: Content::Text(text), line }))
            }
            Reader::Jsonl(lines) => loop {
                let Some((line, text)) = lines.next()? else { return Ok(None) };
                if !text.trim().is_empty() {
                    return record::of_json(&lines.source, Place { line, column: 1 }, &text, column).map(Some);
                }
            },
            Reader::Json(values) => {
                let Some((place, text)) = values.next()? else { return Ok(None) };
                record::of_json(&values.source, place, &text, column).map(Some)
            }
            Reader::Table(table, columns) => record::of_row(table, columns, column),
        }
    }

    /// The form, if each record is a line of its own, so that reading may begin at any line.
    pub(super) fn line_format(&self) -> Option<InputFormat> {
        match &self.reader {
            Reader::Lines(_) => Some(InputFormat::Lines),
            Reader::Jsonl(_) => Some(InputFormat::Jsonl),
            Reader::Json(_) | Reader::Table(..) => None,
        }
    }

    fn source(&self) -> &Source<R> {
        match &self.reader {
            Reader::Lines(lines) | Reader::Jsonl(lines) => &lines.source,
            Reader::Json(values) => &values.source,
            Reader::Table(table, _) => &table.source,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.source().name
    }
}

/// All of a stream as one text.
pub(super) fn whole_text<R: BufRead>(opened: R, name: &str) -> Result<String> {
    let mut source = Source::new(opened, name.to_owned(), None);
    let mut bytes = Vec::new();
    // This reads the first bytes, so that `start` is the place behind a byte order mark.
    source.peek()?;
    let start = source.offset();
    loop {
        let available = source.available()?;
        let read = available.len();
        if read == 0 {
            return source.text(bytes, 1, start);
        }
        bytes.extend_from_slice(available);
        source.take(read);
    }
}

/// The texts of a file, in any of the forms. Empty ones are left out; a file without any other is an error.
pub(super) fn read_texts(path: &Path) -> Result<Vec<String>> {
    let opened = open(path)?;
    let mut records = Records::new(opened.reader, opened.name, Reading::of(path))?;
    let mut texts = Vec::new();
    while let Some(record) = records.next()? {
        match record.content {
            Content::Text(text) if text.trim().is_empty() => {}
            Content::Text(text) => texts.push(text),
            Content::Ids(_) => {
                return Err(records.source().refuse(record.line, "`input_ids`, expected `text`"));
            }
        }
    }
    if texts.is_empty() {
        return Err(Failure::input(format!("{}: no text in it", records.name())));
    }
    Ok(texts)
}

/// A byte stream that counts what was read, for the progress bar.
pub(super) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// An opened input.
pub(super) struct Opened {
    pub reader: BufReader<Counted<Box<dyn Read>>>,
    /// What errors call the input.
    pub name: String,
    /// Its length, if it is a file.
    pub length: Option<u64>,
    /// Bytes read so far.
    pub count: Arc<AtomicU64>,
}

/// Opens a file, or standard input for `-`.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let count = Arc::new(AtomicU64::new(0));
    let (inner, name, length): (Box<dyn Read>, _, _) = if path.as_os_str() == "-" {
        (Box::new(io::stdin().lock()), "standard input".to_owned(), None)
    } else {
        let file = File::open(path).map_err(|e| Failure::io_path(path, &e))?;
        let metadata = file.metadata().map_err(|e| Failure::io_path(path, &e))?;
        (Box::new(file), path.display().to_string(), metadata.is_file().then_some(metadata.len()))
    };
    let reader = BufReader::with_capacity(1 << 16, Counted { inner, count: Arc::clone(&count) });
    Ok(Opened { reader, name, length, count })
}
