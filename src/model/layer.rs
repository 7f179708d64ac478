//! One encoder layer, post-norm as in BERT and RoBERTa.

use super::attention::attention;
use super::encoder::TextBatch;
use super::feed_forward::feed_forward;
use super::workspace::Workspace;
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::tensor::MatMut;
use crate::weights::{LayerWeights, Norm};

/// `states ← Norm(states + Attention(states))`, then `states ← Norm(states + FeedForward(states))`.
pub(crate) fn layer(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights,
    batch: &TextBatch,
    ws: &mut Workspace,
) {
    attention(compute, config, weights, batch, ws);
    add_and_norm(compute, config, &weights.attention_norm, ws);
    feed_forward(compute, weights, ws);
    add_and_norm(compute, config, &weights.ffn_norm, ws);
}

/// `states ← LayerNorm(states + branch)`
fn add_and_norm(compute: Compute<'_>, config: &ModelConfig, norm: &Norm, ws: &mut Workspace) {
    let branch = &ws.branch;
    let blocks = MatMut::into_blocks(ws.states.view_mut(), 32, config.hidden);
    compute.team.for_each(
        blocks,
        || (),
        |(), mut block| {
            for row in 0..block.view.rows() {
                let state = block.view.row_mut(row);
                for (state, branch) in state.iter_mut().zip(branch.row(block.row + row)) {
                    *state += branch;
                }
                compute.kernels.layer_norm(state, norm.gain(), norm.bias(), config.layer_norm_eps);
            }
        },
    );
}
