//! `trivec serve` as its operator sees it: what it logs and counts; what it does without file descriptors, with clients that send slowly or
//! do not read, with TLS, with models that lack heads; and its health check.

use trivec_testing::http;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use http::closed_port::ClosedPort;
use http::program::clean;
use http::wait::wait_until;
use http::{Answer, Server, trivec};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use trivec::{Model, RerankOptions};

fn data(name: &str) -> String {
    trivec_testing::data("").join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_log_has_numbers_and_no_texts_unless_asked() {
    let ask = |server: &Server| {
        let body = json!({"input": ["a secret text", "another"], "model": "starter"}).to_string();
        let headers = [("authorization", "Bearer my-key"), ("x-request-id", "r-1")];
        assert_eq!(server.request("POST", "/v1/embeddings", &headers, body.as_bytes()).status, 200);
        server.get("/health");
        server.get("/v1/nothing");
    };
    let mut server = Server::start(&["--log-format", "json", "--api-key", "my-key"]);
    ask(&server);
    let line = server.logged("/v1/embeddings", 200);
    assert_eq!((&line["texts"], &line["id"]), (&json!(2), &json!("r-1")), "{line}");
    assert!(line["tokens"].as_u64() > Some(4), "{line}");
    for name in ["ms", "tokenize_ms", "queue_ms", "encode_ms"] {
        assert!(line[name].as_f64() >= Some(0.0), "{name}: {line}");
    }
    assert!(line["encode_ms"].as_f64() > Some(0.0) && line["ms"].as_f64() >= line["encode_ms"].as_f64(), "{line}");
    let log = server.end();
    assert!(log.contains("\"other\""), "{log}");
    assert!(!log.contains("secret") && !log.contains("another") && !log.contains("my-key"), "{log}");
    assert!(!log.contains("/health"), "probes are no news: {log}");

    let mut server =
        Server::start(&["--log-format", "json", "--log-texts", "--log-level", "debug", "--api-key", "my-key"]);
    ask(&server);
    assert_eq!(server.logged("/v1/embeddings", 200)["contents"], json!(r#"["a secret text","another"]"#));
    let log = server.end();
    assert!(log.contains("/health") && !log.contains("my-key"), "{log}");

    let mut server = Server::start(&["--log-level", "error", "--api-key", "my-key"]);
    ask(&server);
    assert_eq!(server.get("/metrics").status, 401);
    assert_eq!(server.end(), "");
}

#[test]
fn a_request_in_several_parts_has_one_engine_time_in_its_answer_and_in_the_log() {
    let mut server = Server::start(&["--log-format", "json"]);
    // Each pair alone has a fourth of the tokens of a batch, so that the pairs are computed in several parts.
    let text = |n: usize| format!("text {n} ") + &"word ".repeat(500);
    let pairs: Vec<_> = (0..12).map(|n| json!([text(2 * n), text(2 * n + 1)])).collect();
    let answer = server.request("POST", "/v1/score", &[], json!({"pairs": pairs}).to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let timing = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["timing"].clone();
    let line = server.logged("/v1/score", 200);
    assert_eq!((&line["encode_ms"], &line["queue_ms"]), (&timing["encode_ms"], &timing["queue_ms"]), "{line}");
    assert!(timing["encode_ms"].as_f64() > Some(0.0), "{timing}");
    server.end();
}

#[test]
fn a_client_that_went_away_is_logged_and_counted() {
    let server = Server::start(&["--log-format", "json"]);
    // So many texts that the client is gone long before they are embedded.
    let body = json!({"input": vec!["word ".repeat(300); 1000]}).to_string();
    let mut stream = server.connect();
    let head = format!("POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    server.wait_for("/v1/status", |status| status["queue"]["depth"].as_u64() > Some(0));
    drop(stream);
    let line = server.logged("/v1/encode", 499);
    assert_eq!(line["method"], "POST", "{line}");
    server.wait_for_metric("trivec_requests_total{route=\"/v1/encode\",status=\"499\"}", 1.0);
}

#[test]
fn metrics_tell_what_the_service_does() {
    let server = Server::start(&[]);
    let answer = server.post("/embed", &json!({"inputs": ["one", "two words"]}));
    for name in [
        "x-compute-time",
        "x-compute-tokens",
        "x-total-time",
        "x-tokenization-time",
        "x-queue-time",
        "x-inference-time",
    ] {
        assert!(answer.header(name).is_some_and(|value| value.parse::<u64>().is_ok()), "{name}: {}", answer.head);
    }
    assert_eq!(answer.header("x-compute-characters").as_deref(), Some("12"));
    let tokens: f64 = answer.header("x-compute-tokens").unwrap().parse().unwrap();
    for (name, value) in [
        ("trivec_requests_total{route=\"/embed\",status=\"200\"}", 1.0),
        ("trivec_request_seconds_count{route=\"/embed\"}", 1.0),
        ("trivec_tokenize_seconds_count", 1.0),
        ("trivec_encode_seconds_count", 1.0),
        ("trivec_queue_wait_seconds_count", 1.0),
        ("trivec_serialize_seconds_count", 1.0),
        ("trivec_batch_size_tokens_sum", tokens),
        ("trivec_tokens_total", tokens),
        ("trivec_texts_total", 2.0),
        ("trivec_queue_depth", 0.0),
        ("trivec_queue_cost", 0.0),
        ("trivec_panics_total", 0.0),
        ("trivec_cancelled_total", 0.0),
    ] {
        server.wait_for_metric(name, value);
    }
    assert!(server.metric("trivec_resident_memory_bytes") > Some(1e6));
    assert!(server.metric("trivec_tokens_per_second") > Some(0.0));
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    let info = text.lines().find(|line| line.starts_with("trivec_model_info{")).unwrap();
    assert!(["model=\"", "weights=\"", "isa=\"", "version=\""].iter().all(|label| info.contains(label)), "{info}");
    assert!(text.ends_with("# EOF\n"), "the format's own end");
}

#[test]
fn a_client_that_sends_its_body_slowly_is_disconnected() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut stream = server.connect();
    stream.write_all(b"POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n").unwrap();
    // The read timeout is this client's pace: with a byte every 50 ms, it never sends nothing for a whole second.
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut answer = Vec::new();
    wait_until("an answer or the connection's end", || {
        let mut bytes = [0; 1024];
        match stream.write_all(b" ").and_then(|()| stream.read(&mut bytes)) {
            Ok(read) => answer.extend_from_slice(&bytes[..read]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(_) => return true,
        }
        true
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    server.wait_for_metric("trivec_requests_total{route=\"/v1/encode\",status=\"408\"}", 1.0);
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let body = json!({"input": vec!["word ".repeat(100); 50], "colbert": true}).to_string();
    let mut stream = server.connect();
    let head = format!("POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    server.wait_for_metric("trivec_requests_total{route=\"/v1/encode\",status=\"200\"}", 1.0);
    // The one connection that is left is the one that asks for the metrics.
    server.wait_for_metric("trivec_connections", 1.0);
    // The answer is more than the system's buffers hold, so sending it stalled. What they hold of it ends without the last chunk.
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    assert!(read.is_err() || !rest.ends_with(b"0\r\n\r\n"), "{read:?}");
}

#[test]
fn a_thousand_slow_sockets_do_not_stop_health() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
    // None of them is disconnected while this test runs, so every answer comes while all are open.
    let server = Server::start(&["--head-timeout", "3600"]);
    let slow: Vec<TcpStream> = (0..1000)
        .map(|i| {
            let mut stream = server.connect();
            if i % 2 == 0 {
                stream.write_all(b"GET /health HT").unwrap();
            }
            stream
        })
        .collect();
    let open = || server.metric("trivec_connections").unwrap();
    wait_until("a thousand open connections", || open() > 1000.0);
    for _ in 0..20 {
        assert_eq!(server.get("/health").status, 200);
    }
    assert!(open() > 1000.0);
    drop(slow);
}

#[test]
fn without_file_descriptors_the_service_waits_and_recovers() {
    let mut command = std::process::Command::new("sh");
    let script = "ulimit -n 40 && exec \"$0\" serve --port 0 --head-timeout 3";
    clean(&mut command).args(["-c", script, trivec_testing::program::path().to_str().unwrap()]);
    let server = Server::run(command);
    let held: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    let log = server.log_with("accept");
    assert!(log.matches("accept").count() < 10, "it does not flood its log: {log}");
    // Once the silent connections are closed, after three seconds, there is room again.
    assert_eq!(server.get("/health").status, 200);
    drop(held);
}

#[test]
fn a_pipeline_goes_on_after_an_error() {
    let server = Server::start(&[]);
    let post = |body: &str| {
        format!("POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let last = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut stream = server.connect();
    let all = [post("{\"input\":\"a\"}"), post("{"), post("{\"input\":5}"), post("{\"input\":\"b\"}"), last.to_owned()]
        .concat();
    stream.write_all(all.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "400", "422", "200", "200"]);
}

#[test]
fn deep_json_is_refused_on_every_route() {
    let server = Server::start(&[]);
    for (open, close) in [("[", "]"), ("{\"input\":", "}"), ("{\"inputs\":[", "]}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for route in
            ["/v1/encode", "/v1/score", "/v1/explain", "/v1/rerank", "/v1/embeddings", "/embed", "/rerank", "/decode"]
        {
            let answer = server.request("POST", route, &[], deep.as_bytes());
            assert!(matches!(answer.status, 400 | 422), "{route}: {answer:?}");
        }
    }
    let ignored = format!("{{\"input\":\"a\",\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(server.request("POST", "/v1/embeddings", &[], ignored.as_bytes()).status < 500);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn modes_that_the_model_lacks_are_refused() {
    let model = data("models/noheads-h64");
    let server = Server::start(&["--model", &model]);
    let answer = server.post("/v1/encode", &json!({"input": "a", "sparse": true}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (422, &json!("mode_unavailable")));
    assert_eq!(server.post("/v1/encode", &json!({"input": "a"})).status, 200);
    for route in ["/embed_sparse", "/embed_all"] {
        let answer = server.post(route, &json!({"inputs": "a"}));
        assert_eq!((answer.status, &answer.json()["error_type"]), (424, &json!("backend")), "{route}");
    }
    assert_eq!(
        server.get("/v1/status").json()["model"]["modes"],
        json!({"dense": true, "sparse": false, "colbert": false})
    );
    let described = server.get("/openapi.json").json();
    let loaded = Model::load(&model).unwrap();
    let maximum = |name: &str| described["components"]["schemas"][name]["maximum"].as_u64().map(|most| most as usize);
    assert_eq!(maximum("TokenId"), Some(loaded.info().vocabulary - 1));
    assert_eq!(maximum("Dimensions"), Some(loaded.info().dense_dim));
    assert_eq!(maximum("MaxLength"), Some(loaded.info().max_length));
}

#[test]
fn many_documents_are_ranked_in_parts_with_the_same_results() {
    let model = data("rerankers/reranker-h48");
    let server = Server::start(&["--model", &model]);
    // So many that they make several batches.
    let documents: Vec<String> = (0..300).map(|i| format!("document {i} {}", "word ".repeat(i % 60))).collect();
    let expected = Model::load(&model).unwrap();
    let expected = expected.rerank("which word", &documents, &RerankOptions::default()).unwrap();
    let answer = server.post("/v1/rerank", &json!({"query": "which word", "documents": documents})).json();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), documents.len());
    for result in results {
        let index = result["index"].as_u64().unwrap() as usize;
        assert_eq!(result["logit"].as_f64().map(|x| x as f32), Some(expected[index].logit), "{index}");
    }
    let batches = server.metric("trivec_batches_total").unwrap();
    assert!(batches > 1.0, "{batches}");
    let tokens: usize = expected.iter().map(|result| result.tokens).sum();
    assert_eq!(answer["usage"]["total_tokens"].as_u64(), Some(tokens as u64));
    let answer = server.post("/rerank", &json!({"query": "which word", "texts": documents, "raw_scores": true})).json();
    let best = expected.iter().max_by(|a, b| a.logit.total_cmp(&b.logit)).unwrap();
    assert_eq!(answer[0]["score"].as_f64().map(|x| x as f32), Some(best.logit));
}

/// The exit code and the standard error of `trivec serve --healthcheck`.
fn health(args: &[&str]) -> (Option<i32>, String) {
    let out = trivec().args(["serve", "--healthcheck"]).args(args).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn healthcheck_asks_the_service_that_runs() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    // It waits for two seconds at most, so a busy machine may need more than one try.
    let healthy = |args: &[&str]| wait_until("it is healthy", || health(args) == (Some(0), String::new()));
    healthy(&["--port", &port]);
    // A service on all addresses is asked on loopback.
    healthy(&["--port", &port, "--host", "0.0.0.0"]);
    let nobody = ClosedPort::new();
    let (code, why) = health(&["--port", &nobody.port.to_string()]);
    assert_eq!(code, Some(5));
    assert!(why.contains(&format!("127.0.0.1:{}", nobody.port)), "{why}");
    assert_eq!(health(&["--unix-socket", "/nonexistent/socket"]).0, Some(5));
}

#[test]
fn tls_is_served_and_plain_http_is_not_answered() {
    let (cert, key) = (data("tls/cert.pem"), data("tls/key.pem"));
    let options = ["--tls-cert", &cert, "--tls-key", &key, "--head-timeout", "2"];
    let server = Server::start(&options);
    let port = server.port.to_string();
    // A real handshake and a real answer, by a client that trusts this certificate only.
    let ask = || health(&[&["--port", &port], &options[..]].concat());
    wait_until("it is healthy", || ask() == (Some(0), String::new()));
    // A request in plain HTTP is no handshake.
    assert!(server.raw(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").is_none());
    // A client that never begins a handshake is disconnected.
    let mut silent = server.connect();
    assert!(Answer::read(&mut silent).is_none());
    wait_until("it is still healthy", || ask().0 == Some(0));
    let wrong = trivec().args(["serve", "--port", "0", "--tls-cert", &key, "--tls-key", &key]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(5), "{}", String::from_utf8_lossy(&wrong.stderr));
}

#[test]
fn the_service_has_as_many_threads_as_it_may_use_cpus() {
    let mut command = std::process::Command::new("taskset");
    let first = rustix::thread::sched_getaffinity(None).unwrap();
    let cpu = (0..1024).find(|&cpu| first.is_set(cpu)).unwrap().to_string();
    clean(&mut command).args(["-c", &cpu, trivec_testing::program::path().to_str().unwrap(), "serve", "--port", "0"]);
    let server = Server::run(command);
    assert_eq!(server.get("/v1/status").json()["threads"], 1);
}
