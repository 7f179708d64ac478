//! `trivec serve --otlp-endpoint`: a collector on loopback gets real exports, and without its collector the service still answers.

use trivec_testing::http;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use http::Server;
use http::closed_port::ClosedPort;
use http::wait::DEADLINE;
use serde_json::json;

/// Starts a collector. Returns its port and what it is sent: each request's head and its body, an `ExportTraceServiceRequest` in protobuf.
fn collector() -> (u16, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sent, exports) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap() == 0 {
                    break;
                }
            }
            let length = head
                .to_ascii_lowercase()
                .split("content-length: ")
                .nth(1)
                .map(|at| at.split('\r').next().unwrap().parse().unwrap());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            reader.get_mut().write_all(answer).unwrap();
            if sent.send((head, body)).is_err() {
                return;
            }
        }
    });
    (port, exports)
}

/// Whether `part` occurs in `body`.
fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

/// A string attribute as protobuf has it: `KeyValue { key = 1, value = 2: AnyValue { string_value = 1 } }`.
fn text(key: &str, value: &str) -> Vec<u8> {
    let length = |bytes: &str| u8::try_from(bytes.len()).unwrap();
    [&[0x0a, length(key)], key.as_bytes(), &[0x12, length(value) + 2, 0x0a, length(value)], value.as_bytes()].concat()
}

/// An integer attribute below 128: `AnyValue { int_value = 3 }`.
fn number(key: &str, value: u8) -> Vec<u8> {
    [&[0x0a, u8::try_from(key.len()).unwrap()], key.as_bytes(), &[0x12, 2, 0x18, value]].concat()
}

#[test]
fn a_collector_gets_the_spans() {
    let (port, exports) = collector();
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut server = Server::start(&["--otlp-endpoint", &endpoint, "--otlp-service-name", "of-a-test"]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", trace), ("x-request-id", "r-77")];
    let body = json!({"inputs": ["a", "b c"]}).to_string();
    let answer = server.request("POST", "/embed", &headers, body.as_bytes());
    let tokens: u8 = answer.header("x-compute-tokens").unwrap().parse().unwrap();
    assert_eq!(answer.header("traceparent").as_deref(), Some(trace));
    server.get("/health");
    // When the service ends, it sends the spans that are left.
    server.end();
    let (head, body) = exports.recv_timeout(DEADLINE).unwrap();
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    for part in [
        text("service.name", "of-a-test"),
        text("http.request.method", "POST"),
        text("http.route", "/embed"),
        text("trivec.request_id", "r-77"),
        number("trivec.texts", 2),
        number("trivec.tokens", tokens),
        b"POST /embed".to_vec(),
        b"trivec.queue_ms".to_vec(),
        b"trivec.tokenize_ms".to_vec(),
        b"trivec.encode_ms".to_vec(),
        // The ids of the caller's trace and of the caller's span, which is the parent.
        0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes().to_vec(),
        0xb7ad_6b71_6920_3331_u64.to_be_bytes().to_vec(),
    ] {
        assert!(
            contains(&body, &part),
            "{} is not in {}",
            String::from_utf8_lossy(&part),
            String::from_utf8_lossy(&body)
        );
    }
    assert!(!contains(&body, b"/health"), "probes are no news");
}

#[test]
fn without_its_collector_the_service_answers_and_logs_the_failure() {
    let away = ClosedPort::new();
    let endpoint = format!("http://127.0.0.1:{}", away.port);
    let mut server = Server::start(&["--otlp-endpoint", &endpoint]);
    assert_eq!(server.post("/embed", &json!({"inputs": "a"})).status, 200);
    let log = server.end();
    assert!(log.contains("spans could not be sent"), "{log}");
    let wrong = http::trivec().args(["serve", "--port", "0", "--otlp-endpoint", "collector:4318"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn the_variable_of_opentelemetry_names_the_collector_too() {
    let (port, exports) = collector();
    let mut command = http::trivec();
    command.args(["serve", "--port", "0"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"));
    let mut server = Server::run(command);
    assert_eq!(server.post("/embed", &json!({"inputs": "a"})).status, 200);
    server.end();
    let (head, body) = exports.recv_timeout(DEADLINE).unwrap();
    assert!(head.starts_with("POST /v1/traces ") && contains(&body, &text("service.name", "trivec")), "{head}");
}
