//! Puts together a packed file: the metadata in its header, and its tensors.

use super::file::PackedWriter;
use super::layout;
use super::moments::Roundings;
use super::options::PackOptions;
use super::plan::Plan;
use crate::engine::Model;
use crate::error::{Error, Result};
use crate::weights::packed::{FORMAT_VERSION, MetaModel, MetaParts, keys};

/// Prepares the packed file of `model` that `plan` describes. Nothing is written yet.
pub(super) fn writer<'a>(
    model: &'a Model,
    options: &PackOptions,
    plan: &'a Plan,
    rounding: Option<&Roundings>,
) -> Result<PackedWriter<'a>> {
    let is_int = options.weights.is_int();
    let info = model.info();
    let meta = MetaModel::of(&MetaParts {
        config: model.encoder().config.clone(),
        pipeline: model.pipeline().clone(),
        max_length: info.max_length,
        prompts: model.prompts().clone(),
        similarity: info.similarity.clone(),
    });
    let meta = serde_json::to_string(&meta).map_err(|e| Error::Option { option: "model", what: e.to_string() })?;
    let mut writer = PackedWriter::new();
    for (key, value) in [
        (keys::VERSION, FORMAT_VERSION.to_owned()),
        (keys::WEIGHTS, options.weights.name().to_owned()),
        (keys::ROTATED, (is_int && !plan.q4_0).to_string()),
        (keys::LAYERS_IN_Q4_0, plan.q4_0.to_string()),
        (keys::CALIBRATION, plan.calibration.clone()),
        (keys::SOURCE, options.source.clone().unwrap_or_else(|| "unknown".to_owned())),
        (keys::MODEL, meta),
        ("format", "pt".to_owned()),
    ] {
        writer.meta(key, value);
    }
    if plan.layers.iter().any(|format| *format != options.weights) {
        let names: Vec<&str> = plan.layers.iter().map(|format| format.name()).collect();
        writer.meta(keys::LAYERS, names.join(","));
    }
    layout::add_tensors(&mut writer, model, options.weights, plan, rounding)?;
    Ok(writer)
}
