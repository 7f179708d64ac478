//! Model directories in BAAI's own layout: PyTorch's files and a SentencePiece model, sound and damaged. `row_N` in a test's name is the number
//! of the fault in the list from which these tests were made.

use trivec_testing as common;

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use trivec::{EncodeOptions, ErrorKind, LoadOptions, Model, Modes};

const BIN: &str = "pytorch_model.bin";
const PLAIN: &str = "torch-h24";
const SHARDED: &str = "mean-torch-h16";
const QUERY: &str = "encoder.layer.0.attention.self.query.weight";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { fs::copy(entry.path(), to).map(drop).unwrap() }
    }
}

/// A copy of a fixture model that a test may damage.
fn copy_of(model: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    copy(&common::data("models").join(model), directory.path());
    directory
}

/// The message of the model error with which loading must fail.
fn refusal(directory: &Path) -> String {
    let Err(error) = Model::load(directory) else { panic!("{} was loaded", directory.display()) };
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    error.to_string()
}

/// Loads a model without scanning its weights.
fn unscanned(directory: &Path) -> trivec::Result<Model> {
    Model::load_with(directory, &LoadOptions { check_finite: false, ..Default::default() })
}

/// A file of the fuzzing corpus for PyTorch's files.
fn corpus(name: &str) -> Vec<u8> {
    fs::read(trivec_testing::root("fuzz/corpus/torch_file").join(name)).unwrap()
}

/// Replaces the only occurrence of `old` in a file by `new`, which has the same length.
fn replace_once(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> = (0..=bytes.len() - old.len()).filter(|&at| bytes[at..].starts_with(old)).collect();
    assert_eq!(places.len(), 1);
    bytes[places[0]..][..new.len()].copy_from_slice(new);
}

#[test]
fn a_cut_file_is_refused_by_name() {
    let model = copy_of(PLAIN);
    let path = model.path().join(BIN);
    let whole = fs::read(&path).unwrap();
    for cut in [0, 1, 3, 4, 100, 5000, whole.len() / 2, whole.len() - 22, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        let message = refusal(model.path());
        assert!(message.contains(BIN), "cut at {cut}: {message}");
    }
    fs::write(&path, &whole).unwrap();
    Model::load(model.path()).unwrap();
    let head = model.path().join("sparse_linear.pt");
    let whole = fs::read(&head).unwrap();
    for cut in 0..whole.len() {
        fs::write(&head, &whole[..cut]).unwrap();
        assert!(refusal(model.path()).contains("sparse_linear.pt"), "cut at {cut}");
    }
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let model = copy_of(PLAIN);
    let path = model.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "encoder.layer.2.attention.self.query.weight`: it is missing",
        ),
        ("\"intermediate_size\": 40", "\"intermediate_size\": 41", "its shape is [40, 24], expected [41, 24]"),
        ("\"max_position_embeddings\": 522", "\"max_position_embeddings\": 521", "expected [521, 24]"),
    ] {
        assert!(config.contains(from));
        fs::write(&path, config.replace(from, to)).unwrap();
        let message = refusal(model.path());
        assert!(message.contains(BIN) && message.contains(expected), "{message}");
    }
}

#[test]
fn a_damaged_value_is_found_by_its_checksum_and_one_that_is_not_finite_by_its_place() {
    let model = copy_of(SHARDED);
    let path = model.path().join("2_Dense/pytorch_model.bin");
    let sound = fs::read(&path).unwrap();
    let options = EncodeOptions::default();
    let before = Model::load(model.path()).unwrap().encode_ids(&[[0, 5, 2]], &options).unwrap();
    // Damages the bias, whose 8 floats are the 32 bytes of this entry.
    let bias = entry(&sound, "data/1");
    let mut bytes = sound.clone();
    bytes[bias.start] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let message = refusal(model.path());
    assert!(message.contains("2_Dense") && message.contains("data/1`: its checksum is wrong"), "{message}");
    let after = unscanned(model.path()).unwrap().encode_ids(&[[0, 5, 2]], &options).unwrap();
    assert_ne!(before[0].dense, after[0].dense, "without the scan the damaged value is used");

    // Puts a NaN into the bias and corrects the checksum.
    let mut bytes = sound.clone();
    let old = crc32fast::hash(&bytes[bias.clone()]);
    bytes[bias.start + 8..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let new = crc32fast::hash(&bytes[bias.clone()]);
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(&old.to_le_bytes())).collect();
    assert_eq!(places.len(), 2, "in the descriptor and in the directory");
    places.into_iter().for_each(|at| bytes[at..][..4].copy_from_slice(&new.to_le_bytes()));
    fs::write(&path, &bytes).unwrap();
    let message = refusal(model.path());
    assert!(message.contains("linear.bias") && message.contains("its value at 2 (row 0, column 2)"), "{message}");
}

/// The first 32 bytes of the content of the zip entry whose name ends with `name`, as a range of the file. The content follows the entry's local
/// header, its name and its extra field.
fn entry(file: &[u8], name: &str) -> std::ops::Range<usize> {
    let at = (0..file.len()).find(|&at| {
        file[at..].starts_with(b"PK\x03\x04") && {
            let len = usize::from(u16::from_le_bytes([file[at + 26], file[at + 27]]));
            file[at + 30..][..len].ends_with(name.as_bytes())
        }
    });
    let at = at.unwrap();
    let number = |at: usize| usize::from(u16::from_le_bytes([file[at], file[at + 1]]));
    let start = at + 30 + number(at + 26) + number(at + 28);
    start..start + 32
}

#[test]
fn heads_in_pt_files_come_and_go_by_themselves() {
    let model = copy_of(PLAIN);
    assert_eq!(Model::load(model.path()).unwrap().info().modes, Modes::ALL);
    fs::remove_file(model.path().join("sparse_linear.pt")).unwrap();
    let modes = Model::load(model.path()).unwrap().info().modes;
    assert!(modes.dense && modes.colbert && !modes.sparse);
    // The file of a head of another width has the right name and the right tensor names.
    fs::copy(model.path().join("colbert_linear.pt"), model.path().join("sparse_linear.pt")).unwrap();
    let message = refusal(model.path());
    assert!(message.contains("sparse_linear.pt") && message.contains("expected [1, 24]"), "{message}");
}

#[test]
fn a_head_of_parameters_is_read() {
    let model = copy_of(PLAIN);
    fs::write(model.path().join("sparse_linear.pt"), corpus("good-parameters")).unwrap();
    let model = Model::load(model.path()).unwrap();
    let options = EncodeOptions { modes: Modes::SPARSE, ..Default::default() };
    let lexical = model.encode_ids(&[[0, 5, 9, 2]], &options).unwrap().remove(0).lexical.unwrap();
    // Weights of zero and a bias of one half.
    assert_eq!(lexical.iter().collect::<Vec<_>>(), [(5, 0.5), (9, 0.5)]);
}

#[test]
fn a_malicious_pickle_is_refused_as_a_model_and_as_a_head() {
    for file in [BIN, "colbert_linear.pt"] {
        let model = copy_of(PLAIN);
        fs::write(model.path().join(file), corpus("bad-os-system")).unwrap();
        for message in [refusal(model.path()), unscanned(model.path()).unwrap_err().to_string()] {
            assert!(
                message.contains(file) && message.contains("posix.system") && message.contains("nothing was run"),
                "{message}"
            );
        }
    }
}

#[test]
fn foreign_files_in_place_of_the_weights_are_named_by_their_kind() {
    for (name, expected) in [
        ("bad-legacy", "old format, from before 1.6"),
        ("bad-deflated", "deflated"),
        ("bad-script", "TorchScript"),
        ("bad-script-deflated", "TorchScript program: save the model's state_dict()"),
        ("bad-gguf", "GGUF"),
        ("bad-html", "HTML page"),
        ("bad-lfs", "git lfs pull"),
        ("bad-checksum", "checksum"),
        ("bad-empty", "empty"),
        ("bad-cut", "no zip directory"),
    ] {
        let model = copy_of(PLAIN);
        fs::write(model.path().join(BIN), corpus(name)).unwrap();
        let message = refusal(model.path());
        assert!(message.contains(BIN) && message.contains(expected), "{name}: {message}");
    }
    let model = copy_of(PLAIN);
    fs::copy(common::data("models/f32-h64/model.safetensors"), model.path().join(BIN)).unwrap();
    assert!(refusal(model.path()).contains("safetensors file by its content"));
}

#[test]
fn safetensors_win_where_both_are_there() {
    let model = copy_of("f32-h64");
    for file in [BIN, "sparse_linear.pt", "pytorch_model.bin.index.json"] {
        fs::write(model.path().join(file), "not even looked at").unwrap();
    }
    Model::load(model.path()).unwrap();
    fs::remove_file(model.path().join("model.safetensors")).unwrap();
    assert!(refusal(model.path()).contains(BIN));
    fs::remove_file(model.path().join(BIN)).unwrap();
    assert!(refusal(model.path()).contains("pytorch_model.bin.index.json"));
    fs::remove_file(model.path().join("pytorch_model.bin.index.json")).unwrap();
    let missing = |expected: &str| {
        let message = refusal(model.path());
        assert!(message.contains("neither model.safetensors nor pytorch_model.bin"), "{message}");
        assert!(message.ends_with(expected), "{message}");
    };
    missing("pytorch_model.bin.index.json)");
    // The message names a file that may hold the weights, if it is the only one. Heads and what training scripts save do not count.
    for beside in ["colbert_linear.pt", "optimizer.pt", "training_args.bin", "notes.txt"] {
        fs::write(model.path().join(beside), "").unwrap();
    }
    missing("pytorch_model.bin.index.json)");
    for (name, usual) in [("model.pt", BIN), ("last.ckpt", BIN), ("weights.safetensors", "model.safetensors")] {
        fs::write(model.path().join(name), "").unwrap();
        missing(&format!("if the model's weights are in `{name}`, call that file {usual}"));
        fs::remove_file(model.path().join(name)).unwrap();
    }
    fs::write(model.path().join("a.pth"), "").unwrap();
    fs::write(model.path().join("b.pth"), "").unwrap();
    missing("pytorch_model.bin.index.json)");
}

#[test]
fn shards_are_plain_names_and_hold_what_the_index_says() {
    let model = copy_of(SHARDED);
    Model::load(model.path()).unwrap();
    let index_path = model.path().join("pytorch_model.bin.index.json");
    let index = fs::read_to_string(&index_path).unwrap();
    let shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    for outside in ["../x.bin", "/etc/passwd", "sub/x.bin", ""] {
        fs::write(&index_path, index.replace(shards[0], outside)).unwrap();
        assert!(refusal(model.path()).contains("is not a file name"), "{outside}");
    }
    fs::write(&index_path, index.replacen(shards[0], shards[1], 1)).unwrap();
    assert!(refusal(model.path()).contains("puts it here"));
    fs::write(&index_path, &index).unwrap();
    fs::remove_file(model.path().join(shards[1])).unwrap();
    assert!(refusal(model.path()).contains("the shard is missing"));
}

#[test]
fn a_sentencepiece_model_of_another_vocabulary_or_damaged_is_refused_and_tokenizer_json_wins() {
    let name = "sentencepiece.bpe.model";
    let model = copy_of(PLAIN);
    let path = model.path().join(name);
    let whole = fs::read(&path).unwrap();
    let smaller = copy_of(SHARDED);
    fs::copy(&path, smaller.path().join(name)).unwrap();
    let message = refusal(smaller.path());
    assert!(message.contains(name) && message.contains("120 ids") && message.contains("100 rows"), "{message}");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(refusal(model.path()).contains(name), "cut at {cut}");
    }
    fs::write(model.path().join("tokenizer.json"), "{").unwrap();
    assert!(refusal(model.path()).contains("tokenizer.json"));
}

#[test]
fn a_text_is_tokenised_and_embedded_by_the_sentencepiece_model() {
    let model = Model::load(common::data("models").join(PLAIN)).unwrap();
    let options = EncodeOptions { modes: Modes::ALL, ..Default::default() };
    let tokens = model.tokenize("en a <mask> ", &options).unwrap();
    let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
    assert_eq!((ids.first(), ids.last(), ids[ids.len() - 2]), (Some(&0), Some(&2), 119));
    let embedded = model.encode(&["en a <mask> "], &options).unwrap();
    let of_ids = model.encode_ids(&[ids], &options).unwrap();
    assert_eq!(embedded, of_ids);
}

#[test]
fn a_flipped_bit_in_a_small_file_never_panics() {
    let model = copy_of(PLAIN);
    let head = model.path().join("sparse_linear.pt");
    let whole = fs::read(&head).unwrap();
    for byte in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (byte % 8);
        fs::write(&head, bytes).unwrap();
        if let Err(error) = Model::load(model.path()) {
            assert_eq!(error.kind(), ErrorKind::Model, "{error}");
        }
    }
}

#[test]
fn a_tensor_with_a_similar_name_is_not_used() {
    let model = copy_of(PLAIN);
    let path = model.path().join(BIN);
    let mut bytes = fs::read(&path).unwrap();
    let mut renamed = QUERY.as_bytes().to_vec();
    renamed[0] = b'E';
    let old = crc32fast::hash(&bytes[pickle(&bytes)]);
    replace_once(&mut bytes, QUERY.as_bytes(), &renamed);
    let new = crc32fast::hash(&bytes[pickle(&bytes)]);
    for at in 0..bytes.len() - 4 {
        if bytes[at..].starts_with(&old.to_le_bytes()) {
            bytes[at..][..4].copy_from_slice(&new.to_le_bytes());
        }
    }
    fs::write(&path, &bytes).unwrap();
    let message = refusal(model.path());
    assert!(message.contains(QUERY) && message.contains("it is missing"), "{message}");
}

/// The range of the pickle in the file: from the end of its local header to its data descriptor.
fn pickle(file: &[u8]) -> std::ops::Range<usize> {
    let start = entry(file, "data.pkl").start;
    let end = (start..file.len()).find(|&at| file[at..].starts_with(b"PK\x07\x08")).unwrap();
    start..end
}
