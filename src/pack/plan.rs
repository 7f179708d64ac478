//! What is decided before a byte is written (by `decide.rs`): how every layer's inputs are prepared, and the format of its weights. It can be kept in
//! a file, so that packing goes on after an interruption without measuring again.

use serde::{Deserialize, Serialize};

use super::calibrate::Inputs;
use super::options::PackOptions;
use crate::engine::Model;
use crate::error::{Error, Result};
use crate::weights::WeightFormat;

/// How a model is going to be packed. [`plan`](super::plan()) makes it and [`Writing::new`](super::Writing::new) needs it. No number changes
/// when it is serialised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub(super) inputs: Inputs,
    /// The format of each layer.
    #[serde(with = "names")]
    pub(super) layers: Vec<WeightFormat>,
    /// Whether the checkpoint's own q4_0 blocks are copied unchanged.
    pub(super) q4_0: bool,
    /// What the packed file's metadata says about its calibration.
    pub(super) calibration: String,
    pub(super) calibration_texts: usize,
}

impl Plan {
    /// A plan that stores all layers in one format, for which nothing is measured.
    pub(super) fn uncalibrated(model: &Model, weights: WeightFormat) -> Plan {
        Plan {
            inputs: Inputs::plain(),
            layers: vec![weights; model.encoder().weights.layers.len()],
            q4_0: weights == WeightFormat::Int4 && has_blocks(model),
            calibration: "none".to_owned(),
            calibration_texts: 0,
        }
    }

    /// Whether the plan can be used for this model and these options. A plan that was read from a file may have been made for others.
    pub fn fits(&self, model: &Model, options: &PackOptions) -> bool {
        self.check(model, options).is_ok()
    }

    /// Refuses a plan that does not fit the model's layers or the options' format.
    pub(super) fn check(&self, model: &Model, options: &PackOptions) -> Result<()> {
        let layers = &model.encoder().weights.layers;
        let fits = self.layers.len() == layers.len()
            && self.inputs.fits(layers)
            && (!self.q4_0 || has_blocks(model))
            && (options.mixed_budget.is_some() || self.layers.iter().all(|format| *format == options.weights));
        if fits {
            Ok(())
        } else {
            Err(Error::Option { option: "plan", what: "it was made for another model".to_owned() })
        }
    }
}

/// Refuses a model that was loaded from a packed file, whose weights are rounded already.
pub(super) fn refuse_packed(model: &Model) -> Result<()> {
    let Some(format) = model.packed_format() else { return Ok(()) };
    let what = format!("it is packed already ({}): pack the original", format.name());
    Err(Error::Option { option: "model", what })
}

/// Whether all layers of the source are 4-bit blocks.
pub(super) fn has_blocks(model: &Model) -> bool {
    let layers = &model.encoder().weights.layers;
    layers.iter().all(|layer| layer.linears().iter().all(|linear| linear.q4_0_bytes().is_some()))
}

/// Serialises formats by their names.
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
