//! `trivec serve` as a client sees it: every route compared with the library, the status for every bad input, slow clients and clients that
//! disconnect, and the shutdown.

use trivec_testing::http;

use std::io::Write;

use base64::Engine;
use http::{Answer, Server, trivec, wait};
use proptest::prelude::*;
use serde_json::{Value, json};
use trivec::{EncodeOptions, Model, Modes, similarity};

const A: &str = "苹果公司发布新手机";
const B: &str = "Apple launched a new iPhone";

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The floats of a vector in base64.
fn from_base64(value: &Value) -> Vec<f32> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

#[test]
fn every_route_gives_what_the_library_gives() {
    let server = Server::start(&[]);
    let model = Model::starter().unwrap();
    let options = EncodeOptions { modes: Modes::ALL, ..EncodeOptions::default() };
    let expected = model.encode(&[A, B], &options).unwrap();
    let dense = |i: usize| expected[i].dense.clone().unwrap();

    let answer = server.post("/v1/encode", &json!({"input": [A, B], "sparse": true, "colbert": true}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    for (i, e) in expected.iter().enumerate() {
        let found = &answer["data"][i];
        assert_eq!(floats(&found["dense"]), dense(i));
        assert_eq!(floats(&found["sparse"]["values"]), e.lexical.as_ref().unwrap().weights());
        let rows: Vec<f32> = found["colbert"].as_array().unwrap().iter().flat_map(floats).collect();
        assert_eq!(rows, e.colbert.as_ref().unwrap().as_slice());
        assert_eq!((found["tokens"].as_u64(), found["truncated"].as_bool()), (Some(e.tokens as u64), Some(false)));
    }
    assert_eq!(answer["usage"]["total_tokens"].as_u64(), Some((expected[0].tokens + expected[1].tokens) as u64));
    let coded = server.post("/v1/encode", &json!({"input": A, "encoding_format": "base64", "colbert": true})).json();
    assert_eq!(from_base64(&coded["data"][0]["dense"]), dense(0));
    assert_eq!(coded["data"][0]["colbert_shape"][0].as_u64(), Some(expected[0].tokens as u64 - 1));
    let cut = server.post("/v1/encode", &json!({"input": A, "max_length": 4, "dimensions": 16})).json();
    assert_eq!((cut["data"][0]["tokens"].as_u64(), cut["data"][0]["truncated"].as_bool()), (Some(4), Some(true)));
    assert_eq!(floats(&cut["data"][0]["dense"]).len(), 16);

    let scores = similarity::score(&expected[0], &expected[1], &similarity::ScoreWeights::default());
    for body in [json!({"pairs": [[A, B]]}), json!({"query": A, "documents": [B]})] {
        let found = server.post("/v1/score", &body).json();
        let found = &found["data"][0];
        assert_eq!(found["dense"].as_f64().map(|x| x as f32), scores.dense);
        assert_eq!(found["colbert"].as_f64().map(|x| x as f32), scores.colbert);
        assert_eq!(found["verdict"], "related");
    }
    let only_colbert = server.post("/v1/score", &json!({"pairs": [[A, B]], "weights": [0, 0, 1]})).json();
    assert_eq!(only_colbert["data"][0]["sparse+dense"], Value::Null);

    let why = server.post("/v1/explain", &json!({"a": A, "b": B})).json();
    let inspection = model.inspect(A, &EncodeOptions::default()).unwrap();
    assert_eq!(why["a"]["tokens"].as_array().unwrap().len(), inspection.tokens.len());
    let align = similarity::align(expected[0].colbert.as_ref().unwrap(), expected[1].colbert.as_ref().unwrap());
    let best: Vec<u64> = why["alignment"]["best"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect();
    assert_eq!(best, align.iter().map(|x| x.document_row as u64).collect::<Vec<_>>());

    let ids = model.token_ids(B, &EncodeOptions::default()).unwrap().0;
    for input in [json!(B), json!([B]), json!(ids), json!([ids])] {
        let found = server.post("/v1/embeddings", &json!({"input": input, "model": "starter", "user": "x"})).json();
        assert_eq!(floats(&found["data"][0]["embedding"]), dense(1), "{input}");
    }
    let found = server.post("/v1/embeddings", &json!({"input": B, "encoding_format": "base64"})).json();
    assert_eq!(from_base64(&found["data"][0]["embedding"]), dense(1));
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "starter");
    assert_eq!(server.get("/v1/models/starter").status, 200);

    for route in ["/embed", "/"] {
        assert_eq!(floats(&server.post(route, &json!({"inputs": A})).json()[0]), dense(0));
    }
    // A vector without normalisation, by the route of text-embeddings-inference and by trivec's own; it has the direction of the
    // normalised one.
    let raw = EncodeOptions { normalize: Some(false), ..EncodeOptions::default() };
    let raw = model.encode(&[A], &raw).unwrap().remove(0).dense.unwrap();
    assert_ne!(raw, dense(0));
    assert!(similarity::cosine(&raw, &dense(0)) > 0.999_999);
    assert_eq!(floats(&server.post("/embed", &json!({"inputs": A, "normalize": false})).json()[0]), raw);
    let asked = server.post("/v1/encode", &json!({"input": A, "normalize": false, "max_length": 32.0})).json();
    assert_eq!(floats(&asked["data"][0]["dense"]), raw);
    assert_eq!(
        server.post("/embed_all", &json!({"inputs": [A]})).json()[0].as_array().unwrap().len(),
        expected[0].tokens - 1
    );
    let sparse = server.post("/embed_sparse", &json!({"inputs": A})).json();
    assert_eq!(sparse[0].as_array().unwrap().len(), expected[0].lexical.as_ref().unwrap().len());
    let inputs = json!({"inputs": {"source_sentence": A, "sentences": [B]}});
    assert_eq!(floats(&server.post("/similarity", &inputs).json()), [similarity::cosine(&dense(0), &dense(1))]);
    let tokens = server.post("/tokenize", &json!({"inputs": B})).json();
    assert_eq!(tokens[0].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap() as u32).collect::<Vec<_>>(), ids);
    assert_eq!(server.post("/decode", &json!({"ids": ids})).json(), json!([B]));
    assert_eq!(server.get("/info").json()["max_input_length"].as_u64(), Some(model.info().max_length as u64));

    assert_eq!(server.post("/v1/encode", &json!({"input": []})).json()["data"], json!([]));
    let empty = server.post("/v1/encode", &json!({"input": "", "sparse": true})).json();
    assert_eq!(empty["data"][0]["sparse"]["indices"], json!([]));
}

#[test]
fn binary_answers_hold_the_same_numbers() {
    let server = Server::start(&[]);
    let model = Model::starter().unwrap();
    let expected = model.encode(&[A, B], &EncodeOptions::default()).unwrap();
    let values: Vec<u8> =
        expected.iter().flat_map(|e| e.dense.as_ref().unwrap()).flat_map(|x| x.to_le_bytes()).collect();
    let ask = |accept: &str, body: Value| {
        server.request("POST", "/v1/encode", &[("accept", accept)], body.to_string().as_bytes())
    };
    let raw = ask("application/octet-stream", json!({"input": [A, B]}));
    assert_eq!(raw.body, values);
    let npy = ask("application/x-npy", json!({"input": [A, B]}));
    assert!(npy.body.starts_with(b"\x93NUMPY") && npy.body.ends_with(&values));
    let file = ask("application/x-safetensors", json!({"input": [A, B], "colbert": true}));
    let file = safetensors::SafeTensors::deserialize(&file.body).unwrap();
    assert_eq!(file.tensor("dense").unwrap().data(), values);
    assert_eq!(file.tensor("colbert_offsets").unwrap().shape(), [3]);
    assert_eq!(ask("application/octet-stream", json!({"input": A, "sparse": true})).status, 422);
}

/// Asserts that an answer is an error in the shape of text-embeddings-inference (`tei`) or in that of the other routes. Returns its status and
/// its `code`; with `tei`, which has no code, its `error_type`.
fn refused(answer: &Answer, tei: bool) -> (u16, String) {
    let json = answer.json();
    if tei {
        assert!(json["error"].is_string() && json["error_type"].is_string(), "{json}");
        return (answer.status, json["error_type"].as_str().unwrap().to_owned());
    }
    let error = json["error"].as_object().unwrap_or_else(|| panic!("{json}"));
    let names: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(names, ["code", "message", "param", "type"]);
    (answer.status, error["code"].as_str().unwrap().to_owned())
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let server = Server::start(&["--max-texts", "4", "--max-body", "20000"]);
    for (path, body, status) in [
        ("/v1/encode", json!({"input": 5}), 422),
        ("/v1/encode", json!({"input": ["a", null]}), 422),
        ("/v1/encode", json!({"input": "a", "surprise": 1}), 422),
        ("/v1/encode", json!({}), 422),
        ("/v1/encode", json!({"input": "a", "dimensions": 0}), 422),
        ("/v1/encode", json!({"input": "a", "dimensions": 100_000}), 422),
        ("/v1/encode", json!({"input": "a", "dimensions": -1}), 422),
        ("/v1/encode", json!({"input": "a", "dimensions": 3.5}), 422),
        ("/v1/encode", json!({"input": "a", "max_length": 1}), 422),
        ("/v1/encode", json!({"input": "a", "dense": false}), 422),
        ("/v1/encode", json!({"input": ["a", "b", "c", "d", "e"]}), 413),
        ("/v1/encode", json!({"input": "x".repeat(30_000)}), 413),
        ("/v1/embeddings", json!({"input": "a", "encoding_format": "hex"}), 422),
        ("/v1/embeddings", json!({"input": [4_000_000]}), 422),
        ("/v1/embeddings", json!({"input": [[]]}), 422),
        ("/v1/score", json!({"pairs": [["a"]]}), 422),
        ("/v1/score", json!({"query": "a"}), 422),
        ("/v1/score", json!({"pairs": [["a", "b"]], "weights": [0, 0, 0]}), 422),
        ("/v1/score", json!({"pairs": [["a", "b"]], "weights": [-1, 1, 1]}), 422),
        ("/v1/score", json!({"pairs": [["a", "b"]], "weights": [1e39, 1, 1]}), 422),
        ("/v1/explain", json!({"a": "a", "b": "b", "weights": [1.000_000_000_000_001e30, 0, 0]}), 422),
        ("/embed", json!({"inputs": "a", "prompt_name": "query"}), 422),
        ("/v1/encode", json!({"input": "a", "max_length": 8.5}), 422),
        ("/v1/score", json!({"pairs": [["a", "b"]], "weights": [1, 1]}), 422),
        ("/v1/score", json!({"pairs": [["a", "b"]], "thresholds": [0.1, 0.5, 0.9]}), 422),
        ("/v1/rerank", json!({"query": "a", "documents": ["b"]}), 422),
        ("/embed", json!({"inputs": 5}), 422),
        ("/embed", json!({"inputs": []}), 400),
        ("/embed", json!({"inputs": ["a", "b", "c", "d", "e"]}), 413),
        ("/embed", json!({"inputs": "a", "truncation_direction": "Left"}), 422),
        ("/rerank", json!({"query": "a", "texts": ["b"]}), 424),
        ("/decode", json!({"ids": [4_000_000]}), 422),
    ] {
        let answer = server.post(path, &body);
        let (found, _) = refused(&answer, !path.starts_with("/v1"));
        assert_eq!(found, status, "{path} {body}: {}", String::from_utf8_lossy(&answer.body));
    }
    let (_, code) = refused(&server.post("/v1/encode", &json!({"input": ["a", 5]})), false);
    assert_eq!(code, "invalid_value");
    let deep = [vec![b'['; 9_000], vec![b']'; 9_000]].concat();
    for body in [&b"{"[..], b"", b"\xff\xfe", br#"{"input":NaN}"#, br#"{"input":"a"} {}"#] {
        let answer = server.request("POST", "/v1/encode", &[], body);
        assert_eq!(refused(&answer, false), (400, "invalid_json".to_owned()), "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(server.request("POST", "/v1/encode", &[], &deep).status, 422);
    assert_eq!(server.request("POST", "/v1/encode", &[], br#"{"input":"a","input":"b"}"#).status, 422);
    for (method, path, status) in [
        ("GET", "/v1/encode", 405),
        ("DELETE", "/embed", 405),
        ("POST", "/health", 405),
        ("GET", "/nothing/here", 404),
        ("GET", "/nothing.js", 404),
        ("POST", "/nothing", 404),
        ("POST", "/docs", 405),
        ("GET", "/v1/models/none", 404),
        ("POST", "/admin/reload", 403),
    ] {
        assert_eq!(server.request(method, path, &[], b"").status, status, "{method} {path}");
    }
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn bytes_that_are_no_request_get_an_error_or_no_answer() {
    let server = Server::start(&["--head-timeout", "5", "--idle-timeout", "5", "--max-body", "1000"]);
    let long_header = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nbig: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    for (bytes, statuses) in [
        (&b"POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n"[..], &[413][..]),
        (b"POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcde", &[400]),
        (b"POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", &[400]),
        (b"POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", &[400]),
        (b"BREW /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", &[405]),
        (b"GET /health\r\n\r\n", &[400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
        (b"\x00\x00\x00\x00\r\n\r\n", &[400]),
        (long_header.as_bytes(), &[431]),
        (many.as_bytes(), &[431]),
    ] {
        let answer = server.raw(bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        // For bytes that are no HTTP, the connection may also be closed without an answer.
        if let Some(answer) = answer {
            assert!(statuses.contains(&answer.status), "{shown}: {answer:?}");
        }
    }
    // A request with both a length and chunks must not be taken for two requests.
    let smuggled = b"POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert!(server.raw(smuggled).is_none_or(|answer| answer.status == 400 || answer.status == 422));
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn slow_clients_are_disconnected_and_block_nobody() {
    // Two services, each with one short limit: for the head, and for the body. So the limit for heads cannot end a client that was slow
    // to send its whole head.
    let heads = Server::start(&["--head-timeout", "2", "--idle-timeout", "3600"]);
    let bodies = Server::start(&["--head-timeout", "3600", "--idle-timeout", "2"]);
    let connect = |i: usize| {
        let (server, part) = match i % 3 {
            0 => (&heads, &b""[..]),
            1 => (&heads, &b"GET /health HT"[..]),
            _ => (&bodies, &b"POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"in"[..]),
        };
        let mut stream = server.connect();
        stream.write_all(part).unwrap();
        stream
    };
    let mut idle: Vec<_> = (0..400).map(connect).collect();
    // 400 slow clients do not block the services.
    for server in [&heads, &bodies] {
        assert_eq!(server.get("/health").status, 200);
    }
    for (i, stream) in idle.iter_mut().enumerate() {
        // Each ends by an answer or by the connection's end, not by this test's own timeout.
        let begin = std::time::Instant::now();
        let answer = Answer::read(stream);
        assert!(begin.elapsed() < wait::DEADLINE, "client {i} is still there");
        match i % 3 {
            2 => assert_eq!(answer.map(|answer| answer.status), Some(408), "client {i}"),
            _ => assert!(answer.is_none_or(|answer| answer.status == 408), "client {i}"),
        }
    }
}

#[test]
fn a_full_queue_says_when_to_retry_and_disconnected_clients_leave_it() {
    let server = Server::start(&["--max-queue", "6000"]);
    let long = "word ".repeat(400);
    let body = json!({"input": vec![long.as_str(); 10]}).to_string();
    let head = format!("POST /v1/encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // Six requests at once are more than the queue takes, unless the service works it off faster than they come. Then they are sent again.
    let full = wait::wait_for("a full queue", || {
        let mut clients: Vec<_> = (0..6).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|stream| stream.write_all(head.as_bytes()).unwrap());
        let answers: Vec<Answer> = clients.iter_mut().map(|stream| Answer::read(stream).unwrap()).collect();
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert!(statuses.contains(&200) && statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        answers.into_iter().find(|answer| answer.status == 429)
    });
    assert_eq!(refused(&full, false).1, "queue_full");
    assert!(full.header("retry-after").is_some());
    // A request that costs more than the whole queue may hold is refused for good.
    let body = json!({"input": vec![long.as_str(); 20]});
    assert_eq!(refused(&server.post("/v1/encode", &body), false), (413, "request_too_large".to_owned()));

    // Clients that disconnect before their turn leave nothing in the queue.
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|stream| stream.write_all(head.as_bytes()).unwrap());
    drop(clients);
    server.wait_for("/v1/status", |status| status["queue"]["depth"] == 0 && status["queue"]["cost"] == 0);
    assert_eq!(server.post("/v1/encode", &json!({"input": "a"})).status, 200);
}

#[test]
fn keys_are_asked_for_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "# ours\nfirst-key\nsecond-key\n").unwrap();
    let server = Server::start(&["--api-key-file", keys.to_str().unwrap()]);
    let ask = |headers: &[(&str, &str)]| {
        server.request("POST", "/v1/embeddings", headers, json!({"input": "a"}).to_string().as_bytes())
    };
    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Bearer first-ke")],
        &[("authorization", "Bearer first-key2")],
        &[("authorization", "Basic first-key")],
        &[("authorization", "Bearer ")],
    ] {
        let answer = ask(headers);
        assert_eq!(refused(&answer, false), (401, "invalid_api_key".to_owned()));
        assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("key2"));
    }
    assert_eq!(server.request("POST", "/v1/embeddings?key=first-key", &[], b"{}").status, 401);
    for key in ["Bearer first-key", "Bearer second-key"] {
        assert_eq!(ask(&[("authorization", key)]).status, 200);
    }
    assert_eq!(server.post("/", &json!({"inputs": "a"})).status, 401, "not the page, but TEI's root");
    assert_eq!((server.get("/health").status, server.get("/").status, server.get("/metrics").status), (200, 200, 401));
    let reload = server.request("POST", "/admin/reload", &[("authorization", "Bearer first-key")], b"");
    assert_eq!(reload.status, 200, "{reload:?}");
    assert_eq!(ask(&[("authorization", "Bearer first-key")]).status, 200, "after the reload");
}

#[test]
fn answers_carry_their_headers_and_no_cors_unless_asked() {
    let server = Server::start(&[]);
    let origin = ("origin", "https://a.example");
    let page = server.request("GET", "/", &[origin], b"");
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'self'"));
    assert_eq!(page.header("x-content-type-options").as_deref(), Some("nosniff"));
    assert_eq!(page.header("access-control-allow-origin"), None);
    let etag = page.header("etag").unwrap();
    assert_eq!(server.request("GET", "/", &[("if-none-match", &etag)], b"").status, 304);
    let traced = server.request("GET", "/health", &[("x-request-id", "abc"), ("traceparent", "00-1-2-01")], b"");
    assert_eq!(
        (traced.header("x-request-id").unwrap(), traced.header("traceparent").unwrap()),
        ("abc".into(), "00-1-2-01".into())
    );
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("trivec_requests_total{route=\"/health\",status=\"200\"} 1"), "{metrics}");
    assert!(metrics.contains("trivec_encode_seconds_bucket") && metrics.contains("trivec_model_info"));
    let open = Server::start(&["--cors-origin", "https://a.example"]);
    let answer = open.request("GET", "/health", &[origin], b"");
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("https://a.example"));
    let other = open.request("GET", "/health", &[("origin", "https://b.example")], b"");
    assert_ne!(other.header("access-control-allow-origin").as_deref(), Some("https://b.example"));
}

#[test]
fn openapi_json_describes_every_route_and_no_other() {
    let server = Server::start(&[]);
    let spec = server.get("/openapi.json").json();
    let source = include_str!("../../../serve/src/routes/mod.rs");
    let routes = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let of_indexes =
        |route: &str| ["/v1/search", "/v1/documents", "/v1/index"].iter().any(|own| route.starts_with(own));
    let mut count = 0;
    for route in routes.filter(|route| !matches!(*route, "/docs" | "/{file}")) {
        if of_indexes(route) && !cfg!(feature = "search") {
            continue;
        }
        let route = route.replace("{*id}", "{id}").replace("{*key}", "{key}");
        assert!(spec["paths"].get(&route).is_some(), "{route} is not described");
        count += 1;
    }
    assert_eq!(count, spec["paths"].as_object().unwrap().len());
}

/// A request that has begun: the service has read its head and asks for its body.
#[cfg(unix)]
fn begun(server: &Server, length: usize) -> std::net::TcpStream {
    use std::io::Read;
    let mut stream = server.connect();
    let head = format!(
        "POST /v1/encode HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

/// Sends the signal that ends a service, and waits until the shutdown has begun: then the service closes connections without a request.
#[cfg(unix)]
fn start_shutdown(server: &Server) {
    use std::io::Read;
    let mut idle = server.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut idle).unwrap().status, 200);
    server.signal("TERM");
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
}

#[cfg(unix)]
#[test]
fn a_shutdown_finishes_requests_and_a_second_signal_ends_at_once() {
    let mut server = Server::start(&["--drain-timeout", "3600", "--idle-timeout", "3600"]);
    let body = json!({"input": vec!["word ".repeat(100); 8]}).to_string();
    // Of one request the texts are in the queue or in the engine; the other is still being sent.
    let mut whole = begun(&server, body.len());
    whole.write_all(body.as_bytes()).unwrap();
    let mut part = begun(&server, body.len());
    part.write_all(&body.as_bytes()[..100]).unwrap();
    server.signal("HUP");
    start_shutdown(&server);
    part.write_all(&body.as_bytes()[100..]).unwrap();
    for mut stream in [whole, part] {
        let answer = Answer::read(&mut stream).expect("what is on its way is finished");
        assert_eq!((answer.status, answer.json()["data"].as_array().unwrap().len()), (200, 8));
    }
    assert_eq!(server.exit_code(), Some(0));

    // A second signal ends the service without waiting.
    let mut server = Server::start(&["--drain-timeout", "3600", "--idle-timeout", "3600"]);
    let stream = begun(&server, 100);
    start_shutdown(&server);
    assert_eq!(server.child.try_wait().unwrap(), None, "it waits for the request that has begun");
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(143));
    drop(stream);
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_served_and_a_taken_port_is_named() {
    use std::os::unix::net::UnixStream;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut child = trivec().args(["serve", "-q", "--unix-socket", path.to_str().unwrap()]).spawn().unwrap();
    let mut stream = wait::wait_for("a socket that answers", || UnixStream::connect(&path).ok());
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(wait::wait_for("its end", || child.try_wait().unwrap()).code(), Some(0));
    assert!(!path.exists(), "the socket's file goes with the service");

    let server = Server::start(&[]);
    let port = server.port.to_string();
    let taken = trivec().args(["serve", "--port", &port]).output().unwrap();
    assert_eq!(taken.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&taken.stderr).contains(&format!("127.0.0.1:{port}")));
}

#[test]
fn no_body_gives_a_5xx_on_any_route() {
    let server = Server::start(&["--idle-timeout", "60", "--head-timeout", "60"]);
    let routes = [
        "/v1/encode",
        "/v1/score",
        "/v1/explain",
        "/v1/rerank",
        "/v2/rerank",
        "/v1/embeddings",
        "/embed",
        "/embed_all",
        "/embed_sparse",
        "/similarity",
        "/rerank",
        "/tokenize",
        "/decode",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "input",
        "inputs",
        "pairs",
        "query",
        "documents",
        "texts",
        "ids",
        "a",
        "b",
        "weights",
        "dimensions",
        "max_length",
        "x",
    ]);
    let json = leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    });
    let body =
        prop_oneof![json.prop_map(|json| json.to_string().into_bytes()), prop::collection::vec(any::<u8>(), 0..64)];
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(route in prop::sample::select(routes.to_vec()), body in body)| {
        let answer = server.request("POST", route, &[], &body);
        prop_assert!(answer.status < 500, "{route} {:?}: {answer:?}", String::from_utf8_lossy(&body));
    });
    assert_eq!(server.get("/health").status, 200);
}

/// The service and the command line give the same fields with the same values, but for two fields of the service alone. (The page draws
/// what the route answers.)
#[test]
fn the_route_and_the_command_explain_alike() {
    let server = Server::start(&[]);
    for (a, b) in [(A, B), ("a green tea", "green trees are green"), ("", "a")] {
        let mut route = server.post("/v1/explain", &json!({"a": a, "b": b})).json();
        for of_the_service in ["usage", "timing"] {
            assert!(route.as_object_mut().unwrap().remove(of_the_service).is_some(), "{of_the_service}");
        }
        let output = trivec().args(["-q", "explain", "--json", a, b]).output().unwrap();
        let command: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(command, route, "{a:?}, {b:?}");
    }
}
