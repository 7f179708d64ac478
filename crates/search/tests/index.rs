//! Tests of writing: commits, deletes, replacements, compaction and copies, and what is refused.

mod common;

use common::{documents, indexed, model};
use trivec_search::{Arms, ColbertBits, Document, Error, ErrorKind, Fusion, Index, IndexOptions, Kept, ModelId, Query};

fn all_keys(index: &Index) -> Vec<String> {
    let mut keys = Vec::new();
    let each = |document: Document| {
        keys.push(document.key);
        Ok(())
    };
    index.reader().unwrap().for_each(None, each).unwrap();
    keys
}

#[test]
fn nothing_is_seen_before_the_commit_and_all_of_it_after() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let empty = index.reader().unwrap();
    assert!(empty.is_empty() && empty.search(&encoder, &Query::new("x")).unwrap().hits.is_empty());
    let mut writer = index.writer().unwrap();
    writer.upsert(&encoder, &documents()[..10]).unwrap();
    assert!(index.reader().unwrap().is_empty());
    assert_eq!(writer.commit().unwrap().added, 10);
    assert_eq!(index.reader().unwrap().len(), 10);
    assert!(empty.is_empty(), "a view does not change");
    assert_eq!(empty.refresh().unwrap().len(), 10);
    // What is not committed is lost with its writer.
    writer.upsert(&encoder, &documents()[10..20]).unwrap();
    drop(writer);
    assert_eq!(index.reader().unwrap().len(), 10);
    drop(index.writer().unwrap());
    let files = std::fs::read_dir(directory.path().join("seg")).unwrap().count();
    assert_eq!(files, 6, "the next writer removes what the last one has left");
    index.check().unwrap();
}

#[test]
fn documents_are_replaced_and_deleted_by_key_and_filter() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let replaced = Document::new("rain-en", "An entirely new text about chess.").with_lang("en");
    // Of two documents with the same key in one batch the last one counts.
    writer.upsert(&encoder, &[Document::new("rain-en", "first"), replaced.clone()]).unwrap();
    writer.delete("soup-en").unwrap();
    writer.delete("was never there").unwrap();
    assert_eq!(writer.delete_where(&r#"lang = "ru" and year > 2004"#.parse().unwrap()).unwrap(), 6);
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    assert_eq!(reader.len(), 30 - 1 - 6);
    assert_eq!(reader.get("rain-en").unwrap(), Kept::Document(replaced.clone()));
    assert!(matches!(reader.get("soup-en"), Err(Error::NoDocument { .. })));
    assert!(matches!(reader.get("soup-ru"), Err(Error::NoDocument { .. })));
    let found = reader.search(&encoder, &Query::new("rain in the mountains tomorrow")).unwrap();
    assert!(found.hits.iter().all(|hit| hit.document.text != "It will rain heavily in the mountains tomorrow."));
    assert_eq!(index.check().unwrap().documents, 23);
    let stats = index.stats().unwrap();
    assert_eq!((stats.documents, stats.deleted, stats.segments), (23, 9, 2));
}

#[test]
fn every_name_of_metadata_can_be_filtered() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let names = ["plain", "a.b", "a\\", "a\\b", "a\\.b", "a\\\\", "a b", "`", "年"];
    let document = |(n, name): (usize, &&str)| {
        let mut document = Document::new(format!("of-{n}"), "text");
        document.metadata.insert((*name).to_owned(), 3.into());
        document
    };
    let documents: Vec<Document> = names.iter().enumerate().map(document).collect();
    let mut writer = index.writer().unwrap();
    writer.upsert(&encoder, &documents).unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    for name in names {
        let quoted = name.replace('\\', "\\\\").replace('`', "\\`");
        assert_eq!(reader.count(&format!("`{quoted}` = 3").parse().unwrap()).unwrap(), 1, "{name}");
        assert_eq!(
            reader.count(&format!("not exists(`{quoted}`)").parse().unwrap()).unwrap(),
            names.len() - 1,
            "{name}"
        );
    }
}

#[test]
fn chunks_go_with_their_document() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let chunk = |n: usize| Document {
        document: Some("long".to_owned()),
        ..Document::new(format!("long#{n}"), format!("part {n}"))
    };
    let mut writer = index.writer().unwrap();
    writer.upsert(&encoder, &[chunk(0), chunk(1), chunk(2), Document::new("other", "text")]).unwrap();
    writer.commit().unwrap();
    assert_eq!(index.reader().unwrap().count(&r#"document = "long""#.parse().unwrap()).unwrap(), 3);
    let reader = index.reader().unwrap();
    let all = Kept::Chunks { key: "long".to_owned(), chunks: vec![chunk(0), chunk(1), chunk(2)] };
    assert_eq!(reader.get("long").unwrap(), all, "the key of the document names its chunks");
    assert_eq!(reader.get("long#1").unwrap(), Kept::Document(chunk(1)));
    assert!(reader.bytes_of_key("long").unwrap() > reader.bytes_of_key("long#1").unwrap());
    for wrong in ["lon", "long#3", ""] {
        assert!(matches!(reader.get(wrong), Err(Error::NoDocument { .. })), "{wrong}");
        assert!(matches!(reader.bytes_of_key(wrong), Err(Error::NoDocument { .. })), "{wrong}");
    }
    let stats = index.stats().unwrap();
    assert_eq!((stats.documents, stats.entries, reader.len()), (2, 4, 4));
    // A chunk that is replaced alone keeps its place among the chunks.
    writer.upsert(&encoder, &[chunk(0)]).unwrap();
    writer.commit().unwrap();
    assert_eq!(index.reader().unwrap().get("long").unwrap(), all);
    let checked = index.check().unwrap();
    assert_eq!((checked.documents, checked.entries), (2, 4), "chunks in two segments are of one document");
    writer.delete("long#1").unwrap();
    writer.commit().unwrap();
    assert_eq!(all_keys(&index), ["long#2", "other", "long#0"]);
    writer.delete("long").unwrap();
    writer.upsert(&encoder, &[chunk(0)]).unwrap();
    writer.commit().unwrap();
    assert_eq!(all_keys(&index), ["other", "long#0"]);
}

#[test]
fn compaction_changes_nothing_but_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    for part in documents().chunks(5) {
        writer.upsert(&encoder, part).unwrap();
        writer.commit().unwrap();
    }
    writer.delete_where(&r#"topic = "rain" or key = "train-en""#.parse().unwrap()).unwrap();
    writer.commit().unwrap();
    let before = index.reader().unwrap();
    // BM25 counts deleted documents until a compaction, so that its scores change then, and with them the order of hits that are nearly
    // equal. So hits of searches with BM25 are compared by their keys, and those without it in their order.
    let with_words = |text: String| Query { explain: true, top: 100, ..Query::new(text) };
    let arms = Arms { bm25: false, ..Arms::ALL };
    let without = |text: String| Query { explain: true, arms, fusion: Fusion::WEIGHTED, ..Query::new(text) };
    let queries: Vec<Query> =
        documents().into_iter().flat_map(|d| [with_words(d.text.clone()), without(d.text)]).collect();
    let expected = before.search_all(&encoder, &queries).unwrap();
    assert!(writer.compact(false).unwrap() >= 1);
    assert!(writer.compact(true).unwrap() >= 2);
    assert_eq!(writer.compact(true).unwrap(), 0, "there is nothing left to do");
    let after = index.reader().unwrap();
    assert_eq!(index.stats().unwrap().segments, 1);
    assert_eq!(index.stats().unwrap().deleted, 0);
    assert_eq!(index.check().unwrap().documents, 25);
    for reader in [before, after] {
        for (expected, found) in expected.iter().zip(reader.search_all(&encoder, &queries).unwrap()) {
            // The scores must be equal to the bit.
            let arms = |hits: &trivec_search::Hits| {
                let of = |hit: &trivec_search::Hit| {
                    (hit.document.key.clone(), hit.arms.dense, hit.arms.sparse, hit.arms.colbert)
                };
                let mut all: Vec<_> = hits.hits.iter().map(of).collect();
                if hits.hits.iter().any(|hit| hit.arms.bm25.is_some()) {
                    all.sort_by(|a, b| a.0.cmp(&b.0));
                }
                all
            };
            assert_eq!(arms(expected), arms(&found));
        }
    }
}

#[test]
fn a_snapshot_is_an_index_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(&directory.path().join("a"), &IndexOptions::default());
    let to = directory.path().join("b");
    let mut writer = index.writer().unwrap();
    // A separator at the end of a name changes nothing.
    index.snapshot(to.join("")).unwrap();
    assert!(matches!(index.snapshot(&to), Err(Error::Exists { .. })));
    writer.delete("rain-en").unwrap();
    writer.commit().unwrap();
    let copy = Index::open(&to).unwrap();
    assert_eq!((copy.check().unwrap().documents, index.check().unwrap().documents), (30, 29));
    // Both can be written to.
    let mut other = copy.writer().unwrap();
    other.delete("rain-de").unwrap();
    other.commit().unwrap();
    assert!(copy.reader().unwrap().get("rain-en").is_ok() && copy.reader().unwrap().get("rain-de").is_err());
    assert!(index.reader().unwrap().get("rain-de").is_ok());
}

#[test]
fn nothing_is_left_in_a_directory_that_has_other_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine.txt"), "text").unwrap();
    let refused = Index::create(directory.path(), &model().1, &IndexOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Exists { .. }), "{refused}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mine.txt"]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let path = directory.path().join("index");
    assert_eq!(Index::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let index = indexed(&path, &IndexOptions::default());
    let error = Index::create(&path, id, &IndexOptions::default()).unwrap_err();
    assert!(error.to_string().contains("there is an index already"), "{error}");
    std::fs::create_dir(directory.path().join("full")).unwrap();
    std::fs::write(directory.path().join("full/thing"), "").unwrap();
    assert!(matches!(
        Index::create(directory.path().join("full"), id, &IndexOptions::default()),
        Err(Error::Exists { .. })
    ));

    let held = index.writer().unwrap();
    let error = index.writer().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    drop(held);
    drop(index.writer().unwrap());

    let other = ModelId { name: "other".to_owned(), digest: "0".repeat(64), ..id.clone() };
    let error = index.encoder(model, &other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("`starter`") && error.to_string().contains("`other`"), "{error}");
    assert_eq!(Index::open_or_create(&path, &other, &IndexOptions::default()).unwrap_err().kind(), ErrorKind::Mismatch);
    assert_eq!(Index::open_or_create(&path, id, &IndexOptions::default()).unwrap().reader().unwrap().len(), 30);
    // An index keeps the options it was made with: other ones are refused by naming both.
    let own = IndexOptions::default();
    for (options, option, found, kept) in [
        (IndexOptions { colbert: ColbertBits::Eight, ..own.clone() }, "colbert", "8", "4"),
        (IndexOptions { language: Some("DE".into()), ..own.clone() }, "language", "de", "none"),
        (IndexOptions { languages: vec!["zh-CN".into(), "de".into()], ..own.clone() }, "languages", "de,zh", "any"),
        (IndexOptions { max_length: Some(40), ..own.clone() }, "max_length", "40", "the model's own"),
        (IndexOptions { document_prompt: Some("p: ".into()), ..own.clone() }, "document_prompt", "`p: `", "default"),
        (IndexOptions { query_prompt: Some(String::new()), ..own.clone() }, "query_prompt", "``", "default"),
    ] {
        let error = Index::open_or_create(&path, id, &options).unwrap_err();
        let Error::Option { option: named, what } = &error else { panic!("{error}") };
        assert_eq!((*named, error.kind()), (option, ErrorKind::Usage));
        assert!(what.contains(&format!("found {found}, but")) && what.contains(kept), "{what}");
        // An index that was created with these options is opened with them.
        let other = directory.path().join(option);
        assert_eq!(
            Index::open_or_create(&other, id, &options).unwrap().options(),
            Index::open(&other).unwrap().options()
        );
        Index::open_or_create(&other, id, &options).unwrap();
    }
    // Of an index that has never had a document nothing is kept: options and model of the next call hold.
    let unused = directory.path().join("unused");
    Index::create(&unused, id, &own).unwrap().writer().unwrap().commit().unwrap();
    let eight = IndexOptions { colbert: ColbertBits::Eight, ..own.clone() };
    for (id, options) in [(id, &eight), (&other, &eight), (&other, &own), (id, &own)] {
        let stale = Index::open(&unused).unwrap();
        assert!(stale.is_unused().unwrap());
        let made = Index::open_or_create(&unused, id, options).unwrap();
        assert_eq!((&made.options(), &made.model().digest), (options, &id.digest));
        assert!(matches!(stale.check_place(), Err(Error::Replaced { .. })));
        made.check().unwrap();
    }
    let made = Index::open(&unused).unwrap();
    let held = made.writer().unwrap();
    assert_eq!(Index::open_or_create(&unused, id, &eight).unwrap_err().kind(), ErrorKind::Locked);
    drop(held);
    assert!(matches!(
        made.remake(id, &IndexOptions { language: Some("german".into()), ..own.clone() }),
        Err(Error::Option { .. })
    ));
    assert_eq!(Index::open(&unused).unwrap().options(), own, "what no index can have changes nothing");
    let mut writer = made.writer().unwrap();
    writer.upsert(&made.encoder(model, id).unwrap(), &[Document::new("a", "once there")]).unwrap();
    writer.commit().unwrap();
    writer.delete("a").unwrap();
    writer.commit().unwrap();
    drop(writer);
    assert!(!made.is_unused().unwrap() && matches!(made.remake(id, &eight), Err(Error::Exists { .. })));
    assert_eq!(Index::open_or_create(&unused, id, &eight).unwrap_err().kind(), ErrorKind::Usage);
    // Options that no index can have.
    for options in [
        IndexOptions { language: Some("german".into()), ..own.clone() },
        IndexOptions { languages: vec!["de".into(), "xx".into()], ..own.clone() },
        IndexOptions { languages: vec!["lo".into()], ..own },
    ] {
        let error = Index::create(directory.path().join("never"), id, &options).unwrap_err();
        assert!(matches!(error, Error::Option { .. }) && !directory.path().join("never").exists(), "{error}");
    }

    let settings = path.join("trivec-index.json");
    let good = std::fs::read_to_string(&settings).unwrap();
    for (from, to, kind) in [
        ("\"format\": 2", "\"format\": 7", ErrorKind::Mismatch),
        ("trivec-words-1", "trivec-words-0", ErrorKind::Mismatch),
        ("\"dense_dim\": ", "\"dense_dim\": 9", ErrorKind::Damaged),
        ("{", "[", ErrorKind::Damaged),
        ("\"uuid\": \"", "\"uuid\": \"x", ErrorKind::Damaged),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&settings, good.replace(from, to)).unwrap();
        let result = Index::open(&path).and_then(|index| index.reader());
        assert_eq!(result.unwrap_err().kind(), kind, "{to}");
    }
}

#[test]
fn a_call_with_a_bad_document_adds_nothing_and_the_writer_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let bad = Document::new("bad", " ");
    let error = writer.upsert(&encoder, &[Document::new("beside", "text"), bad]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    writer.upsert(&encoder, &[Document::new("good", "text")]).unwrap();
    writer.commit().unwrap();
    assert_eq!(all_keys(&index), ["good"]);
    // One word is too little to tell a language.
    assert_eq!(index.reader().unwrap().languages().collect::<Vec<_>>(), ["und"]);
}

#[test]
fn a_call_of_several_batches_that_fails_adds_nothing_and_replaces_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let good = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let chunk =
        |n: usize, text: &str| Document { document: Some("d".to_owned()), ..Document::new(format!("d#{n}"), text) };
    writer.upsert(&good, &[Document::new("k0", "committed"), chunk(0, "committed")]).unwrap();
    writer.commit().unwrap();
    writer.upsert(&good, &[Document::new("k1", "pending"), chunk(1, "pending")]).unwrap();
    // The failing text is in the second or third batch of 64, and at the beginning or end of one.
    for (at, failure) in [(64, "bad"), (127, "bad"), (150, "bad"), (64, "gone"), (199, "gone")] {
        let encoder = index.encoder(model, id).unwrap().with_embed(|texts, options| {
            match texts.iter().position(|text| text.contains("bad") || text.contains("gone")) {
                Some(index) if texts[index] == "bad" => Err(trivec::Error::NotFinite { index, mode: "dense", at: 0 }),
                Some(_) => Err(trivec::Error::Cancelled),
                None => model.encode(texts, options),
            }
        });
        let mut all: Vec<Document> = (0..200).map(|n| Document::new(format!("k{n}"), format!("new {n}"))).collect();
        // The whole document would replace the chunks.
        all[3] = Document::new("d", "new");
        all[at].text = failure.to_owned();
        let error = writer.upsert(&encoder, &all).unwrap_err();
        match failure {
            "bad" => assert!(error.to_string().contains(&format!("document `k{at}`")), "{error}"),
            _ => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        }
        assert_eq!(writer.pending(), 2, "{at}");
    }
    // What waits is committed, what failed is not; and a chunk of a document that a failed call would have added is still free.
    writer.upsert(&good, &[Document { document: Some("k5".to_owned()), ..Document::new("k9", "free") }]).unwrap();
    let done = writer.commit().unwrap();
    assert_eq!(done.added, 3);
    assert_eq!(all_keys(&index), ["k0", "d#0", "k1", "d#1", "k9"]);
    let checked = index.check().unwrap();
    assert_eq!((checked.documents, checked.entries), (4, 5));
    let reader = index.reader().unwrap();
    assert_eq!(reader.get("k0").unwrap().entries()[0].text, "committed");
    assert!(reader.rows() > reader.len(), "the vectors of the failed calls wait for compaction");
    let before = reader.search(&good, &Query::new("pending")).unwrap().hits;
    writer.compact(true).unwrap();
    let reader = index.reader().unwrap();
    assert_eq!(reader.rows(), reader.len());
    assert_eq!(reader.search(&good, &Query::new("pending")).unwrap().hits, before);
    // The same call without the bad text adds and replaces all of it.
    let mut all: Vec<Document> = (0..200).map(|n| Document::new(format!("n{n}"), format!("new {n}"))).collect();
    all.extend([Document::new("k0", "newer"), Document::new("d", "whole"), Document::new("k0", "newest")]);
    writer.upsert(&good, &all).unwrap();
    assert_eq!(writer.commit().unwrap().added, 203);
    let reader = index.reader().unwrap();
    assert_eq!((reader.len(), reader.get("k0").unwrap().entries()[0].text.as_str()), (204, "newest"));
    assert_eq!(reader.get("d").unwrap(), Kept::Document(Document::new("d", "whole")));
}

#[test]
fn chunks_are_seen_wherever_they_lie() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let chunk = |key: &str, of: &str| Document { document: Some(of.to_owned()), ..Document::new(key, "a part") };
    let mut writer = index.writer().unwrap();
    let mut old = index.reader().unwrap();
    let mut added = |document: Document, expected: bool| {
        writer.upsert(&encoder, &[document]).unwrap();
        writer.commit().unwrap();
        // By a view that knows earlier segments, and by one that knows none.
        old = old.refresh().unwrap();
        for reader in [&old, &index.reader().unwrap()] {
            assert_eq!(reader.has_chunks().unwrap(), expected);
            assert_eq!(reader.has_chunks().unwrap(), expected, "asked again");
            assert_eq!(reader.search(&encoder, &Query::new("part")).unwrap().in_chunks, expected);
        }
    };
    added(Document::new("d#7", "a document with the key of a chunk"), false);
    added(Document::new("b", "another"), false);
    // Each in a segment of its own, with as many keys of entries as of documents.
    added(chunk("d#0", "d"), true);
    added(chunk("d#1", "d"), true);
    added(Document::new("c", "one more"), true);
    // A whole document in the place of the chunks; they count until compaction.
    writer.upsert(&encoder, &[Document::new("d", "whole")]).unwrap();
    writer.compact(true).unwrap();
    assert!(!old.refresh().unwrap().has_chunks().unwrap() && old.has_chunks().unwrap());
    // The chunk's key sorts before and after the other key of its segment.
    for (own, of) in [("a", "z"), ("z", "a")] {
        writer.delete(of).unwrap();
        writer.upsert(&encoder, &[chunk(own, of), Document::new("m", "whole")]).unwrap();
        writer.compact(true).unwrap();
        assert!(index.reader().unwrap().has_chunks().unwrap());
        writer.delete(of).unwrap();
        writer.compact(true).unwrap();
        assert!(!index.reader().unwrap().has_chunks().unwrap());
    }
}

#[test]
fn many_small_commits_leave_few_segments_and_the_same_hits() {
    let (model, id) = model();
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let make = |directory: &std::path::Path| Index::create(directory, id, &IndexOptions::default()).unwrap();
    let (one_by_one, at_once) = (make(directories[0].path()), make(directories[1].path()));
    let encoder = one_by_one.encoder(model, id).unwrap();
    let all: Vec<Document> =
        (0..80).map(|n| Document::new(format!("k{n}"), format!("text {n} of {}", n % 7)).with_field("n", n)).collect();
    let mut writer = one_by_one.writer().unwrap();
    let mut generation = 0;
    for (n, document) in all.iter().enumerate() {
        writer.upsert(&encoder, std::slice::from_ref(document)).unwrap();
        if n % 9 == 8 {
            writer.delete(&format!("k{}", n - 4)).unwrap();
        }
        let done = writer.commit().unwrap();
        assert!(done.generation > generation && done.added == 1);
        generation = done.generation;
        assert_eq!(one_by_one.reader().unwrap().generation(), generation);
        // Commits join eight small segments into one: without that, 80 segments would be left.
        assert!(one_by_one.stats().unwrap().segments <= 24, "after {n}");
    }
    drop(writer);
    one_by_one.check().unwrap();
    let mut writer = at_once.writer().unwrap();
    // Deleted were the numbers 4, 13, …, 67, the last one after number 71 was added.
    let left: Vec<Document> =
        all.iter().enumerate().filter(|(n, _)| (n + 5) % 9 != 0 || *n > 75).map(|(_, d)| d.clone()).collect();
    writer.upsert(&encoder, &left).unwrap();
    writer.finish().unwrap();
    let (few, one) = (one_by_one.reader().unwrap(), at_once.reader().unwrap());
    assert_eq!(all_keys(&one_by_one), all_keys(&at_once));
    for query in ["text 7 of 3", "of 5", "text"] {
        let keys = |reader: &trivec_search::Reader| {
            let query = Query { arms: "dense".parse().unwrap(), ..Query::new(query) };
            let hits = reader.search(&encoder, &query).unwrap().hits;
            hits.into_iter().map(|hit| (hit.document.key, hit.score.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(keys(&few), keys(&one), "{query}");
    }
}

/// If an opened index is removed, or another index is put in its place, every call says so, and the other index is not changed.
#[test]
fn an_index_that_was_removed_or_replaced_is_neither_damaged_nor_written_to() {
    let (model, id) = model();
    for replaced in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (own, other) = (directory.path().join("own"), directory.path().join("other"));
        let index = indexed(&own, &IndexOptions::default());
        let encoder = index.encoder(model, id).unwrap();
        let reader = index.reader().unwrap();
        // This writer has a document that is not committed, and has begun a segment. One without comes below.
        let mut writer = index.writer().unwrap();
        writer.upsert(&encoder, &[Document::new("pending", "text")]).unwrap();
        let documents: Vec<Document> = (0..5).map(|n| Document::new(format!("{n}"), "of the other index")).collect();
        if replaced {
            let second = Index::create(&other, id, &IndexOptions::default()).unwrap();
            let mut writer = second.writer().unwrap();
            writer.upsert(&second.encoder(model, id).unwrap(), &documents).unwrap();
            writer.commit().unwrap();
        }
        std::fs::rename(&own, directory.path().join("away")).unwrap();
        if replaced {
            std::fs::rename(&other, &own).unwrap();
        }
        let errors = [
            reader.refresh().map(drop),
            index.reader().map(drop),
            index.stats().map(drop),
            index.check().map(drop),
            index.snapshot(directory.path().join("copy")),
            index.check_place(),
            writer.commit().map(drop),
        ];
        for (place, error) in errors.into_iter().enumerate() {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{place}: {error}");
            assert_eq!(matches!(error, Error::Replaced { .. }), replaced, "{place}: {error}");
            assert_eq!(error.to_string().contains("another index is in the place"), replaced, "{place}: {error}");
        }
        assert!(matches!(writer.commit(), Err(Error::WriterFailed { .. })));
        drop(writer);
        let error = index.writer().unwrap_err();
        assert_eq!(matches!(error, Error::Replaced { .. }), replaced, "{error}");
        assert!(!directory.path().join("copy").exists());
        // The view that was opened still reads what it has.
        assert_eq!((reader.len(), reader.documents().unwrap()), (30, 30));
        if replaced {
            let there = Index::open(&own).unwrap();
            assert_eq!(there.check().unwrap().documents, 5);
            assert!(there.reader().unwrap().get("pending").is_err());
            drop(there);
        }
        assert_eq!(Index::open(directory.path().join("away")).unwrap().check().unwrap().documents, 30);
    }
    // A writer that has begun no segment when its index is replaced makes no file in the other index either.
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("own");
    let index = indexed(&own, &IndexOptions::default());
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    std::fs::rename(&own, directory.path().join("away")).unwrap();
    indexed(&own, &IndexOptions::default());
    let error = writer.upsert(&encoder, &[Document::new("x", "text")]).unwrap_err();
    assert!(matches!(error, Error::Replaced { .. }), "{error}");
    drop(writer);
    assert_eq!(Index::open(&own).unwrap().check().unwrap().documents, 30);
}
