//! Tests of reading files and adding their documents to an index: formats, bad lines, chunks, and runs that are continued.

mod common;

use std::fs;
use std::ops::ControlFlow;

use common::model;
use trivec_search::ingest::{Chunking, Columns, Format, IngestOptions, chunks, ingest, open};
use trivec_search::{Document, Error, Index, IndexOptions, Query, Result};

fn read(name: &str, content: impl AsRef<[u8]>, columns: &Columns) -> Vec<Result<Document>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    open(&path, None, columns).unwrap().collect()
}

fn line_of(result: &Result<Document>) -> u64 {
    match result {
        Err(Error::Line { line, .. }) => *line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_lines_are_refused_by_number_and_the_rest_is_read() {
    let content = "\u{feff}{\"id\": \"a\", \"text\": \"first\", \"year\": 2020, \"tags\": [\"x\"], \"none\": null}\r\n\
         {\"id\": 7, \"text\": \"number as key\", \"lang\": \"de\", \"title\": \"T\"}\n\
         \n\
         not json\n\
         [1, 2]\n\
         {\"text\": \"no key\"}\n\
         {\"id\": \"b\"}\n\
         {\"id\": \"c\", \"text\": \"\\ud800\"}\n\
         {\"id\": \"d\", \"text\": \" \"}\n\
         {\"id\": \"e\", \"text\": \"last\"}";
    let documents = read("a.jsonl", content, &Columns::default());
    let good: Vec<&Document> = documents.iter().flatten().collect();
    assert_eq!(good.iter().map(|d| d.key.as_str()).collect::<Vec<_>>(), ["a", "7", "e"]);
    assert_eq!(good[0].metadata.keys().collect::<Vec<_>>(), ["tags", "year"]);
    assert_eq!((good[1].title.as_deref(), good[1].lang.as_deref()), (Some("T"), Some("de")));
    let lines: Vec<u64> = documents.iter().filter(|d| d.is_err()).map(line_of).collect();
    assert_eq!(lines, [4, 5, 6, 7, 8, 9]);
}

#[test]
fn json_lists_json_over_several_lines_and_utf_16_are_read() {
    let keys = |name: &str, content: &[u8]| -> Vec<String> {
        read(name, content, &Columns::default()).into_iter().map(|d| d.unwrap().key).collect()
    };
    let wide = |text: &str| format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let list = "[\n  {\"id\": \"a\", \"text\": \"x\"},\n  {\"id\": \"b\", \"text\": \"y\"}\n]\n";
    let pretty = "{\n  \"id\": \"a\",\n  \"text\": \"x\"\n}\n{\"id\": \"b\", \"text\": \"y\"}\n";
    let lines = "{\"id\": \"a\", \"text\": \"x\"}\r{\"id\": \"b\", \"text\": \"y\"}";
    for content in [list, pretty, lines] {
        assert_eq!(keys("a.json", content.as_bytes()), ["a", "b"], "{content}");
        assert_eq!(keys("a.jsonl", &wide(content)), ["a", "b"], "{content}");
    }
    assert_eq!(keys("a.csv", &wide("id,text\r\na,x\r\nb,y\r\n")), ["a", "b"]);
    assert_eq!(keys("a.tsv", &wide("id\ttext\na\tx\n")), ["a"]);
    assert_eq!(read("a.txt", wide("мир"), &Columns::default())[0].as_ref().unwrap().text, "мир");
    // An element that is no document is refused with its line, and the next is read.
    let some = read("a.json", "[\n{\"id\": 1},\n5,\n{\"id\": \"c\", \"text\": \"z\"}\n]", &Columns::default());
    assert_eq!(some.iter().take(2).map(line_of).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(some[2].as_ref().unwrap().key, "c");
    for (name, content) in [
        ("a.jsonl", &b"\x1f\x8b\x08\0\0\0\0\0"[..]),
        ("a.csv", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("a.jsonl", &wide(lines)[2..]),
        ("a.txt", &wide("text\n")[2..]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        let error = match open(&path, None, &Columns::default()) {
            Ok(mut source) => source.next().unwrap().unwrap_err(),
            Err(error) => error,
        };
        let said = error.to_string();
        assert!(said.contains("gzip, not text") || said.contains("UTF-16LE without"), "{name}: {said}");
    }
}

#[test]
fn files_whose_names_do_not_say_what_they_are_are_read_as_they_begin() {
    let lines = "{\"id\": \"a\", \"text\": \"x\"}\n{\"id\": \"b\", \"text\": \"y\"}\n";
    let list = "[\n{\"id\": \"a\", \"text\": \"x\"},\n{\"id\": \"b\", \"text\": \"y\"}]";
    let tables = ["id,text\na,x\nb,y\n", "text;id\nx;a\ny;b\n", "n\tid\ttext\n1\ta\tx\n2\tb\ty\n"];
    let keys = |name: &str, content: &str, columns: &Columns| -> Vec<String> {
        let read = read(name, content, columns);
        read.into_iter().map(|document| document.unwrap().key).collect()
    };
    let plain = Columns::default();
    for name in ["docs.log", "docs", "docs.data.2024", "docs.txt", "docs.md"] {
        for content in [lines, list, tables[0], tables[1], tables[2]] {
            assert_eq!(keys(name, content, &plain), ["a", "b"], "{name}: {content}");
        }
        for text in ["A line.\n{\"id\": 1, \"text\": 2}\n", "[1] A footnote", "id and text\n", "{x}"] {
            assert_eq!(keys(name, text, &plain), [name], "{text}");
        }
    }
    // Names that say it have the last word, and the columns are those that were asked for.
    assert_eq!(line_of(&read("a.jsonl", "id,text\n", &plain)[0]), 1);
    let own = Columns { key: "sku".into(), text: "name".into(), ..Columns::default() };
    assert_eq!(keys("docs", "sku,name\n1,a\n", &own), ["1"]);
    assert_eq!(keys("docs", "id,text\n1,a\n", &own), ["docs"]);
    // JSON that has other fields is refused, and no text: unless its name says that it is one.
    let directory = tempfile::tempdir().unwrap();
    for (name, is_text) in [("docs.log", false), ("docs", false), ("docs.txt", true)] {
        let path = directory.path().join(name);
        fs::write(&path, "{\"uid\": 1, \"text\": \"a\"}\n").unwrap();
        match open(&path, None, &plain) {
            Ok(documents) => assert!(is_text && documents.count() == 1, "{name}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!is_text && matches!(error, Error::Columns { .. }), "{said}");
                assert!(said.contains("not both `id` (the key) and `text` (the text), only `text`, `uid`"), "{said}");
                assert!(said.contains("txt takes the whole file as one text"), "{said}");
            }
        }
        let text = open(&path, Some(Format::Text), &plain).unwrap().next().unwrap().unwrap();
        assert_eq!(text.key, name);
    }
    // Bytes are counted once, though the beginning is read twice.
    let path = directory.path().join("docs");
    fs::write(&path, lines).unwrap();
    let mut source = open(&path, None, &plain).unwrap();
    assert_eq!(source.by_ref().count(), 2);
    let read = source.counter().load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((read, source.total_bytes()), (lines.len() as u64, lines.len() as u64));
}

#[test]
fn columns_are_chosen_by_name_and_by_path() {
    let columns = Columns {
        key: "meta.uid".into(),
        text: "body".into(),
        fields: Some(vec!["kind".into(), "not here".into()]),
        ..Columns::default()
    };
    let lines = r#"{"meta": {"uid": "k", "x": 1}, "body": "text", "kind": "note", "other": 2}
{"meta": {"uid": "l"}, "body": "text", "not here": true}"#;
    let documents = read("a.jsonl", lines, &columns);
    let document = documents[0].as_ref().unwrap();
    assert_eq!(*document, Document::new("k", "text").with_field("kind", "note"));
}

/// Names of columns, of which one in each case is missing in an input with `id`, `text`, `title` and `lang`; and that name.
fn mistyped() -> Vec<(Columns, &'static str)> {
    let own = Columns { title: Some("title".into()), lang: Some("lang".into()), ..Columns::default() };
    vec![
        (Columns { title: Some("titel".into()), ..own.clone() }, "titel"),
        (Columns { lang: Some("language".into()), ..own.clone() }, "language"),
        (Columns { fields: Some(vec!["title".into(), "yaer".into()]), ..own }, "yaer"),
    ]
}

#[test]
fn a_table_that_lacks_a_column_is_refused_with_those_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let key_and_text = [("ident", Columns { key: "ident".into(), ..Columns::default() })];
    for (name, separator) in [("a.csv", ","), ("a.tsv", "\t")] {
        let path = directory.path().join(name);
        fs::write(&path, ["id", "text", "title", "lang"].join(separator) + "\n").unwrap();
        let wrong = mistyped().into_iter().map(|(columns, name)| (name, columns)).chain(key_and_text.clone());
        for (name, columns) in wrong {
            let error = open(&path, None, &columns).unwrap_err();
            assert!(matches!(error, Error::Columns { .. }), "{error}");
            let expected = format!("there is no column `{name}`, only `id`, `text`, `title`, `lang`");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        open(&path, None, &Columns::default()).unwrap();
    }
}

#[test]
fn a_column_that_is_there_twice_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.csv");
    fs::write(&path, "id,text,year,text,,\n1,a,2,b,,\n").unwrap();
    let error = open(&path, None, &Columns::default()).unwrap_err().to_string();
    assert!(error.contains("the column `text` is there twice"), "{error}");
    // Columns without a name are left out, and may be several.
    fs::write(&path, "id,text,,\n1,a,x,y\n").unwrap();
    let read: Vec<_> = open(&path, None, &Columns::default()).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(read, [Document::new("1", "a")]);
}

#[test]
fn a_named_field_that_no_document_has_is_refused_before_the_first_document_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    fs::write(
        &path,
        "nonsense\n{\"id\": 1, \"text\": \"x\"}\n{\"id\": 2, \"text\": \"y\", \"title\": null, \"lang\": \"en\"}\n",
    )
    .unwrap();
    for (columns, name) in mistyped() {
        let error = open(&path, None, &columns).unwrap_err();
        assert!(matches!(error, Error::Columns { .. }), "{error}");
        let expected = format!("no document has the field `{name}`, only `id`, `lang`, `text`, `title`");
        assert!(error.to_string().contains(&expected), "{error}");
        // In a stream, which cannot be read twice, the error comes at the end.
        let bytes = fs::read(&path).unwrap();
        let read: Vec<_> = trivec_search::ingest::read_jsonl(bytes.as_slice(), &path, &columns).collect();
        assert!(read.len() == 4 && matches!(read[3], Err(Error::Columns { .. })), "{read:?}");
    }
    // A later line may have it, or another file of the directory.
    let columns = Columns { title: Some("title".into()), ..Columns::default() };
    assert_eq!(open(&path, None, &columns).unwrap().filter(Result::is_ok).count(), 2);
    fs::write(directory.path().join("b.jsonl"), "{\"id\": 3, \"text\": \"z\"}\n").unwrap();
    assert_eq!(open(directory.path(), None, &columns).unwrap().filter(Result::is_ok).count(), 3);
    let columns = Columns { title: Some("titel".into()), ..Columns::default() };
    assert!(matches!(open(directory.path(), None, &columns).unwrap_err(), Error::Columns { .. }));
    // An input without documents is no error.
    fs::write(&path, "").unwrap();
    assert_eq!(open(&path, None, &columns).unwrap().count(), 0);
}

#[test]
fn a_stream_without_a_named_field_ends_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let columns = Columns { lang: Some("language".into()), ..Columns::default() };
    let stream = trivec_search::ingest::read_jsonl(&b"{\"id\": 1, \"text\": \"x\"}\n"[..], "-".as_ref(), &columns);
    let error = ingest(&mut writer, &encoder, stream, &IngestOptions::default(), |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(Error::Columns { .. })), "{error:?}");
    drop(writer);
    assert_eq!(index.reader().unwrap().len(), 0);
}

#[test]
fn tables_have_quotes_and_their_ragged_or_undecodable_records_are_refused_by_line() {
    let mut content = b"id,text,lang,year,note\r\n1,\"a, \"\"quoted\"\"\ntext\",en,2020,\r\n2,short\r\n3,".to_vec();
    content.extend(b"\xff\xfe,en,1,x\r\n4,good,,7.5,007\r\n");
    let documents = read("a.csv", content, &Columns::default());
    assert_eq!(documents.len(), 4);
    let first = documents[0].as_ref().unwrap();
    assert_eq!(first.text, "a, \"quoted\"\ntext");
    assert_eq!(first.metadata, serde_json::json!({"year": 2020}).as_object().unwrap().clone());
    assert!(documents[1].as_ref().unwrap_err().to_string().contains("values: found 2, expected 5"));
    assert!(documents[2].as_ref().unwrap_err().to_string().contains("not UTF-8"));
    assert_eq!((line_of(&documents[1]), line_of(&documents[2])), (4, 5));
    assert_eq!(documents[3].as_ref().unwrap().metadata["note"], "007");
    let tabs = read("a.tsv", "id\ttext\n1\ta,b\n", &Columns::default());
    assert_eq!(tabs[0].as_ref().unwrap().text, "a,b");
}

#[test]
fn a_record_whose_quote_is_never_closed_is_refused() {
    for content in ["id,text\n1,\"open\n2,x\n", "id,text\n0,fine\n1,\"open\n2,x", "id,text\r\n1,\"a \"\" b\r\n"] {
        let documents = read("a.csv", content, &Columns::default());
        let last = documents.last().unwrap().as_ref().unwrap_err().to_string();
        assert!(last.contains("never closed"), "{last}");
        assert!(documents[..documents.len() - 1].iter().all(Result::is_ok));
    }
    // Quotes inside a value without quotes, doubled ones, and a closed one at the end of the file.
    for content in
        ["id,text\n1,5\" disk\n2,a \"b\n", "id,text\n1,\"a \"\"b\"\"\"\n2,\"x,\ny\"", "id,text\n1,\"\"\"q\"\n2,\"z\"\n"]
    {
        let documents = read("a.csv", content, &Columns::default());
        assert!(documents.len() == 2 && documents.iter().all(Result::is_ok), "{content}: {documents:?}");
    }
}

#[test]
fn tables_without_the_columns_with_too_many_or_with_too_long_a_record_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.csv");
    fs::write(&path, "key,body\n1,x\n").unwrap();
    let error = open(&path, Some(Format::Csv), &Columns::default()).unwrap_err().to_string();
    assert!(error.contains("there is no column `id`, only `key`, `body`"), "{error}");
    fs::write(&path, "a,".repeat(20_000)).unwrap();
    assert!(open(&path, None, &Columns::default()).unwrap_err().to_string().contains("20,001 columns"));
    // A quote that is never closed does not take the memory of the whole file.
    let mut long = "id,text\n1,\"".to_owned();
    long.push_str(&"x".repeat(trivec_search::ingest::MAX_RECORD_BYTES + (1 << 20)));
    fs::write(&path, long).unwrap();
    let documents: Vec<_> = open(&path, None, &Columns::default()).unwrap().collect();
    assert!(
        documents.len() == 1 && documents[0].as_ref().unwrap_err().to_string().contains("a quote that is not closed")
    );
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_one_is_read() {
    let mut content =
        format!("{{\"id\": \"a\", \"text\": \"{}\"}}\n", "x".repeat(trivec_search::ingest::MAX_RECORD_BYTES));
    content.push_str("{\"id\": \"b\", \"text\": \"next\"}\n");
    let documents = read("a.jsonl", content, &Columns::default());
    assert_eq!(line_of(&documents[0]), 1);
    assert_eq!((documents.len(), documents[1].as_ref().unwrap().key.as_str()), (2, "b"));
}

#[test]
fn directories_are_walked_in_order() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("b/c")).unwrap();
    for (name, text) in [
        ("a.txt", "one\n"),
        ("b/c/d.md", "two\n\nthree \r\n"),
        ("b/x.bin", "no"),
        (".hidden.txt", "no"),
        ("e.txt", " "),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    fs::write(directory.path().join("f.jsonl"), "{\"id\": \"k\", \"text\": \"three\"}").unwrap();
    fs::write(directory.path().join("g.txt"), b"\xff").unwrap();
    let source = open(directory.path(), None, &Columns::default()).unwrap();
    let (counter, total) = (source.counter(), source.total_bytes());
    let documents: Vec<_> = source.collect();
    assert_eq!(counter.load(std::sync::atomic::Ordering::Relaxed), total);
    let keys: Vec<&str> = documents.iter().flatten().map(|d| d.key.as_str()).collect();
    assert_eq!(keys, ["a.txt", "b/c/d.md", "k"]);
    // Line ends at the end of a file are not part of its text.
    let texts: Vec<&str> = documents.iter().flatten().map(|d| d.text.as_str()).collect();
    assert_eq!(texts, ["one", "two\n\nthree ", "three"]);
    assert_eq!(documents.iter().filter(|d| d.is_err()).count(), 2);
}

fn collection(count: usize) -> Vec<Result<Document>> {
    (0..count)
        .map(|i| {
            Ok(Document::new(
                format!("k{i}"),
                format!("Sentence number {i} is about {}.", ["tea", "rain", "music"][i % 3]),
            ))
        })
        .collect()
}

#[test]
fn a_run_that_was_ended_goes_on_and_embeds_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let options = IngestOptions { commit_every: 100, ..IngestOptions::default() };
    let mut writer = index.writer().unwrap();
    let stop = |done: &trivec_search::ingest::Ingested| {
        if done.read >= 128 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let first = ingest(&mut writer, &encoder, collection(300), &options, stop).unwrap();
    assert_eq!((first.read, first.added), (128, 128));
    drop(writer);
    let mut writer = index.writer().unwrap();
    let go_on = |_: &trivec_search::ingest::Ingested| ControlFlow::Continue(());
    let second = ingest(&mut writer, &encoder, collection(300), &options, go_on).unwrap();
    assert_eq!((second.read, second.added, second.unchanged), (300, 172, 128));
    // If one document has changed, only this one is embedded.
    let mut changed = collection(300);
    changed[5] = Ok(Document::new("k5", "A new text."));
    let third = ingest(&mut writer, &encoder, changed, &options, go_on).unwrap();
    assert_eq!((third.added, third.unchanged), (1, 299));
    drop(writer);
    assert_eq!(index.check().unwrap().documents, 300);
    assert_eq!(index.reader().unwrap().get("k5").unwrap().entries()[0].text, "A new text.");
}

#[test]
fn refused_documents_are_counted_and_reported_and_of_equal_keys_the_last_document_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let mut documents = collection(3);
    documents.insert(1, Ok(Document::new("empty", "")));
    documents.insert(2, Err(Error::Line { path: "x.jsonl".into(), line: 9, what: "bad".into() }));
    documents.push(Ok(Document::new("k0", "The later one.")));
    let done =
        ingest(&mut writer, &encoder, documents, &IngestOptions::default(), |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((done.read, done.added, done.refused, done.duplicates), (6, 4, 2, 1));
    assert_eq!(done.errors, ["document `empty`: it has no text", "x.jsonl, line 9: bad"]);
    let reader = index.reader().unwrap();
    assert_eq!((reader.len(), reader.get("k0").unwrap().entries()[0].text.as_str()), (3, "The later one."));
}

#[test]
fn long_documents_are_cut_between_sentences() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let sentence = |i: usize| format!("This is the sentence with the number {i} of a long text.");
    let text: String = (0..40).map(|i| sentence(i) + " ").collect();
    let document = Document::new("long", text.clone()).with_title("Title").with_lang("en").with_field("year", 1);
    let chunking: Chunking = "64/20".parse().unwrap();
    let parts = chunks(&encoder, &document, &chunking).unwrap();
    assert!(parts.len() > 5, "{}", parts.len());
    let options = encoder.document_options();
    for (place, part) in parts.iter().enumerate() {
        assert_eq!((part.key.as_str(), part.document.as_deref()), (format!("long#{place}").as_str(), Some("long")));
        assert!(part.text.starts_with("This") && part.text.ends_with('.') && text.contains(&part.text));
        assert_eq!((&part.title, &part.lang, &part.metadata), (&document.title, &document.lang, &document.metadata));
        assert!(model.tokenize(&part.text, &options).unwrap().tokens.len() <= 64 + 2);
    }
    // Every sentence is in a chunk, and neighbouring chunks share one.
    assert!((0..40).all(|i| parts.iter().any(|part| part.text.contains(&sentence(i)))));
    assert!(parts.windows(2).all(|pair| (0..40).any(|i| pair.iter().all(|part| part.text.contains(&sentence(i))))));
    // A word that is longer than a chunk is cut between tokens; nothing is lost.
    let endless = Document::new("e", "слово".repeat(3_000));
    let parts = chunks(&encoder, &endless, &Chunking { tokens: 64, overlap: 0 }).unwrap();
    assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), endless.text);
    assert!(parts.iter().all(|part| model.tokenize(&part.text, &options).unwrap().tokens.len() <= 64 + 2));
    for bad in ["", "x", "1/2/3", "64/x"] {
        assert!(bad.parse::<Chunking>().is_err(), "{bad}");
    }
    let most = model.info().max_length - 2;
    for (bad, said) in [
        ("0", format!("found 0 tokens, expected 8 to {}", counted(most))),
        ("2/0", format!("found 2 tokens, expected 8 to {}", counted(most))),
        ("7/3", format!("found 7 tokens, expected 8 to {}", counted(most))),
        ("1000000", format!("found 1,000,000 tokens, expected 8 to {}", counted(most))),
        ("8/5", "found an overlap of 5, expected at most half of 8 tokens".to_owned()),
    ] {
        let error = bad.parse::<Chunking>().unwrap().check(model).unwrap_err().to_string();
        assert!(error.ends_with(&said), "{bad}: {error}");
    }
    Chunking { tokens: 8, overlap: 4 }.check(model).unwrap();
}

/// A number below 1,000,000 with a comma between thousands and the rest.
fn counted(number: usize) -> String {
    let digits = number.to_string();
    if number < 1_000 { digits } else { format!("{},{}", &digits[..digits.len() - 3], &digits[digits.len() - 3..]) }
}

#[test]
fn chunks_of_few_tokens_do_not_cut_words() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    for (text, whole) in [
        (
            "An extraordinarily incomprehensible representation of unquestionably characteristic responsibilities, \
             internationalization notwithstanding, was disproportionately misunderstood by counterrevolutionaries",
            true,
        ),
        (
            "Ein außerordentlich unverständliches Rechtsschutzversicherungsbeispiel und noch mehr Donaudampfschifffahrt",
            true,
        ),
        ("необыкновенно непонятное представление о несомненно характерных обязанностях и противоречиях", true),
        // By the rules of Unicode each of these characters is a word.
        ("苹果公司发布了配备更好相机的新手机而且价格不变所有人都非常高兴地排队购买它们", false),
    ] {
        for tokens in [8, 9, 12] {
            let parts = chunks(&encoder, &Document::new("d", text), &Chunking { tokens, overlap: 0 }).unwrap();
            assert!(parts.len() > 1, "{tokens}: {text}");
            assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), text);
            for part in &parts {
                assert!(model.tokenize(&part.text, &encoder.document_options()).unwrap().tokens.len() <= tokens + 2);
            }
            // A chunk ends where a word of the text ends, if no word alone is longer than a chunk.
            let words: Vec<&str> = text.split_whitespace().collect();
            let longer = words
                .iter()
                .any(|word| model.tokenize(word, &encoder.document_options()).unwrap().tokens.len() > tokens + 2);
            if whole && !longer {
                let found: Vec<&str> = parts.iter().flat_map(|part| part.text.split_whitespace()).collect();
                assert_eq!(found, words, "{tokens}");
            }
        }
    }
}

#[test]
fn nothing_is_lost_of_what_cannot_be_cut_at_words() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    for text in ["a".repeat(500), "!?".repeat(300), "ก็".repeat(300), "\u{1F469}\u{200D}\u{1F680}".repeat(100)] {
        let parts = chunks(&encoder, &Document::new("d", text.clone()), &Chunking { tokens: 8, overlap: 0 }).unwrap();
        assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), text);
    }
}

#[test]
fn a_document_in_chunks_is_replaced_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let options = IngestOptions { chunk: Some(Chunking { tokens: 32, overlap: 0 }), ..IngestOptions::default() };
    let document = |sentences: usize| {
        let text: String = (0..sentences).map(|i| format!("Here is a sentence about the topic number {i}. ")).collect();
        vec![Ok(Document::new("d", text))]
    };
    let mut writer = index.writer().unwrap();
    let go_on = |_: &trivec_search::ingest::Ingested| ControlFlow::Continue(());
    let many = ingest(&mut writer, &encoder, document(20), &options, go_on).unwrap();
    assert!(many.added == 1 && many.entries > 5);
    assert_eq!(ingest(&mut writer, &encoder, document(20), &options, go_on).unwrap().unchanged, 1);
    let few = ingest(&mut writer, &encoder, document(4), &options, go_on).unwrap();
    assert_eq!(index.reader().unwrap().len() as u64, few.entries);
    // The same text without chunks replaces the chunks.
    let whole = ingest(&mut writer, &encoder, document(4), &IngestOptions::default(), go_on).unwrap();
    assert_eq!((whole.added, index.reader().unwrap().len()), (1, 1));
    let again = ingest(&mut writer, &encoder, document(4), &IngestOptions::default(), go_on).unwrap();
    assert_eq!(again.unchanged, 1);
    let hits = index.reader().unwrap().search(&encoder, &Query::new("topic")).unwrap();
    assert_eq!(hits.hits[0].document.key, "d");
}

#[test]
fn a_document_that_cannot_be_embedded_does_not_replace_the_one_in_the_index() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let go_on = |_: &trivec_search::ingest::Ingested| ControlFlow::Continue(());
    let of = |texts: &[(&str, &str)]| -> Vec<Result<Document>> {
        texts.iter().map(|(key, text)| Ok(Document::new(*key, *text))).collect()
    };
    let mut writer = index.writer().unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let first = of(&[("a", "the first text"), ("b", "the second text")]);
    ingest(&mut writer, &encoder, first, &IngestOptions::default(), go_on).unwrap();
    // Stands for a model that cannot embed texts with the word `bad`.
    let encoder = index.encoder(model, id).unwrap().with_embed(|texts, options| {
        match texts.iter().position(|text| text.contains("bad")) {
            Some(index) => Err(trivec::Error::NotFinite { index, mode: "dense", at: 0 }),
            None => model.encode(texts, options),
        }
    });
    let second = of(&[("a", "now it is bad"), ("b", "now it is good"), ("c", "new and bad")]);
    let done = ingest(&mut writer, &encoder, second, &IngestOptions::default(), go_on).unwrap();
    assert_eq!((done.read, done.added, done.entries, done.refused), (3, 1, 1, 2));
    assert!(done.errors[0].contains("document `a`"), "{:?}", done.errors);
    let reader = index.reader().unwrap();
    let text = |key: &str| reader.get(key).unwrap().entries()[0].text.clone();
    assert_eq!((text("a").as_str(), text("b").as_str(), reader.len()), ("the first text", "now it is good", 2));
}

#[test]
fn a_document_of_which_one_chunk_cannot_be_embedded_is_refused_as_a_whole() {
    let (model, id) = model();
    let go_on = |_: &trivec_search::ingest::Ingested| ControlFlow::Continue(());
    let options = IngestOptions { chunk: Some(Chunking { tokens: 32, overlap: 0 }), ..IngestOptions::default() };
    // More sentences than a batch has chunks. Which of them is bad decides how many chunks are embedded before it.
    let text = |bad: Option<usize>| -> String {
        let word = |i: usize| if Some(i) == bad { "bad" } else { "number" };
        (0..300).map(|i| format!("Here is a sentence about the topic {} {i}. ", word(i))).collect()
    };
    for bad in [0, 150, 299] {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
        let mut writer = index.writer().unwrap();
        let encoder = index.encoder(model, id).unwrap();
        let first = vec![Ok(Document::new("d", text(None))), Ok(Document::new("e", "The text of e."))];
        let done = ingest(&mut writer, &encoder, first, &options, go_on).unwrap();
        assert!(done.entries > 65, "{}", done.entries);
        let before = index.reader().unwrap().get("d").unwrap();
        let entries = index.reader().unwrap().len();
        let encoder = encoder.with_embed(|texts, options| match texts.iter().position(|text| text.contains("bad")) {
            Some(index) => Err(trivec::Error::NotFinite { index, mode: "dense", at: 0 }),
            None => model.encode(texts, options),
        });
        // Refused ones that are in the index, that are new, that follow each other, and good ones between and after them.
        let second = vec![
            Ok(Document::new("d", text(Some(bad)))),
            Ok(Document::new("new", text(Some(bad)))),
            Ok(Document::new("e", "Another text of e.")),
            Ok(Document::new("short", "It is bad.")),
            Ok(Document::new("f", "The text of f.")),
        ];
        let done = ingest(&mut writer, &encoder, second, &options, go_on).unwrap();
        assert_eq!((done.read, done.added, done.entries, done.refused), (5, 2, 2, 3), "{bad}: {:?}", done.errors);
        for (error, key) in done.errors.iter().zip(["d", "new", "short"]) {
            assert!(error.contains(&format!("document `{key}#")), "{error}");
        }
        let reader = index.reader().unwrap();
        assert_eq!((reader.get("d").unwrap(), reader.len()), (before, entries + 1), "{bad}");
        assert!(matches!(reader.get("new"), Err(Error::NoDocument { .. })));
        assert!(matches!(reader.get("short"), Err(Error::NoDocument { .. })));
        assert_eq!(reader.get("e").unwrap().entries()[0].text, "Another text of e.");
        index.check().unwrap();
        // Without the bad word it is taken, in the place of the old one.
        let again = vec![Ok(Document::new("d", text(Some(bad)).replace("bad", "good")))];
        let done = ingest(&mut writer, &encoder, again, &options, go_on).unwrap();
        assert_eq!((done.added, done.refused), (1, 0));
        let reader = index.reader().unwrap();
        let texts: String = reader.get("d").unwrap().entries().iter().map(|entry| entry.text.clone()).collect();
        assert!(texts.contains("good") && reader.len() as u64 == done.entries + 2);
    }
}
