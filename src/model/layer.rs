//! One encoder layer, post-norm as in BERT and RoBERTa.

use super::activations::{InputRows, rows_of_a_task};
use super::attention::attention;
use super::batch::{TextBatch, Wanted};
use super::feed_forward::feed_forward;
use super::observe::{Watch, show};
use super::workspace::{RowScratch, Workspace};
use crate::compute::{Compute, LinearTask, rows_are_shared, run_linear};
use crate::config::ModelConfig;
use crate::tensor::{MatMut, MatRef, RowsMut};
use crate::weights::{InputForm, LayerWeights, Norm, Site};

/// Most rows that a thread takes through all steps after attention at a time: as many as a product takes at once. So the buffers between
/// the steps (16 KB a row between the feed-forward layers of BGE-M3) stay bounded, and no step waits for another thread
/// (kernels/EXPERIMENTS.md).
const ROWS_AT_ONCE: usize = 192;

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
    let Workspace { states, input, context, together, scratch, observer, .. } = ws;
    let behind = BehindAttention { config, index, weights, next, observer };
    let (rows, threads) = (states.rows(), compute.team.threads());
    // An observer sees all tokens in their order, so the rows are not divided.
    if observer.is_some() || !rows_are_shared(compute, rows) {
        let block = rows_of_a_task(compute, rows);
        let inputs = input.blocks_mut(next, rows, config.hidden, block);
        return behind.run(compute, context.view(), states.rows_mut(), (inputs, block), together);
    }
    // Each thread goes through all steps with rows of its own.
    let share = rows.div_ceil(threads);
    let block = share.div_ceil(share.div_ceil(ROWS_AT_ONCE));
    let inputs = input.blocks_mut(next, rows, config.hidden, block);
    let tasks = states.rows_mut().into_blocks(block).zip(inputs).collect();
    compute.team.for_each(
        tasks,
        |thread| scratch.take(thread),
        |scratch, ((first, states), input)| {
            let context = context.view().rows_from(first, states.rows());
            behind.run(compute.alone(), context, states, (vec![input], block), scratch);
        },
    );
}

/// The steps after attention, which treat each token by itself.
struct BehindAttention<'a> {
    config: &'a ModelConfig,
    index: usize,
    weights: &'a LayerWeights,
    next: &'a InputForm,
    observer: &'a Watch,
}

impl BehindAttention<'_> {
    /// `states ← Norm(states + context W_o + b_o)`, then `states ← Norm(states + FeedForward(states))`; also as `inputs` of the following
    /// layer, in blocks of so many rows.
    fn run(
        &self,
        compute: Compute<'_>,
        context: MatRef<'_>,
        mut states: RowsMut<'_>,
        inputs: (Vec<InputRows<'_>>, usize),
        scratch: &mut RowScratch,
    ) {
        let &BehindAttention { config, index, weights, next, observer } = self;
        let RowScratch { input, branch, inner, inner_input } = scratch;
        let (rows, hidden) = (states.rows(), config.hidden);
        branch.reshape(rows, hidden);

        let output = &weights.attention_output;
        input.fill(compute, output.input(), context);
        let x = input.input(output.input(), context);
        run_linear(compute, LinearTask::cut(compute, x, output, branch.view_mut()), false);

        let (form, block) = (weights.ffn_in.input(), rows_of_a_task(compute, rows));
        let of_ffn = (input.blocks_mut(form, rows, hidden, block), block);
        add_and_norm(compute, config, &weights.attention_norm, states.view_mut(), branch.view(), form, of_ffn);

        show(observer, compute.team, (index, Site::FfnIn), states.view());
        let x = input.input(form, states.view());
        feed_forward(compute, (index, weights), observer, x, branch.view_mut(), inner, inner_input);
        add_and_norm(compute, config, &weights.ffn_norm, states.view_mut(), branch.view(), next, inputs);
    }
}

/// `states ← LayerNorm(states + branch)`, and `inputs` the same rows in `form`, while they are in the cache.
fn add_and_norm(
    compute: Compute<'_>,
    config: &ModelConfig,
    norm: &Norm,
    states: MatMut<'_>,
    branch: MatRef<'_>,
    form: &InputForm,
    (inputs, block): (Vec<InputRows<'_>>, usize),
) {
    let hidden = config.hidden;
    let tasks = states.into_blocks(block, hidden).into_iter().zip(inputs).collect();
    compute.team.for_each(
        tasks,
        |_| vec![0.0; hidden],
        |scratch, (mut states, mut input)| {
            for row in 0..states.view.rows() {
                let state = states.view.row_mut(row);
                let branch = branch.row(states.row + row);
                compute.kernels.add_layer_norm(state, branch, norm.gain(), norm.bias(), config.layer_norm_eps);
                input.write(compute, form, row, state, scratch);
            }
        },
    );
}
