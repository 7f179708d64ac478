//! Measures how well heads find the right passages of a set: for every way of scoring, query by query.

use serde::{Deserialize, Serialize};
use trivec::bootstrap::{Interval, difference, interval};

use crate::arms::{Effective, Tokens, colbert, dense, lexical};
use crate::corpus::{Corpus, Placed};
use crate::data::PairSet;
use crate::math::add_scaled;

/// The names of the ways of scoring that are measured: each arm alone, and two weighted sums of arms.
pub const WAYS: [&str; 5] = ["dense", "sparse", "colbert", "dense+sparse", "all"];

/// How many resamples of the queries the bootstrap draws for an interval, and from which seed.
const RESAMPLES: usize = 1_000;
const SEED: u64 = 1;

/// How many passages' vectors are in memory at a time.
const PASSAGES: usize = 256;
/// The most queries whose scores are in memory at a time.
const QUERIES: usize = 1_024;
/// The most scores of one arm that are in memory at a time, unless [`LEAST_QUERIES`] queries have more. Five matrices of this size are in memory
/// at once, one for each of [`WAYS`].
const SCORES: usize = 1 << 25;
/// The fewest queries that are measured at a time: the passages' vectors are computed again for each part of the queries.
const LEAST_QUERIES: usize = 64;

/// The figures of each query, in the order of the set's queries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PerQuery {
    /// nDCG@10, where the passages of the query's group are the right ones.
    pub ndcg10: Vec<f64>,
    /// Recall@100: the part of the right passages that are among the first hundred.
    pub recall100: Vec<f64>,
    /// 1 if the first passage of the ranking is right, else 0.
    pub first: Vec<f64>,
}

/// What heads reach on a set, for each way of scoring; `None` if the model lacks the arms for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// In the order of [`WAYS`].
    pub ways: [Option<PerQuery>; 5],
}

/// What one way of scoring reached before and after the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// One of [`WAYS`].
    pub way: String,
    /// nDCG@10 of the model as it was given; `None` if it lacked the arms for this way.
    pub before: Option<f64>,
    /// nDCG@10 of the trained model.
    pub after: f64,
    /// nDCG@10 after the training minus that before it, with the interval of 95 % over resampled queries.
    pub difference: Option<Interval>,
    /// Recall@100 before and after.
    pub recall100: (Option<f64>, f64),
    /// The part of the queries whose first passage is right, before and after.
    pub first: (Option<f64>, f64),
}

/// A set's figures before and after the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// What the caller calls the set.
    pub name: String,
    /// How many queries the set has.
    pub queries: usize,
    /// How many passages are ranked for each query: all of the set.
    pub passages: usize,
    /// How many pairs of the set have a query or a passage that was also trained on.
    pub overlap: usize,
    /// The figures of every way of scoring that the trained model has the arms for.
    pub changes: Vec<Change>,
}

/// A score that cannot be ranked, with the indices of its query and passage in the set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NotFinite {
    pub arm: &'static str,
    pub score: f32,
    pub query: usize,
    pub passage: usize,
}

fn mean(values: &[f64]) -> f64 {
    // The sum of no floats is -0.0 in Rust, and -0.0 + 0.0 is 0.0.
    values.iter().sum::<f64>() / values.len().max(1) as f64 + 0.0
}

impl Evaluation {
    /// Mean nDCG@10 of a way of scoring, which is given by its index in [`WAYS`].
    pub fn ndcg10(&self, way: usize) -> Option<f64> {
        self.ways[way].as_ref().map(|values| mean(&values.ndcg10))
    }

    /// The mean of nDCG@10 over those of the three arms that are marked `true`.
    pub(crate) fn mean_of(&self, arms: [bool; 3]) -> f64 {
        let all: Vec<f64> = (0..3).filter(|&arm| arms[arm]).filter_map(|arm| self.ndcg10(arm)).collect();
        mean(&all)
    }

    /// Compares these figures with those of `before`.
    pub(crate) fn changes(&self, before: &Evaluation) -> Vec<Change> {
        let of = |way: usize| {
            let after = self.ways[way].as_ref()?;
            let before = before.ways[way].as_ref();
            Some(Change {
                way: WAYS[way].to_owned(),
                before: before.map(|before| mean(&before.ndcg10)),
                after: mean(&after.ndcg10),
                difference: before.map(|before| difference(&after.ndcg10, &before.ndcg10, RESAMPLES, SEED)),
                recall100: (before.map(|before| mean(&before.recall100)), mean(&after.recall100)),
                first: (before.map(|before| mean(&before.first)), mean(&after.first)),
            })
        };
        (0..WAYS.len()).filter_map(of).collect()
    }

    /// Mean nDCG@10 of a way of scoring (its index in [`WAYS`]), with its interval.
    pub fn interval(&self, way: usize) -> Option<Interval> {
        self.ways[way].as_ref().map(|values| interval(&values.ndcg10, RESAMPLES, SEED))
    }
}

/// Measures heads on a set. `weights` are those of dense, sparse and ColBERT in the ways of scoring that are sums.
///
/// # Errors
/// [`NotFinite`] if a score is NaN or infinite: it has no rank, and every figure of the set would be wrong.
pub(crate) fn evaluate(
    corpus: &Corpus,
    set: &PairSet,
    placed: Placed,
    maps: &[Option<Effective>; 3],
    weights: [f32; 3],
) -> Result<Evaluation, NotFinite> {
    let groups = query_groups(set);
    let mut found = Evaluation::default();
    let together = queries_together(set.passages.len());
    for first in (0..set.queries.len()).step_by(together) {
        let queries: Vec<u32> = (first as u32..(first + together).min(set.queries.len()) as u32).collect();
        let scores = scores(corpus, set, placed, maps, &queries);
        check_finite(&scores, &queries, set.passages.len())?;
        for (way, scores) in ways(scores, weights).into_iter().enumerate() {
            let Some(scores) = scores else { continue };
            let own = found.ways[way].get_or_insert_default();
            for (row, &query) in scores.chunks_exact(set.passages.len()).zip(&queries) {
                if let Some(group) = groups[query as usize] {
                    let figures = measure(row, |place| set.passage_groups[place] == Some(group));
                    own.ndcg10.push(figures[0]);
                    own.recall100.push(figures[1]);
                    own.first.push(figures[2]);
                }
            }
        }
    }
    Ok(found)
}

/// How many queries are measured at a time, if each has scores with so many passages.
fn queries_together(passages: usize) -> usize {
    (SCORES / passages.max(1)).clamp(LEAST_QUERIES, QUERIES)
}

/// Finds the first score that is NaN or infinite; each arm's scores are `[queries, passages]`.
fn check_finite(arms: &[Option<Vec<f32>>; 3], queries: &[u32], passages: usize) -> Result<(), NotFinite> {
    for (arm, scores) in WAYS.into_iter().zip(arms).filter_map(|(arm, scores)| Some((arm, scores.as_ref()?))) {
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            let (query, passage) = (queries[at / passages] as usize, at % passages);
            return Err(NotFinite { arm, score: scores[at], query, passage });
        }
    }
    Ok(())
}

/// The group of each query: the one that its pairs belong to.
fn query_groups(set: &PairSet) -> Vec<Option<u32>> {
    let mut groups = vec![None; set.queries.len()];
    set.pairs.iter().for_each(|pair| groups[pair.query as usize] = Some(pair.group));
    groups
}

/// The scores of each arm, `[queries, passages]`, of these queries with all passages of the set.
fn scores(
    corpus: &Corpus,
    set: &PairSet,
    placed: Placed,
    maps: &[Option<Effective>; 3],
    queries: &[u32],
) -> [Option<Vec<f32>>; 3] {
    let texts: Vec<usize> = queries.iter().map(|&place| placed.query(place)).collect();
    let q_tokens = Tokens::load(&corpus.states, &corpus.ids, &texts);
    let q_dense = maps[0].as_ref().map(|map| dense::vectors(map, &corpus.pooled(&texts)));
    let q_pieces = maps[1].as_ref().map(|map| lexical::pieces(map, &q_tokens));
    let q_vectors = maps[2].as_ref().map(|map| colbert::Vectors::of(map, &q_tokens));
    let all = set.passages.len();
    let mut out = [0, 1, 2].map(|arm| maps[arm].as_ref().map(|_| vec![0.0; queries.len() * all]));
    for first in (0..all).step_by(PASSAGES) {
        let part: Vec<usize> =
            (first as u32..(first + PASSAGES).min(all) as u32).map(|place| placed.passage(place)).collect();
        let tokens = Tokens::load(&corpus.states, &corpus.ids, &part);
        let blocks = [
            maps[0].as_ref().zip(q_dense.as_ref()).map(|(map, queries)| {
                let passages = dense::vectors(map, &corpus.pooled(&part));
                crate::math::product(queries, &passages, map.outputs, None)
            }),
            maps[1]
                .as_ref()
                .zip(q_pieces.as_ref())
                .map(|(map, queries)| lexical::scores(queries, &lexical::pieces(map, &tokens))),
            maps[2]
                .as_ref()
                .zip(q_vectors.as_ref())
                .map(|(map, queries)| colbert::scores(queries, &colbert::Vectors::of(map, &tokens))),
        ];
        for (out, block) in out.iter_mut().zip(&blocks) {
            let (Some(out), Some(block)) = (out, block) else { continue };
            for (row, values) in block.chunks_exact(part.len()).enumerate() {
                out[row * all + first..][..part.len()].copy_from_slice(values);
            }
        }
    }
    out
}

/// The scores of each of [`WAYS`], computed from the scores of the three arms.
fn ways(arms: [Option<Vec<f32>>; 3], weights: [f32; 3]) -> [Option<Vec<f32>>; 5] {
    let sum = |wanted: &[usize]| {
        let mut total = vec![0.0; arms[wanted[0]].as_ref()?.len()];
        for &arm in wanted {
            add_scaled(&mut total, weights[arm], arms[arm].as_ref()?);
        }
        Some(total)
    };
    let (both, all) = (sum(&[0, 1]), sum(&[0, 1, 2]));
    let [dense, sparse, colbert] = arms;
    [dense, sparse, colbert, both, all]
}

/// Ranks one query's scores, and returns nDCG@10, Recall@100, and 1 or 0 for whether the first passage is right. Passages with equal scores are
/// ranked in the order of the set. A right passage has the gain 1, as in trec_eval's `ndcg_cut` when every judgement is 0 or 1.
fn measure(scores: &[f32], right: impl Fn(usize) -> bool) -> [f64; 3] {
    /// How many passages are ranked: as many as Recall@100 needs.
    const DEPTH: usize = 100;
    let relevant = (0..scores.len()).filter(|&place| right(place)).count();
    if relevant == 0 {
        return [0.0; 3];
    }
    let mut places: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if places.len() > DEPTH {
        places.select_nth_unstable_by(DEPTH, order);
        places.truncate(DEPTH);
    }
    places.sort_by(order);
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let gained = |(rank, place): (usize, &usize)| if right(*place) { discount(rank) } else { 0.0 };
    let best: f64 = (0..relevant.min(10)).map(discount).sum();
    let ndcg = places.iter().take(10).enumerate().map(gained).sum::<f64>() / best;
    let recall = places.iter().filter(|&&place| right(place)).count() as f64 / relevant as f64;
    [ndcg, recall, f64::from(u8::from(right(places[0])))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_formula() {
        let scores = [0.1, 0.9, 0.5, 0.9];
        // The ranking is 1, 3, 2, 0. The right passages 3 and 0 are at ranks 2 and 4.
        let [ndcg, recall, first] = measure(&scores, |place| place == 3 || place == 0);
        let log = |x: f64| x.log2();
        let expected = (1.0 / log(3.0) + 1.0 / log(5.0)) / (1.0 / log(2.0) + 1.0 / log(3.0));
        assert!((ndcg - expected).abs() < 1e-12);
        assert_eq!((recall, first), (1.0, 0.0));
        assert_eq!(measure(&scores, |place| place == 1), [1.0, 1.0, 1.0]);
        let many: Vec<f32> = (0..300).map(|i| -(i as f32)).collect();
        assert_eq!(measure(&many, |place| place == 99), [0.0, 1.0, 0.0]);
        assert_eq!(measure(&many, |place| place == 100), [0.0, 0.0, 0.0]);
        assert_eq!(measure(&many, |_| false), [0.0; 3]);
    }

    #[test]
    fn large_sets_are_measured_with_fewer_queries_at_a_time() {
        assert_eq!([0, 1, 20_000, 100_000, 10_000_000].map(queries_together), [1_024, 1_024, 1_024, 335, 64]);
    }

    #[test]
    fn a_score_that_is_no_number_has_no_rank() {
        let fine = Some(vec![0.5; 6]);
        assert_eq!(check_finite(&[fine.clone(), None, fine.clone()], &[7, 9], 3), Ok(()));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut scores = vec![0.5; 6];
            scores[5] = bad;
            let found = check_finite(&[fine.clone(), None, Some(scores)], &[7, 9], 3).unwrap_err();
            assert_eq!((found.arm, found.query, found.passage), ("colbert", 9, 2));
            assert_eq!(found.score.to_bits(), bad.to_bits());
        }
        // Without the check, the text with the NaN score would be ranked first.
        assert_eq!(measure(&[0.1, f32::NAN], |place| place == 1)[2], 1.0);
    }

    #[test]
    fn the_mean_of_no_values_is_not_negative_zero() {
        assert!(mean(&[]).is_sign_positive());
    }

    #[test]
    fn the_interval_is_that_of_the_difference() {
        let with = |x: f64| Evaluation {
            ways: [
                Some(PerQuery { ndcg10: vec![x; 8], recall100: vec![1.0; 8], first: vec![0.0; 8] }),
                None,
                None,
                None,
                None,
            ],
        };
        let changes = with(0.75).changes(&with(0.5));
        assert_eq!(changes.len(), 1);
        let difference = changes[0].difference.unwrap();
        assert_eq!((difference.low, difference.mean, difference.high), (0.25, 0.25, 0.25));
        assert_eq!(with(0.75).changes(&Evaluation::default())[0].before, None);
        assert_eq!(with(0.5).mean_of([true, true, true]), 0.5);
    }
}
