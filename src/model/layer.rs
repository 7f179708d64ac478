//! One encoder layer, post-norm as in BERT and RoBERTa.

use super::activations::rows_of_a_task;
use super::attention::attention;
use super::encoder::{TextBatch, Wanted};
use super::feed_forward::feed_forward;
use super::workspace::Workspace;
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::weights::{InputForm, LayerWeights, Norm};

/// `states ← Norm(states + Attention(states))`, then `states ← Norm(states + FeedForward(states))`; `next` is the form in which the
/// following layer takes them.
pub(crate) fn layer(
    compute: Compute<'_>,
    config: &ModelConfig,
    (index, weights): (usize, &LayerWeights),
    next: &InputForm,
    batch: &TextBatch,
    wanted: Wanted,
    ws: &mut Workspace,
) {
    attention(compute, config, (index, weights), batch, wanted, ws);
    add_and_norm(compute, config, &weights.attention_norm, weights.ffn_in.input(), ws);
    feed_forward(compute, (index, weights), ws);
    add_and_norm(compute, config, &weights.ffn_norm, next, ws);
}

/// `states ← LayerNorm(states + branch)`, and `input` the same rows as `next` takes them, while they are in the cache.
fn add_and_norm(compute: Compute<'_>, config: &ModelConfig, norm: &Norm, next: &InputForm, ws: &mut Workspace) {
    let (rows, hidden) = (ws.states.rows(), config.hidden);
    let block = rows_of_a_task(compute, rows);
    let branch = &ws.branch;
    let inputs = ws.input.blocks_mut(next, rows, hidden, block);
    let tasks = ws.states.view_mut().into_blocks(block, hidden).into_iter().zip(inputs).collect();
    compute.team.for_each(
        tasks,
        || vec![0.0; hidden],
        |scratch, (mut states, mut input)| {
            for row in 0..states.view.rows() {
                let state = states.view.row_mut(row);
                let branch = branch.row(states.row + row);
                compute.kernels.add_layer_norm(state, branch, norm.gain(), norm.bias(), config.layer_norm_eps);
                input.write(compute, next, row, state, scratch);
            }
        },
    );
}
