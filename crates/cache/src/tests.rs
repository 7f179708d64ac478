//! The cache in use, with its file full, damaged, foreign, or shared with another process. Models are the tiny ones of `tests/data/models`.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use trivec::EncodeOptions;
use trivec::Modes;

use trivec_testing::wait::wait_until;

const ALL: Wanted = Wanted { modes: Modes::ALL, dimensions: None, normalize: None, prompt_tokens: 0 };
const COLBERT: Wanted = Wanted { modes: Modes::COLBERT, ..ALL };
const MB: u64 = 1 << 20;

fn model_path(name: &str) -> PathBuf {
    trivec_testing::data("models").join(name)
}

fn model(name: &str) -> Model {
    Model::load(model_path(name)).unwrap()
}

/// Copies the files of the model f32-h64 into a directory.
fn copy_model(target: &Path) {
    std::fs::create_dir_all(target).unwrap();
    for entry in std::fs::read_dir(model_path("f32-h64")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
}

/// A cache whose warnings are counted.
fn open(path: &Path, size: u64) -> (Result<Cache, CacheError>, Arc<AtomicUsize>) {
    let warnings = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&warnings);
    let warn = move |_: &str| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    (Cache::open(path, size, Box::new(warn)), warnings)
}

/// Creates a cache in `directory`.
fn fresh(directory: &TempDir, size: u64) -> (PathBuf, Cache) {
    let path = directory.path().join("cache");
    let cache = open(&path, size).0.unwrap();
    (path, cache)
}

/// The token ids of a text: `<s>`, then 3 to 11 ids that depend on `n`, then `</s>`.
fn sequence(n: u32) -> Vec<u32> {
    [0].into_iter().chain((0..3 + n % 9).map(|i| 4 + (n * 31 + i * 7) % 200)).chain([2]).collect()
}

fn compute(model: &Model, wanted: &Wanted, ids: &[Vec<u32>]) -> Vec<Embedding> {
    let options = EncodeOptions { modes: wanted.modes, dimensions: wanted.dimensions, ..EncodeOptions::default() };
    model.encode_ids(ids, &options).unwrap()
}

fn identity(cache: &Cache, model: &Model) -> Arc<Identity> {
    Arc::new(cache.identify(model).unwrap())
}

/// The bytes of each representation, for comparisons that tell every bit apart.
fn bits(embedding: &Embedding) -> Vec<Option<Vec<u8>>> {
    ALL.parts().map(|part| payload(embedding, part)).collect()
}

/// An embedding of `rows` ColBERT vectors of one value.
fn colbert(rows: usize, value: f32, identity: &Identity) -> Embedding {
    let dim = identity.widths.colbert;
    let colbert = Some(trivec::TokenVectors::new(vec![value; rows * dim], dim));
    Embedding { dense: None, lexical: None, colbert, tokens: rows + 1, truncated: false }
}

/// Inserts the embeddings of `ids` and waits until they are written.
fn fill(cache: &Cache, identity: &Arc<Identity>, wanted: &Wanted, ids: &[Vec<u32>], computed: &[Embedding]) {
    cache.insert(identity, wanted, ids.iter().zip(computed), WhenBehind::Wait);
    wait_until("entries are written", || cache.lookup(identity, wanted, ids).iter().all(Option::is_some));
}

#[test]
fn lookups_return_the_same_bits_and_each_mode_is_an_entry_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let model = model("f32-h64");
    let ids: Vec<Vec<u32>> = (0..40).map(sequence).collect();
    let computed = compute(&model, &ALL, &ids);
    let (path, cache) = fresh(&directory, 16 * MB);
    let own = identity(&cache, &model);
    let dense = Wanted { modes: Modes::DENSE, ..ALL };
    assert!(cache.lookup(&own, &dense, &ids).iter().all(Option::is_none));
    assert_eq!((cache.stats().hits, cache.stats().misses), (0, 40));
    fill(&cache, &own, &dense, &ids, &compute(&model, &dense, &ids));
    assert!(cache.lookup(&own, &ALL, &ids).iter().all(Option::is_none), "the rest was never computed");
    // Embedded again in all modes, each text gains the two entries that were missing.
    fill(&cache, &own, &ALL, &ids, &computed);
    assert_eq!(cache.stats().entries, 120);
    cache.close();
    assert_eq!((cache.stats().errors, cache.stats().evictions), (0, 0));
    assert!(cache.lookup(&own, &dense, &[sequence(1000)])[0].is_none(), "a closed cache still answers");

    let (cache, warnings) = open(&path, 16 * MB);
    let cache = cache.unwrap();
    let own = identity(&cache, &model);
    for modes in [Modes::DENSE, Modes::SPARSE, Modes::COLBERT, Modes::ALL] {
        let wanted = Wanted { modes, ..ALL };
        let found = cache.lookup(&own, &wanted, &ids);
        for (found, expected) in found.iter().zip(compute(&model, &wanted, &ids)) {
            let found = found.as_ref().unwrap();
            assert_eq!(bits(found), bits(&expected));
            assert_eq!(found.tokens, expected.tokens);
        }
    }
    assert_eq!((cache.stats().hits, cache.stats().entries), (160, 120));
    let nothing = Wanted { modes: Modes { dense: false, sparse: false, colbert: false }, ..ALL };
    assert!(cache.lookup(&own, &nothing, &ids[..1])[0].is_none(), "what wants nothing is the engine's to answer");
    assert!(cache.lookup(&own, &ALL, &[Vec::new()])[0].is_none());
    for dimensions in [0, 65, usize::MAX] {
        let wanted = Wanted { dimensions: Some(dimensions), ..ALL };
        assert!(cache.lookup(&own, &wanted, &ids[..1])[0].is_none(), "{dimensions}");
    }
    assert_eq!((cache.stats().errors, cache.stats().entries), (0, 120), "a wrong question takes no entry for damaged");
    assert_eq!(warnings.load(Ordering::Relaxed), 0);
}

#[test]
fn several_threads_find_what_one_finds() {
    let directory = tempfile::tempdir().unwrap();
    let (_, cache) = fresh(&directory, LEAST_BYTES);
    let model = model("f32-h64");
    let identity = identity(&cache, &model);
    let wanted = Wanted::from(Modes::ALL);
    let ids: Vec<Vec<u32>> = (0..23).map(sequence).collect();
    let computed = compute(&model, &wanted, &ids);
    let (every_third, theirs): (Vec<_>, Vec<_>) =
        ids.iter().cloned().zip(computed).enumerate().filter(|(n, _)| n % 3 == 0).map(|(_, pair)| pair).unzip();
    fill(&cache, &identity, &wanted, &every_third, &theirs);
    let expected = cache.plan(&identity, &wanted, &ids);
    assert_eq!(expected.missing().len(), ids.len() - every_third.len());
    for threads in [0, 1, 2, 3, 22, 23, 24, 100] {
        let plan = cache.plan_on(threads, &identity, &wanted, &ids);
        assert_eq!(plan.missing(), expected.missing(), "{threads}");
        for (found, expected) in plan.found.iter().zip(&expected.found) {
            assert_eq!(found.as_ref().map(bits), expected.as_ref().map(bits), "{threads}");
        }
    }
    assert!(cache.plan_on(2, &identity, &wanted, &[] as &[Vec<u32>]).missing().is_empty());
}

#[test]
fn another_model_or_length_never_hits() {
    let directory = tempfile::tempdir().unwrap();
    let (_, cache) = fresh(&directory, 16 * MB);
    let ids: Vec<Vec<u32>> = (0..4).map(sequence).collect();
    let names = ["bf16-h60", "f16-h128", "f32-h64", "mean-dense-h64", "noheads-h64", "unnormalized-h64", "q4-h64"];
    let mut models: Vec<Model> = names.iter().map(|name| model(name)).collect();
    // Copies of f32-h64: one unchanged, one with one bit of one weight flipped, and one pooled and normalised in another way.
    let copy = |name: &str, change: &dyn Fn(&Path)| {
        let target = directory.path().join(name);
        copy_model(&target);
        change(&target);
        Model::load(&target).unwrap()
    };
    let same = copy("same", &|_| ());
    models.push(copy("one bit", &|target| {
        let file = target.join("model.safetensors");
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.iter_mut().nth_back(40).unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }));
    models.push(copy("unnormalised", &|target| {
        std::fs::create_dir_all(target.join("1_Pooling")).unwrap();
        let modules = r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
            {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#;
        std::fs::write(target.join("modules.json"), modules).unwrap();
        std::fs::write(target.join("1_Pooling/config.json"), r#"{"pooling_mode":"cls"}"#).unwrap();
    }));
    let identities: Vec<Arc<Identity>> = models.iter().map(|model| identity(&cache, model)).collect();
    for (i, own) in identities.iter().enumerate() {
        for (j, other) in identities.iter().enumerate().skip(i + 1) {
            assert_ne!(own.digest, other.digest, "models {i} and {j}");
        }
    }
    assert_eq!(identity(&cache, &same).digest, identities[2].digest, "the same files elsewhere are the same model");

    let dense = |dimensions| Wanted { modes: Modes::DENSE, dimensions, ..ALL };
    fill(&cache, &identities[2], &dense(None), &ids, &compute(&models[2], &dense(None), &ids));
    for (i, other) in identities.iter().enumerate().filter(|(i, _)| *i != 2) {
        assert!(cache.lookup(other, &dense(None), &ids).iter().all(Option::is_none), "model {i}");
    }
    for dimensions in [1, 32, 63] {
        assert!(cache.lookup(&identities[2], &dense(Some(dimensions)), &ids).iter().all(Option::is_none));
    }
    for normalize in [Some(true), Some(false)] {
        let other = Wanted { normalize, ..dense(None) };
        assert!(cache.lookup(&identities[2], &other, &ids).iter().all(Option::is_none), "{normalize:?}");
    }
    let cut: Vec<Vec<u32>> = ids.iter().map(|ids| [&ids[..3], &[2]].concat()).collect();
    assert!(cache.lookup(&identities[2], &dense(None), &cut).iter().all(Option::is_none), "cut shorter");
    let found = cache.lookup(&identity(&cache, &same), &dense(None), &ids);
    assert_eq!(found.iter().flatten().count(), 4);
}

#[test]
fn a_files_digest_is_remembered_only_once_it_has_settled() {
    let directory = tempfile::tempdir().unwrap();
    let (path, cache) = fresh(&directory, 16 * MB);
    let target = directory.path().join("model");
    copy_model(&target);
    // Just written: it could change again within the same tick of the clock.
    let young = Model::load(&target).unwrap();
    let own = identity(&cache, &young);
    cache.close();
    let digests = || -> i64 {
        Connection::open(&path).unwrap().query_row("SELECT count(*) FROM digests", [], |row| row.get(0)).unwrap()
    };
    if cfg!(unix) {
        assert_eq!(digests(), 0);
        let cache = open(&path, 16 * MB).0.unwrap();
        // These files are as old as the checkout.
        let old = model("f32-h64");
        wait_until("the checkout settles", || {
            identity(&cache, &old);
            digests() > 0
        });
        assert_eq!(identity(&cache, &old).digest, own.digest);
        // A file of the model is overwritten in place after it was digested: nothing that the model computes from now on may be stored.
        let ids = vec![sequence(1)];
        let computed = compute(&young, &ALL, &ids);
        let bytes = std::fs::read(target.join("config.json")).unwrap();
        std::fs::write(target.join("config.json"), bytes).unwrap();
        assert!(!own.still_holds());
        cache.insert(&own, &ALL, ids.iter().zip(&computed), WhenBehind::Wait);
        cache.close();
        assert_eq!(cache.stats().entries, 0);
    }
}

#[test]
fn the_file_stays_within_its_size_and_used_entries_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (path, cache) = fresh(&directory, MB);
    let own = identity(&cache, &model("f32-h64"));
    let length = || std::fs::metadata(&path).unwrap().len();
    let mut largest = 0;
    // Sizes around the edges of a page, at 256 bytes a row: some fit three to a page, some need an overflow page, one takes many pages.
    for n in 0..3000u32 {
        let rows = [1, 5, 15, 16, 17, 31, 32, 33, 64, 200][n as usize % 10] + n as usize % 3;
        let ids: Vec<u32> = vec![n; rows + 1];
        cache.insert(&own, &COLBERT, [(&ids, &colbert(rows, n as f32, &own))], WhenBehind::Wait);
        // The first text is used again and again.
        if n % 10 == 0 {
            // A use is queued behind the inserts that wait, and more can wait than this file holds. So this waits for the queue: a text that
            // is evicted before its use is recorded never comes back.
            wait_until("the queue is empty", || cache.shared.is_idle());
            wait_until("the first text is there", || cache.lookup(&own, &COLBERT, &[vec![0u32; 2]])[0].is_some());
        }
        largest = largest.max(length());
    }
    cache.close();
    let stats = cache.stats();
    assert!(largest.max(length()) <= MB, "{largest}");
    assert!(length() > MB / 2 && stats.bytes > MB / 2, "it is used: {} {stats:?}", length());
    assert!(stats.evictions > 1000 && stats.entries > 20 && stats.errors == 0, "{stats:?}");
    assert_eq!(stats.entries, open(&path, MB).0.unwrap().stats().entries, "as counted anew");

    // A larger file, which holds all of 60 texts of 96 kB.
    let (path, cache) = (directory.path().join("other"), open(&directory.path().join("other"), 8 * MB).0.unwrap());
    for n in 0..60 {
        let rows = 24_000 / own.widths.colbert;
        cache.insert(&own, &COLBERT, [(vec![n; rows + 1], &colbert(rows, 0.5, &own))], WhenBehind::Wait);
    }
    cache.close();
    let before = std::fs::metadata(&path).unwrap().len();
    assert!(before > 2 * MB, "{before}");
    // Opened with a smaller size, the file is cut.
    let cache = open(&path, MB).0.unwrap();
    assert!(cache.stats().entries > 0);
    cache.close();
    assert!(std::fs::metadata(&path).unwrap().len() <= MB);
}

#[test]
fn two_caches_at_once_share_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let model = model("f32-h64");
    let (path, first) = fresh(&directory, 16 * MB);
    let second = open(&path, 16 * MB).0.unwrap();
    let (own, others) = (identity(&first, &model), identity(&second, &model));
    let ids: Vec<Vec<u32>> = (0..200).map(sequence).collect();
    let computed = compute(&model, &ALL, &ids);
    std::thread::scope(|scope| {
        let half = |cache, identity, from: usize| {
            let (ids, computed) = (&ids[from..from + 120], &computed[from..from + 120]);
            move || fill(cache, identity, &ALL, ids, computed)
        };
        scope.spawn(half(&first, &own, 0));
        scope.spawn(half(&second, &others, 80));
    });
    for cache in [&first, &second] {
        let found = cache.lookup(&own, &ALL, &ids);
        assert!(found.iter().zip(&computed).all(|(found, expected)| bits(found.as_ref().unwrap()) == bits(expected)));
        assert_eq!(cache.stats().errors, 0);
    }
}

#[test]
fn damage_never_gives_another_vector_and_a_refused_file_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let model = model("f32-h64");
    let wanted = Wanted { modes: Modes::DENSE, ..ALL };
    let ids: Vec<Vec<u32>> = (0..60).map(sequence).collect();
    let computed = compute(&model, &wanted, &ids);
    let (path, cache) = fresh(&directory, 16 * MB);
    let own = identity(&cache, &model);
    fill(&cache, &own, &wanted, &ids, &computed);
    cache.close();
    drop(cache);
    let sound = std::fs::read(&path).unwrap();
    assert!(!path.with_extension("cache-wal").exists());
    let victim = directory.path().join("victim");
    let write = |bytes: &[u8]| {
        for end in ["victim-wal", "victim-shm"] {
            let _ = std::fs::remove_file(directory.path().join(end));
        }
        std::fs::write(&victim, bytes).unwrap();
    };
    let check = |what: &str| {
        let (cache, _) = open(&victim, 16 * MB);
        let Ok(cache) = cache else { return None };
        let found = cache.lookup(&own, &wanted, &ids);
        for (found, expected) in found.iter().zip(&computed) {
            assert!(found.as_ref().is_none_or(|found| bits(found) == bits(expected)), "{what}");
        }
        cache.insert(&own, &wanted, ids.iter().zip(&computed), WhenBehind::Wait);
        cache.close();
        Some((found.iter().flatten().count(), cache.stats().errors))
    };
    write(&sound);
    assert_eq!(check("as it was"), Some((60, 0)));

    let (mut refused, mut lost, mut whole) = (0, 0, 0);
    // Every third of the first 24 bytes of each page, where its header is, and every 127th byte of the file.
    let offsets = (0..sound.len()).filter(|at| at % 4096 < 24 && at % 3 == 0 || at % 127 == 0);
    for (n, at) in offsets.enumerate() {
        let mut bytes = sound.clone();
        bytes[at] ^= [0xff, 1, 0x80, 0x10][n % 4];
        write(&bytes);
        match check(&format!("byte {at}")) {
            None => {
                refused += 1;
                assert_eq!(std::fs::read(&victim).unwrap(), bytes, "what is refused is left as it is");
            }
            Some((60, _)) => whole += 1,
            Some(_) => lost += 1,
        }
    }
    assert!(refused > 5 && lost > 50 && whole > 50, "{refused} refused, {lost} with misses, {whole} whole");
    for length in (0..sound.len()).step_by(1531) {
        write(&sound[..length]);
        check(&format!("cut at {length}"));
    }
}

#[test]
fn a_damaged_file_that_is_too_large_opens_or_is_refused_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let model = model("f32-h64");
    let wanted = Wanted { modes: Modes::DENSE, ..ALL };
    // So many that every index has pages that making room does not read. Damage in a page that opening does not read goes unnoticed: such a
    // file opens, and is cut.
    let ids: Vec<Vec<u32>> = (0..4000).map(|n| vec![0, 4 + n / 100, 4 + n % 100, 2]).collect();
    let computed = vec![compute(&model, &wanted, &ids[..1]).remove(0); ids.len()];
    let (path, cache) = fresh(&directory, 16 * MB);
    let own = identity(&cache, &model);
    fill(&cache, &own, &wanted, &ids, &computed);
    cache.close();
    drop(cache);
    let sound = std::fs::read(&path).unwrap();
    let victim = directory.path().join("victim");
    let (mut refused, mut cut) = (0, 0);
    for page in 0..sound.len() / 4096 {
        let mut bytes = sound.clone();
        // The first byte of a page says what kind it is; on the first page, it follows the file's header of 100 bytes.
        bytes[page * 4096 + if page == 0 { 100 } else { 0 }] ^= 0xff;
        for end in ["victim-wal", "victim-shm"] {
            let _ = std::fs::remove_file(directory.path().join(end));
        }
        std::fs::write(&victim, &bytes).unwrap();
        let opened = open(&victim, sound.len() as u64 * 7 / 8).0;
        match opened {
            Err(error) => {
                assert!(matches!(error, CacheError::Damaged { .. }), "page {page}: {error}");
                assert_eq!(std::fs::read(&victim).unwrap(), bytes, "page {page}: what is refused is left as it is");
                refused += 1;
            }
            Ok(cache) => {
                drop(cache);
                cut += usize::from(std::fs::metadata(&victim).unwrap().len() < sound.len() as u64);
            }
        }
    }
    assert!(refused > 5 && cut > 5, "{refused} refused, {cut} cut");
}

#[test]
fn a_damaged_entry_is_counted_removed_and_computed_anew() {
    let directory = tempfile::tempdir().unwrap();
    let model = model("f32-h64");
    let ids: Vec<Vec<u32>> = (0..10).map(sequence).collect();
    let computed = compute(&model, &ALL, &ids);
    let (path, cache) = fresh(&directory, 16 * MB);
    let own = identity(&cache, &model);
    fill(&cache, &own, &ALL, &ids, &computed);
    cache.close();
    drop(cache);
    // Entry 4 gets the value of entry 1, which is sound but belongs to another key; the value of entry 7 is overwritten. They belong to the
    // second and the third text, because each text has three entries.
    let db = Connection::open(&path).unwrap();
    db.execute("UPDATE parts SET value = (SELECT value FROM parts WHERE id = 1) WHERE id = 4", []).unwrap();
    db.execute("UPDATE parts SET value = zeroblob(length(value)) WHERE id = 7", []).unwrap();
    drop(db);
    let (cache, warnings) = open(&path, 16 * MB);
    let cache = cache.unwrap();
    let found = cache.lookup(&own, &ALL, &ids);
    assert_eq!(found.iter().flatten().count(), 8);
    assert_eq!((cache.stats().errors, warnings.load(Ordering::Relaxed)), (2, 1), "one warning a minute");
    wait_until("they are removed", || cache.stats().entries == 28);
    fill(&cache, &own, &ALL, &ids, &computed);
    let found = cache.lookup(&own, &ALL, &ids);
    assert!(found.iter().zip(&computed).all(|(found, expected)| bits(found.as_ref().unwrap()) == bits(expected)));
    assert_eq!(cache.stats().entries, 30);
}

#[test]
fn what_is_no_cache_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("text"), "a list of things that somebody wants to keep\n".repeat(9)).unwrap();
    std::fs::write(at("short"), "x").unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    let foreign = Connection::open(at("foreign")).unwrap();
    foreign.execute_batch("CREATE TABLE mine(x); INSERT INTO mine VALUES(1)").unwrap();
    drop(foreign);
    drop(open(&at("newer"), MB).0.unwrap());
    let newer = Connection::open(at("newer")).unwrap();
    newer.execute_batch("PRAGMA user_version=2; PRAGMA journal_mode=DELETE").unwrap();
    drop(newer);
    for (name, expected) in [
        ("text", "not a cache of embeddings; it is left as it is"),
        ("short", "not a cache"),
        ("foreign", "not a cache"),
        ("newer", "a cache of format 2, expected 1"),
        ("directory", ""),
        ("text/below a file", ""),
        ("nowhere/below", ""),
    ] {
        let before = std::fs::read(at(name)).ok();
        let error = open(&at(name), MB).0.err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        assert_eq!(std::fs::read(at(name)).ok(), before, "{name}");
        assert!(!at(&format!("{name}-wal")).exists());
    }
    // Other tables than a cache's, with a cache's application number: damage.
    let db = Connection::open(at("half")).unwrap();
    db.execute_batch("PRAGMA user_version=1; PRAGMA application_id=0x74726976; CREATE TABLE entries(id)").unwrap();
    drop(db);
    assert!(matches!(open(&at("half"), MB).0, Err(CacheError::Damaged { .. })));
    // A file that was created and not yet filled is opened: one without a byte, or one empty page (a disk that was full can leave one).
    std::fs::write(at("empty"), "").unwrap();
    open(&at("empty"), MB).0.unwrap();
    let db = Connection::open(at("page")).unwrap();
    db.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; BEGIN IMMEDIATE; COMMIT; VACUUM").unwrap();
    drop(db);
    assert_eq!(std::fs::metadata(at("page")).unwrap().len(), 4096);
    open(&at("page"), MB).0.unwrap();
}

#[test]
fn inserts_behind_a_locked_writer_are_dropped_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (path, cache) = fresh(&directory, 512 * MB);
    let own = identity(&cache, &model("f32-h64"));
    // Another connection holds the lock for writing.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let rows = (8 << 20) / 4 / own.widths.colbert;
    let embedding = colbert(rows, 1.0, &own);
    let ids = |n: u32| vec![n; rows + 1];
    // Now and then the writer takes a text, waits five seconds for the lock and drops the text. The queue becomes full all the same, and an
    // insert that finds it full does not wait.
    for n in 0.. {
        if cache.stats().dropped >= 10 {
            break;
        }
        assert!(n < 200, "{:?}", cache.stats());
        cache.insert(&own, &COLBERT, [(ids(n), &embedding)], WhenBehind::Drop);
        assert!(cache.lookup(&own, &COLBERT, &[ids(n)])[0].is_none(), "readers go on");
    }
    other.execute_batch("ROLLBACK").unwrap();
    wait_until("it goes on", || cache.shared.is_idle());
    cache.insert(&own, &COLBERT, [(ids(999), &embedding)], WhenBehind::Drop);
    wait_until("it is written", || cache.lookup(&own, &COLBERT, &[ids(999)])[0].is_some());
}

#[test]
fn an_insert_that_may_be_dropped_does_not_wait_for_a_writer() {
    let warn: Warn = Box::new(|_| {});
    let shared = Shared::new(Path::new("nowhere"), 512 * MB, store::Extent::default(), warn);
    // There is no writer, so a call that waited for one would never return. The queue takes 64 MB, eight jobs of 8 MB.
    let taken = (0..20).filter(|&id| shared.push(Job::Used(id), 8 << 20, WhenBehind::Drop)).count();
    assert_eq!(taken, 8, "64 MB");
}
