//! The command line: one file a subcommand, over the library's public calls.

mod args;
mod bench;
mod embed;
mod exit;
mod explain;
mod import;
mod info;
mod input;
mod output;
mod pack;
mod plot;
mod rerank;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod stages;
mod style;
mod tokens;
mod verify;

use std::process::ExitCode;

use args::{Cli, Command, ModelArgs};
use exit::Result;

use crate::{LoadOptions, Model};

/// Runs the program: parses the arguments, runs the subcommand, says what went wrong, returns the exit code.
pub fn main() -> ExitCode {
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no errors; clap knows which is which. A closed pipe is not worth a word.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    cli.model.color.apply();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: &Cli) -> Result<()> {
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
        Command::Serve(args) => serve::run(args, &cli.model),
        Command::Bench(args) => bench::run(args, &cli.model),
    }
}

/// Loads the model that was asked for, else the starter.
fn load(args: &ModelArgs) -> Result<Model> {
    let options = options(args);
    match &args.model {
        Some(directory) => Ok(Model::load_with(directory, &options)?),
        None => load_starter(args, &options),
    }
}

fn options(args: &ModelArgs) -> LoadOptions {
    LoadOptions { threads: args.threads, isa: args.isa.clone(), check_finite: !args.no_check, preload: args.preload }
}

#[cfg(feature = "starter")]
fn load_starter(args: &ModelArgs, options: &LoadOptions) -> Result<Model> {
    use std::io::IsTerminal;
    if !args.quiet && std::io::stderr().is_terminal() {
        anstream::eprintln!("trivec: using the built-in starter model (not BGE-M3); choose another with --model DIR");
    }
    Ok(Model::starter_with(options)?)
}

#[cfg(not(feature = "starter"))]
fn load_starter(_args: &ModelArgs, _options: &LoadOptions) -> Result<Model> {
    Err(exit::Failure::usage(
        "no model: this binary was built without the starter; give --model DIR or set TRIVEC_MODEL",
    ))
}
