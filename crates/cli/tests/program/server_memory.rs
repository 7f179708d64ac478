//! The memory that requests hold: it stays within --max-memory, requests that would exceed this are refused, and clients that read slowly or
//! disconnect do not keep it from others.

use trivec_testing::http;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use http::{Answer, Server};
use serde_json::{Value, json};

/// A small model with all heads: ColBERT vectors of 40 values, texts of 520 tokens at most.
fn model() -> String {
    trivec_testing::data("models/sharded-h96").to_str().unwrap().to_owned()
}

/// Starts a service with the small model, and a queue so long that memory is the only limit.
fn serve(args: &[&str]) -> Server {
    Server::start(&[&["--model", &model(), "--max-queue", "100000000"], args].concat())
}

/// The metric of the bytes that requests hold.
const HELD: &str = "trivec_requests_in_flight_bytes";

/// Megabytes of a process: `VmRSS` now, `VmHWM` at its peak.
fn megabytes(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Waits until `done` holds; `what` is the message if that takes more than two minutes.
fn wait(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a request and does not read its answer.
fn send(server: &Server, path: &str, body: &Value) -> TcpStream {
    let (mut stream, body) = (server.connect(), body.to_string());
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Waits until an answer has begun, and reads nothing of it.
fn begun(stream: &TcpStream) {
    assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
}

/// Texts that are cut to the 520 tokens of the model: 83 kB of ColBERT vectors each, 240 kB as JSON.
fn texts(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{i} {}", "the quick brown fox ".repeat(40))).collect()
}

/// The code of a refusal in either dialect.
fn code(answer: &Answer) -> String {
    let error = answer.json();
    error["error_type"].as_str().or(error["error"]["code"].as_str()).unwrap().to_owned()
}

#[test]
fn a_long_answer_has_the_values_of_short_ones() {
    let server = serve(&[]);
    let (all, one) =
        (texts(60), |text: &String| json!({"input": text, "dense": true, "sparse": true, "colbert": true}));
    let many = json!({"input": all, "dense": true, "sparse": true, "colbert": true});
    let long = server.post("/v1/encode", &many);
    assert_eq!((long.status, long.header("transfer-encoding").as_deref()), (200, Some("chunked")));
    assert_eq!(long.header("content-type").as_deref(), Some("application/json"));
    let long = long.json();
    assert_eq!(long["usage"]["total_tokens"].as_u64().unwrap() as usize, {
        let tokens = |item: &Value| item["tokens"].as_u64().unwrap() as usize;
        long["data"].as_array().unwrap().iter().map(tokens).sum::<usize>()
    });
    let rows = server.post("/embed_all", &json!({"inputs": all})).json();
    let vectors = server.post("/embed", &json!({"inputs": all})).json();
    let sparse = server.post("/embed_sparse", &json!({"inputs": all})).json();
    for at in [0, 1, 59] {
        let mut short = server.post("/v1/encode", &one(&all[at])).json()["data"][0].take();
        short["index"] = json!(at);
        assert_eq!(long["data"][at], short);
        assert_eq!((&rows[at], &vectors[at]), (&short["colbert"], &short["dense"]));
        assert_eq!(sparse[at].as_array().unwrap().len(), short["sparse"]["indices"].as_array().unwrap().len());
    }
    assert_eq!(rows.as_array().unwrap().len(), 60);
    let mut base64 = many;
    base64["encoding_format"] = json!("base64");
    let base64 = server.post("/v1/encode", &base64).json();
    for at in [0, 59] {
        let shape = &base64["data"][at]["colbert_shape"];
        let floats: Vec<f32> =
            rows[at].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap()).map(f32_of).collect();
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(base64["data"][at]["colbert"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        assert_eq!(shape, &json!([rows[at].as_array().unwrap().len(), 40]));
    }
}

fn f32_of(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

#[test]
fn long_binary_answers_state_their_length() {
    let server = serve(&[]);
    let all = texts(40);
    let body = json!({"input": all, "dense": false, "colbert": true});
    let rows = server.post("/embed_all", &json!({"inputs": all})).json();
    let floats: Vec<u8> = rows
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|text| text.as_array().unwrap())
        .flat_map(|row| row.as_array().unwrap())
        .flat_map(|x| f32_of(x).to_le_bytes())
        .collect();
    let ask = |kind: &str, body: &Value| {
        let answer = server.request("POST", "/v1/encode", &[("accept", kind)], body.to_string().as_bytes());
        assert_eq!((answer.status, answer.header("content-type").as_deref()), (200, Some(kind)));
        assert_eq!(answer.header("content-length").unwrap().parse::<usize>().unwrap(), answer.body.len());
        answer.body
    };
    assert!(ask("application/octet-stream", &body) == floats);
    let npy = ask("application/x-npy", &body);
    assert!(npy.starts_with(b"\x93NUMPY") && npy.ends_with(&floats) && (npy.len() - floats.len()).is_multiple_of(64));
    let both = json!({"input": all, "dense": true, "colbert": true});
    let file = ask("application/x-safetensors", &both);
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert!(file.tensor("colbert").unwrap().data() == floats);
    let dense = file.tensor("dense").unwrap();
    assert_eq!(dense.shape(), [40, 96]);
    let offsets: Vec<i64> = file
        .tensor("colbert_offsets")
        .unwrap()
        .data()
        .chunks_exact(8)
        .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let counts: Vec<i64> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(
        counts,
        rows.as_array().unwrap().iter().map(|text| text.as_array().unwrap().len() as i64).collect::<Vec<_>>()
    );
}

#[test]
fn tokens_of_many_texts_are_those_of_each() {
    let server = serve(&[]);
    let all = texts(300);
    for special in [true, false] {
        let lists = server.post("/tokenize", &json!({"inputs": all, "add_special_tokens": special})).json();
        assert_eq!(lists.as_array().unwrap().len(), 300);
        for at in [0, 7, 299] {
            let alone = server.post("/tokenize", &json!({"inputs": all[at], "add_special_tokens": special})).json();
            assert_eq!(lists[at], alone[0], "{at}");
        }
    }
    let lists = server.post("/tokenize", &json!({"inputs": all})).json();
    let ids: Vec<Vec<&Value>> = lists
        .as_array()
        .unwrap()
        .iter()
        .map(|list| list.as_array().unwrap().iter().map(|t| &t["id"]).collect())
        .collect();
    let decoded = server.post("/decode", &json!({"ids": ids})).json();
    let alone = server.post("/decode", &json!({"ids": ids[7]})).json();
    assert_eq!((decoded.as_array().unwrap().len(), &decoded[7]), (300, &alone[0]));
}

#[test]
fn three_large_requests_stay_within_the_bound() {
    let server = serve(&["--max-body", "2000000", "--max-memory", "64MiB"]);
    // The first batch allocates the engine's buffers. They stay, and do not count as memory of requests.
    assert_eq!(server.post("/v1/encode", &json!({"input": texts(8), "colbert": true})).status, 200);
    let tokenize = json!({"inputs": vec!["a ".repeat(900); 1000]});
    let colbert = json!({"input": texts(120), "dense": false, "colbert": true});
    let pairs = json!({"query": "the", "documents": texts(60)});
    let ids = json!({"ids": vec![vec![5; 2000]; 300]});
    let long = "the quick brown fox ".repeat(200);
    let explain = json!({"a": long, "b": long});
    let embeddings = json!({"input": vec!["short"; 2048]});
    let all = [
        ("/tokenize", &tokenize),
        ("/v1/encode", &colbert),
        ("/v1/score", &pairs),
        ("/decode", &ids),
        ("/v1/explain", &explain),
        ("/v1/embeddings", &embeddings),
    ];
    let before = megabytes(&server, "VmHWM");
    for (path, body) in all {
        wait("the answers before are still held", || server.metric(HELD) == Some(0.0));
        let streams: Vec<TcpStream> = (0..3).map(|_| send(&server, path, body)).collect();
        let read = |mut stream: TcpStream| std::thread::spawn(move || Answer::read(&mut stream).unwrap());
        for thread in streams.into_iter().map(read).collect::<Vec<_>>() {
            let answer = thread.join().unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        }
        assert_eq!(server.get("/health").status, 200);
        // Three answers of /tokenize or of /v1/encode are 90 MB, and as trees of values they would be many times as much. What the allocator
        // keeps besides is less than the budget.
        let peak = megabytes(&server, "VmHWM");
        assert!(peak < before + 64 + 64, "{path}: {before} MB before, {peak} MB at the peak");
    }
    wait("memory was not given back", || megabytes(&server, "VmRSS") < before + 64);
    assert_eq!(server.metric(HELD), Some(0.0));
}

#[test]
fn requests_that_can_never_fit_are_refused_in_the_dialect_of_the_route() {
    // A request may hold three quarters of the 22 MiB, 16.5 MiB.
    let server = serve(&["--max-body", "2000000", "--max-memory", "22MiB"]);
    let many = texts(400);
    for (path, body, expected) in [
        ("/v1/encode", json!({"input": many, "colbert": true}), "request_too_large"),
        ("/embed_all", json!({"inputs": many}), "validation"),
    ] {
        let answer = server.post(path, &body);
        assert_eq!((answer.status, code(&answer)), (413, expected.to_owned()), "{path}");
        assert!(String::from_utf8_lossy(&answer.body).contains("--max-memory"), "{answer:?}");
    }
    // The same texts fit where little is held of each, and fewer texts where much is.
    assert_eq!(server.post("/embed", &json!({"inputs": many})).status, 200);
    assert_eq!(server.post("/tokenize", &json!({"inputs": many})).status, 200);
    assert_eq!(server.post("/embed_all", &json!({"inputs": &many[..20]})).status, 200);
    // The parsed values of a body with many small ones take many times its length.
    for (path, field) in
        [("/embed", "inputs"), ("/v1/encode", "input"), ("/v1/embeddings", "input"), ("/decode", "ids")]
    {
        let body = format!("{{\"{field}\":[{}[]]}}", "[],".repeat(500_000))
            .replace("[]", if field == "ids" { "[]" } else { "\"\"" });
        let answer = server.request("POST", path, &[], body.as_bytes());
        assert_eq!(answer.status, 413, "{path}: {answer:?}");
    }
    wait("something is still held", || server.metric(HELD) == Some(0.0));
}

/// The ColBERT vectors of all texts would be twice what a request may hold.
#[test]
fn pairs_are_scored_part_by_part() {
    let server = serve(&["--max-body", "2000000", "--max-memory", "22MiB"]);
    let (documents, query) = (texts(400), &texts(401)[400]);
    let all = server.post("/v1/score", &json!({"query": query, "documents": documents}));
    assert_eq!(all.status, 200, "{}", String::from_utf8_lossy(&all.body));
    let all = all.json();
    let pairs: Vec<[&String; 2]> = documents.iter().map(|document| [query, document]).collect();
    let of_pairs = server.post("/v1/score", &json!({"pairs": &pairs[..200]})).json();
    assert_eq!(all["data"].as_array().unwrap().len(), 400);
    assert_eq!(all["usage"]["total_tokens"], json!(401 * 520));
    assert_eq!(of_pairs["data"].as_array().unwrap().len(), 200);
    for at in [0, 1, 6, 7, 199] {
        assert_eq!(all["data"][at], of_pairs["data"][at]);
        let mut alone = server.post("/v1/score", &json!({"query": query, "documents": [documents[at]]})).json();
        alone["data"][0]["index"] = json!(at);
        assert_eq!(all["data"][at], alone["data"][0]);
    }
    wait("something is still held", || server.metric(HELD) == Some(0.0));
}

#[test]
fn slow_readers_block_nobody_and_more_large_requests_are_refused() {
    let server = serve(&["--max-body", "2000000", "--max-memory", "28MiB"]);
    let all = json!({"inputs": texts(100)});
    // Some 8.5 MB each: two fit into three quarters of 28 MiB. With the others, more answers are left unread than there are threads to
    // write them.
    let slow: Vec<TcpStream> = (0..2).map(|_| send(&server, "/embed_all", &all)).collect();
    slow.iter().for_each(begun);
    let tokens = json!({"inputs": vec!["a ".repeat(500); 200]});
    let more: Vec<TcpStream> = (0..12).map(|_| send(&server, "/tokenize", &tokens)).collect();
    more.iter().for_each(begun);
    assert!(server.metric(HELD) > Some(16e6));
    let refused = server.post("/embed_all", &all);
    assert_eq!((refused.status, code(&refused)), (429, "overloaded".to_owned()));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    let refused = server.post("/v1/encode", &json!({"input": texts(100), "colbert": true}));
    assert_eq!((refused.status, code(&refused)), (429, "memory_full".to_owned()));
    // Other clients are answered meanwhile.
    assert_eq!(server.get("/health").status, 200);
    for _ in 0..3 {
        assert_eq!(server.post("/v1/encode", &json!({"input": texts(2), "colbert": true})).status, 200);
        assert_eq!(server.post("/tokenize", &tokens).status, 200);
    }
    // A client that disconnects frees its memory; one that stays gets its whole answer.
    let [one, mut other] = <[TcpStream; 2]>::try_from(slow).unwrap();
    drop((one, more));
    wait("a client that went away still holds memory", || server.metric(HELD) < Some(12e6));
    assert_eq!(server.post("/embed_all", &all).status, 200);
    let rest = Answer::read(&mut other).unwrap();
    assert_eq!((rest.status, rest.json().as_array().unwrap().len()), (200, 100));
    wait("something is still held", || server.metric(HELD) == Some(0.0));
}

#[test]
fn bodies_are_counted_as_they_come() {
    let server = serve(&["--max-body", "2000000", "--max-memory", "17MiB"]);
    // Bodies of 1.5 MB.
    let body = json!({"inputs": ["x".repeat(1_500_000)]}).to_string();
    let begin = |length: usize| {
        let mut stream = server.connect();
        let head = format!("POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        // The service may have closed already.
        let _ = stream.write_all(&[head.as_bytes(), &body.as_bytes()[..length]].concat());
        stream
    };
    // Bodies that are announced as long, but of which little is sent, take little.
    let idle: Vec<TcpStream> = (0..50).map(|_| begin(10)).collect();
    let large: Vec<TcpStream> = (0..7).map(|_| begin(body.len() - 1)).collect();
    wait("bodies are not counted", || server.metric(HELD) >= Some(10e6));
    assert!(server.metric(HELD) < Some(11e6));
    // Of more such bodies, the second would take more than three quarters of the 17 MiB.
    let more: Vec<TcpStream> = (0..3).map(|_| begin(body.len() - 1)).collect();
    let route = "trivec_requests_total{route=\"/embed\",status=\"429\"}";
    wait("none was refused", || server.metric(route) >= Some(1.0));
    // A small request is still accepted.
    assert_eq!(server.post("/embed", &json!({"inputs": "a"})).status, 200);
    drop((idle, large, more));
    wait("something is still held", || server.metric(HELD) == Some(0.0));
    assert_eq!(server.request("POST", "/embed", &[], body.as_bytes()).status, 200);
}

#[test]
fn too_little_memory_is_refused_by_name() {
    let out = http::trivec().args(["serve", "--port", "0", "--max-memory", "1MiB"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("--max-memory") && said.contains("--max-body"), "{said}");
}
