//! The dense head: one vector for a text, by pooling its states.

use trivec_kernels::{Kernels, MatMut, MatRef};

use super::finite::{NotFinite, normalize};
use crate::config::{Activation, DenseModule, DensePipeline, PoolingMode};
use crate::weights::FloatLinear;

/// How the dense vector is made.
#[derive(Debug)]
pub(crate) struct DenseHead<'a> {
    pub pipeline: &'a DensePipeline,
    /// sentence-transformers' `Dense` modules, in order.
    pub modules: &'a [FloatLinear],
    /// How many of the vector's first values to keep; `None`: all.
    pub dimensions: Option<usize>,
    /// Whether to give the vector length 1; `None`: as the pipeline says.
    pub normalize: Option<bool>,
    /// How many tokens at the start belong to a prompt that pooling leaves out, `<s>` among them; 0 if all tokens count.
    pub skipped: usize,
}

/// The dense vector of one text from its states `[tokens, hidden]`: pooled, mapped by the `Dense` modules, cut to its first values,
/// normalised.
///
/// `dimensions` cuts the vector before it is normalised, as FlagEmbedding does. The pipeline's own `truncate_dim` cuts the finished vector,
/// as sentence-transformers does; but if the caller sets `normalize`, normalising comes last, as with its `normalize_embeddings`.
///
/// Source: FlagEmbedding `_dense_embedding`, sentence-transformers `Pooling`, `Dense` and `SentenceTransformer.encode`.
pub(crate) fn dense(kernels: &Kernels, head: &DenseHead<'_>, states: MatRef<'_>) -> Result<Vec<f32>, NotFinite> {
    let mut vector = pool(&head.pipeline.pooling.modes, states, head.skipped.min(states.rows()));
    for (module, DenseModule { activation, .. }) in head.modules.iter().zip(&head.pipeline.dense) {
        let mut mapped = vec![0.0; module.outputs];
        let out = MatMut::dense(&mut mapped, module.outputs);
        kernels.linear(MatRef::dense(&vector, module.inputs), module.weight(), module.bias(), out);
        mapped.iter_mut().for_each(|x| *x = activate(*activation, *x));
        vector = mapped;
    }
    match (head.dimensions, head.normalize) {
        (Some(dimensions), _) => vector.truncate(dimensions),
        // A vector that is normalised at the end is the same whether or not it was normalised before it was cut.
        (None, Some(_)) => vector.truncate(head.pipeline.truncate_dim.unwrap_or(usize::MAX)),
        (None, None) => {}
    }
    if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
        return Err(NotFinite { mode: "dense", at });
    }
    if head.normalize.unwrap_or(head.pipeline.normalize) && !normalize(kernels, &mut vector) {
        return Err(NotFinite { mode: "dense", at: 0 });
    }
    if head.dimensions.is_none() {
        vector.truncate(head.pipeline.truncate_dim.unwrap_or(usize::MAX));
    }
    Ok(vector)
}

/// The activation of one value. It is computed in f64, because the platforms' `tanh` and `exp` differ only in digits that f32 does not
/// hold.
fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Tanh => f64::from(x).tanh() as f32,
        Activation::Sigmoid => (1.0 / (1.0 + (-f64::from(x)).exp())) as f32,
        // `max` would turn NaN into 0.
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
    }
}

/// Pools the states by each of `modes`, and joins the resulting vectors. The first `skipped` tokens, `<s>` among them, are left out.
pub(crate) fn pool(modes: &[PoolingMode], states: MatRef<'_>, skipped: usize) -> Vec<f32> {
    let mut pooled = Vec::with_capacity(modes.len() * states.cols());
    let counted = skipped..states.rows();
    for mode in modes {
        match mode {
            // If all tokens are left out, sentence-transformers uses the first token in this mode, and no token in the modes below.
            PoolingMode::Cls => pooled.extend_from_slice(states.row(if counted.is_empty() { 0 } else { skipped })),
            PoolingMode::LastToken if counted.is_empty() => pooled.resize(pooled.len() + states.cols(), 0.0),
            PoolingMode::LastToken => pooled.extend_from_slice(states.row(states.rows() - 1)),
            PoolingMode::Max => {
                let of_column = |col| counted.clone().map(|row| states.row(row)[col]).fold(f32::NEG_INFINITY, larger);
                pooled.extend((0..states.cols()).map(of_column));
            }
            PoolingMode::Mean => pooled.extend(weighted(states, counted.clone(), |_| 1.0, |count| count)),
            PoolingMode::MeanSqrtLen => pooled.extend(weighted(states, counted.clone(), |_| 1.0, f64::sqrt)),
            // The tokens of a prompt that is left out still count in the positions, which are the weights.
            PoolingMode::WeightedMean => {
                pooled.extend(weighted(states, counted.clone(), |row| (row + 1) as f64, |sum| sum));
            }
        }
    }
    pooled
}

/// The larger of two values or, unlike `f32::max`, NaN if one of them is NaN.
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The sum of `weight(row)` times each row, divided by `divisor` of the sum of the weights. The sums are in f64, because sums over
/// thousands of rows would lose digits in f32.
fn weighted(
    states: MatRef<'_>,
    rows: std::ops::Range<usize>,
    weight: impl Fn(usize) -> f64,
    divisor: impl Fn(f64) -> f64,
) -> Vec<f32> {
    let mut sum = vec![0.0f64; states.cols()];
    let mut weights = 0.0;
    for row in rows {
        let weight = weight(row);
        weights += weight;
        for (sum, &x) in sum.iter_mut().zip(states.row(row)) {
            *sum += weight * f64::from(x);
        }
    }
    let divisor = divisor(weights.max(1e-9));
    sum.into_iter().map(|sum| (sum / divisor) as f32).collect()
}
