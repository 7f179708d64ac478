//! The position-wise feed-forward layers.

use super::observe::show;
use super::schedule::Share;
use super::workspace::{FFN_ROWS, RowScratch};
use crate::linear::{LinearTask, run_linear};
use crate::weights::{LayerWeights, Site};

/// `branch ← GELU(states W₁ + b₁) W₂ + b₂` (Vaswani et al. 2017, §3.3, with GELU for ReLU), `FFN_ROWS` tokens at a time. The scratch's
/// `input` must hold the states in the form that the first linear layer needs.
pub(super) fn feed_forward(share: &mut Share<'_>, (index, weights): (usize, &LayerWeights)) {
    let Share { compute, states, scratch, observer, .. } = share;
    let (compute, states) = (*compute, states.view());
    let RowScratch { input, branch, inner, inner_input } = &mut **scratch;
    show(observer, compute.team, (index, Site::FfnIn), states);
    let first = input.product(&weights.ffn_in, states);
    let (mut below, mut row) = (branch.view_mut(), 0);
    while below.rows() > 0 {
        let rows = below.rows().min(FFN_ROWS);
        let (branch, rest) = below.split_rows(rows);
        inner.reshape(rows, weights.ffn_in.outputs);
        run_linear(compute, LinearTask::cut(compute, first.rows_from(row, rows), inner.view_mut()), true);
        show(observer, compute.team, (index, Site::FfnOut), inner.view());
        inner_input.fill(compute, weights.ffn_out.input(), inner.view());
        let second = inner_input.product(&weights.ffn_out, inner.view());
        run_linear(compute, LinearTask::cut(compute, second, branch), false);
        row += rows;
        below = rest;
    }
}
