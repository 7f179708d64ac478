//! The position-wise feed-forward layers.

use super::observe::show;
use super::workspace::{FFN_ROWS, Workspace};
use crate::compute::{Compute, LinearTask, run_linear};
use crate::weights::{LayerWeights, Site};

/// `branch ← GELU(states W₁ + b₁) W₂ + b₂` (Vaswani et al. 2017, §3.3), `FFN_ROWS` tokens at a time. `ws.input` holds the states as the
/// first layer takes them.
pub(crate) fn feed_forward(compute: Compute<'_>, (index, weights): (usize, &LayerWeights), ws: &mut Workspace) {
    show(&ws.observer, compute.team, (index, Site::FfnIn), &ws.states);
    let form = weights.ffn_out.input();
    let states = ws.input.input(weights.ffn_in.input(), &ws.states);
    let mut below = ws.branch.view_mut();
    let mut row = 0;
    while below.rows() > 0 {
        let rows = below.rows().min(FFN_ROWS);
        let (branch, rest) = below.split_rows(rows);
        let ffn = ws.inner.cols();
        ws.inner.reshape(rows, ffn);
        let tasks = LinearTask::cut(compute, states.rows_from(row, rows), &weights.ffn_in, ws.inner.view_mut());
        run_linear(compute, tasks, true);
        show(&ws.observer, compute.team, (index, Site::FfnOut), &ws.inner);
        ws.inner_input.fill(compute, form, &ws.inner);
        let inner = ws.inner_input.input(form, &ws.inner);
        run_linear(compute, LinearTask::cut(compute, inner, &weights.ffn_out, branch), false);
        row += rows;
        below = rest;
    }
}
