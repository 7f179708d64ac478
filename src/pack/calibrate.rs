//! Measures how a layer's inputs are to be prepared for rounding: which centre is subtracted from them, and how much of their range moves into
//! the weights.
//!
//! `c_j` is the mean of `x_j`: what all tokens have in common goes into the bias (`W c`) and is never rounded.
//! `s_j = max|x_j|^α / max|w_:j|^(1-α)`; the layer takes `(x_j - c_j) / s_j` and weights `w_:j · s_j` (Xiao et al. 2023,
//! "SmoothQuant").

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::options::{Stage, Step};
use crate::engine::{EncodeOptions, Model};
use crate::error::Result;
use crate::model::{Channel, Observer, Seen};
use crate::weights::{LayerWeights, Linear, Norm, Site};

/// SmoothQuant's α: how much of the range moves into the weights. 0.4 and 0.5 were best in simulation on the starter's weights (with the
/// rotation); the larger one copes better with outliers.
const ALPHA: f32 = 0.5;

/// Limit of the smoothing factors of inputs that follow no layer norm, relative to their median: only the texts tell how wide they are. A
/// channel that is narrow in a hundred texts may be wide in the next, and would then decide the scale of its row (kernels/EXPERIMENTS.md).
const MOST_BY_TEXTS: f32 = 4.0;

/// The most tokens of a calibration text.
const MAX_TOKENS: usize = 512;

/// Without texts, a layer norm's output is assumed to be this many standard deviations wide.
const NORM_WIDTHS: f32 = 4.0;

/// The centre and the smoothing of every layer's four inputs. Numbers have at most eight bits of mantissa, so that their decimal form is
/// exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Inputs {
    layers: Vec<[Prepared; 4]>,
}

/// The centre and the smoothing factors of one site's inputs, `[inputs]` each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prepared {
    centre: Option<Vec<f32>>,
    factors: Option<Vec<f32>>,
}

impl Inputs {
    /// Inputs that are rounded without preparation.
    pub(super) fn plain() -> Inputs {
        Inputs { layers: Vec::new() }
    }

    /// Measures centres and factors by running `model` over `texts`; without texts, derives them from the layer norms' weights. Without
    /// `smooth`, the weights stay as they are and inputs only get a centre.
    pub(super) fn measure(model: &Model, texts: &[&str], smooth: bool, step: Step<'_>) -> Result<Inputs> {
        let observer = if texts.is_empty() {
            None
        } else {
            let observer = Arc::new(Mutex::new(Observer::default()));
            model.observe(texts, &reading(model), observer.clone(), &|done| {
                step(Stage::Calibration, done, texts.len())
            })?;
            Some(std::mem::take(&mut *observer.lock().unwrap_or_else(PoisonError::into_inner)))
        };
        let weights = &model.encoder().weights;
        let mut layers = Vec::new();
        for (index, layer) in weights.layers.iter().enumerate() {
            let before = match index.checked_sub(1) {
                None => &weights.embedding_norm,
                Some(before) => &weights.layers[before].ffn_norm,
            };
            let site = |site: Site| {
                let norm = match site {
                    Site::Attention => Some(before),
                    Site::FfnIn => Some(&layer.attention_norm),
                    Site::AttentionOutput | Site::FfnOut => None,
                };
                let measured = match (&observer, norm) {
                    (Some(observer), _) => observer.at(index, site).map(of_texts),
                    (None, Some(norm)) => Some(of_norm(norm)),
                    (None, None) => None,
                };
                let Some((centre, widths)) = measured else { return Prepared::default() };
                let most = if norm.is_some() { f32::INFINITY } else { MOST_BY_TEXTS };
                let factors = smooth.then(|| smoothing(&widths, layer, site, most));
                Prepared { centre: Some(centre), factors }
            };
            layers.push([site(Site::Attention), site(Site::AttentionOutput), site(Site::FfnIn), site(Site::FfnOut)]);
        }
        Ok(Inputs { layers })
    }

    /// Whether the centres and factors are valid numbers and fit layers of these shapes. Plain inputs fit any layers.
    pub(super) fn fits(&self, layers: &[Arc<LayerWeights>]) -> bool {
        let sites = [Site::Attention, Site::AttentionOutput, Site::FfnIn, Site::FfnOut];
        let fits = |(own, layer): (&[Prepared; 4], &Arc<LayerWeights>)| {
            sites.iter().all(|&site| {
                let inputs = layer.linears_at(site)[0].inputs;
                let Prepared { centre, factors } = &own[site as usize];
                let good = |values: &Vec<f32>, least: f32| {
                    values.len() == inputs && values.iter().all(|value| value.is_finite() && *value >= least)
                };
                centre.as_ref().is_none_or(|centre| good(centre, f32::MIN))
                    && factors.as_ref().is_none_or(|factors| good(factors, f32::MIN_POSITIVE))
            })
        };
        self.layers.is_empty() || (self.layers.len() == layers.len() && self.layers.iter().zip(layers).all(fits))
    }

    /// The factors `s` of a site, `[inputs]`.
    pub(super) fn at(&self, layer: usize, site: Site) -> Option<&[f32]> {
        self.layers.get(layer).and_then(|sites| sites[site as usize].factors.as_deref())
    }

    /// The centre `c` of a site, `[inputs]`.
    pub(super) fn centre(&self, layer: usize, site: Site) -> Option<&[f32]> {
        self.layers.get(layer).and_then(|sites| sites[site as usize].centre.as_deref())
    }
}

/// The options by which calibration texts are encoded.
pub(super) fn reading(model: &Model) -> EncodeOptions {
    let max_length = Some(model.info().max_length.min(MAX_TOKENS));
    EncodeOptions { max_length, ..EncodeOptions::default() }
}

/// Centres and widths of observed channels. The width is that of the values, not of their distance to the centre: a channel that is
/// constant in all calibration texts would otherwise look narrow and be scaled up, and in another text, where it differs, it would decide
/// the scale of its row.
fn of_texts(seen: &Seen) -> (Vec<f32>, Vec<f32>) {
    let of =
        |channel: &Channel| (rounded((channel.sum / seen.rows as f64) as f32), channel.greatest.max(-channel.least));
    seen.channels.iter().map(of).unzip()
}

/// Centres and widths of a layer norm's outputs. The norm's bias is their mean, because the normalised values have the mean 0.
fn of_norm(norm: &Norm) -> (Vec<f32>, Vec<f32>) {
    let of = |(gain, bias): (&f32, &f32)| (rounded(*bias), NORM_WIDTHS * gain.abs() + bias.abs());
    norm.gain().iter().zip(norm.bias()).map(of).unzip()
}

/// Rounds to eight bits of mantissa, so that the result does not depend on a platform's `powf`.
fn rounded(x: f32) -> f32 {
    f32::from_bits((x.to_bits() + 0x4000) & 0xffff_8000)
}

/// The smoothing factors of a site whose inputs have these `widths`, relative to their median and limited to a factor of `most` around it.
/// Only ratios matter, because rows and outputs have scales of their own.
fn smoothing(widths: &[f32], layer: &LayerWeights, site: Site, most: f32) -> Vec<f32> {
    let mut widest_weight = vec![0.0f32; widths.len()];
    for weight in layer.linears_at(site).into_iter().filter_map(Linear::floats) {
        for output in 0..weight.rows() {
            for (widest, w) in widest_weight.iter_mut().zip(weight.row(output)) {
                *widest = widest.max(w.abs());
            }
        }
    }
    // A channel without any signal, or that no weight reads, gets a small width instead of 0.
    let floor = |values: &[f32]| values.iter().copied().fold(0.0, f32::max) * 1e-4 + f32::MIN_POSITIVE;
    let (widths_floor, weights_floor) = (floor(widths), floor(&widest_weight));
    let factor = |(&width, &weight): (&f32, &f32)| {
        width.max(widths_floor).powf(ALPHA) / weight.max(weights_floor).powf(1.0 - ALPHA)
    };
    let factors: Vec<f32> = widths.iter().zip(&widest_weight).map(factor).collect();
    let mut sorted = factors.clone();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    factors.iter().map(|factor| rounded((factor / median).clamp(1.0 / most, most).clamp(1e-6, 1e6))).collect()
}
