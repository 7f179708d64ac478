//! Reads the bytes of an input, knows at which line and column they are, and makes the errors about bytes that are no text.

use std::io::{self, BufRead};

use crate::exit::{Failure, Result};
use trivec::decode::{Decoded, NotText};

/// The most bytes of a line, an element of a list or a row.
pub(super) const MAX_RECORD_BYTES: usize = 64 << 20;

/// A place of the input, for people: line and column, both from 1. The column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub line: u64,
    pub column: u64,
}

/// An input that is decoded to UTF-8 as it is read, and that knows the place of its next byte.
pub(crate) struct Source<R> {
    reader: Decoded<R>,
    pub(super) name: String,
    /// Whether invalid text is replaced; `None`: the command does not have the options that say how input is read.
    pub(super) lossy: Option<bool>,
    /// Bytes that were read; the first `taken` of them were consumed.
    chunk: Vec<u8>,
    taken: usize,
    /// Place in the stream of the next byte to consume.
    offset: u64,
    /// How many lines ended before that byte. LF, CR LF and CR all end one.
    ended: u64,
    /// How many characters of its line come before that byte.
    characters: u64,
    /// Whether the last byte consumed was a CR: a LF that follows belongs to the same line end.
    after_cr: bool,
}

impl<R: BufRead> Source<R> {
    pub(crate) fn new(reader: R, name: String, lossy: Option<bool>) -> Self {
        Source {
            reader: Decoded::new(reader, lossy == Some(true)),
            name,
            lossy,
            chunk: Vec::new(),
            taken: 0,
            offset: 0,
            ended: 0,
            characters: 0,
            after_cr: false,
        }
    }

    /// Reads more bytes and appends them to those that were not consumed yet. Returns false at the end of the input.
    fn read(&mut self) -> Result<bool> {
        self.chunk.drain(..self.taken);
        self.taken = 0;
        loop {
            match self.reader.fill_buf() {
                Ok(bytes) => {
                    let read = bytes.len();
                    self.chunk.extend_from_slice(bytes);
                    self.reader.consume(read);
                    if self.offset == 0 {
                        self.offset = self.reader.skipped();
                    }
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(&error)),
            }
        }
    }

    /// The failure for an error of reading: bytes that are no text, or an I/O error.
    fn failure(&self, error: &io::Error) -> Failure {
        let name = &self.name;
        match NotText::of(error) {
            Some(NotText::Other(kind)) => {
                Failure::input(format!("{name}: this is {kind}, not text: {}", how_to_read(kind)))
            }
            Some(unmarked @ NotText::Unmarked(_)) => Failure::input(format!("{name}: {unmarked}")),
            Some(invalid) => {
                // The error is behind all bytes that were read, those that are not consumed yet included.
                let line = self.ended + 1 + newlines(&self.chunk[self.taken..]);
                Failure::input(format!("{name}: line {line}, {invalid}{}", self.advice("--lossy replaces it")))
            }
            None => Failure::io(name, error),
        }
    }

    /// Advice about an option, in brackets; nothing if the command does not have the options for its input.
    pub(super) fn advice(&self, text: &str) -> String {
        if self.lossy.is_some() { format!(" ({text})") } else { String::new() }
    }

    /// The bytes that were read and not consumed. Reads more if there are none, so that only the end of the input gives none.
    pub(super) fn available(&mut self) -> Result<&[u8]> {
        if self.taken == self.chunk.len() {
            self.read()?;
        }
        Ok(&self.chunk[self.taken..])
    }

    /// Reads until `enough` holds for the bytes that are not consumed yet, or until the end, and returns these bytes.
    pub(super) fn look(&mut self, enough: impl Fn(&[u8]) -> bool) -> Result<&[u8]> {
        while !enough(&self.chunk[self.taken..]) && self.read()? {}
        Ok(&self.chunk[self.taken..])
    }

    /// The next byte, which is not consumed.
    pub(super) fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.available()?.first().copied())
    }

    /// Consumes `bytes` of the available bytes, and counts the lines that end in them.
    pub(super) fn take(&mut self, bytes: usize) {
        let taken = &self.chunk[self.taken..self.taken + bytes];
        let mut last = taken;
        for (at, &byte) in taken.iter().enumerate().filter(|(_, byte)| matches!(byte, b'\n' | b'\r')) {
            let second = byte == b'\n' && if at == 0 { self.after_cr } else { taken[at - 1] == b'\r' };
            self.ended += u64::from(!second);
            self.characters = 0;
            last = &taken[at + 1..];
        }
        self.characters += characters(last);
        self.after_cr = taken.last().map_or(self.after_cr, |&last| last == b'\r');
        self.offset += bytes as u64;
        self.taken += bytes;
    }

    /// Consumes the LF of a CR LF whose CR has been consumed. Returns whether there was one.
    pub(super) fn take_second_half(&mut self) -> Result<bool> {
        let there = self.after_cr && self.peek()? == Some(b'\n');
        if there {
            self.take(1);
        }
        Ok(there)
    }

    /// Where the next byte is.
    pub(super) fn place(&self) -> Place {
        Place { line: self.ended + 1, column: self.characters + 1 }
    }

    /// Place of the next byte in the stream, from 0.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The failure for something wrong in a line.
    pub(super) fn refuse(&self, line: u64, what: impl std::fmt::Display) -> Failure {
        Failure::input(format!("{}: line {line}: {what}", self.name))
    }

    /// The failure for something wrong at a place.
    pub(super) fn refuse_at(&self, place: Place, what: impl std::fmt::Display) -> Failure {
        Failure::input(format!("{}: line {}, column {}: {what}", self.name, place.line, place.column))
    }

    /// Converts `bytes` of the input, which begin in line `line` at byte `start`, to text. Invalid UTF-8 and NUL are an error that says
    /// where; with `--lossy` they become U+FFFD.
    pub(super) fn text(&self, bytes: Vec<u8>, line: u64, start: u64) -> Result<String> {
        let place = |at: usize| format!("line {}, byte {}", line + newlines(&bytes[..at]), start + at as u64);
        if let Some(at) = bytes.iter().position(|&byte| byte == 0).filter(|_| self.lossy != Some(true)) {
            let (place, advice) = (place(at), self.advice("--lossy replaces it"));
            return Err(Failure::input(format!(
                "{}: {place}: a NUL byte, which text does not have{advice}",
                self.name
            )));
        }
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(text),
            Ok(text) => Ok(text.replace('\0', "\u{fffd}")),
            Err(error) if self.lossy == Some(true) => {
                Ok(String::from_utf8_lossy(error.as_bytes()).replace('\0', "\u{fffd}"))
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let (line, at) = (line + newlines(&error.as_bytes()[..at]), start + at as u64);
                let advice = self.advice("--lossy replaces it");
                Err(Failure::input(format!("{}: line {line}, byte {at}: invalid UTF-8{advice}", self.name)))
            }
        }
    }
}

/// How many characters begin in `bytes`: in UTF-8, all bytes but those of the form `10xxxxxx` begin one.
fn characters(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u64
}

/// How many line ends are in `bytes`; CR LF is one.
pub(super) fn newlines(bytes: &[u8]) -> u64 {
    let ends = |at: usize| bytes[at] == b'\r' || bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r');
    (0..bytes.len()).filter(|&at| ends(at)).count() as u64
}

/// Advice about a file of another kind than text, such as gzip.
fn how_to_read(kind: &str) -> String {
    let unpack = |program: &str| format!("decompress it first, as in `{program} FILE | trivec …`");
    match kind {
        "gzip" => unpack("gzip -dc"),
        "Zstandard" => unpack("zstd -dc"),
        "xz" => unpack("xz -dc"),
        "bzip2" => unpack("bzip2 -dc"),
        "LZ4" => unpack("lz4 -dc"),
        kind if kind.contains("archive") && !kind.contains("document") => {
            "unpack it, and give the files in it".to_owned()
        }
        _ => "convert it to lines of text, JSONL, JSON, CSV or TSV first".to_owned(),
    }
}
