//! `trivec plan`: what it predicts for a corpus, compared with what `trivec embed` then makes of it.

use trivec_testing as common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// A command that runs `trivec` with a small model that has all heads.
fn trivec(args: &[&str]) -> Command {
    let mut command = common::program::trivec();
    command.args(args).env("TRIVEC_MODEL", common::data("models/f32-h64")).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    trivec(args).output().unwrap()
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

/// What `trivec plan --json` prints.
fn plan(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&run(&[&["plan", "--quiet", "--json"][..], args].concat()))).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A report of `bench` on the small model.
fn report() -> Value {
    static REPORT: OnceLock<String> = OnceLock::new();
    let text = REPORT
        .get_or_init(|| stdout(&run(&["bench", "--quiet", "--json", "--seconds", "0", "--shapes", "1x8,8x128,1x512"])));
    serde_json::from_str(text).unwrap()
}

/// Writes a file, and returns its path.
fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// 2,000 texts of several languages and of very different lengths, the short ones first, which must not mislead a sample.
fn texts() -> Vec<String> {
    let words = ["the", "cat", "天気がいい", "Katze", "объект", "numbers 12345", "🙂", "ساعة", "unusual-words", "a"];
    let text = |i: usize| {
        let count = if i < 1500 { 1 + i % 7 } else { 10 + i * 7919 % 80 };
        (0..count).map(|j| words[(i * 31 + j * j * 7) % words.len()]).collect::<Vec<_>>().join(" ")
    };
    (0..2000).map(text).collect()
}

/// The texts as lines of JSON with ids.
fn jsonl(texts: &[String]) -> String {
    texts.iter().enumerate().map(|(i, text)| format!("{}\n", json!({"id": format!("doc-{i}"), "text": text}))).collect()
}

/// The number of tokens of all texts, from what `embed` prints for each.
fn tokens_of(path: &Path) -> f64 {
    let lines = stdout(&run(&["embed", "--quiet", "--input", path.to_str().unwrap()]));
    lines.lines().map(|line| number(&serde_json::from_str::<Value>(line).unwrap()["tokens"])).sum()
}

/// Asserts that a prediction is within 15 % of the true value.
fn is_near(found: &Value, expected: f64, what: &str) {
    let ratio = number(found) / expected;
    assert!((0.85..1.15).contains(&ratio), "{what}: predicted {found}, there are {expected}");
}

#[test]
fn tokens_and_output_are_within_15_percent_of_what_embed_makes() {
    let directory = tempfile::tempdir().unwrap();
    let texts = texts();
    let path = write(directory.path(), "corpus.jsonl", jsonl(&texts));
    let input = path.to_str().unwrap();
    let tokens = tokens_of(&path);
    for (format, modes) in [
        ("jsonl", "dense"),
        ("jsonl", "sparse"),
        ("jsonl", "all"),
        ("npy", "dense"),
        ("safetensors", "sparse"),
        ("safetensors", "all"),
    ] {
        let output = directory.path().join("output");
        let options = ["--modes", modes, "--format", format];
        let embed = ["embed", "--quiet", "--input", input, "--output", output.to_str().unwrap()];
        stdout(&run(&[&embed[..], &options].concat()));
        let bytes = fs::metadata(&output).unwrap().len() as f64;
        // The sample is about a sixth of the corpus.
        let found = plan(&[&[input, "--seconds", "0", "--sample-mb", "0.06"], &options[..]].concat());
        let what = format!("{modes} as {format}");
        assert!((100..1000).contains(&found["sampled"].as_u64().unwrap()), "{found}");
        is_near(&found["records"], texts.len() as f64, &what);
        is_near(&found["tokens"], tokens, &what);
        is_near(&found["output"]["bytes"], bytes, &what);
        assert_eq!((&found["output"]["format"], &found["machines"]), (&json!(format), &json!(1)));
        // The error that the prediction states is above 0 and below the whole.
        assert!(number(&found["tokens_off"]) > 0.0 && number(&found["tokens_off"]) < tokens, "{found}");
    }
}

#[test]
fn other_formats_and_several_files_are_sampled_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let texts = texts();
    let path = write(directory.path(), "corpus.jsonl", jsonl(&texts));
    let tokens = tokens_of(&path);
    let rows: String = texts.iter().map(|text| format!("\"{text}\",x\n")).collect();
    let csv = write(directory.path(), "corpus.csv", format!("body,more\n{rows}"));
    let found = plan(&[csv.to_str().unwrap(), "--column", "body", "--seconds", "0", "--sample-mb", "0.06"]);
    assert_eq!(found["records"], json!(2000.0));
    is_near(&found["tokens"], tokens, "csv");

    let lines = |texts: &[String]| texts.iter().map(|text| format!("{text}\n")).collect::<String>();
    let halves = [lines(&texts[..900]), lines(&texts[900..])];
    let paths = [write(directory.path(), "a.txt", &halves[0]), write(directory.path(), "b.txt", &halves[1])];
    let paths: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let found = plan(&[&paths[..], &["--seconds", "0", "--sample-mb", "0.06"]].concat());
    assert_eq!(found["inputs"], json!(2));
    is_near(&found["tokens"], tokens, "two files");
    // The default sample is larger than these files, so nothing is estimated.
    let all = plan(&[&paths[..], &["--seconds", "0"]].concat());
    let seen = (&all["tokens"], &all["records"], &all["tokens_off"], &all["sampled"]);
    assert_eq!(seen, (&json!(tokens), &json!(2000.0), &json!(0.0), &json!(2000)));
    let csv = write(directory.path(), "text.csv", format!("text,more\n{rows}"));
    let both = plan(&[&[csv.to_str().unwrap()][..], &paths[..], &["--seconds", "0"]].concat());
    assert_eq!(both["tokens"], json!(2.0 * tokens));
}

/// A record of token ids, and a text that is cut.
#[test]
fn tokens_are_counted_as_embed_counts_them() {
    let directory = tempfile::tempdir().unwrap();
    let content = "{\"input_ids\": [0, 5, 6, 2]}\n{\"text\": \"one two three four five six seven\"}\n";
    let path = write(directory.path(), "c.jsonl", content);
    let input = path.to_str().unwrap();
    let found = plan(&[input, "--max-length", "5", "--seconds", "0"]);
    let seen = (&found["tokens"], &found["longest"], &found["truncated"], &found["tokens_a_record"]);
    assert_eq!(seen, (&json!(9.0), &json!(5), &json!(1.0), &json!(4.5)));
    let (code, said) = failure(&run(&["plan", input, "--max-length", "3", "--seconds", "0"]));
    assert!(code == 3 && said.contains("c.jsonl: line 1: 4 token ids, expected 1 to 3"), "{code} {said}");
}

#[test]
fn hours_and_cost_follow_from_the_report_of_bench() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "corpus.jsonl", jsonl(&texts()));
    let input = path.to_str().unwrap();
    let mut report = report();
    report["machine"]["cpu"] = json!("Another CPU");
    for result in report["results"].as_array_mut().unwrap() {
        result["median_ms"] = json!(500.0);
    }
    let bench = write(directory.path(), "bench.json", report.to_string());
    let options = [input, "--bench", bench.to_str().unwrap(), "--efficiency", "1", "--price", "3"];
    let found = plan(&options);
    // 1x8 does not fill a machine, so it is not used.
    assert_eq!((&found["machine"]["cpu"], &found["shapes"]), (&json!("Another CPU"), &json!(["8x128", "1x512"])));
    // 8x128 has twice the tokens and half the squares of 1x512, in the same time.
    let hours = number(&found["machine_hours"]);
    let per_token = number(&found["seconds_per_token"]);
    let expected = per_token * 1024.0 + number(&found["seconds_per_token_squared"]) * 8.0 * 128.0 * 128.0;
    assert!((expected - 0.5).abs() < 1e-6, "{expected}");
    assert!((number(&found["cost"]) / (3.0 * hours) - 1.0).abs() < 1e-9);
    assert!((number(&found["tokens_s"]) * hours * 3600.0 / number(&found["tokens"]) - 1.0).abs() < 1e-6);
    // Twice as slow, at half the efficiency, on four machines: the same hours.
    for result in report["results"].as_array_mut().unwrap() {
        result["median_ms"] = json!(1000.0);
    }
    let bench = write(directory.path(), "slow.json", report.to_string());
    let slow = plan(&[input, "--bench", bench.to_str().unwrap(), "--efficiency", "0.5", "--machines", "4"]);
    assert!((number(&slow["hours"]) / hours - 1.0).abs() < 1e-9 && slow["cost"].is_null(), "{slow} {hours}");
    let hours = (number(&slow["machine_hours"]) / 2.5).to_string();
    let quick = plan(&[input, "--bench", bench.to_str().unwrap(), "--efficiency", "0.5", "--hours", &hours]);
    assert_eq!(quick["machines"], json!(3));

    let text = stdout(&run(&[&["plan", "--quiet", "--color", "never"], &options[..]].concat()));
    for part in ["tokens ", "Another CPU", "cost ", "output ", "assumed ", "bench.json", "looked at"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn reports_that_do_not_fit_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "corpus.txt", "a text\n");
    let mut cases = vec![
        ("not json".to_owned(), 3, "expected ident"),
        ("[1]".into(), 3, "invalid type"),
        ("{}".into(), 3, "missing field"),
    ];
    let mut change = |what: &dyn Fn(&mut Value), code, said| {
        let mut report = report();
        what(&mut report);
        cases.push((report.to_string(), code, said));
    };
    change(&|r| r["results"] = json!([]), 3, "`results` is empty");
    change(&|r| r["results"][0]["shape"] = json!("8by8"), 3, "`8by8`: expected BxL");
    change(&|r| r["results"][0]["median_ms"] = json!(0), 3, "found a median of 0 ms");
    change(&|r| r["results"][1]["weight_bytes"] = json!(7), 2, "measured a model of 7 bytes");
    change(&|r| r["weights"] = json!("int8"), 2, "measured int8 weights, the model has F32");
    change(&|r| r["results"] = json!(vec![r["results"][0].clone(); 300]), 3, "found 300 results");
    for (content, expected, what) in cases {
        let bench = write(directory.path(), "b.json", content);
        let (code, said) = failure(&run(&["plan", path.to_str().unwrap(), "--bench", bench.to_str().unwrap()]));
        assert!(code == expected && said.contains(what) && said.contains("b.json"), "{what}: {code} {said}");
    }
}

#[test]
fn wrong_use_and_bad_input_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let good = write(directory.path(), "good.txt", "a text\n");
    let empty = write(directory.path(), "empty.txt", "");
    let bad = write(directory.path(), "bad.jsonl", format!("{}{{\"text\": 7}}\n", "{\"text\": \"a\"}\n".repeat(40)));
    let (good, empty, bad) = (good.to_str().unwrap(), empty.to_str().unwrap(), bad.to_str().unwrap());
    for (args, expected, what) in [
        (&[][..], 2, "INPUT"),
        (&[empty], 3, "empty.txt: no record"),
        (&["-"], 3, "standard input: no record"),
        (&["nowhere.txt"], 5, "nowhere.txt"),
        (&[directory.path().to_str().unwrap()], 5, "directory"),
        (&[bad], 3, "bad.jsonl: line 41"),
        (&[good, "--bench", "nowhere.json"], 5, "nowhere.json"),
        (&[good, "--machines", "0"], 2, "--machines: found 0"),
        (&[good, "--machines", "2", "--hours", "2"], 2, "--hours: machines are given"),
        (&[good, "--hours", "-1"], 2, "--hours: found -1"),
        (&[good, "--hours", "NaN"], 2, "--hours: found NaN"),
        (&[good, "--price", "-0.5"], 2, "--price: found -0.5"),
        (&[good, "--efficiency", "0"], 2, "--efficiency: found 0"),
        (&[good, "--efficiency", "1.01"], 2, "--efficiency: found 1.01"),
        (&[good, "--sample-mb", "0"], 2, "--sample-mb: found 0"),
        (&[good, "--seconds", "-1"], 2, "--seconds: found -1"),
        (&[good, "--modes", "all", "--format", "npy"], 2, "--format npy holds dense vectors alone"),
        (&[good, "--max-length", "1"], 2, "--max-length"),
        (&[good, "--dimensions", "0"], 2, "--dimensions"),
        (&[good, "--column", "x"], 2, "--column"),
        (&[good, "--bench", "b.json", "--seconds", "1"], 2, "--seconds has no effect beside --bench"),
        (&[good, "--modes", "sparse", "--dimensions", "8"], 2, "--dimensions has no effect"),
    ] {
        let (code, said) = failure(&run(&[&["plan"][..], args].concat()));
        assert!(code == expected && said.contains(what), "{args:?}: {code} {said}");
    }
    // A token id that the model does not have is found only when some records are embedded, and is named by its file all the same.
    let ids = write(directory.path(), "ids.jsonl", "{\"text\": \"a\"}\n{\"input_ids\": [0, 99999999, 2]}\n");
    let long = write(directory.path(), "long.jsonl", format!("{{\"input_ids\": [{}0]}}\n", "0,".repeat(20_000)));
    let ids = ids.to_str().unwrap();
    for (inputs, what) in [
        (&[ids][..], "ids.jsonl: line 2: "),
        (&[good, ids], "ids.jsonl: line 2: "),
        (&[ids, good], "ids.jsonl: line 2: "),
        (&[long.to_str().unwrap(), good], "long.jsonl: line 1: 20,001 token ids"),
    ] {
        let (code, said) = failure(&run(&[&["plan", "--quiet", "--seconds", "0"], inputs].concat()));
        assert!(code == 3 && said.contains(what), "{inputs:?}: {code} {said}");
    }
    let output = trivec(&["plan", "-", "--quiet", "--seconds", "0"]).stdin(fs::File::open(ids).unwrap()).output();
    let (code, said) = failure(&output.unwrap());
    assert!(code == 3 && said.contains("standard input: line 2: "), "{code} {said}");
    // Of two options that exclude each other, one from a variable gives way.
    let mut command = trivec(&["plan", good, "--quiet", "--json", "--seconds", "0", "--machines", "3"]);
    let found: Value = serde_json::from_str(&stdout(&command.env("TRIVEC_HOURS", "7").output().unwrap())).unwrap();
    assert_eq!(found["machines"], json!(3));
}
