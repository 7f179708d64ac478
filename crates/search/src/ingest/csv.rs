//! CSV and TSV with a line of names first, read by the crate `csv`.

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

/// Reads the documents of a file whose values are separated by `separator`. Where the line of names has semicolons and no comma, semicolons stand in a comma's
/// place, as spreadsheets of many countries write them, and numbers may have a comma before their decimals (`1,5`, `1.234,50`). LF, CR LF and CR
/// all end a line. A record that has more or fewer values than there are names is an error with its line, and the next one follows.
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
    // `flexible`: the records' lengths are compared below, so that an error has a line and the reader goes on after it. The input ends every
    // line by a line feed: with other ends the reader would count the lines otherwise.
    let mut reader =
        ReaderBuilder::new().delimiter(separator).flexible(true).terminator(Terminator::Any(b'\n')).from_reader(input);
    let names = reader.byte_headers().map_err(|e| wrong(1, e.to_string()))?.clone();
    if names.len() > MAX_COLUMNS {
        return Err(wrong(1, format!("{} columns, expected at most {}", grouped(names.len()), grouped(MAX_COLUMNS))));
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
    let decimal_comma = separator == b';';
    Ok(Records { reader, progress, names: found, path, columns, decimal_comma, ended: false })
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
    /// Where values in quotes have a carriage return that ends a line, which the reader of records does not count.
    returns: RefCell<Returns>,
}

/// Carriage returns that end a line of a value.
#[derive(Default)]
struct Returns {
    /// How many the record has that is being read.
    of_this: u64,
    /// Ends of records that were read, and how many each of them has, if any.
    ahead: VecDeque<(u64, u64)>,
    /// Those of records before.
    passed: u64,
}

impl Progress {
    /// The line in which a record begins, of which the reader counts the line feeds before.
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
            (_, byte) if byte == separator || matches!(byte, b'\n' | b'\r') => At::Begin,
            _ => At::Inside,
        }
    }
}

/// Ends every line outside quotes with a line feed. Fails when a record exceeds the limit, as an unclosed quote in a large file would make one.
/// Notices a quote that is still open at the end of the input.
struct Bounded<R> {
    input: R,
    separator: u8,
    /// Whether the last byte of the input was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    progress: Rc<Progress>,
}

impl<R> Bounded<R> {
    /// Replaces the other line ends by line feeds outside quotes, and returns the new number of bytes.
    fn end_lines(&mut self, bytes: &mut [u8]) -> usize {
        let progress = &self.progress;
        let (mut at, begin, mut kept) = (progress.at.get(), progress.read.get(), 0);
        let mut returns = progress.returns.borrow_mut();
        for index in 0..bytes.len() {
            let byte = bytes[index];
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            let second = byte == b'\n' && after_return;
            if at == At::Quoted {
                // A carriage return before a line feed is not counted: the line feed is.
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
            // No bytes are the end of the input.
            if kept > 0 || n == 0 {
                return Ok(kept);
            }
        }
    }
}

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

/// The number that a value is whose decimals stand behind a comma, as in `1,5` and `1.234,50`: points stand before each three digits then, or
/// nowhere. A value without a comma may have a point in either sense, and is what [`typed`] makes of it.
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
        // Where commas separate values, one in quotes is of no number.
        assert_eq!(fields("id,text,price\n1,a,\"3,5\"\n")[0]["price"], "3,5");
    }

    /// As `embed` and the other commands read them.
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
        // Lines of those that are refused: of the quoted ones that came before, the line ends inside count.
        let mut seen = Vec::new();
        for end in ["\n", "\r\n", "\r"] {
            for last in ["", end] {
                let text = table.join(end) + last;
                // Whatever the pieces that the input comes in.
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

    /// An input that comes in pieces.
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
