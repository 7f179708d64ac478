//! `trivec train`: adapts a model's heads to the user's texts, and measures whether that helped.

mod plots;
mod progress;
mod table;

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde_json::json;
use trivec::pack::advised_format;
use trivec::{Model, Modes, WeightFormat};
use trivec_hub::Located;
use trivec_train::{
    AblationRow, Error, ErrorKind, ExportOptions, Inputs, LossOptions, PairSet, RawPairs, Session, Split, Start,
    TrainOptions, Trained, read_documents, read_pairs,
};

use crate::args::{ModelArgs, WeightsArgs};
use crate::copies;
use crate::exit::{self, Failure, Result};
use crate::pending::{check_directory, refuse_input};
use crate::style;
use progress::Progress;

const EXAMPLES: &str = "\
Examples:
  trivec train --pairs pairs.jsonl --dev dev.jsonl -o my-model
  trivec train --pairs pairs.jsonl --eval faq=faq.jsonl -o my-model --model path/to/bge-m3
  trivec train --documents docs.jsonl -o my-model --json > report.json
  trivec train --pairs pairs.jsonl --dev dev.jsonl --ablation

A pair is a line of JSON, or an object of a JSON list: {\"query\": …, \"passage\": …} and, if there are any, \"negatives\", \"group\", \"score\"; FlagEmbedding's lines \
(query, pos, neg, pos_scores, neg_scores) and directories in BEIR's layout are read too. The encoder stays as it is: its states are computed \
once, by the packed model. The heads learn from the pairs and from the sum of their own scores (self-knowledge distillation, as BGE-M3 was \
trained). The epoch is kept whose heads find the most on the dev set; without --dev a part of the pairs is put aside for it. A run that was \
ended goes on where it was, and ends with the same bytes. A directory gives a directory, a packed model a packed file.";

#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("data").args(["pairs", "documents"]).required(true).multiple(true),
    group = ArgGroup::new("result").args(["output", "ablation"]).required(true).multiple(true),
    after_help = EXAMPLES
)]
pub(crate) struct TrainArgs {
    /// File of pairs, or directory in BEIR's layout; may be given several times
    #[arg(long, value_name = "PATH", env = "TRIVEC_TRAIN_PAIRS")]
    pub pairs: Vec<PathBuf>,
    /// File of documents without labels: each title, or first sentence, is the query for the rest; may be given several times
    #[arg(long, value_name = "FILE", env = "TRIVEC_DOCUMENTS")]
    pub documents: Vec<PathBuf>,
    /// Pairs by which the best epoch is chosen [default: a part of the training data]
    #[arg(long, value_name = "PATH", env = "TRIVEC_DEV")]
    pub dev: Option<PathBuf>,
    /// Pairs to measure before and after, under a name; may be given several times
    #[arg(long, value_name = "NAME=PATH", env = "TRIVEC_EVAL", value_parser = parse_eval)]
    pub eval: Vec<(String, PathBuf)>,
    /// Where the model goes: a directory if the model is one, else a packed file
    #[arg(long, short, value_name = "PATH", env = "TRIVEC_TRAIN_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Replace a model that is there already
    #[arg(long, env = "TRIVEC_TRAIN_FORCE")]
    pub force: bool,
    /// Print how start, distillation and the weight of the sparse loss affect the sparse head on this data, and write no model
    #[arg(long, env = "TRIVEC_ABLATION")]
    pub ablation: bool,
    /// Which heads are trained
    #[arg(long, value_name = "LIST", env = "TRIVEC_HEADS", default_value = "dense,sparse,colbert")]
    pub heads: Modes,
    /// Passes over the data
    #[arg(long, value_name = "N", env = "TRIVEC_EPOCHS", default_value = "2")]
    pub epochs: usize,
    /// Queries that are scored together
    #[arg(long, value_name = "N", env = "TRIVEC_TRAIN_BATCH", default_value = "128")]
    pub batch: usize,
    /// Hard negatives of each query: its own, then passages at ranks 4 to 30 of the model's own dense scores; 0 for none but the other
    /// passages of its batch
    #[arg(long, value_name = "N", env = "TRIVEC_NEGATIVES", default_value = "1")]
    pub negatives: usize,
    /// Temperature by which scores are divided
    #[arg(long, value_name = "T", env = "TRIVEC_TEMPERATURE", default_value = "0.02", allow_hyphen_values = true)]
    pub temperature: f32,
    /// Learning rate of the dense and the ColBERT head
    #[arg(long, value_name = "RATE", env = "TRIVEC_LR", default_value = "1e-3", allow_hyphen_values = true)]
    pub lr: f32,
    /// Learning rate of the sparse head
    #[arg(long, value_name = "RATE", env = "TRIVEC_LR_SPARSE", default_value = "3e-3", allow_hyphen_values = true)]
    pub lr_sparse: f32,
    /// Weights of dense, sparse and ColBERT in the sum of scores that the heads are distilled from
    #[arg(
        long,
        value_name = "D,S,C",
        env = "TRIVEC_TEACHER_WEIGHTS",
        default_value = "1,0.3,1",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub teacher_weights: Vec<f32>,
    /// Weights of the losses of dense, sparse and ColBERT [default: 1,1,1; with --paper 1,0.1,1]
    #[arg(long, value_name = "D,S,C", env = "TRIVEC_LAMBDA", value_delimiter = ',', allow_hyphen_values = true)]
    pub lambda: Option<Vec<f32>>,
    /// The paper's losses: lambda 1,0.1,1, the sparse losses on all pairs and not only on those that share a piece
    #[arg(long, env = "TRIVEC_PAPER")]
    pub paper: bool,
    /// Whether the ensemble teaches the heads
    #[arg(long, value_name = "WHEN", env = "TRIVEC_DISTILL", default_value = "on", value_parser = parse_switch, action = clap::ArgAction::Set)]
    pub distill: bool,
    /// The step at which distillation begins
    #[arg(long, value_name = "STEP", env = "TRIVEC_DISTILL_FROM", default_value = "0")]
    pub distill_from: usize,
    /// Initial values of the heads: current (closed where the model has none), closed (computed in closed form from the training data) or random
    #[arg(long, value_name = "START", env = "TRIVEC_START", default_value = "current", value_parser = parse_start)]
    pub start: Start,
    /// Seed of the order, the negatives and a random start
    #[arg(long, value_name = "N", env = "TRIVEC_SEED", default_value = "0")]
    pub seed: u64,
    /// Tokens kept of a query
    #[arg(long, value_name = "N", env = "TRIVEC_MAX_QUERY", default_value = "48")]
    pub max_query: usize,
    /// Tokens kept of a passage
    #[arg(long, value_name = "N", env = "TRIVEC_MAX_PASSAGE", default_value = "96")]
    pub max_passage: usize,
    /// Accept a dev set that has texts of the training data
    #[arg(long, env = "TRIVEC_ALLOW_OVERLAP")]
    pub allow_overlap: bool,
    /// Directory for states and checkpoints, which is kept [default: beside the output, removed at the end]
    #[arg(long, value_name = "DIR", env = "TRIVEC_WORK")]
    pub work: Option<PathBuf>,
    /// Directory for the curves as SVG
    #[arg(long, value_name = "DIR", env = "TRIVEC_PLOTS")]
    pub plots: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    #[command(flatten)]
    pub packed: WeightsArgs,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The library's errors name parameters, which are translated to options.
        let (option, what) = match &error {
            Error::Option { option, what } => (*option, what.clone()),
            Error::Overlap { .. } => {
                return Failure::input(format!("{error}; --allow-overlap takes it all the same"));
            }
            Error::Engine(trivec::Error::Option { option, what }) => (*option, what.clone()),
            _ => {
                let code = match error.kind() {
                    ErrorKind::Usage => exit::USAGE,
                    ErrorKind::Input => exit::INPUT,
                    ErrorKind::Io => exit::IO,
                    ErrorKind::Locked => exit::BUSY,
                    _ => exit::MODEL,
                };
                return Failure::Message { code, message: error.to_string() };
            }
        };
        if option == "model" {
            return Failure::model(what);
        }
        let option = match option {
            "weights" => "teacher-weights".to_owned(),
            other => other.replace('_', "-"),
        };
        Failure::option(&option, what)
    }
}

fn parse_eval(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), PathBuf::from(path))),
        _ => Err("expected NAME=PATH, as faq=faq.jsonl".to_owned()),
    }
}

fn parse_switch(text: &str) -> std::result::Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

fn parse_start(text: &str) -> std::result::Result<Start, String> {
    text.parse()
}

/// The three numbers that an option must have, one a head.
fn three(option: &str, values: &[f32]) -> Result<[f32; 3]> {
    values
        .try_into()
        .map_err(|_| Failure::option(option, format!("{} numbers, expected 3: dense, sparse, ColBERT", values.len())))
}

impl TrainArgs {
    /// The options of training that these arguments give.
    fn options(&self, model_args: &ModelArgs) -> Result<TrainOptions> {
        let base = TrainOptions::default();
        let base = if self.paper { base.paper() } else { base };
        let lambda = match &self.lambda {
            Some(lambda) => three("lambda", lambda)?,
            None => base.loss.lambda,
        };
        Ok(TrainOptions {
            heads: [self.heads.dense, self.heads.sparse, self.heads.colbert],
            epochs: self.epochs,
            batch: self.batch,
            negatives: self.negatives,
            loss: LossOptions {
                temperature: self.temperature,
                weights: three("teacher-weights", &self.teacher_weights)?,
                lambda,
            },
            distill: self.distill,
            distill_from: self.distill_from,
            rate: self.lr,
            rate_sparse: self.lr_sparse,
            start: self.start,
            seed: self.seed,
            max_query: self.max_query,
            max_passage: self.max_passage,
            allow_overlap: self.allow_overlap,
            threads: model_args.threads,
            ..base
        })
    }

    /// Reads the pairs to train on, the dev set and the evaluation sets.
    fn inputs(&self) -> Result<Inputs> {
        let mut train = RawPairs::default();
        for path in &self.pairs {
            train.extend(read_pairs(path, Split::Train)?);
        }
        for path in &self.documents {
            train.extend(read_documents(path)?);
        }
        let dev = self.dev.as_ref().map(|path| PairSet::new(read_pairs(path, Split::Dev)?)).transpose()?;
        let mut evals = Vec::new();
        for (name, path) in &self.eval {
            evals.push((name.clone(), PairSet::new(read_pairs(path, Split::Test)?)?));
        }
        Ok(Inputs { train: PairSet::new(train)?, dev, evals })
    }

    /// Refuses a directory of `--plots` in which a chart would replace a file that is read.
    fn refuse_plots_over_inputs(&self, directory: &Path) -> Result<()> {
        let of = |option: &'static str| move |path: &'_ PathBuf| (path.clone(), option);
        let pairs = self.pairs.iter().map(of("a file of --pairs"));
        let inputs: Vec<(PathBuf, &str)> = pairs
            .chain(self.documents.iter().map(of("a file of --documents")))
            .chain(self.dev.iter().map(of("the file of --dev")))
            .chain(self.eval.iter().map(|(_, path)| (path.clone(), "a file of --eval")))
            .collect();
        plots::names(1 + self.eval.len()).try_for_each(|name| {
            refuse_input(&directory.join(name), "plots", inputs.iter().map(|(path, what)| (path.as_path(), *what)))
        })
    }

    /// Where the model goes, if one is made.
    fn output(&self) -> Option<&PathBuf> {
        self.output.as_ref().filter(|_| !self.ablation)
    }

    /// The directory for states and checkpoints, and whether it is removed at the end.
    fn work(&self) -> (PathBuf, bool) {
        match (&self.work, self.output()) {
            (Some(work), _) => (work.clone(), false),
            (None, Some(output)) => {
                let mut name = output.components().as_path().as_os_str().to_owned();
                name.push(".work");
                (PathBuf::from(name), true)
            }
            (None, None) => (PathBuf::from("trivec-train.work"), true),
        }
    }
}

/// Whether two paths, either of which may not exist yet, are the same directory.
fn same_place(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    whole(a).is_some_and(|a| whole(b) == Some(a))
}

pub(crate) fn run(args: &TrainArgs, model_args: &ModelArgs) -> Result<()> {
    let options = args.options(model_args)?;
    options.check()?;
    let plots = args.plots.as_ref().filter(|_| !args.ablation);
    for path in args.output().into_iter().chain(&args.work).chain(plots) {
        check_directory(path)?;
    }
    if let (Some(output), Some(work)) = (args.output(), &args.work)
        && same_place(output, work)
    {
        return Err(Failure::option(
            "work",
            format!("{} is the output too, expected another directory", work.display()),
        ));
    }
    if let Some(directory) = plots {
        args.refuse_plots_over_inputs(directory)?;
    }
    let inputs = args.inputs()?;
    inputs.train.check()?;
    let model = load(args.packed.weights, model_args)?;
    if let Some(output) = args.output() {
        trivec_train::check_output(&model, output, ExportOptions { force: args.force })?;
    }
    let (work, is_temporary) = args.work();
    let progress = Progress::new(model_args.quiet);
    let session = Session::prepare(&model, inputs, &options, &work, &mut |event| progress.event(event))?;
    // The report is printed after this, so that a closed pipe cannot leave a temporary directory behind.
    let tidy = |session: Session<'_>| -> Result<()> {
        drop(session);
        match is_temporary {
            true => std::fs::remove_dir_all(&work).map_err(|e| Failure::io_path(&work, &e)),
            false => Ok(()),
        }
    };
    match args.output() {
        Some(output) => {
            let trained = session.train(&mut |event| progress.event(event))?;
            progress.finish();
            trained.write(&model, output, ExportOptions { force: args.force })?;
            session.forget()?;
            tidy(session)?;
            finish(args, model_args, &trained, output)
        }
        None => {
            let rows = session.ablate(&mut |event| progress.event(event))?;
            progress.finish();
            tidy(session)?;
            show_ablation(args, &rows)
        }
    }
}

/// Loads the model that `--model` names, or the one in use. A checkpoint is loaded as its packed copy, which computes states many times
/// faster; a reranker, which cannot be trained, is not packed for that.
fn load(weights: Option<WeightFormat>, model_args: &ModelArgs) -> Result<Model> {
    let chosen = crate::loading::choose(model_args)?;
    let model = match &chosen {
        Located::Path(path) if path.is_dir() => {
            let checkpoint = Model::load_with(path, &crate::loading::options(model_args))?;
            if checkpoint.info().rerank {
                checkpoint
            } else {
                let weights = weights.unwrap_or_else(|| advised_format(&checkpoint));
                drop(checkpoint);
                copies::load(path, weights, model_args)?
            }
        }
        _ => {
            let model = crate::loading::load_located(chosen, model_args)?;
            if let Some(weights) = weights {
                crate::loading::check_weights(&model, weights)?;
            }
            model
        }
    };
    Ok(model)
}

/// Writes the plots, prints the report, and says where the model is.
fn finish(args: &TrainArgs, model_args: &ModelArgs, trained: &Trained, output: &Path) -> Result<()> {
    if let Some(directory) = &args.plots {
        std::fs::create_dir_all(directory).map_err(|e| Failure::io_path(directory, &e))?;
        for (name, svg) in plots::all(&trained.report).map_err(|e| Failure::io("plots", &std::io::Error::other(e)))? {
            let path = directory.join(name);
            std::fs::write(&path, svg).map_err(|e| Failure::io_path(&path, &e))?;
        }
    }
    if args.json {
        let (output, warnings) = (output.display().to_string(), table::warnings(&trained.report));
        print(&style::harmless(json!({"output": output, "report": trained.report, "warnings": warnings}).to_string()))?;
    } else {
        print(&table::report(&trained.report, args.lambda.is_none() && !args.paper))?;
    }
    if !model_args.quiet {
        say!("trivec: the model is {}; use it with --model {0}", output.display());
    }
    Ok(())
}

fn show_ablation(args: &TrainArgs, rows: &[AblationRow]) -> Result<()> {
    match args.json {
        true => print(&style::harmless(json!({ "ablation": rows }).to_string())),
        false => print(&table::ablation(rows)),
    }
}

fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}
