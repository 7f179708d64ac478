//! Packing a model: its layers laid out once in the form that every instruction set reads in place, with all that a model needs in one
//! file. Offline work; loading such a file is in `weights::packed`.
//!
//! ```text
//! texts ─▶ widest inputs of every layer ─▶ smoothing ─┐
//!          calibrate.rs                               ▼
//! checkpoint ────────────────────────▶ rotate, round, lay out ─▶ packed file
//!                                      layout.rs                 file.rs
//! ```
//! The same model, options and texts give the same bytes, on any machine.

mod calibrate;
mod file;
mod layout;
#[cfg(feature = "cli")]
pub(crate) mod synthetic;
pub mod verify;

use std::io::Write;
use std::path::Path;

pub use crate::weights::WeightFormat;

use crate::engine::Model;
use crate::error::{Error, Result};
use crate::weights::packed::{FORMAT_VERSION, MetaModel, keys};
use calibrate::Smoothing;
use file::PackedWriter;

/// Texts that a model is calibrated on unless others are given: written for this project, 128 in 45 languages.
const BUNDLED: &str = include_str!("calibration.txt");

/// On what the widths of the layers' inputs are measured.
#[derive(Debug, Clone, Default)]
pub enum Calibration {
    /// The texts that come with the library.
    #[default]
    Bundled,
    /// These texts.
    Texts(Vec<String>),
    /// No texts: the layer norms' gains and biases tell the widths of what they feed, the rest is not smoothed.
    None,
}

/// How to pack.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// How the layers' weights are stored.
    pub weights: WeightFormat,
    /// For int8 and int4; the others need none.
    pub calibration: Calibration,
    /// What is known of where the model comes from, to be recorded in the file: a digest of its weights.
    pub source: Option<String>,
}

impl PackOptions {
    /// Packing to `weights` with the bundled calibration.
    pub fn new(weights: WeightFormat) -> PackOptions {
        PackOptions { weights, calibration: Calibration::Bundled, source: None }
    }
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackReport {
    /// Bytes of the file.
    pub bytes: u64,
    /// Texts that were used to calibrate.
    pub calibration_texts: usize,
    /// Whether the source's own 4-bit blocks were taken as they are.
    pub own_blocks: bool,
}

/// Writes `model`, which was loaded from a checkpoint of floats, as a packed file.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the model is packed already; [`ErrorKind::Model`](crate::ErrorKind::Model) if a weight
/// does not fit the format; [`ErrorKind::Io`](crate::ErrorKind::Io) if `out` refuses. `path` only names the output in errors.
pub fn pack(model: &Model, options: &PackOptions, path: &Path, out: &mut dyn Write) -> Result<PackReport> {
    let refuse = |what: String| Error::Option { option: "model", what };
    if let Some(format) = model.packed_format() {
        return Err(refuse(format!("it is packed already ({}): pack the original", format.name())));
    }
    let weights = &model.encoder().weights;
    let is_int = matches!(options.weights, WeightFormat::Int8 | WeightFormat::Int4);
    let own_blocks = options.weights == WeightFormat::Int4
        && weights.layers.iter().all(|layer| layer.linears().iter().all(|linear| linear.q4_bytes().is_some()));
    let texts: Vec<&str> = match &options.calibration {
        _ if !is_int || own_blocks => Vec::new(),
        Calibration::Bundled => BUNDLED.lines().collect(),
        Calibration::Texts(texts) => texts.iter().map(String::as_str).collect(),
        Calibration::None => Vec::new(),
    };
    let smoothing = if is_int && !own_blocks { Smoothing::measure(model, &texts)? } else { Smoothing::none() };

    let calibration = match (&options.calibration, texts.len()) {
        (_, 0) => "none".to_owned(),
        (Calibration::Bundled, n) => format!("bundled, {n} texts"),
        (_, n) => format!("{n} texts"),
    };
    let meta = MetaModel::of(&model.encoder().config, model.pipeline(), model.info().max_length);
    let mut writer = PackedWriter::new();
    for (key, value) in [
        (keys::VERSION, FORMAT_VERSION.to_owned()),
        (keys::WEIGHTS, options.weights.name().to_owned()),
        (keys::ROTATED, (is_int && !own_blocks).to_string()),
        (keys::GROUPED, own_blocks.to_string()),
        (keys::CALIBRATION, calibration),
        (keys::SOURCE, options.source.clone().unwrap_or_else(|| "unknown".to_owned())),
        (keys::MODEL, serde_json::to_string(&meta).map_err(|e| refuse(e.to_string()))?),
        ("format", "pt".to_owned()),
    ] {
        writer.meta(key, value);
    }
    layout::add_tensors(&mut writer, model, options.weights, own_blocks, &smoothing)?;
    let bytes = writer.write(model.team(), path, out)?;
    Ok(PackReport { bytes, calibration_texts: texts.len(), own_blocks })
}
