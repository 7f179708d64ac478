//! One encoder layer, post-norm as in BERT and RoBERTa.

use super::attention::{attention, project_context};
use super::batch::{TextBatch, Wanted};
use super::feed_forward::feed_forward;
use super::norm::{Reader, add_and_norm};
use super::schedule::for_each_share;
use super::workspace::Workspace;
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::weights::{InputForm, LayerWeights};

/// `states ← Norm(states + Attention(states))`, then `states ← Norm(states + FeedForward(states))`; `next` is the
/// form in which the following layer needs the states; they are left in `ws.input` in this form too.
pub(crate) fn layer(
    compute: Compute<'_>,
    config: &ModelConfig,
    (index, weights): (usize, &LayerWeights),
    next: &InputForm,
    batch: &TextBatch,
    wanted: Wanted,
    ws: &mut Workspace,
) {
    let eps = config.layer_norm_eps;
    attention(compute, config, (index, weights), batch, wanted, ws);
    for_each_share(compute, next, ws, |share| {
        project_context(share, &weights.attention_output);
        add_and_norm(share, &weights.attention_norm, eps, Reader::ThisLayer(weights.ffn_in.input()));
        feed_forward(share, (index, weights));
        add_and_norm(share, &weights.ffn_norm, eps, Reader::NextLayer);
    });
}
