//! Tests of damaged files: if a bit of a file flips, a file is cut, or another file stands in its place, the index reports damage or
//! answers as before. tantivy, which panics on damaged files, must never read one: the test has a process of its own, and counts panics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use trivec::{Embedding, LexicalWeights, TokenVectors};
use trivec_search::{Arms, Document, Error, ErrorKind, Fusion, Index, IndexOptions, ModelId, Query, Result};

const DIM: usize = 16;

fn model() -> ModelId {
    ModelId { name: "test".into(), digest: "1".repeat(64), dense_dim: DIM, colbert_dim: Some(DIM), lexical: true }
}

/// Pseudorandom vectors of length 1 that depend on the key alone: one dense vector, three token vectors, a lexical weight for each byte of
/// the key.
fn embedding(key: &str) -> Embedding {
    let mut state = key.bytes().fold(7u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte))) | 1;
    let mut row = || -> Vec<f32> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let row: Vec<f32> = (0..DIM).map(|_| next()).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.into_iter().map(|x| x / norm).collect()
    };
    Embedding {
        dense: Some(row()),
        colbert: Some(TokenVectors::new([row(), row(), row()].concat(), DIM)),
        lexical: Some(LexicalWeights::from_pairs(key.bytes().map(|byte| (u32::from(byte), 0.5)).collect())),
        tokens: 4,
        truncated: false,
    }
}

const KEYS: [&str; 7] = ["apple", "pear", "plum", "cherry", "quince", "medlar", "rowan"];

/// An index of documents in three segments, of which one was replaced and two were deleted, the second by a commit without new documents.
fn build(path: &Path) -> Index {
    let index = Index::create(path, &model(), &IndexOptions::default()).unwrap();
    let mut writer = index.writer().unwrap();
    let put = |writer: &mut trivec_search::Writer, key: &str, version: usize| {
        let document = Document::new(key, format!("text of {key} in version {version}")).with_lang("en");
        writer.upsert_embedded(&document.with_field("year", 2000 + version), &embedding(key)).unwrap();
    };
    KEYS[..4].iter().for_each(|key| put(&mut writer, key, 1));
    writer.commit().unwrap();
    KEYS[3..6].iter().for_each(|key| put(&mut writer, key, 2));
    writer.delete("pear").unwrap();
    writer.commit().unwrap();
    put(&mut writer, KEYS[6], 3);
    writer.commit().unwrap();
    writer.delete("quince").unwrap();
    writer.commit().unwrap();
    index
}

/// A text of everything that the index has, and of what it finds with which scores, to the bit.
fn answers(path: &Path) -> Result<String> {
    let reader = Index::open(path)?.reader()?;
    let mut said = format!("{} {}\n", reader.len(), reader.generation());
    reader.for_each(Some(&"year >= 2000".parse()?), |document| {
        said.push_str(&format!("{document:?}\n"));
        Ok(())
    })?;
    for key in KEYS {
        match reader.get(key) {
            Err(Error::NoDocument { .. }) => said.push_str("none\n"),
            other => said.push_str(&format!("{:?}\n", other?)),
        }
        let text = format!("text of {key} version");
        for (arms, fusion) in [(Arms::ALL, Fusion::default()), (Arms::ALL, Fusion::WEIGHTED)] {
            let query = Query { arms, fusion, ..Query::new(text.clone()) };
            for hit in reader.search_vectors(&query, &embedding(key))?.hits {
                said.push_str(&format!("{} {} {:?}\n", hit.document.key, hit.score.to_bits(), hit.arms));
            }
        }
    }
    Ok(said)
}

/// The files of an index that are not empty, by their paths in it.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in ["", "text", "seg"] {
        for entry in std::fs::read_dir(path.join(part)).unwrap() {
            let file = entry.unwrap().path();
            if file.is_file() && file.metadata().unwrap().len() > 0 {
                let content = std::fs::read(&file).unwrap();
                found.insert(file.strip_prefix(path).unwrap().to_path_buf(), content);
            }
        }
    }
    found
}

/// Damages one file after another, and counts how often that is reported when the index answers.
struct Judge<'a> {
    /// The index.
    path: &'a Path,
    /// The answers of the intact index.
    expected: &'a str,
    /// How often the answers ended with an error.
    errors: usize,
    /// How often the answers were those of the intact index, because the damage was in a part that they do not read.
    unchanged: usize,
}

impl Judge<'_> {
    /// Replaces the content of a file by `content` and asserts that asking the index ends with an error of damage, or gives the expected
    /// answers, and that `Index::check` reports the damage. Then restores the content `good`.
    fn judge(&mut self, name: &Path, good: &[u8], content: &[u8], what: &str) {
        let file = self.path.join(name);
        // Written as a new file, because mapped files must not be changed in place.
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        let damaged = |e: &Error| matches!(e.kind(), ErrorKind::Damaged | ErrorKind::Mismatch);
        match answers(self.path) {
            Err(e) => {
                assert!(damaged(&e), "{} {what}: {e}", name.display());
                self.errors += 1;
            }
            Ok(found) => {
                assert!(found == self.expected, "{} {what}: other answers:\n{found}", name.display());
                self.unchanged += 1;
            }
        }
        let checked = Index::open(self.path).and_then(|index| index.check());
        assert!(checked.as_ref().is_err_and(damaged), "{} {what}: checked: {checked:?}", name.display());
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, good).unwrap();
    }
}

#[test]
fn damage_is_reported_or_the_answers_are_the_same() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("index"), directory.path().join("other"));
    let index = build(&path);
    build(&other);
    let expected = answers(&path).unwrap();
    assert!(expected.contains("text of cherry in version 2") && !expected.contains("text of quince in version"));
    index.check().unwrap();

    let all = files(&path);
    assert!(all.len() > 30, "{:?}", all.keys());
    let mut judge = Judge { path: &path, expected: &expected, errors: 0, unchanged: 0 };
    let mut bits = 0;
    for (name, good) in &all {
        // All bits of the files that name others, and some bits of each other file.
        let every = [Path::new("trivec-index.json"), Path::new("text/meta.json")].contains(&name.as_path());
        let step = if every { 1 } else { (good.len() * 8 / 48).max(1) | 1 };
        for bit in (0..good.len() * 8).step_by(step) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            judge.judge(name, good, &bad, &format!("with bit {bit} flipped"));
            bits += 1;
        }
        for length in [0, 1, good.len() / 2, good.len() - 1] {
            judge.judge(name, good, &good[..length], &format!("cut to {length} bytes"));
        }
        let longer = [good.as_slice(), b"\n"].concat();
        judge.judge(name, good, &longer, "with a byte more");
    }
    assert!(
        bits > 20_000 && judge.errors > bits,
        "{bits} bits, {} errors, {} unchanged",
        judge.errors,
        judge.unchanged
    );

    // Intact files in the place of another of the same kind: from the same index, and from another one that was built in the same way.
    let sort = |name: &Path| name.extension().map(|end| end.to_os_string());
    let strangers = files(&other);
    for (name, good) in &all {
        let others = all.iter().chain(&strangers).filter(|(place, _)| sort(place) == sort(name));
        for (place, content) in others.filter(|(_, content)| *content != good) {
            judge.judge(name, good, content, &format!("replaced by {}", place.display()));
        }
    }
    assert_eq!(answers(&path).unwrap(), expected, "all is as it was");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "nothing that is damaged reaches code that panics");
}
