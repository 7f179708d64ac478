//! The command line: one file a subcommand, over the library's public calls.

/// Prints one line to stderr, escaped for the terminal. A write error is ignored, where `eprintln!` would end the program.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stderr(), "{}", trivec::escape::Escaped(format_args!($($arg)*)));
    }};
}

mod args;
mod bench;
mod cache;
mod choices;
#[cfg(feature = "serve")]
mod config_file;
mod copies;
mod effects;
mod embed;
mod exit;
mod explain;
#[cfg(feature = "serve")]
mod health;
mod import;
mod info;
mod input;
mod models;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod pack;
mod pending;
mod plan;
mod plot;
#[cfg(feature = "serve")]
mod process;
mod prompt;
#[cfg(feature = "hub")]
mod pull;
#[cfg(feature = "hub")]
mod pull_progress;
mod rerank;
mod score;
#[cfg(feature = "search")]
mod search;
#[cfg(feature = "serve")]
mod serve;
mod sources;
mod style;
mod tokens;
#[cfg(feature = "train")]
mod train;
mod usage;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use args::{Cli, Command, ModelArgs};
use exit::Result;
use sources::Sources;

use trivec::{LoadOptions, Model, WeightFormat};
use trivec_hub::{Located, locate, locate_default};

/// Runs the program: parses the arguments, runs the subcommand, says what went wrong, returns the exit code.
pub fn main() -> ExitCode {
    let (cli, mut sources) = match args::parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version go to stdout and are no errors; clap knows which is which.
            let printed = usage::print(error, &mut args::command());
            return match printed {
                Ok(code) => code,
                Err(e) => exit::Failure::stdout(&e).report(&Sources::default()),
            };
        }
    };
    cli.model.color.apply();
    match run(&cli, &mut sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&sources),
    }
}

fn run(cli: &Cli, sources: &mut Sources) -> Result<()> {
    effects::check(cli, sources)?;
    match &cli.command {
        Command::Embed(args) => embed::run(args, &cli.model),
        Command::Score(args) => score::run(args, &cli.model),
        Command::Rerank(args) => rerank::run(args, &cli.model),
        Command::Explain(args) => explain::run(args, &cli.model),
        Command::Tokens(args) => tokens::run(args, &cli.model),
        Command::Info(args) => info::run(args, &cli.model),
        Command::Pack(args) => pack::run(args, &cli.model),
        Command::Import(args) => import::run(args, &cli.model),
        Command::Verify(args) => verify::run(args, &cli.model),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args, &cli.model, sources),
        Command::Bench(args) => bench::run(args, &cli.model),
        Command::Plan(args) => plan::run(args, &cli.model),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::run(args, &cli.model),
        Command::Models(args) => models::run(args, &cli.model),
        #[cfg(feature = "search")]
        Command::Index(args) => search::index(args, &cli.model, sources),
        #[cfg(feature = "search")]
        Command::Search(args) => search::search(args, &cli.model, sources),
        #[cfg(feature = "search")]
        Command::Get(args) => search::get(args),
        #[cfg(feature = "search")]
        Command::Delete(args) => search::delete(args),
        #[cfg(feature = "search")]
        Command::Export(args) => search::export(args),
        #[cfg(feature = "search")]
        Command::Eval(args) => search::eval(args, &cli.model, sources),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(args, &cli.model),
    }
}

/// Loads the model that was asked for, else the one in use.
fn load(args: &ModelArgs) -> Result<Model> {
    load_located(choose(args)?, args)
}

/// Loads the model for a command that takes `--weights`: a checkpoint that is not packed in its packed copy, or, without the option, with
/// a line on stderr that says what that would bring.
fn load_as(weights: Option<WeightFormat>, args: &ModelArgs) -> Result<Model> {
    let chosen = choose(args)?;
    let directory = match &chosen {
        Located::Path(path) if path.is_dir() => Some(path.clone()),
        _ => None,
    };
    match (weights, directory) {
        (Some(weights), Some(directory)) => {
            let model = copies::load(&directory, weights, args)?;
            note_scalar(&model, args);
            Ok(model)
        }
        (Some(weights), None) => {
            let model = load_located(chosen, args)?;
            check_weights(&model, weights)?;
            Ok(model)
        }
        (None, directory) => {
            let model = load_located(chosen, args)?;
            if let Some(directory) = directory.filter(|_| !args.quiet) {
                copies::advise(&model, &directory, copies::Advice::Option);
            }
            Ok(model)
        }
    }
}

/// A model that is not packed anew must have the format that was asked for.
fn check_weights(model: &Model, weights: WeightFormat) -> Result<()> {
    let (asked, info) = (weights.name(), model.info());
    let what = match model.packed_format() {
        Some(format) if format == weights => return Ok(()),
        Some(_) => format!(
            "found {asked}, but {} is packed already, as {}: leave the option out, or give the checkpoint that it was packed from",
            info.name, info.weights
        ),
        None => format!(
            "found {asked}, but {} is used as it is ({}); `trivec pack --weights {asked} -o FILE` packs it",
            info.name, info.weights
        ),
    };
    Err(exit::Failure::option("weights", what))
}

fn load_located(chosen: Located, args: &ModelArgs) -> Result<Model> {
    let options = options(args);
    let model = match chosen {
        Located::Path(path) => Model::load_with(path, &options)?,
        Located::Starter => starter(&options)?,
    };
    note_scalar(&model, args);
    Ok(model)
}

fn note_scalar(model: &Model, args: &ModelArgs) {
    if !args.quiet && model.info().isa == "scalar" {
        say!("trivec: running without vector instructions, many times slower; `trivec info` lists what this CPU has");
    }
}

/// The model that was asked for, else the one in use, of which a line on stderr tells.
fn choose(args: &ModelArgs) -> Result<Located> {
    if let Some(model) = &args.model {
        return Ok(locate(model)?);
    }
    Ok(match installed(args)? {
        Some(path) => Located::Path(path),
        None => {
            note_starter(args);
            Located::Starter
        }
    })
}

/// The installed model that is in use, if there is one.
fn installed(args: &ModelArgs) -> Result<Option<PathBuf>> {
    let Some((record, path)) = locate_default()? else { return Ok(None) };
    if !args.quiet {
        say!("trivec: using {} ({}); choose another with --model", record.name, record.weights);
    }
    Ok(Some(path))
}

fn note_starter(args: &ModelArgs) {
    if !args.quiet && cfg!(feature = "starter") {
        say!("trivec: using the built-in starter model (not BGE-M3); choose another with --model");
    }
}

fn options(args: &ModelArgs) -> LoadOptions {
    LoadOptions {
        threads: args.threads,
        isa: args.isa.clone(),
        check_finite: !args.no_check,
        preload: args.preload,
        tune: args.tune.map(trivec::Tune::from).unwrap_or_default(),
        // Kept beside the models. Without a home directory, every process measures for itself.
        tuning: trivec_hub::Store::from_env().ok().map(|store| store.tuning()),
        ..LoadOptions::default()
    }
}

/// Loads the starter to be packed or compared with: in f32, as the checkpoint computes that it was made of.
fn exact_starter(args: &ModelArgs) -> Result<Model> {
    starter(&LoadOptions { exact: true, ..options(args) })
}

#[cfg(feature = "starter")]
fn starter(options: &LoadOptions) -> Result<Model> {
    Ok(Model::starter_with(options)?)
}

#[cfg(not(feature = "starter"))]
fn starter(_options: &LoadOptions) -> Result<Model> {
    Err(exit::Failure::usage(
        "no model: this binary was built without the starter; give --model PATH or the NAME of an installed model",
    ))
}
