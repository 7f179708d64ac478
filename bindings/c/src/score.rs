//! Scores of two texts from their computed vectors and weights. NaN stands for a score that does not exist: of a NULL pointer, of no rows, or
//! as a mean whose weights add up to 0.

use trivec::similarity;
use trivec::{LexicalWeights, TokenVectors};

use crate::arguments::array;

/// The dot product of two dense vectors of `dim` values: their cosine, if both have the length 1.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_dense_score(a: *const f32, b: *const f32, dim: usize) -> f32 {
    // SAFETY: the caller's promise.
    match unsafe { (array(a, dim, "a"), array(b, dim, "b")) } {
        (Ok(a), Ok(b)) => similarity::dense(a, b),
        _ => f32::NAN,
    }
}

/// The sum, over the ids that both texts have, of the products of their weights.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_lexical_score(
    ids_a: *const u32,
    weights_a: *const f32,
    count_a: usize,
    ids_b: *const u32,
    weights_b: *const f32,
    count_b: usize,
) -> f32 {
    let lexical = |ids: *const u32, weights: *const f32, count: usize| {
        // SAFETY: the caller's promise.
        let (ids, weights) = unsafe { (array(ids, count, "ids").ok()?, array(weights, count, "weights").ok()?) };
        Some(LexicalWeights::from_pairs(ids.iter().copied().zip(weights.iter().copied()).collect()))
    };
    match (lexical(ids_a, weights_a, count_a), lexical(ids_b, weights_b, count_b)) {
        (Some(a), Some(b)) => similarity::lexical(&a, &b),
        _ => f32::NAN,
    }
}

/// For every row of the query its largest dot product with a row of the document; the mean of those. Rows have `dim` values, one after another.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_colbert_score(
    query: *const f32,
    query_rows: usize,
    document: *const f32,
    document_rows: usize,
    dim: usize,
) -> f32 {
    let vectors = |rows: *const f32, count: usize| {
        let values = count.checked_mul(dim).filter(|&values| values > 0)?;
        // SAFETY: the caller's promise.
        let rows = unsafe { array(rows, values, "rows") }.ok()?;
        Some(TokenVectors::new(rows.to_vec(), dim))
    };
    match (vectors(query, query_rows), vectors(document, document_rows)) {
        (Some(query), Some(document)) => similarity::colbert(&query, &document),
        _ => f32::NAN,
    }
}

/// The weighted mean of the three scores; `weights` are three, of dense, sparse and ColBERT. NaN if they add up to 0.
///
/// # Safety
/// See the header's first words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trivec_combined_score(dense: f32, sparse: f32, colbert: f32, weights: *const f32) -> f32 {
    // SAFETY: the caller's promise.
    let Ok(&[d, s, c]) = (unsafe { array(weights, 3, "weights") }) else { return f32::NAN };
    let (d, s, c) = (f64::from(d), f64::from(s), f64::from(c));
    ((f64::from(dense) * d + f64::from(sparse) * s + f64::from(colbert) * c) / (d + s + c)) as f32
}
