//! The command line as a whole: its subcommands, and how it is parsed.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::args::{BenchArgs, EmbedArgs, ExplainArgs, InfoArgs, ModelArgs, PackArgs, ScoreArgs, TokensArgs};
use super::rerank::RerankArgs;
#[cfg(feature = "serve")]
use super::serve_args::ServeArgs;
use super::sources::{self, Sources, platform_variable};
use super::usage::with_whole_examples;
use super::verify::VerifyArgs;
use trivec::escape::is_needed;

const EXAMPLES: &str = "\
Examples:
  trivec score \"我喜欢阅读书籍\" \"I enjoy reading books\"
  trivec explain \"苹果公司发布新手机\" \"Apple launched a new iPhone\"
  trivec embed --input texts.txt --modes dense,sparse --output vectors.jsonl
  trivec info --model path/to/bge-m3
  trivec pack path/to/bge-m3 --weights int8 -o bge-m3-int8.safetensors
  trivec models
  trivec index notes/ --input docs.jsonl
  trivec search notes/ \"苹果公司发布新手机\" --explain

Without --model, most commands use the model that was installed last (or chosen by `trivec models use`), else the built-in starter.
Models live in TRIVEC_HOME [default: trivec in XDG_DATA_HOME, else ~/.local/share/trivec].

Exit codes: 0 done, 2 wrong use, 3 bad input, 4 bad model, missing head or (verify) a promise that is not kept, 5 I/O error, \
6 in use by another process.
Every option can be given by the environment variable that its help names.";

/// Dense, lexical and ColBERT embeddings from one pass of an XLM-RoBERTa embedder, on the CPU.
#[derive(Parser, Debug)]
#[command(name = "trivec", version, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Embed texts: lines, JSONL, JSON, CSV or TSV in, JSONL, npy or safetensors out
    Embed(EmbedArgs),
    /// Score the similarity of two texts, or of many pairs
    Score(ScoreArgs),
    /// Sort documents by how well they answer a query, with a reranker
    Rerank(RerankArgs),
    /// Show why two texts are similar: token weights, shared tokens, alignment
    Explain(ExplainArgs),
    /// Show a text's tokens
    Tokens(TokensArgs),
    /// Show the model, the instruction sets and the threads
    Info(InfoArgs),
    /// Pack a model into one file of int8, int4, f16, bf16 or f32 weights that is used in place
    Pack(PackArgs),
    /// Write a model directory of any form (PyTorch's own files too) in safetensors
    Import(super::import::ImportArgs),
    /// Compare a packed file with its source, or any model with another
    Verify(VerifyArgs),
    /// Serve the HTTP API and the page
    #[cfg(feature = "serve")]
    Serve(Box<ServeArgs>),
    /// Measure a model against the limits of this machine
    Bench(BenchArgs),
    /// Say what embedding a corpus takes: tokens, hours, machines, cost, bytes
    Plan(super::plan::PlanArgs),
    /// Fetch a model, pack it, check it and make it the one in use
    #[cfg(feature = "hub")]
    Pull(super::pull::PullArgs),
    /// List the installed models, choose the one in use, remove one
    Models(super::models::ModelsArgs),
    /// Put documents into an index: text, words and the three representations of each
    #[cfg(feature = "search")]
    Index(Box<super::search::IndexArgs>),
    /// Find documents of an index, across languages, and why
    #[cfg(feature = "search")]
    Search(Box<super::search::SearchArgs>),
    /// Print documents of an index
    #[cfg(feature = "search")]
    Get(super::search::GetArgs),
    /// Delete documents of an index
    #[cfg(feature = "search")]
    Delete(super::search::DeleteArgs),
    /// Write an index's documents and vectors for another engine
    #[cfg(feature = "search")]
    Export(super::search::ExportArgs),
    /// Measure how well an index answers questions that were judged
    #[cfg(feature = "search")]
    Eval(super::search::EvalArgs),
    /// Adapt a model's heads to your own texts, and measure whether it helped
    #[cfg(feature = "train")]
    Train(Box<super::train::TrainArgs>),
}

/// The definition of the command line, with rules for environment variables that clap does not have. An empty variable counts as unset,
/// except that of an API key: the user wanted a key, and without one the service would be open. A variable that a container platform has
/// set counts as unset too. The variable of a flag says `1`, `yes`, `0`, `no` …, and nothing else.
pub(super) fn command() -> clap::Command {
    command_without(None)
}

/// As [`command`], but no option reads the environment variable `variable`.
fn command_without(variable: Option<&OsStr>) -> clap::Command {
    let adapt = |arg: clap::Arg| {
        let is_key = arg.get_id() == "api_key";
        let value = arg.get_env().and_then(std::env::var_os);
        let is_empty = !is_key && value.is_some_and(|value| value.is_empty());
        let is_left_out = variable.is_some() && arg.get_env() == variable;
        let arg = match is_empty || is_left_out || platform_variable(&arg).is_some() {
            true => arg.env(clap::builder::Resettable::Reset),
            false => arg,
        };
        // The help shows what a variable holds, unless that would act on the terminal.
        let shown = arg.get_env().and_then(std::env::var_os).is_none_or(|value| !is_needed(&value.to_string_lossy()));
        let arg = if shown { arg } else { arg.hide_env_values(true) };
        match arg.get_action() {
            clap::ArgAction::SetTrue => arg.value_parser(clap::builder::BoolishValueParser::new()),
            _ => arg,
        }
    };
    let whole =
        |command: clap::Command| match command.get_after_help().map(|help| with_whole_examples(&help.to_string())) {
            Some(help) => command.after_help(help),
            None => command,
        };
    // Help and errors call the program `trivec`, whatever name it was started under.
    let command = whole(Cli::command().bin_name("trivec")).mut_args(adapt);
    command.mut_subcommands(|subcommand| whole(subcommand).mut_args(adapt))
}

/// Parses the arguments of this process. Prints notes about variables that a container platform has set, unless `--quiet`.
pub(super) fn parse() -> Result<(Cli, Sources), clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(std::env::args_os()).map_err(name_variable)?;
    let sources = Sources::of(&matches, &command);
    let cli = Cli::from_arg_matches(&matches)?;
    if !cli.model.quiet {
        for note in sources::notes(&Cli::command(), matches.subcommand_name(), &sources) {
            say!("trivec: {note}");
        }
    }
    Ok((cli, sources))
}

/// Makes an error about an option's value name the environment variable, if one gave the value.
fn name_variable(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let argument = |error: &clap::Error| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument.clone()),
        _ => None,
    };
    let Some(option) = argument(&error) else { return error };
    let mut command = command();
    // Only arguments that are built can be shown as text.
    command.build();
    let all = command.get_subcommands().chain([&command]).flat_map(clap::Command::get_arguments);
    let variables: BTreeSet<&OsStr> =
        all.filter(|arg| arg.to_string() == option).filter_map(clap::Arg::get_env).collect();
    let without = |variable: &OsStr| command_without(Some(variable)).try_get_matches();
    // The variable gave the value if the error is gone without the variable.
    let is_cause = |variable: &&OsStr| {
        std::env::var_os(variable).is_some()
            && without(variable).err().and_then(|e| argument(&e)) != Some(option.clone())
    };
    if let Some(variable) = variables.into_iter().find(is_cause) {
        let named = format!("{} ({option})", variable.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_command_passes_the_checks_of_clap() {
        command().debug_assert();
    }

    #[test]
    fn every_option_has_an_environment_variable_and_a_help_text() {
        let command = Cli::command();
        let mut seen = 0;
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            for arg in command.get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
                let name = format!("{} {}", command.get_name(), arg.get_id());
                assert!(arg.get_help().is_some(), "{name} has no help");
                if let Some(long) = arg.get_long() {
                    // `--weights` of `score` are numbers that mix scores; of these commands it is the format of a model's weights.
                    let prefix = match (long, command.get_name()) {
                        ("weights", "embed" | "plan" | "rerank" | "serve" | "train") => "TRIVEC_MODEL",
                        ("weights", "pack" | "pull") => "TRIVEC_PACK",
                        // The options of these names mean something else in other commands.
                        ("weights", "bench") => "TRIVEC_BENCH",
                        ("pairs" | "batch" | "output" | "force", "train") => "TRIVEC_TRAIN",
                        ("output" | "force", "pack") => "TRIVEC_PACK",
                        ("output" | "filter", "export") => "TRIVEC_EXPORT",
                        ("output" | "force", "import") => "TRIVEC_IMPORT",
                        ("filter", "get") => "TRIVEC_GET",
                        ("filter", "delete") => "TRIVEC_DELETE",
                        ("seed", "eval") => "TRIVEC_EVAL",
                        ("check", "verify") => "TRIVEC_VERIFY",
                        ("input" | "top" | "max-length" | "prompt", "rerank") => "TRIVEC_RERANK",
                        ("input" | "format" | "max-length" | "query-prompt" | "document-prompt", "index") => {
                            "TRIVEC_INDEX"
                        }
                        _ => "TRIVEC",
                    };
                    let variable = format!("{prefix}_{}", long.to_uppercase().replace('-', "_"));
                    assert_eq!(arg.get_env(), Some(variable.as_ref()), "{name}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 25, "{seen} options");
    }

    /// The variables that several commands read, because they mean the same to all of them. Any other belongs to one command alone, so that
    /// what was set for one never changes what another reads, writes or deletes.
    const SHARED: [&str; 23] = [
        "TRIVEC_CACHE",
        "TRIVEC_CACHE_SIZE",
        "TRIVEC_COLUMN",
        "TRIVEC_DIMENSIONS",
        "TRIVEC_DOCUMENT_PROMPT",
        "TRIVEC_FORMAT",
        "TRIVEC_INPUT_FORMAT",
        "TRIVEC_JSON",
        "TRIVEC_LOSSY",
        "TRIVEC_MAX_LENGTH",
        "TRIVEC_MODEL",
        "TRIVEC_MODEL_WEIGHTS",
        "TRIVEC_MODES",
        "TRIVEC_PACK_WEIGHTS",
        "TRIVEC_PROMPT",
        "TRIVEC_QUERIES",
        "TRIVEC_QUERY_PROMPT",
        "TRIVEC_RERANK",
        "TRIVEC_RERANKER",
        "TRIVEC_SECONDS",
        "TRIVEC_SPECIAL_TOKENS",
        "TRIVEC_THRESHOLDS",
        "TRIVEC_WEIGHTS",
    ];

    #[test]
    fn a_variable_means_the_same_to_every_command_that_reads_it() {
        let command = Cli::command();
        let mut readers: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for subcommand in command.get_subcommands() {
            for arg in subcommand.get_arguments() {
                let Some(variable) = arg.get_env() else { continue };
                let values: Vec<String> =
                    arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
                let meaning = format!(
                    "--{} {:?} {:?} {values:?} {:?}",
                    arg.get_long().unwrap_or_default(),
                    arg.get_value_names(),
                    arg.get_default_values(),
                    arg.get_action()
                );
                let readers = readers.entry(variable.to_string_lossy().into_owned()).or_default();
                readers.push((subcommand.get_name().to_owned(), meaning));
            }
        }
        for (variable, readers) in readers.iter().filter(|(_, readers)| readers.len() > 1) {
            assert!(SHARED.contains(&variable.as_str()), "{variable}: {readers:?}");
            let meanings: BTreeSet<&str> = readers.iter().map(|(_, meaning)| meaning.as_str()).collect();
            assert_eq!(meanings.len(), 1, "{variable}: {readers:?}");
        }
    }
}
