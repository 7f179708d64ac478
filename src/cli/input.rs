//! Records from lines or JSONL, one at a time: memory is bounded by the longest record.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::args::InputFormat;
use super::exit::{Failure, Result};

/// Longest line that is read.
const MAX_LINE_BYTES: usize = 64 << 20;

/// What a record asks to embed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Text(String),
    Ids(Vec<u32>),
}

/// One record of the input.
#[derive(Debug)]
pub(super) struct Record {
    /// The record's `id`, as the input wrote it.
    pub id: Option<Box<RawValue>>,
    pub content: Content,
    /// Line of the input, from 1; 0 for a text of the command line.
    pub line: u64,
}

/// Lines of a stream. LF, CR LF and CR all end one; the last needs no end. A byte order mark at the very start is dropped.
pub(super) struct Lines<R> {
    reader: R,
    name: String,
    /// `None`: the command does not have that option.
    lossy: Option<bool>,
    line: u64,
    /// Bytes read before the current line.
    offset: u64,
    /// The last line ended with CR: a LF that follows belongs to it.
    after_cr: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, name: String, lossy: Option<bool>) -> Self {
        Lines { reader, name, lossy, line: 0, offset: 0, after_cr: false }
    }

    /// The next line without its end, and its number.
    pub(super) fn next(&mut self) -> Result<Option<(u64, String)>> {
        let Some((start, bytes)) = self.next_bytes()? else { return Ok(None) };
        let (start, bytes) = match bytes.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if start == 0 => (3, rest.to_vec()),
            _ => (start, bytes),
        };
        let line = self.line;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((line, text))),
            Err(error) if self.lossy == Some(true) => {
                Ok(Some((line, String::from_utf8_lossy(error.as_bytes()).into_owned())))
            }
            Err(error) => {
                let at = start + error.utf8_error().valid_up_to() as u64;
                let advice = if self.lossy.is_some() { " (--lossy replaces it)" } else { "" };
                Err(Failure::input(format!("{}: line {line}, byte {at}: invalid UTF-8{advice}", self.name)))
            }
        }
    }

    /// The next line's bytes, and where they begin.
    fn next_bytes(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let mut bytes = Vec::new();
        let mut start = self.offset;
        let mut any = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::io(&self.name, &error)),
            };
            if buffer.is_empty() {
                self.line += u64::from(any);
                return Ok(any.then_some((start, bytes)));
            }
            if std::mem::take(&mut self.after_cr) && buffer[0] == b'\n' {
                self.reader.consume(1);
                self.offset += 1;
                start = self.offset;
                continue;
            }
            any = true;
            let end = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(buffer.len());
            if bytes.len() + taken > MAX_LINE_BYTES {
                let (name, line) = (&self.name, self.line + 1);
                return Err(Failure::input(format!("{name}: line {line} is longer than {} MiB", MAX_LINE_BYTES >> 20)));
            }
            bytes.extend_from_slice(&buffer[..taken]);
            self.after_cr = end.is_some_and(|end| buffer[end] == b'\r');
            let consumed = taken + usize::from(end.is_some());
            self.reader.consume(consumed);
            self.offset += consumed as u64;
            if end.is_some() {
                self.line += 1;
                return Ok(Some((start, bytes)));
            }
        }
    }
}

/// A line of JSONL. Fields that are not known are left alone.
#[derive(Deserialize)]
struct JsonRecord {
    id: Option<Box<RawValue>>,
    text: Option<String>,
    input_ids: Option<Vec<u32>>,
}

/// Records of a stream.
pub(super) struct Records<R> {
    lines: Lines<R>,
    /// Decided by the first line that is not blank.
    jsonl: Option<bool>,
    /// Lines that were read to decide.
    pending: std::collections::VecDeque<(u64, String)>,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(lines: Lines<R>, format: InputFormat, path: Option<&Path>) -> Self {
        let extension = path.and_then(Path::extension).and_then(|e| e.to_str());
        let jsonl = match (format, extension) {
            (InputFormat::Lines, _) => Some(false),
            (InputFormat::Jsonl, _) | (InputFormat::Auto, Some("jsonl" | "ndjson")) => Some(true),
            (InputFormat::Auto, _) => None,
        };
        Records { lines, jsonl, pending: Default::default() }
    }

    fn next_line(&mut self) -> Result<Option<(u64, String)>> {
        match self.pending.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }

    /// Looks at the first line that is not blank: JSONL if it is an object with a text or ids.
    fn decide(&mut self) -> Result<bool> {
        if let Some(jsonl) = self.jsonl {
            return Ok(jsonl);
        }
        let mut jsonl = false;
        while let Some((number, line)) = self.lines.next()? {
            let blank = line.trim().is_empty();
            if line.trim_start().starts_with('{') {
                let record = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(&line);
                jsonl = record.is_ok_and(|record| record.contains_key("text") || record.contains_key("input_ids"));
            }
            self.pending.push_back((number, line));
            // Blank lines are kept until it is known what they are; a file of a million of them is lines.
            if !blank || self.pending.len() > 100_000 {
                break;
            }
        }
        Ok(*self.jsonl.insert(jsonl))
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        let jsonl = self.decide()?;
        loop {
            let Some((line, text)) = self.next_line()? else { return Ok(None) };
            if !jsonl {
                return Ok(Some(Record { id: None, content: Content::Text(text), line }));
            }
            if text.trim().is_empty() {
                continue;
            }
            let bad = |what: String| Failure::input(format!("{}: line {line}: {what}", self.lines.name));
            let record: JsonRecord =
                serde_json::from_str(&text).map_err(|e| bad(format!("not a JSON record: {}", json_error(&e))))?;
            let content = match (record.text, record.input_ids) {
                (Some(text), None) => Content::Text(text),
                (None, Some(ids)) => Content::Ids(ids),
                (Some(_), Some(_)) => return Err(bad("the record has both `text` and `input_ids`".to_owned())),
                (None, None) => return Err(bad("the record has neither `text` nor `input_ids`".to_owned())),
            };
            return Ok(Some(Record { id: record.id, content, line }));
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.lines.name
    }
}

/// serde_json's message with the column alone: its line is always 1 here.
pub(super) fn json_error(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
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
    /// What errors call it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(bytes: &[u8], capacity: usize, lossy: bool) -> Result<Vec<(u64, String)>> {
        let mut lines = Lines::new(BufReader::with_capacity(capacity, bytes), "in".into(), Some(lossy));
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push(line);
        }
        Ok(all)
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        lines(bytes, 3, true).unwrap().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn row_24_all_line_ends() {
        assert_eq!(texts(b"a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
        assert_eq!(texts(b"a\n\n\nb\n"), ["a", "", "", "b"]);
        assert_eq!(texts(b"\r\n\r\n"), ["", ""]);
        assert_eq!(texts(b"\r\r\n\n"), ["", "", ""]);
        assert_eq!(texts(b""), [""; 0]);
        assert_eq!(texts(b"\xef\xbb\xbfa\n\xef\xbb\xbfb"), ["a", "\u{feff}b"]);
    }

    #[test]
    fn row_16_invalid_utf8_is_placed() {
        let Err(Failure::Message { code, message }) = lines(b"ab\r\nc\xffd\n", 2, false) else { panic!() };
        assert_eq!((code, message.as_str()), (3, "in: line 2, byte 5: invalid UTF-8 (--lossy replaces it)"));
        assert_eq!(texts(b"c\xffd"), ["c\u{fffd}d"]);
    }

    fn records(text: &str, format: InputFormat) -> Result<Vec<Record>> {
        let mut records = Records::new(Lines::new(text.as_bytes(), "in".into(), Some(false)), format, None);
        let mut all = Vec::new();
        while let Some(record) = records.next()? {
            all.push(record);
        }
        Ok(all)
    }

    #[test]
    fn the_first_line_decides() {
        let jsonl =
            records("\n {\"text\":\"a\",\"id\": [1, 2] }\n\n{\"input_ids\":[0,2],\"x\":1}\n", InputFormat::Auto)
                .unwrap();
        assert_eq!(jsonl.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(jsonl[0].id.as_ref().unwrap().get(), "[1, 2]");
        assert_eq!(jsonl[1].content, Content::Ids(vec![0, 2]));
        let plain = records("\n{\"no\":1}\n{\"text\":\"a\"}", InputFormat::Auto).unwrap();
        assert_eq!(plain.len(), 3);
        assert_eq!(plain[2].content, Content::Text("{\"text\":\"a\"}".into()));
        assert_eq!(
            records("{\"text\":\"a\"}", InputFormat::Lines).unwrap()[0].content,
            Content::Text("{\"text\":\"a\"}".into())
        );
    }

    #[test]
    fn bad_records_name_their_line() {
        for (line, what) in [
            ("[]", "not a JSON record"),
            ("{\"text\":1}", "column"),
            ("{}", "neither"),
            ("{\"text\":\"a\",\"input_ids\":[]}", "both"),
            ("{\"text\":\"\\ud800\"}", "hex escape"),
            ("{\"input_ids\":[-1]}", "-1"),
            ("{\"text\":\"a\"", "EOF"),
        ] {
            let Err(Failure::Message { code: 3, message }) =
                records(&format!("{{\"text\":\"\"}}\n\n{line}"), InputFormat::Jsonl)
            else {
                panic!("{line}")
            };
            assert!(message.starts_with("in: line 3: ") && message.contains(what), "{line}: {message}");
        }
    }

    proptest! {
        #[test]
        fn buffers_of_any_size_give_the_same_lines(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a')], 0..40), capacity in 1usize..9) {
            let text = String::from_utf8(bytes.clone()).unwrap().replace("\r\n", "\n").replace('\r', "\n");
            let expected: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
            let found: Vec<String> = lines(&bytes, capacity, false).unwrap().into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
