//! Reads CSV and TSV, whose first line has the names of the columns, by the crate `csv`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use csv::{ByteRecord, Position, ReaderBuilder, Terminator};
use serde_json::{Map, Number, Value};
use trivec::numbers::grouped;

use super::columns::{Columns, MAX_COLUMNS, MAX_RECORD_BYTES};
use super::jsonl::document_of;
use crate::document::Document;
use crate::error::{Error, Result};

/// Reads the documents of a file whose values are separated by `separator`. If that is a comma, but the line of names has semicolons and no
/// comma outside quotes, semicolons separate the values, as in files of spreadsheets in many countries, and numbers may have a comma before
/// their decimals (`1,5`, `1.234,50`). LF, CR LF and CR all end a line. For a record that cannot be used, because it has more or fewer
/// values than there are names or is no valid document, the iterator gives an error with its line, and goes on with the next one.
///
/// # Errors
/// [`Error::Line`] if the names cannot be read or are too many; [`Error::Columns`] if a column that is needed is missing, or a name is
/// there twice.
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
    let progress = Rc::new(Progress {
        budget: Cell::new(MAX_RECORD_BYTES),
        read: Cell::new(0),
        at: Cell::new(At::Begin),
        returns: RefCell::default(),
    });
    let input = Bounded {
        input: Cursor::new(head).chain(input),
        separator,
        after_return: false,
        progress: Rc::clone(&progress),
    };
    // `flexible`, because the numbers of values are compared below, so that an error has a line and the reader goes on after it. `Bounded`
    // ends every line with a line feed, because the reader counts only these as lines.
    let mut reader =
        ReaderBuilder::new().delimiter(separator).flexible(true).terminator(Terminator::Any(b'\n')).from_reader(input);
    let names = reader.byte_headers().map_err(|e| wrong(1, e.to_string()))?.clone();
    if names.len() > MAX_COLUMNS {
        return Err(wrong(1, format!("{} columns, expected at most {}", grouped(names.len()), grouped(MAX_COLUMNS))));
    }
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        // A caller may give an input that still has its byte order mark.
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
    let decimal_comma = separator == b';';
    Ok(Records { reader, progress, names: found, path, columns, decimal_comma, ended: false })
}

/// Reads the bytes up to the end of the first record that is not a blank line, or as many of them as a record may have.
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
            let ended = matches!(byte, b'\n' | b'\r') && !in_quotes && any;
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

/// The separator of a table with this line of names: a semicolon if there is one outside quotes and no comma outside quotes, else a comma.
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

/// What [`Records`] and its input [`Bounded`] share: where the input is, and what is needed for limits and line numbers.
struct Progress {
    /// How many bytes may still be read for the current record.
    budget: Cell<usize>,
    /// How many bytes were passed on to the reader of records.
    read: Cell<u64>,
    /// Where in a value the next byte is.
    at: Cell<At>,
    /// The carriage returns in quoted values that end a line but that the reader of records does not count as line ends.
    returns: RefCell<Returns>,
}

/// Carriage returns that end a line inside a quoted value, counted for each record.
#[derive(Default)]
struct Returns {
    /// How many the record that the input is in has so far.
    of_this: u64,
    /// For the records with such carriage returns that the input has passed on: where the record ends, and how many it has.
    ahead: VecDeque<(u64, u64)>,
    /// How many there are in the records that the reader of records has returned; those are not in `ahead` any more.
    passed: u64,
}

impl Progress {
    /// The line in which the record at `place` begins: the reader of records has counted the line feeds before it, and the carriage returns
    /// are added here.
    fn line(&self, place: &Position) -> u64 {
        let mut returns = self.returns.borrow_mut();
        while let Some(&(end, count)) = returns.ahead.front()
            && end < place.byte()
        {
            returns.ahead.pop_front();
            returns.passed += count;
        }
        place.line() + returns.passed
    }
}

/// Where the next byte is in a value, as far as it matters for quotes.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// At the first byte of a value. Only there a quote opens.
    Begin,
    /// After the first byte of a value without quotes, or after something that follows a closing quote.
    Inside,
    /// Inside quotes.
    Quoted,
    /// After a quote inside quotes, which closes them unless a second one follows.
    Quote,
}

impl At {
    /// The state after `byte`.
    fn after(self, byte: u8, separator: u8) -> At {
        match (self, byte) {
            (At::Begin, b'"') | (At::Quote, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) => At::Quoted,
            (_, byte) if byte == separator || matches!(byte, b'\n' | b'\r') => At::Begin,
            _ => At::Inside,
        }
    }
}

/// An input that ends every line outside quotes with a line feed. Reading fails if a record exceeds the limit, as it does after an unclosed
/// quote in a large file. At the end of the input, `progress` tells whether a quote is still open.
struct Bounded<R> {
    input: R,
    separator: u8,
    /// Whether the last byte of the input was a carriage return: a line feed that follows it ends no further line.
    after_return: bool,
    progress: Rc<Progress>,
}

impl<R> Bounded<R> {
    /// Replaces CR and CR LF outside quotes by line feeds, and returns how many of the bytes are left.
    fn end_lines(&mut self, bytes: &mut [u8]) -> usize {
        let progress = &self.progress;
        let (mut at, begin, mut kept) = (progress.at.get(), progress.read.get(), 0);
        let mut returns = progress.returns.borrow_mut();
        for index in 0..bytes.len() {
            let byte = bytes[index];
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            let second = byte == b'\n' && after_return;
            if at == At::Quoted {
                // Of CR LF only the line feed counts, which the reader of records counts itself.
                returns.of_this -= u64::from(second);
                returns.of_this += u64::from(byte == b'\r');
            } else if second {
                continue;
            }
            at = at.after(byte, self.separator);
            let ends = matches!(byte, b'\n' | b'\r') && at != At::Quoted;
            if ends && returns.of_this > 0 {
                let count = std::mem::take(&mut returns.of_this);
                returns.ahead.push_back((begin + kept as u64, count));
            }
            bytes[kept] = if ends { b'\n' } else { byte };
            kept += 1;
        }
        progress.at.set(at);
        progress.read.set(begin + kept as u64);
        kept
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.progress.budget.get();
            if left == 0 {
                return Err(io::Error::other(format!(
                    "a record is longer than {} bytes (a quote that is not closed?)",
                    grouped(MAX_RECORD_BYTES)
                )));
            }
            let n = buffer.len().min(left);
            let n = self.input.read(&mut buffer[..n])?;
            self.progress.budget.set(left - n);
            let kept = self.end_lines(&mut buffer[..n]);
            // Returning 0 would mean the end of the input, so after a lone dropped line feed the next bytes are read.
            if kept > 0 || n == 0 {
                return Ok(kept);
            }
        }
    }
}

/// The iterator over the documents of a table.
struct Records<R> {
    reader: csv::Reader<Bounded<R>>,
    progress: Rc<Progress>,
    names: Vec<String>,
    path: PathBuf,
    columns: Columns,
    /// Whether a comma may stand before a number's decimals.
    decimal_comma: bool,
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
            let line = self.progress.line(record.position().unwrap_or(self.reader.position()));
            let wrong = |what: String| Some(Err(Error::Line { path: self.path.clone(), line, what }));
            match read {
                // The reader ends an open quote at the end of the file without an error.
                Ok(true)
                    if self.progress.at.get() == At::Quoted
                        && self.reader.position().byte() >= self.progress.read.get() =>
                {
                    self.ended = true;
                    return wrong("a quote that opens in this record is never closed".to_owned());
                }
                // Blank lines are skipped.
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
    /// Makes a document of a record, or says why it cannot be used.
    fn document(&self, record: &ByteRecord) -> Result<Document, String> {
        if record.len() != self.names.len() {
            return Err(format!("values: found {}, expected {} as there are names", record.len(), self.names.len()));
        }
        let mut object = Map::new();
        for (name, value) in self.names.iter().zip(record) {
            let value = std::str::from_utf8(value).map_err(|_| format!("`{}` is not UTF-8", name.escape_debug()))?;
            let columns = &self.columns;
            let own = [columns.key.as_str(), &columns.text, columns.title(), columns.lang()].contains(&name.as_str());
            if own {
                object.insert(name.clone(), Value::String(value.to_owned()));
            } else if !value.is_empty() && !name.is_empty() {
                let number = Some(value).filter(|_| self.decimal_comma).and_then(with_decimal_comma);
                object.insert(name.clone(), number.unwrap_or_else(|| typed(value)));
            }
        }
        let document = document_of(object, &self.columns)?;
        document.validate().map_err(|e| e.to_string())?;
        Ok(document)
    }
}

/// A value of a table as metadata: a boolean if it is `true` or `false`; a number if it is written as one without needless leading zeros,
/// and if an integer fits 64 bits; else a string.
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
    // Integers beyond 64 bits stay strings, because a float would round them.
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

/// The number in a value with a decimal comma, as `1,5` or `1.234,50`, in which points may separate groups of three digits; `None` for
/// other values. Those without a comma are left to [`typed`], for which a point is a decimal point.
fn with_decimal_comma(value: &str) -> Option<Value> {
    let (whole, decimals) = value.split_once(',')?;
    let groups: Vec<&str> = whole.trim_start_matches('-').split('.').collect();
    let grouped =
        groups[1..].iter().all(|group| group.len() == 3) && (groups.len() == 1 || (1..=3).contains(&groups[0].len()));
    if !grouped || !decimals.starts_with(|c: char| c.is_ascii_digit()) || decimals.contains('.') {
        return None;
    }
    Some(typed(&format!("{}.{decimals}", whole.replace('.', "")))).filter(Value::is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_table_with_semicolons_may_have_a_decimal_comma() {
        for (text, expected) in [
            ("1,5", Some(1.5)),
            ("-0,25", Some(-0.25)),
            ("1,50", Some(1.5)),
            ("1.234,5", Some(1234.5)),
            ("12.345.678,01", Some(12_345_678.01)),
            ("1,5E+03", Some(1500.0)),
            ("1234,5", Some(1234.5)),
            ("1,2,3", None),
            ("1, 5", None),
            ("a,5", None),
            (",5", None),
            ("5,", None),
            ("007,5", None),
            ("1234.567,5", None),
            ("12.34,5", None),
            ("1.234,5.6", None),
            ("1,234.5", None),
            ("1,-5", None),
            ("1,e5", None),
            ("+1,5", None),
            ("1.5", None),
        ] {
            assert_eq!(with_decimal_comma(text), expected.map(Value::from), "{text}");
        }
        let fields = |text: &str| {
            let read = read(text.as_bytes(), b',', Path::new("t.csv"), &Columns::default()).unwrap();
            read.map(|document| document.unwrap().metadata).collect::<Vec<_>>()
        };
        let found = fields("id;text;price;stock\n1,5;2,5;3,5;1.234\n2;b;4;none\n");
        assert_eq!((&found[0]["price"], &found[0]["stock"]), (&3.5.into(), &1.234.into()));
        assert_eq!((&found[1]["price"], &found[1]["stock"]), (&4.into(), &"none".into()));
        // Where commas separate values, a quoted value with a comma is no number.
        assert_eq!(fields("id,text,price\n1,a,\"3,5\"\n")[0]["price"], "3,5");
    }

    /// LF, CR LF and CR give the same documents and the same line numbers, as in the other inputs of the commands.
    #[test]
    fn lines_end_with_any_of_the_three_ends() {
        let table = [
            "id,text,n",
            "1,a,1",
            "",
            "2,\"b,\n c\",2",
            "3,c",
            "4,\"d \"\"x\"\"\",4",
            "5,\"e\r\rf\r\ng\",5",
            "6,x",
            "7,g,7",
        ];
        // For every way of reading, the documents and the lines of refused records. Line ends inside quoted values count as lines too.
        let mut seen = Vec::new();
        for end in ["\n", "\r\n", "\r"] {
            for last in ["", end] {
                let text = table.join(end) + last;
                // The input comes in pieces of any size, so that CR and LF may be in different pieces.
                for piece in [1, 2, 3, 7, 1_000] {
                    let input = Pieces { bytes: text.as_bytes(), piece };
                    let read = read(input, b',', Path::new("t.csv"), &Columns::default()).unwrap();
                    let (mut good, mut bad) = (Vec::new(), Vec::new());
                    for document in read {
                        match document {
                            Ok(document) => good.push((document.key, document.text, document.metadata["n"].clone())),
                            Err(Error::Line { line, .. }) => bad.push(line),
                            Err(other) => panic!("{other}"),
                        }
                    }
                    seen.push((good, bad));
                }
            }
        }
        assert_eq!(seen[0].1, [6, 12], "lines");
        let texts: Vec<&str> = seen[0].0.iter().map(|own| own.1.as_str()).collect();
        assert_eq!(texts, ["a", "b,\n c", "d \"x\"", "e\r\rf\r\ng", "g"]);
        assert_eq!(seen[0].0.iter().map(|own| own.2.clone()).collect::<Vec<_>>(), [1, 2, 4, 5, 7]);
        assert!(seen.iter().all(|other| *other == seen[0]), "{seen:?}");
        // Ends of several kinds in one file.
        let mixed = "id;text\r1;a\n\r\n2;b\r\r3;c\r\n4;d;e\r";
        let read: Vec<_> = read(mixed.as_bytes(), b',', Path::new("t.csv"), &Columns::default()).unwrap().collect();
        let texts: Vec<_> = read.iter().flatten().map(|document| document.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        assert!(matches!(read[3], Err(Error::Line { line: 7, .. })), "{:?}", read[3]);
    }

    /// An input whose reads return at most `piece` bytes.
    struct Pieces<'b> {
        bytes: &'b [u8],
        piece: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(self.piece);
            self.bytes.read(&mut buffer[..n])
        }
    }

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
        // In TSV, only tabs separate values.
        let read =
            read("id\ttext;x\ttext\n1\t2\ta\n".as_bytes(), b'\t', Path::new("t.tsv"), &Columns::default()).unwrap();
        assert_eq!(read.map(|document| document.unwrap().text).collect::<Vec<_>>(), ["a"]);
        // In a table with semicolons too, a refused record has its line.
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
