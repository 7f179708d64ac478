//! Replays the corpus of `fuzz/` through the parsers: none may panic, and of all files exactly those named `good-*` must be accepted.

/// Runs `parse` on every file of a fuzz target's corpus.
fn replay(target: &str, parse: impl Fn(&[u8]) -> bool) {
    let directory = trivec_testing::root("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} has only {} files", directory.display(), files.len());
    for file in files {
        let accepted = parse(&std::fs::read(&file).unwrap());
        let good = file.file_name().unwrap().to_string_lossy().starts_with("good-");
        assert_eq!(accepted, good, "{}", file.display());
    }
}

#[test]
fn safetensors_header() {
    replay("safetensors_header", trivec::fuzzing::safetensors_header);
}

#[test]
fn config() {
    replay("config", trivec::fuzzing::config);
}

#[test]
fn tokenizer() {
    replay("tokenizer", trivec::fuzzing::tokenizer);
}

#[test]
fn packed() {
    replay("packed", trivec::fuzzing::packed);
}

#[test]
fn sentencepiece() {
    replay("sentencepiece", trivec::fuzzing::sentencepiece);
}

#[test]
fn torch_pickle() {
    replay("torch_pickle", trivec::fuzzing::torch_pickle);
}

#[test]
fn torch_file() {
    replay("torch_file", trivec::fuzzing::torch_file);
}
