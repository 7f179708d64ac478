//! Prompts on the command line and on the routes: the model's default prompt, one of its prompts by name, and any text; alike or different
//! for the two sides of a comparison.

use trivec_testing::http;

use std::fs;
use std::path::Path;

use http::{Server, trivec};
use serde_json::{Value, json};
use tempfile::TempDir;
use trivec::{EncodeOptions, Model, Prompt, similarity};

/// A tiny model with two prompts, of which the one called `default` is put before every text. With `include_prompt`, its tokens count in
/// the pooling.
fn model(default: Option<&str>, include_prompt: bool) -> TempDir {
    let directory = TempDir::new().unwrap();
    let from = trivec_testing::data("settings/model");
    for entry in fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
        }
    }
    let write = |name: &str, value: Value| fs::write(directory.path().join(name), value.to_string()).unwrap();
    write(
        "config_sentence_transformers.json",
        json!({"prompts": {"query": "QUERY: ", "document": "Ab: "}, "default_prompt_name": default}),
    );
    fs::create_dir(directory.path().join("1_Pooling")).unwrap();
    let pooling = if include_prompt { "cls" } else { "mean" };
    write(
        "1_Pooling/config.json",
        json!({"embedding_dimension": 16, "pooling_mode": pooling, "include_prompt": include_prompt}),
    );
    directory
}

/// The dense vector that the library gives for a text after this prompt.
fn dense(model: &Path, text: &str, prompt: &str) -> Vec<f32> {
    let options = EncodeOptions { prompt: Prompt::Text(prompt.to_owned()), ..Default::default() };
    Model::load(model).unwrap().encode(&[text], &options).unwrap().remove(0).dense.unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// What the program prints as JSON.
fn json_of(model: &Path, args: &[&str]) -> Value {
    let output = trivec().args(args).arg("--model").arg(model).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_command_line_takes_a_prompts_name_a_text_or_the_default() {
    let directory = model(Some("query"), true);
    let path = directory.path();
    let embed = |args: &[&str]| floats(&json_of(path, &[&["embed", "-q", "hello"], args].concat())["dense"]);
    assert_eq!(embed(&[]), dense(path, "hello", "QUERY: "));
    assert_eq!(embed(&["--prompt", "document"]), dense(path, "hello", "Ab: "));
    assert_eq!(embed(&["--prompt", "12: "]), dense(path, "hello", "12: "));
    assert_eq!(embed(&["--prompt", ""]), dense(path, "hello", ""));
    let cache = path.join("cache");
    for _ in 0..2 {
        let cached = embed(&["--cache", cache.to_str().unwrap(), "--prompt", "document"]);
        assert_eq!(cached, dense(path, "hello", "Ab: "));
    }
    for args in [&["embed", "hello"][..], &["score", "a", "b"], &["explain", "a", "b"], &["tokens", "a"]] {
        let output = trivec().args(args).arg("--model").arg(path).args(["--prompt", "passage"]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains("no prompt `passage`, only `document`, `query`"), "{message}");
    }
    let tokens = |args: &[&str]| json_of(path, &[&["tokens", "-q", "--json", "a"], args].concat())["ids"].clone();
    assert_eq!(tokens(&[]), tokens(&["--prompt", "query"]));
    assert_ne!(tokens(&[]), tokens(&["--prompt", ""]));
}

#[test]
fn each_side_of_a_comparison_has_its_prompt() {
    let directory = model(None, true);
    let path = directory.path();
    let expected =
        |left: &str, right: &str| similarity::cosine(&dense(path, "hello", left), &dense(path, "world", right));
    let sides = ["--query-prompt", "query", "--document-prompt", "document"];
    for command in ["score", "explain"] {
        let found = |args: &[&str]| {
            let json = json_of(path, &[&[command, "-q", "--json", "hello", "world"], args].concat());
            let scores = json.get("scores").cloned().unwrap_or(json);
            scores["dense"].as_f64().unwrap() as f32
        };
        for (args, value) in [
            (&[][..], expected("", "")),
            (&sides[..], expected("QUERY: ", "Ab: ")),
            (&["--prompt", "query"][..], expected("QUERY: ", "QUERY: ")),
            (&["--prompt", "query", "--document-prompt", ""][..], expected("QUERY: ", "")),
        ] {
            assert!((found(args) - value).abs() < 1e-5, "{command} {args:?}: {} {value}", found(args));
        }
    }
}

#[test]
fn every_route_applies_the_default_prompt_and_takes_names() {
    for include_prompt in [true, false] {
        let directory = model(Some("query"), include_prompt);
        let path = directory.path();
        let server = Server::start(&["--model", path.to_str().unwrap(), "--threads", "1"]);
        let close = |found: Vec<f32>, prompt: &str| {
            let expected = dense(path, "hello", prompt);
            // NaN does not satisfy `<=`.
            let near = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-6);
            assert!(found.len() == expected.len() && near, "{prompt:?}: {found:?}, expected {expected:?}");
        };
        let post = |route: &str, body: Value| {
            let answer = server.post(route, &body);
            assert_eq!(answer.status, 200, "{route} {body}: {answer:?}");
            answer.json()
        };
        for (name, prompt) in [(Value::Null, "QUERY: "), (json!("document"), "Ab: ")] {
            let body = json!({"inputs": "hello", "prompt_name": name});
            close(floats(&post("/embed", body)[0]), prompt);
            let body = json!({"input": "hello", "prompt_name": name});
            close(floats(&post("/v1/encode", body.clone())["data"][0]["dense"]), prompt);
            close(floats(&post("/v1/embeddings", body)["data"][0]["embedding"]), prompt);
        }
        close(floats(&post("/v1/encode", json!({"input": "hello", "prompt": "12: "}))["data"][0]["dense"]), "12: ");
        close(floats(&post("/v1/encode", json!({"input": "hello", "prompt": ""}))["data"][0]["dense"]), "");

        let cosine =
            |left: &str, right: &str| similarity::cosine(&dense(path, "hello", left), &dense(path, "world", right));
        let near = |found: &Value, expected: f32| {
            let found = found.as_f64().unwrap() as f32;
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        };
        let inputs = json!({"source_sentence": "hello", "sentences": ["world"]});
        near(&post("/similarity", json!({"inputs": inputs}))[0], cosine("QUERY: ", "QUERY: "));
        let parameters = json!({"prompt_name": "document"});
        near(&post("/similarity", json!({"inputs": inputs, "parameters": parameters}))[0], cosine("Ab: ", "Ab: "));
        let sides = json!({"document_prompt_name": "document"});
        for mut body in [json!({"pairs": [["hello", "world"]]}), json!({"query": "hello", "documents": ["world"]})] {
            body["document_prompt_name"] = sides["document_prompt_name"].clone();
            near(&post("/v1/score", body)["data"][0]["dense"], cosine("QUERY: ", "Ab: "));
        }
        let body = json!({"a": "hello", "b": "world", "query_prompt": "", "document_prompt_name": "document"});
        near(&post("/v1/explain", body)["scores"]["dense"], cosine("", "Ab: "));

        for (route, body) in [
            ("/embed", json!({"inputs": "a", "prompt_name": "passage"})),
            ("/v1/encode", json!({"input": "a", "prompt_name": "passage"})),
            ("/v1/embeddings", json!({"input": [3], "prompt_name": "passage"})),
            ("/v1/score", json!({"pairs": [["a", "b"]], "query_prompt_name": "passage"})),
            ("/v1/encode", json!({"input": "a", "prompt_name": "query", "prompt": "x"})),
        ] {
            let answer = server.post(route, &body);
            assert_eq!(answer.status, 422, "{route} {body}: {answer:?}");
        }
        let answer = server.post("/v1/encode", &json!({"input": "a", "prompt_name": "passage"})).json();
        assert_eq!(answer["error"]["param"], "prompt_name");
        assert!(answer["error"]["message"].as_str().unwrap().contains("only `document`, `query`"), "{answer}");
    }
}
