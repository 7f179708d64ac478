//! What an export has is what the index has.

mod common;

use common::{indexed, model};
use trivec_search::export::{Target, export};
use trivec_search::{Error, IndexOptions};

#[test]
fn every_target_gets_every_document_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(&directory.path().join("index"), &IndexOptions::default());
    let mut writer = index.writer().unwrap();
    writer.delete("rain-en").unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    let filter = r#"lang in ("en", "zh")"#.parse().unwrap();
    for (name, target) in [
        ("qdrant", Target::Qdrant),
        ("milvus", Target::Milvus),
        ("pgvector", Target::Pgvector),
        ("elasticsearch", Target::Elasticsearch),
        ("vespa", Target::Vespa),
        ("npy", Target::Npy),
    ] {
        assert_eq!(name.parse::<Target>().unwrap(), target);
        let to = directory.path().join(name);
        let manifest = export(&reader, &to, target, Some(&filter)).unwrap();
        assert!(matches!(export(&reader, &to, target, None), Err(Error::Exists { .. })));
        assert_eq!(manifest.documents, 13);
        assert_eq!(manifest.model.digest, model().1.digest);
        for query in &manifest.queries {
            assert_eq!(query.dense[0], query.key, "a vector is nearest to itself");
            assert!(query.dense.len() == 10 && query.dense_scores.windows(2).all(|pair| pair[0] >= pair[1]));
        }
        let mut lines = Vec::new();
        for file in &manifest.files {
            let bytes = std::fs::read(to.join(&file.name)).unwrap();
            assert_eq!(bytes.len() as u64, file.bytes);
            if file.name.starts_with("documents") {
                lines.extend(String::from_utf8(bytes).unwrap().lines().map(str::to_owned));
            }
        }
        assert_eq!(lines.len(), if target == Target::Elasticsearch { 26 } else { 13 });
        if target == Target::Pgvector {
            assert!(lines.iter().all(|line| line.split('\t').count() == 7));
            assert!(lines.windows(2).all(|pair| pair[0] < pair[1]));
            continue;
        }
        let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        if target == Target::Qdrant {
            let dense: Vec<f64> =
                first["vector"]["dense"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert!((dense.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-3);
            let rows = first["vector"]["colbert"].as_array().unwrap();
            for row in rows {
                let square: f64 = row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
                assert!((square - 1.0).abs() < 0.1, "{square}");
            }
            assert_eq!(first["payload"]["key"], "book-en");
        }
        if target == Target::Npy {
            let bytes = std::fs::read(to.join("dense.npy")).unwrap();
            assert_eq!(bytes.len(), 128 + 13 * 4 * index.model().dense_dim);
        }
        let manifest_file = std::fs::read(to.join("manifest.json")).unwrap();
        assert_eq!(serde_json::from_slice::<trivec_search::export::Manifest>(&manifest_file).unwrap(), manifest);
    }
}
