//! Queries with which a user can check a loaded export: the vectors of some documents, and the documents that each must find.

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::bits::Bits;
use crate::error::Result;
use crate::query::{Stop, dense, lexical};

/// The largest number of queries in the manifest.
const QUERIES: usize = 20;
/// The largest number of documents that each list of a query names.
const EXPECTED: usize = 10;
/// How many of the nearest documents by the index's own dense scores are scored again with the exported vectors.
const SCANNED: usize = 200;
/// How many of these are sorted by their ColBERT scores.
const RERANKED: usize = 50;
/// How many of a document's first ColBERT rows are used as a query: about the number that a question has.
const QUERY_ROWS: usize = 32;

/// A query, which is the vectors of one of the documents, and the documents of the export that are nearest to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The key of the document whose vectors are the query.
    pub key: String,
    /// The keys of the documents with the largest products of dense vectors, the largest first.
    pub dense: Vec<String>,
    /// The products of `dense`.
    pub dense_scores: Vec<f32>,
    /// The keys of the documents with the largest products of lexical weights, the largest first.
    pub sparse: Vec<String>,
    /// The products of `sparse`.
    pub sparse_scores: Vec<f32>,
    /// The keys of the documents among which `colbert` ranks: the nearest by dense vectors.
    pub colbert_of: Vec<String>,
    /// How many ColBERT rows of the document `key` are the query: its first ones.
    pub colbert_rows: usize,
    /// The keys of the documents of `colbert_of` with the largest ColBERT scores, the largest first. The score is the mean, over the
    /// query's rows, of the largest product with a row of the document.
    pub colbert: Vec<String>,
    /// The scores of `colbert`.
    pub colbert_scores: Vec<f32>,
}

/// The dot product.
fn product(a: &[f32], b: &[f32]) -> f32 {
    trivec_kernels::Kernels::best().dot(a, b)
}

/// Makes the queries of documents that are evenly spaced in `order`, the export's rows, and finds what each must find. `keys` has the key
/// of every row, and `selected` the rows of the export.
pub(super) fn queries(source: &Source<'_>, order: &[usize], keys: &[String], selected: &Bits) -> Result<Vec<Expected>> {
    let count = QUERIES.min(order.len());
    let key = |row: usize| keys.get(row).cloned().unwrap_or_default();
    let best = |mut list: Vec<(f32, usize)>, most: usize| {
        list.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| keys[a.1].cmp(&keys[b.1])));
        list.truncate(most);
        list
    };
    let named = |list: Vec<(f32, usize)>| -> (Vec<String>, Vec<f32>) {
        (list.iter().map(|&(_, row)| key(row)).collect(), list.iter().map(|&(score, _)| score).collect())
    };
    let stop = Stop::of([]);
    let mut queries = Vec::new();
    for index in 0..count {
        let row = order[index * order.len() / count];
        let vector = source.dense(row)?;
        let scanned = dense::search(source.reader, &[&vector], selected, SCANNED, 1, &stop)?.pop().unwrap_or_default();
        let scored = scanned.iter().map(|&(_, row)| Ok((product(&vector, &source.dense(row)?), row)));
        let nearest = best(scored.collect::<Result<_>>()?, SCANNED);
        let weights = trivec::LexicalWeights::from_pairs(source.sparse(row)?);
        let sparse = lexical::search(source.reader, &weights, selected, EXPECTED, 1, &stop)?;

        let mut asking = source.colbert(row)?.0;
        asking.truncate(QUERY_ROWS);
        let pool = if asking.is_empty() { &[] } else { &nearest[..nearest.len().min(RERANKED)] };
        let colbert = pool.iter().map(|&(_, row)| Ok((max_sim(&asking, &source.colbert(row)?.0), row)));
        let colbert = best(colbert.collect::<Result<_>>()?, EXPECTED);

        let colbert_of = pool.iter().map(|&(_, row)| key(row)).collect();
        let (dense, dense_scores) = named(best(nearest, EXPECTED));
        let (sparse, sparse_scores) = named(sparse);
        let colbert_rows = asking.len();
        let (colbert, colbert_scores) = named(colbert);
        queries.push(Expected {
            key: key(row),
            dense,
            dense_scores,
            sparse,
            sparse_scores,
            colbert_of,
            colbert_rows,
            colbert,
            colbert_scores,
        });
    }
    Ok(queries)
}

/// The mean over the rows of a query of the largest product with a row of a document; 0 for a document without rows.
fn max_sim(query: &[Vec<f32>], document: &[Vec<f32>]) -> f32 {
    if document.is_empty() {
        return 0.0;
    }
    let largest = |row: &Vec<f32>| document.iter().map(|own| product(row, own)).fold(f32::NEG_INFINITY, f32::max);
    query.iter().map(largest).sum::<f32>() / query.len().max(1) as f32
}
