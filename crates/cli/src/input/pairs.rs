//! Pairs of texts from lines, JSONL, JSON, CSV or TSV.

use std::io::BufRead;

use serde_json::value::RawValue;

use super::form;
use super::json::{self, Fault, Values};
use super::lines::Lines;
use super::record::{refusal, repair};
use super::source::{Place, Source};
use super::table::{Table, listed};
use super::types::{Form, Reading};
use crate::exit::{Failure, Result};
use crate::style::counted;

/// A pair of a file.
#[derive(Debug)]
pub(crate) struct Pair {
    pub id: Option<Box<RawValue>>,
    pub a: String,
    pub b: String,
}

/// Reads the pairs of a stream.
pub(crate) struct Pairs<R> {
    reader: Reader<R>,
    columns: [String; 2],
    /// Whether the columns were asked for by name.
    is_named: bool,
}

enum Reader<R> {
    /// Each line is two texts with a tab between them, or JSON.
    Lines(Lines<R>),
    /// Each line is JSON.
    Jsonl(Lines<R>),
    Json(Values<R>),
    /// With the indices of the columns of the id and of the two texts; `None` before the header has been read.
    Table(Table<R>, Option<[Option<usize>; 3]>),
}

impl<R: BufRead> Pairs<R> {
    /// `columns` are the fields or columns of the two texts, if they are asked for by name.
    pub(crate) fn new(opened: R, name: String, reading: Reading<'_>, columns: Option<[&str; 2]>) -> Result<Self> {
        let mut source = Source::new(opened, name, reading.lossy);
        let reader = match form::of_pairs(&mut source, reading, columns)? {
            Form::Lines => Reader::Lines(Lines::new(source)),
            Form::Jsonl => Reader::Jsonl(Lines::new(source)),
            Form::Json => Reader::Json(Values::new(source, false)),
            Form::Csv => Reader::Table(Table::new(source, b','), None),
            Form::Tsv => Reader::Table(Table::new(source, b'\t'), None),
        };
        Ok(Pairs { reader, columns: columns.unwrap_or(["a", "b"]).map(str::to_owned), is_named: columns.is_some() })
    }

    /// What errors call the input.
    pub(crate) fn name(&self) -> &str {
        let source = match &self.reader {
            Reader::Lines(lines) | Reader::Jsonl(lines) => &lines.source,
            Reader::Json(values) => &values.source,
            Reader::Table(table, _) => &table.source,
        };
        &source.name
    }

    /// The next pair.
    pub(crate) fn next(&mut self) -> Result<Option<Pair>> {
        let columns = [self.columns[0].as_str(), self.columns[1].as_str()];
        match &mut self.reader {
            Reader::Lines(lines) => {
                let Some((line, text)) = next_line(lines)? else { return Ok(None) };
                let is_json =
                    text.trim_start().starts_with('{') || text.trim_start().starts_with('[') && !text.contains('\t');
                if is_json {
                    return of_json(&lines.source, Place { line, column: 1 }, &text, columns).map(Some);
                }
                if self.is_named {
                    return Err(Failure::usage(
                        "--columns: lines of two texts have no columns (--input-format tsv or csv reads a header)",
                    ));
                }
                of_line(&text).map(Some).map_err(|what| lines.source.refuse(line, what))
            }
            Reader::Jsonl(lines) => {
                let Some((line, text)) = next_line(lines)? else { return Ok(None) };
                of_json(&lines.source, Place { line, column: 1 }, &text, columns).map(Some)
            }
            Reader::Json(values) => {
                let Some((place, text)) = values.next()? else { return Ok(None) };
                of_json(&values.source, place, &text, columns).map(Some)
            }
            Reader::Table(table, found) => of_row(table, found, columns),
        }
    }
}

/// The next line that is not blank.
fn next_line<R: BufRead>(lines: &mut Lines<R>) -> Result<Option<(u64, String)>> {
    loop {
        match lines.next()? {
            Some((_, text)) if text.trim().is_empty() => {}
            next => return Ok(next),
        }
    }
}

/// Parses a line of two texts with a tab between them.
fn of_line(text: &str) -> Result<Pair, String> {
    match text.split('\t').collect::<Vec<_>>()[..] {
        [a, b] => Ok(Pair { id: None, a: a.to_owned(), b: b.to_owned() }),
        ref fields => {
            Err(format!("expected two texts with a tab between them, found {}", counted(fields.len(), "field")))
        }
    }
}

/// Parses the JSON `text`, which begins at `place` of the input, as a pair.
fn of_json<R: BufRead>(source: &Source<R>, place: Place, text: &str, columns: [&str; 2]) -> Result<Pair> {
    let text = repair(source, text);
    parse(&text, columns).map_err(|fault| refusal(source, place, &text, &fault))
}

/// Parses a pair in JSON: an object with the fields of these names, or a list of two texts.
fn parse(text: &str, [a_name, b_name]: [&str; 2]) -> Result<Pair, Fault> {
    match json::kind(text) {
        "a list" => {
            let elements = json::elements(text)?;
            let [a, b] = elements[..] else {
                let found = counted(elements.len(), "element");
                return Err(Fault::new(0, format!("a list of {found}, expected one of two texts")));
            };
            let (a, b) = (json::text_of(a, text, "[0]")?, json::text_of(b, text, "[1]")?);
            Ok(Pair { id: None, a, b })
        }
        "an object" => {
            let json::Fields { found: [id, a, b], others } = json::fields(text, ["id", a_name, b_name])?;
            let found = match others.is_empty() {
                true => String::new(),
                false => format!(
                    ", but {} (--columns names the two texts, as in --columns question,answer)",
                    listed(&others)
                ),
            };
            let missing = |name: &str| Fault::new(0, format!("the pair has no `{name}`{found}"));
            let a = json::text_of(a.ok_or_else(|| missing(a_name))?, text, a_name)?;
            let b = json::text_of(b.ok_or_else(|| missing(b_name))?, text, b_name)?;
            let id = id.map(|id| json::id_of(id, text)).transpose()?;
            Ok(Pair { id, a, b })
        }
        found => {
            Err(Fault::new(0, format!("found {found}, expected a pair, as {{\"a\": …, \"b\": …}} or [\"a\", \"b\"]")))
        }
    }
}

/// The next row of a table as a pair. `columns` are those of the id and of the two texts, once the header has been read.
fn of_row<R: BufRead>(
    table: &mut Table<R>,
    columns: &mut Option<[Option<usize>; 3]>,
    [a_name, b_name]: [&str; 2],
) -> Result<Option<Pair>> {
    let [id, a, b] = match columns {
        Some(columns) => *columns,
        None => {
            let Some(found) = table.columns(["id", a_name, b_name])? else { return Ok(None) };
            *columns.insert(found)
        }
    };
    let (Some(a), Some(b)) = (a, b) else {
        let missing = if a.is_none() { a_name } else { b_name };
        let what = format!(
            "no column `{missing}` in the header: {} (--columns names those of the two texts, as in --columns question,answer)",
            table.names()
        );
        return Err(table.source.refuse(1, what));
    };
    let Some((_, row)) = table.next()? else { return Ok(None) };
    let field = |at: usize| row.get(at).cloned().unwrap_or_default();
    let id = id.filter(|id| *id != a && *id != b).and_then(|id| serde_json::value::to_raw_value(&field(id)).ok());
    Ok(Some(Pair { id, a: field(a), b: field(b) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::InputFormat;

    fn pairs(text: &[u8], format: InputFormat, path: Option<&str>, lossy: bool) -> Result<Vec<(String, String)>> {
        let path = path.map(std::path::Path::new);
        let reading = Reading { format, path, lossy: Some(lossy), column: None };
        all(Pairs::new(text, "in".to_owned(), reading, None)?)
    }

    fn all(mut pairs: Pairs<&[u8]>) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        while let Some(pair) = pairs.next()? {
            all.push((pair.a, pair.b));
        }
        Ok(all)
    }

    #[test]
    fn pairs_come_in_many_forms() {
        let two = [("x y".to_owned(), "z".to_owned()), ("1".to_owned(), "2".to_owned())];
        for (text, path) in [
            ("x y\tz\n1\t2\n", None),
            ("x y\tz\n\n1\t2\n", Some("pairs.tsv")),
            ("{\"a\":\"x y\",\"b\":\"z\",\"more\":1}\n{\"a\":\"1\",\"b\":\"2\"}", None),
            ("[\"x y\", \"z\"]\n1\t2", None),
            ("[\"x y\", \"z\"]\n[\"1\",\"2\"]\n", Some("pairs.json")),
            ("[[\"x y\", \"z\"], [\"1\",\"2\"]]", None),
            ("[\n  [\"x y\", \"z\"],\n  {\"a\": \"1\", \"b\": \"2\"}\n]\n", None),
            ("{\n \"a\": \"x y\",\n \"b\": \"z\"\n}\n{\n \"a\": \"1\", \"b\": \"2\"}", None),
            ("a,b\nx y,z\n1,\"2\"\n", Some("pairs.csv")),
            ("B;id;A\r\nz;7;x y\r\n2;8;1\r\n", Some("pairs.csv")),
        ] {
            assert_eq!(pairs(text.as_bytes(), InputFormat::Auto, path, false).unwrap(), two, "{text}");
        }
        assert_eq!(pairs(b"b\ta\nz\t\"x y\"\n2\t1", InputFormat::Tsv, None, false).unwrap(), two);
        assert_eq!(pairs(b"[draft]\tz", InputFormat::Auto, None, false).unwrap()[0].0, "[draft]");
        let utf16: Vec<u8> = "\u{feff}x y\tz\n1\t2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(pairs(&utf16, InputFormat::Auto, None, false).unwrap(), two);
    }

    /// The inputs of `tests/data/forms.json`, which the tests of the page read too: its own reader must find the same pairs.
    #[test]
    fn pairs_are_read_as_the_page_reads_them() {
        let all = super::super::tests::forms("pairs");
        assert!(all.len() > 20);
        for form in all {
            let expected: Vec<(String, String)> = serde_json::from_value(form.texts).unwrap();
            let found = pairs(form.text.as_bytes(), InputFormat::Auto, Some(&form.name), false).unwrap();
            assert_eq!(found, expected, "{}: {}", form.name, form.text);
        }
    }

    #[test]
    fn named_columns_are_found_or_the_input_is_refused() {
        let named = |text: &str, path: Option<&str>| {
            let path = path.map(std::path::Path::new);
            let reading = Reading { format: InputFormat::Auto, path, lossy: Some(false), column: None };
            all(Pairs::new(text.as_bytes(), "in".to_owned(), reading, Some(["q", "d"]))?)
        };
        for (text, path) in [
            ("q\td\nx\ty\n", None),
            ("D\tn\tQ\ny\t1\tx\n", Some("faq.tsv")),
            ("q,d\nx,y\n", Some("faq.csv")),
            ("{\"q\":\"x\",\"d\":\"y\"}", None),
            ("[\"x\",\"y\"]", None),
        ] {
            assert_eq!(named(text, path).unwrap(), [("x".to_owned(), "y".to_owned())], "{text}");
        }
        // A header with other names, and a line that is no header, have no columns of these names.
        for text in ["a\tb\nx\ty\n", "x\ty\n", "q\tother\nx\ty\n"] {
            let Err(Failure::Message { code: 2, message }) = named(text, Some("faq.tsv")) else { panic!("{text}") };
            assert!(message.contains("--columns") && message.contains("--input-format tsv"), "{message}");
        }
    }

    #[test]
    fn errors_say_where_something_is_no_pair() {
        for (text, message) in [
            ("x", "in: line 1: expected two texts with a tab between them, found 1 field"),
            ("x\ty\n\nx\ty\tz", "in: line 3: expected two texts with a tab between them, found 3 fields"),
            ("{\"a\":\"x\"}", "in: line 1, column 1: the pair has no `b`"),
            (
                "{\"id\":1,\"question\":\"x\",\"answer\":\"y\"}",
                "in: line 1, column 1: the pair has no `a`, but `question`, `answer` (--columns names the two texts, as in --columns \
                 question,answer)",
            ),
            ("{\"a\":\"x\",\"b\":7}", "in: line 1, column 14: `b` is a number, expected a string"),
            ("[\"x\"]", "in: line 1, column 1: a list of 1 element, expected one of two texts"),
            ("[\"x\",2]", "in: line 1, column 6: `[1]` is a number, expected a string"),
            ("[\"x\",\"y\"]\n[\"x\"", "in: line 2, column 5: it ends before it is complete"),
            (
                "{\"id\":\"n\\udc00\",\"a\":\"x\",\"b\":\"y\"}",
                "in: line 1, column 9: `\\udc00` is half of a character (--lossy puts U+FFFD in its place)",
            ),
        ] {
            let Err(Failure::Message { code: 3, message: found }) =
                pairs(text.as_bytes(), InputFormat::Auto, None, false)
            else {
                panic!("{text}")
            };
            assert_eq!(found, message);
        }
    }

    #[test]
    fn invalid_text_is_replaced_if_lossy_and_refused_if_not() {
        for (text, a) in [
            (&b"x\xff\tz"[..], "x\u{fffd}"),
            (b"[\"\\ud83d\",\"z\"]", "\u{fffd}"),
            (b"{\"a\":\"\\udc00x\",\"b\":\"z\"}", "\u{fffd}x"),
        ] {
            assert!(pairs(text, InputFormat::Auto, None, false).is_err());
            assert_eq!(pairs(text, InputFormat::Auto, None, true).unwrap()[0].0, a);
        }
    }
}
