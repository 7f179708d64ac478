//! Options of a run.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::heads::Start;
use crate::loss::LossOptions;

/// How to train. `docs/training.md` gives the reasons for the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    /// Which heads are trained: dense, sparse, ColBERT. The others stay as they are, and still teach.
    pub heads: [bool; 3],
    /// How many times the training goes through the data.
    pub epochs: usize,
    /// Queries in a batch, which are all scored with all passages of the batch.
    pub batch: usize,
    /// How many hard negatives each query brings into a batch.
    pub negatives: usize,
    /// Temperature, weights of the arms in the ensemble, weights of their losses.
    pub loss: LossOptions,
    /// Whether the ensemble teaches the arms.
    pub distill: bool,
    /// The first step with distillation, counted from 0.
    pub distill_from: usize,
    /// Whether the sparse losses are only on pairs whose query and passage share a piece.
    pub sparse_on_sharing: bool,
    /// Learning rate of the dense and the ColBERT map.
    pub rate: f32,
    /// Learning rate of the sparse head.
    pub rate_sparse: f32,
    /// AdamW's weight decay.
    pub decay: f32,
    /// The part of the steps in which the learning rate rises.
    pub warm_up: f64,
    /// The values that heads begin with.
    pub start: Start,
    /// The seed by which pairs are ordered, negatives are drawn, and a random start is made.
    pub seed: u64,
    /// The longest query in tokens; a longer one is cut.
    pub max_query: usize,
    /// The longest passage in tokens; a longer one is cut.
    pub max_passage: usize,
    /// Whether to accept a dev set that has texts of the training data.
    pub allow_overlap: bool,
    /// Steps between two checkpoints.
    pub checkpoint_every: usize,
    /// Threads; `None`: as many as the model has.
    pub threads: Option<usize>,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            heads: [true; 3],
            epochs: 2,
            batch: 128,
            negatives: 1,
            loss: LossOptions { temperature: 0.02, weights: [1.0, 0.3, 1.0], lambda: [1.0; 3] },
            distill: true,
            distill_from: 0,
            sparse_on_sharing: true,
            rate: 1e-3,
            rate_sparse: 3e-3,
            decay: 0.0,
            warm_up: 0.1,
            start: Start::Current,
            seed: 0,
            max_query: 48,
            max_passage: 96,
            allow_overlap: false,
            checkpoint_every: 50,
            threads: None,
        }
    }
}

impl TrainOptions {
    /// These options with the BGE-M3 paper's losses: λ (1, 0.1, 1), and the sparse losses on every pair.
    pub fn paper(mut self) -> TrainOptions {
        self.loss.lambda = [1.0, 0.1, 1.0];
        self.sparse_on_sharing = false;
        self
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// [`Error::Option`] names the option, what was found and what is allowed.
    pub fn check(&self) -> Result<()> {
        let positive = |option, values: &[f32]| match values.iter().find(|x| !(x.is_finite() && **x > 0.0)) {
            Some(x) => Err(Error::option(option, format!("found {x}, expected a finite number above 0"))),
            None => Ok(()),
        };
        let within = |option, value: usize, from: usize, to: usize| match (from..=to).contains(&value) {
            true => Ok(()),
            false => Err(Error::option(option, format!("found {value}, expected {from} to {to}"))),
        };
        positive("temperature", &[self.loss.temperature])?;
        positive("lambda", &self.loss.lambda)?;
        positive("lr", &[self.rate])?;
        positive("lr_sparse", &[self.rate_sparse])?;
        let weights = &self.loss.weights;
        if let Some(x) = weights.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
            return Err(Error::option("weights", format!("found {x}, expected finite numbers of 0 or more")));
        }
        if weights.iter().all(|x| *x == 0.0) {
            return Err(Error::option("weights", "all are 0: there is no ensemble"));
        }
        if !self.heads.contains(&true) {
            return Err(Error::option("heads", "none is trained, expected one or more of dense, sparse, colbert"));
        }
        if !(self.decay.is_finite() && self.decay >= 0.0) {
            return Err(Error::option("weight_decay", format!("found {}, expected 0 or more", self.decay)));
        }
        if !(0.0..1.0).contains(&self.warm_up) {
            return Err(Error::option("warm_up", format!("found {}, expected 0 to below 1", self.warm_up)));
        }
        within("threads", self.threads.unwrap_or(1), 1, 1_024)?;
        within("epochs", self.epochs, 1, 1_000)?;
        within("batch", self.batch, 2, 4_096)?;
        within("negatives", self.negatives, 0, 64)?;
        within("checkpoint_every", self.checkpoint_every, 1, usize::MAX)
    }
}
