//! What is decided before a byte is written: the smoothing of every layer's inputs, and the format of its weights. It can be kept in a file, so
//! that packing goes on after an interruption without measuring again.

use serde::{Deserialize, Serialize};

use super::calibrate::Smoothing;
use super::{Calibration, PackOptions, Stage, bundled_texts, mixed};
use crate::engine::Model;
use crate::error::{Error, Result};
use crate::weights::WeightFormat;

/// Hears what is being done: the stage, and how much of it.
pub(super) type Step<'a> = &'a dyn Fn(Stage, usize, usize);

/// How a model is going to be packed: made by [`super::plan`], taken by [`super::Writing::new`]. Serialises exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub(super) smoothing: Smoothing,
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
        let own_blocks = options.weights == WeightFormat::Int4
            && weights.layers.iter().all(|layer| layer.linears().iter().all(|linear| linear.q4_bytes().is_some()));
        let given: Vec<&str> = match &options.calibration {
            Calibration::Bundled | Calibration::None => bundled_texts().collect(),
            Calibration::Texts(texts) => texts.iter().map(String::as_str).collect(),
        };
        let texts =
            if !is_int || own_blocks || matches!(options.calibration, Calibration::None) { &[] } else { &given[..] };
        let smoothing = if is_int && !own_blocks { Smoothing::measure(model, texts, step)? } else { Smoothing::none() };
        let calibration = match (&options.calibration, texts.len()) {
            (_, 0) => "none".to_owned(),
            (Calibration::Bundled, n) => format!("bundled, {n} texts"),
            (_, n) => format!("{n} texts"),
        };
        let layers = vec![options.weights; weights.layers.len()];
        let mut plan = Plan { smoothing, layers, own_blocks, calibration, calibration_texts: texts.len() };
        if let Some(budget) = options.mixed_budget {
            mixed::choose(model, options, &mut plan, &given, budget, step)?;
        }
        Ok(plan)
    }

    /// Refuses a plan, read from a file, that was made for another model.
    pub(super) fn check(&self, model: &Model, options: &PackOptions) -> Result<()> {
        let layers = &model.encoder().weights.layers;
        let fits = self.layers.len() == layers.len()
            && self.smoothing.fits(layers)
            && (options.mixed_budget.is_some() || self.layers.iter().all(|format| *format == options.weights));
        if fits {
            Ok(())
        } else {
            Err(Error::Option { option: "plan", what: "it was made for another model".to_owned() })
        }
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
