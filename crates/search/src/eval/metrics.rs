//! Metrics of a ranked list by judgements, as trec_eval defines them.

use serde::{Deserialize, Serialize};

use super::Judgements;

/// The metrics of one query's list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Normalised discounted cumulative gain of the first ten: `Σ gain / log2(rank + 1)`, divided by that of the best possible list. The
    /// gain is the judgement itself (trec_eval's `ndcg_cut`); below 0 it counts as 0.
    pub ndcg10: f64,
    /// The fraction of the relevant documents that is among the first ten.
    pub recall10: f64,
    /// The fraction of the relevant documents that is among the first hundred.
    pub recall100: f64,
    /// One divided by the rank of the first relevant document; 0 if there is none.
    pub mrr: f64,
}

/// Computes the metrics of a query's list of keys, the best first. All are 0 if the query has no relevant document.
///
/// ```
/// use trivec_search::eval::{Judgements, measure};
///
/// let mut judgements = Judgements::default();
/// judgements.insert("q1", "right", 1);
/// let metrics = measure(&["wrong", "right"], &judgements, "q1");
/// assert_eq!((metrics.mrr, metrics.recall10), (0.5, 1.0));
/// assert!((metrics.ndcg10 - 1.0 / 3f64.log2()).abs() < 1e-12);
/// ```
pub fn measure<S: AsRef<str>>(list: &[S], judgements: &Judgements, query: &str) -> Metrics {
    let gain = |key: &S| f64::from(judgements.of(query, key.as_ref()).max(0));
    let discount = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let mut ideal: Vec<f64> = judgements.gains(query).filter(|gain| *gain > 0).map(f64::from).collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let relevant = ideal.len();
    if relevant == 0 {
        return Metrics::default();
    }
    let best: f64 = ideal.iter().take(10).enumerate().map(|(place, gain)| gain * discount(place)).sum();
    let found: f64 = list.iter().take(10).enumerate().map(|(place, key)| gain(key) * discount(place)).sum();
    let recall = |depth: usize| list.iter().take(depth).filter(|key| gain(key) > 0.0).count() as f64 / relevant as f64;
    let first = list.iter().position(|key| gain(key) > 0.0);
    Metrics {
        ndcg10: found / best,
        recall10: recall(10),
        recall100: recall(100),
        mrr: first.map_or(0.0, |place| 1.0 / (place + 1) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three relevant documents with gains 3, 2 and 1; the expected values are written out by the formula.
    #[test]
    fn graded_lists_have_the_figures_of_the_formula() {
        let mut judgements = Judgements::default();
        for (key, gain) in [("a", 3), ("b", 2), ("c", 1), ("d", 0), ("e", -1)] {
            judgements.insert("q", key, gain);
        }
        let log = |x: f64| x.log2();
        let best = 3.0 / log(2.0) + 2.0 / log(3.0) + 1.0 / log(4.0);
        let metrics = measure(&["e", "b", "x", "a"], &judgements, "q");
        assert!((metrics.ndcg10 - (2.0 / log(3.0) + 3.0 / log(5.0)) / best).abs() < 1e-12);
        assert!((metrics.recall10 - 2.0 / 3.0).abs() < 1e-12 && metrics.mrr == 0.5);
        assert_eq!(measure(&["a", "b", "c"], &judgements, "q").ndcg10, 1.0);
        assert_eq!(measure::<&str>(&[], &judgements, "q"), Metrics::default());
        assert_eq!(measure(&["a"], &judgements, "unheard of"), Metrics::default());
        let far: Vec<String> = (0..150).map(|i| if i == 99 { "a".to_owned() } else { i.to_string() }).collect();
        let metrics = measure(&far, &judgements, "q");
        assert!(metrics.recall10 == 0.0 && (metrics.recall100 - 1.0 / 3.0).abs() < 1e-12 && metrics.mrr == 0.01);
    }
}
