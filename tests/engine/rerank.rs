//! Tests of rerankers: the same bits whatever the neighbours, packed files of every format, and what is refused.

use trivec_testing as common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{data, report};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tempfile::TempDir;
use trivec::pack::{Calibration, PackOptions, pack};
use trivec::{EncodeOptions, Error, ErrorKind, LoadOptions, Model, Modes, RerankOptions, Reranked, WeightFormat};

const RERANKER: &str = "rerankers/reranker-h48";
const QUERY: &str = "what is it that the cat sat on?";

fn load(path: &Path, threads: usize, isa: Option<&str>) -> Model {
    let options = LoadOptions { threads: Some(threads), isa: isa.map(str::to_owned), ..Default::default() };
    Model::load_with(path, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Documents of 0 to 60 words, and some longer than the default of 512 tokens.
fn documents() -> Vec<String> {
    let words = ["cat", "天気", "кошка", "mat", "a", "the", "ser", "liegt", "auf", "42", "한국"];
    let document = |n: usize| {
        let words: Vec<&str> = (0..n).map(|i| words[(i * i * 7 + i * n + n) % words.len()]).collect();
        words.join(" ")
    };
    (0..=60).chain([150, 400]).map(document).collect()
}

fn bits(results: &[Reranked]) -> Vec<(u32, u32, usize, bool)> {
    results.iter().map(|r| (r.logit.to_bits(), r.score.to_bits(), r.tokens, r.truncated)).collect()
}

/// Packs the reranker into a file and returns its path.
fn packed(format: WeightFormat, calibration: Calibration, directory: &Path) -> PathBuf {
    let model = load(&data(RERANKER), 2, None);
    let path = directory.join(format!("{}.safetensors", format.name()));
    let options = PackOptions { calibration, ..PackOptions::new(format) };
    pack(&model, &options, &path, &mut fs::File::create(&path).unwrap()).unwrap();
    path
}

#[test]
fn a_pair_has_the_same_bits_whatever_the_neighbours_order_and_threads() {
    let directory = TempDir::new().unwrap();
    // Documents of lengths around the edges of tiles, and one of 400 words, which `max_length` cuts.
    let all = documents();
    let documents: Vec<&String> = (0..20).chain([30, 31, 45, 60, 62]).map(|words| &all[words]).collect();
    let options = RerankOptions { max_length: Some(200), ..Default::default() };
    let mut failures = Vec::new();
    let formats = WeightFormat::ALL.into_iter().map(Some).chain([None]);
    for format in formats {
        let path = format.map_or(data(RERANKER), |format| packed(format, Calibration::None, directory.path()));
        let name = format.map_or("checkpoint", WeightFormat::name);
        let mut expected: Option<Vec<_>> = None;
        for isa in trivec::instruction_sets() {
            let single = load(&path, 1, Some(isa));
            // The bf16 instructions round in their own way, so bf16 results are only compared on the same instruction set.
            if format == Some(WeightFormat::Bf16) {
                expected = None;
            }
            let alone = expected.get_or_insert_with(|| {
                documents.iter().flat_map(|d| bits(&single.rerank(QUERY, &[d], &options).unwrap())).collect()
            });
            for threads in [1, 2, 8] {
                let model = load(&path, threads, Some(isa));
                let count = documents.len();
                let orders: [Vec<usize>; 2] =
                    [(0..count).rev().collect(), (0..count).map(|i| (i * 7 + 5) % count).collect()];
                for order in orders {
                    let batch: Vec<&str> = order.iter().map(|&index| documents[index].as_str()).collect();
                    let found = model.rerank(QUERY, &batch, &options).unwrap();
                    assert!(found.iter().enumerate().all(|(index, result)| result.index == index));
                    for (&document, found) in order.iter().zip(bits(&found)) {
                        if found != alone[document] {
                            failures.push(format!("{name}, {isa}, {threads} threads, document {document}"));
                        }
                    }
                }
            }
        }
    }
    report(failures);
}

#[test]
fn rerank_is_rerank_pairs_with_one_query() {
    let model = load(&data(RERANKER), 2, None);
    let documents = documents();
    let pairs: Vec<(&str, &String)> = documents.iter().map(|document| (QUERY, document)).collect();
    let options = RerankOptions { max_length: Some(40), ..Default::default() };
    let found = model.rerank_pairs(&pairs, &options).unwrap();
    assert_eq!(found, model.rerank(QUERY, &documents, &options).unwrap());
    assert!(found.iter().any(|result| result.truncated) && found.iter().any(|result| !result.truncated));
    assert!(found.iter().all(|result| result.tokens <= 40 && (0.0..=1.0).contains(&result.score)));
    // The sigmoid keeps the order.
    for pair in found.windows(2) {
        assert!(pair[0].logit.total_cmp(&pair[1].logit) as i8 * pair[0].score.total_cmp(&pair[1].score) as i8 >= 0);
    }
    assert!(model.rerank::<&str>(QUERY, &[], &options).unwrap().is_empty());
}

/// The share of all pairs of documents that both lists put in the same order.
fn same_order(a: &[Reranked], b: &[Reranked]) -> f64 {
    let (mut same, mut all) = (0, 0);
    for i in 0..a.len() {
        for j in 0..i {
            all += 1;
            same += usize::from((a[i].logit > a[j].logit) == (b[i].logit > b[j].logit));
        }
    }
    f64::from(same as u32) / f64::from(all)
}

#[test]
fn packed_rerankers_keep_scores_and_order() {
    let directory = TempDir::new().unwrap();
    let (source, documents) = (load(&data(RERANKER), 2, None), documents());
    let options = RerankOptions::default();
    let expected = source.rerank(QUERY, &documents, &options).unwrap();
    // The random head multiplies its input by 11 (the norm of its last row), so that the logits spread over a range of 7. So an error of
    // half a per cent in the encoder's state changes a logit by 0.2 and a score by 0.05.
    for (format, most, least_order) in [
        (WeightFormat::F32, 0.0, 1.0),
        (WeightFormat::F16, 1e-5, 0.999),
        (WeightFormat::Bf16, 0.03, 0.98),
        (WeightFormat::Int8, 0.08, 0.97),
        (WeightFormat::Int4, 0.4, 0.80),
    ] {
        let path = packed(format, Calibration::Bundled, directory.path());
        let model = load(&path, 2, None);
        let (found_info, info) = (model.info(), source.info());
        assert!(found_info.rerank && found_info.modes == info.modes);
        assert_eq!((found_info.max_length, found_info.parameters), (info.max_length, info.parameters));
        assert_eq!(found_info.weights, format.name());
        let found = model.rerank(QUERY, &documents, &options).unwrap();
        let difference = |of: fn(&Reranked) -> f32| {
            found.iter().zip(&expected).map(|(f, e)| (of(f) - of(e)).abs()).fold(0.0, f32::max)
        };
        let (score, order) = (difference(|r| r.score), same_order(&found, &expected));
        println!("{}: score {score:.5}, logit {:.5}, order {order:.4}", format.name(), difference(|r| r.logit));
        assert!(score <= most, "{}: a score is off by {score}", format.name());
        assert!(order >= least_order, "{}: {order} of all pairs in order", format.name());
        let tokens = |model: &Model| model.tokenize_pair(QUERY, &documents[60], &options).unwrap();
        assert_eq!(tokens(&model), tokens(&source));
    }
}

#[test]
fn a_packed_file_says_what_it_is() {
    let directory = TempDir::new().unwrap();
    let good = fs::read(packed(WeightFormat::Int8, Calibration::None, directory.path())).unwrap();
    let again = fs::read(packed(WeightFormat::Int8, Calibration::None, directory.path())).unwrap();
    assert!(good == again, "the same model gives the same bytes");
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&good[8..8 + length]).unwrap();
    let meta: serde_json::Value =
        serde_json::from_str(header["__metadata__"]["trivec.model"].as_str().unwrap()).unwrap();
    assert_eq!(meta["kind"], "reranker");
    for name in ["classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight"] {
        assert_eq!(header[name]["dtype"], "F32", "{name}");
    }
    let path = directory.path().join("bad.safetensors");
    for (from, to, expected) in [
        (r#"\"kind\":\"reranker\""#, r#"\"kind\":\"rerankex\""#, "rerankex"),
        (r#"\"max_length\":520"#, r#"\"max_length\": 16"#, "expected 17 to 520"),
        ("classifier.dense.weight", "classifier.dence.weight", "classifier.dense.weight"),
        ("classifier.out_proj.bias", "classifier.out_proj.bios", "classifier.out_proj.bias"),
    ] {
        let text = std::str::from_utf8(&good[8..8 + length]).unwrap();
        assert!(text.contains(from), "{from} is not in the header");
        let header = text.replacen(from, to, 1);
        assert_eq!(header.len(), length);
        fs::write(&path, [&good[..8], header.as_bytes(), &good[8 + length..]].concat()).unwrap();
        let error = Model::load(&path).expect_err("the file was taken");
        assert!(error.kind() == ErrorKind::Model && error.to_string().contains(expected), "{error}");
    }
    // The file of an embedder has no such entry.
    let embedder = Model::load(data("models/bf16-h60")).unwrap();
    let mut bytes = Vec::new();
    pack(&embedder, &PackOptions::new(WeightFormat::F16), &path, &mut bytes).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(!String::from_utf8_lossy(&bytes[8..8 + length]).contains("kind"));
}

#[test]
fn a_reranker_does_not_embed_and_an_embedder_does_not_rerank() {
    let (reranker, embedder) = (load(&data(RERANKER), 1, None), load(&data("models/f32-h64"), 1, None));
    for (modes, name) in [(Modes::DENSE, "dense"), (Modes::SPARSE, "sparse"), (Modes::COLBERT, "colbert")] {
        let options = EncodeOptions { modes, ..Default::default() };
        for error in [
            reranker.encode(&["text"], &options).unwrap_err(),
            reranker.encode::<&str>(&[], &options).unwrap_err(),
            reranker.encode_ids(&[[0, 5, 2]], &options).unwrap_err(),
        ] {
            assert!(error.kind() == ErrorKind::ModeUnavailable && matches!(error, Error::Reranker { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(name) && message.contains("trivec rerank"), "{message}");
        }
    }
    assert_eq!(reranker.inspect("text", &EncodeOptions::default()).unwrap_err().kind(), ErrorKind::ModeUnavailable);
    // A reranker can tokenise a single text.
    assert_eq!(reranker.tokenize("", &EncodeOptions::default()).unwrap().tokens.len(), 2);

    assert!(!embedder.info().rerank);
    let options = RerankOptions::default();
    for error in [
        embedder.rerank("a", &["b"], &options).unwrap_err(),
        embedder.rerank::<&str>("a", &[], &options).unwrap_err(),
        embedder.rerank_pairs(&[("a", "b")], &options).unwrap_err(),
        embedder.tokenize_pair("a", "b", &options).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::ModeUnavailable);
        assert!(error.to_string().contains("rerank") && error.to_string().contains("`classifier`"), "{error}");
    }
}

#[test]
fn lengths_out_of_range_are_named() {
    let model = load(&data(RERANKER), 1, None);
    for max_length in [0, 1, 16, 521, usize::MAX] {
        let options = RerankOptions { max_length: Some(max_length), ..Default::default() };
        let error = model.rerank("a", &["b"], &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let found = trivec::numbers::grouped(max_length);
        assert!(error.to_string().contains(&format!("found {found}, expected 17 to 520")), "{error}");
    }
    for max_length in [17, 520] {
        let options = RerankOptions { max_length: Some(max_length), ..Default::default() };
        let long = "a cat ".repeat(1000);
        assert_eq!(model.rerank(&long, &[&long], &options).unwrap()[0].tokens, max_length);
    }
}

/// A copy of the reranker that a test may damage.
fn copy() -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(data(RERANKER)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// The message of the model error with which loading must fail.
fn refusal(directory: &Path) -> String {
    let error = Model::load(directory).expect_err("the model was loaded");
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    error.to_string()
}

type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites the weights of `directory` through `change`.
fn rewrite(directory: &Path, change: impl FnOnce(&mut Tensors)) {
    let path = directory.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let mut tensors: Tensors =
        tensors.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn missing_and_misshapen_classifiers_are_named() {
    for name in ["dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias"] {
        let model = copy();
        let name = format!("classifier.{name}");
        rewrite(model.path(), |tensors| {
            tensors.remove(&name).unwrap();
        });
        let message = refusal(model.path());
        assert!(message.contains(&name) && message.contains("missing"), "{message}");
    }
    for (name, shape, expected) in [
        ("classifier.dense.weight", vec![48, 47], "[48, 48]"),
        ("classifier.dense.bias", vec![47], "[48]"),
        ("classifier.out_proj.weight", vec![2, 48], "[1, 48]"),
        ("classifier.out_proj.weight", vec![48], "[1, 48]"),
        ("classifier.out_proj.bias", vec![2], "[1]"),
    ] {
        let model = copy();
        rewrite(model.path(), |tensors| {
            let bytes = vec![0; shape.iter().product::<usize>() * 2];
            *tensors.get_mut(name).unwrap() = (Dtype::F16, shape.clone(), bytes);
        });
        let message = refusal(model.path());
        let found = format!("its shape is {shape:?}, expected {expected}");
        assert!(message.contains(name) && message.contains(&found), "{message}");
    }
    let model = copy();
    rewrite(model.path(), |tensors| {
        tensors.get_mut("classifier.dense.weight").unwrap().2[2..4].copy_from_slice(&0x7e00u16.to_le_bytes());
    });
    let message = refusal(model.path());
    assert!(message.contains("classifier.dense.weight") && message.contains("not finite"), "{message}");
}

#[test]
fn other_counts_of_labels_are_refused() {
    let model = copy();
    let path = model.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&config).unwrap();
    json["id2label"] = serde_json::json!({"0": "NO", "1": "YES"});
    fs::write(&path, json.to_string()).unwrap();
    let message = refusal(model.path());
    assert!(message.contains("`id2label` says 2 labels, expected 1") && message.contains("config.json"), "{message}");
    json.as_object_mut().unwrap().remove("id2label");
    json["num_labels"] = 3.into();
    fs::write(&path, json.to_string()).unwrap();
    assert!(refusal(model.path()).contains("`num_labels` says 3 labels"));
    json["num_labels"] = 1.into();
    fs::write(&path, json.to_string()).unwrap();
    assert!(Model::load(model.path()).unwrap().info().rerank);
    // Under another architecture the same files are an embedder, whose classifier is not read.
    json["architectures"] = serde_json::json!(["XLMRobertaModel"]);
    fs::write(&path, json.to_string()).unwrap();
    let info = Model::load(model.path()).unwrap().info().clone();
    assert!(!info.rerank && info.modes == Modes::DENSE);
}

#[test]
fn without_a_tokenizer_nothing_is_reranked() {
    let model = copy();
    fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let model = Model::load(model.path()).unwrap();
    let error = model.rerank("a", &["b"], &RerankOptions::default()).unwrap_err();
    assert!(error.kind() == ErrorKind::Model && error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn a_query_and_documents_may_have_limits_of_their_own() {
    let model = load(&data(RERANKER), 1, None);
    let (query, document) = ("what is a panda and where", "The giant panda is a bear of China");
    let ids = |options: &RerankOptions| {
        let pair = model.tokenize_pair(query, document, options).unwrap();
        (pair.tokens.iter().map(|token| token.id).collect::<Vec<_>>(), pair.truncated)
    };
    let (whole, cut) = ids(&RerankOptions::default());
    assert!(!cut);
    let query_end = whole.iter().position(|&id| id == 2).unwrap();
    let (query_ids, document_ids) = (&whole[1..query_end], &whole[query_end + 2..whole.len() - 1]);
    let plenty = query_ids.len().max(document_ids.len());
    for (max_query, max_document) in
        [(None, Some(3)), (Some(2), None), (Some(2), Some(3)), (Some(plenty), Some(plenty))]
    {
        let options = RerankOptions { max_query, max_document, ..Default::default() };
        let kept = |ids: &[u32], most: Option<usize>| ids[..most.unwrap_or(ids.len()).min(ids.len())].to_vec();
        let expected =
            [vec![0], kept(query_ids, max_query), vec![2, 2], kept(document_ids, max_document), vec![2]].concat();
        assert_eq!(ids(&options), (expected.clone(), expected.len() < whole.len()), "{max_query:?} {max_document:?}");
        let found = model.rerank(query, &[document], &options).unwrap();
        assert_eq!((found[0].tokens, found[0].truncated), (expected.len(), expected.len() < whole.len()));
    }
}
