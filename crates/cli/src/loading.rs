//! From the options of every command to a loaded model.

use std::path::PathBuf;

use super::args::ModelArgs;
use super::exit::{self, Result};
use trivec::{LoadOptions, Model, WeightFormat};
use trivec_hub::{Located, locate, locate_default};

/// Loads the model that was asked for, else the one in use.
pub(super) fn load(args: &ModelArgs) -> Result<Model> {
    load_located(choose(args)?, args)
}

/// A model that is not packed anew must have the format that was asked for.
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

pub(super) fn load_located(chosen: Located, args: &ModelArgs) -> Result<Model> {
    let options = options(args);
    let model = match chosen {
        Located::Path(path) => Model::load_with(path, &options)?,
        Located::Starter => starter(&options)?,
    };
    note_scalar(&model, args);
    Ok(model)
}

pub(super) fn note_scalar(model: &Model, args: &ModelArgs) {
    if !args.quiet && model.info().isa == "scalar" {
        say!("trivec: running without vector instructions, many times slower; `trivec info` lists what this CPU has");
    }
}

/// Finds the model that was asked for. If none was, it is the one in use, or else the starter, and a line on stderr says which.
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

/// The installed model that is in use, if there is one.
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

pub(super) fn options(args: &ModelArgs) -> LoadOptions {
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
