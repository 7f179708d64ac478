//! Bootstrap confidence intervals of a mean over queries, which are resampled.

use serde::{Deserialize, Serialize};

/// A mean and its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean of the values themselves.
    pub mean: f64,
    /// 2.5 % of the resampled means are below this.
    pub low: f64,
    /// 2.5 % of the resampled means are above this.
    pub high: f64,
}

/// SplitMix64: a small generator, good enough to draw indices.
struct Random(u64);

impl Random {
    /// An index below `count`, each equally likely.
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * count as u128) >> 64) as usize
    }
}

/// The mean of `values` and its interval from `resamples` resampled means. The same seed gives the same interval.
pub fn interval(values: &[f64], resamples: usize, seed: u64) -> Interval {
    if values.is_empty() {
        return Interval::default();
    }
    let mean = |sum: f64| sum / values.len() as f64;
    let own = mean(values.iter().sum());
    let mut random = Random(seed);
    let mut means: Vec<f64> = (0..resamples.max(1))
        .map(|_| mean((0..values.len()).map(|_| values[random.below(values.len())]).sum()))
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |part: f64| means[((means.len() - 1) as f64 * part).round() as usize];
    Interval { mean: own, low: at(0.025), high: at(0.975) }
}

/// The mean of `a - b` over queries of which both lists have a value, in the same order, and its interval. A query that is drawn counts
/// with both of its values.
pub fn difference(a: &[f64], b: &[f64], resamples: usize, seed: u64) -> Interval {
    let pairs: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    interval(&pairs, resamples, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_as_wide_as_the_theory_says() {
        // 400 values, half of them 0 and half 1: the standard error of their mean is 0.5 / √400 = 0.025, the interval 0.5 ± 1.96 · 0.025.
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 2 == 0))).collect();
        let found = interval(&values, 4_000, 7);
        assert_eq!(found.mean, 0.5);
        assert!((found.low - 0.451).abs() < 0.006 && (found.high - 0.549).abs() < 0.006, "{found:?}");
        assert_eq!(found, interval(&values, 4_000, 7));
        assert_ne!(found, interval(&values, 4_000, 8));
    }

    #[test]
    fn a_difference_that_is_small_beside_the_spread_of_queries_is_found_in_pairs() {
        let hard: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
        let better: Vec<f64> = hard.iter().map(|x| x + 0.01).collect();
        let found = difference(&better, &hard, 1_000, 1);
        assert!(found.low > 0.009 && found.high < 0.011, "{found:?}");
        assert_eq!(interval(&[], 10, 1), Interval::default());
    }
}
