//! `trivec verify`: what it prints, what it refuses, and its exit codes.

use trivec_testing::program;

use std::path::Path;
use std::process::Output;

/// Runs `trivec` in a directory, with `--quiet` by its variable.
fn trivec(args: &[&str], directory: &Path) -> Output {
    program::trivec().args(args).current_dir(directory).env("TRIVEC_QUIET", "1").output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_packed_starter_is_compared_with_the_starter() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    stdout(&trivec(&["pack", "--weights", "int8", "-o", "int8.safetensors"], at));
    std::fs::write(at.join("texts.txt"), "a small house\n\nein kleines Haus\n小房子\n").unwrap();

    let table = stdout(&trivec(&["verify", "int8.safetensors", "--texts", "texts.txt", "--plot", "p.svg"], at));
    assert!(table.contains("against starter, 3 texts") && table.contains("Kendall"), "{table}");
    assert!(table.contains("the promise of int8 is kept"), "{table}");
    let svg = std::fs::read_to_string(at.join("p.svg")).unwrap();
    assert!(svg.contains("<svg") && svg.contains("cosines of 3 dense vectors"), "{svg}");

    // The starter by its name is compared as the starter without a name.
    let named = stdout(&trivec(&["verify", "int8.safetensors", "starter", "--texts", "texts.txt"], at));
    assert_eq!(named, table);

    // An output that cannot be written is refused before anything is measured, and by its own name.
    let nowhere = trivec(&["verify", "int8.safetensors", "--texts", "texts.txt", "--plot", "none/p.svg"], at);
    assert_eq!((nowhere.status.code(), nowhere.stdout.len()), (Some(5), 0));
    let said = stderr(&nowhere);
    assert!(said.contains("none/p.svg: ") && !said.contains(".tmp"), "{said}");

    let json = stdout(&trivec(&["verify", "int8.safetensors", "--texts", "texts.txt", "--json"], at));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mean = json["dense"]["mean"].as_f64().unwrap();
    assert!((0.999..0.999_999).contains(&mean), "{mean}: int8 is close to fp32, and not it");
    assert_eq!((json["texts"].as_u64(), json["rankings"].as_array().unwrap().len()), (Some(3), 4));
    assert_eq!(json["failures"].as_array().unwrap().len(), 0);

    // A model compared with itself.
    let json =
        stdout(&trivec(&["verify", "int8.safetensors", "int8.safetensors", "--texts", "texts.txt", "--json"], at));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["dense"]["min"].as_f64().unwrap() > 1.0 - 1e-12, "{json}");
    assert_eq!(json["lexical"]["mean_relative_error"].as_f64(), Some(0.0));
    let taus: Vec<_> =
        json["rankings"].as_array().unwrap().iter().map(|r| r["kendall_tau"].as_f64().unwrap()).collect();
    assert!(taus.iter().all(|&tau| tau == 1.0), "{taus:?}");
}

#[test]
fn a_packed_model_that_misses_its_promise_ends_with_4() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let models = trivec_testing::data("models");
    let [a, b] = ["f32-h64", "unnormalized-h64"].map(|name| models.join(name).to_str().unwrap().to_owned());
    stdout(&trivec(&["pack", &a, "--weights", "int8", "-o", "a.safetensors"], at));
    // The vectors of another model are nothing like the packed one's.
    for more in [&[][..], &["--check"], &["--json"]] {
        let found = trivec(&[&["verify", "a.safetensors", &b][..], more].concat(), at);
        assert_eq!(found.status.code(), Some(4), "{more:?}: {}", stderr(&found));
        assert!(stderr(&found).contains("the promise of int8 is not kept for dense vectors"), "{}", stderr(&found));
        // The report is printed all the same.
        let report = String::from_utf8(found.stdout).unwrap();
        match more {
            ["--json"] => assert_eq!(
                serde_json::from_str::<serde_json::Value>(&report).unwrap()["promise_kept"]["dense vectors"],
                false
            ),
            _ => assert!(report.contains("the promise of int8 is not kept for dense vectors"), "{report}"),
        }
    }
    // Two checkpoints are compared without a promise, so nothing can fail.
    stdout(&trivec(&["verify", &a, &b], at));
}

/// Copies the small model to `directory`, and changes the weight and the bias of its lexical head.
fn with_head(directory: &Path, weight: impl Fn(usize, f32) -> f32, bias: impl Fn(f32) -> f32) {
    let from = trivec_testing::data("models/f32-h64");
    std::fs::create_dir(directory).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    let path = directory.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    for (name, change) in
        [("sparse_linear.weight", &weight as &dyn Fn(usize, f32) -> f32), ("sparse_linear.bias", &|_, x| bias(x))]
    {
        let offsets = [0, 1].map(|end| header[name]["data_offsets"][end].as_u64().unwrap() as usize + 8 + length);
        for (at, value) in bytes[offsets[0]..offsets[1]].as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *value = change(at, f32::from_le_bytes(*value)).to_le_bytes();
        }
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn small_lexical_weights_are_judged_by_the_scores_they_make() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    // At both scales the packed model keeps its promise against its own head. It does not against another head: one that is negated, one of
    // 0.3 times the size, and one with every second weight negated.
    for scale in [1.0, 1e-3] {
        let name = |what: &str| format!("{what}-{scale}");
        with_head(&at.join(name("own")), |_, x| x * scale, |x| x * scale);
        stdout(&trivec(&["pack", &name("own"), "--weights", "int8", "-o", &name("packed.st")], at));
        let table = stdout(&trivec(&["verify", &name("packed.st"), &name("own")], at));
        assert!(table.contains("the promise of int8 is kept"), "{scale}: {table}");
        with_head(&at.join(name("negated")), |_, x| -x * scale, |x| -x * scale);
        with_head(&at.join(name("half")), |_, x| x * scale * 0.3, |x| x * scale * 0.3);
        with_head(&at.join(name("turned")), |at, x| if at % 2 == 0 { -x * scale } else { x * scale }, |x| x * scale);
        for other in ["negated", "half", "turned"] {
            let found = trivec(&["verify", &name("packed.st"), &name(other)], at);
            let (table, said) = (String::from_utf8_lossy(&found.stdout), stderr(&found));
            assert_eq!(found.status.code(), Some(4), "{scale}, {other}: {table}{said}");
            let expected = "the promise of int8 is not kept for lexical weights";
            assert!(said.contains(expected), "{scale}, {other}: {said}");
            let whole = format!("{expected}; it is kept for dense vectors and ColBERT rows");
            assert!(table.contains(&whole), "{scale}, {other}: {table}");
        }
    }
    let found = trivec(&["verify", "packed.st-1", "negated-1", "--json"], at);
    let json: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    let kept = |part: &str| json["promise_kept"][part].as_bool();
    let expected = (Some(true), Some(true), Some(false));
    assert_eq!((kept("dense vectors"), kept("ColBERT rows"), kept("lexical weights")), expected, "{json}");
}

/// A histogram never replaces a file that is read: the texts, or a file of either model.
#[test]
fn a_histogram_replaces_no_input() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_head(&at.join("model"), |_, x| x, |x| x);
    stdout(&trivec(&["pack", "model", "-o", "packed"], at));
    std::fs::write(at.join("texts"), "one\ntwo\n").unwrap();
    std::fs::hard_link(at.join("texts"), at.join("same.svg")).unwrap();
    std::fs::hard_link(at.join("packed"), at.join("packed.svg")).unwrap();
    std::fs::hard_link(at.join("model/model.safetensors"), at.join("weights.svg")).unwrap();
    let files = ["texts", "packed", "model/model.safetensors"];
    let read = || files.map(|file| std::fs::read(at.join(file)).unwrap());
    let before = read();
    for (plot, what) in [
        ("texts", "texts is the file of --texts"),
        ("./texts", "texts is the file of --texts"),
        ("same.svg", "same.svg is the file of --texts"),
        ("packed", "packed is a file of the model"),
        ("packed.svg", "packed.svg is a file of the model"),
        ("weights.svg", "weights.svg is a file of the model"),
    ] {
        for models in [["packed", "model"], ["model", "packed"]] {
            let found = trivec(&[&["verify"], &models[..], &["--texts", "texts", "--plot", plot]].concat(), at);
            let said = stderr(&found);
            assert_eq!((found.status.code(), found.stdout.len()), (Some(2), 0), "{plot}: {said}");
            assert!(said.contains("--plot: ") && said.contains(what), "{plot}: {said}");
        }
    }
    assert!(read() == before);
    stdout(&trivec(&["verify", "packed", "model", "--texts", "texts", "--plot", "new"], at));
    assert!(std::fs::read_to_string(at.join("new")).unwrap().starts_with("<svg"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let model = trivec_testing::data("models/f32-h64");
    let model = model.to_str().unwrap();
    stdout(&trivec(&["pack", model, "--weights", "f16", "-o", "a.safetensors"], at));
    stdout(&trivec(&["pack", "--weights", "f16", "-o", "starter.safetensors"], at));
    std::fs::write(at.join("empty.txt"), "\n \n").unwrap();

    for (args, code, what) in [
        (&["verify", "a.safetensors"][..], 2, "name the model that it was packed from"),
        (
            &["verify", "a.safetensors", "starter.safetensors"],
            2,
            "error: the model: dense vectors of 384 and 64 values",
        ),
        (&["verify", "a.safetensors", model, "--texts", "empty.txt"], 3, "no text"),
        (&["verify", "a.safetensors", model, "--texts", "none.txt"], 5, "none.txt"),
        (&["verify", "missing.safetensors", model], 4, "missing.safetensors"),
    ] {
        let found = trivec(args, at);
        assert_eq!(found.status.code(), Some(code), "{args:?}: {}", stderr(&found));
        assert!(stderr(&found).contains(what), "{args:?}: {}", stderr(&found));
    }
}
