//! The score of two dense vectors, and the cosine of vectors that are not normalised.

/// Dense score: the dot product of two dense vectors, their cosine when both are L2-normalised.
///
/// Source: FlagEmbedding `compute_dense_score`. Returns `NaN` if the lengths differ (vectors of different models
/// or `dimensions` have no common space).
pub fn score(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::NAN;
    }
    trivec_kernels::Kernels::best().dot(a, b)
}

/// The cosine of two vectors of any norm, for models whose dense vectors are not normalised: `a·b / (max(‖a‖, 1e-12) · max(‖b‖, 1e-12))`.
/// `NaN` if the vectors have different numbers of values or a value is not finite.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let norm = |v: &[f32]| score(v, v).sqrt().max(1e-12);
    let (product, norms) = (score(a, b), norm(a) * norm(b));
    if product.is_finite() && norms.is_finite() { product / norms } else { cosine_of_large(a, b) }
}

/// The [`cosine`] of vectors whose products overflow in f32. In f64 the squares of finite f32 values and their sums are finite.
fn cosine_of_large(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::NAN;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norm = |v: &[f32]| dot(v, v).sqrt().max(1e-12);
    (dot(a, b) / (norm(a) * norm(b))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_ignores_length_and_score_does_not() {
        let (a, b) = ([3.0, 4.0], [6.0, 8.0]);
        assert_eq!(score(&a, &b), 50.0);
        assert!((cosine(&a, &b) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&a, &[0.0, 0.0]), 0.0);
        assert!(score(&a, &[1.0]).is_nan() && cosine(&a, &[1.0]).is_nan());
    }

    #[test]
    fn the_cosine_of_large_vectors_is_right_and_that_of_vectors_with_nan_or_infinity_is_nan() {
        for (scale_a, scale_b) in [(1e20, 1e20), (1e30, 1.0), (8e37, 1e-3), (1e15, 1e25)] {
            let (a, b) = ([3.0 * scale_a, 4.0 * scale_a, 0.0], [4.0 * scale_b, 3.0 * scale_b, 0.0]);
            assert!((cosine(&a, &b) - 0.96).abs() < 1e-6, "{scale_a:e}, {scale_b:e}: {}", cosine(&a, &b));
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for other in [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1e30, 1e30], [bad, 1.0]] {
                assert!(
                    cosine(&[bad, 1.0], &other).is_nan() && cosine(&other, &[bad, 1.0]).is_nan(),
                    "{bad} {other:?}"
                );
            }
        }
    }
}
