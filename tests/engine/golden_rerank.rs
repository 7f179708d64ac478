//! Compares rerankers with PyTorch, from pairs of texts to logits, on every instruction set of this CPU.

use trivec_testing as common;

use common::{close, data, report};
use trivec::{LoadOptions, Model, RerankOptions, Reranked};

const RERANKERS: [&str; 1] = ["reranker-h48"];
/// Largest allowed |difference| of a logit; the fp32 reference itself is within 4.3e-6 of float64 (tests/data/README.md).
const LOGIT: f32 = 2e-5;
/// The sigmoid is nowhere steeper than 1/4.
const SCORE: f32 = LOGIT / 4.0 + 1e-7;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    query: String,
    document: String,
    max_length: Option<usize>,
    ids: Vec<u32>,
    truncated: bool,
    logit: f32,
    score: f32,
}

#[derive(serde::Deserialize)]
struct GoldenPairs {
    cases: Vec<Case>,
}

fn golden(name: &str) -> Vec<Case> {
    let text = std::fs::read(data(&format!("golden/{name}.json"))).unwrap();
    serde_json::from_slice::<GoldenPairs>(&text).unwrap().cases
}

fn load(name: &str, isa: Option<&str>) -> Model {
    let options = LoadOptions { isa: isa.map(str::to_owned), ..Default::default() };
    Model::load_with(data("rerankers").join(name), &options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn options(case: &Case) -> RerankOptions {
    RerankOptions { max_length: case.max_length, ..Default::default() }
}

/// Everything in which `found` differs from the golden values.
fn check(found: &Reranked, case: &Case) -> Vec<String> {
    let mut parts = vec![
        ("logit", close(&[found.logit], &[case.logit], LOGIT)),
        ("score", close(&[found.score], &[case.score], SCORE)),
    ];
    let (tokens, expected) = ((found.tokens, found.truncated), (case.ids.len(), case.truncated));
    if tokens != expected {
        parts.push(("tokens, cut", Err(format!("{tokens:?}, expected {expected:?}"))));
    }
    let failed = parts.into_iter().filter_map(|(part, result)| Some((part, result.err()?)));
    failed.map(|(part, what)| format!("{}: {part}: {what}", case.name)).collect()
}

#[test]
fn the_ids_of_pairs_are_those_of_the_reference() {
    let mut failures = Vec::new();
    for name in RERANKERS {
        let model = load(name, None);
        for case in golden(name) {
            let tokens = model.tokenize_pair(&case.query, &case.document, &options(&case)).unwrap();
            let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
            if (&ids, tokens.truncated) != (&case.ids, case.truncated) {
                failures.push(format!(
                    "{}: {ids:?}, {}, expected {:?}, {}",
                    case.name, tokens.truncated, case.ids, case.truncated
                ));
            }
        }
    }
    report(failures);
}

#[test]
fn logits_agree_with_pytorch() {
    let mut failures = Vec::new();
    for isa in trivec::instruction_sets() {
        eprintln!("instruction set {isa}");
        for name in RERANKERS {
            let (model, cases) = (load(name, Some(isa)), golden(name));
            for case in &cases {
                let found = model.rerank(&case.query, &[&case.document], &options(case)).unwrap();
                assert_eq!((found.len(), found[0].index), (1, 0));
                failures.extend(check(&found[0], case).into_iter().map(|what| format!("{name} on {isa}: {what}")));
            }
            // The same pairs in one call.
            let plain: Vec<&Case> = cases.iter().filter(|case| case.max_length.is_none()).collect();
            let pairs: Vec<(&str, &str)> = plain.iter().map(|case| (&*case.query, &*case.document)).collect();
            let found = model.rerank_pairs(&pairs, &RerankOptions::default()).unwrap();
            assert_eq!(found.len(), plain.len());
            for (index, (found, case)) in found.iter().zip(plain).enumerate() {
                assert_eq!(found.index, index);
                failures.extend(check(found, case));
            }
        }
    }
    report(failures);
}

#[test]
fn the_golden_cases_have_the_edges_that_they_are_to_test() {
    for name in RERANKERS {
        let (info, cases) = (load(name, None).info().clone(), golden(name));
        assert!(cases.iter().any(|case| case.logit < -2.0) && cases.iter().any(|case| case.logit > 2.0));
        let at = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
        // `<s> query </s></s> document </s>`, even if the query or the document is empty.
        assert_eq!(at("empty-both").ids, [0, 2, 2, 2]);
        assert!(at("empty-query").ids.starts_with(&[0, 2, 2]) && at("empty-document").ids.ends_with(&[2, 2, 2]));
        // The pair has 43 tokens, so it is cut to 42 and not cut where 43 are allowed.
        assert_eq!((at("cut-42").truncated, at("cut-43").truncated, at("cut-43").ids.len()), (true, false, 43));
        // A query that is too long keeps three quarters, 384 of 512.
        assert_eq!(&at("long-query").ids[384..387].iter().filter(|&&id| id == 2).count(), &2);
        assert_eq!((at("long-document").ids.len(), at("long-document-520").ids.len()), (512, 520));
        assert_eq!(info.max_length, 520);
        assert!(info.rerank && !info.modes.dense && !info.modes.sparse && !info.modes.colbert);
        assert_eq!((info.dense_dim, info.colbert_dim, info.weights.as_str()), (0, None, "F16"));
    }
}

#[test]
fn the_comparator_sees_a_difference() {
    let (model, cases) = (load(RERANKERS[0], None), golden(RERANKERS[0]));
    let (case, other) = (&cases[0], &cases[1]);
    let found = model.rerank(&case.query, &[&case.document], &options(case)).unwrap()[0];
    assert!(check(&found, case).is_empty());
    assert_eq!(check(&found, other).len(), 3);
    let off = Case { logit: case.logit + 3e-5, ids: case.ids.clone(), ..golden(RERANKERS[0]).swap_remove(0) };
    assert_eq!(check(&found, &off).len(), 1);
}

#[test]
fn every_fixture_is_used() {
    let found: Vec<String> = std::fs::read_dir(data("rerankers"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, RERANKERS);
}
