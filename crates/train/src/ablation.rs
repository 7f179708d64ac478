//! The BGE-M3 paper's ablation on the caller's own data: how the start, the distillation and the weight of the sparse loss change the sparse
//! head.
//!
//! The dense and the ColBERT head are trained once, as the options say. Then they stay fixed, and the sparse heads of all rows are trained
//! side by side: a batch's dense and ColBERT scores, which are nearly all of the work, are computed once for all rows.

use serde::{Deserialize, Serialize};

use crate::arms::{Effective, Tokens, lexical};
use crate::batch::{self, StepOptions};
use crate::error::Result;
use crate::heads::{Adam, Heads, Start, schedule};
use crate::options::TrainOptions;
use crate::session::{Event, Observer, Session};

/// A row of the ablation: how one sparse head was trained, and what it reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationRow {
    /// What the head began as.
    pub start: Start,
    /// Whether it was trained: the first row is not.
    pub trained: bool,
    /// Whether the ensemble of the three arms taught it.
    pub distill: bool,
    /// λ: the weight of the sparse arm's own losses.
    pub lambda: f32,
    /// Whether its own losses were only on pairs whose query and passage share a piece.
    pub only_sharing: bool,
    /// nDCG@10 of the dev set and of further sets, by name.
    pub ndcg10: Vec<(String, f64)>,
    /// How many pieces of a dev passage have a weight above 0, on average.
    pub pieces: f64,
}

impl AblationRow {
    /// Describes how the head was trained, for example `random, distilled, λ 0.1`.
    pub fn name(&self) -> String {
        let start = match self.start {
            Start::Random => "random",
            Start::Closed => "closed form",
            Start::Current => "current",
        };
        if !self.trained {
            return format!("{start}, untrained");
        }
        let distill = if self.distill { "distilled" } else { "base" };
        let rows = if self.only_sharing { ", pairs that share" } else { "" };
        format!("{start}, {distill}, λ {}{rows}", self.lambda)
    }
}

/// The rows of the table, the untrained one first.
fn plan() -> Vec<AblationRow> {
    let row = |start, trained, distill, lambda, only_sharing| AblationRow {
        start,
        trained,
        distill,
        lambda,
        only_sharing,
        ndcg10: Vec::new(),
        pieces: 0.0,
    };
    let mut rows = vec![row(Start::Current, false, false, 0.0, false)];
    for start in [Start::Random, Start::Current] {
        for lambda in [0.1, 1.0] {
            rows.extend([false, true].map(|distill| row(start, true, distill, lambda, false)));
        }
    }
    rows.extend([false, true].map(|distill| row(Start::Current, true, distill, 1.0, true)));
    rows
}

/// A sparse head in training.
struct Head {
    heads: Heads,
    adam: Adam,
    step: StepOptions,
}

impl Session<'_> {
    /// Trains the sparse heads of the table and measures each.
    ///
    /// # Errors
    /// As [`Session::train`].
    pub fn ablate(&self, observer: Observer<'_>) -> Result<Vec<AblationRow>> {
        let others = self.trained_others(observer)?;
        let mut rows = plan();
        let mut heads = Vec::new();
        for row in &rows {
            let options = TrainOptions { start: row.start, ..self.options.clone() };
            let mut own = self.begin([false, true, false], &options)?;
            own.trained = [false, row.trained, false];
            let mut loss = self.options.loss;
            loss.lambda[1] = if row.trained { row.lambda } else { 1.0 };
            let step = StepOptions { loss, distill: row.distill, only_sharing: row.only_sharing };
            heads.push(Head { adam: Adam::new(&own.parameters()), heads: own, step });
        }
        self.train_sparse(&others, &mut heads, observer)?;
        for (row, head) in rows.iter_mut().zip(&heads) {
            let sparse = self.pool.install(|| head.heads.effective())[1].clone();
            row.pieces = sparse.as_ref().map_or(0.0, |map| self.pool.install(|| self.pieces(map)));
            // The sparse arm alone is cheap to measure.
            let maps = [None, sparse, None];
            let names = std::iter::once("dev").chain(self.evals.iter().map(|(name, _)| name.as_str()));
            for (at, name) in names.enumerate() {
                let figure = self.evaluate(at + 1, &maps)?.ndcg10(1).unwrap_or(0.0);
                row.ndcg10.push((name.to_owned(), figure));
            }
        }
        Ok(rows)
    }

    /// Trains as the options say, and returns the maps of dense and ColBERT after it; the sparse one is `None`.
    fn trained_others(&self, observer: Observer<'_>) -> Result<[Option<Effective>; 3]> {
        let trained = self.train(observer)?;
        let mut maps = crate::session::own_maps(self.model, self.corpus.pooled_dim);
        for head in &trained.heads {
            let map = Effective::of(&crate::math::closed::Map::of(&head.map));
            match head.name {
                "dense" => maps[0] = Some(map),
                "colbert_linear" => maps[2] = Some(map),
                _ => {}
            }
        }
        maps[1] = None;
        Ok(maps)
    }

    /// Trains all sparse heads side by side, with the dense and ColBERT maps of `others` fixed.
    fn train_sparse(&self, others: &[Option<Effective>; 3], heads: &mut [Head], observer: Observer<'_>) -> Result<()> {
        let source = self.source();
        let per_epoch = source.steps();
        let total = per_epoch * self.options.epochs;
        for step in 0..total {
            let batch = source.batch(step / per_epoch, step % per_epoch);
            let scored = self.pool.install(|| batch::score(&self.corpus, &batch, others));
            let rate = self.options.rate_sparse * schedule(step, total, self.options.warm_up);
            for head in heads.iter_mut().filter(|head| head.heads.trained[1]) {
                let gradients = self.pool.install(|| {
                    let maps = [others[0].clone(), head.heads.effective()[1].clone(), others[2].clone()];
                    let stepped = batch::step(&batch, &scored, &maps, head.heads.trained, &head.step);
                    head.heads.gradients(stepped.gradients)
                });
                head.adam.step(head.heads.parameters_mut(), &gradients, &[rate; 2], self.options.decay, step + 1);
            }
            self.go_on(observer(Event::Ablation(step + 1, total)))?;
        }
        Ok(())
    }

    /// How many pieces a dev passage has that this sparse map gives a weight above 0: the mean over the first passages.
    fn pieces(&self, map: &Effective) -> f64 {
        const TEXTS: usize = 300;
        let placed = self.corpus.placed[1];
        let texts: Vec<usize> =
            (0..self.dev.passages.len().min(TEXTS) as u32).map(|place| placed.passage(place)).collect();
        let pieces = lexical::pieces(map, &Tokens::load(&self.corpus.states, &self.corpus.ids, &texts));
        pieces.iter().map(Vec::len).sum::<usize>() as f64 / texts.len().max(1) as f64
    }
}
