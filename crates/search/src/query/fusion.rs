//! Fuses the lists of the arms into one.
//!
//! | | score of a document | use |
//! |---|---|---|
//! | `share` | `minmax(dense) + w · share`; with the dense arm alone the cosine | default: the BM25 list counts by how much of the query's information its documents have, so that a list which found nothing cannot push down what the vectors found |
//! | `rrf` | `Σ weight / (k + rank)`, ranks from 1 | reciprocal rank fusion; the BM25 list is left out where its best share is below the gate |
//! | `weighted` | `(d·dense + s·lexical + c·ColBERT) / (d + s + c)` | FlagEmbedding's mix |
//!
//! The scores of `share` and `rrf` are divided by their largest possible value. In the first formula, `share` is the document's BM25 score
//! divided by the largest that any document could get for this query, 0 to 1. Words that no document has count for that largest score too,
//! and a word that a document has once gives about half of what it could give: a document that has every word once has a share of about
//! 0.4 to 0.5. Across languages the share is near 0 by itself. Reciprocal ranks have no such measure: with German questions over English
//! paragraphs they lowered nDCG@10 from 78.7 to 65.2, which is why there is the gate.

use serde::{Deserialize, Serialize};

use super::arms::Arms;
use super::topk::Scored;
use crate::error::{Error, Result};

/// How the arms' lists become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Fusion {
    /// The dense score, stretched to 0 .. 1 over the arm's candidates, plus `weight` times the share of the query's words.
    Share {
        /// Weight of the share. In measurements, 1 was the largest value that made no set worse; 2 did.
        #[serde(default = "defaults::one")]
        weight: f32,
    },
    /// Reciprocal rank fusion.
    Rrf {
        /// The constant k, which is added to every rank.
        #[serde(default = "defaults::k")]
        k: f32,
        /// Weights of the dense, BM25 and lexical lists.
        #[serde(default = "defaults::weights")]
        weights: [f32; 3],
        /// The BM25 list is used if its best share is at least this, or if it is the only list; 0 is textbook RRF.
        #[serde(default = "defaults::gate")]
        gate: f32,
    },
    /// A mix of the model's own scores.
    Weighted {
        /// Weight of the dense score.
        #[serde(default = "defaults::one")]
        dense: f32,
        /// Weight of the lexical score.
        #[serde(default = "defaults::sparse")]
        sparse: f32,
        /// Weight of the ColBERT score, for documents that the rerank has scored.
        #[serde(default = "defaults::one")]
        colbert: f32,
    },
}

/// The numbers that serde fills in where a fusion is read that does not give them.
mod defaults {
    pub fn one() -> f32 {
        1.0
    }

    pub fn k() -> f32 {
        60.0
    }

    pub fn weights() -> [f32; 3] {
        [1.0; 3]
    }

    pub fn gate() -> f32 {
        0.2
    }

    pub fn sparse() -> f32 {
        0.3
    }
}

impl Default for Fusion {
    fn default() -> Self {
        Fusion::Share { weight: 1.0 }
    }
}

impl Fusion {
    /// The fusion of a search that names its arms but no fusion: `share`, except for dense vectors with lexical weights, where `share`
    /// would not use the lexical weights; for these two the paper's mix.
    ///
    /// ```
    /// use trivec_search::{Arms, Fusion};
    ///
    /// assert_eq!(Fusion::usual(Arms::ALL), Fusion::default());
    /// assert_eq!(Fusion::usual("dense,sparse".parse()?), Fusion::WEIGHTED);
    /// # Ok::<(), trivec_search::Error>(())
    /// ```
    pub fn usual(arms: Arms) -> Fusion {
        match arms {
            Arms { dense: true, bm25: false, sparse: true } => Fusion::WEIGHTED,
            _ => Fusion::default(),
        }
    }

    /// Reciprocal rank fusion with k = 60, equal weights and a gate of 0.2.
    pub const RRF: Fusion = Fusion::Rrf { k: 60.0, weights: [1.0; 3], gate: 0.2 };
    /// The paper's mix for reranking: 1, 0.3, 1.
    pub const WEIGHTED: Fusion = Fusion::Weighted { dense: 1.0, sparse: 0.3, colbert: 1.0 };

    /// Checks that the numbers can be used.
    ///
    /// # Errors
    /// [`Error::Option`] names the first number that is not finite, is negative or is above 1,000,000; or says that all weights of `rrf` or
    /// `weighted` are 0.
    pub fn check(&self) -> Result<()> {
        let numbers = match *self {
            Fusion::Share { weight } => vec![weight],
            Fusion::Rrf { k, weights, gate } => [vec![k, gate], weights.to_vec()].concat(),
            Fusion::Weighted { dense, sparse, colbert } => vec![dense, sparse, colbert],
        };
        let weights = match *self {
            Fusion::Rrf { weights, .. } => weights.to_vec(),
            _ => numbers.clone(),
        };
        match numbers.iter().find(|x| !(0.0..=1e6).contains(*x)) {
            Some(x) => Err(Error::option("fusion", format!("found the number {x}, expected 0 to 1,000,000"))),
            None if matches!(self, Fusion::Weighted { .. } | Fusion::Rrf { .. })
                && weights.iter().all(|x| *x == 0.0) =>
            {
                Err(Error::option("fusion", "all weights are 0"))
            }
            None => Ok(()),
        }
    }

    /// Whether the score of a document depends on at least one of these arms: if not, all documents would have the score 0.
    pub(crate) fn hears(&self, arms: Arms) -> bool {
        let Arms { dense, bm25, sparse } = arms;
        match *self {
            Fusion::Share { weight } => dense || sparse || weight > 0.0,
            Fusion::Rrf { weights, .. } => {
                [dense, bm25, sparse].iter().zip(weights).any(|(&on, weight)| on && weight > 0.0)
            }
            Fusion::Weighted { dense: of_dense, sparse: of_sparse, .. } => {
                dense && of_dense > 0.0 || sparse && of_sparse > 0.0
            }
        }
    }

    /// Whether fused scores depend on the lexical arm when there are dense vectors as well.
    pub(crate) fn uses_sparse(&self) -> bool {
        match self {
            Fusion::Share { .. } => false,
            Fusion::Rrf { weights, .. } => weights[2] > 0.0,
            Fusion::Weighted { sparse, .. } => *sparse > 0.0,
        }
    }
}

impl std::str::FromStr for Fusion {
    type Err = Error;

    /// `share`, `rrf` or `weighted` with the usual numbers, `share=W` with a weight, or `rrf-textbook` without the gate.
    fn from_str(name: &str) -> Result<Fusion> {
        let weight = name.strip_prefix("share=").and_then(|weight| weight.parse().ok());
        let fusion = match (name, weight) {
            (_, Some(weight)) => Fusion::Share { weight },
            ("share", _) => Fusion::default(),
            ("rrf", _) => Fusion::RRF,
            ("rrf-textbook", _) => Fusion::Rrf { k: 60.0, weights: [1.0; 3], gate: 0.0 },
            ("weighted", _) => Fusion::WEIGHTED,
            _ => {
                let what = format!(
                    "found `{}`, expected share, share=W with a number, rrf, rrf-textbook or weighted",
                    name.escape_debug()
                );
                return Err(Error::option("fusion", what));
            }
        };
        fusion.check().map(|()| fusion)
    }
}

/// A document's rank in an arm's list, and its score by that arm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The rank, from 1 on; `None`: the document is not among the arm's candidates, but was scored afterwards.
    pub rank: Option<u32>,
    /// The arm's score: a cosine, BM25, the lexical or the ColBERT score.
    pub score: f32,
}

/// An entry that an arm found, with its scores by the arms.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Candidate {
    pub row: usize,
    pub dense: Option<Ranked>,
    pub bm25: Option<Ranked>,
    pub sparse: Option<Ranked>,
    pub colbert: Option<Ranked>,
    pub share: f32,
    /// The fused score, 0 to 1; with the dense arm alone the cosine.
    pub fused: f32,
    /// The rank by `fused`, before the rerank, from 1 on.
    pub fused_rank: u32,
}

/// The arms' lists, best first; `None` for an arm that is not fused.
#[derive(Debug, Default)]
pub(crate) struct Lists<'a> {
    pub dense: Option<&'a [Scored]>,
    pub bm25: Option<&'a [Scored]>,
    pub sparse: Option<&'a [Scored]>,
    /// The share of the first entry of `bm25`.
    pub best_share: f32,
}

/// All entries of the lists, each once, in the order of their rows and without fused scores. `share` makes a share of a BM25 score.
pub(crate) fn union(lists: &Lists<'_>, share: impl Fn(f32) -> f32) -> Vec<Candidate> {
    let mut by_row: std::collections::BTreeMap<usize, Candidate> = std::collections::BTreeMap::new();
    let mut add = |list: Option<&[Scored]>, put: &dyn Fn(&mut Candidate, Ranked)| {
        for (place, &(score, row)) in list.unwrap_or_default().iter().enumerate() {
            let candidate = by_row.entry(row).or_insert_with(|| Candidate { row, ..Candidate::default() });
            put(candidate, Ranked { rank: Some(place as u32 + 1), score });
        }
    };
    add(lists.dense, &|candidate, ranked| candidate.dense = Some(ranked));
    add(lists.bm25, &|candidate, ranked| {
        candidate.bm25 = Some(ranked);
        candidate.share = share(ranked.score);
    });
    add(lists.sparse, &|candidate, ranked| candidate.sparse = Some(ranked));
    by_row.into_values().collect()
}

/// A score mapped linearly so that the best of the list gets 1 and the last 0. An entry that is not in the list gets 0; if all scores are
/// equal, the entries of the list get 1.
fn stretched(list: &[Scored], ranked: Option<Ranked>) -> f32 {
    let (Some(best), Some(last)) = (list.first(), list.last()) else { return 0.0 };
    let Some(ranked) = ranked else { return 0.0 };
    if best.0 <= last.0 {
        return if ranked.rank.is_some() { 1.0 } else { 0.0 };
    }
    ((ranked.score - last.0) / (best.0 - last.0)).clamp(0.0, 1.0)
}

/// Gives every candidate its fused score and puts them in order.
pub(crate) fn fuse(fusion: Fusion, lists: &Lists<'_>, candidates: &mut [Candidate]) {
    for candidate in candidates.iter_mut() {
        candidate.fused = match fusion {
            // The scores of a single list need no common scale.
            Fusion::Share { .. } if lists.dense.is_some() && lists.bm25.is_none() => {
                candidate.dense.map_or(0.0, |ranked| ranked.score)
            }
            Fusion::Share { weight } => {
                // Without dense vectors, the lexical list takes their place.
                let (vectors, list) = match (lists.dense, lists.sparse) {
                    (Some(list), _) => (stretched(list, candidate.dense), true),
                    (None, Some(list)) => (stretched(list, candidate.sparse), true),
                    (None, None) => (0.0, false),
                };
                let weight = if lists.bm25.is_none() {
                    0.0
                } else if list {
                    weight
                } else {
                    1.0
                };
                let most = f32::from(u8::from(list)) + weight;
                if most > 0.0 { (vectors + weight * candidate.share) / most } else { 0.0 }
            }
            Fusion::Rrf { k, weights, gate } => {
                let words = lists.bm25.is_some()
                    && (lists.best_share >= gate || (lists.dense.is_none() && lists.sparse.is_none()));
                let arms = [
                    (lists.dense.is_some(), candidate.dense, weights[0]),
                    (words, candidate.bm25, weights[1]),
                    (lists.sparse.is_some(), candidate.sparse, weights[2]),
                ];
                let (mut sum, mut most) = (0.0, 0.0);
                for (_, ranked, weight) in arms.into_iter().filter(|(there, _, _)| *there) {
                    most += weight / (k + 1.0);
                    sum += ranked.and_then(|ranked| ranked.rank).map_or(0.0, |rank| weight / (k + rank as f32));
                }
                if most > 0.0 { sum / most } else { 0.0 }
            }
            Fusion::Weighted { dense, sparse, .. } => mix([(dense, candidate.dense), (sparse, candidate.sparse)]),
        };
    }
    candidates.sort_by(|a, b| b.fused.total_cmp(&a.fused).then(a.row.cmp(&b.row)));
    candidates.iter_mut().enumerate().for_each(|(place, candidate)| candidate.fused_rank = place as u32 + 1);
}

/// `Σ weight · score / Σ weight` over the scores that are not `None`.
pub(crate) fn mix<const N: usize>(parts: [(f32, Option<Ranked>); N]) -> f32 {
    let there = parts.iter().filter_map(|(weight, ranked)| ranked.map(|ranked| (weight, ranked.score)));
    let (sum, weights) =
        there.fold((0.0, 0.0), |(sum, weights), (weight, score)| (sum + weight * score, weights + weight));
    if weights > 0.0 { sum / weights } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fused(fusion: Fusion, dense: &[Scored], bm25: &[Scored], most: f32) -> Vec<(usize, f32)> {
        let best_share = bm25.first().map_or(0.0, |best| best.0 / most);
        let lists = Lists { dense: Some(dense), bm25: Some(bm25), sparse: None, best_share };
        let mut candidates = union(&lists, |score| score / most);
        fuse(fusion, &lists, &mut candidates);
        candidates.into_iter().map(|candidate| (candidate.row, candidate.fused)).collect()
    }

    #[test]
    fn words_that_say_nothing_do_not_change_the_order_of_the_vectors() {
        let dense = [(0.9, 3), (0.8, 1), (0.5, 2)];
        // Almost nothing of the query is found: the best share is 0.1 of 10, or 0.01.
        let bm25 = [(0.1, 2), (0.05, 7)];
        let order: Vec<usize> = fused(Fusion::default(), &dense, &bm25, 10.0).into_iter().map(|(row, _)| row).collect();
        assert_eq!(order, [3, 1, 2, 7]);
        // Reciprocal ranks put the words' best first, unless the gate keeps it out.
        let textbook = Fusion::Rrf { k: 60.0, weights: [1.0; 3], gate: 0.0 };
        assert_eq!(fused(textbook, &dense, &bm25, 10.0)[0].0, 2);
        assert_eq!(fused(Fusion::RRF, &dense, &bm25, 10.0)[0].0, 3);
    }

    #[test]
    fn words_that_say_all_count_as_much_as_the_vectors() {
        let dense = [(0.9, 3), (0.8, 1), (0.5, 2)];
        let bm25 = [(9.0, 1), (3.0, 9)];
        let list = fused(Fusion::default(), &dense, &bm25, 10.0);
        assert_eq!(list[0].0, 1);
        assert!(
            (list[0].1 - (0.75 + 0.9) / 2.0).abs() < 1e-6 && list.iter().all(|(_, score)| (0.0..=1.0).contains(score))
        );
    }

    #[test]
    fn the_dense_arm_alone_keeps_its_cosines() {
        let dense = [(0.9, 3), (0.8, 1), (-0.5, 2)];
        let lists = Lists { dense: Some(&dense), ..Lists::default() };
        let mut candidates = union(&lists, |score| score);
        fuse(Fusion::default(), &lists, &mut candidates);
        let list: Vec<_> = candidates.into_iter().map(|candidate| (candidate.fused, candidate.row)).collect();
        assert_eq!(list, dense);
    }

    #[test]
    fn reciprocal_ranks_begin_at_one() {
        let dense = [(0.9, 3), (0.8, 1)];
        let list = fused(Fusion::Rrf { k: 60.0, weights: [1.0, 1.0, 1.0], gate: 0.0 }, &dense, &[(5.0, 1)], 10.0);
        let most = 2.0 / 61.0;
        assert!((list[0].1 - (1.0 / 62.0 + 1.0 / 61.0) / most).abs() < 1e-6 && list[0].0 == 1);
        assert!((list[1].1 - (1.0 / 61.0) / most).abs() < 1e-6);
    }

    #[test]
    fn equal_scores_are_in_the_order_of_their_documents() {
        let list = fused(Fusion::default(), &[(0.5, 4), (0.5, 9), (0.5, 11)], &[], 1.0);
        assert_eq!(list.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [4, 9, 11]);
    }

    #[test]
    fn weights_that_are_nan_negative_or_all_zero_are_refused() {
        assert!(Fusion::Share { weight: f32::NAN }.check().is_err());
        assert!(Fusion::Rrf { k: 60.0, weights: [0.0; 3], gate: 0.5 }.check().is_err());
        assert!(Fusion::Weighted { dense: 0.0, sparse: 0.0, colbert: 0.0 }.check().is_err());
        assert!(Fusion::Rrf { k: 60.0, weights: [1.0, -1.0, 0.0], gate: 0.2 }.check().is_err());
        assert!("rrf".parse::<Fusion>().is_ok() && "sum".parse::<Fusion>().is_err());
    }
}
