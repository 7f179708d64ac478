use trivec_kernels::{Kernels, MatMut, MatRef};

use super::{NotFinite, normalize};
use crate::config::{DensePipeline, Pooling};
use crate::weights::Linear;

/// How the dense vector is made.
#[derive(Debug)]
pub(crate) struct DenseHead<'a> {
    pub pipeline: &'a DensePipeline,
    /// sentence-transformers' `Dense` modules, in order.
    pub modules: &'a [Linear],
    /// Leading values to keep.
    pub dimensions: Option<usize>,
    /// Whether to give it length 1; `None`: as the pipeline says.
    pub normalize: Option<bool>,
}

/// Dense vector of one text from its states `[tokens, hidden]`: pool, map, slice, normalise.
///
/// Source: FlagEmbedding `_dense_embedding` (`truncate_dim` before `normalize`), sentence-transformers `Pooling` and `Dense`.
pub(crate) fn dense(kernels: &Kernels, head: &DenseHead<'_>, states: MatRef<'_>) -> Result<Vec<f32>, NotFinite> {
    let mut vector = match head.pipeline.pooling {
        Pooling::Cls => states.row(0).to_vec(),
        Pooling::Mean => mean(states),
    };
    for module in head.modules {
        let mut mapped = vec![0.0; module.outputs];
        let out = MatMut::dense(&mut mapped, module.outputs);
        kernels.linear(MatRef::dense(&vector, module.inputs), module.weight(), module.bias(), out);
        vector = mapped;
    }
    vector.truncate(head.dimensions.unwrap_or(vector.len()));
    if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
        return Err(NotFinite { mode: "dense", at });
    }
    if head.normalize.unwrap_or(head.pipeline.normalize) && !normalize(kernels, &mut vector) {
        return Err(NotFinite { mode: "dense", at: 0 });
    }
    Ok(vector)
}

/// The mean over all tokens, `<s>` and `</s>` included; summed in f64, as thousands of rows would otherwise lose digits.
fn mean(states: MatRef<'_>) -> Vec<f32> {
    let mut sum = vec![0.0f64; states.cols()];
    for row in 0..states.rows() {
        for (sum, &x) in sum.iter_mut().zip(states.row(row)) {
            *sum += f64::from(x);
        }
    }
    sum.into_iter().map(|sum| (sum / states.rows() as f64) as f32).collect()
}
