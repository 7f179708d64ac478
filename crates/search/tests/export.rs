//! Tests that an export has what the index has.

mod common;

use std::collections::BTreeSet;

use common::{indexed, model};
use trivec_search::export::{Manifest, Target, export};
use trivec_search::{Document, Error, IndexOptions};

const TARGETS: [(&str, Target); 8] = [
    ("qdrant", Target::Qdrant),
    ("milvus", Target::Milvus),
    ("pgvector", Target::Pgvector),
    ("elasticsearch", Target::Elasticsearch),
    ("vespa", Target::Vespa),
    ("npy", Target::Npy),
    ("faiss", Target::Faiss),
    ("lancedb", Target::Lancedb),
];

#[test]
fn every_target_gets_every_document_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(&directory.path().join("index"), &IndexOptions::default());
    let mut writer = index.writer().unwrap();
    writer.delete("rain-en").unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    let filter = r#"lang in ("en", "zh")"#.parse().unwrap();
    assert!("elastic".parse::<Target>().unwrap_err().to_string().contains("lancedb"));
    for (name, target) in TARGETS {
        assert_eq!(name.parse::<Target>().unwrap(), target);
        let to = directory.path().join(name);
        let manifest = export(&reader, &to, target, Some(&filter)).unwrap();
        assert!(matches!(export(&reader, &to, target, None), Err(Error::Exists { .. })));
        assert_eq!((manifest.documents, manifest.with_sparse), (13, 13));
        assert_eq!(manifest.model.digest, model().1.digest);
        let takes_colbert = !matches!(target, Target::Milvus | Target::Pgvector | Target::Elasticsearch);
        assert_eq!(manifest.colbert_dim.is_some(), takes_colbert);
        for query in &manifest.queries {
            let lists = [
                (&query.dense, &query.dense_scores, true),
                (&query.sparse, &query.sparse_scores, true),
                (&query.colbert, &query.colbert_scores, takes_colbert),
            ];
            for (keys, scores, there) in lists {
                assert_eq!(keys.first() == Some(&query.key), there, "vectors are nearest to themselves: {query:?}");
                assert!(keys.len() == scores.len() && scores.windows(2).all(|pair| pair[0] >= pair[1]));
            }
            assert_eq!(query.dense.len(), 10);
            assert!((query.dense_scores[0] - 1.0).abs() < 1e-5, "vectors have length 1");
        }
        let mut lines = Vec::new();
        for file in &manifest.files {
            let bytes = std::fs::read(to.join(&file.name)).unwrap();
            assert_eq!(bytes.len() as u64, file.bytes);
            if file.name.starts_with("documents") {
                lines.extend(String::from_utf8(bytes).unwrap().lines().map(str::to_owned));
            }
        }
        let names: BTreeSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        assert!(names.contains("load.py") && names.contains("trivec_export.py"), "{names:?}");
        let manifest_file = std::fs::read(to.join("manifest.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Manifest>(&manifest_file).unwrap(), manifest);
        assert_eq!(lines.len(), if target == Target::Elasticsearch { 26 } else { 13 });
        if target == Target::Pgvector {
            assert!(lines.iter().all(|line| line.split('\t').count() == 9));
            let keys: Vec<&str> = lines.iter().filter_map(|line| line.split('\t').nth(1)).collect();
            assert!(keys.is_sorted() && keys.len() == 13);
            continue;
        }
        let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        match target {
            Target::Qdrant => {
                let dense: Vec<f64> =
                    first["vector"]["dense"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
                assert!((dense.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
                for row in first["vector"]["colbert"].as_array().unwrap() {
                    let square: f64 = row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
                    assert!((square - 1.0).abs() < 0.1, "{square}");
                }
                assert_eq!(first["payload"]["key"], "book-en");
                assert_eq!(first["payload"]["topic"], "book");
            }
            Target::Npy | Target::Faiss | Target::Lancedb => {
                let length = |name: &str| std::fs::metadata(to.join(name)).unwrap().len();
                assert_eq!(length("dense.npy"), 128 + 13 * 4 * index.model().dense_dim as u64);
                assert_eq!(length("sparse_starts.npy"), 128 + 14 * 8);
                assert_eq!(length("sparse_ids.npy"), length("sparse_weights.npy"));
                assert_eq!((length("colbert.npy") - 128) % (2 * index.model().colbert_dim.unwrap() as u64), 0);
            }
            Target::Vespa => assert_eq!(first["put"], "id:trivec:entry::book-en"),
            _ => {}
        }
    }
}

/// In an index of an earlier version a chunk may have the key of another document, and an engine with ids would keep only one of the two.
#[test]
fn entries_of_one_key_are_refused_where_an_engine_keeps_one() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(&directory.path().join("index"), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let chunk = Document { document: Some("a".to_owned()), ..Document::new("a#0", "a chunk").with_lang("cs") };
    let mut writer = index.writer().unwrap();
    let documents = [Document::new("a#0", "a document"), chunk];
    for (document, embedding) in documents.iter().zip(encoder.documents(&documents).unwrap()) {
        trivec_search::fuzzing::add_unchecked(&mut writer, document, &embedding).unwrap();
    }
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    let without = r#"not lang = "cs""#.parse().unwrap();
    for (name, target) in TARGETS {
        let to = directory.path().join(name);
        let arrays = matches!(target, Target::Npy | Target::Faiss | Target::Lancedb);
        match export(&reader, &to, target, None) {
            Ok(manifest) => assert!(arrays && manifest.documents == 32, "{name}"),
            Err(error) => {
                assert!(!arrays && error.to_string().contains("document `a#0`: "), "{name}: {error}");
                assert!(!to.exists());
                assert_eq!(export(&reader, &to, target, Some(&without)).unwrap().documents, 31);
            }
        }
    }
}

/// An exported Parquet file can be read as an input, and gives the same documents.
#[cfg(feature = "parquet")]
#[test]
fn a_parquet_file_is_read_as_it_was_written() {
    use trivec_search::ingest::{Columns, open};
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(&directory.path().join("index"), &IndexOptions::default());
    let to = directory.path().join("out");
    let manifest = export(&index.reader().unwrap(), &to, "parquet".parse().unwrap(), None).unwrap();
    assert_eq!((manifest.documents, manifest.with_sparse), (30, 30));
    let fields = Some(vec!["metadata".into(), "sparse_ids".into()]);
    let columns = Columns { key: "key".into(), fields, ..Columns::default() };
    let file = to.join("documents.parquet");
    let rows: Vec<_> = open(&file, None, &columns).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), 30);
    assert!(rows.windows(2).all(|pair| pair[0].key < pair[1].key));
    let phone = rows.iter().find(|document| document.key == "phone-zh").unwrap();
    assert_eq!(phone.text, "苹果公司发布了配备更好相机的新手机。");
    assert_eq!(phone.lang.as_deref(), Some("zh"));
    let metadata: serde_json::Value = serde_json::from_str(phone.metadata["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(metadata["year"], 2001);
    let ids: Vec<u64> =
        phone.metadata["sparse_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    assert!(!ids.is_empty() && ids.is_sorted());

    // Names that the file does not have are refused, also a name inside a column without nested ones.
    for (wrong, name) in [
        (Columns { key: "id".into(), ..columns.clone() }, "id"),
        (Columns { title: Some("titel".into()), ..columns.clone() }, "titel"),
        (Columns { lang: Some("lang.code".into()), ..columns.clone() }, "lang.code"),
        (Columns { fields: Some(vec!["year".into()]), ..columns.clone() }, "year"),
    ] {
        let error = open(&file, None, &wrong).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, Error::Columns { .. }), "{told}");
        assert!(told.contains(&format!("there is no column `{name}`, only `key`, ")), "{told}");
    }

    // If the file is cut, or a byte is changed, opening it fails or reading it ends after at most one item more than it has rows, without a
    // panic.
    let good = std::fs::read(&file).unwrap();
    let bad = directory.path().join("bad.parquet");
    for at in (0..good.len()).step_by(good.len() / 60).chain(good.len() - 400..good.len()) {
        let mut changed = good.clone();
        changed[at] ^= 0x41;
        for content in [&good[..at], &changed] {
            std::fs::write(&bad, content).unwrap();
            let read = open(&bad, None, &columns).map(|rows| rows.take(100).count());
            assert!(read.is_err() || read.is_ok_and(|rows| rows <= 31), "byte {at}");
        }
    }
}
