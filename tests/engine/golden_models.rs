//! Compares tiny random checkpoints with PyTorch, from token ids to all three outputs, on every instruction set of this CPU.

use trivec_testing as common;

use common::{Golden, check, close, data, norm, report};
use trivec::{EncodeOptions, ErrorKind, LoadOptions, Model, Modes};

const MODELS: [&str; 11] = [
    "f32-h64",
    "f16-h128",
    "bf16-h60",
    "sharded-h96",
    "noheads-h64",
    "mean-dense-h64",
    "unnormalized-h64",
    "q4-h64",
    "long-h32",
    "torch-h24",
    "mean-torch-h16",
];
/// Cases of more tokens are tested separately, on the best instruction set only: quadratic attention in scalar code takes too long.
const LONG: usize = 1000;

/// The modes for which the reference has values.
fn modes(golden: &Golden) -> Modes {
    Modes { dense: true, sparse: golden.sparse("n2").is_some(), colbert: golden.colbert("n2").is_some() }
}

/// The factor for the bound on a dense vector's error. The bound is meant for vectors of norm 1. Without a Normalize module the vector keeps
/// its norm and the rounding errors grow with it, so the factor is the norm.
fn dense_scale(name: &str, expected: &[f32]) -> f32 {
    if name.starts_with("unnormalized") {
        return norm(expected);
    }
    assert!((norm(expected) - 1.0).abs() < 1e-5, "{name}: the reference's dense vector is not normalised");
    1.0
}

/// Encodes the cases whose number of tokens is `wanted`, and returns how the results differ from the golden values.
fn run(name: &str, model: &Model, golden: &Golden, wanted: impl Fn(usize) -> bool) -> Vec<String> {
    let cases: Vec<&str> = golden.cases().filter(|case| wanted(golden.ids(case).len())).collect();
    assert!(!cases.is_empty(), "{name}: no cases");
    let ids: Vec<&[u32]> = cases.iter().map(|case| golden.ids(case)).collect();

    let options = EncodeOptions { modes: modes(golden), ..Default::default() };
    let whole = model.encode_ids(&ids, &options).unwrap();
    let dimensions = golden.dense_sliced(cases[0]).len();
    let options = EncodeOptions { dimensions: Some(dimensions), ..Default::default() };
    let sliced = model.encode_ids(&ids, &options).unwrap();
    assert_eq!((whole.len(), sliced.len()), (cases.len(), cases.len()), "{name}");

    let mut failures = Vec::new();
    for ((case, whole), sliced) in cases.iter().zip(&whole).zip(&sliced) {
        failures.extend(check(whole, golden, case, dense_scale(name, golden.dense(case))));
        let expected = golden.dense_sliced(case);
        let bound = common::DENSE * dense_scale(name, expected);
        if let Err(what) = close(sliced.dense.as_deref().unwrap_or(&[]), expected, bound) {
            failures.push(format!("{case}: dense, first {dimensions}: {what}"));
        }
    }
    failures.into_iter().map(|what| format!("{name} on {}: {what}", model.info().isa)).collect()
}

fn load(name: &str, isa: Option<&str>) -> Model {
    let options = LoadOptions { isa: isa.map(str::to_owned), ..Default::default() };
    Model::load_with(data("models").join(name), &options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn tiny_models_agree_with_pytorch() {
    let mut failures = Vec::new();
    for isa in trivec::instruction_sets() {
        eprintln!("instruction set {isa}");
        for name in MODELS {
            failures.extend(run(name, &load(name, Some(isa)), &Golden::read(name), |tokens| tokens <= LONG));
        }
    }
    report(failures);
}

#[test]
fn a_text_of_8192_tokens_agrees_with_pytorch() {
    let golden = Golden::read("long-h32");
    assert!(golden.cases().any(|case| golden.ids(case).len() == 8192));
    report(run("long-h32", &load("long-h32", None), &golden, |tokens| tokens > LONG));
}

#[test]
fn info_describes_the_checkpoint() {
    for name in MODELS {
        let (model, golden) = (load(name, None), Golden::read(name));
        let info = model.info();
        assert_eq!(info.modes, modes(&golden), "{name}");
        assert_eq!(info.dense_dim, golden.dense("n2").len(), "{name}");
        // `n2` is `<s></s>`: its one ColBERT row gives the width.
        assert_eq!(info.colbert_dim, golden.colbert("n2").map(|(_, row)| row.len()), "{name}");
        assert_eq!(info.max_length, if name.starts_with("long") { 8192 } else { 520 }, "{name}");
        let mean = name.starts_with("mean") || name.starts_with("q4");
        assert_eq!(info.pooling, if mean { "mean" } else { "cls" }, "{name}");
    }
}

#[test]
fn a_missing_head_is_refused() {
    let model = load("noheads-h64", None);
    for modes in [Modes::SPARSE, Modes::COLBERT, Modes::ALL] {
        let options = EncodeOptions { modes, ..Default::default() };
        let error = model.encode_ids(&[[0, 2]], &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModeUnavailable, "{modes}: {error}");
    }
}

#[test]
fn every_fixture_is_used() {
    let mut found: Vec<String> = std::fs::read_dir(data("models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut listed = MODELS.map(String::from).to_vec();
    found.sort();
    listed.sort();
    assert_eq!(found, listed);
}
