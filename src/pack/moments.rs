//! Rounds weights so that the error of the outputs is small for the inputs that occur, as their second moments tell.
//!
//! The error of an output is `(w - q) · x`; over many inputs its mean square is `(w - q)ᵀ M (w - q)` with the second moments `M = mean(x xᵀ)` of the
//! prepared inputs. With `M = Rᵀ R`, `R` upper triangular, that is `‖R (w - q)‖²`. The weights are rounded from the last to the first, each so
//! that its term is as near 0 as it can be, given the weights after it:
//!
//! ```text
//! q_d = round(w_d + Σ_{j>d} R_dj / R_dd · (w_j - q_j))
//! ```
//! That is Babai's nearest plane (1986), and GPTQ (Frantar et al. 2022) in another order. Moments are computed in blocks of 512 inputs: those
//! of all 4,096 would need more memory than the packed model, and more calibration tokens than there are to estimate them.

use std::sync::{Arc, Mutex, PoisonError};

use trivec_kernels::{Kernels, MatMut, MatRef, Prepare, rotation_for};

use super::calibrate::{Inputs, reading};
use super::options::{PackOptions, Stage, Step, given_texts};
use super::plan::Plan;
use crate::engine::Model;
use crate::error::Result;
use crate::model::Observe;
use crate::parallel::Team;
use crate::weights::Site;

/// Inputs in a block of moments.
const BLOCK: usize = 512;

/// Rows that are gathered before their products are added.
const WAITING_ROWS: usize = 128;

/// Added to the diagonal, relative to its mean, against correlations that a few thousand tokens have by chance. From 0.001 to 0.3 the mean
/// cosine of the starter's 300 texts is the same within 1.5e-5.
const DAMPING: f32 = 0.05;

/// The sums of products of one site's inputs, in blocks.
#[derive(Debug, Default)]
struct Sums {
    /// `[rows, inputs]`: prepared rows whose products have not been added yet.
    waiting: Vec<f32>,
    /// For each block of inputs the sums of the products of any two, `[len, len]`.
    blocks: Vec<Vec<f32>>,
}

/// Adds up the moments while a model runs.
#[derive(Debug)]
struct Moments {
    kernels: &'static Kernels,
    inputs: Inputs,
    /// For each layer the sums of its four sites.
    layers: Vec<[Sums; 4]>,
}

impl Observe for Moments {
    /// Prepares the rows as they are prepared for the product, and adds up their products as soon as enough rows are waiting.
    fn see(&mut self, team: &Team, layer: usize, site: Site, rows: MatRef<'_>) {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Default::default);
        }
        let inputs = rows.cols();
        let inverse: Option<Vec<f32>> =
            self.inputs.at(layer, site).map(|factors| factors.iter().map(|factor| 1.0 / factor).collect());
        let prepare = Prepare {
            centre: self.inputs.centre(layer, site),
            inverse_smoothing: inverse.as_deref(),
            rotation: rotation_for(inputs),
        };
        let sums = &mut self.layers[layer][site as usize];
        for row in 0..rows.rows() {
            let at = sums.waiting.len();
            sums.waiting.resize(at + inputs, 0.0);
            self.kernels.prepare_row(prepare, rows.row(row), &mut sums.waiting[at..]);
        }
        if sums.waiting.len() >= WAITING_ROWS * inputs {
            sums.add(self.kernels, team, inputs);
        }
    }
}

impl Sums {
    /// Adds the products of the waiting rows.
    fn add(&mut self, kernels: &Kernels, team: &Team, inputs: usize) {
        let rows = self.waiting.len() / inputs;
        if self.blocks.is_empty() {
            let lens = (0..inputs).step_by(BLOCK).map(|first| (inputs - first).min(BLOCK));
            self.blocks = lens.map(|len| vec![0.0; len * len]).collect();
        }
        let waiting = &self.waiting;
        team.for_each(
            self.blocks.iter_mut().enumerate().collect(),
            |_| (),
            |(), (index, sums): (usize, &mut Vec<f32>)| {
                let (first, len) = (index * BLOCK, (inputs - index * BLOCK).min(BLOCK));
                let columns: Vec<f32> = (first..first + len)
                    .flat_map(|input| waiting[input..].iter().step_by(inputs).take(rows).copied())
                    .collect();
                let mut products = vec![0.0; len * len];
                let columns = MatRef::dense(&columns, rows);
                kernels.linear(columns, columns, None, MatMut::dense(&mut products, len));
                sums.iter_mut().zip(&products).for_each(|(sum, product)| *sum += product);
            },
        );
        self.waiting.clear();
    }
}

/// How the weights of one site's layers are rounded: `R_dj / R_dd` of each block, `[len, len]`, used above the diagonal.
#[derive(Debug, Default)]
pub(super) struct Rounding {
    blocks: Vec<Vec<f32>>,
}

/// The rounding of every layer's four sites.
pub(super) type Roundings = Vec<[Arc<Rounding>; 4]>;

/// Measures how the weights of int8 and int4 layers are to be rounded. `None` if there are no such layers, no calibration texts, or if the
/// checkpoint's own q4_0 blocks are copied.
pub(super) fn rounding(plan: &Plan, model: &Model, options: &PackOptions, step: Step<'_>) -> Result<Option<Roundings>> {
    if plan.q4_0 || plan.calibration_texts == 0 || !plan.layers.iter().any(|format| format.is_int()) {
        return Ok(None);
    }
    measure(model, &plan.inputs, &given_texts(options), step).map(Some)
}

/// Runs `model` over `texts`, adds up the moments of its layers' inputs, prepared as `inputs` says, and factors them.
fn measure(model: &Model, inputs: &Inputs, texts: &[&str], step: Step<'_>) -> Result<Roundings> {
    let moments =
        Arc::new(Mutex::new(Moments { kernels: model.kernels(), inputs: inputs.clone(), layers: Vec::new() }));
    model.observe(texts, &reading(model), moments.clone(), &|done| step(Stage::Moments, done, texts.len()))?;
    let mut moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
    let (kernels, team) = (model.kernels(), model.team());
    let mut sites: Vec<&mut Sums> = moments.layers.iter_mut().flatten().collect();
    for (index, sums) in sites.iter_mut().enumerate() {
        let layer = &model.encoder().weights.layers[index / 4];
        let site = [Site::Attention, Site::AttentionOutput, Site::FfnIn, Site::FfnOut][index % 4];
        if !sums.waiting.is_empty() {
            sums.add(kernels, team, layer.linears_at(site)[0].inputs);
        }
    }
    let blocks = sites.into_iter().flat_map(|sums| &mut sums.blocks).collect();
    team.for_each(blocks, |_| (), |(), block: &mut Vec<f32>| factor(kernels, block));
    let rounding = |sums: &mut Sums| Arc::new(Rounding { blocks: std::mem::take(&mut sums.blocks) });
    Ok(moments.layers.iter_mut().map(|sites| sites.each_mut().map(rounding)).collect())
}

/// Replaces the moments of a block by `R_dj / R_dd`; or by zeros, with which every weight is rounded by itself, if no input was seen or the
/// moments have no Cholesky factor.
fn factor(kernels: &Kernels, block: &mut [f32]) {
    let len = block.len().isqrt();
    let mean = (0..len).map(|i| block[i * len + i]).sum::<f32>() / len as f32;
    (0..len).for_each(|i| block[i * len + i] += DAMPING * mean);
    // M = L Lᵀ, row by row, in the lower triangle.
    for i in 0..len {
        let (before, own) = block.split_at_mut(i * len);
        let own = &mut own[..len];
        for j in 0..i {
            let other = &before[j * len..][..len];
            own[j] = (own[j] - kernels.dot(&own[..j], &other[..j])) / other[j];
        }
        own[i] = (own[i] - kernels.dot(&own[..i], &own[..i])).sqrt();
        if !(own[i].is_finite() && own[i] > 0.0) {
            block.fill(0.0);
            return;
        }
    }
    // R = Lᵀ.
    for d in 0..len {
        let diagonal = block[d * len + d];
        for j in d + 1..len {
            block[d * len + j] = block[j * len + d] / diagonal;
        }
    }
}

impl Rounding {
    /// Calls `round(d, target)` for every weight of a row, in each block from the last to the first. `target` is the weight with a correction
    /// for the rounding errors of those after it, and `round` returns the rounded weight. `errors` is scratch memory, as long as the row.
    pub(super) fn each(
        &self,
        kernels: &Kernels,
        row: &[f32],
        errors: &mut [f32],
        mut round: impl FnMut(usize, f32) -> f32,
    ) {
        for (index, weights) in row.chunks(BLOCK).enumerate() {
            let (first, len) = (index * BLOCK, weights.len());
            let block = self.blocks.get(index);
            for d in (0..len).rev() {
                let after = d + 1..len;
                let owed = block.map_or(0.0, |block| kernels.dot(&block[d * len..][after.clone()], &errors[after]));
                errors[d] = weights[d] - round(first + d, weights[d] + owed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rows` rows of `len` inputs that are strongly correlated, and the sums of their products, block after block.
    fn inputs(len: usize, rows: usize) -> (Vec<f32>, Vec<f32>) {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut x = Vec::new();
        for _ in 0..rows {
            let shared = [next(), next(), next()];
            x.extend((0..len).map(|d| shared[d % 3] + 0.1 * next()));
        }
        let mut sums = Sums { waiting: x.clone(), blocks: Vec::new() };
        sums.add(Kernels::best(), &Team::new(Some(2)).unwrap(), len);
        (x, sums.blocks.concat())
    }

    #[test]
    fn moments_are_sums_of_products_in_blocks() {
        let (len, rows) = (BLOCK + 5, 9);
        let (x, blocks) = inputs(len, rows);
        assert_eq!(blocks.len(), BLOCK * BLOCK + 5 * 5);
        let sum = |i: usize, j: usize| x.chunks(len).map(|x| x[i] * x[j]).sum::<f32>();
        assert!((blocks[3 * BLOCK + 7] - sum(3, 7)).abs() < 1e-4);
        assert!((blocks[BLOCK * BLOCK + 5 + 4] - sum(BLOCK + 1, BLOCK + 4)).abs() < 1e-4);
    }

    #[test]
    fn rounding_by_moments_makes_outputs_more_exact() {
        let (len, rows) = (96, 400);
        let (x, mut block) = inputs(len, rows);
        factor(Kernels::best(), &mut block);
        let weights: Vec<f32> = (0..len).map(|d| ((d * 37 % 101) as f32 / 50.0 - 1.0) * 4.0).collect();
        let error = |rounding: &Rounding| {
            let (mut rounded, mut errors) = (vec![0.0; len], vec![0.0; len]);
            let mut order = Vec::new();
            rounding.each(Kernels::best(), &weights, &mut errors, |d, target| {
                order.push(d);
                rounded[d] = target.round_ties_even();
                rounded[d]
            });
            assert_eq!(order, (0..len).rev().collect::<Vec<_>>());
            let output = |x: &[f32]| x.iter().zip(&weights).zip(&rounded).map(|((x, w), q)| x * (w - q)).sum::<f32>();
            x.chunks(len).map(|x| output(x).powi(2)).sum::<f32>() / rows as f32
        };
        let (alone, together) = (error(&Rounding::default()), error(&Rounding { blocks: vec![block] }));
        assert!(together < 0.3 * alone, "mean squared errors {together} and {alone}");
    }

    #[test]
    fn moments_without_a_factor_round_every_weight_by_itself() {
        for mut block in [vec![0.0; 16], vec![f32::NAN; 16], vec![-1.0; 16]] {
            factor(Kernels::best(), &mut block);
            assert_eq!(block, [0.0; 16]);
        }
    }
}
