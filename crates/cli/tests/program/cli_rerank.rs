//! `trivec rerank`: what it reads and prints, and what it refuses.

use trivec_testing as common;

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A command that runs `trivec` with the tiny reranker and without input, in an environment without its other variables.
fn trivec(args: &[&str]) -> Command {
    let mut command = common::program::trivec();
    command.env("TRIVEC_MODEL", common::data("rerankers/reranker-h48")).env("TRIVEC_THREADS", "1");
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    trivec(args).output().unwrap()
}

fn with_stdin(args: &[&str], input: &[u8]) -> Output {
    let mut child = trivec(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end before it has read everything, so an error of writing is ignored.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn records(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exit code and the standard error of a run.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const QUERY: &str = "what is a panda?";
const DOCUMENTS: [&str; 4] = ["hi", "The giant panda is a bear.", "", "天気"];

#[test]
fn documents_come_sorted_best_first() {
    let all = records(&run(&[&["rerank", "--json", QUERY][..], &DOCUMENTS].concat()));
    assert_eq!(all.len(), 4);
    let logits: Vec<f64> = all.iter().map(|r| r["logit"].as_f64().unwrap()).collect();
    assert!(logits.is_sorted_by(|a, b| a > b), "{logits:?}");
    for record in &all {
        let logit = record["logit"].as_f64().unwrap();
        assert!((record["score"].as_f64().unwrap() - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
        let index = record["index"].as_u64().unwrap() as usize;
        assert_eq!((record["text"].as_str(), &record["truncated"]), (Some(DOCUMENTS[index]), &false.into()));
        // The same document alone has the same score.
        let alone = &records(&run(&["rerank", "--json", QUERY, DOCUMENTS[index]]))[0];
        assert_eq!((&alone["logit"], &alone["tokens"]), (&record["logit"], &record["tokens"]));
    }
    let best = records(&run(&[&["rerank", "--json", "--top", "2", QUERY][..], &DOCUMENTS].concat()));
    assert_eq!(best, all[..2]);
    // Documents with equal scores stay in the order of the input.
    let equal = records(&run(&["rerank", "--json", QUERY, "hi", "hi", "hi"]));
    assert_eq!(equal.iter().map(|r| r["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn lines_and_jsonl_are_documents_too() {
    let expected = records(&run(&[&["rerank", "--json", QUERY][..], &DOCUMENTS].concat()));
    let lines = with_stdin(&["rerank", "--json", QUERY], DOCUMENTS.join("\r\n").replace("天気", "天気\n").as_bytes());
    assert_eq!(records(&lines), expected);
    let jsonl: Vec<String> =
        DOCUMENTS.iter().enumerate().map(|(i, text)| format!("{{\"text\":{text:?},\"id\":\"d{i}\"}}")).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("documents.jsonl");
    fs::write(&file, jsonl.join("\n")).unwrap();
    let found = records(&run(&["rerank", "--json", QUERY, "--input", file.to_str().unwrap()]));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found["id"], format!("d{}", expected["index"]));
        assert_eq!((&found["index"], &found["logit"]), (&expected["index"], &expected["logit"]));
    }
    // There are more documents than are read at a time, and their indices count on.
    let many: String = (0..200).map(|i| format!("panda {i}\n")).collect();
    let found = records(&with_stdin(&["rerank", "--json", QUERY, "--input", "-"], many.as_bytes()));
    let mut indices: Vec<u64> = found.iter().map(|r| r["index"].as_u64().unwrap()).collect();
    assert!(found.iter().all(|r| r["text"] == format!("panda {}", r["index"])));
    indices.sort_unstable();
    assert_eq!(indices, (0..200).collect::<Vec<_>>());
    assert!(stdout(&with_stdin(&["rerank", QUERY], b"")).is_empty());
}

#[test]
fn the_table_shows_scores_or_logits() {
    let args = [&["rerank", QUERY][..], &DOCUMENTS].concat();
    let best = &records(&run(&[&args[..], &["--json"]].concat()))[0];
    let table = stdout(&run(&args));
    assert_eq!(table.lines().count(), 5);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].contains("score") && !table.contains('\u{1b}'), "{table}");
    assert!(rows[1].contains(&format!("{:.4}", best["score"].as_f64().unwrap())), "{table}");
    let raw = stdout(&run(&[&args[..], &["--raw"]].concat()));
    assert!(raw.contains("logit") && raw.contains(&format!("{:.4}", best["logit"].as_f64().unwrap())), "{raw}");
    assert!(stdout(&run(&[&args[..], &["--color", "always"]].concat())).contains('\u{1b}'));
    // A document of many lines takes one line of the table.
    let long = "panda\n".repeat(100);
    assert_eq!(stdout(&run(&["rerank", QUERY, &long])).lines().count(), 2);
    let help = stdout(&run(&["rerank", "--help"]));
    assert!(help.contains("Examples:") && help.contains("TRIVEC_RERANK_TOP"), "{help}");
}

#[test]
fn long_pairs_are_cut_and_marked_as_truncated() {
    let long = "panda ".repeat(2000);
    let cut = |args: &[&str]| {
        let record = records(&run(&[&["rerank", "--json", QUERY, &long][..], args].concat())).remove(0);
        (record["tokens"].as_u64().unwrap(), record["truncated"] == true)
    };
    assert_eq!(cut(&[]), (512, true));
    assert_eq!(cut(&["--max-length", "17"]), (17, true));
    assert_eq!(cut(&["--max-length", "520"]), (520, true));
    let special =
        |how| records(&run(&["rerank", "--json", "a", "<mask>", "--special-tokens", how]))[0]["tokens"].clone();
    assert_ne!(special("parse"), special("literal"));
}

#[test]
fn wrong_use_missing_files_and_bad_input_have_their_exit_codes() {
    for args in [
        &["rerank"][..],
        &["rerank", "q", "d", "--input", "x"],
        &["rerank", "q", "d", "--top", "0"],
        &["rerank", "q", "d", "--max-length", "16"],
        &["rerank", "q", "d", "--max-length", "521"],
    ] {
        let (code, message) = failure(&run(args));
        assert!(code == 2 && !message.is_empty(), "{args:?}: {code} {message}");
    }
    let (code, message) = failure(&run(&["rerank", "q", "--input", "no/such/file"]));
    assert!(code == 5 && message.contains("no/such/file"), "{message}");
    let (code, message) = failure(&with_stdin(&["rerank", "q"], b"ok\ncaf\xe9\n"));
    assert!(code == 3 && message.contains("line 2"), "{message}");
    assert_eq!(records(&with_stdin(&["rerank", "q", "--lossy", "--json"], b"caf\xe9\n")).len(), 1);
    let (code, message) = failure(&with_stdin(&["rerank", "q"], b"{\"text\":\"a\"}\n{\"input_ids\":[0,2]}\n"));
    assert!(code == 3 && message.contains("line 2") && message.contains("`input_ids`"), "{message}");
}

#[test]
fn the_wrong_kind_of_model_says_what_to_do() {
    // The starter is an embedder.
    let (code, message) = failure(&trivec(&["rerank", "q", "d"]).env("TRIVEC_MODEL", "").output().unwrap());
    assert!(code == 4 && message.contains("no `classifier` head") && message.contains("--model"), "{message}");
    for args in [&["embed", "a"][..], &["embed", "a", "--modes", "all"], &["score", "a", "b"], &["explain", "a", "b"]] {
        let (code, message) = failure(&run(args));
        assert!(code == 4 && message.contains("trivec rerank"), "{args:?}: {message}");
    }
    let info = &records(&run(&["info", "--json"]))[0];
    assert_eq!((&info["rerank"], &info["modes"]), (&true.into(), &serde_json::json!([])));
    assert!(stdout(&run(&["info"])).contains("one score a pair"));
    let starter = &records(&trivec(&["info", "--json"]).env("TRIVEC_MODEL", "").output().unwrap())[0];
    assert_eq!(starter["rerank"], false);
}

#[test]
fn a_packed_reranker_answers_as_the_checkpoint_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f16.safetensors").display().to_string();
    stdout(&run(&["pack", "--weights", "f16", "-o", &file, "--quiet"]));
    let args = [&["rerank", "--json", QUERY][..], &DOCUMENTS].concat();
    let expected = records(&run(&args));
    let found = records(&run(&[&args[..], &["--model", &file]].concat()));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found["index"], expected["index"]);
        assert!((found["score"].as_f64().unwrap() - expected["score"].as_f64().unwrap()).abs() < 1e-4);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_io_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = trivec(&["rerank", "q", "d"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let (code, message) = failure(&output);
    assert!(code == 5 && message.contains("standard output"), "{code} {message}");
}
