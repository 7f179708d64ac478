//! Rows of CSV (RFC 4180: fields in quotes may hold separators, line ends and doubled quotes) and of TSV, under a header.

use std::io::BufRead;

use super::source::{MAX_RECORD_BYTES, Source};
use crate::exit::{Failure, Result};
use crate::style::counted;

/// How many names of columns or fields a message lists at most, and how many characters of each.
pub(super) const MAX_NAMES: usize = 12;
const MAX_NAME: usize = 40;

/// Names as a message lists them: the first [`MAX_NAMES`], and of each the first [`MAX_NAME`] characters.
pub(super) fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMES).map(|name| match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("`{}…`", &name[..end]),
        None => format!("`{name}`"),
    });
    let shown: Vec<String> = shown.collect();
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// Reads the rows of a table.
pub(super) struct Table<R> {
    pub source: Source<R>,
    separator: u8,
    /// Names of the columns, once the header has been read.
    header: Vec<String>,
}

/// A row: the line in which it begins, and its fields.
type Row = (u64, Vec<String>);

impl<R: BufRead> Table<R> {
    /// `separator` is a comma or a tab. Instead of a comma, a semicolon is used if the header has semicolons and no comma: spreadsheets of
    /// many countries write so.
    pub(super) fn new(source: Source<R>, separator: u8) -> Self {
        Table { source, separator, header: Vec::new() }
    }

    /// Reads the header, and returns the indices of the columns of these names; `None` if the table is empty. A name in other case counts
    /// if no column has the name itself.
    pub(super) fn columns<const N: usize>(&mut self, names: [&str; N]) -> Result<Option<[Option<usize>; N]>> {
        if self.separator == b',' {
            let looked = self.source.look(|bytes| outside_quotes(bytes).1 || bytes.len() > MAX_RECORD_BYTES)?;
            let (header, _) = outside_quotes(looked);
            if header.contains(&b';') && !header.contains(&b',') {
                self.separator = b';';
            }
        }
        let Some((_, header)) = self.row()? else { return Ok(None) };
        self.header = header.into_iter().map(|name| name.trim().to_owned()).collect();
        let same = |name: &str| {
            let exact = self.header.iter().position(|column| column == name);
            exact.or_else(|| self.header.iter().position(|column| column.eq_ignore_ascii_case(name)))
        };
        Ok(Some(names.map(same)))
    }

    /// The columns' names, for a message.
    pub(super) fn names(&self) -> String {
        listed(&self.header)
    }

    /// The next row under the header.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let Some((line, row)) = self.row()? else { return Ok(None) };
        if row.len() != self.header.len() {
            let (found, expected) = (row.len(), self.header.len());
            let advice = self.source.advice("a field with a separator or a line end in it stands in quotes");
            return Err(self
                .source
                .refuse(line, format!("{}, but the header has {expected}{advice}", counted(found, "field"))));
        }
        Ok(Some((line, row)))
    }

    /// The next row that is not empty.
    fn row(&mut self) -> Result<Option<Row>> {
        loop {
            self.source.take_second_half()?;
            let line = self.source.place().line;
            let mut fields = Vec::new();
            let mut bytes = 0;
            loop {
                let start = self.source.offset();
                let begin = self.source.place().line;
                let mut field = Vec::new();
                let end = self.field(&mut field, MAX_RECORD_BYTES.saturating_sub(bytes))?;
                bytes += field.len();
                fields.push(self.source.text(field, begin, start)?);
                match end {
                    End::Field => {}
                    End::Row => break,
                    End::Input if fields.len() == 1 && fields[0].is_empty() => return Ok(None),
                    End::Input => return Ok(Some((line, fields))),
                }
            }
            if fields.len() > 1 || !fields[0].is_empty() {
                return Ok(Some((line, fields)));
            }
        }
    }

    /// Reads a field of at most `most` bytes and what ends it, and returns which that was.
    fn field(&mut self, field: &mut Vec<u8>, most: usize) -> Result<End> {
        if self.source.peek()? == Some(b'"') {
            self.quoted(field, most)?;
        }
        loop {
            let separator = self.separator;
            let available = self.source.available()?;
            if available.is_empty() {
                return Ok(End::Input);
            }
            let end = available.iter().position(|&byte| byte == separator || matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(available.len());
            field.extend_from_slice(&available[..taken]);
            let last = end.map(|end| available[end]);
            self.source.take(taken + usize::from(end.is_some()));
            if field.len() > most {
                return Err(self.too_long());
            }
            match last {
                Some(byte) if byte == separator => return Ok(End::Field),
                Some(_) => return Ok(End::Row),
                None => {}
            }
        }
    }

    /// Reads a field in quotes, up to its closing quote.
    fn quoted(&mut self, field: &mut Vec<u8>, most: usize) -> Result<()> {
        let begin = self.source.place();
        self.source.take(1);
        loop {
            let available = self.source.available()?;
            if available.is_empty() {
                return Err(self.source.refuse_at(begin, "the quote that opens here is never closed"));
            }
            let quote = available.iter().position(|&byte| byte == b'"');
            let taken = quote.unwrap_or(available.len());
            field.extend_from_slice(&available[..taken]);
            self.source.take(taken + usize::from(quote.is_some()));
            if field.len() > most {
                return Err(self.too_long());
            }
            if quote.is_none() {
                continue;
            }
            let place = self.source.place();
            match self.source.peek()? {
                // Two quotes stand for one quote in the text.
                Some(b'"') => {
                    field.push(b'"');
                    self.source.take(1);
                }
                Some(byte) if byte != self.separator && !matches!(byte, b'\n' | b'\r') => {
                    let what = "text after a closing quote (a quote inside a field in quotes is written twice)";
                    return Err(self.source.refuse_at(place, what));
                }
                _ => return Ok(()),
            }
        }
    }

    fn too_long(&self) -> Failure {
        self.source.refuse(self.source.place().line, format!("a row longer than {} MiB", MAX_RECORD_BYTES >> 20))
    }
}

/// The bytes of the first row that are outside quotes, and whether the row ends within `bytes`.
fn outside_quotes(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut quoted = false;
    let mut outside = Vec::new();
    for &byte in bytes {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => return (outside, true),
            _ if !quoted => outside.push(byte),
            _ => {}
        }
    }
    (outside, false)
}

/// What ended a field: a separator, a line end (and so the row), or the end of the input.
enum End {
    Field,
    Row,
    Input,
}
