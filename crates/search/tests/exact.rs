//! What must never be taken for something else: integers that floats cannot tell apart, and keys of documents that look like those of chunks.

mod common;

use common::model;
use serde_json::json;
use trivec_search::{Document, Error, Fusion, Index, IndexOptions, Kept, Query};

const BIG: i64 = 9_007_199_254_740_992; // 2^53: from here on, f64 has not every integer

fn count(index: &Index, filter: &str) -> usize {
    index.reader().unwrap().count(&filter.parse().unwrap()).unwrap()
}

/// Large integers beside floats, and beside negative ones; in lists and objects.
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
    // In one commit, and one commit a document, which compaction makes one of.
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

#[test]
fn a_document_whose_key_is_that_of_a_chunk_leaves_the_chunk_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let own = Document::new("d#0", "a document of its own");
    // In every order, in one commit and in several.
    for commits in [false, true] {
        for document_first in [false, true] {
            let (first, second) = if document_first {
                (vec![own.clone()], vec![chunk("d", 0), chunk("d", 1)])
            } else {
                (vec![chunk("d", 0), chunk("d", 1)], vec![own.clone()])
            };
            for part in [first, second] {
                writer.upsert(&encoder, &part).unwrap();
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
            // Each is replaced by its own kind alone.
            writer.upsert(&encoder, &[chunk("d", 0), own.clone()]).unwrap();
            writer.commit().unwrap();
            assert_eq!(index.reader().unwrap().len(), 3);
            // The document goes, and the chunk stays; then the key is the chunk's.
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
fn a_document_added_and_deleted_in_one_commit_leaves_the_chunk_of_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    writer.upsert(&encoder, &[chunk("d", 0), Document::new("d#0", "its own")]).unwrap();
    writer.delete("d#0").unwrap();
    writer.commit().unwrap();
    assert_eq!(index.reader().unwrap().get("d#0").unwrap(), Kept::Document(chunk("d", 0)));
}

#[test]
fn arms_that_would_have_no_say_are_refused_and_one_arm_keeps_its_scores() {
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
        // Also where an assertion fails.
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
                // On a machine so busy that every try met a commit: nothing is left of it.
                Err(Error::Changing { .. }) => assert!(!to.exists() && !to.with_extension("partial").exists()),
                Err(e) => panic!("{e}"),
            }
        }
    });
}

struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
