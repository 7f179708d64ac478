//! Dense: a text's pooled state is mapped and normalised; the score of two texts is the dot product, which is their cosine.

use super::{Effective, Gradient};
use crate::math::{normalize_backward, normalize_rows, outer_sums, product, transposed};

/// What the backward pass needs of the forward pass.
pub(crate) struct Forward {
    /// The normalised vectors of the queries, `[queries, k]`, and the lengths that they had before; of the passages likewise.
    queries: (Vec<f32>, Vec<f32>),
    passages: (Vec<f32>, Vec<f32>),
    k: usize,
}

/// The normalised vectors of pooled states, `[texts, k]`, and the lengths that they had before.
fn side(map: &Effective, pooled: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut rows = map.apply(pooled);
    let norms = normalize_rows(&mut rows, map.outputs);
    (rows, norms)
}

/// Vectors of pooled states `[texts, inputs]`, normalised.
pub(crate) fn vectors(map: &Effective, pooled: &[f32]) -> Vec<f32> {
    side(map, pooled).0
}

/// Scores `[queries, passages]`, and what the backward pass needs.
pub(crate) fn forward(map: &Effective, queries: &[f32], passages: &[f32]) -> (Vec<f32>, Forward) {
    let (queries, passages) = (side(map, queries), side(map, passages));
    let scores = product(&queries.0, &passages.0, map.outputs, None);
    (scores, Forward { queries, passages, k: map.outputs })
}

/// The gradient of the map from `G` = ∂L/∂S `[queries, passages]`: `∂D_q = G D_p` and `∂D_p = Gᵀ D_q`; back through the normalisation to `∂r`;
/// then `∂W = Σ ∂r uᵀ` with the pooled states `u`, `∂b = Σ ∂r`.
pub(crate) fn backward(map: &Effective, forward: &Forward, g: &[f32], queries: &[f32], passages: &[f32]) -> Gradient {
    let k = forward.k;
    let (q, p) = (&forward.queries, &forward.passages);
    let count = p.1.len();
    let mut dq = product(g, &transposed(&p.0, k), count, None);
    let mut dp = product(&transposed(g, count), &transposed(&q.0, k), q.1.len(), None);
    normalize_backward(&mut dq, &q.0, &q.1, k);
    normalize_backward(&mut dp, &p.0, &p.1, k);
    dq.extend(dp);
    let pooled = [queries, passages].concat();
    // A text has one row here.
    let starts: Vec<usize> = (0..=dq.len() / k).collect();
    let (weight, bias) = outer_sums(&dq, &pooled, [k, map.inputs], &starts);
    Gradient { weight, bias }
}
