//! CSV and TSV with a line of names first, read by the crate `csv`.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder, Terminator};
use serde_json::{Map, Number, Value};

use super::columns::{Columns, MAX_COLUMNS, MAX_RECORD_BYTES};
use super::jsonl::document_of;
use crate::document::Document;
use crate::error::{Error, Result};

/// Reads the documents of a file whose values are separated by `separator`. Where the line of names has semicolons and no comma, semicolons stand in a comma's
/// place, as spreadsheets of many countries write them. A record that has more or fewer values than there are names is an error with its line,
/// and the next one follows.
///
/// # Errors
/// [`Error::Line`] if the names cannot be read; [`Error::Columns`] if a column that is needed is not among them.
pub fn read<R: Read>(
    input: R,
    separator: u8,
    path: &Path,
    columns: &Columns,
) -> Result<impl Iterator<Item = Result<Document>> + use<R>> {
    let wrong = |line: u64, what: String| Error::Line { path: path.to_path_buf(), line, what };
    let mut input = BufReader::new(input);
    let head = first_record(&mut input, separator).map_err(|e| wrong(1, e.to_string()))?;
    let separator = if separator == b',' { comma_or_semicolon(&head) } else { separator };
    let progress =
        Rc::new(Progress { budget: Cell::new(MAX_RECORD_BYTES), read: Cell::new(0), at: Cell::new(At::Begin) });
    let input = Bounded { input: Cursor::new(head).chain(input), separator, progress: Rc::clone(&progress) };
    // `flexible`: the records' lengths are compared below, so that an error has a line and the reader goes on after it. Records end with a
    // line feed and not with the carriage return before it, which would make lines count one too few; it is taken off below.
    let mut reader =
        ReaderBuilder::new().delimiter(separator).flexible(true).terminator(Terminator::Any(b'\n')).from_reader(input);
    let names = reader.byte_headers().map_err(|e| wrong(1, e.to_string()))?.clone();
    if names.len() > MAX_COLUMNS {
        return Err(wrong(1, format!("{} columns, expected at most {MAX_COLUMNS}", names.len())));
    }
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        // Callers that have not decoded the input.
        let name = if index == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
        let name = std::str::from_utf8(name).map_err(|_| wrong(1, "a column's name is not UTF-8".to_owned()))?;
        found.push(name.trim().to_owned());
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = found.iter().find(|name| !name.is_empty() && !seen.insert(name.as_str())) {
        let what = format!("the column `{}` is there twice", twice.escape_debug());
        return Err(Error::Columns { path: path.to_path_buf(), what });
    }
    columns.check(path, |name| found.iter().any(|own| own == name), &found)?;
    let (path, columns) = (path.to_path_buf(), columns.clone());
    Ok(Records { reader, progress, names: found, path, columns, ended: false })
}

/// The bytes of the first record that is not an empty line, or as many of them as a record may have.
fn first_record(input: &mut impl BufRead, separator: u8) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut at = At::Begin;
    let mut any = false;
    while head.len() <= MAX_RECORD_BYTES {
        let read = match input.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read.is_empty() {
            break;
        }
        let end = read.iter().position(|&byte| {
            let in_quotes = at == At::Quoted;
            at = at.after(byte, separator);
            let ended = byte == b'\n' && !in_quotes && any;
            any |= !byte.is_ascii_whitespace();
            ended
        });
        let taken = end.map_or(read.len(), |end| end + 1);
        head.extend_from_slice(&read[..taken]);
        input.consume(taken);
        if end.is_some() {
            break;
        }
    }
    Ok(head)
}

/// The separator of a table whose line of names is this: a comma, unless there is none outside quotes and a semicolon is.
fn comma_or_semicolon(names: &[u8]) -> u8 {
    let mut at = At::Begin;
    let mut semicolon = false;
    for &byte in names {
        // Either of them ends a value here, so that a quote after it opens.
        at = at.after(if byte == b';' { b',' } else { byte }, b',');
        match byte {
            b',' if at == At::Begin => return b',',
            b';' if at == At::Begin => semicolon = true,
            _ => {}
        }
    }
    if semicolon { b';' } else { b',' }
}

/// What the reader of records and its input know together.
struct Progress {
    /// Bytes that the record may still have.
    budget: Cell<usize>,
    /// Bytes that were read.
    read: Cell<u64>,
    /// Where in a value the last of them stands.
    at: Cell<At>,
}

/// A place in a value.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// The first byte comes next: only there a quote opens.
    Begin,
    /// After the first byte of a value without quotes, or after the quote that closes one.
    Inside,
    /// Between quotes.
    Quoted,
    /// After a quote between quotes, which closes the value unless a second one follows.
    Quote,
}

impl At {
    fn after(self, byte: u8, separator: u8) -> At {
        match (self, byte) {
            (At::Begin, b'"') | (At::Quote, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) => At::Quoted,
            (_, byte) if byte == separator || byte == b'\n' => At::Begin,
            _ => At::Inside,
        }
    }
}

/// Ends the input when a record exceeds the limit, which an unclosed quote in a large file would make it do, and notices a quote that the
/// end of the input leaves open.
struct Bounded<R> {
    input: R,
    separator: u8,
    progress: Rc<Progress>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let progress = &self.progress;
        let left = progress.budget.get();
        if left == 0 {
            return Err(io::Error::other(format!(
                "a record is longer than {MAX_RECORD_BYTES} bytes (a quote that is not closed?)"
            )));
        }
        let n = buffer.len().min(left);
        let n = self.input.read(&mut buffer[..n])?;
        progress.budget.set(left - n);
        progress.read.set(progress.read.get() + n as u64);
        let at = buffer[..n].iter().fold(progress.at.get(), |at, &byte| at.after(byte, self.separator));
        progress.at.set(at);
        Ok(n)
    }
}

struct Records<R> {
    reader: csv::Reader<Bounded<R>>,
    progress: Rc<Progress>,
    names: Vec<String>,
    path: PathBuf,
    columns: Columns,
    ended: bool,
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        if self.ended {
            return None;
        }
        let mut record = ByteRecord::new();
        loop {
            self.progress.budget.set(MAX_RECORD_BYTES);
            let read = self.reader.read_byte_record(&mut record);
            let line = record.position().unwrap_or(self.reader.position()).line();
            let wrong = |what: String| Some(Err(Error::Line { path: self.path.clone(), line, what }));
            match read {
                // The reader takes the end of the file for the end of the value.
                Ok(true)
                    if self.progress.at.get() == At::Quoted
                        && self.reader.position().byte() >= self.progress.read.get() =>
                {
                    self.ended = true;
                    return wrong("a quote that opens in this record is never closed".to_owned());
                }
                // A line with nothing on it.
                Ok(true) if record.len() == 1 && record[0].trim_ascii().is_empty() => {}
                Ok(true) => return self.document(&record).map_or_else(wrong, |document| Some(Ok(document))),
                Ok(false) => {
                    self.ended = true;
                    return None;
                }
                Err(e) => {
                    self.ended = true;
                    return wrong(e.to_string());
                }
            }
        }
    }
}

impl<R: Read> Records<R> {
    fn document(&self, record: &ByteRecord) -> Result<Document, String> {
        if record.len() != self.names.len() {
            return Err(format!("values: found {}, expected {} as there are names", record.len(), self.names.len()));
        }
        let mut object = Map::new();
        for (index, (name, value)) in self.names.iter().zip(record).enumerate() {
            let last = index + 1 == self.names.len();
            let value = if last { value.strip_suffix(b"\r").unwrap_or(value) } else { value };
            let value = std::str::from_utf8(value).map_err(|_| format!("`{}` is not UTF-8", name.escape_debug()))?;
            let columns = &self.columns;
            let own = [columns.key.as_str(), &columns.text, columns.title(), columns.lang()].contains(&name.as_str());
            if own {
                object.insert(name.clone(), Value::String(value.to_owned()));
            } else if !value.is_empty() && !name.is_empty() {
                object.insert(name.clone(), typed(value));
            }
        }
        let document = document_of(object, &self.columns)?;
        document.validate().map_err(|e| e.to_string())?;
        Ok(document)
    }
}

/// A value of a table as metadata: a number if it is written as one (without needless zeros) and kept exactly where it is an integer, true or
/// false, else a string.
fn typed(value: &str) -> Value {
    match value {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(integer) = value.parse::<i64>() {
        if integer.to_string() == value {
            return Value::from(integer);
        }
        return Value::from(value);
    }
    // Digits that no integer has room for stay as they are written: a float would round them.
    if value.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) {
        let integer = value.parse::<u64>().ok().filter(|integer| integer.to_string() == value);
        return integer.map_or_else(|| Value::from(value), Value::from);
    }
    let numeric = value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'e' | b'E' | b'+'));
    let leads = value.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    let zeros = value.trim_start_matches('-').starts_with('0') && !value.trim_start_matches('-').starts_with("0.");
    match value.parse::<f64>().ok().filter(|x| numeric && leads && !zeros && x.is_finite()).and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::from(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_separate_where_the_names_have_no_comma() {
        for (text, expected) in [
            ("id;text\n1;a, b\n", "a, b"),
            ("\n\nid;text\r\n1;\"a;\nb\"\r\n", "a;\nb"),
            ("\"id\";\"te,xt\";text\n1;2;a\n", "a"),
            ("id,text\n1,a;b\n", "a;b"),
            ("id,\"x;y\",text\n1,2,a;b\n", "a;b"),
            ("id,text;x,text\n1,2,a\n", "a"),
            ("id;text\n1;a", "a"),
        ] {
            let read = read(text.as_bytes(), b',', Path::new("t.csv"), &Columns::default()).unwrap();
            let documents: Vec<Document> = read.map(Result::unwrap).collect();
            assert_eq!(
                (documents.len(), documents[0].key.as_str(), documents[0].text.as_str()),
                (1, "1", expected),
                "{text:?}"
            );
        }
        // Of tabs and semicolons, tabs separate a file of tabs.
        let read =
            read("id\ttext;x\ttext\n1\t2\ta\n".as_bytes(), b'\t', Path::new("t.tsv"), &Columns::default()).unwrap();
        assert_eq!(read.map(|document| document.unwrap().text).collect::<Vec<_>>(), ["a"]);
        // Such a table is refused as any other: by its line.
        let read =
            super::read("id;text\n1;a\n2;b;c\n".as_bytes(), b',', Path::new("t.csv"), &Columns::default()).unwrap();
        let wrong = read.filter_map(Result::err).map(|e| e.to_string()).collect::<Vec<_>>();
        assert!(wrong.len() == 1 && wrong[0].contains("values: found 3, expected 2"), "{wrong:?}");
    }

    #[test]
    fn values_have_the_types_they_are_written_in() {
        for (text, expected) in [
            ("12", Value::from(12)),
            ("-7", Value::from(-7)),
            ("007", Value::from("007")),
            ("+49", Value::from("+49")),
            ("1.50", Value::from(1.5)),
            ("00.5", Value::from("00.5")),
            ("-0.25", Value::from(-0.25)),
            ("1e999", Value::from("1e999")),
            ("inf", Value::from("inf")),
            ("NaN", Value::from("NaN")),
            ("true", Value::from(true)),
            ("True", Value::from("True")),
            ("2024-01-02", Value::from("2024-01-02")),
            ("9223372036854775808", Value::from(1u64 << 63)),
            ("18446744073709551615", Value::from(u64::MAX)),
            ("18446744073709551616", Value::from("18446744073709551616")),
            ("-9223372036854775809", Value::from("-9223372036854775809")),
            ("-", Value::from("-")),
        ] {
            assert_eq!(typed(text), expected, "{text}");
        }
    }
}
