//! What is decided before a byte is written: how every layer's inputs are prepared, and the format of its weights. It can be kept in a file, so
//! that packing goes on after an interruption without measuring again.

use serde::{Deserialize, Serialize};

use super::calibrate::Inputs;
use super::moments::{self, Roundings};
use super::{Calibration, PackOptions, Stage, bundled_texts, mixed};
use crate::engine::Model;
use crate::error::{Error, Result};
use crate::weights::WeightFormat;

/// A function that progress is reported to: the stage, the units of it that are done, and their number.
pub(super) type Step<'a> = &'a dyn Fn(Stage, usize, usize);

/// How a model is going to be packed: made by [`super::plan`], taken by [`super::Writing::new`]. Serialises exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub(super) inputs: Inputs,
    #[serde(with = "names")]
    pub(super) layers: Vec<WeightFormat>,
    /// Whether the source's own 4-bit blocks are taken as they are.
    pub(super) own_blocks: bool,
    /// What the file says of its calibration.
    pub(super) calibration: String,
    pub(super) calibration_texts: usize,
}

impl Plan {
    /// Measures what the options ask for.
    pub(super) fn make(model: &Model, options: &PackOptions, step: Step<'_>) -> Result<Plan> {
        let refuse = |what: String| Error::Option { option: "model", what };
        if let Some(format) = model.packed_format() {
            return Err(refuse(format!("it is packed already ({}): pack the original", format.name())));
        }
        let weights = &model.encoder().weights;
        let is_int = matches!(options.weights, WeightFormat::Int8 | WeightFormat::Int4);
        let own_blocks = options.weights == WeightFormat::Int4 && has_blocks(model);
        let given = given_texts(options);
        // Blocks that are copied from the source get no smoothing and no centre: a centre did not improve the mean cosine and made one text
        // of 300 much worse.
        let smooth = is_int && !own_blocks;
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
        let mut plan = Plan { inputs, layers, own_blocks, calibration, calibration_texts: texts.len() };
        if let Some(budget) = options.mixed_budget {
            mixed::choose(model, options, &mut plan, &given, budget, step)?;
        }
        Ok(plan)
    }

    /// All layers in one format, with nothing measured.
    pub(super) fn uncalibrated(model: &Model, weights: WeightFormat) -> Plan {
        Plan {
            inputs: Inputs::plain(),
            layers: vec![weights; model.encoder().weights.layers.len()],
            own_blocks: weights == WeightFormat::Int4 && has_blocks(model),
            calibration: "none".to_owned(),
            calibration_texts: 0,
        }
    }

    /// How the weights are rounded, by what their inputs have in common; `None` where each is rounded by itself.
    pub(super) fn rounding(&self, model: &Model, options: &PackOptions, step: Step<'_>) -> Result<Option<Roundings>> {
        let is_int = |format: &WeightFormat| matches!(format, WeightFormat::Int8 | WeightFormat::Int4);
        if self.own_blocks || self.calibration_texts == 0 || !self.layers.iter().any(is_int) {
            return Ok(None);
        }
        moments::measure(model, &self.inputs, &given_texts(options), step).map(Some)
    }

    /// Whether the plan was made for this model and these options. One that was read from a file may not be.
    pub fn fits(&self, model: &Model, options: &PackOptions) -> bool {
        self.check(model, options).is_ok()
    }

    /// Refuses a plan that was made for another model.
    pub(super) fn check(&self, model: &Model, options: &PackOptions) -> Result<()> {
        let layers = &model.encoder().weights.layers;
        let fits = self.layers.len() == layers.len()
            && self.inputs.fits(layers)
            && (!self.own_blocks || has_blocks(model))
            && (options.mixed_budget.is_some() || self.layers.iter().all(|format| *format == options.weights));
        if fits {
            Ok(())
        } else {
            Err(Error::Option { option: "plan", what: "it was made for another model".to_owned() })
        }
    }
}

/// Whether all layers of the source are 4-bit blocks.
pub(super) fn has_blocks(model: &Model) -> bool {
    let layers = &model.encoder().weights.layers;
    layers.iter().all(|layer| layer.linears().iter().all(|linear| linear.q4_bytes().is_some()))
}

/// The texts that the options give for measuring.
fn given_texts(options: &PackOptions) -> Vec<&str> {
    match &options.calibration {
        Calibration::Bundled | Calibration::None => bundled_texts().collect(),
        Calibration::Texts(texts) => texts.iter().map(String::as_str).collect(),
    }
}

/// Formats by their names.
mod names {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::weights::WeightFormat;

    pub(super) fn serialize<S: Serializer>(formats: &[WeightFormat], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(formats.iter().map(|format| format.name()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WeightFormat>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let format = |name: &String| {
            WeightFormat::by_name(name).ok_or_else(|| D::Error::custom(format!("`{name}` is no format of weights")))
        };
        names.iter().map(format).collect()
    }
}
