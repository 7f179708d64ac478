//! `trivec pack` and `trivec bench`: what they write and print, and what they refuse.

use trivec_testing::program;

use std::fs;
use std::process::{Output, Stdio};

use serde_json::Value;

/// Runs `trivec` without input, in an environment without its variables.
fn run(args: &[&str]) -> Output {
    program::trivec().args(args).stdin(Stdio::null()).output().unwrap()
}

/// The standard output of a run that must succeed.
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The exit code and the standard error of a run.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A small model of tests/data/models.
fn small(name: &str) -> String {
    trivec_testing::data("models").join(name).display().to_string()
}

#[test]
fn a_packed_starter_answers_as_the_starter_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("int8.safetensors").display().to_string();
    assert_eq!(stdout(&run(&["pack", "--weights", "int8", "-o", &file])), "");
    let score = |model: &[&str]| {
        let args = [&["score", "--json", "我喜欢阅读书籍", "I enjoy reading books"], model].concat();
        let json: Value = serde_json::from_str(&stdout(&run(&args))).unwrap();
        json["dense"].as_f64().unwrap()
    };
    let (found, expected) = (score(&["--model", &file]), score(&[]));
    assert!((found - expected).abs() < 0.02, "{found}, {expected}");
    let info: Value = serde_json::from_str(&stdout(&run(&["info", "--json", "--model", &file, "--preload"]))).unwrap();
    assert_eq!(info["weights"], "int8");
    // A packed model is not packed again, and a model is not overwritten.
    let (code, message) = failure(&run(&["pack", &file, "-o", &format!("{file}.2")]));
    assert!(code == 2 && message.contains("packed already"), "{message}");
    let (code, message) = failure(&run(&["pack", "-o", "-"]));
    assert!(code == 2 && message.contains("not standard output"), "{message}");
    let (code, message) = failure(&run(&["pack", &file, "-o", &file]));
    assert!(code == 2 && message.contains("the model itself"), "{message}");
}

#[test]
fn packing_gives_the_same_bytes_each_time_and_leaves_nothing_when_it_fails() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    for name in ["a", "b"] {
        stdout(&run(&["pack", &small("q4-h64"), "--weights", "int4", "-o", &at(name)]));
    }
    assert!(fs::read(at("a")).unwrap() == fs::read(at("b")).unwrap());
    fs::remove_file(at("a")).unwrap();
    fs::remove_file(at("b")).unwrap();
    fs::write(at("empty.txt"), "\n \n").unwrap();
    fs::write(at("latin1.txt"), b"caf\xe9\n").unwrap();
    for (args, code, expected) in [
        (vec!["--calibration".to_owned(), at("empty.txt")], 3, "no text"),
        (vec!["--calibration".to_owned(), at("latin1.txt")], 3, "line 1, byte 3: invalid UTF-8"),
        (vec!["--calibration".to_owned(), at("absent.txt")], 5, "absent.txt"),
        (vec!["--weights".to_owned(), "int2".to_owned()], 2, "int8"),
    ] {
        let mut all = vec!["pack".to_owned(), small("bf16-h60"), "-o".to_owned(), at("out")];
        all.extend(args);
        let args: Vec<&str> = all.iter().map(String::as_str).collect();
        let (found, message) = failure(&run(&args));
        assert!(found == code && message.contains(expected), "{args:?}: {found} {message}");
    }
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn only_packed_models_and_empty_files_are_replaced_without_force() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let pack = |name: &str, more: &[&str]| {
        run(&[&["pack", &small("bf16-h60"), "--weights", "f16", "-q", "-o", &at(name)], more].concat())
    };
    stdout(&pack("packed", &[]));
    let packed = fs::read(at("packed")).unwrap();
    let checkpoint = fs::read(trivec_testing::data("models/f32-h64").join("model.safetensors")).unwrap();
    // Any other file stays as it was, also a checkpoint, and one whose first bytes look like a header's length.
    for (name, content) in [
        ("notes.txt", &b"my notes\n"[..]),
        ("short", b"short"),
        ("docs.jsonl", b"{\"id\": 1, \"text\": \"a\"}\n"),
        ("model.safetensors", &checkpoint),
        ("zeros", &[0; 64]),
        ("header", &[&2_u64.to_le_bytes()[..], b"{}"].concat()),
        ("key", &[&48_u64.to_le_bytes()[..], b"{\"__metadata__\":{\"other\":\"trivec.packed\"}}      "].concat()),
        ("cut", &packed[..100]),
    ] {
        fs::write(at(name), content).unwrap();
        let (code, said) = failure(&pack(name, &[]));
        assert!(code == 2 && said.contains("--output: ") && said.contains("--force to replace it"), "{name}: {said}");
        assert!(fs::read(at(name)).unwrap() == content, "{name}");
        stdout(&pack(name, &["--force"]));
        assert!(fs::read(at(name)).unwrap() == packed, "{name}");
    }
    // A packed model of any format and state is one, and nothing is lost with an empty file.
    let mut old = packed.clone();
    let key = b"\"trivec.packed\":\"3\"";
    let version = old.windows(key.len()).position(|bytes| bytes == key).unwrap() + key.len() - 2;
    old[version] = b'2';
    for content in [&packed[..], &packed[..packed.len() - 500], &old, b""] {
        fs::write(at("out"), content).unwrap();
        stdout(&pack("out", &[]));
        assert!(fs::read(at("out")).unwrap() == packed);
    }
    #[cfg(unix)]
    {
        // What a link leads to counts.
        std::os::unix::fs::symlink(at("notes.txt"), at("link")).unwrap();
        fs::write(at("notes.txt"), "my notes").unwrap();
        assert_eq!(failure(&pack("link", &[])).0, 2);
        assert_eq!(fs::read(at("notes.txt")).unwrap(), b"my notes");
    }
}

#[test]
fn bench_prints_what_scripts_read() {
    let args = ["bench", "--model", &small("bf16-h60"), "--weights", "int8", "--shapes", "1x8,3x5,2x1"];
    let output = stdout(&run(&[&args[..], &["--seconds", "0", "--json", "--quiet", "--threads", "1"]].concat()));
    let json: Value = serde_json::from_str(&output).unwrap();
    for key in ["read_gb_s", "int8_gop_s", "bf16_gflop_s", "f32_gflop_s"] {
        assert!(json["machine"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(json["machine"]["cpu"].is_string() && json["machine"]["isa"].is_string());
    assert_eq!((&json["machine"]["threads"], &json["weights"]), (&Value::from(1), &Value::from("int8")));
    let results = json["results"].as_array().unwrap();
    let shapes: Vec<&str> = results.iter().map(|result| result["shape"].as_str().unwrap()).collect();
    assert_eq!(shapes, ["1x8", "3x5", "2x1"]);
    for result in results {
        let number = |key: &str| result[key].as_f64().unwrap_or_else(|| panic!("{key} in {result}"));
        assert!(number("median_ms") > 0.0 && number("p95_ms") >= number("median_ms") && number("tokens_s") > 0.0);
        assert!((number("share") - number("limit_ms") / number("median_ms")).abs() < 1e-9);
        assert!(["memory", "arithmetic"].contains(&result["bound"].as_str().unwrap()));
    }
    assert!(["cold_start_ms", "load_ms", "peak_rss_mb"].iter().all(|key| json[key].as_f64().unwrap() > 0.0));
}

/// Variables for the options of `embed` and `bench` would change or end the processes in which a bench measures.
#[test]
fn the_processes_of_a_bench_have_no_options_from_variables() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut command = program::trivec();
    command.args(["bench", "--model", &small("bf16-h60"), "--shapes", "1x8", "--seconds", "0", "--json", "--quiet"]);
    for (variable, value) in [
        ("OUTPUT", at("vectors.jsonl").as_str()),
        ("CACHE", &at("cache")),
        ("INPUT", &at("nowhere")),
        ("FORMAT", "npy"),
        ("INPUT_FORMAT", "csv"),
        ("MODES", "none"),
        ("DIMENSIONS", "0"),
        ("MAX_LENGTH", "1"),
        ("BATCH_SIZE", "0"),
        ("MODEL_WEIGHTS", "int8"),
        ("BENCH_WEIGHTS", "int8"),
        ("MODEL", &at("nowhere")),
    ] {
        command.env(format!("TRIVEC_{variable}"), value);
    }
    let json: Value = serde_json::from_str(&stdout(&command.stdin(Stdio::null()).output().unwrap())).unwrap();
    assert_eq!((&json["weights"], &json["results"][0]["shape"]), (&"int8".into(), &"1x8".into()));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no process has written a file");
}

/// `bench --export` writes two files; either may be of another model.
#[test]
fn an_exported_model_replaces_no_other() {
    for name in ["model.safetensors", "config.json"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(name), "mine").unwrap();
        let (code, said) = failure(&run(&["bench", "--export", directory.path().to_str().unwrap()]));
        assert!(
            code == 2 && said.contains("--export: ") && said.contains(&format!("{name} is there already")),
            "{said}"
        );
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(
            (left, fs::read_to_string(directory.path().join(name)).unwrap()),
            (vec![name.into()], "mine".into())
        );
    }
}

/// The model takes at most 512 tokens, so the default shapes with longer texts are left out without an error.
#[test]
fn bench_leaves_out_default_shapes_that_are_too_long_for_the_model() {
    let output = run(&["bench", "--model", &small("bf16-h60"), "--seconds", "0", "--json", "--quiet"]);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let shapes: Vec<&str> = json["results"].as_array().unwrap().iter().map(|r| r["shape"].as_str().unwrap()).collect();
    assert_eq!(shapes, ["1x8", "1x32", "1x128", "1x512", "8x128"]);
}

/// The least time counts each layer's operations at the peak rate of the layer's own arithmetic.
#[test]
fn the_limit_of_a_mixed_file_is_that_of_its_layers() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let bytes = |weights: &str| {
        stdout(&run(&["pack", &small("f32-h64"), "--weights", weights, "--quiet", "-o", &at(weights)]));
        fs::metadata(at(weights)).unwrap().len()
    };
    // A layer has 32,768 weights, which take one byte more each in f16 than in int8. So 34,000 bytes more are enough for one layer in f16.
    let (_, budget) = (bytes("f16"), bytes("int8") + 34_000);
    let budget = (budget as f64 / 1e6).to_string();
    let args = ["pack", &small("f32-h64"), "--weights", "int8", "--mixed", "--budget-mb", &budget, "--quiet"];
    stdout(&run(&[&args[..], &["-o", &at("mixed")]].concat()));
    let info: Value = serde_json::from_str(&stdout(&run(&["info", "--model", &at("mixed"), "--json"]))).unwrap();
    assert_eq!(info["weights"], "f16 (1 layer), int8 (1 layer)");

    // The last layer computes keys and values of all tokens, but query, attention output and feed-forward of the first token only.
    let tokens = 256.0;
    let layer = 2.0 * (tokens * 32_768.0 + 2.0 * tokens * tokens * 64.0);
    let last = 2.0 * (2.0 * tokens * 4096.0 + 32_768.0 - 8192.0 + 2.0 * tokens * 64.0);
    let bench = ["bench", "--model", &at("mixed"), "--shapes", "1x256", "--seconds", "0", "--json", "--quiet"];
    let json: Value = serde_json::from_str(&stdout(&run(&bench))).unwrap();
    let machine = |key: &str| json["machine"][key].as_f64().unwrap() * 1e6;
    let (int8, f32) = (machine("int8_gop_s"), machine("f32_gflop_s"));
    let found = json["results"][0]["limit_ms"].as_f64().unwrap();
    let either = [layer / int8 + last / f32, layer / f32 + last / int8];
    assert!(either.iter().any(|expected| (found / expected - 1.0).abs() < 1e-6), "{found}, expected one of {either:?}");
}

#[test]
fn bench_refuses_what_it_cannot_measure() {
    let model = small("bf16-h60");
    for (args, expected) in [
        (vec!["--shapes", "8"], "expected BxL"),
        (vec!["--shapes", "0x8"], "expected BxL"),
        (vec!["--shapes", "1x100000"], "takes at most"),
        (vec!["--seconds", "-1"], "--seconds"),
    ] {
        let args = [vec!["bench", "--quiet", "--model", &model, "--weights", "f32"], args].concat();
        let (code, message) = failure(&run(&args));
        assert!(code == 2 && message.contains(expected), "{args:?}: {code} {message}");
    }
    let (code, message) = failure(&run(&["bench", "--weights", "int3"]));
    assert!(code == 2 && message.contains("int8"), "{message}");
    // Without --model, or with its name, the starter is measured.
    for model in [&[][..], &["--model", "starter"]] {
        let args = [&["bench", "--shapes", "1x9", "--seconds", "0", "--quiet"], model].concat();
        assert!(stdout(&run(&args)).contains("1x9"), "{args:?}");
    }
    // A file of another model is not measured instead of the synthetic one.
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.safetensors").to_str().unwrap().to_owned();
    stdout(&run(&["pack", &small("bf16-h60"), "--weights", "int8", "-q", "-o", &other]));
    let (code, message) = failure(&run(&["bench", "--synthetic", "bge-m3", "--path", &other, "--shapes", "none"]));
    assert!(code == 2 && message.contains("expected int8 ones of `synthetic bge-m3`"), "{message}");
    let lengths: Vec<usize> = serde_json::from_str(&stdout(&run(&["bench", "--lengths"]))).unwrap();
    assert_eq!(lengths.len(), 256);
}

#[test]
fn the_bench_worker_answers_each_line_and_ends_at_a_bad_one() {
    use std::io::Write;
    let mut command = program::trivec();
    command.args(["bench", "--worker", "--quiet", "--threads", "1", "--weights", "f16", "--model", &small("bf16-h60")]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let requests = "{\"shape\":[2,5],\"runs\":2}\n{\"lengths\":[3,4]}\n{\"ids\":[[0,9,2]]}\n{\"shape\":[1,100000]}\n";
    child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answers: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0]["ready"], true);
    assert_eq!((answers[1]["ms"].as_array().unwrap().len(), answers[2]["ms"].as_array().unwrap().len()), (2, 1));
    assert_eq!(answers[3]["cls"][0].as_array().unwrap().len(), 60);
    assert_eq!(output.status.code(), Some(3));
}
