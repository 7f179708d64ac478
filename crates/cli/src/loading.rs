//! Finds and loads the model that the options of every command ask for.

use std::path::PathBuf;

use super::args::ModelArgs;
use super::exit::{self, Result};
use trivec::{LoadOptions, Model, WeightFormat};
use trivec_hub::{Located, locate, locate_default};

/// Loads the model that `--model` names, else the one in use.
pub(super) fn load(args: &ModelArgs) -> Result<Model> {
    load_located(choose(args)?, args)
}

/// Fails unless the model is packed in the format that `--weights` asks for. It is called for models that the option does not pack: packed
/// files and the starter.
pub(super) fn check_weights(model: &Model, weights: WeightFormat) -> Result<()> {
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

/// Loads a model that was found, and notes on stderr if no vector instructions are used.
pub(super) fn load_located(chosen: Located, args: &ModelArgs) -> Result<Model> {
    let options = options(args);
    let model = match chosen {
        Located::Path(path) => Model::load_with(path, &options)?,
        Located::Starter => starter(&options)?,
    };
    note_scalar(&model, args);
    Ok(model)
}

/// Notes on stderr, unless `--quiet`, if the model runs without vector instructions.
pub(super) fn note_scalar(model: &Model, args: &ModelArgs) {
    if !args.quiet && model.info().isa == "scalar" {
        say!("trivec: running without vector instructions, many times slower; `trivec info` lists what this CPU has");
    }
}

/// Finds the model that `--model` names. Without the option it is the one in use, or else the starter, and a line on stderr says which.
pub(super) fn choose(args: &ModelArgs) -> Result<Located> {
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

/// The path of the installed model that is in use, if there is one; a line on stderr names it.
pub(super) fn installed(args: &ModelArgs) -> Result<Option<PathBuf>> {
    let Some((record, path)) = locate_default()? else { return Ok(None) };
    if !args.quiet {
        say!("trivec: using {} ({}); choose another with --model", record.name, record.weights);
    }
    Ok(Some(path))
}

pub(super) fn note_starter(args: &ModelArgs) {
    if !args.quiet && cfg!(feature = "starter") {
        say!("trivec: using the built-in starter model (not BGE-M3); choose another with --model");
    }
}

/// The options of loading that the command line gives.
pub(super) fn options(args: &ModelArgs) -> LoadOptions {
    LoadOptions {
        threads: args.threads,
        isa: args.isa.clone(),
        check_finite: !args.no_check,
        preload: args.preload,
        tune: args.tune.map(trivec::Tune::from).unwrap_or_default(),
        // What `--tune` measures is stored beside the models. Without a home directory, every process measures for itself.
        tuning: trivec_hub::Store::from_env().ok().map(|store| store.tuning()),
        ..LoadOptions::default()
    }
}

/// Loads the starter for packing it or comparing with it: it then computes in f32, as the checkpoint does that it was made from.
pub(super) fn exact_starter(args: &ModelArgs) -> Result<Model> {
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
