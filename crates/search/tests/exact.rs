//! Tests that different things are not confused: integers that are equal as floats, keys of documents that look like keys of chunks, and
//! scores of one arm with those of several; and that a copy is of one moment.

mod common;

use common::model;
use serde_json::json;
use trivec_search::{Document, Encoder, Error, Fusion, Index, IndexOptions, Kept, Query, Writer};

const BIG: i64 = 9_007_199_254_740_992; // 2^53: from here on, not every integer is an f64

fn count(index: &Index, filter: &str) -> usize {
    index.reader().unwrap().count(&filter.parse().unwrap()).unwrap()
}

/// Documents with large integers in the field `n`, together with floats and negative integers, also in lists and objects.
fn numbers() -> Vec<Document> {
    let document = |key: &str, value: serde_json::Value| Document::new(key, "text").with_field("n", value);
    vec![
        document("even", json!(BIG)),
        document("odd", json!(BIG + 1)),
        document("float", json!(0.5)),
        document("list", json!([1, BIG + 3])),
        document("object", json!({"m": BIG + 5})),
        document("objects", json!([{"m": 2.5}, {"m": BIG + 7}])),
        document("negative", json!(-BIG - 1)),
        document("unsigned", json!(u64::MAX)),
        document("unsigned-less", json!(u64::MAX - 1)),
        document("as-float", json!(9_007_199_254_740_992.0)),
    ]
}

fn assert_exact(index: &Index) {
    for (filter, expected) in [
        ("n = 9007199254740992", 2), // even and as-float
        ("n = 9007199254740993", 1),
        ("n > 9007199254740992", 4),                           // odd, list, and both unsigned
        ("n >= 9007199254740993 and n < 9007199254740995", 2), // odd; of the list one value each
        ("n = 9007199254740995", 1),
        ("n = 9007199254740994", 0),
        ("n in (9007199254740994, 9007199254740996)", 0),
        ("n.m = 9007199254740997", 1),
        ("n.m = 9007199254740998", 0),
        ("n.m > 9007199254740997", 1),
        ("n = -9007199254740993", 1),
        ("n = -9007199254740992", 0),
        ("n < -9007199254740992", 1),
        ("n = 18446744073709551615", 1),
        ("n = 18446744073709551614", 1),
        ("n = 18446744073709551613", 0),
        ("n < 18446744073709551615 and n > 18446744073709551613", 1),
        ("n = 0.5", 1),
    ] {
        assert_eq!(count(index, filter), expected, "{filter}");
    }
}

#[test]
fn integers_are_compared_exactly_beside_floats() {
    let (model, id) = model();
    // All documents in one commit, and each in a commit of its own, which compaction then merges.
    for at_once in [numbers().len(), 1] {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
        let encoder = index.encoder(model, id).unwrap();
        let mut writer = index.writer().unwrap();
        for part in numbers().chunks(at_once) {
            writer.upsert(&encoder, part).unwrap();
            writer.commit().unwrap();
        }
        assert_exact(&index);
        writer.compact(true).unwrap();
        assert_exact(&index);
        assert_eq!(writer.delete_where(&"n = 9007199254740993".parse().unwrap()).unwrap(), 1);
        writer.commit().unwrap();
        let reader = index.reader().unwrap();
        assert!(matches!(reader.get("odd"), Err(Error::NoDocument { .. })));
        assert!(reader.get("even").is_ok() && reader.len() == numbers().len() - 1);
    }
}

fn chunk(document: &str, n: usize) -> Document {
    Document { document: Some(document.to_owned()), ..Document::new(format!("{document}#{n}"), format!("part {n}")) }
}

/// Adds entries as earlier versions did, which let a document have the key of another document's chunk.
fn add(writer: &mut Writer, encoder: &Encoder<'_>, documents: &[Document]) {
    for (document, embedding) in documents.iter().zip(encoder.documents(documents).unwrap()) {
        trivec_search::fuzzing::add_unchecked(writer, document, &embedding).unwrap();
    }
}

#[test]
fn a_key_that_an_entry_of_another_document_has_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let own = Document::new("d#0", "a document of its own");
    let mine = |document: &str| Document { document: Some(document.to_owned()), ..Document::new("mine", "a chunk") };
    let refused = "delete that one, or give one of them another key";
    let mut writer = index.writer().unwrap();
    // In both orders, in one commit and in two.
    for commits in [false, true] {
        for (first, second, whose) in [
            (chunk("d", 0), own.clone(), "document `d#0`: a chunk of the document `d` has this key already"),
            (own.clone(), chunk("d", 0), "`d#0`: a chunk of `d` would have this key, which a document has already"),
            (
                chunk("d", 0),
                chunk("d#0", 0),
                "it would be a chunk of `d#0`, a key that a chunk of the document `d` has already",
            ),
            (chunk("d#0", 0), chunk("d", 0), "`d#0`: a chunk of `d` would have this key, which a document has already"),
            (mine("a"), mine("b"), "a chunk of `b` would have this key, which a chunk of the document `a` has already"),
        ] {
            let put =
                |document: &Document, writer: &mut Writer| writer.upsert(&encoder, std::slice::from_ref(document));
            put(&first, &mut writer).unwrap();
            if commits {
                writer.commit().unwrap();
            }
            let error = put(&second, &mut writer).unwrap_err();
            assert!(matches!(error, Error::Document { .. }), "{error:?}");
            let said = error.to_string();
            assert!(said.contains(whose) && said.contains(refused), "{said}");
            // An entry may replace itself, the writer goes on after the refusal, and once the entry is deleted, also in the same commit,
            // its key is free.
            put(&first, &mut writer).unwrap();
            assert!(put(&second, &mut writer).is_err());
            writer.delete(first.group()).unwrap();
            put(&second, &mut writer).unwrap();
            assert!(put(&first, &mut writer).is_err());
            writer.commit().unwrap();
            let reader = index.reader().unwrap();
            assert_eq!((reader.len(), reader.get(&second.key).unwrap()), (1, Kept::Document(second.clone())));
            // The key is free too after a delete by a filter, or by the key of the entry.
            if commits {
                let filter = format!("key = \"{}\"", second.key).parse().unwrap();
                assert_eq!(writer.delete_where(&filter).unwrap(), 1);
            } else {
                writer.delete(&second.key).unwrap();
            }
            put(&first, &mut writer).unwrap();
            writer.delete(first.group()).unwrap();
            writer.commit().unwrap();
            assert!(index.reader().unwrap().is_empty());
        }
    }
    // If one of several entries is refused, none is added. None is refused if an earlier one of them replaces the entry that had the key.
    writer.upsert(&encoder, &[chunk("d", 0)]).unwrap();
    assert!(writer.upsert(&encoder, &[Document::new("x", "x"), own.clone()]).is_err());
    assert!(writer.upsert(&encoder, &[Document::new("y#0", "x"), chunk("y", 0)]).is_err());
    writer.upsert(&encoder, &[Document::new("d", "whole"), own.clone()]).unwrap();
    assert_eq!((writer.commit().unwrap().added, index.reader().unwrap().len()), (3, 2));
    writer.delete("d#0").unwrap();
    writer.delete("d").unwrap();
    // A whole document replaces its own chunks, so that another document can have the key of one of them in the same call.
    writer.upsert(&encoder, &[chunk("d", 0), chunk("d", 1), Document::new("d", "whole"), own.clone()]).unwrap();
    writer.commit().unwrap();
    assert_eq!(index.reader().unwrap().len(), 2);
}

#[test]
fn a_run_refuses_the_document_whose_chunk_has_a_taken_key() {
    use trivec_search::ingest::{Chunking, IngestOptions, ingest};
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let mut run = |keys: &[&str], chunk: Option<Chunking>| {
        let documents = keys.iter().map(|key| Ok(Document::new(*key, format!("the text of {key}"))));
        let options = IngestOptions { chunk, ..IngestOptions::default() };
        ingest(&mut writer, &encoder, documents, &options, |_| std::ops::ControlFlow::Continue(())).unwrap()
    };
    let chunked = Some(Chunking { tokens: 32, overlap: 0 });
    assert_eq!(run(&["d#0", "e"], None).added, 2);
    let done = run(&["a", "d", "e", "f"], chunked);
    assert_eq!((done.read, done.added, done.refused), (4, 3, 1));
    assert!(done.errors[0].contains("document `d#0`: a chunk of `d` would have this key"), "{:?}", done.errors);
    // A run without chunks refuses a document whose key is that of a chunk in the index.
    let done = run(&["f#0", "g"], None);
    assert_eq!((done.added, done.refused), (1, 1), "{done:?}");
    assert_eq!(run(&["d#0", "d", "e"], None).added, 2, "without chunks there is no such key");
    // Two documents of one run, of which the first still waits for the model when the second is read, in either order.
    for keys in [["h", "h#0"], ["i#0", "i"]] {
        let done = run(&keys, chunked);
        assert_eq!((done.added, done.refused), (1, 1), "{done:?}");
    }
}

#[test]
fn in_an_older_index_a_document_with_the_key_of_a_chunk_leaves_the_chunk_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let own = Document::new("d#0", "a document of its own");
    // In both orders, in one commit and in two.
    for commits in [false, true] {
        for document_first in [false, true] {
            let (first, second) = if document_first {
                (vec![own.clone()], vec![chunk("d", 0), chunk("d", 1)])
            } else {
                (vec![chunk("d", 0), chunk("d", 1)], vec![own.clone()])
            };
            for part in [first, second] {
                add(&mut writer, &encoder, &part);
                if commits {
                    writer.commit().unwrap();
                }
            }
            writer.commit().unwrap();
            let reader = index.reader().unwrap();
            assert_eq!(reader.len(), 3);
            assert_eq!(reader.get("d#0").unwrap(), Kept::Document(own.clone()), "a document before a chunk");
            assert_eq!(reader.count_of_key("d#0").unwrap(), 1);
            assert_eq!(reader.count_of_key("d").unwrap(), 2);
            // The chunk replaces only the chunk, and the document only the document.
            add(&mut writer, &encoder, &[chunk("d", 0), own.clone()]);
            writer.commit().unwrap();
            assert_eq!(index.reader().unwrap().len(), 3);
            // Deleting the key deletes the document; the chunk stays, and then the key leads to it.
            writer.delete("d#0").unwrap();
            writer.commit().unwrap();
            let reader = index.reader().unwrap();
            assert_eq!(reader.get("d#0").unwrap(), Kept::Document(chunk("d", 0)));
            assert_eq!((reader.len(), reader.count_of_key("d#0").unwrap()), (2, 1));
            writer.delete("d#0").unwrap();
            writer.commit().unwrap();
            assert_eq!(count(&index, r#"document = "d""#), 1);
            writer.delete("d").unwrap();
            writer.commit().unwrap();
            assert!(index.reader().unwrap().is_empty());
        }
    }
}

#[test]
fn in_an_older_index_a_document_added_and_deleted_in_one_commit_leaves_the_chunk_of_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    add(&mut writer, &encoder, &[chunk("d", 0), Document::new("d#0", "its own")]);
    writer.delete("d#0").unwrap();
    writer.commit().unwrap();
    assert_eq!(index.reader().unwrap().get("d#0").unwrap(), Kept::Document(chunk("d", 0)));
}

#[test]
fn arms_that_the_fusion_would_not_use_are_refused_and_the_dense_arm_alone_keeps_its_scores() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    writer.upsert(&encoder, &common::documents()[..10]).unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    let arms = "dense,sparse".parse().unwrap();
    let query = Query { arms, rerank: 0, ..Query::new("rain in the mountains") };
    let said = reader.search(&encoder, &query).unwrap_err().to_string();
    assert!(said.contains("fusion") && said.contains("weighted"), "{said}");
    let mixed = Query { fusion: Fusion::usual(arms), ..query.clone() };
    let hits = reader.search(&encoder, &mixed).unwrap().hits;
    assert!(hits.iter().any(|hit| hit.arms.sparse.is_some()));
    let alone = Query { arms: "dense".parse().unwrap(), ..query };
    for hit in reader.search(&encoder, &alone).unwrap().hits {
        assert_eq!(Some(hit.score), hit.arms.dense.map(|ranked| ranked.score));
    }
}

#[test]
fn a_copy_is_made_while_commits_follow_each_other() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path().join("index"), id, &IndexOptions::default()).unwrap();
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let commits = scope.spawn(|| {
            let encoder = index.encoder(model, id).unwrap();
            let mut writer = index.writer().unwrap();
            let mut n = 0;
            while !done.load(Ordering::Acquire) {
                writer.upsert(&encoder, &[Document::new(format!("k{}", n % 7), "text")]).unwrap();
                writer.commit().unwrap();
                if n % 5 == 4 {
                    writer.compact(true).unwrap();
                }
                n += 1;
                begun.store(true, Ordering::Release);
            }
        });
        // Ends the other thread also if an assertion fails.
        let _end = AtEnd(|| done.store(true, Ordering::Release));
        while !begun.load(Ordering::Acquire) && !commits.is_finished() {
            std::thread::yield_now();
        }
        for n in 0..5 {
            let to = directory.path().join(format!("copy-{n}"));
            match index.snapshot(&to) {
                Ok(()) => {
                    let copy = Index::open(&to).unwrap();
                    copy.check().unwrap();
                    assert!(!copy.reader().unwrap().is_empty());
                }
                // On a busy machine every attempt may meet a commit; then nothing may be left of the copy.
                Err(Error::Changing { .. }) => assert!(!to.exists() && !to.with_extension("partial").exists()),
                Err(e) => panic!("{e}"),
            }
        }
    });
}

/// Calls a function when it is dropped.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
