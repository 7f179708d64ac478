//! The position-wise feed-forward layers.

use super::activations::Activations;
use super::observe::{Watch, show};
use super::workspace::FFN_ROWS;
use crate::compute::{Compute, LinearTask, run_linear};
use crate::tensor::{MatMut, Matrix};
use crate::weights::{Input, LayerWeights, Site};

/// `branch ← GELU(states W₁ + b₁) W₂ + b₂` (Vaswani et al. 2017, §3.3), `FFN_ROWS` tokens at a time; `states` as the first layer takes them.
pub(crate) fn feed_forward(
    compute: Compute<'_>,
    (index, weights): (usize, &LayerWeights),
    observer: &Watch,
    states: Input<'_>,
    branch: MatMut<'_>,
    inner: &mut Matrix,
    inner_input: &mut Activations,
) {
    let form = weights.ffn_out.input();
    let (mut below, mut row) = (branch, 0);
    while below.rows() > 0 {
        let rows = below.rows().min(FFN_ROWS);
        let (branch, rest) = below.split_rows(rows);
        inner.reshape(rows, weights.ffn_in.outputs);
        let tasks = LinearTask::cut(compute, states.rows_from(row, rows), &weights.ffn_in, inner.view_mut());
        run_linear(compute, tasks, true);
        show(observer, compute.team, (index, Site::FfnOut), inner.view());
        inner_input.fill(compute, form, inner.view());
        let input = inner_input.input(form, inner.view());
        run_linear(compute, LinearTask::cut(compute, input, &weights.ffn_out, branch), false);
        row += rows;
        below = rest;
    }
}
