//! The training loop: steps, curves, epochs chosen by the dev set, checkpoints.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use trivec::internal::HeadMap;
use trivec::pack::NewHead;

use crate::arms::Effective;
use crate::arms::{Tokens, lexical};
use crate::batch::{self, Assembled, Source, StepOptions};
use crate::checkpoint::{self, Numbers, State};
use crate::error::{Error, Result};
use crate::eval::Compared;
use crate::heads::{Adam, Heads, schedule};
use crate::loss::{ARMS, Losses};
use crate::math::closed::Map;
use crate::report::{CurvePoint, EpochPoint, Report, Sample, SparseScale};
use crate::session::{Event, Observer, Session, own_maps};

/// Steps between two points of the curve.
const CURVE_EVERY: usize = 20;

/// The name of the checkpoint in the working directory.
const CHECKPOINT: &str = "checkpoint.safetensors";

/// The result of training.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The heads that were trained.
    pub heads: Vec<NewHead>,
    /// What the run did and reached.
    pub report: Report,
    /// The description of the training that is written into models, as JSON: data, options, seed, steps and figures.
    pub metadata: String,
}

/// The state of a run between two steps; `best` are the parameters of the best epoch until now.
struct Progress {
    heads: Heads,
    adam: Adam,
    best: Vec<Vec<f32>>,
    state: State,
}

impl Session<'_> {
    /// Trains the heads that the options name. If a run of the same model, data and options was interrupted, it is resumed at its last
    /// checkpoint, and gives the same bytes as without the interruption.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss of a step, [`Error::NotFinite`] if a score in an evaluation is NaN or infinite; [`Error::Stopped`] if the
    /// observer ends the run; [`Error::Io`].
    pub fn train(&self, observer: Observer<'_>) -> Result<Trained> {
        let begin = Instant::now();
        let source = self.source();
        let per_epoch = source.steps();
        let total = per_epoch * self.options.epochs;
        let start = self.begin(self.options.heads, &self.options)?;
        let before = own_maps(self.model, self.corpus.pooled_dim);
        let mut progress = self.resume(start)?;
        if progress.state.step > 0 {
            self.go_on(observer(Event::Resumed(progress.state.step)))?;
        }
        if progress.state.epochs.is_empty() {
            self.end_epoch(0, &mut progress, observer)?;
        }
        let (mut tokens, training) = (0, Instant::now());
        while progress.state.step < total {
            let step = progress.state.step;
            let batch = source.batch(step / per_epoch, step % per_epoch);
            tokens +=
                batch.queries.iter().chain(&batch.passages).map(|&text| self.corpus.ids[text].len()).sum::<usize>();
            self.step(&mut progress, &batch, step, total)?;
            let done = progress.state.step;
            let is_end = done % per_epoch == 0;
            let point = (done % CURVE_EVERY == 0 || is_end).then(|| curve_point(&mut progress.state));
            let flow = observer(Event::Step(done, total, point.as_ref()));
            if is_end {
                self.end_epoch(done / per_epoch, &mut progress, observer)?;
            }
            if is_end || done % self.options.checkpoint_every == 0 || flow.is_break() {
                self.save(&progress)?;
            }
            self.go_on(flow)?;
        }
        let seconds = training.elapsed().as_secs_f64();
        let mut heads = progress.heads;
        heads.parameters_mut().into_iter().zip(&progress.best).for_each(|(own, best)| own.clone_from(best));
        let mut report = Report {
            data: self.data.clone(),
            states: self.states,
            steps: (total, per_epoch),
            curve: progress.state.curve,
            epochs: progress.state.epochs,
            kept: progress.state.best,
            seconds: begin.elapsed().as_secs_f64(),
            tokens_per_second: tokens as f64 / seconds.max(1e-9),
            ..Report::default()
        };
        self.compare(&heads, &before, &mut report, observer)?;
        Ok(Trained { heads: new_heads(&heads), metadata: self.metadata(&report), report })
    }

    /// Removes the checkpoint. Call it once the trained model is written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget(&self) -> Result<()> {
        let path = self.checkpoint_path();
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        }
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.work.join(CHECKPOINT)
    }

    /// What the batches of the training set are made from.
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            set: &self.train,
            corpus: &self.corpus,
            placed: self.corpus.placed[0],
            mined: &self.mined,
            negatives: self.options.negatives,
            batch: self.options.batch,
            seed: self.options.seed,
        }
    }

    /// Turns the observer's wish to end the run into [`Error::Stopped`].
    pub(crate) fn go_on(&self, flow: ControlFlow<()>) -> Result<()> {
        match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { path: self.work.clone() }),
        }
    }

    /// Resumes the run at its last checkpoint, or begins it with `heads`.
    fn resume(&self, mut heads: Heads) -> Result<Progress> {
        let lengths: Vec<usize> = heads.parameters().iter().map(|values| values.len()).collect();
        let adam = Adam::new(&heads.parameters());
        match checkpoint::read(&self.checkpoint_path(), &self.key, &lengths)? {
            Some((state, [parameters, first, second, best])) => {
                heads.parameters_mut().into_iter().zip(parameters).for_each(|(own, stored)| *own = stored);
                Ok(Progress { heads, adam: Adam { first, second }, best, state })
            }
            None => {
                let best = heads.parameters().into_iter().cloned().collect();
                Ok(Progress { heads, adam, best, state: State { key: self.key.clone(), ..State::default() } })
            }
        }
    }

    /// Writes the checkpoint.
    fn save(&self, progress: &Progress) -> Result<()> {
        let parameters = progress.heads.parameters().into_iter().cloned().collect();
        let numbers: Numbers =
            [parameters, progress.adam.first.clone(), progress.adam.second.clone(), progress.best.clone()];
        checkpoint::write(&self.checkpoint_path(), &progress.state, &numbers)
    }

    /// Trains on one batch: `step` counts from 0, `total` is the number of steps of the run.
    fn step(&self, progress: &mut Progress, batch: &Assembled, step: usize, total: usize) -> Result<()> {
        let options = &self.options;
        let how = StepOptions {
            loss: options.loss,
            distill: options.distill && step >= options.distill_from,
            only_sharing: options.sparse_on_sharing,
        };
        let heads = &progress.heads;
        let (losses, gradients, scores) = self.pool.install(|| {
            let maps = heads.effective();
            let scored = batch::score(&self.corpus, batch, &maps);
            let stepped = batch::step(batch, &scored, &maps, heads.trained, &how);
            (stepped.losses, heads.gradients(stepped.gradients), stepped.scores)
        });
        if !losses.total.is_finite() {
            return Err(self.diverged(batch, &losses, &scores, step));
        }
        let part = schedule(step, total, options.warm_up);
        let rate = |arm: usize| part * if arm == 1 { options.rate_sparse } else { options.rate };
        let rates: Vec<f32> = heads.trained_arms().flat_map(|(arm, _)| [rate(arm); 2]).collect();
        progress.adam.step(progress.heads.parameters_mut(), &gradients, &rates, options.decay, step + 1);
        progress.state.since.push(losses);
        progress.state.step = step + 1;
        Ok(())
    }

    /// The error for a loss that is not finite. It names the first arm with a loss or a score that is not finite, and the texts of that score.
    fn diverged(&self, batch: &Assembled, losses: &Losses, scores: &[Option<Vec<f32>>], step: usize) -> Error {
        let broken = |arm: &usize| {
            let scores = scores[*arm].as_ref();
            !losses.arms[*arm].is_finite() || scores.is_some_and(|scores| scores.iter().any(|x| !x.is_finite()))
        };
        let arm = (0..3).find(broken);
        let columns = batch.passages.len().max(1);
        let at = arm.and_then(|arm| scores[arm].as_ref()?.iter().position(|x| !x.is_finite())).unwrap_or(0);
        let placed = self.corpus.placed[0];
        let text = |place: Option<&usize>, all: &[String], of: &dyn Fn(u32) -> usize| {
            let found = (0..all.len() as u32).find(|&own| Some(&of(own)) == place);
            found.map_or_else(String::new, |own| all[own as usize].clone())
        };
        Error::Diverged {
            step: step + 1,
            arm: arm.map_or("ensemble", |arm| ARMS[arm]),
            found: arm.map_or(losses.ensemble, |arm| losses.arms[arm]),
            query: text(batch.queries.get(at / columns), &self.train.queries, &|own| placed.query(own)),
            passage: text(batch.passages.get(at % columns), &self.train.passages, &|own| placed.passage(own)),
        }
    }

    /// Measures the heads on the dev set, and remembers them if they are the best until now.
    fn end_epoch(&self, epoch: usize, progress: &mut Progress, observer: Observer<'_>) -> Result<()> {
        self.go_on(observer(Event::Evaluating("dev")))?;
        let maps = self.pool.install(|| progress.heads.effective());
        let found = self.evaluate(1, &maps)?;
        let mean = found.mean_of(progress.heads.trained);
        let point = EpochPoint { epoch, ndcg10: [0, 1, 2, 3, 4].map(|way| found.ndcg10(way)), mean };
        if progress.state.epochs.iter().all(|earlier| point.mean > earlier.mean) {
            progress.state.best = epoch;
            progress.best = progress.heads.parameters().into_iter().cloned().collect();
        }
        progress.state.epochs.push(point);
        self.go_on(observer(Event::Epoch(&point)))
    }

    /// Measures all sets and the sparse head before (`before`) and after the training (`heads`), and puts the figures into the report.
    fn compare(
        &self,
        heads: &Heads,
        before: &[Option<Effective>; 3],
        report: &mut Report,
        observer: Observer<'_>,
    ) -> Result<()> {
        let stored = stored_maps(heads);
        let names =
            std::iter::once(("dev", &self.dev)).chain(self.evals.iter().map(|(name, set)| (name.as_str(), set)));
        for (at, (name, set)) in names.enumerate() {
            self.go_on(observer(Event::Evaluating(name)))?;
            let changes = self.evaluate(at + 1, &stored)?.changes(&self.evaluate(at + 1, before)?);
            let overlap = self.train.overlap(set).map_or(0, |(count, _)| count);
            let (queries, passages) = (set.queries.len(), set.passages.len());
            let compared = Compared { name: name.to_owned(), queries, passages, overlap, changes };
            match at {
                0 => report.dev = Some(compared),
                _ => report.evals.push(compared),
            }
        }
        let scale = |map: &Option<Effective>| map.as_ref().map(|map| self.pool.install(|| self.sparse_scale(map)));
        report.sparse = (scale(&before[1]), scale(&stored[1]));
        for (arm, own) in heads.trained_arms() {
            report.distance[arm] = Some(own.distance());
        }
        report.samples = self.pool.install(|| self.samples(&before[1], &stored[1]));
        Ok(())
    }

    /// Typical weights that this sparse map gives the texts of the dev set.
    fn sparse_scale(&self, map: &Effective) -> SparseScale {
        /// The most queries, and the most passages, of the dev set that are looked at.
        const TEXTS: usize = 300;
        /// A piece is common if this part of the training passages, or more, has it.
        const COMMON: f64 = 0.1;
        let placed = self.corpus.placed[1];
        let load = |texts: Vec<usize>| Tokens::load(&self.corpus.states, &self.corpus.ids, &texts);
        let texts: Vec<usize> =
            (0..self.dev.queries.len().min(TEXTS) as u32).map(|place| placed.query(place)).collect();
        let tokens: usize = texts.iter().map(|&text| self.corpus.ids[text].len()).sum();
        let queries = load(texts);
        let own = lexical::pieces(map, &queries);
        let squares: f64 = own.iter().flatten().map(|entry| f64::from(entry.weight).powi(2)).sum();
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for place in 0..self.train.passages.len() as u32 {
            let mut ids = self.corpus.ids[self.corpus.placed[0].passage(place)].clone();
            ids.sort_unstable();
            ids.dedup();
            ids.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
        }
        let passages =
            load((0..self.dev.passages.len().min(TEXTS) as u32).map(|place| placed.passage(place)).collect());
        let weights = map.apply(&passages.states);
        let mut sums = [(0.0f64, 0usize); 3];
        for (id, weight) in passages.ids.iter().zip(&weights).filter(|(id, _)| !lexical::UNUSED.contains(id)) {
            let is_word = self.model.piece(*id).unwrap_or_default().chars().any(char::is_alphanumeric);
            let part = counts.get(id).copied().unwrap_or(0) as f64 / self.train.passages.len().max(1) as f64;
            let kind = if !is_word { 1 } else { usize::from(part < COMMON) * 2 };
            sums[kind] = (sums[kind].0 + f64::from(weight.max(0.0)), sums[kind].1 + 1);
        }
        let mean = |(sum, count): (f64, usize)| sum / count.max(1) as f64;
        SparseScale {
            self_score: squares / own.len().max(1) as f64,
            tokens: tokens as f64 / own.len().max(1) as f64,
            common: mean(sums[0]),
            punctuation: mean(sums[1]),
            words: mean(sums[2]),
        }
    }

    /// The heaviest pieces of some dev queries, by the sparse map before and after the training.
    fn samples(&self, before: &Option<Effective>, after: &Option<Effective>) -> Vec<Sample> {
        const SAMPLES: usize = 3;
        const PIECES: usize = 6;
        let Some(after) = after else { return Vec::new() };
        let step = (self.dev.queries.len() / SAMPLES).max(1);
        let places: Vec<u32> = (0..self.dev.queries.len() as u32).step_by(step).take(SAMPLES).collect();
        let texts: Vec<usize> = places.iter().map(|&place| self.corpus.placed[1].query(place)).collect();
        let tokens = Tokens::load(&self.corpus.states, &self.corpus.ids, &texts);
        let heaviest = |map: &Effective| -> Vec<Vec<(String, f32)>> {
            let top = |mut entries: Vec<lexical::Entry>| {
                entries.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token)));
                let named = entries.into_iter().take(PIECES);
                named.map(|entry| (self.model.piece(entry.id).unwrap_or_default().to_owned(), entry.weight)).collect()
            };
            lexical::pieces(map, &tokens).into_iter().map(top).collect()
        };
        let (before, after) = (before.as_ref().map(heaviest), heaviest(after));
        let sample = |(at, after): (usize, Vec<(String, f32)>)| Sample {
            text: self.dev.queries[places[at] as usize].clone(),
            before: before.as_ref().map_or_else(Vec::new, |before| before[at].clone()),
            after,
        };
        after.into_iter().enumerate().map(sample).collect()
    }

    /// The description of the training that is written into models, as JSON. It has nothing that differs between two equal runs, such as times.
    fn metadata(&self, report: &Report) -> String {
        let changes = |compared: &Compared| serde_json::json!({"name": compared.name, "queries": compared.queries, "changes": compared.changes});
        let sets: Vec<_> = report.dev.iter().chain(&report.evals).map(changes).collect();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "data": report.data,
            "dev_digest": self.dev.digest,
            "options": crate::options::TrainOptions { threads: None, ..self.options.clone() },
            "seed": self.options.seed,
            "steps": report.steps.0,
            "kept_epoch": report.kept,
            "sets": sets,
        })
        .to_string()
    }
}

/// Ends a point of the curve: the means of the losses since the last point, which it also adds to the curve.
fn curve_point(state: &mut State) -> CurvePoint {
    let mut mean = Losses::default();
    let count = state.since.len().max(1) as f64;
    for losses in state.since.drain(..) {
        mean.total += losses.total / count;
        mean.ensemble += losses.ensemble / count;
        for arm in 0..3 {
            mean.arms[arm] += losses.arms[arm] / count;
            mean.distilled[arm] += losses.distilled[arm] / count;
        }
    }
    let point = CurvePoint { step: state.step, losses: mean };
    state.curve.push(point);
    point
}

/// A map as models store it: rounded to f16, then widened to f32.
fn stored(map: &Map) -> HeadMap {
    let round = |values: &[f64]| values.iter().map(|&x| half::f16::from_f64(x).to_f32()).collect();
    HeadMap { weight: round(&map.weight), bias: round(&map.bias), outputs: map.outputs, inputs: map.inputs }
}

/// The maps of all arms; those of trained arms are rounded as models store them.
fn stored_maps(heads: &Heads) -> [Option<Effective>; 3] {
    [0, 1, 2].map(|arm| {
        let own = heads.arms[arm].as_ref()?;
        Some(match heads.trained[arm] {
            true => Effective::of(&Map::of(&stored(&own.map()))),
            false => own.effective(),
        })
    })
}

/// The trained heads, by the names that models have for them.
fn new_heads(heads: &Heads) -> Vec<NewHead> {
    let names = ["dense", "sparse_linear", "colbert_linear"];
    heads.trained_arms().map(|(arm, own)| NewHead { name: names[arm], map: stored(&own.map()) }).collect()
}
