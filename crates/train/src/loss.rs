//! BGE-M3's losses on the scores of a batch, and their gradients with respect to the scores.
//!
//! For each arm x, `S_x` are the scores `[queries, passages]`; `s_x = S_x / τ + M`, with `M` a large negative number at masked passages and
//! else 0; `P_x = softmax(s_x)` of each row. The ensemble is `s_ens = Σ w_x s_x`, and `E = softmax(s_ens)`. CE is the cross-entropy with the
//! right passage of each row, B the number of rows, n the number of arms:
//!
//! ```text
//! L  = (Σ_x λ_x CE(s_x) + CE(s_ens)) / (n + 1)
//! L' = Σ_x λ_x · (−1/B Σ_i Σ_j E_ij log P_x,ij) / n        E as a constant: the teacher
//! L_final = (L + L') / 2;  without self-distillation, or before the step that it begins at, L alone
//! ```
//! With three arms the divisors are 4 and 3, as in the paper and in FlagEmbedding (`m3/modeling.py`, which has λ and w fixed).
//!
//! If another model (an external teacher) has judged passages of a row, every CE of this row also has the soft-label cross-entropy over the
//! judged passages: FlagEmbedding's `kl_div`.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::math::add_scaled;
use crate::math::softmax::{log_sum_exp, softmax};

/// `M`: added to the divided scores of passages that must not count as negatives.
pub(crate) const MASKED: f32 = -1e4;

/// The arms' names, in the order of every array of three in this crate.
pub const ARMS: [&str; 3] = ["dense", "sparse", "colbert"];

/// The weights of the losses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossOptions {
    /// τ: what scores are divided by.
    pub temperature: f32,
    /// w: the weights of dense, sparse and ColBERT in the ensemble.
    pub weights: [f32; 3],
    /// λ: the weights of the arms' own losses, in the same order.
    pub lambda: [f32; 3],
}

/// Losses of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// `L_final`
    pub total: f64,
    /// `CE(s_ens)`
    pub ensemble: f64,
    /// `CE(s_x)` of dense, sparse and ColBERT; 0 where the arm is absent.
    pub arms: [f64; 3],
    /// The cross-entropies of each arm with the ensemble as its teacher; 0 without distillation.
    pub distilled: [f64; 3],
}

/// The judgements of another model. For each query of a batch: the indices of the passages that it has judged, with the softmax of its scores;
/// `None` if it has judged none.
pub(crate) type Teacher = Vec<Option<Vec<(usize, f32)>>>;

/// What a batch's losses are computed from.
pub(crate) struct Batch<'a> {
    /// `[queries, passages]` of each arm; `None`: the model has no such arm.
    pub scores: [Option<&'a [f32]>; 3],
    pub queries: usize,
    pub passages: usize,
    /// The index of each query's right passage.
    pub positives: &'a [usize],
    /// `[queries, passages]`: whether the passage must not count as a negative of the query.
    pub masked: &'a [bool],
    /// Whether the sparse arm's own losses are computed on each row; on all if `None`.
    pub sparse_rows: Option<&'a [bool]>,
    /// The judgements of another model.
    pub teacher: Option<&'a Teacher>,
    /// Whether the ensemble teaches the arms.
    pub distill: bool,
}

/// Computes the losses of a batch, and for each arm the gradient `G_x` = ∂L_final/∂S_x, `[queries, passages]`.
pub(crate) fn losses(batch: &Batch<'_>, options: &LossOptions) -> (Losses, [Option<Vec<f32>>; 3]) {
    let (n, columns) = (batch.queries, batch.passages);
    let arms = batch.scores.iter().flatten().count();
    let shares = Shares {
        base: 1.0 / (arms + 1) as f64,
        teach: 1.0 / arms as f64,
        whole: if batch.distill { 0.5 } else { 1.0 },
    };
    let kept: Vec<bool> = (0..n).map(|row| batch.sparse_rows.is_none_or(|rows| rows[row])).collect();
    let sparse_count = kept.iter().filter(|kept| **kept).count();
    let count = |arm: usize| if arm == 1 { sparse_count } else { n }.max(1) as f64;
    let row = |row: usize| {
        let mut scaled: [Vec<f32>; 3] = Default::default();
        let mut ensemble = vec![0.0; columns];
        let masked = &batch.masked[row * columns..][..columns];
        for (arm, scores) in batch.scores.iter().enumerate() {
            let Some(scores) = scores else { continue };
            let own = scores[row * columns..][..columns].iter().zip(masked);
            scaled[arm] = own.map(|(s, masked)| s / options.temperature + if *masked { MASKED } else { 0.0 }).collect();
            add_scaled(&mut ensemble, options.weights[arm], &scaled[arm]);
        }
        Row { batch, row, shares, options, counts: [count(0), count(1), count(2)] }
            .compute(&scaled, &ensemble, kept[row])
    };
    let rows: Vec<(Losses, [Vec<f32>; 3])> = (0..n).into_par_iter().map(row).collect();
    let mut total = Losses::default();
    let mut gradients: [Option<Vec<f32>>; 3] = Default::default();
    for (arm, gradient) in gradients.iter_mut().enumerate() {
        if batch.scores[arm].is_some() {
            *gradient = Some(rows.iter().flat_map(|(_, of_arms)| of_arms[arm].iter().copied()).collect());
        }
    }
    for (losses, _) in &rows {
        total.total += losses.total;
        total.ensemble += losses.ensemble;
        for arm in 0..3 {
            total.arms[arm] += losses.arms[arm];
            total.distilled[arm] += losses.distilled[arm];
        }
    }
    (total, gradients)
}

/// The factors of the parts of the loss: `base` of L, `teach` of L', and `whole`, which is 1/2 if both are added.
#[derive(Clone, Copy)]
struct Shares {
    base: f64,
    teach: f64,
    whole: f64,
}

/// One row of a batch: a query with all passages.
struct Row<'a> {
    batch: &'a Batch<'a>,
    row: usize,
    shares: Shares,
    options: &'a LossOptions,
    /// Over how many rows each arm's mean is.
    counts: [f64; 3],
}

impl Row<'_> {
    /// This row's part of the losses, and its row of each arm's gradient. `scaled` are the arms' `s_x` and `ensemble` is `s_ens`;
    /// `sparse_kept` says whether the sparse arm's own losses are computed on this row.
    fn compute(&self, scaled: &[Vec<f32>; 3], ensemble: &[f32], sparse_kept: bool) -> (Losses, [Vec<f32>; 3]) {
        let (batch, options, Shares { base, teach, whole }) = (self.batch, self.options, self.shares);
        let right = batch.positives[self.row];
        let teacher = batch.teacher.and_then(|rows| rows[self.row].as_deref());
        let n = batch.queries as f64;
        let mut losses = Losses::default();
        let mut gradients: [Vec<f32>; 3] = Default::default();
        let mut e = vec![0.0; ensemble.len()];
        let total = softmax(ensemble, &mut e);
        let (outside, mut of_ensemble) = soft(teacher, ensemble);
        losses.ensemble = (total - f64::from(ensemble[right]) + outside) / n;
        losses.total = whole * base * losses.ensemble;
        of_ensemble.iter_mut().zip(&e).for_each(|(g, e)| *g += e);
        of_ensemble[right] -= 1.0;
        let per_score = 1.0 / f64::from(options.temperature);
        for (arm, scores) in scaled.iter().enumerate() {
            if batch.scores[arm].is_none() {
                continue;
            }
            let (lambda, weight) = (f64::from(options.lambda[arm]), f64::from(options.weights[arm]));
            let mut gradient = vec![0.0; scores.len()];
            add_scaled(&mut gradient, (whole * base * weight * per_score / n) as f32, &of_ensemble);
            // A row that is left out of the sparse losses has only the ensemble's part of the gradient.
            if arm != 1 || sparse_kept {
                let mut p = vec![0.0; scores.len()];
                let total = softmax(scores, &mut p);
                let (outside, of_outside) = soft(teacher, scores);
                losses.arms[arm] = (total - f64::from(scores[right]) + outside) / self.counts[arm];
                losses.total += whole * base * lambda * losses.arms[arm];
                let by = whole * base * lambda * per_score / self.counts[arm];
                add_scaled(&mut gradient, by as f32, &p);
                add_scaled(&mut gradient, by as f32, &of_outside);
                gradient[right] -= by as f32;
                if batch.distill {
                    let soft: f64 = e.iter().zip(scores).map(|(&e, &s)| f64::from(e) * (total - f64::from(s))).sum();
                    losses.distilled[arm] = soft / self.counts[arm];
                    losses.total += whole * teach * lambda * losses.distilled[arm];
                    let by = (whole * teach * lambda * per_score / self.counts[arm]) as f32;
                    add_scaled(&mut gradient, by, &p);
                    add_scaled(&mut gradient, -by, &e);
                }
            }
            gradients[arm] = gradient;
        }
        (losses, gradients)
    }
}

/// The soft-label cross-entropy of `scores` within the passages that a teacher has judged, and its gradient.
fn soft(teacher: Option<&[(usize, f32)]>, scores: &[f32]) -> (f64, Vec<f32>) {
    let mut gradient = vec![0.0; scores.len()];
    let Some(teacher) = teacher else { return (0.0, gradient) };
    let own: Vec<f32> = teacher.iter().map(|(place, _)| scores[*place]).collect();
    let total = log_sum_exp(&own);
    let mut loss = 0.0;
    for (&(place, target), &score) in teacher.iter().zip(&own) {
        let log = f64::from(score) - total;
        loss -= f64::from(target) * log;
        gradient[place] += (log.exp() - f64::from(target)) as f32;
    }
    (loss, gradient)
}

/// The softmax of a teacher's scores, each with the index of its passage.
pub(crate) fn teacher_row(scores: &[(usize, f32)]) -> Vec<(usize, f32)> {
    let values: Vec<f32> = scores.iter().map(|(_, score)| *score).collect();
    let mut probabilities = vec![0.0; values.len()];
    softmax(&values, &mut probabilities);
    scores.iter().map(|(place, _)| *place).zip(probabilities).collect()
}
