//! `trivec import`: what it writes and prints, and what it refuses.

use trivec_testing::program;

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

fn run(args: &[&str]) -> Output {
    program::trivec().args(args).stdin(Stdio::null()).output().unwrap()
}

/// The exit code, standard output and standard error.
fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The path of a small model.
fn small(name: &str) -> String {
    trivec_testing::data("models").join(name).display().to_string()
}

#[test]
fn a_model_in_baai_s_layout_is_imported_and_used() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (code, out, err) = parts(&run(&["import", &small("torch-h24"), "-o", &at("model")]));
    assert!(code == 0 && out.is_empty(), "{err}");
    assert!(
        err.contains("43 tensors (1 without weights left out)") && err.contains("sentencepiece.bpe.model"),
        "{err}"
    );

    let (code, out, err) = parts(&run(&["import", &small("torch-h24"), "-o", &at("model")]));
    assert!((code, out.as_str()) == (2, "") && err.contains("--output") && err.contains("--force"), "{err}");
    let (code, out, err) =
        parts(&run(&["import", "--model", &small("torch-h24"), "-o", &at("model"), "--force", "--json", "--quiet"]));
    assert!(code == 0 && err.is_empty(), "{err}");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((json["tensors"].as_u64(), json["left_out"].as_u64()), (Some(43), Some(1)));

    let score = |model: &str| parts(&run(&["score", "--json", "--model", model, "a text", "another text"])).1;
    assert_eq!(score(&at("model")), score(&small("torch-h24")));
}

#[test]
fn a_missing_model_and_a_hostile_pickle_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("model").display().to_string();
    let source = directory.path().join("source");
    let (code, _, err) = parts(&run(&["import", "-o", &target]));
    assert!(code == 2 && err.contains("no model"), "{err}");
    let (code, _, err) = parts(&run(&["import", &source.display().to_string(), "-o", &target]));
    assert!(code == 4 && err.contains("no such model file or directory"), "{err}");
    fs::create_dir(&source).unwrap();
    fs::copy(Path::new(&small("torch-h24")).join("config.json"), source.join("config.json")).unwrap();
    // A pickle that names `posix.system`, which would run programs.
    fs::write(source.join("pytorch_model.bin"), b"\x80\x02cposix\nsystem\n.").unwrap();
    let (code, _, err) = parts(&run(&["import", &source.display().to_string(), "-o", &target]));
    assert!(code == 4 && err.contains("pytorch_model.bin"), "{err}");
    assert!(!Path::new(&target).exists());
}

#[test]
fn a_packed_file_records_the_digest_of_pytorch_s_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("packed.safetensors");
    let source = small("torch-h24");
    let (code, _, err) = parts(&run(&["pack", &source, "--weights", "f32", "-o", &file.display().to_string()]));
    assert_eq!(code, 0, "{err}");
    let bytes = fs::read(&file).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut hasher = Sha256::new();
    for name in ["colbert_linear.pt", "pytorch_model.bin", "sparse_linear.pt"] {
        hasher.update(fs::read(Path::new(&source).join(name)).unwrap());
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(metadata.metadata().as_ref().unwrap()["trivec.source"], format!("sha256:{hex}"));
}
