//! Makes a [`Plan`] for a model: measures the inputs of its layers on texts, and chooses every layer's format by the options.

use super::calibrate::Inputs;
use super::mixed;
use super::options::{Calibration, PackOptions, Step, given_texts};
use super::plan::{Plan, has_blocks, refuse_packed};
use crate::engine::Model;
use crate::error::Result;
use crate::weights::WeightFormat;

/// Measures what the options ask for, and decides how every layer is stored.
pub(super) fn plan(model: &Model, options: &PackOptions, step: Step<'_>) -> Result<Plan> {
    refuse_packed(model)?;
    let weights = &model.encoder().weights;
    let is_int = options.weights.is_int();
    let q4_0 = options.weights == WeightFormat::Int4 && has_blocks(model);
    let given = given_texts(options);
    // Blocks that are copied from the source get no smoothing and no centre: a centre did not improve the mean cosine and made one text
    // of 300 much worse.
    let smooth = is_int && !q4_0;
    // bf16 rounds relative to the magnitude, so moving what all tokens have in common into the bias helps here too.
    let centred = smooth || options.weights == WeightFormat::Bf16;
    let texts = if !centred || matches!(options.calibration, Calibration::None) { &[] } else { &given[..] };
    let inputs = if centred { Inputs::measure(model, texts, smooth, step)? } else { Inputs::plain() };
    let calibration = match (&options.calibration, texts.len()) {
        (_, 0) => "none".to_owned(),
        (Calibration::Bundled, n) => format!("bundled, {n} texts"),
        (_, n) => format!("{n} texts"),
    };
    let layers = vec![options.weights; weights.layers.len()];
    let mut plan = Plan { inputs, layers, q4_0, calibration, calibration_texts: texts.len() };
    if let Some(budget) = options.mixed_budget {
        mixed::choose(model, options, &mut plan, &given, budget, step)?;
    }
    Ok(plan)
}
