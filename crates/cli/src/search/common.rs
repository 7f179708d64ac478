//! What the commands of an index share: how it is opened, and how answers are printed.

use std::io::Write;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trivec::Model;
use trivec_search::{Encoder, Error, Filter, Index, ModelId, analyze};

use crate::args::ModelArgs;
use crate::exit::{Failure, Result};
use crate::loading;
use crate::pending::{refuse_inside, refuse_model_file};
use crate::style::{self, counted};

/// An index with the model that made its vectors.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) model: Model,
    pub(super) id: ModelId,
}

impl Opened {
    /// Opens the index in a directory; the model at hand must be the one that made it.
    pub(super) fn new(directory: &Path, model_args: &ModelArgs) -> Result<Opened> {
        let index = Index::open(directory)?;
        let model = loading::load(model_args)?;
        let id = ModelId::of(&model)?;
        Ok(Opened { index, model, id })
    }

    /// Refuses an output that would replace a file of the index or of the model.
    pub(super) fn refuse_output(&self, output: &Path, option: &str, directory: &Path) -> Result<()> {
        refuse_inside(output, option, directory, "the index")?;
        refuse_model_file(output, option, &self.model)
    }

    pub(super) fn encoder(&self) -> Result<Encoder<'_>> {
        Ok(self.index.encoder(&self.model, &self.id)?)
    }
}

/// A language's code as people read it: a text whose language is not known has one too.
pub(super) fn language_name(code: &str) -> &str {
    if code == analyze::UNKNOWN { "not known" } else { code }
}

pub(super) fn parse_filter(text: &str) -> std::result::Result<Filter, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

/// A bar on a terminal, counted in bytes or steps.
pub(super) fn bar(quiet: bool, length: u64, template: &str) -> ProgressBar {
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
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = style::json(value).map_err(|e| Failure::io("standard output", &e.into()))?;
    print(&text)
}

/// Prints lines.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// How many documents an index has, and where it has some in chunks, as how many entries.
pub(super) fn documents_and_entries(documents: u64, entries: u64) -> String {
    let documents_said = counted(documents, "document");
    if documents == entries { documents_said } else { format!("{documents_said} as {}", counted(entries, "entry")) }
}
