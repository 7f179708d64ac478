//! Compares BGE-M3 with values that were published for it. The tests only run if the environment variable TRIVEC_BGE_M3 names a checkpoint
//! directory.
//!
//! Sources: fp32 values of FlagEmbedding's tutorial 1.2.4_BGE-M3.ipynb; fp16 values of its README; lexical weights by
//! FlagEmbedding in fastembed-rs, tests/bgem3_comparison.rs.

use trivec_testing as common;

use std::io::Write;

use common::{LEXICAL, close, lexical};
use trivec::{Embedding, EncodeOptions, Model, Modes, similarity};

const QUERIES: [&str; 2] = ["What is BGE M3?", "Defination of BM25"];
const PASSAGES: [&str; 2] = [
    "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
    "BM25 is a bag-of-words retrieval function that ranks a set of documents based on the query terms appearing in \
     each document",
];
/// The tolerance for scores in fp32. They were published with 7 or more digits, from another machine, and each sums hundreds of products.
const SCORE: f32 = 5e-6;
/// The tolerance for scores of fp16 arithmetic, whose own published runs differ by 6e-4.
const HALF: f32 = 1e-3;

/// The model; or `None`, with a notice that the test is skipped.
fn model(test: &str) -> Option<Model> {
    let Some(directory) = std::env::var_os("TRIVEC_BGE_M3") else {
        // Not eprintln!, whose output the test runner hides when a test passes.
        let notice = format!("SKIPPED {test}: set TRIVEC_BGE_M3 to the directory of a BGE-M3 checkpoint to run it\n");
        std::io::stderr().write_all(notice.as_bytes()).unwrap();
        return None;
    };
    Some(Model::load(directory).unwrap())
}

fn encode(model: &Model, texts: &[&str]) -> Vec<Embedding> {
    model.encode(texts, &EncodeOptions { modes: Modes::ALL, ..Default::default() }).unwrap()
}

/// The scores of all four pairs of a query `q` and a passage `p`: first those of the first query.
fn pairs(score: impl Fn(&Embedding, &Embedding) -> f32, q: &[Embedding], p: &[Embedding]) -> [f32; 4] {
    [score(&q[0], &p[0]), score(&q[0], &p[1]), score(&q[1], &p[0]), score(&q[1], &p[1])]
}

fn dense(a: &Embedding, b: &Embedding) -> f32 {
    similarity::dense(a.dense.as_ref().unwrap(), b.dense.as_ref().unwrap())
}

fn lexical_score(a: &Embedding, b: &Embedding) -> f32 {
    similarity::lexical(a.lexical.as_ref().unwrap(), b.lexical.as_ref().unwrap())
}

fn colbert(a: &Embedding, b: &Embedding) -> f32 {
    similarity::colbert(a.colbert.as_ref().unwrap(), b.colbert.as_ref().unwrap())
}

#[test]
fn tutorial_scores_in_fp32() {
    let Some(model) = model("tutorial_scores_in_fp32") else { return };
    let (q, p) = (encode(&model, &QUERIES), encode(&model, &PASSAGES));
    close(&pairs(dense, &q, &p), &[0.6259035, 0.34749585, 0.349868, 0.6782462], SCORE).unwrap();
    let found = [lexical_score(&q[0], &p[0]), lexical_score(&q[0], &p[1]), lexical_score(&q[0], &q[1])];
    close(&found, &[0.195_544_48, 0.008_803_92, 0.0], SCORE).unwrap();
    close(&[colbert(&q[0], &p[0]), colbert(&q[0], &p[1])], &[0.779_666_24, 0.462_117_8], SCORE).unwrap();
    let mix = |p: &Embedding| (dense(&q[0], p) + lexical_score(&q[0], p) + colbert(&q[0], p)) / 3.0;
    close(&[mix(&p[0]), mix(&p[1])], &[0.533_704_74, 0.272_805_86], SCORE).unwrap();
    assert_eq!(q[0].colbert.as_ref().unwrap().rows(), 8);
    assert_eq!(p[0].colbert.as_ref().unwrap().rows(), 30);
}

#[test]
fn readme_scores_in_fp16() {
    let Some(model) = model("readme_scores_in_fp16") else { return };
    let (q, p) = (encode(&model, &QUERIES), encode(&model, &PASSAGES));
    close(&pairs(colbert, &q, &p), &[0.77965, 0.46215, 0.45238, 0.78986], HALF).unwrap();
    close(&pairs(lexical_score, &q, &p), &[0.19556, 0.00880, 0.0, 0.18030], HALF).unwrap();
    close(&pairs(dense, &q, &p), &[0.62598, 0.34741, 0.34985, 0.67822], HALF).unwrap();
    let mix = |q: &Embedding, p: &Embedding| 0.4 * dense(q, p) + 0.2 * lexical_score(q, p) + 0.4 * colbert(q, p);
    close(&pairs(mix, &q, &p), &[0.60136, 0.32558, 0.32089, 0.62329], HALF).unwrap();
}

#[test]
fn tutorial_lexical_weights() {
    let Some(model) = model("tutorial_lexical_weights") else { return };
    let expected: [&[(&str, f32)]; 2] = [
        &[
            ("What", 0.08362077),
            ("is", 0.081469566),
            ("B", 0.12964639),
            ("GE", 0.251_869_98),
            ("M", 0.17001738),
            ("3", 0.26957875),
            ("?", 0.040755156),
        ],
        &[
            ("De", 0.050144322),
            ("fin", 0.13689369),
            ("ation", 0.045134712),
            ("of", 0.06342201),
            ("BM", 0.25167602),
            ("25", 0.33353207),
        ],
    ];
    for (text, expected) in QUERIES.iter().zip(expected) {
        let inspection = model.inspect(text, &EncodeOptions::default()).unwrap();
        let weights = inspection.embedding.lexical.unwrap();
        assert_eq!(weights.len(), expected.len(), "{text}");
        for &(piece, weight) in expected {
            // The published names went through `decode`, which drops the mark of a word's start.
            let token = inspection.tokens.iter().find(|token| token.piece.trim_start_matches('▁') == piece);
            let id = token.unwrap_or_else(|| panic!("{text}: no token `{piece}`")).id;
            close(&[weights.weight(id)], &[weight], LEXICAL).map_err(|what| format!("`{piece}`: {what}")).unwrap();
        }
    }
}

#[test]
fn lexical_weights_of_two_more_texts() {
    let Some(model) = model("lexical_weights_of_two_more_texts") else { return };
    // The two spaces before 2.0 test the normaliser.
    let texts = ["fastembed-rs is licensed under Apache  2.0", "Superman is the best superhero of all time"];
    let expected = [
        (
            &[4271, 195, 13482, 9, 4295, 83, 86872, 71, 1379, 9795, 1430, 16655][..],
            &[
                0.17456965, 0.16260204, 0.28582922, 0.04153823, 0.24856839, 0.07778944, 0.17708361, 0.08359783,
                0.10846229, 0.1580239, 0.15291117, 0.223301,
            ][..],
            13,
        ),
        (
            &[183497, 83, 70, 2965, 1601, 90865, 111, 756, 1733],
            &[
                0.32012847, 0.19853045, 0.16743071, 0.24451455, 0.17550871, 0.25476876, 0.11962792, 0.13541803,
                0.18622744,
            ],
            10,
        ),
    ];
    for (found, (ids, weights, rows)) in encode(&model, &texts).iter().zip(expected) {
        lexical(found.lexical.as_ref().unwrap(), ids, weights, LEXICAL).unwrap();
        assert_eq!(found.colbert.as_ref().unwrap().rows(), rows);
    }
}
