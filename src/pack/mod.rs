//! Packs a model into one file with everything it needs, its layers laid out so that every instruction set reads them in place. This is
//! done once, offline; `weights::packed` loads such a file.
//!
//! ```text
//! texts ─▶ inputs of every layer ─▶ centre, smoothing ─▶ what inputs have in common ─┐
//!          calibrate.rs                                  moments.rs                  ▼
//! checkpoint ───────────────────────────────────────────────────────▶ rotate, round, lay out ─▶ packed file
//!                                                                     layout.rs, int4.rs        file.rs
//! ```
//! The same model, options and texts give the same bytes, on any machine.

mod calibrate;
mod contents;
mod decide;
mod encode;
mod file;
mod heads;
mod import;
mod int4;
mod layout;
mod mixed;
mod moments;
mod options;
mod plan;
mod published;
mod rankings;
mod staging;
mod statistics;
#[doc(hidden)]
pub mod synthetic;
pub mod verify;

use std::io::Write;
use std::path::Path;

pub use self::file::is_packed;
pub use self::options::{Calibration, PackOptions, Stage};
pub use self::plan::Plan;
pub use self::published::Published;
pub use self::rankings::Ranking;
pub use self::statistics::Cosines;
pub use crate::weights::WeightFormat;
#[doc(hidden)]
pub use heads::{NewHead, write_with_heads};
pub use import::{ImportOptions, ImportReport, import};
#[doc(hidden)]
pub use synthetic::packed_layer;

use crate::engine::Model;
use crate::error::Result;
use contents::writer;
use file::PackedWriter;

/// Facts about the file that was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackReport {
    /// Bytes of the file.
    pub bytes: u64,
    /// Texts that were used to calibrate.
    pub calibration_texts: usize,
    /// Whether the checkpoint's own q4_0 blocks were copied unchanged.
    pub q4_0: bool,
    /// The format of each layer.
    pub layers: Vec<WeightFormat>,
}

/// Writes `model`, which was loaded from a checkpoint of floats, as a packed file.
///
/// ```
/// use std::path::Path;
/// use trivec::pack::{PackOptions, pack};
/// use trivec::{LoadOptions, Model, WeightFormat};
///
/// # let checkpoint = "tests/data/models/f32-h64"; // a directory in Hugging Face layout
/// let model = Model::load(checkpoint)?;
/// let mut bytes = Vec::new(); // or a file
/// let report = pack(&model, &PackOptions::new(WeightFormat::Int8), Path::new("memory"), &mut bytes)?;
/// assert_eq!(report.bytes, bytes.len() as u64);
///
/// let packed = Model::from_packed_bytes(&bytes, &LoadOptions::default())?;
/// assert_eq!(packed.info().dense_dim, model.info().dense_dim);
/// # Ok::<(), trivec::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the model is packed already, or a size that was asked for is too small;
/// [`ErrorKind::Model`](crate::ErrorKind::Model) if a weight does not fit the format; [`ErrorKind::Io`](crate::ErrorKind::Io) if `out`
/// refuses. `path` only names the output in errors.
pub fn pack(model: &Model, options: &PackOptions, path: &Path, out: &mut dyn Write) -> Result<PackReport> {
    let plan = plan(model, options, &|_, _, _| ())?;
    Writing::new(model, options, &plan, &|_, _, _| ())?.write(path, out, 0, &|_, _| ())
}

/// The first half of [`pack`]: measures, and decides how every layer is stored. `step` is called with the stage, the units of it that are
/// done, and their number.
///
/// # Errors
/// As [`pack`].
pub fn plan(model: &Model, options: &PackOptions, step: &dyn Fn(Stage, usize, usize)) -> Result<Plan> {
    decide::plan(model, options, step)
}

/// The second half of [`pack`]: a file in the making, which can be written in parts.
pub struct Writing<'a> {
    model: &'a Model,
    plan: &'a Plan,
    writer: PackedWriter<'a>,
}

impl<'a> Writing<'a> {
    /// Prepares the file of `model` that `plan` describes. For int8 and int4 the calibration texts are run again, which is reported to
    /// `step`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the plan is for another model.
    pub fn new(
        model: &'a Model,
        options: &PackOptions,
        plan: &'a Plan,
        step: &dyn Fn(Stage, usize, usize),
    ) -> Result<Writing<'a>> {
        plan::refuse_packed(model)?;
        plan.check(model, options)?;
        let rounding = moments::rounding(plan, model, options, step)?;
        Ok(Writing { model, plan, writer: writer(model, options, plan, rounding.as_ref())? })
    }

    /// The file's first bytes. An unfinished file that begins differently belongs to another model or plan.
    ///
    /// # Errors
    /// As [`pack`].
    pub fn beginning(&self) -> Result<Vec<u8>> {
        self.writer.beginning()
    }

    /// Returns the last place in the file's first `len` bytes from which [`Writing::write`] can go on: 0 if not even the header is complete.
    ///
    /// # Errors
    /// As [`pack`].
    pub fn last_boundary(&self, len: u64) -> Result<u64> {
        self.writer.last_boundary(len)
    }

    /// Writes everything after the file's first `from` bytes to `out`. `from` is 0 for a whole file, or a place that
    /// [`Writing::last_boundary`] gave. `out` appends: the caller has cut the unfinished file to `from` bytes and moved to its end.
    /// `progress` is called with the bytes that the file has so far, the first `from` included, and with the bytes that it will have. The
    /// report's `bytes` are those of the whole file. `path` only names the file in errors.
    ///
    /// # Errors
    /// As [`pack`]; [`ErrorKind::Usage`](crate::ErrorKind::Usage) if nothing can go on at `from`.
    pub fn write(
        &self,
        path: &Path,
        out: &mut dyn Write,
        from: u64,
        progress: &dyn Fn(u64, u64),
    ) -> Result<PackReport> {
        let bytes = self.writer.write(self.model.team(), path, out, from, progress)?;
        let Plan { calibration_texts, q4_0, .. } = *self.plan;
        Ok(PackReport { bytes, calibration_texts, q4_0, layers: self.plan.layers.clone() })
    }
}

/// The recommended format for a checkpoint: int4 if its weights are 4-bit blocks, which are copied unchanged, else int8.
pub fn advised_format(model: &Model) -> WeightFormat {
    if plan::has_blocks(model) { WeightFormat::Int4 } else { WeightFormat::Int8 }
}

/// Estimates the size of `model` packed to `weights`, without calibration (which adds a few hundredths of a per cent).
///
/// # Errors
/// As [`pack`].
pub fn estimated_bytes(model: &Model, weights: WeightFormat) -> Result<u64> {
    writer(model, &PackOptions::new(weights), &Plan::uncalibrated(model, weights), None)?.bytes()
}
