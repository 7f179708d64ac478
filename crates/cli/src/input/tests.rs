use std::io::BufReader;

use proptest::prelude::*;

use super::form::{Beginning, of_line};
use super::*;

fn lines(bytes: &[u8], capacity: usize, lossy: bool) -> Result<Vec<(u64, String)>> {
    let source = Source::new(BufReader::with_capacity(capacity, bytes), "in".into(), Some(lossy));
    let mut lines = Lines::new(source);
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
fn lf_cr_lf_and_cr_end_lines() {
    assert_eq!(texts(b"a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
    assert_eq!(texts(b"a\n\n\nb\n"), ["a", "", "", "b"]);
    assert_eq!(texts(b"\r\n\r\n"), ["", ""]);
    assert_eq!(texts(b"\r\r\n\n"), ["", "", ""]);
    assert_eq!(texts(b""), [""; 0]);
    assert_eq!(texts(b"\xef\xbb\xbfa\n\xef\xbb\xbfb"), ["a", "\u{feff}b"]);
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(Failure::Message { code: 3, message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_say_where_text_is_invalid() {
    let found = message(lines(b"ab\r\nc\xffd\n", 2, false));
    assert_eq!(found, "in: line 2, byte 5: invalid UTF-8 (--lossy replaces it)");
    let found = message(lines(b"\xef\xbb\xbfab\n\xff", 2, false));
    assert_eq!(found, "in: line 2, byte 6: invalid UTF-8 (--lossy replaces it)");
    assert_eq!(texts(b"c\xffd"), ["c\u{fffd}d"]);
    let broken_utf16 = b"\xff\xfea\0\n\0b\0\x3d\xd8c\0";
    for capacity in [1, 5, 4096] {
        let found = message(lines(broken_utf16, capacity, false));
        assert_eq!(found, "in: line 2, byte 8: invalid UTF-16 (--lossy replaces it)");
    }
    assert_eq!(texts(broken_utf16), ["a", "b\u{fffd}c"]);
}

#[test]
fn nul_bytes_are_no_text() {
    let found = message(lines(b"ok\nh\0e\0l\0l\0o\0\n\0", 64, false));
    assert_eq!(found, "in: line 2, byte 4: a NUL byte, which text does not have (--lossy replaces it)");
    for lossy in [false, true] {
        let found = message(lines(b"\0h\0e\0l\0l\0o\0\n", 64, lossy));
        assert!(found.starts_with("in: this is UTF-16BE") && found.contains("iconv -f UTF-16BE"), "{found}");
    }
    let found = message(lines(b"ok\na word\0another", 64, false));
    assert_eq!(found, "in: line 2, byte 9: a NUL byte, which text does not have (--lossy replaces it)");
    assert_eq!(texts(b"a word\0another"), ["a word\u{fffd}another"]);
}

/// The records of a file of this name. They must not depend on the pieces in which the bytes come.
fn read(bytes: &[u8], format: InputFormat, path: &str, lossy: bool, column: Option<&str>) -> Result<Vec<Record>> {
    let mut whole = None;
    for capacity in [1, 7, 1 << 16] {
        let reading = Reading { format, path: Some(Path::new(path)), lossy: Some(lossy), column };
        let input = BufReader::with_capacity(capacity, bytes);
        let all = Records::new(input, "in".into(), reading).and_then(|mut records| {
            let mut all = Vec::new();
            while let Some(record) = records.next()? {
                all.push(record);
            }
            Ok(all)
        });
        if let Some(other) = &whole {
            assert_eq!(format!("{all:?}"), format!("{other:?}"), "buffers of {capacity}");
        }
        whole.get_or_insert(all);
    }
    whole.unwrap()
}

fn records(text: &str, format: InputFormat) -> Result<Vec<Record>> {
    read(text.as_bytes(), format, "-", false, None)
}

fn contents(records: Result<Vec<Record>>) -> Vec<String> {
    let text = |record: Record| match record.content {
        Content::Text(text) => text,
        Content::Ids(ids) => format!("{ids:?}"),
    };
    records.unwrap().into_iter().map(text).collect()
}

#[test]
fn the_first_line_decides() {
    let jsonl =
        records("\n {\"text\":\"a\",\"id\": [1, 2] }\n\n{\"input_ids\":[0,2],\"x\":1}\n", InputFormat::Auto).unwrap();
    assert_eq!(jsonl.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(jsonl[0].id.as_ref().unwrap().get(), "[1, 2]");
    assert_eq!(jsonl[1].content, Content::Ids(vec![0, 2]));
    let plain = records("{\"no\":1}\n{\"text\":\"a\"}", InputFormat::Lines).unwrap();
    assert_eq!(plain[1].content, Content::Text("{\"text\":\"a\"}".into()));
    // An object without a text is refused, and the message says how to read it as a line of text.
    let refused = message(records("{\"no\":1}\n{\"text\":\"a\"}", InputFormat::Auto));
    assert!(
        refused.contains("`no`") && refused.contains("--column") && refused.contains("--input-format lines"),
        "{refused}"
    );
}

#[test]
fn first_lines_are_told_apart() {
    for line in ["[", "{", "[{", "[[", "[\"a", "{\"text\":", "[{\"text\":\"a\"},", "{\"text\": \"a\","] {
        assert_eq!(of_line(line), Beginning::Open, "{line}");
    }
    for line in ["[]", "[{\"a\":1}]", "[[\"a\",\"b\"]]"] {
        assert_eq!(of_line(line), Beginning::List { of_texts: false }, "{line}");
    }
    assert_eq!(of_line("[\"a\", \"b\"]"), Beginning::List { of_texts: true });
    assert_eq!(of_line(" {\"text\":\"a\"} "), Beginning::Object { alone: true });
    assert_eq!(of_line("{\"text\":\"a\"}{\"text\":\"b\"}"), Beginning::Object { alone: false });
    for line in ["id,text", "text\tlabel", "\"id\",\"text\",\"lang\"", "id;text"] {
        assert_eq!(of_line(line), Beginning::Header { tab: line.contains('\t') }, "{line}");
    }
    for line in [
        "",
        "hello",
        "[draft] a title",
        "[1] a footnote",
        "[1]",
        "[ ] to do",
        "[[Category]]",
        "{name}, hello",
        "{\"a\":1} and more",
        "\"quoted\"",
        "hello, text",
        "text, id",
        "some,text",
        "Id,Text",
        "12",
        "null",
    ] {
        assert_eq!(of_line(line), Beginning::Other, "{line}");
    }
}

#[test]
fn json_in_any_layout() {
    let texts = ["a", "b \"c\"]", "苹果"];
    for (text, path) in [
        ("[\n {\"text\":\"a\"},\n {\"text\":\"b \\\"c\\\"]\"},\n {\"text\":\"苹果\"}\n]\n", "records.json"),
        ("[\n {\"text\":\"a\"},\n {\"text\":\"b \\\"c\\\"]\"},\n {\"text\":\"苹果\"}\n]\n", "-"),
        ("[{\"text\":\"a\"},{\"text\":\"b \\\"c\\\"]\"},{\"text\":\"苹果\"}]", "records.jsonl"),
        ("[\"a\", \"b \\\"c\\\"]\",\"苹果\"]", "-"),
        ("[\n\"a\",\n\"b \\\"c\\\"]\"\n,\n{\"text\":\"苹果\"}\n]", "-"),
        ("{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b \\\"c\\\"]\"\n}{\"text\":\"苹果\"}", "-"),
        ("{\"text\":\"a\"} {\"text\":\"b \\\"c\\\"]\"}\n{\"text\":\"苹果\"}", "x.txt"),
        ("{\"text\":\"a\"}\n{\"text\":\"b \\\"c\\\"]\"}\n{\"text\":\"苹果\"}", "x.json"),
        ("[\"a\"][\"b \\\"c\\\"]\",\"苹果\"]", "x.JSON"),
        ("\"a\"\n\"b \\\"c\\\"]\"\n\"苹果\"\n", "x.jsonl"),
    ] {
        assert_eq!(contents(read(text.as_bytes(), InputFormat::Auto, path, false, None)), texts, "{path}: {text}");
        // PowerShell writes UTF-16, and other programs on Windows begin UTF-8 with a byte order mark.
        let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(contents(read(&utf16, InputFormat::Auto, path, false, None)), texts, "{path}: {text}");
        let marked = format!("\u{feff}{text}");
        assert_eq!(contents(read(marked.as_bytes(), InputFormat::Auto, path, false, None)), texts, "{path}: {text}");
    }
    for empty in ["", "[]", " [ ] \n", "[][]", "\n"] {
        assert_eq!(contents(read(empty.as_bytes(), InputFormat::Json, "-", false, None)), [""; 0], "{empty}");
    }
    let with_ids = read(
        b"[{\"id\":\"x\",\"text\":\"a\"},\n{\"id\": 7, \"input_ids\":[0,2]}]",
        InputFormat::Auto,
        "-",
        false,
        None,
    );
    let with_ids = with_ids.unwrap();
    assert_eq!(with_ids[1].content, Content::Ids(vec![0, 2]));
    assert_eq!((with_ids[1].id.as_ref().unwrap().get(), with_ids[1].line), ("7", 2));
    let column = read(b"[{\"body\":\"a\",\"text\":\"b\"}]", InputFormat::Auto, "-", false, Some("body"));
    assert_eq!(contents(column), ["a"]);
}

/// The inputs of `tests/data/forms.json`, which the tests of the page read too: its own reader must find the same texts.
#[test]
fn documents_are_read_as_the_page_reads_them() {
    let all = forms("documents");
    assert!(all.len() > 30);
    for Shape { name, text, texts } in all {
        let expected: Vec<String> = serde_json::from_value(texts).unwrap();
        assert_eq!(contents(read(text.as_bytes(), InputFormat::Auto, &name, false, None)), expected, "{name}: {text}");
    }
}

/// An input of `tests/data/forms.json`: the file's name (empty for standard input), its content, and the texts in it.
#[derive(serde::Deserialize)]
pub(super) struct Shape {
    pub name: String,
    pub text: String,
    pub texts: serde_json::Value,
}

/// The inputs of `tests/data/forms.json` for a mode, `pairs` or `documents`.
pub(super) fn forms(mode: &str) -> Vec<Shape> {
    let all: Vec<serde_json::Value> = serde_json::from_str(include_str!("../../../../tests/data/forms.json")).unwrap();
    let own = all.into_iter().filter(|form| form["mode"] == mode);
    own.map(|form| serde_json::from_value(form).unwrap()).collect()
}

#[test]
fn tables_have_a_header() {
    let texts = ["plain", "two\r\nlines, \"quoted\"", ""];
    for (text, path, format) in [
        ("id,text\n1,plain\n2,\"two\r\nlines, \"\"quoted\"\"\"\n3,\n", "-", InputFormat::Auto),
        ("text\r\nplain\r\n\"two\r\nlines, \"\"quoted\"\"\"\r\n\"\"\r\n", "x.csv", InputFormat::Auto),
        ("Text;n\nplain;1\n\"two\r\nlines, \"\"quoted\"\"\";2\n;3", "x.csv", InputFormat::Auto),
        ("id\ttext\n1\tplain\n2\t\"two\r\nlines, \"\"quoted\"\"\"\n\n3\t", "x.tsv", InputFormat::Auto),
        ("text\tid\nplain\t1\n\"two\r\nlines, \"\"quoted\"\"\"\t2\n\t3\n", "-", InputFormat::Tsv),
    ] {
        let found = contents(read(text.as_bytes(), format, path, false, None));
        // The table with one column lacks its last, empty row, which cannot be told from an empty line.
        assert_eq!(found[..2], texts[..2], "{text}");
        assert!(found[2..] == texts[2..] || !text.contains(['\t', ';', '1']), "{text}: {found:?}");
    }
    let rows = read(b"id,body,text\n\"a \"\"b\",x,y\n", InputFormat::Csv, "-", false, Some("body")).unwrap();
    assert_eq!((rows[0].id.as_ref().unwrap().get(), rows[0].line), ("\"a \\\"b\"", 2));
    assert_eq!(rows[0].content, Content::Text("x".into()));
    // A semicolon or a line end in quotes is part of a name.
    let rows = read(b"\"a;\nb\",text\n1,x;y\n", InputFormat::Csv, "-", false, None);
    assert_eq!(contents(rows), ["x;y"]);
    let found = message(read(b"name,body\na,b\n", InputFormat::Auto, "x.csv", false, None));
    assert!(found.contains("`text`") && found.contains("`name`, `body`") && found.contains("--column"), "{found}");
    // Of many long names of columns, or of a record's fields, a message shows the first, and the beginning of each.
    let names: Vec<String> = (0..100).map(|n| format!("{n:0>300}")).collect();
    let header = format!("{}\n{}\n", names.join(","), "x,".repeat(99));
    let fields: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
    let record = format!("{{{}}}\n", fields.join(","));
    for (text, path) in [(header, "x.csv"), (record, "x.jsonl")] {
        let found = message(read(text.as_bytes(), InputFormat::Auto, path, false, None));
        assert!(found.len() < 900 && found.contains("0000…`, ") && found.contains("`, … (--column"), "{found}");
    }
    let found = message(read(b"id,text\n1,a\n2,b,c\n", InputFormat::Csv, "-", false, None));
    assert!(found.starts_with("in: line 3: 3 fields, but the header has 2"), "{found}");
    let found = message(read(b"id,text\n1,a\n2,\"b\nc\n", InputFormat::Csv, "-", false, None));
    assert_eq!(found, "in: line 3, column 3: the quote that opens here is never closed");
    let found = message(read(b"id,text\n1,\"a\" b\n", InputFormat::Csv, "-", false, None));
    assert!(found.starts_with("in: line 2, column 6: text after a closing quote"), "{found}");
    let found = message(read("id,text\né,\"語\" b\n".as_bytes(), InputFormat::Csv, "-", false, None));
    assert!(found.starts_with("in: line 2, column 6: text after a closing quote"), "{found}");
    let found = message(read("id,text\n語,\"b\nc\n".as_bytes(), InputFormat::Csv, "-", false, None));
    assert_eq!(found, "in: line 2, column 3: the quote that opens here is never closed");
    let found = message(read(b"id,text\n1,a\n2,b\xff\n", InputFormat::Csv, "-", false, None));
    assert_eq!(found, "in: line 3, byte 15: invalid UTF-8 (--lossy replaces it)");
    assert_eq!(contents(read(b"id,text\n2,b\xff\n", InputFormat::Csv, "-", true, None)), ["b\u{fffd}"]);
    assert_eq!(contents(read(b"", InputFormat::Csv, "-", false, None)), [""; 0]);
}

#[test]
fn bad_records_name_their_place_in_plain_words() {
    for (line, what) in [
        ("[]", "column 1: found a list, expected a record such as {\"text\": …}"),
        ("7", "column 1: found a number, expected a record"),
        ("nonsense", "column 1: found null, expected a record"),
        ("word", "column 1: found no JSON, expected a record"),
        ("{\"text\":1}", "column 9: `text` is a number, expected a string"),
        ("{\"text\":[\"a\"]}", "column 9: `text` is a list, expected a string"),
        ("{\"é\":0, \"text\": true}", "column 17: `text` is true or false, expected a string"),
        ("{}", "column 1: the record has neither `text` nor `input_ids`"),
        ("{\"text\":null,\"body\":\"x\"}", "neither `text` nor `input_ids`, but `body` (--column"),
        ("{\"text\":\"a\",\"input_ids\":[]}", "both"),
        ("{\"text\":\"a\",\"text\":\"b\"}", "the field `text` is there twice"),
        ("{\"text\":\"\\ud800\"}", "column 10: `\\ud800` is half of a character (--lossy"),
        ("{\"text\":\"ab\\udc00\\ud800\"}", "column 12: `\\udc00` is half of a character"),
        ("{\"input_ids\":[0,-1]}", "column 17: `input_ids[1]` is -1, expected a token id"),
        ("{\"input_ids\":[0.5]}", "column 15: `input_ids[0]` is 0.5, expected a token id"),
        ("{\"input_ids\":[\"x\"]}", "`input_ids[0]` is a string"),
        ("{\"input_ids\":7}", "column 14: `input_ids` is a number, expected a list of token ids"),
        ("{\"text\":\"a\"", "it ends before it is complete"),
        ("{\"text\":\"a", "it ends inside a string"),
        ("{\"text\":\"\\ud8\"}", "escape"),
        ("{\"text\":\"\\x\"}", "a backslash that begins no escape"),
        ("{\"text\" \"a\"}", "column 9: expected `:`"),
        ("{\"text\":\"a\" \"b\":1}", "column 13: expected `,` or `}`"),
        ("{text:1}", "column 2: expected the name of a field, in double quotes"),
        ("{\"text\":\"a\tb\"}", "column 11: a control character inside a string"),
        ("{\"text\":\"a\"} x", "column 14: expected nothing more"),
        ("{\"text\":\"a\",}", "column 13: expected something after the comma"),
    ] {
        let found = message(records(&format!("{{\"text\":\"\"}}\n\n{line}"), InputFormat::Jsonl));
        assert!(found.starts_with("in: line 3, column ") && found.contains(what), "{line}: {found}");
        // Messages do not name types of Rust or of this program.
        for word in ["struct", "u32", "sequence", "map", "JsonRecord", "EOF", "ident", "RawValue"] {
            assert!(!found.contains(word), "{line}: {found}");
        }
    }
    // In a file of JSON, lines are counted from the beginning of the file.
    for (text, what) in [
        (
            "[\n {\"text\":\"a\"},\n {\"id\":1,\n  \"text\":5}\n]",
            "in: line 4, column 10: `text` is a number, expected a string",
        ),
        ("[\n {\"text\":\"a\"},\n  7\n]", "in: line 3, column 3: found a number"),
        // A column counts characters everywhere: before a value, inside it and after it.
        ("[\"é\", 7]", "in: line 1, column 7: found a number"),
        ("[\"e\", 7]", "in: line 1, column 7: found a number"),
        ("[\"é\",\n\"語言\", {\"text\":7}]", "in: line 2, column 15: `text` is a number"),
        ("[\"🙂é\" 7]", "in: line 1, column 7: expected `,` or `]`"),
        ("\u{feff}[\"é\", 7]", "in: line 1, column 7: found a number"),
        ("\"é\"\r\"é\" 7", "in: line 2, column 5: found a number"),
        ("[\n {\"text\":\"a\"}\n {\"text\":\"b\"}]", "in: line 3, column 2: expected `,` or `]`"),
        ("[\n {\"text\":\"a\"},\n]", "in: line 3, column 1: found no JSON"),
        ("\n[\n {\"text\":\"a\"},\n", "in: line 2: the list that begins here has no end"),
        ("[\"a\",\n\"b", "in: line 2, column 3: it ends inside a string"),
        ("[\"a\"]\nmore", "in: line 2, column 1: found no JSON"),
    ] {
        let found = message(records(text, InputFormat::Json));
        assert!(found.starts_with(what), "{text}: {found}");
    }
}

#[test]
fn halves_of_characters_are_replaced() {
    for (json, text) in [
        ("\"cut \\ud83d\"", "cut \u{fffd}"),
        ("\"\\udc4d\\ud83d\"", "\u{fffd}\u{fffd}"),
        ("\"\\ud83d\\ud83d\\udc4d\"", "\u{fffd}👍"),
        ("\"\\uD83D\\uDC4D\\\\ud83d\"", "👍\\ud83d"),
        ("\"\\\\\\ud83dx\\n\"", "\\\u{fffd}x\n"),
        ("\"\\ud83d\\\\\"", "\u{fffd}\\"),
        ("\"\\ud83d\\u0041\"", "\u{fffd}A"),
    ] {
        for (input, format) in [
            (format!("{{\"text\":{json}}}"), InputFormat::Jsonl),
            (format!("[{{\"text\":{json},\"other\":\"\\ud800\"}}]"), InputFormat::Json),
            (format!("[{json}]"), InputFormat::Json),
        ] {
            assert_eq!(contents(read(input.as_bytes(), format, "-", true, None)), [text], "{input}");
            // Without --lossy, a text with half of a character is refused.
            if text.contains('\u{fffd}') {
                let found = message(read(input.as_bytes(), format, "-", false, None));
                assert!(found.contains("is half of a character (--lossy puts U+FFFD in its place)"), "{found}");
            }
        }
    }
    let named =
        read(b"{\"id\":\"\\ud83d\",\"te\\u0078t\":\"a\",\"\\udc00\":1}", InputFormat::Jsonl, "-", true, None).unwrap();
    assert_eq!(named[0].id.as_ref().unwrap().get(), "\"\\ufffd\"");
    // An incomplete escape is an error even with --lossy; invalid UTF-8 is one only without it.
    assert!(read(b"{\"text\":\"\\ud8\"}", InputFormat::Jsonl, "-", true, None).is_err());
    assert_eq!(contents(read(b"{\"text\":\"a\xff\"}", InputFormat::Jsonl, "-", true, None)), ["a\u{fffd}"]);
    let found = message(read(b"{\"text\":\"a\"}\n{\"text\":\"a\xff\"}", InputFormat::Jsonl, "-", false, None));
    assert_eq!(found, "in: line 2, byte 23: invalid UTF-8 (--lossy replaces it)");
}

#[test]
fn binary_files_are_refused_by_their_kind() {
    for (bytes, what) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0\0\0"[..], "in: this is gzip, not text: decompress it first, as in `gzip -dc FILE"),
        (b"\x28\xb5\x2f\xfd\x04\0", "in: this is Zstandard"),
        (b"PAR1\x15\x04\x15\x10", "in: this is Parquet"),
        (
            b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0[Content_Types].xml",
            "in: this is an Office",
        ),
        (b"%PDF-1.4\n%\xe2\xe3", "in: this is a PDF document"),
        (b"\x93NUMPY\x01\0v\0", "in: this is an array of NumPy"),
    ] {
        for (path, lossy) in [("x.txt", true), ("x.csv", false), ("x.json", true), ("-", false)] {
            let found = message(read(bytes, InputFormat::Auto, path, lossy, None));
            assert!(found.starts_with(what), "{path}: {found}");
        }
    }
}

/// A list that is larger than the largest record is read all the same, element by element.
#[test]
fn lists_are_read_by_their_elements() {
    let element = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20));
    let count = source::MAX_RECORD_BYTES / element.len() + 2;
    let pieces = std::iter::once("[").chain((0..count).flat_map(|at| [if at == 0 { "" } else { "," }, &element]));
    let bytes: Vec<u8> = pieces.chain(["]"]).flat_map(str::bytes).collect();
    assert!(bytes.len() > source::MAX_RECORD_BYTES);
    let reading = Reading { format: InputFormat::Auto, path: None, lossy: Some(false), column: None };
    let mut records = Records::new(&bytes[..], "in".into(), reading).unwrap();
    let mut found = 0;
    while let Some(record) = records.next().unwrap() {
        assert!(matches!(record.content, Content::Text(text) if text.len() == 1 << 20));
        found += 1;
    }
    assert_eq!(found, count);
}

proptest! {
    #[test]
    fn buffers_of_any_size_give_the_same_lines(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a')], 0..40), capacity in 1usize..9) {
        let text = String::from_utf8(bytes.clone()).unwrap().replace("\r\n", "\n").replace('\r', "\n");
        let expected: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
        let found: Vec<String> = lines(&bytes, capacity, false).unwrap().into_iter().map(|(_, text)| text).collect();
        prop_assert_eq!(found, expected);
    }

    /// Any texts, written as JSON or as CSV with quotes, are read back as they were.
    #[test]
    fn written_texts_are_read_back(texts in proptest::collection::vec(any::<String>(), 1..5), pretty in any::<bool>()) {
        let json = if pretty { serde_json::to_string_pretty(&texts) } else { serde_json::to_string(&texts) }.unwrap();
        prop_assert_eq!(contents(read(json.as_bytes(), InputFormat::Json, "-", false, None)), texts.clone());
        let quoted = |text: &String| format!("x,\"{}\"\r\n", text.replace('"', "\"\""));
        let csv: String = std::iter::once("id,text\r\n".to_owned()).chain(texts.iter().map(quoted)).collect();
        if !csv.contains('\0') {
            prop_assert_eq!(contents(read(csv.as_bytes(), InputFormat::Csv, "-", false, None)), texts);
        }
    }
}
