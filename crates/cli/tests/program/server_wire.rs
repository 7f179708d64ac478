//! Requests as clients of other services send them, on the routes for these clients: optional fields, also as `null`; wrong fields, named
//! with their place; and answers in the shape that the clients read.

use trivec_testing::http;

use http::{Answer, Server};
use serde_json::{Map, Value, json};
use trivec::{EncodeOptions, Model, RerankOptions};

const RERANKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/rerankers/reranker-h48");

/// Starts a service with a reranker.
fn reranker(more: &[&str]) -> Server {
    Server::start(&[&["--model", RERANKER], more].concat())
}

/// Bodies for each route with the required fields, and one with an empty `parameters`. The last four are for a reranker.
fn least() -> Vec<(&'static str, Value)> {
    vec![
        ("/v1/encode", json!({"input": "a b"})),
        ("/v1/score", json!({"pairs": [["a", "b"]]})),
        ("/v1/score", json!({"query": "a", "documents": ["b"]})),
        ("/v1/explain", json!({"a": "a", "b": "b"})),
        ("/v1/embeddings", json!({"input": "a b"})),
        ("/embed", json!({"inputs": "a b"})),
        ("/embed_all", json!({"inputs": "a b"})),
        ("/embed_sparse", json!({"inputs": "a b"})),
        ("/", json!({"inputs": "a b"})),
        ("/similarity", json!({"inputs": {"source_sentence": "a", "sentences": ["b"]}})),
        ("/similarity", json!({"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {}})),
        ("/tokenize", json!({"inputs": "a b"})),
        ("/decode", json!({"ids": [5, 6]})),
        ("/v1/rerank", json!({"query": "a", "documents": ["b", "c d"]})),
        ("/v2/rerank", json!({"query": "a", "documents": ["b", "c d"]})),
        ("/rerank", json!({"query": "a", "texts": ["b", "c d"]})),
        ("/rerank", json!({"query": "a", "documents": ["b", "c d"]})),
    ]
}

/// Whether a route is trivec's own, where unknown fields are refused.
fn is_own(path: &str) -> bool {
    matches!(path, "/v1/encode" | "/v1/score" | "/v1/explain")
}

/// A service with the starter and one with a reranker, and the OpenAPI description of their routes.
struct Services {
    starter: Server,
    reranker: Server,
    spec: Value,
}

/// An optional field of a route's body, or of an object in it (`object.field`), with its schema and a body without it.
struct Case {
    path: &'static str,
    body: Value,
    field: String,
    schema: Value,
}

impl Services {
    fn start() -> Services {
        let starter = Server::start(&[]);
        let spec = starter.get("/openapi.json").json();
        Services { starter, reranker: reranker(&[]), spec }
    }

    /// Sends `body` to a route, of the reranker's service if the route reranks.
    fn send(&self, path: &str, body: &str) -> Answer {
        let server = if path.ends_with("rerank") { &self.reranker } else { &self.starter };
        server.request("POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// The fields of a schema, also of one that is named by reference.
    fn properties(&self, schema: &Value) -> Map<String, Value> {
        let name = schema["$ref"].as_str().map(|name| name.rsplit('/').next().unwrap().to_owned());
        let schema = name.map_or(schema, |name| &self.spec["components"]["schemas"][name]);
        schema["properties"].as_object().cloned().unwrap_or_default()
    }

    /// All optional fields of all routes.
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (path, body) in least() {
            let schema = &self.spec["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
            for (field, schema) in self.properties(schema) {
                if body.get(&field).is_none() {
                    cases.push(Case { path, body: body.clone(), field, schema });
                } else if field == "parameters" {
                    for (inner, schema) in self.properties(&schema) {
                        cases.push(Case { path, body: body.clone(), field: format!("{field}.{inner}"), schema });
                    }
                }
            }
        }
        assert!(cases.len() > 100, "{} cases", cases.len());
        cases
    }
}

impl Case {
    /// The body with this text as the field's value.
    fn with(&self, value: &str) -> String {
        let mut body = self.body.clone();
        let field = match self.field.split_once('.') {
            Some((object, inner)) => &mut body[object][inner],
            None => &mut body[&self.field],
        };
        *field = json!("VALUE");
        body.to_string().replace("\"VALUE\"", value)
    }

    /// Whether the field accepts any value, because it has no effect.
    fn takes_all(&self) -> bool {
        self.schema.as_object().unwrap().keys().all(|key| key == "description")
    }
}

/// An answer's JSON without the fields that differ from answer to answer.
fn lasting(answer: &Answer) -> Value {
    let mut json = answer.json();
    if let Some(object) = json.as_object_mut() {
        object.remove("timing");
        object.remove("id");
    }
    json
}

/// The field that an error names, in either shape of errors.
fn param(answer: &Answer) -> String {
    let json = answer.json();
    let param = if json["error"].is_object() { &json["error"]["param"] } else { &json["param"] };
    param.as_str().unwrap_or_default().to_owned()
}

#[test]
fn null_is_as_if_absent_for_every_optional_field() {
    let services = Services::start();
    for case in services.cases() {
        let (plain, with) = (case.body.to_string(), case.with("null"));
        let (expected, found) = (services.send(case.path, &plain), services.send(case.path, &with));
        assert_eq!((expected.status, found.status), (200, 200), "{} {with}: {found:?}", case.path);
        assert_eq!(lasting(&found), lasting(&expected), "{} {with}", case.path);
    }
}

#[test]
fn wrong_values_are_named_by_their_field() {
    let services = Services::start();
    for case in services.cases() {
        // All three are JSON: a type that no field has, a number beyond the range of f64, and a lone surrogate.
        for value in ["[{}]", "-1e999", r#""cut \ud83d""#] {
            let body = case.with(value);
            let answer = services.send(case.path, &body);
            if case.takes_all() {
                assert_eq!(answer.status, 200, "{} {body}: {answer:?}", case.path);
                continue;
            }
            assert_eq!(answer.status, 422, "{} {body}: {answer:?}", case.path);
            assert!(param(&answer).starts_with(&case.field), "{} {body}: {answer:?}", case.path);
        }
        let twice = case.with("null").replacen('{', &format!("{{\"{}\":null,", case.field), 1);
        if !case.takes_all() && !case.field.contains('.') {
            let answer = services.send(case.path, &twice);
            assert_eq!((answer.status, param(&answer)), (422, case.field.clone()), "{} {twice}", case.path);
        }
    }
    // Required fields, and the place of a wrong value in them.
    for (path, body, field) in [
        ("/v1/encode", r#"{"input":["a","cut \ud83d"]}"#, "input[1]"),
        ("/v1/encode", r#"{"input":["a",5]}"#, "input[1]"),
        ("/v1/encode", "{}", "input"),
        ("/v1/score", r#"{"pairs":[["a","b"],["a","b","c"]]}"#, "pairs[1]"),
        ("/v1/score", r#"{"pairs":[["a"]]}"#, "pairs[0]"),
        ("/v1/score", r#"{"pairs":[["a",null]]}"#, "pairs[0][1]"),
        ("/v1/score", r#"{"query":"a","documents":["b","\ude00"]}"#, "documents[1]"),
        ("/v1/score", r#"{"pairs":[],"thresholds":[1,0]}"#, "thresholds"),
        ("/v1/explain", r#"{"a":"a","b":"\ud83d\ud83d"}"#, "b"),
        ("/v1/explain", r#"{"a":"a"}"#, "b"),
        ("/v1/embeddings", r#"{"input":["a","b",{"text":"\ud83d"}]}"#, "input[2].text"),
        ("/v1/embeddings", r#"{"input":[1,-1]}"#, "input[1]"),
        ("/v1/embeddings", r#"{"input":[[1],[1,"a"]]}"#, "input[1][1]"),
        ("/v1/embeddings", r#"{"input":[[1],[]]}"#, "input[1]"),
        ("/v1/embeddings", r#"{"input":"a","encoding_format":5}"#, "encoding_format"),
        ("/v1/embeddings", r#"{"input":"a","encoding_format":{"float":null}}"#, "encoding_format"),
        ("/embed", r#"{"inputs":["a",null]}"#, "inputs[1]"),
        ("/embed_all", r#"{"inputs":["a",[4000000]]}"#, "inputs[1]"),
        ("/tokenize", r#"{"inputs":["a","\ud83d"]}"#, "inputs[1]"),
        ("/decode", r#"{"ids":[[1],["a"]]}"#, "ids[1][0]"),
        ("/similarity", r#"{"inputs":{"source_sentence":"a","sentences":["b",5]}}"#, "inputs.sentences[1]"),
        ("/similarity", r#"{"inputs":{"sentences":["b"]}}"#, "inputs.source_sentence"),
        ("/similarity", r#"{"inputs":["a",["b"]]}"#, "inputs"),
        ("/v1/rerank", r#"{"query":"a","documents":["b",{"title":"c"}]}"#, "documents[1].text"),
        ("/v1/rerank", r#"{"query":"a","documents":["b",{"text":"\ud83d"}]}"#, "documents[1].text"),
        ("/v1/rerank", r#"{"query":"a"}"#, "documents"),
        ("/v2/rerank", r#"{"documents":["a"]}"#, "query"),
        ("/rerank", r#"{"query":"a"}"#, "texts"),
        ("/rerank", r#"{"query":"a","texts":["a"],"documents":["a"]}"#, "documents"),
        // A list of the fields' values is no body.
        ("/v1/encode", r#"["a"]"#, ""),
        ("/v1/embeddings", r#"["a","b"]"#, ""),
        ("/embed", r#"["a"]"#, ""),
        ("/v1/rerank", r#"["a",["b"]]"#, ""),
    ] {
        let answer = services.send(path, body);
        assert_eq!((answer.status, param(&answer).as_str()), (422, field), "{path} {body}: {answer:?}");
    }
    for body in ["{", "", "{'input':'a'}", r#"{"input":NaN}"#, r#"{"input":["a","\ud8"]}"#, r#"{"input":5"#] {
        assert_eq!(services.send("/v1/embeddings", body).status, 400, "{body}");
    }
}

#[test]
fn unknown_fields_are_refused_on_own_routes_and_ignored_on_others() {
    let services = Services::start();
    for (path, body) in least() {
        let mut more = body.clone();
        more["surprise"] = json!({"a": [[1]]});
        let answer = services.send(path, &more.to_string());
        if is_own(path) {
            assert_eq!((answer.status, param(&answer).as_str()), (422, "surprise"), "{path}");
        } else {
            let plain = services.send(path, &body.to_string());
            assert_eq!((answer.status, lasting(&answer)), (200, lasting(&plain)), "{path}");
        }
    }
}

#[test]
fn values_that_cannot_be_honoured_are_refused() {
    let services = Services::start();
    let long = "word ".repeat(9000);
    for (path, field, value) in [
        ("/v1/embeddings", "encoding_format", json!("int8")),
        ("/v1/embeddings", "encoding_format", json!("binary")),
        ("/v1/embeddings", "encoding_format", json!(["float", "base64"])),
        ("/v1/embeddings", "encoding_format", json!([])),
        ("/v1/embeddings", "encoding_format", json!("Float")),
        ("/v1/embeddings", "embedding_type", json!("ubinary")),
        ("/v1/embeddings", "embedding_types", json!(["float", "int8"])),
        ("/v1/embeddings", "output_dtype", json!("int8")),
        ("/v1/embeddings", "embed_dtype", json!("float16")),
        ("/v1/embeddings", "endianness", json!("big")),
        ("/v1/embeddings", "dimensions", json!(1_000_000)),
        ("/v1/embeddings", "late_chunking", json!(true)),
        ("/v1/embeddings", "return_multivector", json!(true)),
        ("/v1/embeddings", "add_special_tokens", json!(false)),
        ("/v1/embeddings", "prompt_name", json!("query")),
        ("/v1/embeddings", "truncate", json!("START")),
        ("/v1/embeddings", "truncation_side", json!("left")),
        ("/v1/embeddings", "truncate_prompt_tokens", json!(-2)),
        ("/v1/embeddings", "truncate_prompt_tokens", json!(1)),
        ("/v1/embeddings", "truncate_prompt_tokens", json!(4.5)),
        ("/v1/embeddings", "truncate_prompt_tokens", json!(1e22)),
        ("/v1/embeddings", "max_length", json!(100_000)),
        ("/v1/embeddings", "max_length", json!(1e22)),
        ("/embed", "truncation_direction", json!("left")),
        ("/embed", "truncation_direction", json!("middle")),
        ("/embed", "dimensions", json!(1_000_000)),
        ("/v1/rerank", "truncation_side", json!("left")),
        ("/v1/rerank", "rank_fields", json!(["title", "text"])),
        ("/v1/rerank", "instruction", json!("find answers")),
        ("/v1/rerank", "truncate_prompt_tokens", json!(16)),
        ("/v1/rerank", "max_length", json!(100_000)),
        ("/v2/rerank", "max_tokens_per_doc", json!(0)),
        ("/v2/rerank", "top_n", json!(-1)),
        ("/v2/rerank", "top_n", json!(-1e22)),
        ("/v2/rerank", "top_n", json!(1.5)),
        ("/rerank", "truncation_direction", json!("Left")),
    ] {
        let (_, mut body) = least().into_iter().find(|(of, _)| *of == path).unwrap();
        body[field] = value;
        let answer = services.send(path, &body.to_string());
        assert_eq!((answer.status, param(&answer).as_str()), (422, field), "{path} {body}: {answer:?}");
    }
    // Two names of one thing that differ, and texts that may not be cut.
    for (path, body, place) in [
        ("/v1/embeddings", json!({"input": "a", "dimensions": 8, "output_dimension": 16}), "output_dimension"),
        (
            "/v1/embeddings",
            json!({"input": "a", "encoding_format": "float", "embedding_type": "base64"}),
            "embedding_type",
        ),
        ("/v1/rerank", json!({"query": "a", "documents": ["b"], "top_n": 1, "top_k": 2}), "top_k"),
        ("/v1/embeddings", json!({"input": ["a", long], "truncation": false}), "input[1]"),
        ("/v1/embeddings", json!({"input": ["a b c"], "truncate": "NONE", "max_length": 4}), "input[0]"),
        ("/embed", json!({"inputs": ["a", long], "truncate": false}), "inputs[1]"),
        ("/v1/rerank", json!({"query": "a", "documents": ["b", long], "truncation": false}), "documents[1]"),
        ("/rerank", json!({"query": "a", "texts": ["b", long], "truncate": false}), "texts[1]"),
    ] {
        let answer = services.send(path, &body.to_string());
        assert_eq!((answer.status, param(&answer).as_str()), (422, place), "{path}: {answer:?}");
    }
}

#[test]
fn embeddings_as_clients_ask_for_them() {
    let server = Server::start(&[]);
    let model = Model::starter().unwrap();
    let dense = |text: &str, options: EncodeOptions| model.encode(&[text], &options).unwrap().remove(0).dense.unwrap();
    let plain = || EncodeOptions::default();
    let (a, b) = ("Apple launched a new iPhone", "苹果公司发布新手机");
    let cut = || EncodeOptions { dimensions: Some(16), ..plain() };
    let raw = || EncodeOptions { normalize: Some(false), ..plain() };
    let short = || EncodeOptions { max_length: Some(4), ..plain() };
    let ids = model.token_ids(b, &plain()).unwrap().0;
    for (body, expected) in [
        // OpenAI's packages, LiteLLM and Dify.
        (json!({"input": [a, b], "encoding_format": null, "user": null, "dimensions": null}), [plain(), plain()]),
        // Jina.
        (
            json!({"input": [{"text": a}, {"text": b}], "task": "retrieval.query", "normalized": true, "embedding_type": "float",
                "late_chunking": false, "truncate": true}),
            [plain(), plain()],
        ),
        (
            json!({"input": [a, b], "normalized": false, "embedding_type": ["float"], "dimensions": 16}),
            [EncodeOptions { normalize: Some(false), ..cut() }, EncodeOptions { normalize: Some(false), ..cut() }],
        ),
        // Voyage.
        (
            json!({"input": [a, b], "input_type": "document", "truncation": true, "output_dimension": 16, "output_dtype": "float"}),
            [cut(), cut()],
        ),
        // Mixedbread.
        (json!({"input": [a, b], "normalized": false, "encoding_format": ["float"], "prompt": null}), [raw(), raw()]),
        // vLLM.
        (
            json!({"input": [a, b], "truncate_prompt_tokens": 4, "add_special_tokens": true, "priority": 0, "normalize": true}),
            [short(), short()],
        ),
        (
            json!({"input": [a, b], "truncate_prompt_tokens": -1, "embed_dtype": "float32", "endianness": "little"}),
            [plain(), plain()],
        ),
        // NVIDIA.
        (json!({"input": [a, b], "input_type": "passage", "truncate": "END"}), [plain(), plain()]),
        // Texts and token ids in one list.
        (json!({"input": [a, ids]}), [plain(), plain()]),
    ] {
        let answer = server.post("/v1/embeddings", &body);
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        for (at, (text, options)) in [a, b].into_iter().zip(expected).enumerate() {
            assert_eq!(floats(&answer.json()["data"][at]["embedding"]), dense(text, options), "{body}");
        }
    }
    for field in ["encoding_format", "embedding_type", "embedding_types"] {
        let answer = server.post("/v1/embeddings", &json!({"input": a, field: "base64"}));
        assert!(answer.json()["data"][0]["embedding"].is_string(), "{field}");
    }
    // text-embeddings-inference takes token ids too.
    for inputs in [json!(ids), json!([ids]), json!([b])] {
        assert_eq!(floats(&server.post("/embed", &json!({"inputs": inputs})).json()[0]), dense(b, plain()), "{inputs}");
    }
    assert_eq!(floats(&server.post("/embed", &json!({"inputs": [a, ids]})).json()[1]), dense(b, plain()));
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn rerankers_answer_as_clients_ask_them() {
    let server = reranker(&[]);
    let model = Model::load(RERANKER).unwrap();
    let (query, documents) = ("what is a panda?", ["hi there", "The giant panda is a bear of China.", "pandas eat"]);
    let ranked = |options: RerankOptions| {
        let mut ranked = model.rerank(query, &documents, &options).unwrap();
        ranked.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        ranked.iter().map(|r| (r.index, r.score, r.logit)).collect::<Vec<_>>()
    };
    let plain = ranked(RerankOptions::default());
    let objects: Vec<Value> = documents.iter().map(|text| json!({"text": text, "title": 5})).collect();
    let all = |more: Value| {
        let mut body = json!({"model": "any", "query": query, "documents": documents});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    // How many of the best are returned, and whether with their texts.
    for (more, count, texts) in [
        (json!({}), 3, false),
        (json!({"top_n": 2, "return_documents": null}), 2, false),
        (json!({"top_n": 0, "user": "x"}), 3, false),
        (json!({"top_n": 9, "max_chunks_per_doc": 10, "rank_fields": ["text"]}), 3, false),
        (json!({"documents": objects, "return_documents": true}), 3, true),
        (json!({"top_k": 1, "truncation": true}), 1, false),
        (json!({"top_k": null, "return_documents": true, "return_len": true, "kwargs": {}}), 3, true),
        (json!({"max_tokens_per_doc": 4096, "priority": 1}), 3, false),
        (json!({"truncate_prompt_tokens": -1, "top_n": 3.0}), 3, false),
        (json!({"query": {"text": query}, "raw_scores": false}), 3, false),
        // Integers as JSON Schema defines them: also with a decimal point, and beyond 64 bits.
        (json!({"truncate_prompt_tokens": -1.0, "top_n": 1e300, "max_tokens_per_query": 8e22}), 3, false),
        (json!({"max_tokens_per_doc": u64::MAX, "top_k": 9_007_199_254_740_994.0}), 3, false),
    ] {
        for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
            let body = all(more.clone());
            let answer = server.post(path, &body);
            assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
            let answer = answer.json();
            let results = answer["results"].as_array().unwrap();
            assert_eq!(results.len(), count, "{path} {body}");
            for (found, (index, score, logit)) in results.iter().zip(&plain) {
                assert_eq!(found["index"], *index, "{path} {body}");
                assert_eq!(found["relevance_score"].as_f64().map(|x| x as f32), Some(*score));
                assert_eq!(found["logit"].as_f64().map(|x| x as f32), Some(*logit));
                let text = if texts { json!({"text": documents[*index]}) } else { Value::Null };
                assert_eq!(found["document"], text, "{path} {body}");
            }
            assert_eq!(answer["model"], "reranker-h48");
            assert!(answer["id"].is_string() && answer["usage"]["total_tokens"].as_u64() > Some(0));
            assert_eq!(answer["meta"]["api_version"]["version"], if path == "/v2/rerank" { "2" } else { "1" });
            // Voyage's clients read the same list under another name.
            let data = answer["data"].as_array();
            assert_eq!(data.map(Vec::len), (path != "/v2/rerank").then_some(count), "{path} {body}");
            for (found, (index, ..)) in data.into_iter().flatten().zip(&plain) {
                assert_eq!(found["index"], *index);
                assert_eq!(found.get("document"), texts.then(|| json!(documents[*index])).as_ref());
            }
        }
    }
    let raw = server.post("/v1/rerank", &all(json!({"raw_scores": true}))).json();
    assert_eq!(raw["results"][0]["relevance_score"].as_f64().map(|x| x as f32), Some(plain[0].2));

    // Limits for each document, for the query, and for both together.
    let limits =
        RerankOptions { max_document: Some(2), max_length: Some(model.info().max_length), ..Default::default() };
    let cut = |more: Value| {
        let answer = server.post("/v2/rerank", &all(more)).json();
        let entry = |r: &Value| (r["index"].as_u64().unwrap() as usize, r["logit"].as_f64().unwrap() as f32);
        answer["results"].as_array().unwrap().iter().map(entry).collect::<Vec<_>>()
    };
    let expected = |options| ranked(options).iter().map(|(index, _, logit)| (*index, *logit)).collect::<Vec<_>>();
    assert_eq!(cut(json!({"max_tokens_per_doc": 2})), expected(limits));
    assert_ne!(cut(json!({"max_tokens_per_doc": 2})), cut(json!({})));
    let limits = RerankOptions { max_query: Some(1), ..Default::default() };
    assert_eq!(cut(json!({"max_tokens_per_query": 1})), expected(limits));
    let limits = RerankOptions { max_length: Some(17), ..Default::default() };
    assert_eq!(cut(json!({"max_length": 17})), expected(limits.clone()));
    assert_eq!(cut(json!({"truncate_prompt_tokens": 17})), expected(limits.clone()));
    assert_eq!(cut(json!({"truncate_prompt_tokens": 17.0})), expected(limits));

    // A body of text-embeddings-inference gets an answer in its shape.
    let body = json!({"query": query, "texts": documents, "raw_scores": true, "return_text": true, "top_n": 2});
    let answer = server.post("/rerank", &body).json();
    let found: Vec<_> = answer.as_array().unwrap().iter().map(|r| (r["index"].as_u64(), r["text"].as_str())).collect();
    let best: Vec<_> = plain[..2].iter().map(|r| (Some(r.0 as u64), Some(documents[r.0]))).collect();
    assert_eq!(found, best);
    assert_eq!(answer[0]["score"].as_f64().map(|x| x as f32), Some(plain[0].2));
    assert_eq!(server.post("/", &body).json(), answer, "its root");
    assert_eq!(server.post("/v1/rerank", &json!({"query": "a", "documents": []})).json()["results"], json!([]));
}

#[test]
fn any_model_name_is_accepted_unless_strict_model() {
    let names = |server: &Server| {
        let list = server.get("/v1/models").json();
        list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let ask = |server: &Server, path: &str, mut body: Value, model: &str| {
        body["model"] = json!(model);
        server.post(path, &body)
    };
    let server = Server::start(&[]);
    assert_eq!(names(&server), ["starter"]);
    for (path, body) in least().into_iter().take(5) {
        for model in ["gpt-4", "", "text-embedding-3-small", "BAAI/bge-m3", "starter"] {
            let answer = ask(&server, path, body.clone(), model);
            assert_eq!((answer.status, &answer.json()["model"]), (200, &json!("starter")), "{path} {model}");
        }
    }
    let named = ["--served-model-name", "BAAI/bge-m3", "--served-model-name", "bge-m3"];
    let server = Server::start(&named);
    assert_eq!(names(&server), ["BAAI/bge-m3", "bge-m3"]);
    for (path, expected) in [("/v1/models/bge-m3", 200), ("/v1/models/BAAI/bge-m3", 200), ("/v1/models/starter", 404)] {
        assert_eq!(server.get(path).status, expected, "{path}");
    }
    let body = || json!({"input": "a"});
    assert_eq!(ask(&server, "/v1/embeddings", body(), "other").json()["model"], "BAAI/bge-m3");
    assert_eq!(server.get("/info").json()["model_id"], "BAAI/bge-m3");
    assert_eq!(server.get("/v1/status").json()["model"]["name"], "BAAI/bge-m3");

    let server = Server::start(&[&named[..], &["--strict-model"]].concat());
    for (path, body) in least().into_iter().take(5) {
        for (model, expected) in [("bge-m3", 200), ("BAAI/bge-m3", 200), ("", 200), ("m3", 404), ("starter", 404)] {
            let answer = ask(&server, path, body.clone(), model);
            assert_eq!(answer.status, expected, "{path} {model}");
            if expected == 404 {
                assert_eq!(answer.json()["error"]["code"], "model_not_found");
                assert_eq!(param(&answer), "model");
            }
        }
        assert_eq!(server.post(path, &body).status, 200, "{path}: no model is named");
    }
    // Without --served-model-name the model's own name counts, with or without an organisation.
    let server = reranker(&["--strict-model"]);
    let body = || json!({"query": "a", "documents": ["b"]});
    for (model, expected) in [("reranker-h48", 200), ("org/Reranker-H48", 200), ("reranker", 404)] {
        for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
            assert_eq!(ask(&server, path, body(), model).status, expected, "{path} {model}");
        }
    }
}

#[test]
fn special_tokens_are_those_that_the_model_calls_so() {
    let server = Server::start(&[]);
    let tokens = server.post("/tokenize", &json!({"inputs": "a <mask> b"})).json();
    let special: Vec<_> = tokens[0].as_array().unwrap().iter().filter(|t| t["special"] == true).collect();
    let texts: Vec<_> = special.iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["<s>", "<mask>", "</s>"]);
    // As tokenizers 0.23.3 decodes them with the starter's tokenizer.json.
    assert_eq!(server.post("/decode", &json!({"ids": [0, 10, 104_803, 2]})).json(), json!(["a"]));
    let kept = json!({"ids": [[0, 10, 104_803, 2], []], "skip_special_tokens": false});
    assert_eq!(server.post("/decode", &kept).json(), json!(["<s> a<mask></s>", ""]));
}
