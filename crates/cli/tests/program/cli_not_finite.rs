//! A model that overflows on one token, on the command line (exit code 4) and in the service (HTTP 500): the text with this token is named,
//! every other text is answered as by the sound model, and the cache stores nothing that is not finite.

use trivec_testing::http;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use http::trivec;
use safetensors::tensor::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;
use trivec::{EncodeOptions, Model};

/// A path below tests/data.
fn data(path: &str) -> PathBuf {
    trivec_testing::data("").join(path)
}

/// Copies the small model to `directory`, with an embedding of `token` that is so large that the first layer norm overflows.
fn with_broken(token: usize, directory: &Path) {
    for entry in fs::read_dir(data("models/f32-h64")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    let path = directory.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let data = bytes.len() - {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = file.tensor("embeddings.word_embeddings.weight").unwrap();
        assert_eq!(words.dtype(), safetensors::Dtype::F32);
        // How far before the end of the file the table begins.
        let end = bytes.as_ptr_range().end.addr();
        end - words.data().as_ptr().addr()
    };
    for value in bytes[data + token * 64 * 4..][..64 * 4].as_chunks_mut::<4>().0 {
        *value = 3e38f32.to_le_bytes();
    }
    fs::write(path, bytes).unwrap();
}

/// The model, two texts without the broken token, and one with it.
struct Fixture {
    directory: TempDir,
    good: [String; 2],
    bad: String,
}

impl Fixture {
    fn new() -> Fixture {
        let sound = Model::load(data("models/f32-h64")).unwrap();
        let ids = |text: &str| sound.token_ids(text, &EncodeOptions::default()).unwrap().0;
        let lines = fs::read_to_string(data("texts.jsonl")).unwrap();
        let parsed = lines.split_terminator('\n').map(|line| serde_json::from_str::<Value>(line).unwrap());
        let texts: Vec<String> = parsed.map(|text| text["text"].as_str().unwrap().to_owned()).collect();
        let plain: Vec<&String> =
            texts.iter().filter(|t| (3..60).contains(&t.len()) && !t.contains(['\n', '\r', '\t'])).collect();
        let good = [plain[0].clone(), plain[1].clone()];
        let known: Vec<u32> = good.iter().flat_map(|text| ids(text)).chain(ids("")).collect();
        let (bad, token) = plain[2..]
            .iter()
            .find_map(|text| Some(((*text).clone(), ids(text).into_iter().find(|id| *id > 3 && !known.contains(id))?)))
            .unwrap();
        let directory = TempDir::new().unwrap();
        with_broken(token as usize, directory.path());
        Fixture { directory, good, bad }
    }

    fn model(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// Writes a file of these lines, and returns its path.
    fn file(&self, name: &str, lines: &[&str]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    }

    /// Runs `trivec -q` with the broken model.
    fn run(&self, args: &[&str]) -> Output {
        trivec().args(args).args(["-q", "--model", self.model()]).output().unwrap()
    }

    /// The standard error of a run that must end with 4, and print nothing that is not finite.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(4), "{args:?}: {said}");
        assert!(!printed.contains("null") && !printed.contains("NaN"), "{args:?}: {printed}");
        said.into_owned()
    }
}

#[test]
fn every_command_names_the_text_and_ends_with_4() {
    let fixture = Fixture::new();
    let ([a, b], bad) = (&fixture.good, fixture.bad.as_str());
    let lines = fixture.file("texts.txt", &[a, b, bad, a]);
    let lines = lines.to_str().unwrap();
    let out = fixture.directory.path().join("out.jsonl");
    let out = out.to_str().unwrap();
    let cache = fixture.directory.path().join("cache");
    let cache = cache.to_str().unwrap();
    for modes in ["dense", "sparse", "colbert", "all"] {
        assert!(fixture.refused(&["embed", "--modes", modes, a, bad]).contains("text 2: "));
        let said = fixture.refused(&["embed", "--modes", modes, "--input", lines, "-o", out]);
        assert!(said.contains("texts.txt: line 3: ") && said.contains("not a finite number"), "{said}");
        assert!(!Path::new(out).exists(), "a file is written whole or not at all");
        // The cache gives the vectors of the other texts, and never one of the bad text: the second run fails as the first.
        for _ in 0..2 {
            let said = fixture.refused(&["embed", "--modes", modes, "--input", lines, "--cache", cache]);
            assert!(said.contains("texts.txt: line 3: "), "{said}");
        }
    }
    // Records of the batches before the bad one are printed, as with any other bad record.
    let output = fixture.run(&["embed", "--input", lines, "--batch-size", "1"]);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).lines().count()), (Some(4), 2));

    let records = format!("{{\"id\": 1, \"text\": {}}}", serde_json::to_string(bad).unwrap());
    let jsonl = fixture.file("texts.jsonl", &["", "{\"id\": 0, \"input_ids\": [0, 2]}", "", &records]);
    assert!(fixture.refused(&["embed", "--input", jsonl.to_str().unwrap()]).contains("texts.jsonl: line 4: "));

    assert!(fixture.refused(&["score", a, bad]).contains("text B: "));
    assert!(fixture.refused(&["score", "--json", bad, a]).contains("text A: "));
    let pairs = fixture.file("pairs.tsv", &[&format!("{a}\t{b}"), "", &format!("{b}\t{bad}")]);
    let said = fixture.refused(&["score", "--json", "--pairs", pairs.to_str().unwrap()]);
    assert!(said.contains("pairs.tsv: pair 2: text B: "), "{said}");
    let output = trivec()
        .args(["score", "--pairs", "-", "-q", "--model", fixture.model()])
        .stdin(fs::File::open(&pairs).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && said.contains("standard input: pair 2: text B: "), "{said}");
    assert!(fixture.refused(&["explain", a, bad]).contains("text B: "));
    assert!(fixture.refused(&["explain", "--json", bad, a]).contains("text A: "));
    // The bad text is among those of the calibration.
    let packed = fixture.directory.path().join("packed");
    let packed = packed.to_str().unwrap();
    let said = fixture.refused(&["pack", "--calibration", lines, "-o", packed]);
    assert!(said.contains("text 3 of the calibration: ") && !Path::new(packed).exists(), "{said}");
    // The other texts are answered.
    assert_eq!(fixture.run(&["embed", a, b]).status.code(), Some(0));
    assert_eq!(fixture.run(&["score", a, b]).status.code(), Some(0));
}

/// `bench` embeds in child processes. It passes on their error and exit code.
#[test]
fn a_bench_ends_with_4_whichever_process_embeds() {
    // 10 is a token of the text that measures the cold start; 0 is the first token of every text.
    for token in [10, 0] {
        let directory = TempDir::new().unwrap();
        with_broken(token, directory.path());
        let output = trivec()
            .args(["bench", "--shapes", "1x8", "--seconds", "0", "-q", "--model"])
            .arg(directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0), "{token}: {said}");
        assert!(said.contains("not a finite number") && said.contains("for the reason above"), "{token}: {said}");
    }
}

#[cfg(feature = "serve")]
mod service {
    use serde_json::json;

    use super::http::{Answer, Server};
    use super::*;

    /// Asserts that an answer is 500 and names `param` as the text that is not finite.
    fn refused(answer: &Answer, param: &str) {
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["param"].as_str()), (500, Some(param)), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{param}: ")) && message.contains("not a finite number"), "{message}");
    }

    /// As [`refused`], on a route of text-embeddings-inference.
    fn refused_tei(answer: &Answer, name: &str) {
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 500 && error.starts_with(&format!("{name}: ")), "{} {error}", answer.status);
    }

    #[test]
    fn every_route_answers_500_for_the_bad_text_alone() {
        let fixture = Fixture::new();
        let ([a, b], bad) = (&fixture.good, fixture.bad.as_str());
        let sound = Model::load(data("models/f32-h64")).unwrap();
        let dense = sound.encode(&[a], &EncodeOptions::default()).unwrap()[0].dense.clone().unwrap();
        for cached in [false, true] {
            let mut command = trivec();
            command.args(["serve", "--port", "0", "--model", fixture.model()]);
            if cached {
                command.arg("--cache").arg(fixture.directory.path().join("served.cache"));
            }
            let server = Server::run(command);
            for _ in 0..2 {
                refused(&server.post("/v1/embeddings", &json!({"input": [a, b, bad]})), "input[2]");
                refused(
                    &server.post("/v1/embeddings", &json!({"input": bad, "encoding_format": "base64"})),
                    "input[0]",
                );
                let all = json!({"input": [a, bad], "sparse": true, "colbert": true});
                refused(&server.post("/v1/encode", &all), "input[1]");
                refused(&server.post("/v1/score", &json!({"pairs": [[a, b], [b, bad]]})), "pairs[1][1]");
                refused(&server.post("/v1/score", &json!({"query": bad, "documents": [a]})), "query");
                refused(&server.post("/v1/score", &json!({"query": a, "documents": [b, bad]})), "documents[1]");
                refused(&server.post("/v1/explain", &json!({"a": a, "b": bad})), "b");
                refused_tei(&server.post("/embed", &json!({"inputs": [a, bad]})), "inputs[1]");
                refused_tei(&server.post("/embed_all", &json!({"inputs": [bad]})), "inputs[0]");
                refused_tei(&server.post("/embed_sparse", &json!({"inputs": [a, b, bad]})), "inputs[2]");
                let inputs = json!({"inputs": {"source_sentence": a, "sentences": [b, bad]}});
                refused_tei(&server.post("/similarity", &inputs), "inputs.sentences[1]");
                let good = server.post("/v1/embeddings", &json!({"input": [b, a]}));
                let found: Vec<f32> = good.json()["data"][1]["embedding"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|x: &Value| x.as_f64().unwrap() as f32)
                    .collect();
                assert_eq!((good.status, found), (200, dense.clone()));
            }
        }
    }

    #[test]
    fn requests_in_the_same_batch_as_the_bad_text_are_not_affected() {
        let fixture = Fixture::new();
        let mut command = trivec();
        command.args(["serve", "--port", "0", "--threads", "1", "--model", fixture.model()]);
        let server = Server::run(command);
        let expected = server.post("/v1/embeddings", &json!({"input": fixture.good})).json()["data"].clone();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let (server, fixture, expected) = (&server, &fixture, &expected);
                scope.spawn(move || {
                    for _ in 0..20 {
                        if number % 2 == 0 {
                            let bad = json!({"input": [fixture.good[0], fixture.bad]});
                            refused(&server.post("/v1/embeddings", &bad), "input[1]");
                        } else {
                            let good = server.post("/v1/embeddings", &json!({"input": fixture.good}));
                            assert_eq!((good.status, &good.json()["data"]), (200, expected));
                        }
                    }
                });
            }
        });
    }
}
