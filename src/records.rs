//! Reads the records of a text file, one at a time. A record is a line of the file. If the file begins with a JSON value that goes on over
//! several lines, or with a list of records, a record is a JSON value. Memory is bounded by the longest record that is allowed.

use std::io::{self, BufRead};

use serde::de::IgnoredAny;

use crate::decode::{Decoded, NotText};

/// A record, and the line in which it begins, from 1 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of the line in which the record begins, from 1 on.
    pub line: u64,
    /// A line without its end, or a value of JSON.
    pub text: String,
}

/// Why a record cannot be returned.
#[derive(Debug)]
pub enum Problem {
    /// The operating system's error. No record follows.
    Io(io::Error),
    /// A record cannot be used. The next record follows, unless the reader cannot go on after this one.
    Record {
        /// Number of the line in which the record begins, from 1 on.
        line: u64,
        /// What is wrong with the record.
        what: String,
    },
}

/// What the next record is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing was read yet; the first line decides.
    Begin,
    Lines,
    /// JSON values outside of a list.
    Values,
    /// Elements of the list that began in this line. `element_ended`: one has just ended, so a comma or the end of the list comes next.
    List {
        line: u64,
        element_ended: bool,
    },
    End,
}

/// The records of a stream. LF, CR LF and CR end lines; blank lines are skipped.
pub struct Records<R> {
    input: Decoded<R>,
    /// The most bytes that a record may have.
    most: usize,
    /// Bytes that were read. The first `taken` of them have been consumed.
    chunk: Vec<u8>,
    taken: usize,
    /// How many lines have ended.
    ended: u64,
    /// Whether the last byte that was consumed is CR: an LF after it ends no other line.
    after_cr: bool,
    mode: Mode,
}

impl<R: BufRead> Records<R> {
    /// The records of `input`. One that is longer than `most` bytes is a problem.
    pub fn new(input: R, most: usize) -> Records<R> {
        let input = Decoded::new(input, false);
        Records { input, most, chunk: Vec::new(), taken: 0, ended: 0, after_cr: false, mode: Mode::Begin }
    }

    /// Reads more bytes and appends them to those that were not consumed. Returns false at the end of the input.
    fn read(&mut self) -> Result<bool, Problem> {
        self.chunk.drain(..self.taken);
        self.taken = 0;
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => {
                    let read = bytes.len();
                    self.chunk.extend_from_slice(bytes);
                    self.input.consume(read);
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.mode = Mode::End;
                    return Err(match NotText::of(&error) {
                        Some(not_text) => self.problem(not_text.to_string()),
                        None => Problem::Io(error),
                    });
                }
            }
        }
    }

    /// The bytes that were read and not consumed. They are empty only at the end of the input.
    fn available(&mut self) -> Result<&[u8], Problem> {
        if self.taken == self.chunk.len() {
            self.read()?;
        }
        Ok(&self.chunk[self.taken..])
    }

    /// Consumes `bytes` of the available bytes and counts the lines that end in them.
    fn take(&mut self, bytes: usize) {
        for &byte in &self.chunk[self.taken..self.taken + bytes] {
            self.ended += u64::from(byte == b'\r' || byte == b'\n' && !self.after_cr);
            self.after_cr = byte == b'\r';
        }
        self.taken += bytes;
    }

    /// A problem in the current line.
    fn problem(&self, what: impl Into<String>) -> Problem {
        Problem::Record { line: self.ended + 1, what: what.into() }
    }

    /// The record of these bytes, or a problem if they are not UTF-8.
    fn text(&self, bytes: Vec<u8>, line: u64) -> Result<Record, Problem> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Record { line, text }),
            Err(e) => {
                let what = format!("it is not UTF-8 at byte {}", e.utf8_error().valid_up_to());
                Err(Problem::Record { line, what })
            }
        }
    }

    /// Skips white space and returns the byte after it, which is not consumed; `None` at the end of the input.
    fn skip_blank(&mut self) -> Result<Option<u8>, Problem> {
        loop {
            let available = self.available()?;
            let blank = available.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
            let next = available.get(blank).copied();
            let is_end = available.is_empty();
            self.take(blank);
            if next.is_some() || is_end {
                return Ok(next);
            }
        }
    }

    /// The next line that is not blank, without its end. White space at its beginning is skipped.
    fn line(&mut self) -> Result<Option<Record>, Problem> {
        let Some(_) = self.skip_blank()? else { return Ok(None) };
        let line = self.ended + 1;
        let (mut bytes, mut is_long) = (Vec::new(), false);
        loop {
            let most = self.most;
            let available = self.available()?;
            let end = available.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = end.unwrap_or(available.len());
            is_long |= bytes.len() + part > most;
            if !is_long {
                bytes.extend_from_slice(&available[..part]);
            }
            let is_end = available.is_empty();
            self.take(part);
            if end.is_some() || is_end {
                break;
            }
        }
        if is_long {
            return Err(Problem::Record { line, what: format!("it is longer than {} bytes", self.most) });
        }
        self.text(bytes, line).map(Some)
    }

    /// Whether the records are JSON values instead of lines: the first line begins a list of records, or a value that goes on in the next line.
    fn begins_with_values(&mut self) -> Result<bool, Problem> {
        let Some(first @ (b'{' | b'[')) = self.skip_blank()? else { return Ok(false) };
        let mut from = 0;
        let end = loop {
            let unread = &self.chunk[self.taken..];
            if let Some(end) = unread[from..].iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                break from + end;
            }
            from = unread.len();
            if from > self.most || !self.read()? {
                break from;
            }
        };
        let line = &self.chunk[self.taken..self.taken + end];
        let mut values = serde_json::Deserializer::from_slice(line).into_iter::<IgnoredAny>();
        Ok(match values.next() {
            // A list of objects or of lists holds records, and an empty one has none. A list of anything else, as of texts, may be a record.
            Some(Ok(_)) => {
                let inner = line[1..].iter().find(|byte| !byte.is_ascii_whitespace());
                first == b'[' && matches!(inner, Some(b'{' | b'[' | b']'))
            }
            // A value over several lines breaks its first line after a bracket or a comma. A line that was cut by mistake rarely ends there.
            Some(Err(error)) => error.is_eof() && matches!(line.trim_ascii_end().last(), Some(b'{' | b'[' | b',')),
            None => false,
        })
    }

    /// The JSON value that begins here. Brackets and quotes tell where it ends; it is not parsed.
    fn value(&mut self) -> Result<Record, Problem> {
        let line = self.ended + 1;
        let (mut bytes, mut cut) = (Vec::new(), Cut::default());
        loop {
            let most = self.most;
            let available = self.available()?;
            let (ended, length) = (available.is_empty(), cut.end(available));
            let part = length.unwrap_or(available.len());
            if bytes.len() + part > most {
                self.mode = Mode::End;
                return Err(Problem::Record { line, what: format!("it is longer than {most} bytes") });
            }
            bytes.extend_from_slice(&available[..part]);
            self.take(part);
            if length.is_some() || ended {
                return self.text(bytes, line);
            }
        }
    }

    /// The next JSON value: an element of a list at the top level, or a value outside of such lists.
    fn values(&mut self) -> Result<Option<Record>, Problem> {
        loop {
            let byte = self.skip_blank()?;
            match (self.mode, byte) {
                (Mode::List { line, .. }, None) => {
                    self.mode = Mode::End;
                    return Err(Problem::Record { line, what: "the list that begins here has no end".to_owned() });
                }
                (_, None) => return Ok(None),
                (Mode::List { .. }, Some(b']')) => {
                    self.take(1);
                    self.mode = Mode::Values;
                }
                (Mode::List { line, element_ended: true }, Some(b',')) => {
                    self.take(1);
                    self.mode = Mode::List { line, element_ended: false };
                }
                (Mode::List { element_ended: true, .. }, Some(_)) => {
                    self.mode = Mode::End;
                    return Err(self.problem("expected `,` or `]` after an element of the list"));
                }
                (Mode::List { line, .. }, Some(_)) => {
                    self.mode = Mode::List { line, element_ended: true };
                    return self.value().map(Some);
                }
                (_, Some(b'[')) => {
                    self.mode = Mode::List { line: self.ended + 1, element_ended: false };
                    self.take(1);
                }
                (_, Some(_)) => return self.value().map(Some),
            }
        }
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Record, Problem>;

    fn next(&mut self) -> Option<Result<Record, Problem>> {
        if self.mode == Mode::Begin {
            self.mode = Mode::Lines;
            match self.begins_with_values() {
                Ok(true) => self.mode = Mode::Values,
                Ok(false) => {}
                Err(problem) => return Some(Err(problem)),
            }
        }
        match self.mode {
            Mode::End => None,
            Mode::Lines => self.line().transpose(),
            _ => self.values().transpose(),
        }
    }
}

/// Finds the end of a JSON value that comes in pieces, by its brackets and quotes.
#[derive(Debug, Default)]
pub struct Cut {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// A value without brackets and quotes has begun, as a number.
    bare: bool,
}

impl Cut {
    /// The number of bytes of `piece` up to the end of the value; `None` if the value does not end in this piece. A separator where a value
    /// should begin counts as a value of one byte.
    pub fn end(&mut self, piece: &[u8]) -> Option<usize> {
        for (at, &byte) in piece.iter().enumerate() {
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_text = false;
                        if self.depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' if self.bare => return Some(at),
                b'"' => self.in_text = true,
                b'{' | b'[' if self.bare => return Some(at),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => return Some(at.max(usize::from(!self.bare))),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                b',' | b' ' | b'\t' | b'\n' | b'\r' if self.depth == 0 => return Some(at.max(usize::from(!self.bare))),
                _ => self.bare |= self.depth == 0,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Each record as its line and text, each problem as its line and message. They must be the same however many bytes a read returns.
    fn read(bytes: &[u8], most: usize) -> Vec<String> {
        let with = |capacity| -> Vec<String> {
            let records = Records::new(BufReader::with_capacity(capacity, bytes), most);
            let shown = |record| match record {
                Ok(Record { line, text }) => format!("{line} {text}"),
                Err(Problem::Record { line, what }) => format!("{line}! {what}"),
                Err(Problem::Io(error)) => error.to_string(),
            };
            records.map(shown).collect()
        };
        let found = with(1);
        for capacity in [2, 7, 4096] {
            assert_eq!(with(capacity), found, "{capacity}");
        }
        found
    }

    #[test]
    fn lines_are_records() {
        assert_eq!(read(b"a\n\n b \r\nc\rd", 10), ["1 a", "3 b ", "4 c", "5 d"]);
        assert_eq!(read(b"{\"a\":1}\n{bad\n{\"a\":2}", 10), ["1 {\"a\":1}", "2 {bad", "3 {\"a\":2}"]);
        assert_eq!(read(b"[\"a\", \"b\"]\n[1]", 20), ["1 [\"a\", \"b\"]", "2 [1]"]);
        assert_eq!(read(b"[draft] a text\nb", 20), ["1 [draft] a text", "2 b"]);
        assert_eq!(read(b"{\"a\": \"cut\n{}", 20), ["1 {\"a\": \"cut", "2 {}"]);
        assert_eq!(read(b"a\nlong line\nb", 5), ["1 a", "2! it is longer than 5 bytes", "3 b"]);
        assert_eq!(read(b"a\n\xff\nb", 5), ["1 a", "2! it is not UTF-8 at byte 0", "3 b"]);
        assert!(read(b"", 5).is_empty() && read(b"\r\n \n", 5).is_empty());
    }

    #[test]
    fn lists_and_values_over_several_lines_are_records() {
        let two = ["{\"a\": 1}", "{\"b\": [\"]\"]}"];
        for (text, lines) in [
            ("[{\"a\": 1}, {\"b\": [\"]\"]}]", [1, 1]),
            ("\n[\n  {\"a\": 1},\r\n  {\"b\": [\"]\"]}\n]\n", [3, 4]),
            ("[\r{\"a\": 1}\r,\r{\"b\": [\"]\"]}]", [2, 4]),
        ] {
            let expected: Vec<String> = lines.iter().zip(two).map(|(line, text)| format!("{line} {text}")).collect();
            assert_eq!(read(text.as_bytes(), 100), expected, "{text}");
        }
        assert_eq!(read(b"{\n\"a\": 1\n}\n{\"b\": 2}", 100), ["1 {\n\"a\": 1\n}", "4 {\"b\": 2}"]);
        assert!(read(b"[]", 100).is_empty());
        let cut = ["2 {}", "1! the list that begins here has no end"];
        assert_eq!(read(b"[\n{}", 100), cut);
        assert_eq!(read(b"[\n{} {}]", 100), ["2 {}", "2! expected `,` or `]` after an element of the list"]);
        assert_eq!(read(b"[\n{\"a\": \"long\"}]", 5), ["2! it is longer than 5 bytes"]);
    }

    #[test]
    fn other_encodings_and_files_are_decoded_or_named() {
        let wide: Vec<u8> = "\u{feff}{\"a\":\"мир\"}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&wide, 100), ["1 {\"a\":\"мир\"}"]);
        let found: Vec<_> = Records::new(&wide[2..], 100).collect();
        let [Err(Problem::Record { line: 1, what })] = &found[..] else { panic!("{found:?}") };
        assert!(what.contains("UTF-16LE"), "{what}");
        assert_eq!(read(b"\x1f\x8b\x08\0\0\0\0\0", 100), ["1! this is gzip, not text"]);
    }
}
