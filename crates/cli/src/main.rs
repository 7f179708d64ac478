//! The command line program. Each subcommand has a file (or folder) of its own, which calls the libraries.

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
mod command;
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
mod loading;
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
mod progress;
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
#[cfg(feature = "serve")]
mod serve_args;
mod sources;
mod style;
mod tokens;
#[cfg(feature = "train")]
mod train;
mod usage;
mod verify;

use std::process::ExitCode;

use command::{Cli, Command};
use exit::Result;
use sources::Sources;

/// Runs the program: parses the arguments, runs the subcommand, says what went wrong, returns the exit code.
pub fn main() -> ExitCode {
    let (mut cli, mut sources) = match command::parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version go to stdout and are no errors; clap knows which is which.
            let printed = usage::print(error, &mut command::command());
            return match printed {
                Ok(code) => code,
                Err(e) => exit::Failure::stdout(&e).report(&Sources::default()),
            };
        }
    };
    effects::settle(&mut cli, &sources);
    cli.model.color.apply();
    match run(&cli, &mut sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&sources),
    }
}

/// Runs the subcommand, unless the command line has an option that has no effect in it. `sources` tell where the values of options come from.
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
