//! The report of a run: what was done, and the figures before and after.

use serde::{Deserialize, Serialize};

use crate::data::LeftOut;
use crate::eval::Compared;
use crate::loss::Losses;

/// Mean losses of some steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The last of the steps, from 1 on.
    pub step: usize,
    /// Means over the steps since the last point.
    pub losses: Losses,
}

/// The dev set's figures after an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochPoint {
    /// The number of the epoch, from 1 on; 0 for the heads before the first.
    pub epoch: usize,
    /// nDCG@10 of each way of scoring, in the order of [`WAYS`](crate::WAYS).
    pub ndcg10: [Option<f64>; 5],
    /// The mean of nDCG@10 over the trained arms, by which the best epoch is chosen.
    pub mean: f64,
}

/// Description of the training data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// SHA-256 of the data that was read.
    pub digest: String,
    /// Pairs that were trained on.
    pub pairs: usize,
    /// How many different queries the training set has.
    pub queries: usize,
    /// How many different passages the training set has, negatives included.
    pub passages: usize,
    /// How many groups there are by the data's own names, and how many after groups with a common text were joined.
    pub groups: (usize, usize),
    /// What was left out.
    pub left_out: LeftOut,
    /// Texts, of all sets, that were cut to the maximum length.
    pub cut: usize,
    /// The part of the pairs whose query and passage share a piece.
    pub sharing: f64,
    /// Pairs that were made from documents without labels.
    pub unlabelled: usize,
    /// Pairs of the dev set.
    pub dev_pairs: usize,
    /// Groups of the dev set. Fewer than [`FEW_JUDGED`](crate::FEW_JUDGED) are too few to judge by.
    pub dev_groups: usize,
    /// Whether the dev set was split off the training data.
    pub dev_split: bool,
}

/// Size and cost of the token states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StatesReport {
    /// Texts of all sets.
    pub texts: usize,
    /// Tokens of all sets.
    pub tokens: usize,
    /// Texts and tokens whose states this run computed; those of the others were in the file.
    pub computed: (usize, usize),
    /// The size of the file of states, in bytes.
    pub bytes: usize,
    /// How long reading and computing the states took. This is not written into models.
    pub seconds: f64,
}

/// Typical weights of the sparse head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SparseScale {
    /// The mean sparse score of a dev query with itself.
    pub self_score: f64,
    /// The mean number of tokens of those queries, `<s>` and `</s>` included: the score grows with it.
    pub tokens: f64,
    /// Mean weight, in dev passages, of pieces that a tenth of the training passages or more have.
    pub common: f64,
    /// Mean weight of pieces without a letter or digit.
    pub punctuation: f64,
    /// Mean weight of the other pieces.
    pub words: f64,
}

/// The heaviest pieces of a sample text before and after the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The text.
    pub text: String,
    /// The heaviest pieces before training, with their weights.
    pub before: Vec<(String, f32)>,
    /// The heaviest pieces after training, with their weights.
    pub after: Vec<(String, f32)>,
}

/// The report of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The training data.
    pub data: DataReport,
    /// The token states.
    pub states: StatesReport,
    /// How many steps the run has, and how many each epoch has.
    pub steps: (usize, usize),
    /// The losses in the course of the training.
    pub curve: Vec<CurvePoint>,
    /// What the heads reach on the dev set before the first epoch and after each.
    pub epochs: Vec<EpochPoint>,
    /// The epoch whose heads are the result; 0 if the heads of the start were the best.
    pub kept: usize,
    /// What the heads reach on the dev set before and after the training.
    pub dev: Option<Compared>,
    /// What the heads reach on the further sets before and after the training.
    pub evals: Vec<Compared>,
    /// Typical weights of the sparse head before and after the training.
    pub sparse: (Option<SparseScale>, Option<SparseScale>),
    /// For each arm (dense, sparse, ColBERT), how far the trained matrix `A` is from the identity, or from 0 if `A` is not square: the root
    /// of the mean squared difference. `None` of an arm that was not trained.
    pub distance: [Option<f64>; 3],
    /// Sample sentences.
    pub samples: Vec<Sample>,
    /// Seconds that training took, without computing the states.
    pub seconds: f64,
    /// How many tokens of the batches' texts were trained on in a second.
    pub tokens_per_second: f64,
}
