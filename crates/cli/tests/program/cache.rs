//! `--cache`: `embed` and `serve` give the same numbers with and without it, whatever happens to its file.

use trivec_testing::http;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use http::Server;
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const TEXTS: [&str; 5] =
    ["苹果公司发布新手机", "Apple launched a new iPhone", "", "a b c d e f g h i j k l", "<s> ok </s>"];

/// A command that runs `trivec -q` without input.
fn trivec(args: &[&str]) -> Command {
    let mut command = http::trivec();
    command.arg("-q").args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    trivec(args).output().unwrap()
}

/// The standard output of a run that must succeed. Its standard error must have a warning that contains `warning`, or, for `None`, be empty.
fn output(args: &[&str], warning: Option<&str>) -> Vec<u8> {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    match warning {
        None => assert_eq!(said, "", "{args:?}"),
        Some(warning) => assert!(said.contains("warning: ") && said.contains(warning), "{args:?}: {said}"),
    }
    output.stdout
}

/// A directory in which the cache is the file `cache`.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The number of rows of one of the cache's tables.
    fn count(&self, what: &str) -> i64 {
        let db = Connection::open(self.path("cache")).unwrap();
        db.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn embed_gives_the_same_bytes_with_and_without_a_cache() {
    let files = Files::new();
    let cache = files.name("cache");
    let packed: Vec<String> = ["int8", "f16", "bf16"]
        .iter()
        .map(|weights| {
            let file = files.name(weights);
            output(&["pack", "--weights", weights, "-o", &file], None);
            file
        })
        .collect();
    let input = files.name("input.jsonl");
    let ids =
        "{\"id\": 7, \"input_ids\": [0, 100, 200, 2]}\n{\"id\": \"x\", \"text\": \"Apple launched a new iPhone\"}\n";
    std::fs::write(&input, ids).unwrap();
    let mut calls: Vec<Vec<&str>> = Vec::new();
    for model in std::iter::once("starter").chain(packed.iter().map(String::as_str)) {
        for options in [
            &["--modes", "dense"][..],
            &["--modes", "all"],
            &["--modes", "all", "--format", "safetensors"],
            &["--format", "npy"],
            &["--dimensions", "16"],
            &["--max-length", "4", "--modes", "all"],
            &["--special-tokens", "literal"],
            &["--batch-size", "2", "--modes", "sparse,colbert"],
        ] {
            calls.push([&["embed", "--model", model], options, &TEXTS[..]].concat());
        }
        calls.push(vec!["embed", "--model", model, "--modes", "all", "--input", &input]);
    }
    let plain: Vec<Vec<u8>> = calls.iter().map(|call| output(call, None)).collect();
    // In the first round a call finds what earlier calls have stored, with other modes, texts or lengths; in the second it finds everything.
    for round in 0..2 {
        let entries = (round > 0).then(|| files.count("entries"));
        for (call, plain) in calls.iter().zip(&plain) {
            let kept = output(&[call.as_slice(), &["--cache", &cache]].concat(), None);
            assert!(kept == *plain, "round {round}: {call:?}");
        }
        if let Some(entries) = entries {
            assert_eq!(files.count("entries"), entries, "nothing was computed");
        }
    }
    assert!(files.count("entries") > 100);
    assert!(!files.path("cache-wal").exists(), "one file is left");
    // An error names the line, as without a cache.
    std::fs::write(&input, "{\"input_ids\": [0, 100, 200, 2]}\n{\"input_ids\": [0, 99999999, 2]}\n").unwrap();
    let (with, without) = (run(&["embed", "-i", &input, "--cache", &cache]), run(&["embed", "-i", &input]));
    assert_eq!((with.status.code(), &with.stderr), (Some(3), &without.stderr));
    assert!(String::from_utf8_lossy(&with.stderr).contains("line 2"));
}

#[test]
fn embed_prints_the_vector_that_the_cache_holds() {
    let files = Files::new();
    let cache = files.name("cache");
    output(&["embed", "a text", "--cache", &cache], None);
    // A vector that no model gives, sealed as an entry is: SHA-256 over key and payload, then the payload.
    let db = Connection::open(files.path("cache")).unwrap();
    let (key, value): (Vec<u8>, Vec<u8>) = db
        .query_row("SELECT key, value FROM entries JOIN parts USING(id)", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let payload: Vec<u8> = 3.5f32.to_le_bytes().repeat((value.len() - 32) / 4);
    let sealed = [Sha256::new().chain_update(&key).chain_update(&payload).finalize().to_vec(), payload].concat();
    assert_eq!(sealed.len(), value.len());
    db.execute("UPDATE parts SET value = ?1", [sealed]).unwrap();
    drop(db);
    let found: Value = serde_json::from_slice(&output(&["embed", "a text", "--cache", &cache], None)).unwrap();
    assert!(found["dense"].as_array().unwrap().iter().all(|x| x.as_f64() == Some(3.5)));
}

#[test]
fn a_cache_that_cannot_be_used_is_a_warning() {
    let files = Files::new();
    let call = ["embed", "--modes", "all", "a text", "another"];
    let plain = output(&call, None);
    std::fs::write(files.path("garbage"), [7; 9000]).unwrap();
    std::fs::create_dir(files.path("directory")).unwrap();
    for (name, warning) in [
        ("garbage", "garbage: not a cache of embeddings; it is left as it is"),
        ("directory", "directory: "),
        ("garbage/below", "below: "),
        ("nowhere/below", "below: "),
    ] {
        let kept = output(&[&call[..], &["--cache", &files.name(name)]].concat(), Some(warning));
        assert!(kept == plain, "{name}");
    }
    assert_eq!(std::fs::read(files.path("garbage")).unwrap(), [7; 9000]);
    for size in ["much", "0", "1GB2", "-5", "1000"] {
        let refused = run(&["embed", "a", "--cache", &files.name("c"), &format!("--cache-size={size}")]);
        assert_eq!(refused.status.code(), Some(2), "{size}");
        assert!(!files.path("c").exists());
    }
    let from_environment =
        trivec(&call).env("TRIVEC_CACHE", files.path("e")).env("TRIVEC_CACHE_SIZE", "2MiB").output().unwrap();
    assert!(from_environment.stdout == plain && files.path("e").exists());
}

#[test]
fn the_warning_about_a_small_cache_names_a_size_that_is_enough() {
    let files = Files::new();
    let texts = many(&files, 400);
    let call = |size: &str| {
        run(&["embed", "--modes", "all", "-i", &texts, "--cache", &files.name(size), "--cache-size", size])
    };
    let (small, large) = (call("1MiB"), call("64MiB"));
    let said = String::from_utf8_lossy(&small.stderr);
    assert!(small.status.success() && small.stdout == large.stdout);
    assert!(said.contains("of the 1,200 entries of this run") && said.contains("; --cache-size "), "{said}");
    assert_eq!(String::from_utf8_lossy(&large.stderr), "");
    // The size that the warning names is enough.
    let named = said.split("; --cache-size ").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(String::from_utf8_lossy(&call(named).stderr), "", "{named}");
}

/// Writes a file of `count` texts, one a line, and returns its name.
fn many(files: &Files, count: usize) -> String {
    let path = files.name("texts.txt");
    let lines: String = (0..count).map(|n| format!("text number {n} of {}\n", n * n % 977)).collect();
    std::fs::write(&path, lines).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_a_warning() {
    let files = Files::new();
    let texts = many(&files, 150);
    let plain = output(&["embed", "-i", &texts], None);
    // A limit on the size of files, in blocks of 512 bytes, makes writes fail as a full disk does. With the small ones creating the cache
    // fails, with the others filling it.
    for kilobytes in [4, 8, 16, 64, 120] {
        let cache = files.name(&format!("cache-{kilobytes}"));
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kilobytes * 2);
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, "sh", trivec_testing::program::path().to_str().unwrap()])
            .args(["-q", "embed", "-i", &texts]);
        command.args(["--cache", &cache]).env("TRIVEC_HOME", files.path("home")).env_remove("TRIVEC_MODEL");
        let found = command.output().unwrap();
        let said = String::from_utf8_lossy(&found.stderr);
        assert!(found.status.success() && said.contains("warning") && said.contains(&cache), "{kilobytes}: {said}");
        assert!(found.stdout == plain, "{kilobytes}");
        // Without the limit, the cache works again.
        assert!(output(&["embed", "-i", &texts, "--cache", &cache], None) == plain, "{kilobytes}");
        assert!(output(&["embed", "-i", &texts, "--cache", &cache], None) == plain, "{kilobytes}");
    }
}

#[test]
fn a_killed_process_leaves_a_sound_file() {
    let files = Files::new();
    let texts = many(&files, 160);
    let cache = files.name("cache");
    let mut seen = vec![0];
    for round in 0..12u64 {
        // Each round wants vectors of another length, so that there is always something to write.
        let dimensions = (100 + round).to_string();
        let call = ["embed", "-i", &texts, "--dimensions", &dimensions, "--batch-size", "4", "--cache", &cache];
        let mut child = trivec(&call).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The process is killed once the log has reached a length: in the first round while it creates the file, then later and later while
        // it fills it.
        let log = files.path("cache-wal");
        while std::fs::metadata(&log).map_or(0, |m| m.len()) < round * 12_000 && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!output(&["embed", "a text", "--cache", &cache], None).is_empty());
        let db = Connection::open(files.path("cache")).unwrap();
        let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "round {round}");
        drop(db);
        seen.push(files.count("entries"));
        assert_eq!(files.count("entries"), files.count("parts"), "round {round}");
    }
    assert!(seen.is_sorted() && seen[12] > 12, "what was committed stays: {seen:?}");
    let call = ["embed", "-i", &texts, "--dimensions", "111"];
    let plain = output(&call, None);
    for _ in 0..2 {
        assert!(output(&[&call[..], &["--cache", &cache]].concat(), None) == plain);
    }
}

/// The value of a counter or gauge of `/metrics`.
fn metric(server: &Server, name: &str) -> u64 {
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(&format!("trivec_{name}")));
    line.unwrap_or_else(|| panic!("{name}: {text}")).split(' ').nth(1).unwrap().parse().unwrap()
}

/// Starts a service with a cache, and waits until it uses it.
fn serve(args: &[&str]) -> Server {
    let server = Server::start(args);
    server.wait_for("/v1/status", |status| status["cache"]["state"] == "on");
    server
}

/// Waits until this many entries have been written.
fn wait_for_entries(server: &Server, entries: u64) {
    server.wait_for("/v1/status", |status| status["cache"]["entries"].as_u64() == Some(entries));
}

#[cfg(unix)]
#[test]
fn the_service_answers_from_the_cache_with_the_same_numbers() {
    let files = Files::new();
    let cache = files.name("cache");
    let plain = Server::start(&[]);
    assert_eq!(plain.get("/v1/status").json()["cache"], Value::Null);
    assert!(!String::from_utf8(plain.get("/metrics").body).unwrap().contains("trivec_cache"));
    let mut server = serve(&["--cache", &cache, "--cache-size", "32MiB"]);
    let data = |server: &Server, body: &Value| {
        let answer = server.post("/v1/encode", body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"].clone()
    };
    let dense = json!({"input": [TEXTS[0], TEXTS[1]]});
    let all = json!({"input": TEXTS, "sparse": true, "colbert": true});
    let short = json!({"input": TEXTS, "dimensions": 8, "max_length": 5});
    assert_eq!(data(&server, &dense), data(&plain, &dense));
    assert_eq!((metric(&server, "cache_hits_total"), metric(&server, "cache_misses_total")), (0, 2));
    wait_for_entries(&server, 2);
    assert_eq!(data(&server, &dense), data(&plain, &dense));
    assert_eq!((metric(&server, "cache_hits_total"), metric(&server, "cache_misses_total")), (2, 2));
    // More modes and texts: entries that are there are not written again. Five texts in three modes are 15.
    assert_eq!(data(&server, &all), data(&plain, &all));
    wait_for_entries(&server, 15);
    let computed = metric(&server, "tokens_total");
    assert_eq!(data(&server, &all), data(&plain, &all));
    assert_eq!(data(&server, &dense), data(&plain, &dense));
    let openai = json!({"input": TEXTS[1], "encoding_format": "base64"});
    let embedding = |server: &Server| server.post("/v1/embeddings", &openai).json()["data"].clone();
    assert_eq!(embedding(&server), embedding(&plain));
    let pair = json!({"pairs": [[TEXTS[0], TEXTS[1]]]});
    let score = |server: &Server| server.post("/v1/score", &pair).json()["data"].clone();
    assert_eq!(score(&server), score(&plain));
    assert_eq!(metric(&server, "tokens_total"), computed, "nothing of it was computed");
    assert_eq!(metric(&server, "cache_misses_total"), 7);
    assert_eq!(data(&server, &short), data(&plain, &short));
    let one_new = json!({"input": [TEXTS[1], "never seen before", TEXTS[0]]});
    assert_eq!(data(&server, &one_new), data(&plain, &one_new), "among those that are there");
    assert!(metric(&server, "cache_bytes") > 4096 && metric(&server, "cache_entries") >= 15);
    assert_eq!((metric(&server, "cache_errors_total"), metric(&server, "cache_evictions_total")), (0, 0));
    let status = server.get("/v1/status").json();
    assert_eq!(status["cache"]["limit"].as_u64(), Some(32 << 20));
    // Bad requests are refused as without a cache.
    for body in [json!({"input": TEXTS[0], "dimensions": 0}), json!({"input": TEXTS[0], "dense": false})] {
        assert_eq!(server.post("/v1/encode", &body).status, 422);
    }

    // What waits is written when the service ends; `embed` reads the same file, and fills it for the next service.
    assert!(data(&server, &json!({"input": "the last words"}))[0]["tokens"].as_u64() > Some(2));
    server.end();
    output(&["embed", "from the command line", "--cache", &cache], None);
    let server = serve(&["--cache", &cache, "--cache-size", "32MiB"]);
    for (n, text) in ["the last words", "from the command line", TEXTS[0]].into_iter().enumerate() {
        assert_eq!(data(&server, &json!({"input": text})), data(&plain, &json!({"input": text})));
        let (hits, misses) = (metric(&server, "cache_hits_total"), metric(&server, "cache_misses_total"));
        assert_eq!((hits, misses), (n as u64 + 1, 0), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_reload_with_another_model_never_hits_the_old_ones_entries() {
    let files = Files::new();
    let (model, cache) = (files.name("model"), files.name("cache"));
    output(&["pack", "--weights", "int8", "-o", &files.name("int8")], None);
    output(&["pack", "--weights", "f16", "-o", &files.name("f16")], None);
    std::fs::copy(files.path("int8"), &model).unwrap();
    let server = serve(&["--model", &model, "--cache", &cache]);
    let ask = || server.post("/v1/encode", &json!({"input": TEXTS[0]})).json()["data"][0]["dense"].clone();
    let int8 = ask();
    wait_for_entries(&server, 1);
    assert_eq!((ask(), metric(&server, "cache_hits_total")), (int8.clone(), 1));
    std::fs::rename(files.path("f16"), &model).unwrap();
    server.signal("HUP");
    server.wait_for("/v1/status", |status| status["model"]["weights"] == "f16");
    let f16 = ask();
    assert_ne!(f16, int8);
    server.wait_for("/v1/status", |status| {
        // Until the new model's file has been read completely, the service does not use the cache.
        assert_eq!(ask(), f16);
        status["cache"]["hits"].as_u64() > Some(1)
    });
    let expected = output(&["embed", TEXTS[0], "--model", &model], None);
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let floats =
        |value: &Value| -> Vec<f32> { value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect() };
    assert_eq!(floats(&f16), floats(&expected["dense"]));
    // Back to the first model.
    std::fs::rename(files.path("int8"), &model).unwrap();
    server.signal("HUP");
    server.wait_for("/v1/status", |status| status["model"]["weights"] == "int8");
    assert_eq!(ask(), int8);
}

#[test]
fn two_services_share_a_cache_and_a_damaged_one_is_given_up() {
    let files = Files::new();
    let cache = files.name("cache");
    let (first, second) = (serve(&["--cache", &cache]), serve(&["--cache", &cache]));
    let ask = |server: &Server, text: &str| {
        let answer = server.post("/v1/encode", &json!({"input": text, "colbert": true}));
        assert_eq!(answer.status, 200);
        answer.json()["data"].clone()
    };
    let plain: Vec<Value> = TEXTS.iter().map(|text| ask(&first, text)).collect();
    wait_for_entries(&first, 10);
    for (text, plain) in TEXTS.iter().zip(&plain) {
        assert_eq!(ask(&second, text), *plain);
    }
    assert_eq!(metric(&second, "cache_hits_total"), 5, "one fills it for the other");
    drop((first, second));

    // Every page but the first is overwritten: requests are answered all the same, and the cache is given up.
    let mut bytes = std::fs::read(&cache).unwrap();
    let _ = std::fs::remove_file(files.path("cache-wal"));
    let _ = std::fs::remove_file(files.path("cache-shm"));
    if bytes.len() <= 8192 {
        bytes.resize(65_536, 0);
    }
    bytes[4096..].fill(0xa5);
    std::fs::write(&cache, &bytes).unwrap();
    let server = Server::start(&["--cache", &cache]);
    server.wait_for("/v1/status", |status| status["cache"]["state"] != "opening");
    for (text, plain) in TEXTS.iter().zip(&plain) {
        assert_eq!(ask(&server, text), *plain);
    }
    server.wait_for("/v1/status", |status| status["cache"]["state"] == "off");
    assert_eq!(metric(&server, "cache_hits_total"), 0);
    assert_eq!(server.get("/health").status, 200);
}
