//! The position-wise feed-forward layers.

use super::workspace::{FFN_ROWS, Workspace};
use crate::compute::{Compute, LinearTask, run_linear};
use crate::weights::LayerWeights;

/// `branch ← GELU(states W₁ + b₁) W₂ + b₂` (Vaswani et al. 2017, §3.3, with the exact GELU), `FFN_ROWS` tokens at a time.
pub(crate) fn feed_forward(compute: Compute<'_>, weights: &LayerWeights, ws: &mut Workspace) {
    let states = ws.states.view();
    let mut below = ws.branch.view_mut();
    let mut row = 0;
    while below.rows() > 0 {
        let rows = below.rows().min(FFN_ROWS);
        let (branch, rest) = below.split_rows(rows);
        let (inner, _) = ws.inner.view_mut().split_rows(rows);
        let tasks = LinearTask::cut(states.rows_from(row, rows), &weights.ffn_in, 0, inner).collect();
        run_linear(compute, tasks, |values| compute.kernels.gelu(values));
        let tasks = LinearTask::cut(ws.inner.view().rows_from(0, rows), &weights.ffn_out, 0, branch).collect();
        run_linear(compute, tasks, |_| ());
        row += rows;
        below = rest;
    }
}
