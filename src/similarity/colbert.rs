//! The ColBERT score (MaxSim) of two texts, and which rows make it.

use crate::embedding::TokenVectors;

/// ColBERT score (MaxSim): for every query row its largest dot product over all document rows, averaged over the
/// query rows. Asymmetric.
///
/// Source: FlagEmbedding `colbert_score`, the unpadded form: `1/N_q Σ_i max_j q_i·p_j`. The padded batch form has a
/// floor of 0 that depends on a text's neighbours, so it is not used. `NaN` if the vectors differ in length or a side is empty.
pub fn score(query: &TokenVectors, document: &TokenVectors) -> f32 {
    let best = align(query, document);
    if best.is_empty() {
        return f32::NAN;
    }
    (best.iter().map(|alignment| f64::from(alignment.similarity)).sum::<f64>() / best.len() as f64) as f32
}

/// The document row that matches a query row best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// Row of the document with the largest dot product; the first one if several have it.
    pub document_row: usize,
    /// The dot product of the two rows (their cosine, if they are normalised).
    pub similarity: f32,
}

/// The best match of every query row, in row order: the terms of the ColBERT score. Empty if the vectors differ in
/// length or a side has no rows.
///
/// ```
/// use trivec::{TokenVectors, similarity::{align, colbert}};
///
/// let query = TokenVectors::new(vec![1.0, 0.0, 0.0, 1.0], 2);
/// let document = TokenVectors::new(vec![0.6, 0.8], 2);
/// let best = align(&query, &document);
/// assert_eq!((best[1].document_row, best[1].similarity), (0, 0.8));
/// assert!((colbert(&query, &document) - 0.7).abs() < 1e-6); // the mean of 0.6 and 0.8
/// ```
pub fn align(query: &TokenVectors, document: &TokenVectors) -> Vec<Alignment> {
    if query.dim() != document.dim() || document.rows() == 0 {
        return Vec::new();
    }
    let kernels = trivec_kernels::Kernels::best();
    query
        .iter()
        .map(|q| {
            let mut best = Alignment { document_row: 0, similarity: f32::NEG_INFINITY };
            for (document_row, p) in document.iter().enumerate() {
                let similarity = kernels.dot(q, p);
                // A NaN is kept as the best, so that broken vectors have the score NaN and not one that looks sound.
                if similarity > best.similarity || similarity.is_nan() {
                    best = Alignment { document_row, similarity };
                }
            }
            best
        })
        .collect()
}

/// Every dot product: `[query rows][document rows]`. Empty if the vectors differ in length.
pub fn similarities(query: &TokenVectors, document: &TokenVectors) -> Vec<Vec<f32>> {
    if query.dim() != document.dim() {
        return Vec::new();
    }
    let kernels = trivec_kernels::Kernels::best();
    query.iter().map(|q| document.iter().map(|p| kernels.dot(q, p)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_best_row_and_keeps_negative_similarities() {
        let query = TokenVectors::new(vec![1.0, 0.0, 0.0, 1.0], 2);
        let document = TokenVectors::new(vec![-1.0, 0.0, -0.6, -0.8], 2);
        // Row 0: max(-1, -0.6); row 1: max(0, -0.8). A floor of 0 would give 0.
        let expected = (-0.6 + 0.0) / 2.0;
        assert!((score(&query, &document) - expected).abs() < 1e-6);
        assert_eq!(align(&query, &document)[0].document_row, 1);
        assert!(score(&query, &TokenVectors::new(vec![1.0; 3], 3)).is_nan());
    }

    #[test]
    fn the_score_of_vectors_with_nan_is_nan() {
        let good = TokenVectors::new(vec![1.0, 0.0, 0.0, 1.0], 2);
        for broken in [vec![f32::NAN, 0.0, 0.0, 1.0], vec![0.0, 1.0, f32::NAN, 0.0], vec![f32::NAN; 4]] {
            let broken = TokenVectors::new(broken, 2);
            assert!(score(&good, &broken).is_nan() && score(&broken, &good).is_nan());
        }
    }
}
