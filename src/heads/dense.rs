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
    /// Tokens at the start that are a prompt's and do not count.
    pub skipped: usize,
}

/// Dense vector of one text from its states `[tokens, hidden]`: pool, map, slice, normalise.
///
/// `dimensions` slices before the vector is normalised, as FlagEmbedding does; the pipeline's own `truncate_dim` slices what is finished, as
/// sentence-transformers does, whose `normalize_embeddings` then comes last.
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
        // Normalised at the end, a prefix is the same whatever its length was before.
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

/// Computed in f64: platforms' functions differ only in digits that f32 does not hold.
fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Tanh => f64::from(x).tanh() as f32,
        Activation::Sigmoid => (1.0 / (1.0 + (-f64::from(x)).exp())) as f32,
        // Not `max`, which would make 0 of NaN.
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
    }
}

/// One vector of each mode, joined. The first `skipped` tokens do not count, `<s>` among them.
pub(crate) fn pool(modes: &[PoolingMode], states: MatRef<'_>, skipped: usize) -> Vec<f32> {
    let mut pooled = Vec::with_capacity(modes.len() * states.cols());
    let counted = skipped..states.rows();
    for mode in modes {
        match mode {
            // If all tokens are left out, sentence-transformers takes the first token in this mode, and no token in those below.
            PoolingMode::Cls => pooled.extend_from_slice(states.row(if counted.is_empty() { 0 } else { skipped })),
            PoolingMode::LastToken if counted.is_empty() => pooled.resize(pooled.len() + states.cols(), 0.0),
            PoolingMode::LastToken => pooled.extend_from_slice(states.row(states.rows() - 1)),
            PoolingMode::Max => {
                let of_column = |col| counted.clone().map(|row| states.row(row)[col]).fold(f32::NEG_INFINITY, larger);
                pooled.extend((0..states.cols()).map(of_column));
            }
            PoolingMode::Mean => pooled.extend(weighted(states, counted.clone(), |_| 1.0, |count| count)),
            PoolingMode::MeanSqrtLen => pooled.extend(weighted(states, counted.clone(), |_| 1.0, f64::sqrt)),
            // A prompt that is left out still counts in the positions.
            PoolingMode::WeightedMean => {
                pooled.extend(weighted(states, counted.clone(), |row| (row + 1) as f64, |sum| sum));
            }
        }
    }
    pooled
}

/// Unlike `f32::max`, NaN if one of them is.
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The weighted sum of rows over what their weights add up to, of which `divisor` makes the divisor; summed in f64, as thousands of rows
/// would otherwise lose digits.
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
