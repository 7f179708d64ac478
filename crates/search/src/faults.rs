//! Tests what is left of an index when writing fails. For every call by which the index or tantivy writes, one run lets this call and all
//! later ones fail.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use trivec::{Embedding, LexicalWeights, TokenVectors};

use crate::disk::{Disk, DiskFile, RealDisk};
use crate::{ColbertBits, Document, Error, Index, IndexOptions, ModelId, Result, Writer};

/// A disk whose calls from number `fails_at` on fail, as after a crash or on a full disk. An append that fails still writes half of its
/// bytes.
#[derive(Debug)]
struct FaultyDisk {
    real: RealDisk,
    calls: Arc<AtomicUsize>,
    fails_at: usize,
}

impl FaultyDisk {
    /// The disk, and the counter of its calls.
    fn counted(fails_at: usize) -> (Arc<dyn Disk>, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        (Arc::new(FaultyDisk { real: RealDisk, calls: Arc::clone(&calls), fails_at }), calls)
    }
}

/// Counts a call, and fails if its number is `fails_at` or larger.
fn call(calls: &AtomicUsize, fails_at: usize) -> io::Result<()> {
    match calls.fetch_add(1, Ordering::Relaxed) >= fails_at {
        true => Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full (a test)")),
        false => Ok(()),
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        call(&self.calls, self.fails_at)?;
        let (file, calls) = (self.real.create(path)?, Arc::clone(&self.calls));
        Ok(Box::new(FaultyFile { file, calls, fails_at: self.fails_at }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        call(&self.calls, self.fails_at)?;
        self.real.rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        call(&self.calls, self.fails_at)?;
        self.real.sync_directory(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        call(&self.calls, self.fails_at)?;
        self.real.remove(path)
    }
}

struct FaultyFile {
    file: Box<dyn DiskFile>,
    calls: Arc<AtomicUsize>,
    fails_at: usize,
}

impl DiskFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = call(&self.calls, self.fails_at) {
            self.file.append(&bytes[..bytes.len() / 2])?;
            return Err(e);
        }
        self.file.append(bytes)
    }

    fn overwrite_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        call(&self.calls, self.fails_at)?;
        self.file.overwrite_start(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        call(&self.calls, self.fails_at)?;
        self.file.sync()
    }
}

const DIM: usize = 16;

/// The identity of a model that does not exist.
pub(crate) fn model() -> ModelId {
    ModelId { name: "test".into(), digest: "1".repeat(64), dense_dim: DIM, colbert_dim: Some(DIM), lexical: true }
}

/// Pseudorandom vectors of length 1 that depend on the key alone: one dense vector, three token vectors, a lexical weight for each byte of
/// the key.
pub(crate) fn embedding(key: &str) -> Embedding {
    let mut state = key.bytes().fold(7u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte))) | 1;
    let mut row = || -> Vec<f32> {
        let mut row: Vec<f32> = (0..DIM)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
        row
    };
    let dense = row();
    let tokens: Vec<f32> = (0..3).flat_map(|_| row()).collect();
    let lexical = LexicalWeights::from_pairs(key.bytes().map(|byte| (u32::from(byte), 0.5)).collect());
    let colbert = Some(TokenVectors::new(tokens, DIM));
    Embedding { dense: Some(dense), lexical: Some(lexical), colbert, tokens: 4, truncated: false }
}

fn document(key: &str, version: usize) -> Document {
    Document::new(key, format!("text of {key} in version {version}")).with_lang("en")
}

/// Adds a version of the document `key`, or replaces an earlier one.
fn put(writer: &mut Writer, key: &str, version: usize) -> Result<()> {
    writer.upsert_embedded(&document(key, version), &embedding(key))
}

/// The texts of all documents of an index, each of which names its key and version.
fn content(index: &Index) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    let each = |document: Document| {
        texts.insert(document.text);
        Ok(())
    };
    index.reader().unwrap().for_each(None, each).unwrap();
    texts
}

/// Runs the steps of the test from number `begin` on. After each step, `acknowledged` is called with the number of finished steps.
fn steps(index: &Index, begin: usize, mut acknowledged: impl FnMut(usize)) -> Result<()> {
    let mut writer = index.writer()?;
    for step in begin..STEPS {
        match step {
            0 => {
                for key in ["a", "b", "c"] {
                    put(&mut writer, key, 1)?;
                }
                writer.commit()?;
            }
            1 => {
                put(&mut writer, "b", 2)?;
                put(&mut writer, "d", 2)?;
                writer.delete("a")?;
                writer.commit()?;
            }
            2 => {
                writer.delete("c")?;
                writer.commit()?;
            }
            3 => {
                writer.compact(true)?;
            }
            _ => index.snapshot(index.directory().with_extension("copy"))?,
        }
        acknowledged(step + 1);
    }
    Ok(())
}

const STEPS: usize = 5;

/// The texts that the index has after each number of finished [`steps`], from 0 on.
fn states() -> Vec<BTreeSet<String>> {
    let texts = |list: &[(&str, usize)]| list.iter().map(|(key, version)| document(key, *version).text).collect();
    let last: BTreeSet<String> = texts(&[("b", 2), ("d", 2)]);
    vec![
        BTreeSet::new(),
        texts(&[("a", 1), ("b", 1), ("c", 1)]),
        texts(&[("b", 2), ("c", 1), ("d", 2)]),
        last.clone(),
        last.clone(),
        last,
    ]
}

#[test]
fn whichever_call_fails_the_next_open_finds_a_commit_that_was_asked_for() {
    let states = states();
    // Counts the calls of a run without failures.
    let directory = tempfile::tempdir().unwrap();
    let (disk, calls) = FaultyDisk::counted(usize::MAX);
    let index = Index::create_on(disk, &directory.path().join("index"), &model(), &IndexOptions::default()).unwrap();
    let made = calls.load(Ordering::Relaxed);
    steps(&index, 0, |_| ()).unwrap();
    let all = calls.load(Ordering::Relaxed);
    assert!(all > made + 100, "{made} to {all} calls");

    for fails_at in 0..all {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let (disk, _) = FaultyDisk::counted(fails_at);
        let index = match Index::create_on(disk, &path, &model(), &IndexOptions::default()) {
            Ok(index) => index,
            Err(e) => {
                assert!(fails_at < made && matches!(e, Error::Io { .. }), "{fails_at}: {e}");
                // What the failed creation has left does not stop another one. If only the last call failed, the index may be there
                // already.
                let whole =
                    Index::create(&path, &model(), &IndexOptions::default()).or_else(|_| Index::open(&path)).unwrap();
                assert_eq!(content(&whole), states[0]);
                continue;
            }
        };
        let mut acknowledged = 0;
        match steps(&index, 0, |step| acknowledged = step) {
            Err(error) => assert!(matches!(error, Error::Io { .. }), "call {fails_at}: {error}"),
            // tantivy removes files on a thread of its own, so that a run may have a few calls fewer than another.
            Ok(()) => assert!(fails_at + LATE_CALLS > all, "call {fails_at} of {all} failed without a word"),
        }

        let index = Index::open(&path).unwrap();
        let found = content(&index);
        let next = &states[(acknowledged + 1).min(STEPS)];
        assert!(
            found == states[acknowledged] || found == *next,
            "call {fails_at}, after commit {acknowledged}: {found:?}"
        );
        index.check().unwrap();
        // The next writer removes the files that no commit names.
        drop(index.writer().unwrap());
        let named: usize = index.reader().unwrap().commit().segments.iter().map(|segment| segment.files.len()).sum();
        assert_eq!(std::fs::read_dir(path.join("seg")).unwrap().count(), named, "call {fails_at}");
        let copy = path.with_extension("copy");
        if copy.exists() {
            assert_eq!(
                content(&Index::open(&copy).unwrap()),
                states[STEPS],
                "a copy is there as a whole or not at all"
            );
            std::fs::remove_dir_all(&copy).unwrap();
        }
        // The steps that were not acknowledged can be run again as they are: what the failed attempt has left does not stop them.
        steps(&index, acknowledged, |_| ()).unwrap_or_else(|e| panic!("after call {fails_at}: {e}"));
        assert_eq!(content(&index), states[STEPS], "call {fails_at}");
        index.check().unwrap();
        let mut writer = index.writer().unwrap();
        put(&mut writer, "z", 9).unwrap();
        writer.commit().unwrap();
        assert_eq!(content(&index).len(), states[STEPS].len() + 1);
    }
}

/// By how many calls runs of the same steps may differ.
const LATE_CALLS: usize = 20;

#[test]
fn a_writer_that_failed_refuses_every_later_call() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    Index::create(&path, &model(), &IndexOptions::default()).unwrap();
    let (disk, _) = FaultyDisk::counted(0);
    let index = Index::open_on(disk, &path).unwrap();
    let mut writer = index.writer().unwrap();
    assert!(matches!(put(&mut writer, "a", 1), Err(Error::Io { .. })));
    let error = writer.commit().unwrap_err();
    assert!(matches!(&error, Error::WriterFailed { what } if what.contains("the disk is full")), "{error}");
}

#[test]
fn bad_vectors_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    type Spoil = fn(&mut Embedding);
    let bad: [(&str, Spoil); 6] = [
        ("dense", |e| e.dense = None),
        ("dense", |e| e.dense = Some(vec![0.5; DIM + 1])),
        ("dense", |e| e.dense.iter_mut().for_each(|row| row[3] = f32::NAN)),
        ("lexical", |e| e.lexical = Some(LexicalWeights::from_pairs(vec![(5, f32::INFINITY)]))),
        ("ColBERT", |e| e.colbert = Some(TokenVectors::new(vec![f32::NAN; DIM], DIM))),
        ("ColBERT", |e| e.colbert = Some(TokenVectors::new(vec![0.5; DIM - 1], DIM - 1))),
    ];
    for (place, (expected, spoil)) in bad.into_iter().enumerate() {
        let index =
            Index::create(directory.path().join(place.to_string()), &model(), &IndexOptions::default()).unwrap();
        let mut writer = index.writer().unwrap();
        let mut embedding = embedding("a");
        spoil(&mut embedding);
        let error = writer.upsert_embedded(&document("a", 1), &embedding).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        drop(writer);
        assert_eq!(index.check().unwrap().documents, 0);
    }
}

/// An intact index: a document for each key, three in a segment, of which the second document is deleted.
fn sound(path: &Path, bits: ColbertBits, keys: &[&str]) -> Index {
    let index = Index::create(path, &model(), &IndexOptions { colbert: bits, ..IndexOptions::default() }).unwrap();
    let mut writer = index.writer().unwrap();
    for part in keys.chunks(3) {
        part.iter().for_each(|key| put(&mut writer, key, 1).unwrap());
        writer.commit().unwrap();
    }
    writer.delete(keys[1]).unwrap();
    writer.commit().unwrap();
    index
}

/// The files `good-*` of the fuzz corpus are equal to those that are written today, which shows that the format has not changed without a
/// new version. (With `TRIVEC_WRITE_CORPUS` set, the test writes them first.)
#[test]
fn segment_files_are_those_of_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/search_segment");
    let directory = tempfile::tempdir().unwrap();
    for (bits, name) in
        [(ColbertBits::One, "1"), (ColbertBits::Two, "2"), (ColbertBits::Four, "4"), (ColbertBits::Eight, "8")]
    {
        let path = directory.path().join(name);
        sound(&path, bits, &["a", "b", "c"]);
        for extension in ["rows", "docs", "dense8", "dense16", "lex", "colbert"] {
            if extension != "colbert" && bits != ColbertBits::Four {
                continue;
            }
            let written = std::fs::read(path.join(format!("seg/000000.{extension}"))).unwrap();
            let bits = if extension == "colbert" { name } else { "" };
            let kept = corpus.join(format!("good-{extension}{bits}"));
            if std::env::var_os("TRIVEC_WRITE_CORPUS").is_some() {
                std::fs::write(&kept, &written).unwrap();
            }
            assert!(std::fs::read(&kept).unwrap() == written, "{}", kept.display());
        }
    }
}
