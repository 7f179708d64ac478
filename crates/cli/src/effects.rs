//! Finds options that have no effect in a call, such as `--cache-size` without `--cache`. On the command line such an option is refused by
//! name, because the user expects an effect. From a variable or a file it is ignored, because other commands may use it.

use super::command::{Cli, Command};
use super::exit::{Result, refuse_idle};
use super::sources::Sources;
use trivec::WeightFormat;

/// Why options have no effect.
enum Why {
    /// Because this option is given.
    Beside(&'static str),
    /// Because this option is not given.
    Without(&'static str),
    /// Because of this fact, which holds.
    With(&'static str),
}

use Why::{Beside, With, Without};

/// Options (by their long names) that have no effect, and why.
type Idle = (Why, &'static [&'static str]);

/// Fails if the command line gives an option that has no effect in this call. [`check_serve`] does the same for `serve`, whose options may
/// come from a file too.
pub(super) fn check(cli: &Cli, sources: &Sources) -> Result<()> {
    for (why, options) in idle(cli, sources) {
        refuse(sources, &why, options)?;
    }
    Ok(())
}

/// Fails if `why` holds and the command line gives one of `options`.
fn refuse(sources: &Sources, why: &Why, options: &[&str]) -> Result<()> {
    let (holds, because) = match why {
        Beside(option) => (sources.has(option), format!("beside {}", sources.name(option))),
        Without(option) => (!sources.has(option), format!("without --{option}")),
        With(what) => (true, format!("with {what}")),
    };
    options.iter().filter(|_| holds).try_for_each(|option| refuse_idle(sources, option, &because))
}

/// The options that have no effect in this call. Whether a reason that names an option holds is left to [`refuse`].
fn idle(cli: &Cli, sources: &Sources) -> Vec<Idle> {
    let mut idle: Vec<Idle> = Vec::new();
    match &cli.command {
        Command::Embed(args) => {
            idle.push((Without("cache"), &["cache-size"]));
            if !args.texts.is_empty() {
                idle.push((With("texts on the command line"), &["input-format", "column", "lossy"]));
            }
            if !args.modes.dense {
                idle.push((With("--modes without dense"), &["dimensions", "no-normalize"]));
            }
        }
        Command::Score(args) if args.a.is_some() => {
            idle.push((With("texts on the command line"), &["input-format", "columns", "lossy"]));
        }
        Command::Rerank(args) => {
            idle.push((Beside("json"), &["raw"]));
            if !args.documents.is_empty() {
                idle.push((With("documents on the command line"), &["input-format", "column", "lossy"]));
            }
        }
        Command::Pack(args) => {
            idle.push((Without("mixed"), &["budget-mb"]));
            if args.source.is_some() {
                idle.push((With("a MODEL"), &["model"]));
            }
            if matches!(args.weights, WeightFormat::F16 | WeightFormat::F32) {
                idle.push((With("--weights f16 or f32: they are not calibrated"), &["calibration"]));
            }
        }
        Command::Import(args) => {
            idle.push((With("import: it loads no model"), &["threads", "isa", "tune", "no-check", "preload"]));
            if args.source.is_some() {
                idle.push((With("a DIR"), &["model"]));
            }
        }
        Command::Verify(_) => idle.push((With("verify: its models are MODEL and REFERENCE"), &["model"])),
        Command::Models(_) => {
            idle.push((With("models: it loads none"), &["model", "threads", "isa", "tune", "no-check", "preload"]))
        }
        #[cfg(feature = "search")]
        Command::Index(args) => idle.extend(of_index(args)),
        #[cfg(feature = "search")]
        Command::Search(args) => idle.extend(of_search(args)),
        #[cfg(feature = "search")]
        Command::Get(super::search::GetArgs { keys, .. }) | Command::Delete(super::search::DeleteArgs { keys, .. }) => {
            idle.push(NO_MODEL);
            if !keys.is_empty() {
                idle.push((With("keys on the command line"), &["filter"]));
            }
        }
        #[cfg(feature = "search")]
        Command::Export(_) => idle.push(NO_MODEL),
        #[cfg(feature = "train")]
        Command::Train(args) => idle.extend(of_train(args)),
        #[cfg(feature = "hub")]
        Command::Pull(args) => {
            idle.push((With("pull: its model is NAME"), &["model"]));
            if args.list {
                let options = &[
                    "from",
                    "weights",
                    "force",
                    "keep-source",
                    "pin",
                    "wait",
                    "parallel",
                    "retries",
                    "retry-delay",
                    "stall-timeout",
                    "threads",
                    "isa",
                    "tune",
                    "no-check",
                    "preload",
                ];
                idle.push((Beside("list"), options));
            }
        }
        Command::Bench(_) => idle.extend(of_bench(sources)),
        Command::Plan(args) => {
            idle.push((Beside("bench"), &["seconds"]));
            if !args.modes.dense {
                idle.push((With("--modes without dense"), &["dimensions"]));
            }
        }
        _ => {}
    }
    idle
}

/// The options of every command that say which model to load and how.
#[cfg(feature = "search")]
const NO_MODEL: Idle =
    (With("a command that loads no model"), &["model", "threads", "isa", "tune", "no-check", "preload"]);

/// The options `$more`, and those of `index` that say how documents are added. They have no effect beside an option that does something else,
/// such as `--stats`.
#[cfg(feature = "search")]
macro_rules! options_of_adding {
    ($($more:literal),*) => {
        &[
            $($more,)* "input", "format", "key", "text", "title", "lang-field", "fields", "chunk", "language", "languages", "colbert",
            "max-length", "document-prompt", "query-prompt", "cache", "cache-size", "model", "threads", "isa", "tune", "no-check", "preload",
        ]
    };
}

/// The part of [`idle`] for `index`.
#[cfg(feature = "search")]
fn of_index(args: &super::search::IndexArgs) -> Vec<Idle> {
    let mut idle: Vec<Idle> = vec![
        (Beside("stats"), options_of_adding!("check", "compact", "snapshot")),
        (Beside("check"), options_of_adding!("compact", "snapshot")),
        (Beside("compact"), options_of_adding!("snapshot")),
        (Beside("snapshot"), options_of_adding!()),
        (Without("cache"), &["cache-size"]),
        (Beside("language"), &["languages"]),
    ];
    if args.format == Some(trivec_search::ingest::Format::Text) {
        let what = "--format txt: a file is a document, and its path the key";
        idle.push((With(what), &["key", "text", "title", "lang-field", "fields"]));
    }
    idle
}

/// The part of [`idle`] for `search`.
#[cfg(feature = "search")]
fn of_search(args: &super::search::SearchArgs) -> Vec<Idle> {
    let mut idle: Vec<Idle> = Vec::new();
    if args.query.is_some() {
        idle.push((With("a question on the command line"), &["queries", "run"]));
    }
    idle.extend([
        (Without("queries"), ["run"].as_slice()),
        (Without("reranker"), &["reranker-top"]),
        (Beside("run"), &["json"]),
        (Beside("explain"), &["snippets"]),
    ]);
    if !args.arms.bm25 {
        idle.push((With("--arms without bm25: the language is that of the words"), &["lang"]));
    }
    if args.queries.is_some() && !args.json {
        idle.push((With("--queries without --json: a run has ranks and scores alone"), &["explain", "snippets"]));
    }
    idle
}

/// The part of [`idle`] for `train`.
#[cfg(feature = "train")]
fn of_train(args: &super::train::TrainArgs) -> Vec<Idle> {
    let mut idle: Vec<Idle> = vec![(Beside("ablation"), &["output", "plots", "force"])];
    if !args.distill {
        idle.push((With("--distill off"), &["distill-from"]));
    }
    if args.dev.is_none() {
        idle.push((With("a dev set that is put aside from the pairs"), &["allow-overlap"]));
    }
    // The ablation always trains the sparse head.
    if !args.heads.sparse && !args.ablation {
        idle.push((With("--heads without sparse"), &["lr-sparse"]));
    }
    if !args.heads.dense && !args.heads.colbert {
        idle.push((With("--heads sparse alone"), &["lr"]));
    }
    idle
}

/// The part of [`idle`] for `bench`.
fn of_bench(sources: &Sources) -> Vec<Idle> {
    let mut idle: Vec<Idle> = vec![
        (
            Beside("lengths"),
            &["probe", "export", "worker", "synthetic", "weights", "shapes", "path", "seconds", "json", "model"],
        ),
        (Beside("probe"), &["export", "worker", "synthetic", "weights", "shapes", "path", "seconds", "json", "model"]),
        (Beside("export"), &["worker", "weights", "shapes", "path", "seconds", "json", "model"]),
        (Beside("worker"), &["shapes", "seconds", "json"]),
        (Beside("synthetic"), &["model"]),
    ];
    if !sources.has("export") {
        idle.push((Without("synthetic"), &["path"]));
    }
    idle
}

/// Fails if the command line gives an option of `serve` that has no effect beside the other options, among them those of its file.
/// `is_quiet`: whether the log leaves requests out.
#[cfg(feature = "serve")]
pub(super) fn check_serve(sources: &Sources, is_quiet: bool) -> Result<()> {
    let mut idle: Vec<Idle> = vec![
        (Beside("healthcheck"), &["print-config"]),
        (Beside("unix-socket"), &["host", "port", "tls-cert", "tls-key", "allowed-host"]),
        (Without("cache"), &["cache-size"]),
    ];
    #[cfg(feature = "search")]
    idle.extend([
        (Without("index"), ["index-write", "index-snapshots", "reranker"].as_slice()),
        (Without("index-write"), &["index-snapshots"]),
    ]);
    if is_quiet {
        idle.push((With("a log of errors and warnings alone"), &["log-texts"]));
    }
    let from_environment = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let variables = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if !variables.into_iter().any(from_environment) {
        idle.push((Without("otlp-endpoint"), &["otlp-service-name"]));
    }
    idle.iter().try_for_each(|(why, options)| refuse(sources, why, options))
}

/// Drops values that environment variables give where they would contradict what else is given. For example, an input file that a variable
/// names is dropped if the command line has texts. Called before [`check`].
pub(super) fn settle(cli: &mut Cli, sources: &Sources) {
    match &mut cli.command {
        Command::Embed(args) if !args.texts.is_empty() && sources.is_variable("input") => args.input = None,
        Command::Rerank(args) if !args.documents.is_empty() && sources.is_variable("input") => args.input = None,
        Command::Score(args) if args.a.is_some() && sources.is_variable("pairs") => args.pairs = None,
        Command::Pack(args) if !args.mixed => args.budget_mb = None,
        #[cfg(feature = "search")]
        Command::Search(args) => {
            if args.query.is_some() && sources.is_variable("queries") {
                args.queries = None;
            }
            if args.queries.is_none() && sources.is_variable("run") {
                args.run = None;
            }
            args.json &= args.run.is_none() || !sources.is_variable("json");
        }
        #[cfg(feature = "search")]
        Command::Get(args) if !args.keys.is_empty() && sources.is_variable("filter") => args.filter = None,
        #[cfg(feature = "search")]
        Command::Delete(args) if !args.keys.is_empty() && sources.is_variable("filter") => args.filter = None,
        // The number of machines and the hours follow from each other.
        Command::Plan(args) if args.machines.is_some() && sources.is_variable("hours") => args.hours = None,
        Command::Plan(args) if args.hours.is_some() && sources.is_variable("machines") => args.machines = None,
        _ => {}
    }
}
