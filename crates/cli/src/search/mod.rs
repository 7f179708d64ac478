//! Search on the command line: `trivec index`, `search`, `get`, `delete`, `export`, `eval` over an index in a directory.

mod documents;
mod eval;
mod index;
mod live;
mod query;
#[cfg(feature = "serve")]
mod served;
mod terminal;

pub(crate) use documents::{DeleteArgs, ExportArgs, GetArgs};
pub(crate) use eval::EvalArgs;
pub(crate) use index::IndexArgs;
pub(crate) use query::SearchArgs;
#[cfg(feature = "serve")]
pub(crate) use served::{check_served, places};

pub(crate) use documents::{delete, export, get};
pub(crate) use eval::run as eval;
pub(crate) use index::run as index;
pub(crate) use query::run as search;

use std::io::Write;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trivec::Model;
use trivec_search::{Encoder, Error, ErrorKind, Filter, Index, ModelId, analyze};

use crate::args::ModelArgs;
use crate::exit::{self, Failure, Result};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The library names its parameters, people type options.
        if let Error::Option { option, what } = &error {
            let option = match *option {
                "judgements" => "qrels",
                // Not an option's: a program's own call.
                "commit" | "embedding" | "embeddings" | "query" | "settings" => {
                    return Failure::usage(format!("the {option}: {what}"));
                }
                other => other,
            };
            return Failure::option(&option.replace('_', "-"), what);
        }
        let code = match error.kind() {
            ErrorKind::Usage => exit::USAGE,
            ErrorKind::Input | ErrorKind::NotFound => exit::INPUT,
            ErrorKind::Io => exit::IO,
            ErrorKind::Locked => exit::BUSY,
            // A damaged index, one of another model, a model that fails.
            _ => exit::MODEL,
        };
        Failure::Message { code, message: error.to_string() }
    }
}

/// An index with the model that made its vectors.
struct Opened {
    index: Index,
    model: Model,
    id: ModelId,
}

impl Opened {
    /// Opens the index in a directory; the model at hand must be the one that made it.
    fn new(directory: &Path, model_args: &ModelArgs) -> Result<Opened> {
        let index = Index::open(directory)?;
        let model = crate::load(model_args)?;
        let id = ModelId::of(&model)?;
        Ok(Opened { index, model, id })
    }

    fn encoder(&self) -> Result<Encoder<'_>> {
        Ok(self.index.encoder(&self.model, &self.id)?)
    }
}

/// A language's code as people read it: a text whose language is not known has one too.
fn language_name(code: &str) -> &str {
    if code == analyze::UNKNOWN { "not known" } else { code }
}

/// What is said of a language that nobody knows.
fn unknown_language(code: &str) -> String {
    format!("found `{}`, expected the code of a language, as de, en or zh", code.escape_debug())
}

fn parse_filter(text: &str) -> std::result::Result<Filter, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

/// A bar on a terminal, counted in bytes or steps.
fn bar(quiet: bool, length: u64, template: &str) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Prints JSON in one line.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Failure::io("standard output", &e.into()))?;
    print(&text)
}

/// Prints lines.
fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}
