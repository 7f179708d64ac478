//! A reranker's head: the logit of a query and a document that were read together, and the score that it becomes.

use trivec_kernels::{Kernels, MatMut, MatRef};

use crate::config::ScoreActivation;
use crate::weights::Classifier;

/// How well a document answers a query, from the state of the pair's first token `[hidden]`: `W_o tanh(W_d h + b_d) + b_o`.
///
/// Source: transformers `XLMRobertaClassificationHead`, whose dropout does nothing outside training. There is no pooler before it.
pub(crate) fn logit(kernels: &Kernels, head: &Classifier, state: &[f32]) -> f32 {
    let (dense, out_proj) = (&head.dense, &head.out_proj);
    let mut inner = vec![0.0; dense.outputs];
    // Each pair is computed alone, so its bits do not depend on the rest of the batch.
    let out = MatMut::dense(&mut inner, dense.outputs);
    kernels.linear(MatRef::dense(state, dense.inputs), dense.weight(), dense.bias(), out);
    inner.iter_mut().for_each(|x| *x = tanh(*x));
    kernels.dot(&inner, out_proj.weight().row(0)) + out_proj.bias().map_or(0.0, |bias| bias[0])
}

/// `tanh`, computed in f64, because the platforms' functions differ only in digits that f32 does not hold.
fn tanh(x: f32) -> f32 {
    f64::from(x).tanh() as f32
}

/// The score of a pair from its logit: between 0 and 1 by the sigmoid, unless the model's files say that the logit itself is the score.
///
/// Source: FlagEmbedding `FlagReranker.compute_score(normalize=True)`, sentence-transformers `CrossEncoder.activation_fn`.
pub(crate) fn score(activation: ScoreActivation, logit: f32) -> f32 {
    match activation {
        ScoreActivation::Sigmoid => sigmoid(logit),
        ScoreActivation::Identity => logit,
    }
}

/// `1 / (1 + e^-x)`
fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(x)).exp())) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sigmoid_keeps_small_scores_and_ends_at_0_and_1() {
        // The last two are logits and scores that BAAI publishes for bge-reranker-v2-m3.
        for (x, expected) in
            [(0.0, 0.5), (-20.0, 2.061_153_6e-9), (-8.1875, 0.000_278_030_97), (5.261_718_8, 0.994_840_4)]
        {
            assert!((sigmoid(x) / expected - 1.0).abs() < 1e-5, "{x}: {}", sigmoid(x));
        }
        assert_eq!((sigmoid(f32::MAX), sigmoid(f32::MIN)), (1.0, 0.0));
        assert!(sigmoid(f32::NAN).is_nan());
    }
}
