//! A session prepares a run: it tokenises the texts, computes their states and finds negatives. Training and ablation work on it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};
use sha2::{Digest, Sha256};
use trivec::Model;
use trivec::internal::HeadMap;
use trivec::lock_file::LockFile;

use crate::arms::{Effective, lexical};
use crate::corpus::{Corpus, Placed, tokenize};
use crate::data::PairSet;
use crate::error::{Error, Result, shown};
use crate::eval::{self, Evaluation};
use crate::heads::Heads;
use crate::math::closed::Map;
use crate::negatives;
use crate::options::TrainOptions;
use crate::report::{CurvePoint, DataReport, EpochPoint, StatesReport};
use crate::states::{Store, model_digest};

/// The name of the file of states in the working directory.
const STATES: &str = "states.bin";

/// How many percent of the groups become the dev set if none is given.
const DEV_PERCENT: u64 = 6;

/// The data of a run.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The pairs that are trained on.
    pub train: PairSet,
    /// The set by which the best epoch is chosen; without it, a part of the training data is split off for this.
    pub dev: Option<PairSet>,
    /// Further sets that are measured before and after the training, with their names.
    pub evals: Vec<(String, PairSet)>,
}

/// Progress of a run. If the observer returns `Break`, the run ends with [`Error::Stopped`]; the same call resumes it later.
#[derive(Debug)]
pub enum Event<'a> {
    /// The data was checked and grouped.
    Data(&'a DataReport),
    /// How many tokens' states have been computed, and how many must be computed in all: those that the working directory did not have.
    States(usize, usize),
    /// All states are there.
    StatesDone(&'a StatesReport),
    /// The session will look for hard negatives; or it will not, for the reason that is given.
    Negatives(Option<&'static str>),
    /// The set of this name will be measured.
    Evaluating(&'a str),
    /// The run is resumed; so many steps were done before.
    Resumed(usize),
    /// A step is done: its number, how many steps there are, and a point of the curve if one ends here.
    Step(usize, usize, Option<&'a CurvePoint>),
    /// The dev set's figures after an epoch.
    Epoch(&'a EpochPoint),
    /// A step of the ablation is done: its number, and how many there are.
    Ablation(usize, usize),
}

/// A function that events are reported to.
pub type Observer<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// A prepared run: the data, the token states of all texts, and the lock on the working directory.
pub struct Session<'m> {
    pub(crate) model: &'m Model,
    pub(crate) options: TrainOptions,
    pub(crate) work: PathBuf,
    pub(crate) train: PairSet,
    pub(crate) dev: PairSet,
    pub(crate) evals: Vec<(String, PairSet)>,
    pub(crate) corpus: Corpus,
    pub(crate) mined: Vec<Vec<u32>>,
    pub(crate) data: DataReport,
    pub(crate) states: StatesReport,
    pub(crate) key: String,
    pub(crate) pool: ThreadPool,
    _lock: LockFile,
}

/// The maps of the model's own heads. A model without a dense head has the identity, as its pooled state itself is the vector. `None` of a
/// head that the model lacks, or of a dense head that is more than a linear map.
pub(crate) fn own_maps(model: &Model, pooled_dim: usize) -> [Option<Effective>; 3] {
    let maps = model.head_maps();
    let of = |map: &Option<HeadMap>| map.as_ref().map(|map| Effective::of(&Map::of(map)));
    let dense = match maps.dense_is_more {
        Some(_) => None,
        None => of(&maps.dense).or_else(|| Some(Effective::of(&Map::identity(pooled_dim)))),
    };
    [dense, of(&maps.sparse), of(&maps.colbert)]
}

impl<'m> Session<'m> {
    /// Prepares a run in the directory `work`, which is created if it does not exist. States that the directory has already are not computed
    /// again.
    ///
    /// # Errors
    /// [`Error::Option`] for options or a model that cannot be used; [`Error::Data`] and [`Error::Overlap`] for data; [`Error::Locked`] if
    /// another session has the directory; [`Error::Io`], also if the disk is full (states that were written stay); [`Error::Damaged`];
    /// [`Error::Stopped`].
    pub fn prepare(
        model: &'m Model,
        inputs: Inputs,
        options: &TrainOptions,
        work: &Path,
        observer: Observer<'_>,
    ) -> Result<Session<'m>> {
        let info = model.info();
        options.check()?;
        for (option, length) in [("max_query", options.max_query), ("max_passage", options.max_passage)] {
            if !(3..=info.max_length).contains(&length) {
                return Err(Error::option(option, format!("found {length}, expected 3 to {}", info.max_length)));
            }
        }
        if info.rerank {
            return Err(Error::option(
                "model",
                "it is a reranker, which has none of the three heads: give an embedder",
            ));
        }
        let Inputs { train, dev, evals } = inputs;
        train.check()?;
        let dev_split = dev.is_none();
        let (train, dev) = match dev {
            Some(dev) => (train, dev),
            None => train.split_dev(DEV_PERCENT)?,
        };
        train.check()?;
        dev.check_judges("the dev set")?;
        evals.iter().try_for_each(|(name, set)| set.check_judges(&format!("the set `{}`", shown(name))))?;
        if let Some((count, example)) = train.overlap(&dev).filter(|_| !options.allow_overlap) {
            return Err(Error::Overlap { count, example });
        }
        std::fs::create_dir_all(work).map_err(|e| Error::io(work, e))?;
        let lock_path = work.join("lock");
        let lock = LockFile::take(&lock_path).map_err(|e| Error::io(&lock_path, e))?;
        let lock = lock.ok_or(Error::Locked { path: lock_path })?;
        let threads = options.threads.unwrap_or(info.threads);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::option("threads", e.to_string()))?;

        let mut sets: Vec<&PairSet> = vec![&train, &dev];
        sets.extend(evals.iter().map(|(_, set)| set));
        let tokenized = tokenize(model, &sets, options.max_query, options.max_passage)?;
        let data = DataReport {
            digest: train.digest.clone(),
            pairs: train.pairs.len(),
            queries: train.queries.len(),
            passages: train.passages.len(),
            groups: (train.groups_before, train.groups),
            left_out: train.left_out,
            cut: tokenized.cut,
            sharing: sharing(&train, &tokenized.ids, tokenized.placed[0]),
            unlabelled: train.unlabelled,
            dev_pairs: dev.pairs.len(),
            dev_groups: dev.groups,
            dev_split,
        };
        let go_on = |flow: ControlFlow<()>| match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { path: work.to_path_buf() }),
        };
        go_on(observer(Event::Data(&data)))?;
        let begin = Instant::now();
        let digest = model_digest(model)?;
        let mut store = Store::open(&work.join(STATES), &digest, info.hidden)?;
        let filled =
            store.fill(model, &tokenized.ids, |done, total| observer(Event::States(done, total)).is_continue())?;
        let (texts, tokens) = (tokenized.ids.len(), tokenized.ids.iter().map(Vec::len).sum());
        let corpus = pool.install(|| Corpus::read(model, tokenized, store))?;
        let states = StatesReport {
            texts,
            tokens,
            computed: (filled.computed, filled.tokens),
            bytes: corpus.states.bytes(),
            seconds: begin.elapsed().as_secs_f64(),
        };
        go_on(observer(Event::StatesDone(&states)))?;
        let maps = own_maps(model, corpus.pooled_dim);
        let why_none = match &maps[0] {
            _ if options.negatives == 0 => Some("none was asked for"),
            None => Some("the model's dense vectors are more than a map of its states"),
            Some(_) => None,
        };
        go_on(observer(Event::Negatives(why_none)))?;
        let mined = match &maps[0] {
            Some(map) if why_none.is_none() => pool.install(|| negatives::mine(&corpus, &train, corpus.placed[0], map)),
            _ => vec![Vec::new(); train.queries.len()],
        };
        let key = run_key(&digest, &train, &dev, options);
        let (work, options) = (work.to_path_buf(), options.clone());
        Ok(Session { model, options, work, train, dev, evals, corpus, mined, data, states, key, pool, _lock: lock })
    }

    /// The indices of the training texts in the corpus: queries, then passages.
    pub(crate) fn train_texts(&self) -> Vec<usize> {
        let placed = self.corpus.placed[0];
        let queries = (0..self.train.queries.len() as u32).map(|place| placed.query(place));
        queries.chain((0..self.train.passages.len() as u32).map(|place| placed.passage(place))).collect()
    }

    /// The heads that a run begins with, if those marked in `trained` are trained.
    pub(crate) fn begin(&self, trained: [bool; 3], options: &TrainOptions) -> Result<Heads> {
        let texts = self.train_texts();
        self.pool.install(|| Heads::begin(self.model, &self.corpus, &texts, trained, options.start, options.seed))
    }

    /// Measures maps on set number `set`: 1 is the dev set, the further sets follow from 2 on (0, the training set, is not measured).
    ///
    /// # Errors
    /// [`Error::NotFinite`] names the texts whose score is NaN or infinite.
    pub(crate) fn evaluate(&self, set: usize, maps: &[Option<Effective>; 3]) -> Result<Evaluation> {
        let (name, pairs) = match set {
            1 => ("dev", &self.dev),
            _ => (self.evals[set - 2].0.as_str(), &self.evals[set - 2].1),
        };
        let weights = self.options.loss.weights;
        let found = self.pool.install(|| eval::evaluate(&self.corpus, pairs, self.corpus.placed[set], maps, weights));
        found.map_err(|eval::NotFinite { arm, score, query, passage }| Error::NotFinite {
            set: name.to_owned(),
            arm,
            found: f64::from(score),
            query: pairs.queries[query].clone(),
            passage: pairs.passages[passage].clone(),
        })
    }
}

/// The part of the pairs whose query and passage share a piece.
fn sharing(set: &PairSet, ids: &[Vec<u32>], placed: Placed) -> f64 {
    let share = |pair: &&crate::data::Pair| {
        lexical::share_a_piece(&ids[placed.query(pair.query)], &ids[placed.passage(pair.passage)])
    };
    set.pairs.iter().filter(share).count() as f64 / set.pairs.len().max(1) as f64
}

/// Identifies a run: runs with the same key have the same model, data and options, and give the same result.
fn run_key(model: &[u8; 32], train: &PairSet, dev: &PairSet, options: &TrainOptions) -> String {
    // Options that do not change the result are left out.
    let options = TrainOptions { threads: None, checkpoint_every: 1, allow_overlap: false, ..options.clone() };
    let mut hash = Sha256::new();
    hash.update(b"trivec training run 1");
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(model);
    for set in [train, dev] {
        hash.update(&set.digest);
        hash.update((set.pairs.len() as u64).to_le_bytes());
    }
    hash.update(format!("{options:?}"));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
