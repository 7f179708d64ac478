//! How faithful a packed model is to its source.

use serde::Serialize;

use crate::engine::{EncodeOptions, Model};
use crate::error::Result;
use crate::weights::WeightFormat;

/// Texts embedded at a time.
const BATCH: usize = 16;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Texts that were compared.
    pub texts: usize,
    /// Cosines of dense vectors.
    pub dense: Cosines,
}

/// Cosines over the texts.
#[derive(Debug, Clone, Serialize)]
pub struct Cosines {
    /// Their mean.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
}

/// The least that a format is to reach.
#[derive(Debug, Clone)]
pub struct Promise {
    dense_mean: f64,
    dense_min: f64,
}

impl Promise {
    /// What is promised of a format.
    pub fn of(format: WeightFormat) -> Promise {
        let (dense_mean, dense_min) = match format {
            WeightFormat::F32 => (1.0 - 1e-6, 1.0 - 1e-5),
            WeightFormat::F16 | WeightFormat::Bf16 => (0.9995, 0.995),
            WeightFormat::Int8 => (0.995, 0.97),
            WeightFormat::Int4 => (0.95, 0.85),
        };
        Promise { dense_mean, dense_min }
    }
}

impl VerifyReport {
    /// In what the report falls short of `promise`; nothing if it is acceptable.
    pub fn failures(&self, promise: &Promise) -> Vec<String> {
        let values = [("mean", self.dense.mean, promise.dense_mean), ("min", self.dense.min, promise.dense_min)];
        // NaN falls short too.
        let short = values.into_iter().filter(|(_, found, least)| found.partial_cmp(least).is_none_or(|o| o.is_lt()));
        short.map(|(name, found, least)| format!("dense cosine, {name}: {found:.5}, expected {least:.5}")).collect()
    }
}

/// Compares two models over `texts`; `progress` hears how many are done, of how many.
///
/// # Errors
/// As [`Model::encode`].
pub fn verify(
    reference: &Model,
    candidate: &Model,
    texts: &[String],
    progress: &dyn Fn(usize, usize),
) -> Result<VerifyReport> {
    let options = EncodeOptions::default();
    let mut cosines: Vec<f64> = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        let (a, b) = (reference.encode(batch, &options)?, candidate.encode(batch, &options)?);
        for (a, b) in a.iter().zip(&b) {
            let (a, b) = (a.dense.as_deref().unwrap_or_default(), b.dense.as_deref().unwrap_or_default());
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            cosines.push(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        }
        progress(cosines.len(), texts.len());
    }
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let min = cosines.iter().copied().reduce(f64::min).unwrap_or(f64::NAN);
    Ok(VerifyReport { texts: texts.len(), dense: Cosines { mean, min } })
}
