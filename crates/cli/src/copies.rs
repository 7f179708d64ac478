//! `--weights` for a checkpoint: loads the packed copy that `trivec_hub` stores. Without the option, a note says what packing would save.

use std::fs;
use std::path::Path;

use indicatif::ProgressBar;

use super::args::ModelArgs;
use super::exit::{self, Failure, Result};
use super::loading::{check_weights, choose, load_located, note_scalar, options};
use super::progress::{self, Bar};
use trivec::pack::{Stage, advised_format, estimated_bytes};
use trivec::{Model, WeightFormat};
use trivec_hub::staged::Watcher;
use trivec_hub::{CopyError, CopyProgress, Located, Store, load_packed};

/// Loads the packed copy of the checkpoint in `directory`. If there is no copy yet, the checkpoint is packed first.
pub(super) fn load(directory: &Path, weights: WeightFormat, args: &ModelArgs) -> Result<Model> {
    let show = Show { bar: Bar::new(args.quiet), texts: progress::bar(args.quiet), quiet: args.quiet };
    let loaded = load_packed(directory, weights, &options(args), &Store::from_env()?, &show);
    let name = weights.name();
    loaded.map_err(|error| match error {
        CopyError::Checkpoint(error) => error.into(),
        CopyError::NotKept(error) => Failure::Message {
            code: exit::IO,
            message: format!(
                "--weights {name}: a packed copy cannot be kept: {error}; set TRIVEC_HOME to a directory that can be written to, or pack \
                 it yourself: {}",
                command(directory, weights)
            ),
        },
        CopyError::NotFaithful(failures) => Failure::model(format!(
            "--weights {name}: {} packed is not faithful enough to itself and is not used: {}",
            directory.display(),
            failures.join("; ")
        )),
    })
}

/// Shows on stderr how far the packing of a copy is.
struct Show {
    bar: Bar,
    texts: ProgressBar,
    quiet: bool,
}

impl Watcher for Show {
    fn measuring(&self, stage: Stage, done: usize, total: usize) {
        self.bar.measuring(stage, done, total);
    }

    fn writing(&self, done: u64, total: u64) {
        self.bar.writing(done, total);
    }

    fn resumed(&self, what: &str) {
        self.bar.resumed(what);
    }
}

impl CopyProgress for Show {
    fn note(&self, text: &str) {
        if !self.quiet {
            say!("trivec: {text}");
        }
    }

    fn reading(&self, done: u64, total: u64) {
        self.bar.set("reading", done, total);
    }

    fn comparing(&self, done: usize, total: usize) {
        self.texts.set_length(total as u64);
        self.texts.set_position(done as u64);
    }

    fn end(&self) {
        self.bar.finish();
        self.texts.finish_and_clear();
    }
}

/// Loads the model for a command that has the option `--weights`. With the option, a checkpoint is loaded as its packed copy, and any other
/// model must have that format. Without it, the model is loaded as it is, and for a checkpoint a line on stderr says what packing would save.
pub(super) fn load_as(weights: Option<WeightFormat>, args: &ModelArgs) -> Result<Model> {
    let chosen = choose(args)?;
    let directory = match &chosen {
        Located::Path(path) if path.is_dir() => Some(path.clone()),
        _ => None,
    };
    match (weights, directory) {
        (Some(weights), Some(directory)) => {
            let model = load(&directory, weights, args)?;
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
                advise(&model, &directory, Advice::Option);
            }
            Ok(model)
        }
    }
}

/// The command line that packs the checkpoint in `directory`, for a message.
fn command(directory: &Path, weights: WeightFormat) -> String {
    let name = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    let name = name.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
    format!(
        "`trivec pack {} --weights {} -o {name}-{}.safetensors`",
        directory.display(),
        weights.name(),
        weights.name()
    )
}

/// The way of packing a checkpoint that [`advise`] recommends.
pub(super) enum Advice {
    /// The option `--weights` of the running command.
    Option,
    /// `trivec pack`.
    Command,
}

/// Prints one line about what packing the checkpoint in `directory` (loaded as `model`) would gain; nothing if the file would not be
/// smaller.
pub(super) fn advise(model: &Model, directory: &Path, how: Advice) {
    let weights = advised_format(model);
    let is_weights = |name: &str| [".safetensors", ".bin", ".pt"].iter().any(|suffix| name.ends_with(suffix));
    let from: u64 = model.contents().iter().filter(|(name, _)| is_weights(name)).map(|(_, c)| c.bytes()).sum();
    let Ok(to) = estimated_bytes(model, weights) else { return };
    if to >= from {
        return;
    }
    let name = weights.name();
    let how = match how {
        Advice::Option => format!("`--weights {name}` packs it once and uses the copy"),
        Advice::Command => format!("{} packs it", command(directory, weights)),
    };
    let (from, to) = (from as f64 / 1e6, to as f64 / 1e6);
    say!("trivec: {} is not packed: {from:.1} MB of weights, {to:.1} MB as {name}; {how}", directory.display());
}
