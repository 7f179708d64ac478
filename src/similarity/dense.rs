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

/// The cosine of two vectors of any length, for models whose dense vectors are not normalised: `a·b / (max(‖a‖, 1e-12) · max(‖b‖,
/// 1e-12))`. `NaN` if they differ in length.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let norm = |v: &[f32]| score(v, v).sqrt().max(1e-12);
    score(a, b) / (norm(a) * norm(b))
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
}
