//! Which requests `trivec serve` answers: those to a name of this machine, not from pages of other sites, and with JSON instead of anything
//! that an HTML form could send; and header fields as RFC 9110 defines them.

use trivec_testing::http;

use std::io::Write;

use http::{Answer, Server, trivec};
use serde_json::{Value, json};

/// Sends a head and a body as they are, with the headers that close the connection and give the body's length.
fn send(server: &Server, head: &str, body: &str) -> Answer {
    let request = format!("{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    server.raw(request.as_bytes()).unwrap_or_else(|| panic!("no answer to {head}"))
}

/// The code of an error, which must have the shape of text-embeddings-inference (`tei`) or that of the other routes.
fn code(answer: &Answer, tei: bool) -> String {
    let json = answer.json();
    if tei {
        assert!(json["error"].is_string() && json["error_type"].is_string(), "{json}");
        return json["error_type"].as_str().unwrap().to_owned();
    }
    let error = json["error"].as_object().unwrap_or_else(|| panic!("{json}"));
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "param", "type"]);
    json["error"]["code"].as_str().unwrap().to_owned()
}

/// Values of `Host` that name this machine.
const OWN: [&str; 15] = [
    "localhost",
    "localhost:8737",
    "LocalHost:1",
    "localhost.",
    "localhost.:80",
    "localhost:",
    "app.localhost",
    "a.b.localhost:3000",
    "127.0.0.1",
    "127.0.0.1:8737",
    "127.255.3.4:1",
    "127.0.0.1.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]:8737",
    "[::ffff:127.0.0.1]",
];
/// Values of `Host` that name another machine, or may.
const FOREIGN: [&str; 22] = [
    "evil.test",
    "evil.test:8737",
    "EVIL.TEST",
    "localhost.evil.test",
    "127.0.0.1.evil.test",
    "127.0.0.1.nip.io",
    "evillocalhost",
    ".localhost",
    "localhost..",
    "",
    "0.0.0.0",
    "[::]",
    "[::2]",
    "10.0.0.1",
    "128.0.0.1",
    "169.254.169.254",
    // These are not how an address is written, but a resolver may take them for one.
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.0.0.1.1",
    "%6cocalhost",
];
/// Values of `Host` that are malformed.
const MALFORMED: [&str; 12] = [
    "localhost:x",
    "localhost:99999",
    "localhost:80:80",
    "localhost, evil.test",
    "localhost evil.test",
    "evil.test@localhost",
    "http://localhost",
    "localhost/",
    "[::1",
    "[localhost]",
    "::1",
    "[::1]x",
];

#[test]
fn only_names_of_this_machine_are_answered() {
    let server = Server::start(&[]);
    let get = |path: &str, host: &str| send(&server, &format!("GET {path} HTTP/1.1\r\nhost: {host}"), "");
    for host in OWN {
        assert_eq!(get("/v1/status", host).status, 200, "{host}");
        let answer = send(
            &server,
            &format!("POST /embed HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncontent-type: application/json"),
            "{\"inputs\":\"a\"}",
        );
        assert_eq!(answer.status, 200, "the page of {host}: {answer:?}");
    }
    for host in FOREIGN {
        let answer = get("/v1/status", host);
        assert_eq!((answer.status, code(&answer, false).as_str()), (403, "host_not_allowed"), "{host}");
    }
    for host in MALFORMED {
        let answer = get("/v1/status", host);
        assert_eq!((answer.status, code(&answer, false).as_str()), (400, "bad_host"), "{host}");
    }
    // Every route refuses, in the shape of its dialect.
    for (method, path, tei) in [
        ("GET", "/", true),
        ("POST", "/", true),
        ("POST", "/embed", true),
        ("GET", "/info", true),
        ("POST", "/v1/embeddings", false),
        ("GET", "/metrics", false),
        ("GET", "/health", false),
        ("GET", "/main.js", false),
        ("GET", "/openapi.json", false),
        ("POST", "/admin/reload", false),
        ("DELETE", "/v1/encode", false),
        ("GET", "/nothing/here", false),
    ] {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: evil.test:8737\r\norigin: http://evil.test:8737");
        let answer = send(&server, &head, "{\"input\":\"x\"}");
        assert_eq!(answer.status, 403, "{method} {path}");
        code(&answer, tei);
    }
    let said = get("/v1/status", "evil.test:1").json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("evil.test") && said.contains("--allowed-host"), "{said}");
}

#[test]
fn a_request_names_its_host_once_and_its_target_counts() {
    let server = Server::start(&[]);
    let status = |head: &str| send(&server, head, "").status;
    for (head, expected) in [
        ("GET /health HTTP/1.1", 400),
        ("GET /health HTTP/1.1\r\nhost: localhost\r\nhost: localhost", 400),
        ("GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.test", 400),
        ("GET http://localhost:8737/health HTTP/1.1\r\nhost: localhost:8737", 200),
        ("GET http://evil.test/health HTTP/1.1\r\nhost: localhost", 403),
        ("GET http://localhost/health HTTP/1.1\r\nhost: evil.test", 200),
        ("GET http://localhost@evil.test/health HTTP/1.1\r\nhost: localhost", 400),
        ("GET http://evil.test@localhost/health HTTP/1.1\r\nhost: localhost", 400),
        ("GET http://localhost/health HTTP/1.1", 400),
        // Only HTTP/1.0 may leave `Host` out; no browser speaks that.
        ("GET /health HTTP/1.0", 200),
        ("GET /health HTTP/1.0\r\nhost: evil.test", 403),
    ] {
        assert_eq!(status(head), expected, "{head}");
    }
}

/// The status of a POST with this `Host` and these headers; a refusal must be one of a cross-site request.
fn posted(server: &Server, host: &str, headers: &[&str]) -> u16 {
    let lines: String = headers.iter().map(|line| format!("\r\n{line}")).collect();
    let head = format!("POST /v1/embeddings HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json{lines}");
    let answer = send(server, &head, "{\"input\":\"a\"}");
    if answer.status != 200 {
        assert_eq!((answer.status, code(&answer, false).as_str()), (403, "cross_site_request"), "{headers:?}");
    }
    answer.status
}

#[test]
fn pages_of_other_sites_cannot_make_the_service_compute() {
    let server = Server::start(&[]);
    let own = format!("localhost:{}", server.port);
    let same = format!("origin: http://{own}");
    for (headers, status) in [
        (&[][..], 200),
        (&[same.as_str()], 200),
        (&[same.as_str(), "sec-fetch-site: same-origin"], 200),
        (&["sec-fetch-site: none"], 200),
        (&["sec-fetch-site: same-origin"], 200),
        (&["origin: https://evil.test"], 403),
        (&["origin: https://evil.test", "sec-fetch-site: cross-site"], 403),
        (&["sec-fetch-site: cross-site"], 403),
        (&["sec-fetch-site: same-site"], 403),
        (&["sec-fetch-site: same-origin", "sec-fetch-site: cross-site"], 403),
        (&["sec-fetch-site: nonsense"], 403),
        (&["origin: null"], 403),
        (&["origin:"], 403),
        (&["origin: localhost"], 403),
        (&["origin: file://"], 403),
        (&["origin: chrome-extension://abcdefgh"], 403),
        // Another port of this machine is another origin.
        (&["origin: http://localhost:1"], 403),
        (&["origin: http://localhost"], 403),
        (&["origin: http://127.0.0.1:8737"], 403),
        (&[same.as_str(), "origin: https://evil.test"], 403),
    ] {
        assert_eq!(posted(&server, &own, headers), status, "{headers:?}");
    }
    // Browsers leave the default port of a scheme out.
    for (host, origin) in [
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("app.localhost", "https://app.localhost:443"),
    ] {
        assert_eq!(posted(&server, host, &[&format!("origin: {origin}")]), 200, "{host} {origin}");
    }
    for path in ["/", "/embed", "/v1/encode", "/admin/reload", "/v1/nothing"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: {own}\r\norigin: https://evil.test");
        assert_eq!(send(&server, &head, "{}").status, 403, "{path}");
    }
    // A GET is answered: browsers themselves keep other sites' pages from reading the answer, and links and images do no harm.
    let head =
        format!("GET /health HTTP/1.1\r\nhost: {own}\r\norigin: https://evil.test\r\nsec-fetch-site: cross-site");
    assert_eq!(send(&server, &head, "").status, 200);
    assert_eq!(server.get("/v1/status").json()["latency"]["count"], json!(8), "nothing else was computed");
}

#[test]
fn bodies_that_are_not_json_are_refused() {
    let server = Server::start(&[]);
    for (path, body, tei) in [
        ("/v1/embeddings", "{\"input\":\"a\"}", false),
        ("/embed", "{\"inputs\":\"a\"}", true),
        ("/", "{\"inputs\":\"a\"}", true),
    ] {
        let send = |header: &str| send(&server, &format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{header}"), body);
        for kind in [
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=b",
            "text/json",
        ] {
            let answer = send(&format!("content-type: {kind}"));
            assert_eq!(answer.status, 415, "{path} {kind}");
            code(&answer, tei);
            let said = String::from_utf8(answer.body).unwrap();
            assert!(said.contains(kind.split(';').next().unwrap()) && said.contains("application/json"), "{said}");
        }
        assert_eq!(send("content-type: application/json; charset=utf-16").status, 415);
        assert_eq!(send("origin: http://localhost").status, 415, "a browser says what it sends");
        for kind in
            ["content-type: APPLICATION/JSON ; charset=\"UTF-8\"", "content-type: application/ld+json", "x-none: 1"]
        {
            assert_eq!(send(kind).status, 200, "{kind}");
        }
    }
    let form = send(
        &server,
        "POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded",
        "{}",
    );
    assert!(form.json()["error"].as_str().unwrap().contains("curl -d"), "{form:?}");
}

#[test]
fn compressed_bodies_are_refused_by_name() {
    use std::io::Read;
    let server = Server::start(&[]);
    let mut gzip = Vec::new();
    flate2::read::GzEncoder::new(&b"{\"input\":\"a\"}"[..], flate2::Compression::fast())
        .read_to_end(&mut gzip)
        .unwrap();
    let post = |coding: &str, body: &[u8]| {
        let headers = [("content-type", "application/json"), ("content-encoding", coding)];
        server.request("POST", "/v1/embeddings", &headers, body)
    };
    for coding in ["gzip", "GZip", "deflate", "br", "zstd", "identity, gzip", "rot13"] {
        let answer = post(coding, &gzip);
        assert_eq!((answer.status, code(&answer, false).as_str()), (415, "unsupported_encoding"), "{coding}");
        assert_eq!(answer.header("accept-encoding").as_deref(), Some("identity"));
        let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(coding.rsplit(", ").next().unwrap()), "{said}");
    }
    for coding in ["identity", "IDENTITY"] {
        assert_eq!(post(coding, b"{\"input\":\"a\"}").status, 200, "{coding}");
    }
}

#[test]
fn hosts_and_origins_can_be_allowed() {
    let server = Server::start(&[
        "--allowed-host",
        "Trivec.lan",
        "--allowed-host",
        "192.168.1.7",
        "--cors-origin",
        "HTTPS://App.Example:443",
    ]);
    for (host, status) in [
        ("trivec.lan", 200),
        ("TRIVEC.LAN.:9000", 200),
        ("192.168.1.7:80", 200),
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("192.168.1.8", 403),
        ("x.trivec.lan", 403),
        ("evil.test", 403),
    ] {
        assert_eq!(send(&server, &format!("GET /health HTTP/1.1\r\nhost: {host}"), "").status, status, "{host}");
    }
    let cross = ["origin: https://app.example", "sec-fetch-site: cross-site"];
    assert_eq!(posted(&server, "localhost:1", &cross), 200);
    assert_eq!(posted(&server, "localhost:1", &["origin: https://app.example:8443"]), 403);
    assert_eq!(posted(&server, "trivec.lan", &["origin: http://trivec.lan"]), 200);
    let preflight = "OPTIONS /v1/embeddings HTTP/1.1\r\nhost: localhost\r\norigin: https://app.example\r\naccess-control-request-method: \
                     POST\r\naccess-control-request-headers: authorization,content-type,x-stainless-lang";
    let answer = send(&server, preflight, "");
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("https://app.example"));
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(
        ["authorization", "content-type", "x-stainless-lang"].iter().all(|name| allowed.contains(name)),
        "{allowed}"
    );
    let refused = server.request(
        "POST",
        "/v1/embeddings",
        &[("origin", "https://app.example"), ("content-type", "text/plain")],
        b"{}",
    );
    assert_eq!(
        refused.header("access-control-allow-origin").as_deref(),
        Some("https://app.example"),
        "its errors can be read"
    );

    let all = Server::start(&["--cors-origin", "*"]);
    for origin in ["https://evil.test", "null", "chrome-extension://abc"] {
        assert_eq!(posted(&all, "localhost", &[&format!("origin: {origin}"), "sec-fetch-site: cross-site"]), 200);
    }
    let answer = all.request("GET", "/health", &[("origin", "https://a.example")], b"");
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"));
    assert_eq!(send(&all, "GET /health HTTP/1.1\r\nhost: evil.test", "").status, 403, "origins are not names");
}

#[test]
fn with_a_key_or_on_all_addresses_the_host_is_not_checked() {
    let evil = "GET /health HTTP/1.1\r\nhost: evil.test";
    let server = Server::start(&["--api-key", "k"]);
    assert_eq!(send(&server, evil, "").status, 200);
    let cross = "POST /v1/embeddings HTTP/1.1\r\nhost: evil.test\r\norigin: https://else.test\r\ncontent-type: application/json";
    assert_eq!(send(&server, cross, "{\"input\":\"a\"}").status, 401);
    assert_eq!(send(&server, &format!("{cross}\r\nauthorization: BEARER  k"), "{\"input\":\"a\"}").status, 200);
    assert_eq!(
        send(&server, &format!("{cross}\r\nauthorization: Bearer k\r\nauthorization: Bearer k"), "{}").status,
        401
    );
    assert_eq!(send(&server, "GET /health HTTP/1.1", "").status, 400, "HTTP/1.1 has a `Host`");

    let server = Server::start(&["--host", "0.0.0.0"]);
    assert_eq!(send(&server, evil, "").status, 200);
    assert_eq!(send(&server, cross, "{\"input\":\"a\"}").status, 403, "nor does it compute for other sites' pages");
    let server = Server::start(&["--host", "0.0.0.0", "--allowed-host", "trivec.lan"]);
    for (host, status) in
        [("trivec.lan", 200), ("10.1.2.3:8737", 200), ("[fd00::1]", 200), ("localhost", 200), ("evil.test", 403)]
    {
        assert_eq!(send(&server, &format!("GET /health HTTP/1.1\r\nhost: {host}"), "").status, status, "{host}");
    }
    let server = Server::start(&["--allowed-host", "*"]);
    assert_eq!(send(&server, evil, "").status, 200);
}

#[cfg(unix)]
#[test]
fn on_a_unix_socket_host_and_origin_are_not_checked() {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut child = trivec().args(["serve", "-q", "--unix-socket", path.to_str().unwrap()]).spawn().unwrap();
    let begin = std::time::Instant::now();
    let mut stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(_) => assert!(begin.elapsed().as_secs() < 60, "it does not listen"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let request = "POST /embed HTTP/1.1\r\nhost: %2Frun%2Fs\r\norigin: https://evil.test\r\nconnection: close\r\n\
                   content-type: application/json\r\ncontent-length: 14\r\n\r\n{\"inputs\":\"a\"}";
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_answer_has_the_preferred_content_type() {
    let server = Server::start(&[]);
    for (accept, status, kind) in [
        ("application/x-npy;q=0", 200, "application/json"),
        ("application/json, application/x-npy;q=0.1", 200, "application/json"),
        ("APPLICATION/X-NPY", 200, "application/x-npy"),
        ("application/json;q=0.2, application/octet-stream;q=0.3, application/x-npy;q=0.4", 200, "application/x-npy"),
        ("text/html", 200, "application/json"),
        ("*/*", 200, "application/json"),
        ("application/json;q=0", 406, "application/json"),
    ] {
        let headers = [("accept", accept), ("content-type", "application/json")];
        let answer = server.request("POST", "/v1/encode", &headers, b"{\"input\":\"x\"}");
        assert_eq!((answer.status, answer.header("content-type").as_deref()), (status, Some(kind)), "{accept}");
    }
    let etag = server.get("/").header("etag").unwrap();
    for known in [format!("\"x\", W/{etag}"), "*".to_owned(), format!("{etag} , \"y\"")] {
        assert_eq!(server.request("GET", "/", &[("if-none-match", &known)], b"").status, 304, "{known}");
    }
    assert_eq!(server.request("GET", "/", &[("if-none-match", "\"x\"")], b"").status, 200);
}

#[test]
fn errors_of_the_http_framework_have_the_shape_of_their_route() {
    let server = Server::start(&[]);
    for (method, path, status, tei, allow) in [
        ("GET", "/v1/models/%ff", 400, false, None),
        ("GET", "/%ff.js", 400, false, None),
        ("DELETE", "/%ff", 400, false, None),
        ("GET", "/v1/models/a%zz", 404, false, None),
        ("GET", "/%00", 404, false, None),
        ("GET", "/v1/%ff/x", 404, false, None),
        ("POST", "/nothing", 404, false, None),
        ("DELETE", "/nothing.js", 404, false, None),
        ("POST", "/nothing/here", 404, false, None),
        ("POST", "/main.js", 405, false, Some("GET,HEAD")),
        ("GET", "/embed", 405, true, Some("POST")),
        ("PUT", "/", 405, true, Some("GET,HEAD,POST")),
        ("POST", "/info", 405, true, Some("GET,HEAD")),
        ("PATCH", "/v1/encode", 405, false, Some("POST")),
        ("OPTIONS", "/v1/models", 405, false, Some("GET,HEAD")),
        ("DELETE", "/v1/models/a/b", 405, false, Some("GET,HEAD")),
        ("POST", "/docs", 405, false, Some("GET,HEAD")),
        #[cfg(feature = "search")]
        ("GET", "/v1/search", 405, false, Some("POST")),
        #[cfg(feature = "search")]
        ("PUT", "/v1/documents", 405, false, Some("DELETE,POST")),
        #[cfg(feature = "search")]
        ("POST", "/v1/documents/a/b", 405, false, Some("DELETE,GET,HEAD")),
        #[cfg(feature = "search")]
        ("GET", "/v1/index/snapshot", 405, false, Some("POST")),
        ("OPTIONS", "*", 404, false, None),
    ] {
        let answer = server.request(method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{method} {path}");
        let sorted = |list: &str| {
            let mut methods: Vec<String> = list.split(',').map(|method| method.trim().to_uppercase()).collect();
            methods.sort();
            methods
        };
        assert_eq!(answer.header("allow").as_deref().map(sorted), allow.map(sorted), "{method} {path}");
        code(&answer, tei);
        // The methods that a path has are those that are said to be expected; HEAD goes with GET.
        if let Some(allow) = allow {
            let mut methods: Vec<&str> = allow.split(',').filter(|method| *method != "HEAD").collect();
            methods.sort_unstable();
            let expected = format!("{method} is not how {path} is used, expected {}", methods.join(" or "));
            let said = String::from_utf8(answer.body.clone()).unwrap();
            assert!(said.contains(&expected), "{said}");
        }
        if status == 400 {
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        }
    }
    let long = format!("/{}", "x".repeat(20_000));
    assert_eq!(code(&server.get(&long), false), "not_found");
    for path in ["/v1/encode", "/nothing", "/main.js", "/"] {
        let head = format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        assert!(text.ends_with("\r\n\r\n"), "no body: {text}");
    }
    let value: Value = server.get("/v1/models/starter").json();
    assert_eq!(value["id"], "starter");
}
