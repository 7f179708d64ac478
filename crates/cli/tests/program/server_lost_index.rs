//! `trivec serve --index` while its index is damaged, removed, replaced by another, or of another model.

use std::fs;
use std::io::Write;

use serde_json::json;
use trivec_search::{Index, IndexOptions, ModelId};
use trivec_testing::http::Server;

use super::server_search::{Fixture, JSON, done, keys, refused, send};

#[test]
fn a_damaged_index_is_reported_and_other_routes_still_answer() {
    let fixture = Fixture::new();
    let server = fixture.reading();
    let segments = fixture.path("notes/seg");
    for entry in fs::read_dir(&segments).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".docs") {
            let mut bytes = fs::read(entry.path()).unwrap();
            // Byte 100 lies behind the header, in the text of a document. The file is overwritten in place, because the service has it
            // mapped.
            bytes[100] ^= 1;
            let mut file = fs::OpenOptions::new().write(true).open(entry.path()).unwrap();
            file.write_all(&bytes).unwrap();
        }
    }
    for answer in [server.post("/v1/search", &json!({"query": "carrots"})), server.get("/v1/documents/soup")] {
        assert_eq!((answer.status, refused(&answer).1.as_str()), (500, "index_damaged"), "{answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(fixture.0.path().to_str().unwrap()), "{answer:?}");
    }
    assert!(server.log_with("an index failed").contains(segments.to_str().unwrap()), "the log names the file");
    assert_eq!(server.post("/v1/encode", &json!({"input": "a"})).status, 200);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_removed_index_is_reported_as_gone_and_not_as_damaged() {
    let fixture = Fixture::new();
    let server = fixture.writing(&[]);
    done(send(&server, "POST", "/v1/search", JSON, r#"{"query": "carrots"}"#));
    fs::remove_dir_all(fixture.path("notes")).unwrap();
    for answer in [
        send(&server, "POST", "/v1/search", JSON, r#"{"query": "carrots"}"#),
        send(&server, "GET", "/v1/documents/soup", JSON, ""),
        send(&server, "GET", "/v1/index", JSON, ""),
        send(&server, "POST", "/v1/documents", JSON, r#"{"id": "a", "text": "b"}"#),
    ] {
        assert_eq!((answer.status, refused(&answer).1.as_str()), (500, "index_gone"), "{answer:?}");
    }
    assert_eq!(server.get("/health").status, 200);
    let ready = server.get("/ready");
    assert_eq!((ready.status, refused(&ready).1.as_str()), (503, "index_gone"), "{ready:?}");
}

#[test]
fn another_index_in_the_place_of_the_served_one_is_reported_as_such() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let server = fixture.writing(&[]);
    let post = |path: &str, body: &str| send(&server, "POST", path, JSON, body);
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(done(post("/v1/documents?commit=false", r#"{"id": "a", "text": "b"}"#))["added"], 1);
    fs::rename(fixture.path("notes"), fixture.path("away")).unwrap();
    fs::rename(other.path("notes"), fixture.path("notes")).unwrap();
    for answer in [
        post("/v1/search", r#"{"query": "carrots"}"#),
        send(&server, "GET", "/v1/documents/soup", JSON, ""),
        send(&server, "GET", "/v1/index", JSON, ""),
        // The pending document belongs to the index that is gone, and must not go into the other one.
        post("/v1/index/commit", ""),
        post("/v1/documents", r#"{"id": "c", "text": "d"}"#),
        post("/v1/index/compact", ""),
    ] {
        assert_eq!((answer.status, refused(&answer).1.as_str()), (500, "index_gone"), "{answer:?}");
        assert!(answer.json()["error"]["message"].to_string().contains("another index is in the place"), "{answer:?}");
    }
    let ready = server.get("/ready");
    assert_eq!((ready.status, refused(&ready).1.as_str()), (503, "index_gone"), "{ready:?}");
    // The other index is still sound.
    assert_eq!(fixture.json(&["index", "notes", "--check", "--json"])["sound"], true);
    // The served index comes back.
    fs::rename(fixture.path("notes"), other.path("notes")).unwrap();
    fs::rename(fixture.path("away"), fixture.path("notes")).unwrap();
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(keys(&done(post("/v1/search", r#"{"query": "carrots"}"#)))[0], "soup");
}

#[test]
fn a_reload_refuses_a_model_with_other_vectors_than_the_index() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture(tempfile::tempdir().unwrap());
    // The service loads its model by a link, which then points to another model.
    let link = fixture.path("model");
    symlink(trivec_testing::data("models/f32-h64"), &link).unwrap();
    let model = trivec::Model::load(&link).unwrap();
    let id = ModelId::of(&model).unwrap();
    Index::create(fixture.path("notes"), &id, &IndexOptions::default()).unwrap();
    let server = Server::start(&["--model", link.to_str().unwrap(), "--index", &fixture.shown("notes")]);
    fs::remove_file(&link).unwrap();
    symlink(trivec_testing::data("models/bf16-h60"), &link).unwrap();
    server.signal("HUP");
    let log = server.log_with("the old one stays");
    assert!(log.contains("has the model"), "{log}");
    assert_eq!(keys(&done(server.post("/v1/search", &json!({"query": "x"})))), Vec::<&str>::new());
}
