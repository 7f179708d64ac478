//! `trivec train`: from pairs to a model that other commands load; a run that is killed; refusals.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use trivec_testing::program::trivec;

/// The pairs `from` to `to`, exclusive, of an endless list of made-up queries and passages, as lines of JSON.
fn lines(from: usize, to: usize) -> String {
    let things = ["cat", "river", "bridge", "teacher", "winter", "bread", "violin", "garden", "doctor", "train"];
    let sayings = ["is seen every day", "was sold at the market", "belongs to the old house", "is louder than before"];
    let line = |at: usize| {
        let (thing, saying) = (things[at % things.len()], sayings[at / things.len() % sayings.len()]);
        format!("{{\"query\": \"{thing} number {at}\", \"passage\": \"The {thing} with the number {at} {saying}.\"}}\n")
    };
    (from..to).map(line).collect()
}

/// A directory with 60 pairs to train on and 20 others to judge by.
struct Fixture(TempDir);

impl Fixture {
    fn new() -> Fixture {
        let fixture = Fixture(tempfile::tempdir().unwrap());
        fs::write(fixture.path("pairs.jsonl"), lines(0, 60)).unwrap();
        fs::write(fixture.path("dev.jsonl"), lines(60, 80)).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        trivec().current_dir(self.0.path()).args(args).output().unwrap()
    }

    /// The standard output of a run that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The standard error of a run that must end with this exit code.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }
}

/// The arguments of a short training, up to the output's name, which is missing.
const TRAIN: [&str; 9] = ["-q", "train", "--pairs", "pairs.jsonl", "--dev", "dev.jsonl", "--batch", "16", "-o"];

#[test]
fn pairs_become_a_model_that_is_used() {
    let fixture = Fixture::new();
    // With --start closed, the heads begin with values in closed form. So the model differs from the starter whichever epoch is kept.
    let more = ["my-model", "--start", "closed", "--eval", "dev again=dev.jsonl", "--plots", "plots"];
    let said = fixture.ok(&[&TRAIN[..], &more].concat());
    for expected in ["nDCG@10", "dev (20 queries", "dev again (20 queries", "dense+sparse", "steps"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(fixture.path("my-model").is_file() && !fixture.path("my-model.work").exists());
    for plot in ["losses.svg", "dev.svg", "set-0.svg", "set-1.svg"] {
        assert!(fs::read_to_string(fixture.path("plots").join(plot)).unwrap().starts_with("<svg"), "{plot}");
    }
    let score = |model: &str| {
        fixture.ok(&["-q", "score", "--model", model, "--json", "cat number 3", "The cat with the number 3."])
    };
    assert_ne!(score("my-model"), score("starter"));
    let embedded = fixture.ok(&["-q", "embed", "--model", "my-model", "--modes", "all", "a text"]);
    assert!(embedded.contains("colbert"), "{embedded}");
    let info = fixture.ok(&["info", "--model", "my-model"]);
    assert!(info.contains("384"), "{info}");
    // An output that exists is refused without --force, and before the work instead of after it.
    let said = fixture.fails(2, &[&TRAIN[..], &["my-model"]].concat());
    assert!(said.contains("is there already"), "{said}");
}

#[test]
fn charts_replace_no_file_that_is_read() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("charts")).unwrap();
    for name in ["losses.svg", "dev.svg", "set-0.svg", "set-1.svg"] {
        let own = format!("charts/{name}");
        fs::rename(fixture.path("pairs.jsonl"), fixture.path(&own)).unwrap();
        let eval = format!("own={own}");
        for (inputs, what) in [
            (&["--pairs", &own, "--eval", "dev=dev.jsonl"][..], "a file of --pairs"),
            (&["--pairs", "dev.jsonl", "--documents", &own, "--eval", "dev=dev.jsonl"], "a file of --documents"),
            (&["--pairs", "dev.jsonl", "--dev", &own, "--eval", "dev=dev.jsonl"], "the file of --dev"),
            (&["--pairs", "dev.jsonl", "--eval", &eval], "a file of --eval"),
        ] {
            let args = [&["-q", "train", "--plots", "charts", "-o", "m"], inputs].concat();
            let said = fixture.fails(2, &args);
            assert!(said.contains("--plots: ") && said.contains(&format!("{name} is {what}")), "{args:?}: {said}");
        }
        fs::rename(fixture.path(&own), fixture.path("pairs.jsonl")).unwrap();
        assert_eq!(fs::read_to_string(fixture.path("pairs.jsonl")).unwrap(), lines(0, 60));
    }
}

#[test]
fn a_checkpoint_becomes_a_directory_that_can_be_packed() {
    let fixture = Fixture::new();
    let source = trivec_testing::data("models/f32-h64");
    let report = fixture.ok(&[&TRAIN[..], &["my-model", "--model", source.to_str().unwrap(), "--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["output"], "my-model");
    assert_eq!(report["report"]["data"]["pairs"], 60);
    assert_eq!(report["report"]["epochs"].as_array().unwrap().len(), 3);
    assert!(
        fixture.path("my-model/2_Dense/model.safetensors").is_file()
            && fixture.path("my-model/colbert_linear.pt").is_file()
    );
    fixture.ok(&["-q", "pack", "my-model", "--weights", "int8", "-o", "packed.safetensors"]);
    fixture.ok(&["-q", "score", "--model", "packed.safetensors", "a", "b"]);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bytes() {
    let fixture = Fixture::new();
    let args = [&TRAIN[1..], &["whole", "--epochs", "6", "--work", "work-a"]].concat();
    fixture.ok(&args);
    let args = [&TRAIN[1..], &["killed", "--epochs", "6", "--work", "work-b"]].concat();
    // The process is killed when it reports the second epoch: a checkpoint has been written, or is about to be.
    let mut child = trivec().current_dir(fixture.0.path()).args(&args).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("epoch 2")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!fixture.path("killed").exists());
    let output = fixture.run(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("going on after step"), "{said}");
    assert!(fs::read(fixture.path("whole")).unwrap() == fs::read(fixture.path("killed")).unwrap());
    // A working directory that was named stays, with the states for the next run.
    assert!(fixture.path("work-b/states.bin").is_file());
}

#[test]
fn the_ablation_is_a_table() {
    let fixture = Fixture::new();
    let said =
        fixture.ok(&["-q", "train", "--pairs", "pairs.jsonl", "--dev", "dev.jsonl", "--batch", "16", "--ablation"]);
    for expected in [
        "current, untrained",
        "random, base, λ 0.1",
        "random, distilled, λ 0.1",
        "current, distilled, λ 1, pairs that share",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn bad_values_and_bad_files_are_refused_by_name() {
    let fixture = Fixture::new();
    let with = |more: &[&str]| fixture.fails(2, &[&TRAIN[..], &["m"], more].concat());
    assert!(with(&["--temperature", "0"]).contains("--temperature: found 0"));
    assert!(with(&["--lambda", "1,0,1"]).contains("--lambda: found 0"));
    assert!(with(&["--lambda", "1,1"]).contains("2 numbers, expected 3"));
    assert!(with(&["--teacher-weights", "0,0,0"]).contains("--teacher-weights: all are 0"));
    assert!(with(&["--eval", "nameless"]).contains("NAME=PATH"));
    assert!(with(&["--work", "m"]).contains("--work: m is the output too"));
    assert!(with(&["--start", "nowhere"]).contains("expected current, closed or random"));
    fs::write(fixture.path("empty.jsonl"), "").unwrap();
    let said = fixture.fails(3, &["-q", "train", "--pairs", "empty.jsonl", "-o", "m"]);
    assert!(said.contains("there are no pairs to train on"), "{said}");
    fs::write(fixture.path("bad.jsonl"), "{\"query\": \"a\nb\"}").unwrap();
    let said = fixture.fails(3, &["-q", "train", "--pairs", "bad.jsonl", "-o", "m"]);
    assert!(said.contains("bad.jsonl, line 1"), "{said}");
    let said = fixture.fails(3, &["-q", "train", "--pairs", "pairs.jsonl", "--dev", "pairs.jsonl", "-o", "m"]);
    assert!(said.contains("overlaps the training data") && said.contains("--allow-overlap"), "{said}");
    let reranker = trivec_testing::data("rerankers/reranker-h48");
    let said = fixture.fails(4, &[&TRAIN[..], &["m", "--model", reranker.to_str().unwrap()]].concat());
    assert!(said.contains("reranker"), "{said}");
    assert!(!fixture.path("m").exists() && !fixture.path("m.work").exists());
    let said = fixture.fails(5, &["-q", "train", "--pairs", "nowhere.jsonl", "-o", "m"]);
    assert!(said.contains("nowhere.jsonl"), "{said}");
}

#[test]
fn sets_that_are_too_small_to_judge_by_are_refused_or_noted() {
    let fixture = Fixture::new();
    for count in [2, 5, 19] {
        fs::write(fixture.path("few.jsonl"), lines(0, count)).unwrap();
        let said = fixture.fails(3, &["-q", "train", "--pairs", "few.jsonl", "-o", "m"]);
        let expected = format!("{count} pairs in {count} groups are too few to train on some and to judge by others");
        assert!(said.contains(&expected), "{said}");
    }
    assert!(!fixture.path("m").exists() && !fixture.path("m.work").exists());
    fs::write(fixture.path("few.jsonl"), lines(0, 20)).unwrap();
    let report = fixture.ok(&["-q", "train", "--pairs", "few.jsonl", "--batch", "4", "-o", "m", "--json"]);
    let data = &serde_json::from_str::<Value>(&report).unwrap()["report"]["data"];
    assert_eq!((&data["pairs"], &data["dev_pairs"]), (&10.into(), &10.into()), "{data}");
    // A dev set that the user gives may be small, with a note that it is too small to judge by. A set in which every passage is a right
    // answer is refused.
    fs::write(fixture.path("dev.jsonl"), lines(60, 64)).unwrap();
    let said = fixture.ok(&[&TRAIN[..], &["small"]].concat());
    assert!(said.contains("4 groups of pairs in the dev set: too few to judge by (10 at least"), "{said}");
    assert!(!said.contains("training did not help"), "{said}");
    fs::write(fixture.path("dev.jsonl"), lines(60, 61)).unwrap();
    let said = fixture.fails(3, &[&TRAIN[..], &["none"]].concat());
    assert!(said.contains("the dev set judges nothing: all its 1 passages are right answers"), "{said}");
    fs::write(fixture.path("dev.jsonl"), lines(60, 80)).unwrap();
    fs::write(fixture.path("one.jsonl"), lines(80, 81)).unwrap();
    let said = fixture.fails(3, &[&TRAIN[..], &["none", "--eval", "faq=one.jsonl"]].concat());
    assert!(said.contains("the set `faq` judges nothing"), "{said}");
}

#[test]
fn options_without_effect_are_refused_by_name() {
    let fixture = Fixture::new();
    for (more, expected) in [
        (&["--distill", "off", "--distill-from", "3"][..], "--distill-from has no effect with --distill off"),
        (&["--heads", "dense", "--lr-sparse", "1e-3"], "--lr-sparse has no effect with --heads without sparse"),
        (&["--heads", "sparse", "--lr", "1e-3"], "--lr has no effect with --heads sparse alone"),
        (&["--ablation"], "--output has no effect beside --ablation"),
    ] {
        let said = fixture.fails(2, &[&TRAIN[..], &["m"], more].concat());
        assert!(said.contains(expected), "{more:?}: {said}");
    }
    let said = fixture.fails(2, &["-q", "train", "--pairs", "pairs.jsonl", "-o", "m", "--allow-overlap"]);
    assert!(said.contains("--allow-overlap has no effect with a dev set that is put aside"), "{said}");
    assert!(!fixture.path("m").exists());
}

#[test]
fn training_without_hard_negatives_says_so() {
    let fixture = Fixture::new();
    let said = |negatives: &str| {
        let args = [&TRAIN[1..], &[negatives, "--epochs", "1", "--negatives", negatives]].concat();
        let output = fixture.run(&args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let none = said("0");
    assert!(
        none.contains("the other passages of a batch: none was asked for") && !none.contains("ranks 4 to 30"),
        "{none}"
    );
    assert!(said("1").contains("negatives ranks 4 to 30"));
}

#[test]
fn a_closed_standard_output_is_no_error_and_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let ablation = ["-q", "train", "--pairs", "pairs.jsonl", "--dev", "dev.jsonl", "--batch", "16", "--ablation"];
    for args in [[&TRAIN[..], &["my-model", "--epochs", "1"]].concat(), ablation.to_vec()] {
        let mut command = trivec();
        // The ablation ignores the variable that names where a model would go.
        command
            .current_dir(fixture.0.path())
            .env("TRIVEC_TRAIN_OUTPUT", "elsewhere")
            .args(&args)
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}");
    }
    let mut left: Vec<_> = fs::read_dir(fixture.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["dev.jsonl", "my-model", "pairs.jsonl"]);
}
