//! Compares the scores of a model that, by its shape, may be BGE-M3 with scores that were published for BGE-M3.
//!
//! Sources: FlagEmbedding's tutorial 1.2.4_BGE-M3.ipynb (fp32) and, for the pairs of the second query, FlagEmbedding's README (fp16).

use serde::Serialize;

use super::encode::embeddings;
use crate::embedding::{Embedding, Modes};
use crate::engine::{EncodeOptions, Model, ModelInfo};
use crate::error::Result;
use crate::similarity;

const QUERIES: [&str; 2] = ["What is BGE M3?", "Defination of BM25"];
const PASSAGES: [&str; 2] = [
    "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
    "BM25 is a bag-of-words retrieval function that ranks a set of documents based on the query terms appearing in \
     each document",
];

/// Query, passage, and the published dense, lexical and ColBERT scores of the pair.
const SCORES: [(usize, usize, [f32; 3]); 4] = [
    (0, 0, [0.625_903_5, 0.195_544_48, 0.779_666_24]),
    (0, 1, [0.347_495_85, 0.008_803_92, 0.462_117_8]),
    (1, 0, [0.349_868, 0.0, 0.45238]),
    (1, 1, [0.678_246_2, 0.18030, 0.78986]),
];

/// How far a model's scores are from those that were published for BGE-M3.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Published {
    /// Scores that were compared.
    pub values: usize,
    /// The largest absolute difference.
    pub largest_difference: f64,
    /// The score that differs most, in words.
    pub worst: String,
}

/// Whether a model has BGE-M3's shape and heads. A model that was fine-tuned from BGE-M3 has them too, but gives other scores.
fn has_its_shape(info: &ModelInfo) -> bool {
    (info.layers, info.hidden, info.vocabulary) == (24, 1024, 250_002) && info.modes == Modes::ALL
}

/// Compares `model`'s scores with the published ones; `None` for a model that cannot be BGE-M3.
pub(super) fn compare(model: &Model) -> Result<Option<Published>> {
    if !has_its_shape(model.info()) {
        return Ok(None);
    }
    let options = EncodeOptions { modes: Modes::ALL, ..EncodeOptions::default() };
    let encode = |texts: &[&str], what| embeddings(model, texts, &options, |index| format!("published {what} {index}"));
    let (queries, passages) = (encode(&QUERIES, "query")?, encode(&PASSAGES, "passage")?);
    Ok(Some(largest(|query, passage| scores(&queries[query], &passages[passage]))))
}

/// The dense, lexical and ColBERT scores of a pair.
fn scores(query: &Embedding, passage: &Embedding) -> [f32; 3] {
    let scores = similarity::score(query, passage, &similarity::ScoreWeights::default());
    [scores.dense, scores.sparse, scores.colbert].map(|score| score.unwrap_or(f32::NAN))
}

/// The largest difference between the published scores and those of `found` for a query and a passage. A NaN is the largest of all.
fn largest(found: impl Fn(usize, usize) -> [f32; 3]) -> Published {
    let mut published = Published { values: 0, largest_difference: 0.0, worst: "none".to_owned() };
    for (query, passage, expected) in SCORES {
        let found = found(query, passage);
        for (name, (expected, found)) in ["dense", "lexical", "ColBERT"].into_iter().zip(expected.iter().zip(found)) {
            let difference = f64::from((expected - found).abs());
            published.values += 1;
            if difference.is_nan() || difference > published.largest_difference {
                published.largest_difference = difference;
                published.worst =
                    format!("{name} score of query {query} and passage {passage}: {found}, not {expected}");
            }
        }
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_difference_is_found() {
        let exact = |query: usize, passage: usize| SCORES[2 * query + passage].2;
        assert_eq!(largest(exact), Published { values: 12, largest_difference: 0.0, worst: "none".to_owned() });
        let off = |query, passage| {
            let mut scores = exact(query, passage);
            scores[1] += if (query, passage) == (1, 0) { 0.25 } else { 0.125 };
            scores
        };
        let found = largest(off);
        assert!((found.largest_difference - 0.25).abs() < 1e-6, "{found:?}");
        assert!(found.worst.contains("lexical score of query 1 and passage 0"), "{found:?}");
        assert!(largest(|_, _| [f32::NAN; 3]).largest_difference.is_nan());
    }
}
