//! Decodes bytes to UTF-8. A byte order mark selects UTF-8, UTF-16 or UTF-32 and is dropped. A file that is recognised as something else
//! than text is refused with an error that names its type; UTF-16 or UTF-32 without a mark, with one that names the encoding.

use std::fmt;
use std::io::{self, BufRead, Read};

use crate::magic;

/// The most bytes that are decoded at a time.
const CHUNK: usize = 1 << 15;

/// The most bytes of the beginning in which UTF-16 and UTF-32 without a mark are looked for.
const SAMPLE: usize = 4096;

/// Why bytes are not text. It is wrapped in an [`io::Error`], because `BufRead` returns those.
#[derive(Debug, Clone)]
pub enum NotText {
    /// The bytes are a file of this kind.
    Other(&'static str),
    /// The bytes are text in this encoding, which has to begin with a byte order mark and does not.
    Unmarked(&'static str),
    /// The text has a unit that is no character.
    Invalid {
        /// The encoding that the byte order mark selected.
        encoding: &'static str,
        /// The byte of the file at which the unit begins.
        at: u64,
    },
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotText::Other(kind) => write!(f, "this is {kind}, not text"),
            NotText::Unmarked(encoding) => {
                write!(f, "this is {encoding} without a byte order mark: `iconv -f {encoding} -t UTF-8` converts it")
            }
            NotText::Invalid { encoding, at } => write!(f, "byte {at}: invalid {encoding}"),
        }
    }
}

impl std::error::Error for NotText {}

impl NotText {
    /// The [`NotText`] inside an error of a [`Decoded`] stream; `None` if the error is the operating system's.
    pub fn of(error: &io::Error) -> Option<&NotText> {
        error.get_ref().and_then(|error| error.downcast_ref())
    }
}

impl From<NotText> for io::Error {
    fn from(error: NotText) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    Utf8,
    Utf16 { big: bool },
    Utf32 { big: bool },
}

/// Byte order marks. That of little-endian UTF-32 begins with that of little-endian UTF-16, so it comes first.
const MARKS: [(&[u8], Encoding); 5] = [
    (b"\xff\xfe\0\0", Encoding::Utf32 { big: false }),
    (b"\0\0\xfe\xff", Encoding::Utf32 { big: true }),
    (b"\xff\xfe", Encoding::Utf16 { big: false }),
    (b"\xfe\xff", Encoding::Utf16 { big: true }),
    (b"\xef\xbb\xbf", Encoding::Utf8),
];

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16 { .. } => "UTF-16",
            Encoding::Utf32 { .. } => "UTF-32",
        }
    }

    /// Decodes the next character of UTF-16 or UTF-32 and returns it with its length in bytes. `Ok(None)` means that more bytes are needed, or
    /// that none are left; `Err`, that this many bytes are no character. `ended` says that no bytes follow.
    fn next(self, bytes: &[u8], ended: bool) -> Result<Option<(char, usize)>, usize> {
        let unit = |at: usize| {
            let pair = bytes.get(at..at + 2)?.try_into().ok()?;
            Some(if matches!(self, Encoding::Utf16 { big: true }) {
                u16::from_be_bytes(pair)
            } else {
                u16::from_le_bytes(pair)
            })
        };
        let missing = |needed: usize| if ended && !bytes.is_empty() { Err(bytes.len().min(needed)) } else { Ok(None) };
        if let Encoding::Utf32 { big } = self {
            let Some(word) = bytes.first_chunk::<4>() else { return missing(4) };
            let word = if big { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) };
            return char::from_u32(word).map(|c| Some((c, 4))).ok_or(4);
        }
        let Some(first) = unit(0) else { return missing(2) };
        let second = match (first, unit(2)) {
            // The first half of a surrogate pair, and nothing after it yet.
            (0xd800..=0xdbff, None) if !ended => return Ok(None),
            (0xd800..=0xdbff, second) => second,
            _ => None,
        };
        match char::decode_utf16([Some(first), second].into_iter().flatten()).next() {
            Some(Ok(c)) => Ok(Some((c, c.len_utf16() * 2))),
            _ => Err(2),
        }
    }
}

/// Whether bytes are UTF-8 without control characters other than white space and NUL. At most a quarter of the bytes may be NUL.
fn is_text(sample: &[u8]) -> bool {
    let is_odd = |byte: &&u8| **byte < b' ' && !matches!(**byte, 0 | b'\t' | b'\n' | b'\r' | b'\x0c');
    let nuls = sample.iter().filter(|byte| **byte == 0).count();
    // The end of the sample may be a part of a character.
    std::str::from_utf8(sample).map_or_else(|e| e.error_len().is_none(), |_| true)
        && nuls * 4 <= sample.len()
        && !sample.iter().any(|byte| is_odd(&byte))
}

/// Whether bytes are text as [`is_text`] defines it, or begin with a line of such text, whatever follows. A NUL after the line feed would be
/// the second byte of a line feed in UTF-16, so such a line does not count.
fn begins_as_text(sample: &[u8]) -> bool {
    let end = sample.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let first = &sample[..end];
    let is_line = !first.is_empty() && sample.get(end + 1) != Some(&0) && !first.contains(&0) && is_text(first);
    is_line || is_text(sample)
}

/// The name of the UTF-16 or UTF-32 encoding that the beginning of a file without a mark is in, if any. In that encoding the whole sample has to
/// decode, without control characters other than white space, and to contain ASCII; the encoding that gives the most ASCII is chosen. With the
/// wrong byte order ASCII becomes other characters: a line feed would be U+0A00, which is unassigned.
fn unmarked(sample: &[u8]) -> Option<&'static str> {
    let ascii = |encoding: Encoding| {
        let (mut at, mut ascii) = (0, 0);
        // The end of the sample may be half of a character.
        while let Some((c, length)) = encoding.next(&sample[at..], false).ok()? {
            if c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}') {
                return None;
            }
            ascii += usize::from(c.is_ascii());
            at += length;
        }
        Some(ascii).filter(|&ascii| ascii > 0)
    };
    // Text in UTF-32 never passes as UTF-16, because the upper half of most of its characters would be a NUL.
    let wide = [
        (Encoding::Utf32 { big: false }, "UTF-32LE"),
        (Encoding::Utf32 { big: true }, "UTF-32BE"),
        (Encoding::Utf16 { big: false }, "UTF-16LE"),
        (Encoding::Utf16 { big: true }, "UTF-16BE"),
    ];
    let found = wide.into_iter().filter_map(|(encoding, name)| Some((ascii(encoding)?, name)));
    found.max_by_key(|(ascii, _)| *ascii).map(|(_, name)| name)
}

/// A stream whose bytes are decoded to UTF-8 as they are read. UTF-8 passes through unchanged, valid or not, because its reader can report the
/// line of an invalid byte.
pub struct Decoded<R> {
    inner: R,
    /// Known once the first bytes have been looked at.
    encoding: Option<Encoding>,
    lossy: bool,
    /// Bytes that were read and are not decoded yet: the beginning of the stream, or of a character.
    raw: Vec<u8>,
    /// The place of `raw` in the stream.
    offset: u64,
    /// Decoded bytes, of which the reader has consumed the first `taken`.
    ready: Vec<u8>,
    taken: usize,
    /// The length of the byte order mark in bytes; 0 without one.
    mark: u64,
    /// The error to return when the reader has consumed all of `ready`.
    failed: Option<NotText>,
}

impl<R: BufRead> Decoded<R> {
    /// The text of `inner`. With `lossy`, units that are no characters become U+FFFD; else they are an error.
    pub fn new(inner: R, lossy: bool) -> Self {
        Decoded {
            inner,
            encoding: None,
            lossy,
            raw: Vec::new(),
            offset: 0,
            ready: Vec::new(),
            taken: 0,
            mark: 0,
            failed: None,
        }
    }

    /// The length of the dropped byte order mark if the input is UTF-8: the place in the input of the first byte that is read here. 0 for other
    /// encodings, and before anything was read.
    pub fn skipped(&self) -> u64 {
        if self.encoding == Some(Encoding::Utf8) { self.mark } else { 0 }
    }

    /// Looks at as many bytes as it takes to tell what the stream is.
    fn begin(&mut self) -> io::Result<Encoding> {
        let undecided = |head: &[u8]| {
            let marks = MARKS.iter().any(|(mark, _)| mark.len() > head.len() && mark.starts_with(head));
            head.len() < magic::HEAD && (head.is_empty() || marks || magic::is_undecided(head))
        };
        // The sample is what the first read returns: more bytes may never come.
        let sample = self.inner.fill_buf()?;
        let sample = &sample[..sample.len().min(SAMPLE)];
        let wide = if sample.contains(&0) && !begins_as_text(sample) { unmarked(sample) } else { None };
        while undecided(&self.raw) && self.read_raw(magic::HEAD)? > 0 {}
        if let Some(kind) = magic::kind(&self.raw) {
            return Err(NotText::Other(kind).into());
        }
        let mark = MARKS.iter().find(|(mark, _)| self.raw.starts_with(mark));
        if let (None, Some(encoding)) = (mark, wide) {
            return Err(NotText::Unmarked(encoding).into());
        }
        let (mark, encoding) = mark.map_or((0, Encoding::Utf8), |(mark, encoding)| (mark.len(), *encoding));
        self.raw.drain(..mark);
        self.mark = mark as u64;
        self.offset = self.mark;
        if encoding == Encoding::Utf8 {
            self.ready = std::mem::take(&mut self.raw);
        }
        self.encoding = Some(encoding);
        Ok(encoding)
    }

    /// Moves up to `most` bytes from the stream to `raw` and returns how many. 0 means that the stream has ended.
    fn read_raw(&mut self, most: usize) -> io::Result<usize> {
        let bytes = self.inner.fill_buf()?;
        let taken = bytes.len().min(most);
        self.raw.extend_from_slice(&bytes[..taken]);
        self.inner.consume(taken);
        Ok(taken)
    }

    /// Decodes until `ready` has bytes or the stream has ended.
    fn decode(&mut self, encoding: Encoding) -> io::Result<()> {
        self.ready.clear();
        self.taken = 0;
        let mut ended = false;
        while self.ready.is_empty() && !ended {
            if let Some(failed) = self.failed.clone() {
                return Err(failed.into());
            }
            ended = self.read_raw(CHUNK)? == 0;
            let mut at = 0;
            loop {
                match encoding.next(&self.raw[at..], ended) {
                    Ok(None) => break,
                    Ok(Some((c, length))) => {
                        self.ready.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        at += length;
                    }
                    Err(length) if self.lossy => {
                        self.ready.extend_from_slice("\u{fffd}".as_bytes());
                        at += length;
                    }
                    Err(_) => {
                        let at = self.offset + at as u64;
                        self.failed = Some(NotText::Invalid { encoding: encoding.name(), at });
                        ended = false;
                        break;
                    }
                }
            }
            self.raw.drain(..at);
            self.offset += at as u64;
        }
        Ok(())
    }
}

impl<R: BufRead> BufRead for Decoded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let encoding = match self.encoding {
            Some(encoding) => encoding,
            None => self.begin()?,
        };
        if self.taken < self.ready.len() {
            return Ok(&self.ready[self.taken..]);
        }
        if encoding == Encoding::Utf8 {
            return self.inner.fill_buf();
        }
        self.decode(encoding)?;
        Ok(&self.ready)
    }

    fn consume(&mut self, bytes: usize) {
        if self.taken < self.ready.len() {
            self.taken += bytes;
        } else {
            self.inner.consume(bytes);
        }
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    const TEXT: &str = "hello\nмир 苹果\r\n𝄞👍\u{0}z";

    /// `text` with a byte order mark, in the encoding of that name.
    fn encoded(text: &str, name: &str) -> Vec<u8> {
        let text = format!("\u{feff}{text}");
        let units = || text.encode_utf16();
        match name {
            "utf-8" => text.clone().into_bytes(),
            "utf-16le" => units().flat_map(u16::to_le_bytes).collect(),
            "utf-16be" => units().flat_map(u16::to_be_bytes).collect(),
            "utf-32le" => text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(),
            _ => text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
        }
    }

    /// All that a [`Decoded`] stream gives of `bytes`, which it reads in pieces of up to `capacity` bytes.
    fn decoded(bytes: &[u8], capacity: usize, lossy: bool) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Decoded::new(BufReader::with_capacity(capacity, bytes), lossy).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn marks_tell_the_encoding() {
        for name in ["utf-8", "utf-16le", "utf-16be", "utf-32le", "utf-32be"] {
            let bytes = encoded(TEXT, name);
            for capacity in [1, 2, 3, 5, 4096] {
                assert_eq!(decoded(&bytes, capacity, false).unwrap(), TEXT.as_bytes(), "{name}, {capacity}");
            }
            assert_eq!(decoded(&encoded("", name), 1, false).unwrap(), b"", "{name}");
        }
        for text in ["", "a", "\u{0}", "plain"] {
            assert_eq!(decoded(text.as_bytes(), 1, false).unwrap(), text.as_bytes());
        }
        let long = "ab苹".repeat(50_000);
        assert_eq!(decoded(&encoded(&long, "utf-16le"), 4096, false).unwrap(), long.as_bytes());
    }

    #[test]
    fn the_place_of_an_invalid_unit_is_said_or_the_unit_replaced() {
        for (bytes, encoding, at, replaced) in [
            (&b"\xff\xfea\0\x3d\xd8b\0"[..], "UTF-16", 4, "a\u{fffd}b"),
            (b"\xff\xfea\0\x3d\xd8", "UTF-16", 4, "a\u{fffd}"),
            (b"\xff\xfea\0\x4d\xdcb\0", "UTF-16", 4, "a\u{fffd}b"),
            (b"\xfe\xff\0a\0", "UTF-16", 4, "a\u{fffd}"),
            (b"\xff\xfe\0\0a\0\0\0\0\0\x11\0", "UTF-32", 8, "a\u{fffd}"),
            (b"\0\0\xfe\xff\0\0\0a\0", "UTF-32", 8, "a\u{fffd}"),
        ] {
            for capacity in [1, 3, 64] {
                let error = decoded(bytes, capacity, false).unwrap_err();
                assert_eq!(error.to_string(), format!("byte {at}: invalid {encoding}"));
                assert_eq!(String::from_utf8(decoded(bytes, capacity, true).unwrap()).unwrap(), replaced);
            }
        }
    }

    #[test]
    fn a_file_that_is_not_text_is_named() {
        let error = decoded(b"\x1f\x8b\x08\0\0\0\0\0", 1, true).unwrap_err();
        assert_eq!(error.to_string(), "this is gzip, not text");
    }

    #[test]
    fn utf_16_and_utf_32_without_a_mark_are_named() {
        let name = |bytes: &[u8], lossy| match NotText::of(&decoded(bytes, 4096, lossy).unwrap_err()) {
            Some(NotText::Unmarked(encoding)) => (*encoding).to_owned(),
            other => panic!("{other:?}"),
        };
        for text in
            ["hello\nworld\n", "你好世界\n苹果\n", "\nhello", "{\"text\":\"мир\"}\r\n", "a", "id,text\n1,ตัวอย่าง\n"]
        {
            for encoding in ["utf-16le", "utf-16be", "utf-32le", "utf-32be"] {
                let marked = encoded(text, encoding);
                let mark = if encoding.starts_with("utf-16") { 2 } else { 4 };
                let expected = encoding.to_uppercase();
                for lossy in [false, true] {
                    assert_eq!(name(&marked[mark..], lossy), expected, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_with_nul_that_are_not_utf_16_or_32_pass_unchanged() {
        for bytes in [&b"a\0b\n"[..], b"\0\0\0\0", b"\0", b"plain text\0", b"\x01\0\x02\0", "мир\0\n".as_bytes()] {
            assert_eq!(decoded(bytes, 4096, false).unwrap(), bytes, "{bytes:?}");
        }
    }
}
