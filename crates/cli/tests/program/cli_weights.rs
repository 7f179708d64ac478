//! `--weights` with a checkpoint that is not packed: the checkpoint is packed once, and the copy is kept, found again by the checkpoint's
//! content, listed and removed.

use trivec_testing::program;

use std::fs;
use std::process::Output;

use tempfile::TempDir;

/// A directory with a copy of the small model, `model`, and a home for the store, `home`.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(TempDir::new().unwrap());
        let from = trivec_testing::data("models/f32-h64");
        fs::create_dir(place.0.path().join("model")).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), place.0.path().join("model").join(entry.file_name())).unwrap();
        }
        place
    }

    fn run_in(&self, home: &str, args: &[&str]) -> Output {
        program::trivec().env("TRIVEC_HOME", home).current_dir(self.0.path()).args(args).output().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_in("home", args)
    }

    /// The standard output and standard error of a run that must succeed.
    fn done(&self, args: &[&str]) -> (String, String) {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    }

    /// The packed copies, as `trivec models --json` lists them.
    fn copies(&self) -> serde_json::Value {
        let list: serde_json::Value = serde_json::from_str(&self.done(&["models", "--json"]).0).unwrap();
        list["packed"].clone()
    }
}

const EMBED: [&str; 4] = ["embed", "a small house", "--model", "model"];

/// [`EMBED`] with `--weights`.
fn embed_as(weights: &str) -> Vec<&str> {
    [&EMBED[..], &["--weights", weights]].concat()
}

#[test]
fn a_checkpoint_is_packed_once_and_again_when_it_or_its_copy_changes() {
    let place = Place::new();
    place.done(&["pack", "model", "--weights", "int8", "-o", "own.st", "-q"]);
    let expected = place.done(&["embed", "a small house", "--model", "own.st", "-q"]).0;
    let (first, said) = place.done(&embed_as("int8"));
    assert!(said.contains("packing model to int8, once"), "{said}");
    assert_eq!(first, expected);
    let (second, said) = place.done(&embed_as("int8"));
    assert!(!said.contains("packing") && second == expected, "{said}");
    assert_ne!(place.done(&embed_as("f32")).0, expected, "another format is another copy");
    assert_eq!(place.copies().as_array().unwrap().len(), 2);

    // One changed weight is another model, whose copy takes the place of the first.
    let path = place.0.path().join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&0.75f32.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let (_, said) = place.done(&embed_as("int8"));
    assert!(said.contains("packing"), "{said}");
    assert_eq!(place.copies().as_array().unwrap().len(), 2);

    // A damaged copy is made anew: overwritten, cut, longer than it was, or with another byte in its header.
    let (right, _) = place.done(&embed_as("int8"));
    let packed = place.copies();
    let int8 = packed.as_array().unwrap().iter().find(|copy| copy["weights"] == "int8").unwrap();
    let file = place.0.path().join(int8["path"].as_str().unwrap());
    let (name, whole) = (file.file_name().unwrap().to_str().unwrap(), fs::read(&file).unwrap());
    let changed = |at: usize, byte: u8| [&whole[..at], &[byte], &whole[at + 1..]].concat();
    for (bytes, why) in [
        (vec![7; whole.len()], "safetensors"),
        (whole[..whole.len() - 1].to_vec(), "bytes"),
        (whole[..whole.len() / 2].to_vec(), "bytes"),
        (Vec::new(), "bytes"),
        ([&whole[..], &[0]].concat(), "bytes"),
        (changed(8, b'['), "header"),
    ] {
        fs::write(&file, &bytes).unwrap();
        let (found, said) = place.done(&embed_as("int8"));
        assert!(said.contains("the packed copy is damaged and is made anew: "), "{said}");
        assert!(said.contains(why) && said.contains(name) && said.contains("packing"), "{said}");
        assert!(found == right && fs::read(&file).unwrap() == whole, "{said}");
    }

    assert!(place.done(&["models"]).0.contains("packed copies of checkpoints"));
    let (_, said) = place.done(&["models", "rm", "model"]);
    assert!(said.contains("removed the packed copies of"), "{said}");
    assert_eq!(place.copies(), serde_json::json!([]));
    place.done(&embed_as("f16"));
    place.done(&["models", "rm", "--packed"]);
    assert_eq!(place.copies(), serde_json::json!([]));
}

#[test]
fn the_hint_at_packing_is_printed_once_and_not_with_quiet() {
    let place = Place::new();
    let (_, said) = place.done(&EMBED);
    assert!(said.contains("model is not packed: ") && said.contains("`--weights int8`"), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("not packed")).count(), 1);
    let (_, said) = place.done(&[&EMBED[..], &["-q"]].concat());
    assert_eq!(said, "");
    let (_, said) = place.done(&["import", "model", "-o", "imported"]);
    assert!(said.contains("`trivec pack imported --weights int8 -o imported-int8.safetensors`"), "{said}");
}

#[test]
fn another_format_than_the_files_and_an_unusable_home_are_refused() {
    let place = Place::new();
    place.done(&["pack", "model", "--weights", "int8", "-o", "own.st", "-q"]);
    place.done(&["embed", "a", "--model", "own.st", "--weights", "int8"]);
    let refused = place.run(&["embed", "a", "--model", "own.st", "--weights", "int4"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--weights: found int4, but own.st is packed already, as int8"), "{said}");
    // The home cannot be created, because it lies below a file.
    fs::write(place.0.path().join("file"), "").unwrap();
    let refused = place.run_in("file/home", &embed_as("int8"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("TRIVEC_HOME") && said.contains("trivec pack model --weights int8"), "{said}");
}
