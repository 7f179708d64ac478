//! Recognises what an input is by how it begins, where its name does not say it.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::Path;

use serde_json::Value;
use trivec::records::{Problem, Records};

use super::columns::{Columns, Format, MAX_RECORD_BYTES, listed};
use super::jsonl::has;
use crate::error::{Error, Result};

/// Records that are looked at: the first ones may be broken.
const LOOKED_AT: usize = 8;

/// What the first records of an input are.
#[derive(Debug, PartialEq)]
pub(super) enum Beginning {
    /// Objects of JSON, of which one has the key and the text.
    Documents,
    /// Objects of JSON, of which none has both; their fields as an error lists them.
    Objects(String),
    /// A line of names, the key's and the text's among them.
    Table(Format),
    /// Anything else.
    Other,
}

/// An input of which the first bytes were read, and come again.
pub(super) type Again<R> = Chain<Cursor<Vec<u8>>, R>;

/// Looks at the first records of an input.
///
/// # Errors
/// [`Error::Io`]. What is wrong with a record is said when it is read.
pub(super) fn look<R: Read>(mut input: R, path: &Path, columns: &Columns) -> Result<(Beginning, Again<R>)> {
    let mut seen = Vec::new();
    let found = beginning(Kept { input: &mut input, seen: &mut seen }, path, columns)?;
    Ok((found, Cursor::new(seen).chain(input)))
}

fn beginning(input: impl Read, path: &Path, columns: &Columns) -> Result<Beginning> {
    let mut fields = BTreeSet::new();
    let mut any = false;
    for record in Records::new(BufReader::new(input), MAX_RECORD_BYTES).take(LOOKED_AT) {
        let text = match record {
            Ok(record) => record.text,
            Err(Problem::Io(source)) => return Err(Error::io(path, source)),
            Err(Problem::Record { .. }) => break,
        };
        if !text.trim_start().starts_with('{') {
            match table(&text, columns) {
                Some(format) if !any => return Ok(Beginning::Table(format)),
                _ => break,
            }
        }
        let Ok(Value::Object(object)) = trivec::json::read(&text) else { continue };
        if has(&object, &columns.key) && has(&object, &columns.text) {
            return Ok(Beginning::Documents);
        }
        any = true;
        fields.extend(object.into_iter().map(|(name, _)| name));
    }
    Ok(if any { Beginning::Objects(listed(&fields)) } else { Beginning::Other })
}

/// The format of the table whose line of names this is.
fn table(line: &str, columns: &Columns) -> Option<Format> {
    [('\t', Format::Tsv), (',', Format::Csv), (';', Format::Csv)].into_iter().find_map(|(separator, format)| {
        let names: Vec<&str> = line.split(separator).map(|name| name.trim().trim_matches('"')).collect();
        [&columns.key, &columns.text].iter().all(|name| names.contains(&name.as_str())).then_some(format)
    })
}

/// An input that keeps what is read of it.
struct Kept<'a, R> {
    input: &'a mut R,
    seen: &'a mut Vec<u8>,
}

impl<R: Read> Read for Kept<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_recognised_by_its_first_records_and_comes_whole_after_it() {
        let own = Columns { key: "meta.uid".to_owned(), text: "body".to_owned(), ..Columns::default() };
        let objects = |fields: &str| Beginning::Objects(fields.to_owned());
        let plain = Columns::default();
        let long = format!("{{\"text\": \"{}\", \"id\": 1}}", "x".repeat(300_000));
        for (columns, text, expected) in [
            (&plain, "{\"id\": 1, \"text\": \"a\"}\n", Beginning::Documents),
            (&plain, "\n \n{\"id\": 1, \"text\": \"a\"}", Beginning::Documents),
            (&plain, "\u{feff}[\n{\"id\": 1, \"text\": \"a\"}]", Beginning::Documents),
            (&plain, "{\n\"id\": 1,\n\"text\": \"a\"\n}", Beginning::Documents),
            (&plain, "{\"id\": 1, \"text\": \"bro\n{\"id\": 2}\n{\"id\": 1, \"text\": \"a\"}", Beginning::Documents),
            (&plain, &long, Beginning::Documents),
            (&own, "{\"meta\": {\"uid\": 1}, \"body\": \"a\"}", Beginning::Documents),
            (&own, "{\"id\": 1, \"text\": \"a\"}", objects("`id`, `text`")),
            (&plain, "{\"id\": 1}\n{\"body\": 1}\n", objects("`body`, `id`")),
            (&plain, "{\"id\": 1}\nand text\n", objects("`id`")),
            (&plain, "id,text\n", Beginning::Table(Format::Csv)),
            (&plain, "\"text\"; \"year\" ;\"id\"\r\n1;2;3", Beginning::Table(Format::Csv)),
            (&plain, "lang\ttext\tid", Beginning::Table(Format::Tsv)),
            (&own, "body,meta.uid\n", Beginning::Table(Format::Csv)),
            (&own, "id,text\n", Beginning::Other),
            (&plain, "The text, and its id: a sentence.\n", Beginning::Other),
            (&plain, "{braces} of a text\n", Beginning::Other),
            (&plain, "{\"id\": 1, \"text\": \"never closed\n", Beginning::Other),
            (&plain, "[1] A footnote\n", Beginning::Other),
            (&plain, "[\"a\", \"b\"]\n", Beginning::Other),
            (&plain, "", Beginning::Other),
            (&plain, " \n\n", Beginning::Other),
            (&plain, "\u{1f}\u{8b}\u{8}", Beginning::Other),
        ] {
            let (found, mut again) = look(text.as_bytes(), Path::new("docs"), columns).unwrap();
            let shown: String = text.chars().take(60).collect();
            assert_eq!(found, expected, "{shown}");
            let mut all = String::new();
            again.read_to_string(&mut all).unwrap();
            assert!(all == text, "{shown}");
        }
        let wide: Vec<u8> = "\u{feff}id,text\n1,a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (found, _) = look(&wide[..], Path::new("docs"), &plain).unwrap();
        assert_eq!(found, Beginning::Table(Format::Csv), "UTF-16");
    }

    #[test]
    fn a_failing_input_is_an_error() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let found = look(Failing, Path::new("docs"), &Columns::default());
        assert!(matches!(found.map(|(found, _)| found), Err(Error::Io { .. })));
    }
}
