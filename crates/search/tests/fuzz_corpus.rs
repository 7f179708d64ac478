//! Replays the corpus of `fuzz/` through this crate's parsers: none may panic, and exactly the files named `good-*` must be accepted.

use std::path::Path;

fn replay(target: &str, parse: impl Fn(&[u8]) -> bool) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} has only {} files", directory.display(), files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let accepted = parse(&bytes);
        let good = file.file_name().unwrap().to_string_lossy().starts_with("good-");
        assert_eq!(accepted, good, "{}", file.display());
        // With a byte changed or the end cut off it may be accepted or not, without a panic.
        for at in (0..bytes.len()).step_by((bytes.len() / 64).max(1)) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            parse(&changed);
            parse(&bytes[..at]);
        }
    }
}

#[test]
fn segment_files_of_the_corpus() {
    replay("search_segment", trivec_search::fuzzing::segment);
}

#[test]
fn filters_of_the_corpus() {
    replay("search_filter", trivec_search::fuzzing::filter);
}

#[test]
fn jsonl_of_the_corpus() {
    replay("search_jsonl", trivec_search::fuzzing::jsonl);
}

#[test]
fn csv_of_the_corpus() {
    replay("search_csv", trivec_search::fuzzing::csv);
}
