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
    /// 0 is before the first.
    pub epoch: usize,
    /// nDCG@10 by way, in the order of [`WAYS`](crate::WAYS).
    pub ndcg10: [Option<f64>; 5],
    /// The mean over the trained arms, which the epoch is chosen by.
    pub mean: f64,
}

/// Description of the training data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// SHA-256 of what was read.
    pub digest: String,
    /// Pairs that were trained on.
    pub pairs: usize,
    /// Queries among the texts.
    pub queries: usize,
    /// Passages among the texts.
    pub passages: usize,
    /// Groups by the data's own names, and after those with a common text were joined.
    pub groups: (usize, usize),
    /// What was left out.
    pub left_out: LeftOut,
    /// Texts, of all sets, that were cut to the maximum length.
    pub cut: usize,
    /// The part of the pairs whose query and passage share a piece.
    pub sharing: f64,
    /// Pairs that were made of documents without labels.
    pub unlabelled: usize,
    /// Pairs of the dev set.
    pub dev_pairs: usize,
    /// The number of their groups. Fewer than [`FEW_JUDGED`](crate::FEW_JUDGED) are too few to judge by.
    pub dev_groups: usize,
    /// Whether it was taken out of the training data.
    pub dev_split: bool,
}

/// Size and cost of the token states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StatesReport {
    /// Texts of all sets.
    pub texts: usize,
    /// Tokens of all sets.
    pub tokens: usize,
    /// Texts and tokens that were computed; the others were there.
    pub computed: (usize, usize),
    /// Bytes of the file.
    pub bytes: usize,
    /// How long it took; not part of what is written into models.
    pub seconds: f64,
}

/// Typical weights of the sparse head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SparseScale {
    /// Mean score of a dev query with itself.
    pub self_score: f64,
    /// Mean tokens of those queries, `<s>` and `</s>` included: the score grows with them.
    pub tokens: f64,
    /// Mean weight of pieces that a tenth of the passages have or more.
    pub common: f64,
    /// Mean weight of pieces without a letter or digit.
    pub punctuation: f64,
    /// Mean weight of the other pieces.
    pub words: f64,
}

/// Weights of a sample sentence's pieces before and after.
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
    /// The data.
    pub data: DataReport,
    /// The states.
    pub states: StatesReport,
    /// How many steps the run has, and how many an epoch.
    pub steps: (usize, usize),
    /// The losses in the course of the training.
    pub curve: Vec<CurvePoint>,
    /// What the heads reach on the dev set before the first epoch and after each.
    pub epochs: Vec<EpochPoint>,
    /// The epoch whose heads were kept; 0: those of the start were the best.
    pub kept: usize,
    /// What the heads reach on the dev set before and after the training.
    pub dev: Option<Compared>,
    /// Further sets before and after.
    pub evals: Vec<Compared>,
    /// The sparse head before and after.
    pub sparse: (Option<SparseScale>, Option<SparseScale>),
    /// How far the map of each trained arm (in the order of `ARMS`: dense, sparse, ColBERT) moved from where it began: the root of the mean square of
    /// `A` less the identity, or of `A` itself where that is not square; `None` of an arm that was not trained.
    pub distance: [Option<f64>; 3],
    /// Sample sentences.
    pub samples: Vec<Sample>,
    /// Seconds of training, without the states.
    pub seconds: f64,
    /// Tokens that went through a step, a second.
    pub tokens_per_second: f64,
}
