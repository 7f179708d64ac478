//! Smoothing: how the width of a layer's inputs is shared between activations and weights.
//!
//! `s_j = max|x_j|^α / max|w_:j|^(1-α)`; the layer takes `x_j / s_j` and weights `w_:j · s_j` (Xiao et al. 2023, "SmoothQuant").

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Stage;
use super::plan::Step;
use crate::engine::{EncodeOptions, Model};
use crate::error::Result;
use crate::weights::{LayerWeights, Norm, Site};

/// How much of the width the weights take over. 0.4 and 0.5 did best in simulation on the starter's weights (with the rotation); the
/// larger one takes more of what outliers bring.
const ALPHA: f32 = 0.5;

/// How far factors that only texts can tell may lie from their median: a channel that is narrow in a hundred texts may be wide in the
/// next, and would then decide the scale of its whole row (measured: one text of 300 at a cosine of 0.96 without this bound, none below
/// 0.998 with it).
const MOST_BY_TEXTS: f32 = 4.0;

/// Tokens of a calibration text that are looked at.
const MAX_TOKENS: usize = 512;

/// How many standard deviations of a layer norm's output count as its width, where no texts are given.
const NORM_WIDTHS: f32 = 4.0;

/// The smoothing of every layer's four inputs. Factors have at most eight bits of mantissa, so that their decimal form is exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Smoothing {
    layers: Vec<[Option<Vec<f32>>; 4]>,
}

impl Smoothing {
    /// None anywhere.
    pub(super) fn none() -> Smoothing {
        Smoothing { layers: Vec::new() }
    }

    /// Runs `model` over `texts`; without texts the layer norms have to tell.
    pub(super) fn measure(model: &Model, texts: &[&str], step: Step<'_>) -> Result<Smoothing> {
        let observer = if texts.is_empty() {
            None
        } else {
            let max_length = Some(model.info().max_length.min(MAX_TOKENS));
            let options = EncodeOptions { max_length, ..EncodeOptions::default() };
            Some(model.observe(texts, &options, &|done| step(Stage::Calibration, done, texts.len()))?)
        };
        let weights = &model.encoder().weights;
        let mut layers = Vec::new();
        for (index, layer) in weights.layers.iter().enumerate() {
            let before = match index.checked_sub(1) {
                None => &weights.embedding_norm,
                Some(before) => &weights.layers[before].ffn_norm,
            };
            let norm_width = |norm: &Norm| {
                let widths = norm.gain().iter().zip(norm.bias());
                widths.map(|(gain, bias)| NORM_WIDTHS * gain.abs() + bias.abs()).collect::<Vec<f32>>()
            };
            let site = |site: Site| {
                let widths = match &observer {
                    Some(observer) => observer.widest(index, site).map(<[f32]>::to_vec),
                    None => match site {
                        Site::Attention => Some(norm_width(before)),
                        Site::FfnIn => Some(norm_width(&layer.attention_norm)),
                        Site::AttentionOutput | Site::FfnOut => None,
                    },
                };
                let most = match site {
                    Site::Attention | Site::FfnIn => f32::INFINITY,
                    Site::AttentionOutput | Site::FfnOut => MOST_BY_TEXTS,
                };
                widths.map(|widths| smoothing(&widths, layer, site, most))
            };
            layers.push([site(Site::Attention), site(Site::AttentionOutput), site(Site::FfnIn), site(Site::FfnOut)]);
        }
        Ok(Smoothing { layers })
    }

    /// Whether it is for layers of these shapes: no smoothing is for any.
    pub(super) fn fits(&self, layers: &[Arc<LayerWeights>]) -> bool {
        let sites = [Site::Attention, Site::AttentionOutput, Site::FfnIn, Site::FfnOut];
        let fits = |(own, layer): (&[Option<Vec<f32>>; 4], &Arc<LayerWeights>)| {
            sites.iter().all(|&site| {
                let inputs = layer.linears_at(site)[0].inputs;
                own[site as usize].as_ref().is_none_or(|factors| {
                    factors.len() == inputs && factors.iter().all(|factor| factor.is_finite() && *factor > 0.0)
                })
            })
        };
        self.layers.is_empty() || (self.layers.len() == layers.len() && self.layers.iter().zip(layers).all(fits))
    }

    /// The factors `s` of a site, `[inputs]`.
    pub(super) fn at(&self, layer: usize, site: Site) -> Option<&[f32]> {
        self.layers.get(layer).and_then(|sites| sites[site as usize].as_deref())
    }
}

/// The factors of a site whose inputs are as wide as `widths`, relative to their median (only ratios matter, for rows and outputs have
/// scales of their own), none further from it than `most`.
fn smoothing(widths: &[f32], layer: &LayerWeights, site: Site, most: f32) -> Vec<f32> {
    let mut widest_weight = vec![0.0f32; widths.len()];
    for linear in layer.linears_at(site) {
        for output in 0..linear.outputs {
            for (widest, w) in widest_weight.iter_mut().zip(linear.weight().row(output)) {
                *widest = widest.max(w.abs());
            }
        }
    }
    // A channel that nothing came through, or that nothing reads, gets the width of a narrow one rather than none.
    let floor = |values: &[f32]| values.iter().copied().fold(0.0, f32::max) * 1e-4 + f32::MIN_POSITIVE;
    let (widths_floor, weights_floor) = (floor(widths), floor(&widest_weight));
    let factor = |(&width, &weight): (&f32, &f32)| {
        width.max(widths_floor).powf(ALPHA) / weight.max(weights_floor).powf(1.0 - ALPHA)
    };
    let factors: Vec<f32> = widths.iter().zip(&widest_weight).map(factor).collect();
    let mut sorted = factors.clone();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    // Powers of two's neighbourhood is enough, and bits must not depend on a platform's `powf`: 8 bits of mantissa are kept.
    let rounded = |factor: f32| f32::from_bits((factor.to_bits() + 0x4000) & 0xffff_8000);
    factors.iter().map(|factor| rounded((factor / median).clamp(1.0 / most, most).clamp(1e-6, 1e6))).collect()
}
