//! Search on the command line: `trivec index`, `search`, `get`, `delete`, `export`, `eval` over an index in a directory.

mod common;
mod documents;
mod eval;
mod index;
mod interrupt;
mod live;
mod query;
mod run;
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
pub(crate) use run::run as search;

use trivec_search::{Error, ErrorKind};

use crate::exit::{self, Failure};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The library's errors name parameters, which are translated to options.
        if let Error::Option { option, what } = &error {
            let option = match *option {
                "judgements" => "qrels",
                // No option of the command line sets these parameters.
                "commit" | "embedding" | "embeddings" | "query" | "settings" => {
                    return Failure::usage(format!("the {option}: {what}"));
                }
                other => other,
            };
            return Failure::option(&option.replace('_', "-"), what);
        }
        if let Error::Engine(error) = error {
            return error.into();
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
