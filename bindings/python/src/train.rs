//! The native function behind Python's `trivec.train`, which trains a model's heads.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use trivec_train::{
    Event, ExportOptions, Inputs, LossOptions, Observer, PairSet, RawPairs, Session, Split, TrainOptions, Trained,
};

use crate::engine::{Engine, detached};
use crate::errors;
use crate::signals::Watch;

/// Where a set of pairs comes from: a path, or JSON Lines in memory with the name that errors have for them.
#[derive(FromPyObject)]
pub(crate) enum Source {
    Lines((String, String)),
    Path(PathBuf),
}

impl Source {
    fn read(&self, split: Split) -> trivec_train::Result<RawPairs> {
        match self {
            Source::Lines((name, text)) => trivec_train::parse_pairs(name, text),
            Source::Path(path) => trivec_train::read_pairs(path, split),
        }
    }
}

/// The data that a call reads, and the paths that it writes to.
struct Files {
    pairs: Vec<Source>,
    documents: Vec<PathBuf>,
    dev: Option<Source>,
    evals: Vec<(String, Source)>,
    output: PathBuf,
    work: Option<PathBuf>,
    force: bool,
}

impl Files {
    /// Reads all pairs of the call: for training, the dev set, and the sets to be measured.
    fn inputs(&self) -> trivec_train::Result<Inputs> {
        let mut train = RawPairs::default();
        self.pairs.iter().try_for_each(|source| source.read(Split::Train).map(|found| train.extend(found)))?;
        let documents = self.documents.iter();
        documents
            .map(|path| trivec_train::read_documents(path))
            .try_for_each(|found| found.map(|f| train.extend(f)))?;
        let dev = self.dev.as_ref().map(|source| PairSet::new(source.read(Split::Dev)?)).transpose()?;
        let evals =
            self.evals.iter().map(|(name, source)| Ok((name.clone(), PairSet::new(source.read(Split::Test)?)?)));
        Ok(Inputs { train: PairSet::new(train)?, dev, evals: evals.collect::<trivec_train::Result<_>>()? })
    }

    /// The directory for states and checkpoints: the caller's, or one next to the output, which [`Files::run`] removes at the end.
    fn work(&self) -> PathBuf {
        self.work.clone().unwrap_or_else(|| {
            let mut name = self.output.clone().into_os_string();
            name.push(".work");
            PathBuf::from(name)
        })
    }

    /// Trains, writes the model, and removes the checkpoint.
    fn run(
        &self,
        model: &trivec::Model,
        options: &TrainOptions,
        observer: Observer<'_>,
    ) -> trivec_train::Result<Trained> {
        options.check()?;
        let export = ExportOptions { force: self.force };
        trivec_train::check_output(model, &self.output, export)?;
        let work = self.work();
        let session = Session::prepare(model, self.inputs()?, options, &work, observer)?;
        let trained = session.train(observer)?;
        trained.write(model, &self.output, export)?;
        session.forget()?;
        drop(session);
        if self.work.is_none() {
            remove(&work)?;
        }
        Ok(trained)
    }
}

/// Removes the directory of states and checkpoints.
fn remove(directory: &Path) -> trivec_train::Result<()> {
    let failed = |source| trivec_train::Error::Io { path: directory.to_path_buf(), source };
    std::fs::remove_dir_all(directory).map_err(failed)
}

/// The arguments of Python's progress function for an event: what is being done, how much of it is done, and how much there is. `None` for other
/// events.
fn told<'a>(event: &'a Event<'_>) -> Option<(&'a str, usize, usize)> {
    match *event {
        Event::States(done, total) => Some(("states", done, total)),
        Event::Step(done, total, _) => Some(("steps", done, total)),
        _ => None,
    }
}

/// Trains the heads of `engine`'s model and writes it to `output`: the report, as JSON.
#[pyfunction]
#[pyo3(signature = (engine, pairs, output, *, documents, dev, evals, work, force, heads, epochs, batch, negatives, temperature, lr, lr_sparse,
                    teacher_weights, lambdas, paper, distill, distill_from, start, seed, max_query, max_passage, allow_overlap, threads, progress))]
#[allow(clippy::too_many_arguments, reason = "they are the keywords of a Python call")]
pub(crate) fn train(
    py: Python<'_>,
    engine: Py<Engine>,
    pairs: Vec<Source>,
    output: PathBuf,
    documents: Vec<PathBuf>,
    dev: Option<Source>,
    evals: Vec<(String, Source)>,
    work: Option<PathBuf>,
    force: bool,
    heads: (bool, bool, bool),
    epochs: usize,
    batch: usize,
    negatives: usize,
    temperature: f32,
    lr: f32,
    lr_sparse: f32,
    teacher_weights: [f32; 3],
    lambdas: Option<[f32; 3]>,
    paper: bool,
    distill: bool,
    distill_from: usize,
    start: &str,
    seed: u64,
    max_query: usize,
    max_passage: usize,
    allow_overlap: bool,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let base = if paper { TrainOptions::default().paper() } else { TrainOptions::default() };
    let options = TrainOptions {
        heads: [heads.0, heads.1, heads.2],
        epochs,
        batch,
        negatives,
        loss: LossOptions { temperature, weights: teacher_weights, lambda: lambdas.unwrap_or(base.loss.lambda) },
        distill,
        distill_from,
        rate: lr,
        rate_sparse: lr_sparse,
        start: start.parse().map_err(|what: String| errors::value(py, &format!("start: {what}")))?,
        seed,
        max_query,
        max_passage,
        allow_overlap,
        threads,
        ..base
    };
    let files = Files { pairs, documents, dev, evals, output, work, force };
    let watch = Watch::new();
    let mut observer = |event: Event<'_>| {
        if let (Some(progress), Some(told)) = (&progress, told(&event)) {
            watch.call(|py| progress.call1(py, told).map(drop));
        }
        match watch.cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let model = &engine.get().model;
    let trained = detached(py, || files.run(model, &options, &mut observer))?;
    let trained = match watch.raised() {
        Some(raised) => return Err(raised),
        None => trained.map_err(|error| errors::train(py, &error))?,
    };
    serde_json::to_string(&trained.report).map_err(|error| errors::value(py, &error.to_string()))
}
