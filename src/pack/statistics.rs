//! Cosines and their distribution, rankings and their agreement, all in f64.

use serde::Serialize;

/// The distribution of cosines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cosines {
    /// Their mean.
    pub mean: f64,
    /// The value below which 5 % of them lie.
    pub p5: f64,
    /// The least.
    pub min: f64,
}

impl Cosines {
    /// The distribution of these cosines. All three values are NaN if there are no cosines or one of them is NaN.
    pub(super) fn of(cosines: &[f64]) -> Cosines {
        let mut sorted = cosines.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        if mean.is_nan() {
            return Cosines { mean, p5: mean, min: mean };
        }
        Cosines { mean, p5: sorted[sorted.len() / 20], min: sorted[0] }
    }
}

/// The cosine of two vectors; of two zero vectors, 1.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let (aa, bb) = (dot(a, a), dot(b, b));
    if aa == 0.0 && bb == 0.0 { 1.0 } else { dot(a, b) / (aa * bb).sqrt() }
}

/// nDCG at 10 of documents in the order of their scores (the earlier document first where scores are equal), with gain 1 for the relevant
/// ones (Järvelin & Kekäläinen 2002).
pub(super) fn ndcg10(scores: &[f64], relevant: &[usize]) -> f64 {
    let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let found = order.iter().take(10).enumerate().filter(|(_, document)| relevant.contains(document));
    let gain: f64 = found.map(|(rank, _)| discount(rank)).sum();
    let ideal: f64 = (0..relevant.len().min(10)).map(discount).sum();
    gain / ideal
}

/// Kendall's τ-b of two lists of scores: 1 where they order all pairs alike, -1 where they order all pairs the other way round; ties count
/// as in Kendall 1945. The result is 1 if both lists are all ties, and 0 if only one is.
pub(super) fn kendall_tau(a: &[f64], b: &[f64]) -> f64 {
    let (mut agreement, mut pairs_a, mut pairs_b) = (0i64, 0i64, 0i64);
    let sign = |x: f64, y: f64| i64::from(x > y) - i64::from(x < y);
    for i in 0..a.len() {
        for j in 0..i {
            let (of_a, of_b) = (sign(a[i], a[j]), sign(b[i], b[j]));
            agreement += of_a * of_b;
            pairs_a += of_a.abs();
            pairs_b += of_b.abs();
        }
    }
    match (pairs_a, pairs_b) {
        (0, 0) => 1.0,
        (0, _) | (_, 0) => 0.0,
        _ => agreement as f64 / ((pairs_a as f64) * (pairs_b as f64)).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_have_a_mean_a_percentile_and_a_least() {
        let values: Vec<f64> = (0..100).map(|i| 1.0 - f64::from(i) / 1000.0).collect();
        let c = Cosines::of(&values);
        assert!((c.mean - 0.9505).abs() < 1e-12);
        assert_eq!((c.min, c.p5), (0.901, 0.906));
        assert!(Cosines::of(&[1.0, f64::NAN]).min.is_nan());
        assert!(Cosines::of(&[]).mean.is_nan());
        assert_eq!(cosine(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(cosine(&[0.0], &[0.0]), 1.0);
    }

    #[test]
    fn ndcg_is_one_for_the_ideal_order_and_falls_with_the_rank() {
        assert_eq!(ndcg10(&[0.9, 0.1, 0.5], &[0]), 1.0);
        assert_eq!(ndcg10(&[0.9, 0.1, 0.5], &[0, 2]), 1.0);
        // Second place: 1 / log2(3).
        assert!((ndcg10(&[0.1, 0.9, 0.0], &[0]) - 0.630_929_753).abs() < 1e-9);
        let mut scores = vec![1.0; 11];
        scores[10] = 0.0;
        assert_eq!(ndcg10(&scores, &[10]), 0.0);
    }

    #[test]
    fn kendall_tau_counts_pairs() {
        let a = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(kendall_tau(&a, &a), 1.0);
        assert_eq!(kendall_tau(&a, &[4.0, 3.0, 2.0, 1.0]), -1.0);
        // One of six pairs turned: (5 - 1) / 6.
        assert!((kendall_tau(&a, &[2.0, 1.0, 3.0, 4.0]) - 4.0 / 6.0).abs() < 1e-12);
        // A tie in one list: 5 / sqrt(6 · 5).
        assert!((kendall_tau(&a, &[1.0, 1.0, 3.0, 4.0]) - 5.0 / 30f64.sqrt()).abs() < 1e-12);
        assert_eq!((kendall_tau(&[1.0, 1.0], &[2.0, 2.0]), kendall_tau(&[1.0, 1.0], &[2.0, 3.0])), (1.0, 0.0));
    }
}
