//! The three ways of scoring a query and a passage, each with its forward and its backward pass, over a batch of texts.
//!
//! Every arm begins with a linear map of token states (of pooled states for dense). `S` are an arm's scores, `[queries, passages]`, before they
//! are divided by the temperature.

pub(crate) mod colbert;
pub(crate) mod dense;
pub(crate) mod lexical;

use rayon::prelude::*;

use crate::math::closed::Map;
use crate::math::{add_scaled, product};
use crate::states::States;

/// An arm's map, `A (W₀ x + b₀) + a`: the base `W₀` and `b₀` stays as it is, `A` and `a` are trained.
#[derive(Debug, Clone)]
pub(crate) struct Arm {
    base: Map,
    /// `W₀` in f32, `[k, d]`.
    rows: Vec<f32>,
    /// `W₀` transposed, in f32, `[d, k]`.
    columns: Vec<f32>,
    /// `b₀` in f32, `[k]`.
    base_bias: Vec<f32>,
    /// `A`, `[m, k]`.
    pub a: Vec<f32>,
    /// `a`, `[m]`.
    pub a_bias: Vec<f32>,
}

/// The one map `W x + b` that an arm's base and its trained part give together, in f32.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    /// `[m, d]`
    pub weight: Vec<f32>,
    /// `[m]`
    pub bias: Vec<f32>,
    pub outputs: usize,
    pub inputs: usize,
}

impl Effective {
    /// An f64 map, rounded to f32.
    pub(crate) fn of(map: &Map) -> Effective {
        let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect();
        Effective { weight: narrow(&map.weight), bias: narrow(&map.bias), outputs: map.outputs, inputs: map.inputs }
    }

    /// `W x + b` of each row `x` of `[rows, d]`.
    pub(crate) fn apply(&self, rows: &[f32]) -> Vec<f32> {
        product(rows, &self.weight, self.inputs, Some(&self.bias))
    }
}

/// Gradients of an effective map's weight `[m, d]` and bias `[m]`; of `A` and `a` after [`Arm::gradient`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gradient {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Arm {
    pub(crate) fn new(base: Map, a: Vec<f32>, a_bias: Vec<f32>) -> Arm {
        let narrow = |values: &[f64]| -> Vec<f32> { values.iter().map(|&x| x as f32).collect() };
        let rows = narrow(&base.weight);
        let columns = crate::math::transposed(&rows, base.inputs);
        let base_bias = narrow(&base.bias);
        Arm { base, rows, columns, base_bias, a, a_bias }
    }

    /// An arm that begins as `base` itself: `A` is the identity, `a` is 0.
    pub(crate) fn identity(base: Map) -> Arm {
        let k = base.outputs;
        let a = (0..k * k).map(|at| if at / k == at % k { 1.0 } else { 0.0 }).collect();
        Arm::new(base, a, vec![0.0; k])
    }

    /// The one map `A W₀ x + (A b₀ + a)`, in f32.
    pub(crate) fn effective(&self) -> Effective {
        let (k, outputs) = (self.base.outputs, self.a_bias.len());
        let mut bias = product(&self.a, &self.base_bias, k, None);
        add_scaled(&mut bias, 1.0, &self.a_bias);
        Effective { weight: product(&self.a, &self.columns, k, None), bias, outputs, inputs: self.base.inputs }
    }

    /// The gradient of `A`, `∂W W₀ᵀ + ∂b b₀ᵀ`, and of `a`, `∂b`, from that of the effective map.
    pub(crate) fn gradient(&self, effective: Gradient) -> Gradient {
        let k = self.base.outputs;
        let mut weight = product(&effective.weight, &self.rows, self.base.inputs, None);
        for (row, &factor) in weight.chunks_exact_mut(k).zip(&effective.bias) {
            add_scaled(row, factor, &self.base_bias);
        }
        Gradient { weight, bias: effective.bias }
    }

    /// The effective map, computed in f64, for the model that is written.
    pub(crate) fn map(&self) -> Map {
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
        self.base.then(&wide(&self.a), &wide(&self.a_bias))
    }

    /// How far `A` is from the identity, or from 0 if `A` is not square: the root of the mean squared difference.
    pub(crate) fn distance(&self) -> f64 {
        let k = self.base.outputs;
        let square = self.a.len() == k * k;
        let of = |(at, &x): (usize, &f32)| {
            let from = if square && at / k == at % k { 1.0 } else { 0.0 };
            (f64::from(x) - from).powi(2)
        };
        (self.a.iter().enumerate().map(of).sum::<f64>() / self.a.len().max(1) as f64).sqrt()
    }
}

/// The token states of some texts, one after another.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// `[tokens, hidden]`
    pub states: Vec<f32>,
    /// Where each text begins, and where the last ends, in tokens.
    pub starts: Vec<usize>,
    /// `[tokens]`
    pub ids: Vec<u32>,
    pub hidden: usize,
}

impl Tokens {
    /// Reads the states and token ids of `texts`, which are indices into `states` and `ids`.
    pub(crate) fn load(states: &States, ids: &[Vec<u32>], texts: &[usize]) -> Tokens {
        let hidden = states.hidden();
        let mut starts = vec![0];
        let mut all_ids = Vec::new();
        for &text in texts {
            all_ids.extend_from_slice(&ids[text]);
            starts.push(all_ids.len());
        }
        let mut values = vec![0.0; all_ids.len() * hidden];
        let mut rest = values.as_mut_slice();
        let mut parts = Vec::with_capacity(texts.len());
        for &text in texts {
            let (part, others) = rest.split_at_mut(states.tokens(text) * hidden);
            parts.push((part, text));
            rest = others;
        }
        parts.into_par_iter().for_each(|(part, text)| states.copy(text, part));
        Tokens { states: values, starts, ids: all_ids, hidden }
    }

    pub(crate) fn texts(&self) -> usize {
        self.starts.len() - 1
    }

    /// The places of a text's tokens.
    pub(crate) fn range(&self, text: usize) -> std::ops::Range<usize> {
        self.starts[text]..self.starts[text + 1]
    }
}
