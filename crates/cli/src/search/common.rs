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

/// An open index, and the model that is to embed texts for it.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) model: Model,
    /// The model's identity, which is compared with that of the model that made the index.
    pub(super) id: ModelId,
}

impl Opened {
    /// Opens the index in `directory`, and loads the model that the options ask for. [`Opened::encoder`] checks that they belong together.
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

    /// The encoder for queries; fails if the model is not the one that made the index.
    pub(super) fn encoder(&self) -> Result<Encoder<'_>> {
        Ok(self.index.encoder(&self.model, &self.id)?)
    }
}

/// A language's code for people: the code of texts whose language is not known is put in words.
pub(super) fn language_name(code: &str) -> &str {
    if code == analyze::UNKNOWN { "not known" } else { code }
}

pub(super) fn parse_filter(text: &str) -> std::result::Result<Filter, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

/// A progress bar on stderr for `length` bytes or steps; it is not drawn if `quiet`, or if stderr is no terminal.
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

/// Prints text to standard output, with one line end at its end.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// How many documents there are, and, if some are cut into chunks, how many entries they are: `2 documents as 5 entries`.
pub(super) fn documents_and_entries(documents: u64, entries: u64) -> String {
    let documents_said = counted(documents, "document");
    if documents == entries { documents_said } else { format!("{documents_said} as {}", counted(entries, "entry")) }
}
