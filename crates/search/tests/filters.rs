//! Tests that filters are refused which are likely mistakes: with names that no document has, and with values of types that a name has
//! nowhere.

mod common;

use common::{indexed, model};
use serde_json::json;
use trivec_search::{Document, Error, ErrorKind, Filter, Index, IndexOptions, Query, Reader};

/// The error with which a filter is refused.
fn refused(reader: &Reader, filter: &str) -> Error {
    reader.count(&filter.parse().unwrap()).unwrap_err()
}

/// Creates an index of these documents, with `at_once` of them in each commit.
fn index_of(directory: &std::path::Path, documents: &[Document], at_once: usize) -> Index {
    let (model, id) = model();
    let index = Index::create(directory, id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    for part in documents.chunks(at_once) {
        writer.upsert(&encoder, part).unwrap();
        writer.commit().unwrap();
    }
    drop(writer);
    index
}

#[test]
fn a_filter_of_a_field_that_no_document_has_is_refused_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let odd = Document::new("odd", "text")
        .with_field("author", json!({"name": "Ann"}))
        .with_field("a.b", 1)
        .with_field("empty", serde_json::Value::Null);
    writer.upsert(&encoder, &[odd]).unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    let refused = [
        ("yaer > 2000", "yaer"),
        ("year > 2000 or not topc in ('rain')", "topc"),
        ("author = 'Ann'", "author"),
        ("author.nam = 'Ann'", "author.nam"),
        ("a.b = 1", "a.b"),
        ("empty = 1", "empty"),
        ("Year = 2000 and exists(years)", "Year"),
    ];
    for (text, name) in refused {
        let filter: Filter = text.parse().unwrap();
        let query = Query { filter: Some(filter.clone()), ..Query::new("rain") };
        let embedding = encoder.query("rain").unwrap();
        for error in [
            reader.count(&filter).unwrap_err(),
            reader.for_each(Some(&filter), |_| Ok(())).unwrap_err(),
            reader.search(&encoder, &query).unwrap_err(),
            reader.search_all(&encoder, &[Query::new("soup"), query.clone()]).unwrap_err(),
            reader.search_vectors(&query, &embedding).unwrap_err(),
            writer.delete_where(&filter).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            let said = error.to_string();
            assert!(said.starts_with(&format!("filter: no document has a field `{name}`, only ")), "{said}");
            for there in ["year", "topic", "tags", "`a.b`", "author.name", "lang"] {
                assert!(said.contains(there), "{said}: {there}");
            }
        }
    }
    for good in ["`a.b` = 1", "author.name = 'Ann'", "exists(empty)", "not exists(yaer) or yaer = 1", "id = 'x'"] {
        assert!(reader.count(&good.parse().unwrap()).is_ok(), "{good}");
    }
    // A filter that was refused does not end the writer; an index without documents has no fields that a name could be compared with.
    assert_eq!(writer.delete_where(&"year >= 2000 or exists(author.name)".parse().unwrap()).unwrap(), 31);
    writer.commit().unwrap();
    assert_eq!(index.reader().unwrap().count(&"yaer > 2000".parse().unwrap()).unwrap(), 0);
}

#[test]
fn a_field_is_compared_with_values_of_a_type_that_it_has() {
    let document = |key: &str, name: &str, value: serde_json::Value| Document::new(key, "text").with_field(name, value);
    let documents = [
        document("whole", "year", json!(2020)),
        document("float", "price", json!(2.5)),
        document("text", "topic", json!("soup")),
        document("digits", "zip", json!("01234")),
        document("truth", "draft", json!(true)),
        document("list", "tags", json!(["a", "b"])),
        document("inside", "author", json!({"name": "Ann", "born": [1950]})),
        document("mixed", "size", json!("large")),
        document("mixed too", "size", json!(42)),
        document("mixed list", "any", json!([1, "one", true])),
    ];
    let refusals = [
        ("year = \"2020\"", "year", "numbers", "the text \"2020\""),
        ("year != '2020'", "year", "numbers", "the text \"2020\""),
        ("year > 'a\nb'", "year", "numbers", "the text \"a\\nb\""),
        ("year = true", "year", "numbers", "true"),
        ("year in (2020, '2021')", "year", "numbers", "the text \"2021\""),
        ("price <= '3'", "price", "numbers", "the text \"3\""),
        ("topic = 5", "topic", "text", "the number 5"),
        ("topic < false", "topic", "text", "false"),
        ("zip = 01234", "zip", "text", "the number 1234"),
        ("zip >= 0.5", "zip", "text", "the number 0.5"),
        ("draft = 'true'", "draft", "true and false", "the text \"true\""),
        ("draft = 1", "draft", "true and false", "the number 1"),
        ("tags not in (1)", "tags", "text", "the number 1"),
        ("author.name = 1", "author.name", "text", "the number 1"),
        ("author.born = '1950'", "author.born", "numbers", "the text \"1950\""),
        ("size = true", "size", "text and numbers", "true"),
        ("year > 2000 or not (topic = 'soup' and draft = 'no')", "draft", "true and false", "the text \"no\""),
        // `exists` does not excuse a value of a wrong type.
        ("exists(year) and year = '2020'", "year", "numbers", "the text \"2020\""),
        ("key = 5", "key", "text", "the number 5"),
        ("id in ('a', 5)", "id", "text", "the number 5"),
        ("document = true", "document", "text", "true"),
        ("lang > 3", "lang", "text", "the number 3"),
    ];
    for at_once in [documents.len(), 1] {
        let directory = tempfile::tempdir().unwrap();
        let index = index_of(directory.path(), &documents, at_once);
        let reader = index.reader().unwrap();
        for (filter, field, has, value) in refusals {
            let error = refused(&reader, filter);
            assert_eq!(error.kind(), ErrorKind::Usage, "{filter}");
            let expected = format!("filter: the field `{field}` has {has}, and was compared with {value}");
            assert_eq!(error.to_string(), expected, "{filter}");
            assert!(matches!(error, Error::FieldType { name, .. } if name == field), "{filter}");
        }
        for (filter, expected) in [
            ("year = 2020.0", 1),
            ("price > 2", 1),
            ("size = 'large' or size = 42", 2),
            ("size in ('large', 42)", 2),
            ("any = 1 and any = 'one' and any = true", 1),
            ("not exists(year) and not exists(nothing) or nothing = 'x'", 9),
        ] {
            assert_eq!(reader.count(&filter.parse().unwrap()).unwrap(), expected, "{filter}");
        }
    }
}

/// Whether a field exists depends on the documents that are not deleted, not on what tantivy's segments still have of deleted ones.
#[test]
fn what_deleted_documents_had_does_not_count_before_compaction_or_after() {
    let documents = [
        Document::new("a", "text").with_field("old", 1).with_field("size", "large").with_field("in.dots", 1),
        Document::new("b", "text").with_field("size", 42).with_field("new", 1),
        Document::new("c", "text").with_field("author", json!({"name": "Ann"})),
    ];
    for at_once in [3, 1] {
        let directory = tempfile::tempdir().unwrap();
        let index = index_of(directory.path(), &documents, at_once);
        assert_eq!(index.reader().unwrap().count(&"old = 1 and size = 'large'".parse().unwrap()).unwrap(), 1);
        let mut writer = index.writer().unwrap();
        writer.delete("a").unwrap();
        writer.delete("c").unwrap();
        // A delete that is not committed changes nothing.
        assert_eq!(index.reader().unwrap().count(&"old = 1".parse().unwrap()).unwrap(), 1);
        writer.commit().unwrap();
        for compacted in [false, true] {
            if compacted {
                writer.compact(true).unwrap();
            }
            let reader = index.reader().unwrap();
            for gone in ["old = 1", "`in.dots` = 1", "author.name = 'Ann'"] {
                let Error::NoField { fields, .. } = refused(&reader, gone) else { panic!("{gone}") };
                assert_eq!(fields, ["new", "size"], "{gone}, compacted: {compacted}");
            }
            assert!(matches!(refused(&reader, "size = 'large'"), Error::FieldType { .. }), "compacted: {compacted}");
            assert_eq!(reader.count(&"size = 42".parse().unwrap()).unwrap(), 1);
        }
    }
}
