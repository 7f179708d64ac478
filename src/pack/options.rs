//! Options of packing, and the stages of which progress is reported.

use crate::weights::WeightFormat;

/// Texts that a model is calibrated on unless others are given: written for this project, 128 in 45 languages.
const BUNDLED: &str = include_str!("calibration.txt");

/// The texts on which the ranges of the layers' inputs are measured.
#[derive(Debug, Clone, Default)]
pub enum Calibration {
    /// The texts that come with the library.
    #[default]
    Bundled,
    /// The texts that are given here.
    Texts(Vec<String>),
    /// No texts: ranges are derived from the gains and biases of the layer norms, and inputs that follow no layer norm are not smoothed.
    None,
}

/// How to pack.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// How the layers' weights are stored.
    pub weights: WeightFormat,
    /// The texts for calibration. int8, int4 and bf16 use them; f16 and f32 need none, nor do a checkpoint's own 4-bit blocks.
    pub calibration: Calibration,
    /// Where the model comes from, to be recorded in the file; by convention a digest of its weights.
    pub source: Option<String>,
    /// Largest size of the file in bytes. Within it, as many layers as possible are stored in the next better format (int8 for int4, f16
    /// for int8), beginning with those whose rounding hurts most by measurement.
    pub mixed_budget: Option<u64>,
}

impl PackOptions {
    /// Packing to `weights` with the bundled calibration.
    pub fn new(weights: WeightFormat) -> PackOptions {
        PackOptions { weights, calibration: Calibration::Bundled, source: None, mixed_budget: None }
    }
}

/// The stage that packing is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Running the calibration texts.
    Calibration,
    /// Measuring how much each layer's rounding hurts, for mixed precision.
    Layers,
    /// Running the calibration texts again, to measure the second moments of every layer's inputs.
    Moments,
}

/// The texts that a model is calibrated on unless others are given.
pub(super) fn bundled_texts() -> impl Iterator<Item = &'static str> {
    BUNDLED.lines()
}

/// A function to which progress is reported: the stage, the units of it that are done, and their number.
pub(super) type Step<'a> = &'a dyn Fn(Stage, usize, usize);

/// The texts on which a model is measured: those of the options, or else the bundled ones. `Calibration::None` has the bundled ones too, because
/// mixed precision needs texts in any case.
pub(super) fn given_texts(options: &PackOptions) -> Vec<&str> {
    match &options.calibration {
        Calibration::Bundled | Calibration::None => bundled_texts().collect(),
        Calibration::Texts(texts) => texts.iter().map(String::as_str).collect(),
    }
}
