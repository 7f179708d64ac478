//! `trivec serve --index`: searches, documents and indexes over HTTP, compared with the command line; who may write; the status for every bad
//! input; clients that disconnect. `server_lost_index` tests what happens to the index itself.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use trivec_search::Index;
use trivec_testing::http::{Answer, Server};
use trivec_testing::program::trivec;

const DOCUMENTS: &str = r#"{"id": "phone", "text": "Apple has launched a new iPhone. It is sold from Friday on.", "lang": "en", "year": 2024}
{"id": "soup", "title": "Dinner", "text": "A soup of carrots and leek is cooked for half an hour.", "lang": "en", "year": 2020}
{"id": "train", "text": "The night train to Vienna leaves at nine in the evening.", "lang": "en", "year": 2021}
{"id": "a/buch?", "text": "Ich lese abends gern ein gutes Buch.", "lang": "de", "year": 2022}
"#;

const KEY: &str = "the-key";
pub(super) const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

/// A directory with an index.
pub(super) struct Fixture(pub(super) TempDir);

impl Fixture {
    /// Indexes the four documents as `notes`.
    pub(super) fn new() -> Fixture {
        let fixture = Fixture(tempfile::tempdir().unwrap());
        fs::write(fixture.path("docs.jsonl"), DOCUMENTS).unwrap();
        fixture.ok(&["index", "notes", "--input", "docs.jsonl"]);
        fixture
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn shown(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The standard output of a run of `trivec` that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = trivec().current_dir(self.0.path()).arg("-q").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Starts a service that only reads the index.
    pub(super) fn reading(&self) -> Server {
        Server::start(&["--index", &self.shown("notes")])
    }

    /// Starts a service that also writes, for clients with the key.
    pub(super) fn writing(&self, more: &[&str]) -> Server {
        let index = self.shown("notes");
        Server::start(&[&["--index", index.as_str(), "--index-write", "--api-key", KEY], more].concat())
    }
}

/// Sends a request with the key; `kind` is one more header.
pub(super) fn send(server: &Server, method: &str, path: &str, kind: (&str, &str), body: &str) -> Answer {
    server.request(method, path, &[("authorization", &format!("Bearer {KEY}")), kind], body.as_bytes())
}

/// The JSON of an answer, which must have the status 200.
#[track_caller]
pub(super) fn done(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// The status, the code and the parameter of an error in the shape that all routes but those of text-embeddings-inference have.
#[track_caller]
pub(super) fn refused(answer: &Answer) -> (u16, String, String) {
    let error = &answer.json()["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{answer:?}");
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("param"))
}

/// The keys of the hits, in their order.
pub(super) fn keys(found: &Value) -> Vec<&str> {
    found["hits"].as_array().unwrap().iter().map(|hit| hit["document"]["key"].as_str().unwrap()).collect()
}

/// Removes the timings, which must be there, from what was found.
fn without_timings(mut found: Value) -> Value {
    assert!(found["timings"]["total_ms"].as_f64().unwrap() > 0.0, "{found}");
    found.as_object_mut().unwrap().remove("timings");
    found
}

#[test]
fn the_route_finds_what_the_command_line_finds() {
    let fixture = Fixture::new();
    let server = fixture.reading();
    let question = "苹果公司发布新手机";
    let cases: [(Value, &[&str]); 8] = [
        (json!({}), &[]),
        (json!({"explain": true}), &["--explain"]),
        (json!({"snippets": true, "top": 2}), &["--snippets", "--top", "2"]),
        (json!({"arms": ["dense", "sparse"], "rerank": 0}), &["--arms", "dense,sparse", "--rerank", "0"]),
        (
            json!({"fusion": "rrf-textbook", "arms": "bm25,dense"}),
            &["--fusion", "rrf-textbook", "--arms", "bm25,dense"],
        ),
        (json!({"fusion": {"kind": "share", "weight": 0.5}}), &["--fusion", "share=0.5"]),
        (json!({"fusion": {"kind": "weighted"}, "lang": "zh"}), &["--fusion", "weighted", "--lang", "zh"]),
        (
            json!({"filter": "year >= 2021 and lang = \"en\"", "top": 10.0}),
            &["--filter", "year >= 2021 and lang = \"en\""],
        ),
    ];
    for (mut body, args) in cases {
        body["query"] = json!(question);
        let found = done(server.post("/v1/search", &body));
        let said = fixture.json(&[&["search", "notes", question, "--json"], args].concat());
        assert_eq!(without_timings(found), without_timings(said), "{body}");
    }
    let found = done(server.post("/v1/search", &json!({"query": question, "explain": true})));
    assert_eq!(keys(&found)[0], "phone");
    assert!(!found["hits"][0]["explanation"]["alignment"].as_array().unwrap().is_empty());
    let short = done(server.post("/v1/search", &json!({"query": question, "snippets": true})));
    let (all, short) = (&found["hits"][0]["explanation"], &short["hits"][0]["explanation"]);
    assert_eq!(short["snippet"], all["snippet"]);
    assert_eq!(short["alignment"], json!([]));
    // Statistics of the index, and metrics of the ten searches above.
    let stats = done(server.get("/v1/index"));
    let said = fixture.json(&["index", "notes", "--stats", "--json"]);
    for name in ["documents", "deleted", "segments", "commits", "languages", "colbert", "bytes"] {
        assert_eq!(stats[name], said[name], "{name}");
    }
    assert_eq!((&stats["index"], &stats["write"]), (&json!("notes"), &json!(false)));
    let indexes = &server.get("/v1/status").json()["indexes"];
    assert_eq!(*indexes, json!([{"name": "notes", "documents": 4, "entries": 4, "write": false}]));
    let metric = |name: &str| server.metric(name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(metric("trivec_index_documents{index=\"notes\"}"), 4.0);
    assert_eq!(metric("trivec_index_entries{index=\"notes\"}"), 4.0);
    assert_eq!(metric("trivec_search_phase_seconds_count{phase=\"total\"}"), 10.0);
    assert_eq!(metric("trivec_search_arm_seconds_count{arm=\"dense\"}"), 10.0);
    assert_eq!(metric("trivec_search_arm_seconds_count{arm=\"bm25\"}"), 9.0);
    assert_eq!(metric("trivec_search_phase_seconds_count{phase=\"filter\"}"), 1.0);
}

#[test]
fn a_question_that_is_cut_is_reported() {
    let fixture = Fixture::new();
    fixture.ok(&["index", "short", "--input", "docs.jsonl", "--max-length", "8"]);
    let server = Server::start(&["--index", &fixture.shown("short")]);
    for (question, is_cut) in [("soup", false), ("a soup of carrots and leek that is cooked for half an hour", true)] {
        let found = done(server.post("/v1/search", &json!({"query": question})));
        assert_eq!(found["query_truncated"], json!(is_cut));
        let said = fixture.json(&["search", "short", question, "--json"]);
        assert_eq!(without_timings(found), without_timings(said));
    }
    assert_eq!(server.metric("trivec_searches_cancelled_total"), Some(0.0));
}

#[test]
fn a_cross_encoder_of_the_service_reorders_the_best() {
    let fixture = Fixture::new();
    let reranker = trivec_testing::data("rerankers/reranker-h48");
    let reranker = reranker.to_str().unwrap();
    let server = Server::start(&["--index", &fixture.shown("notes"), "--reranker", reranker]);
    assert_eq!(server.get("/v1/status").json()["reranker"], json!(true));
    let question = "a soup of carrots";
    for (body, args) in [
        (json!({"reranker_top": 20}), &["--reranker-top", "20"][..]),
        (json!({"reranker_top": 2}), &["--reranker-top", "2"]),
        (json!({"reranker_top": 3, "top": 1, "explain": true}), &["--reranker-top", "3", "--top", "1", "--explain"]),
    ] {
        let mut body = body;
        body["query"] = json!(question);
        let found = done(server.post("/v1/search", &body));
        let said = fixture.json(&[&["search", "notes", question, "--json", "--reranker", reranker], args].concat());
        assert!(found["hits"][0]["arms"]["reranker"]["score"].is_number(), "{found}");
        assert_eq!(without_timings(found), without_timings(said), "{body}");
    }
    let plain = done(server.post("/v1/search", &json!({"query": question, "reranker_top": 0})));
    assert!(plain["hits"][0]["arms"].get("reranker").is_none());
    let refused_with = |body: Value| refused(&server.post("/v1/search", &body));
    let of = |what: &str| (422, "invalid_value".to_owned(), what.to_owned());
    assert_eq!(refused_with(json!({"query": question, "reranker_top": 10_001})), of("reranker_top"));
    assert_eq!(refused_with(json!({"query": question, "reranker_top": 101, "explain": true})), of("reranker_top"));
    let without = fixture.reading();
    assert_eq!(refused(&without.post("/v1/search", &json!({"query": "x", "reranker_top": 5}))), of("reranker_top"));
    // A model that is no cross-encoder is refused.
    let embedder = trivec_testing::data("models/f32-h64");
    let index = fixture.shown("notes");
    let args = ["serve", "--port", "0", "--index", &index, "--reranker", embedder.to_str().unwrap()];
    let output = trivec().args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("--reranker: ") && said.contains("no reranking head"),
        "{said}"
    );
}

#[test]
fn a_service_without_its_index_does_not_start() {
    let fixture = Fixture::new();
    let fails = |code: i32, args: &[&str]| {
        let output = trivec().current_dir(fixture.0.path()).args(["serve", "--port", "0"]).args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    };
    assert!(fails(3, &["--index", "none"]).contains("none: there is no index"));
    let other = trivec_testing::data("models/f32-h64");
    let said = fails(4, &["--index", "notes", "--model", other.to_str().unwrap()]);
    assert!(said.contains("starter") && said.contains("f32-h64"), "{said}");
    assert!(fails(2, &["--index", "notes", "--index", "notes"]).contains("two indexes are called `notes`"));
    assert!(fails(2, &["--index", "x="]).contains("--index"));
    let said = fails(2, &["--index", "notes", "--index-write"]);
    assert!(said.contains("--index-write") && said.contains("API key"), "{said}");
    let writing = ["--index", "notes", "--index-write", "--api-key", KEY];
    let said = fails(2, &[writing.as_slice(), &["--index-snapshots", "no-directory"]].concat());
    assert!(said.contains("--index-snapshots"), "{said}");
    assert!(fails(2, &["--index-write"]).contains("without --index"));
    // The index can be named by a variable, as with other options.
    let mut command = trivec();
    command.env("TRIVEC_INDEX", fixture.path("notes")).args(["serve", "--port", "0"]);
    let server = Server::run(command);
    assert_eq!(keys(&done(server.post("/v1/search", &json!({"query": "carrots", "top": 1})))), ["soup"]);
}

#[test]
fn bad_searches_are_refused_by_the_field_that_is_wrong() {
    let fixture = Fixture::new();
    let server = Server::start(&["--index", &format!("n={}", fixture.shown("notes")), "--max-body", "2000000"]);
    let ask = |body: &str| server.request("POST", "/v1/search", &[JSON], body.as_bytes());
    let with = |field: &str, value: &str| ask(&format!(r#"{{"query": "x", "{field}": {value}}}"#));
    assert_eq!(keys(&done(with("top", "0"))), Vec::<&str>::new());
    let parentheses = format!("\"{}a = 1{}\"", "(".repeat(10_000), ")".repeat(10_000));
    let long = format!("\"a = 1{}\"", " or a = 1".repeat(100_000));
    for (field, value, code) in [
        ("top", "1000000000", "invalid_value"),
        ("top", "-1", "invalid_value"),
        ("top", "1e999", "invalid_value"),
        ("top", "1.5", "invalid_value"),
        ("rerank", "10001", "invalid_value"),
        ("candidates", "1e9", "invalid_value"),
        ("rerank_share", "-0.5", "invalid_value"),
        ("rerank_share", "1e39", "invalid_value"),
        ("arms", "[]", "invalid_value"),
        ("arms", "[\"dens\"]", "invalid_value"),
        ("fusion", "\"best\"", "invalid_value"),
        ("fusion", "\"share=NaN\"", "invalid_value"),
        ("fusion", "{\"kind\": \"share\", \"weight\": -1}", "invalid_value"),
        ("fusion", "{\"kind\": \"share\", \"wight\": 1}", "invalid_value"),
        ("fusion", "{\"kind\": \"rrf\", \"k\": 0, \"gate\": 0, \"weights\": [0, 0, 0]}", "invalid_value"),
        ("filter", "\"year >\"", "invalid_value"),
        ("filter", &parentheses, "invalid_value"),
        ("filter", &long, "invalid_value"),
        ("filter", "\"'; drop table documents; --\"", "invalid_value"),
        ("lang", "\"xx\"", "invalid_value"),
        ("lang", "\"\"", "invalid_value"),
        ("lang", "\"german\"", "invalid_value"),
        ("index", "\"other\"", "index_not_found"),
        ("explain", "\"yes\"", "invalid_value"),
    ] {
        let answer = with(field, value);
        let (status, found, param) = refused(&answer);
        assert!(status == 422 || (status == 404 && field == "index"), "{field} {value}: {answer:?}");
        assert_eq!(found, code, "{field}");
        assert!(param.starts_with(field), "{field}: {param}");
    }
    assert_eq!(refused(&ask(r#"{"query": "x", "top": 101, "explain": true}"#)).2, "top");
    assert_eq!(refused(&ask(r#"{"query": "x", "more": 1}"#)).2, "more");
    assert_eq!(refused(&ask("{}")).2, "query");
    assert_eq!(refused(&ask(r#"{"query": 5}"#)).2, "query");
    assert_eq!(refused(&with("top", "NaN")).0, 400);
    assert_eq!(refused(&ask(&format!(r#"{{"query": "{}"}}"#, "x".repeat(1_100_000)))).2, "query");
    let large = refused(&ask(&format!(r#"{{"query": "{}"}}"#, "x".repeat(2_100_000))));
    assert_eq!((large.0, large.1.as_str()), (413, "body_too_large"));
    assert_eq!(refused(&server.request("POST", "/v1/search", &[("content-type", "text/plain")], b"{}")).0, 415);
    assert_eq!(refused(&server.get("/v1/search")).0, 405);
    // A question without a visible character is refused; one of punctuation and a long one are answered.
    for query in ["", " \n", "\u{0}\u{200b}"] {
        let empty = refused(&server.post("/v1/search", &json!({"query": query})));
        assert_eq!(empty, (422, "invalid_value".to_owned(), "query".to_owned()), "{query:?}");
    }
    for query in ["!?", &"many different words ".repeat(2_000)] {
        assert_eq!(done(server.post("/v1/search", &json!({"query": query})))["hits"].as_array().unwrap().len(), 4);
    }
    assert_eq!(refused(&server.get("/v1/documents/none")).1, "document_not_found");
    assert_eq!(refused(&server.get("/v1/index?index=none")).1, "index_not_found");
    assert_eq!(refused(&server.get("/v1/index?what=none")).0, 422);
    assert_eq!(done(server.get("/v1/documents/a%2Fbuch%3F?index=n"))["lang"], "de");
    let none = Server::start(&[]);
    for answer in [none.post("/v1/search", &json!({"query": "x"})), none.get("/v1/index"), none.get("/v1/documents/x")]
    {
        assert_eq!(refused(&answer).1, "index_not_found");
    }
    assert_eq!(none.get("/v1/status").json()["indexes"], json!([]));
}

#[test]
fn documents_are_added_read_and_deleted() {
    let fixture = Fixture::new();
    let server = fixture.writing(&[]);
    let post = |path: &str, kind, body: &str| send(&server, "POST", path, kind, body);
    let search = |query: &str| done(post("/v1/search", JSON, &json!({"query": query}).to_string()));
    let delete = |path: &str| done(send(&server, "DELETE", path, JSON, ""));
    // A list in which two documents are bad; lines of JSON; a single document, in the form in which the service returns it.
    let list = json!([
        {"id": "bee", "text": "Bees make honey in summer.", "year": 2001, "tag": ["animal", "food"]},
        {"id": "bad"},
        {"key": "cat", "text": "The cat sleeps on the warm stove.", "metadata": {"year": 2002}},
        {"key": "", "text": "no key"},
    ]);
    let answer = done(post("/v1/documents", JSON, &list.to_string()));
    assert_eq!((&answer["added"], &answer["refused"], &answer["committed"]), (&json!(2), &json!(2), &json!(true)));
    assert_eq!((&answer["errors"][0]["index"], &answer["errors"][1]["index"]), (&json!(1), &json!(3)));
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("no `text`"), "{answer}");
    assert_eq!(keys(&search("Honig von Bienen"))[0], "bee");
    let lines = "{\"id\": \"bee\", \"text\": \"Bees dance.\"}\n\n{\"id\": \"dog\", \"text\": \"A dog barks at the postman.\"}\n";
    assert_eq!(done(post("/v1/documents", LINES, lines))["added"], 2);
    let bee = done(send(&server, "GET", "/v1/documents/bee", JSON, ""));
    assert_eq!(bee, json!({"key": "bee", "text": "Bees dance."}), "it was replaced");
    assert_eq!(done(post("/v1/documents", JSON, &bee.to_string()))["added"], 1);
    assert_eq!(fixture.json(&["get", "notes", "bee"]), bee, "other processes see it");
    assert_eq!(done(post("/v1/documents", JSON, "[]"))["added"], 0);
    // A filter with a field that no document has is refused, and pending documents are not lost by it.
    assert_eq!(done(post("/v1/documents?commit=false", JSON, r#"{"id": "ant", "text": "An ant."}"#))["added"], 1);
    for answer in [
        post("/v1/search", JSON, r#"{"query": "bees", "filter": "yaer > 2000"}"#),
        send(&server, "DELETE", "/v1/documents?filter=yaer%20%3E%202000", JSON, ""),
    ] {
        let message = answer.json()["error"]["message"].to_string();
        assert_eq!((refused(&answer).0, refused(&answer).2.as_str()), (422, "filter"), "{answer:?}");
        assert!(message.contains("`yaer`") && message.contains("year") && !message.contains("lost"), "{message}");
    }
    // Nor are they lost by a filter that compares a number with text.
    for answer in [
        post("/v1/search", JSON, r#"{"query": "bees", "filter": "year = '2021'"}"#),
        send(&server, "DELETE", "/v1/documents?filter=year%20%3D%20%272021%27", JSON, ""),
    ] {
        let message = answer.json()["error"]["message"].to_string();
        assert_eq!((refused(&answer).0, refused(&answer).2.as_str()), (422, "filter"), "{answer:?}");
        assert!(message.contains("`year` has numbers") && !message.contains("lost"), "{message}");
    }
    assert_eq!(done(post("/v1/index/commit", JSON, ""))["added"], 1);
    assert_eq!(delete("/v1/documents/ant")["deleted"], 1);
    // The key of a document in chunks gives the chunks, in the service as on the command line.
    let chunk = |n: usize| json!({"key": format!("long#{n}"), "text": format!("part {n}"), "document": "long"});
    assert_eq!(done(post("/v1/documents", JSON, &json!([chunk(0), chunk(1)]).to_string()))["added"], 2);
    let long = done(send(&server, "GET", "/v1/documents/long", JSON, ""));
    assert_eq!(long, json!({"key": "long", "chunks": [chunk(0), chunk(1)]}));
    assert_eq!(fixture.json(&["get", "notes", "long"]), long);
    assert_eq!(done(send(&server, "GET", "/v1/documents/long%231", JSON, "")), chunk(1));
    // A document in two chunks counts as one document and two entries everywhere.
    let counts = |said: &Value| [said["documents"].as_u64().unwrap(), said["entries"].as_u64().unwrap()];
    let all = counts(&done(send(&server, "GET", "/v1/index", JSON, "")));
    assert_eq!(all[1], all[0] + 1);
    assert_eq!(counts(&done(send(&server, "GET", "/v1/status", JSON, ""))["indexes"][0]), all);
    let metrics = String::from_utf8(send(&server, "GET", "/metrics", JSON, "").body).unwrap();
    for (what, count) in [("documents", all[0]), ("entries", all[1])] {
        assert!(metrics.contains(&format!("trivec_index_{what}{{index=\"notes\"}} {count}\n")), "{metrics}");
    }
    assert_eq!(counts(&fixture.json(&["index", "notes", "--stats", "--json"])), all);
    let found = search("bees");
    assert_eq!((&found["searched"], &found["in_chunks"]), (&json!(all[1]), &json!(true)));
    // A document whose key is taken is refused alone; a request with nothing else is refused as a whole.
    let clash = r#"{"id": "long#1", "text": "its own"}"#;
    let batch = done(post("/v1/documents", JSON, &format!(r#"[{{"id": "ant", "text": "An ant."}}, {clash}]"#)));
    assert_eq!((&batch["added"], &batch["refused"], &batch["errors"][0]["index"]), (&json!(1), &json!(1), &json!(1)));
    assert!(batch["errors"][0]["message"].as_str().unwrap().contains("has this key already"), "{batch}");
    assert_eq!(refused(&post("/v1/documents", JSON, clash)).2, "documents[0]");
    assert_eq!(delete("/v1/documents/ant")["deleted"], 1);
    assert_eq!(delete("/v1/documents/long")["deleted"], 2);
    // Deleting by a key that is not there deletes nothing; deleting without a key needs a filter.
    assert_eq!(delete("/v1/documents/a%2Fbuch%3F")["deleted"], 1);
    assert_eq!(delete("/v1/documents/a%2Fbuch%3F")["deleted"], 0);
    assert_eq!(delete("/v1/documents?filter=year%20%3E%3D%202020%20and%20lang%3D%22en%22")["deleted"], 3);
    assert_eq!(refused(&send(&server, "DELETE", "/v1/documents", JSON, "")).2, "filter");
    assert_eq!(refused(&send(&server, "DELETE", "/v1/documents?filter=year%20%3E", JSON, "")).2, "filter");
    assert_eq!(keys(&search("phone soup train Buch")).len(), 3, "bee, cat and dog are left");
    assert_eq!(done(post("/v1/index/compact", JSON, r#"{"all": true}"#))["rewritten_segments"].as_u64(), Some(7));
    assert_eq!(done(send(&server, "GET", "/v1/index", JSON, ""))["deleted"], 0);
    // The body may be empty.
    let form = ("content-type", "application/x-www-form-urlencoded");
    let none = ("x-nothing", "");
    for (kind, body) in [(JSON, "{}"), (JSON, ""), (none, "")] {
        assert_eq!(
            done(post("/v1/index/compact", kind, body))["rewritten_segments"].as_u64(),
            Some(0),
            "{kind:?} {body}"
        );
    }
    // What a form, or a page without a type, may send to any site is refused with and without a body.
    let page = ("origin", "http://localhost");
    for path in ["/v1/index/compact", "/v1/index/commit", "/v1/index/snapshot", "/v1/documents", "/admin/reload"] {
        for (kind, body) in [(form, "all=1"), (form, ""), (page, ""), (("content-type", "text/plain"), "{}")] {
            let answer = post(path, kind, body);
            assert_eq!(
                (answer.status, refused(&answer).1.as_str()),
                (415, "unsupported_media_type"),
                "{path} {kind:?}"
            );
        }
    }
    assert_eq!(refused(&post("/v1/index/commit", JSON, r#"{"all": true}"#)).2, "all");
    assert_eq!(fixture.json(&["index", "notes", "--check", "--json"])["sound"], true);
    let count =
        |what: &str| server_metric(&server, &format!("trivec_documents_total{{index=\"notes\",what=\"{what}\"}}"));
    assert_eq!((count("added"), count("refused"), count("deleted")), (Some(9.0), Some(3.0), Some(8.0)));
    // A body that cannot be parsed, or in which every document is bad, is refused as a whole.
    assert_eq!(refused(&post("/v1/documents", JSON, "[{\"id\": \"x\"")).1, "invalid_json");
    assert_eq!(refused(&post("/v1/documents", JSON, "[{\"id\": \"x\"}]")).2, "documents[0]");
    assert_eq!(refused(&post("/v1/documents", JSON, "[[], 5, null]")).2, "documents[0]");
    assert_eq!(refused(&post("/v1/documents", ("content-type", "text/csv"), "id,text")).0, 415);
    let key = "k".repeat(5000);
    assert_eq!(refused(&post("/v1/documents", JSON, &format!("{{\"id\": \"{key}\", \"text\": \"x\"}}"))).0, 422);
}

/// The number in the line of `/metrics` that begins with `name`, asked for with the key.
fn server_metric(server: &Server, name: &str) -> Option<f64> {
    let text = String::from_utf8(send(server, "GET", "/metrics", JSON, "").body).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn the_answer_says_whether_it_was_committed_also_where_the_service_did_it_by_itself() {
    let fixture = Fixture::new();
    let server = fixture.writing(&["--max-texts", "20000"]);
    let added = |from: usize, count: usize| {
        let lines: Vec<String> =
            (from..from + count).map(|n| json!({"id": format!("n{n}"), "text": "x"}).to_string()).collect();
        let answer = done(send(&server, "POST", "/v1/documents?commit=false", LINES, &lines.join("\n")));
        assert_eq!(answer["added"], json!(count));
        answer["committed"].clone()
    };
    let there = |key: &str| send(&server, "GET", &format!("/v1/documents/{key}"), JSON, "").status == 200;
    assert_eq!(added(0, 10), json!(false));
    assert!(!there("n0"));
    assert_eq!(added(10, 9_990), json!(true), "10,000 documents were pending");
    assert!(there("n0") && there("n9999"));
    assert_eq!(added(10_000, 1), json!(false));
    let deleted = |path: &str| done(send(&server, "DELETE", path, JSON, ""))["committed"].clone();
    assert_eq!(deleted("/v1/documents/n0?commit=false"), json!(false));
    assert!(there("n0") && !there("n10000"));
    assert_eq!(deleted("/v1/documents/n1"), json!(true));
    assert!(!there("n0") && !there("n1") && there("n10000"));
}

#[test]
fn what_is_pending_becomes_visible_with_a_commit() {
    let fixture = Fixture::new();
    let copies = fixture.shown("copies");
    fs::create_dir(&copies).unwrap();
    let server = fixture.writing(&["--index-snapshots", &copies]);
    let post = |path: &str, body: &str| send(&server, "POST", path, JSON, body);
    let there = |key: &str| send(&server, "GET", &format!("/v1/documents/{key}"), JSON, "").status == 200;
    let one = |key: &str| json!({"id": key, "text": format!("the text of {key}")}).to_string();
    let answer = done(post("/v1/documents?commit=false", &one("x")));
    assert_eq!((&answer["added"], &answer["committed"]), (&json!(1), &json!(false)));
    assert!(!there("x"));
    // Until the commit, the service holds the index's lock.
    let locked = Index::open(fixture.path("notes")).unwrap().writer().unwrap_err();
    assert!(matches!(locked, trivec_search::Error::Locked { .. }), "{locked}");
    assert_eq!(done(send(&server, "DELETE", "/v1/documents/soup?commit=false", JSON, ""))["deleted"], 1);
    assert!(there("soup"));
    assert_eq!(done(post("/v1/index/commit", ""))["added"], 1);
    assert!(there("x") && !there("soup"));
    assert_eq!(done(post("/v1/index/commit", ""))["added"], 0);
    drop(Index::open(fixture.path("notes")).unwrap().writer().expect("nobody writes now"));
    // A request that commits also commits what is pending.
    done(post("/v1/documents?commit=false", &one("y")));
    done(post("/v1/documents", &one("z")));
    assert!(there("y") && there("z"));
    // Snapshots go into the one directory, under plain names, and each name only once.
    assert_eq!(
        done(post("/v1/index/snapshot", r#"{"name": "monday"}"#)),
        json!({"snapshot": "monday", "documents": 6, "entries": 6})
    );
    assert_eq!(keys(&fixture.json(&["search", "copies/monday", "the text of y", "--json", "--top", "1"])), ["y"]);
    assert_eq!(refused(&post("/v1/index/snapshot", r#"{"name": "monday"}"#)).1, "exists");
    for name in ["../out", "/tmp/out", "", ".", "a/b", "a\\u0000"] {
        let answer = post("/v1/index/snapshot", &format!("{{\"name\": \"{name}\"}}"));
        assert_eq!(refused(&answer), (422, "invalid_value".to_owned(), "name".to_owned()), "{name}");
    }
    assert_eq!(fs::read_dir(&copies).unwrap().count(), 1);
    assert!(!fixture.path("out").exists());
}

#[test]
fn writes_need_index_write_and_the_key() {
    let fixture = Fixture::new();
    let writes: [(&str, &str, &str); 6] = [
        ("POST", "/v1/documents", r#"{"id": "x", "text": "y"}"#),
        ("DELETE", "/v1/documents/phone", ""),
        ("DELETE", "/v1/documents?filter=year%3E0", ""),
        ("POST", "/v1/index/commit", ""),
        ("POST", "/v1/index/compact", "{}"),
        ("POST", "/v1/index/snapshot", r#"{"name": "a"}"#),
    ];
    let index = fixture.shown("notes");
    // A service that only reads: without a key, and with one.
    let open = fixture.reading();
    let reading = Server::start(&["--index", &index, "--api-key", KEY]);
    let writing = fixture.writing(&[]);
    for (method, path, body) in writes {
        for answer in [open.request(method, path, &[JSON], body.as_bytes()), send(&reading, method, path, JSON, body)] {
            assert_eq!(refused(&answer).1, "forbidden", "{method} {path}");
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains("--index-write"), "{answer:?}");
        }
        // A service that writes wants a key, and the right one.
        for headers in [vec![JSON], vec![JSON, ("authorization", "Bearer other")]] {
            let answer = writing.request(method, path, &headers, body.as_bytes());
            assert_eq!((answer.status, refused(&answer).1.as_str()), (401, "invalid_api_key"), "{method} {path}");
        }
    }
    let snapshot = send(&writing, "POST", "/v1/index/snapshot", JSON, r#"{"name": "a"}"#);
    assert!(snapshot.json()["error"]["message"].as_str().unwrap().contains("--index-snapshots"), "{snapshot:?}");
    assert_eq!(writing.post("/v1/search", &json!({"query": "x"})).status, 401, "reading takes the key too");
    // Another process holds the index's lock.
    let other = Index::open(&index).unwrap().writer().unwrap();
    let answer = send(&writing, "POST", "/v1/documents", JSON, r#"{"id": "x", "text": "y"}"#);
    assert_eq!((answer.status, refused(&answer).1.as_str()), (409, "index_locked"));
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    drop(other);
    assert_eq!(done(send(&writing, "POST", "/v1/documents", JSON, r#"{"id": "x", "text": "y"}"#))["added"], 1);
    assert_eq!(fixture.json(&["index", "notes", "--stats", "--json"])["documents"], 5);
}

#[test]
fn a_client_that_disconnects_leaves_no_document_and_no_memory() {
    let fixture = Fixture::new();
    let server = fixture.writing(&["--log-format", "json"]);
    let documents: Vec<Value> =
        (0..2000).map(|i| json!({"id": format!("n{i}"), "text": format!("{i} {}", "word ".repeat(200))})).collect();
    let body = Value::from(documents).to_string();
    let mut stream = server.connect();
    let head = format!(
        "POST /v1/documents HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    drop(stream);
    server.logged("/v1/documents", 499);
    // The next client can write, and nothing of the first one's documents is there.
    assert_eq!(done(send(&server, "POST", "/v1/documents", JSON, r#"{"id": "x", "text": "y"}"#))["added"], 1);
    assert_eq!(done(send(&server, "GET", "/v1/index", JSON, ""))["documents"], 5);
    assert_eq!(send(&server, "GET", "/v1/documents/n0", JSON, "").status, 404);
    // Its memory is given back with the last of its jobs.
    trivec_testing::wait::wait_until("no memory in flight", || {
        server_metric(&server, "trivec_requests_in_flight_bytes").is_some_and(|bytes| bytes < 100_000.0)
    });
}

#[test]
fn hits_too_large_for_max_memory_are_refused_before_they_are_read() {
    let fixture = Fixture::new();
    let long = json!({"id": "long", "text": "carrots ".repeat(400_000)}).to_string();
    fs::write(fixture.path("long.jsonl"), long).unwrap();
    fixture.ok(&["index", "notes", "--input", "long.jsonl"]);
    let index = fixture.shown("notes");
    let server = Server::start(&["--index", &index, "--max-body", "65536", "--max-memory", "4MiB"]);
    let ask = |top: usize| {
        server.post("/v1/search", &json!({"query": "carrots", "top": top, "rerank": 0, "filter": "year >= 2000"}))
    };
    // The filter excludes the long document, which has no year.
    assert_eq!(done(ask(10))["hits"].as_array().unwrap().len(), 4);
    let all = server.post("/v1/search", &json!({"query": "carrots"}));
    assert_eq!((all.status, refused(&all).1.as_str()), (413, "request_too_large"));
    assert!(all.json()["error"]["message"].as_str().unwrap().contains("--max-memory"), "{all:?}");
    // With `top` 0 no document is read, and the question is answered.
    assert_eq!(done(server.post("/v1/search", &json!({"query": "carrots", "top": 0})))["hits"], json!([]));
}

#[test]
fn the_address_or_the_body_names_the_index() {
    let fixture = Fixture::new();
    fs::write(fixture.path("one.jsonl"), "{\"id\": \"other\", \"text\": \"Another soup.\"}\n").unwrap();
    fixture.ok(&["index", "second", "--input", "one.jsonl"]);
    let indexes =
        ["a", "b"].iter().zip(["notes", "second"]).map(|(name, path)| format!("{name}={}", fixture.shown(path)));
    let indexes: Vec<String> = indexes.collect();
    let server = Server::start(&["--index", &indexes[0], "--index", &indexes[1]]);
    let (plain, of_b) = (json!({"query": "soup"}), json!({"query": "soup", "index": "b"}));
    for (path, body, count) in [
        ("/v1/search", &plain, 4),
        ("/v1/search?index=a", &plain, 4),
        ("/v1/search?index=b", &plain, 1),
        ("/v1/search?index=b", &of_b, 1),
        ("/v1/search", &of_b, 1),
    ] {
        assert_eq!(keys(&done(server.post(path, body))).len(), count, "{path} {body}");
    }
    assert_eq!(refused(&server.post("/v1/search?index=none", &plain)).1, "index_not_found");
    assert_eq!(refused(&server.post("/v1/search?index=a", &of_b)), (422, "invalid_value".into(), "index".into()));
    assert_eq!(refused(&server.post("/v1/search?indx=b", &plain)).0, 422);
}
