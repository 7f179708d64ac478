//! The position-wise feed-forward layers.

use super::observe::show;
use super::workspace::{FFN_ROWS, Workspace};
use crate::compute::{Compute, LinearTask, rows_are_shared, run_linear};
use crate::weights::{LayerWeights, Site};

/// `branch ← GELU(states W₁ + b₁) W₂ + b₂` (Vaswani et al. 2017, §3.3), `FFN_ROWS` tokens at a time. `ws.input` holds the states as the
/// first layer takes them.
pub(crate) fn feed_forward(compute: Compute<'_>, (index, weights): (usize, &LayerWeights), ws: &mut Workspace) {
    show(&ws.observer, compute.team, (index, Site::FfnIn), &ws.states);
    // Who observes sees the tokens in their order.
    if ws.states.rows() > FFN_ROWS && rows_are_shared(compute, FFN_ROWS) && ws.observer.is_none() {
        return feed_forward_by_threads(compute, weights, ws);
    }
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

/// The same for more tokens: each thread has a share of all of them, as in the other layers, and of these its share of `FFN_ROWS` at a time.
fn feed_forward_by_threads(compute: Compute<'_>, weights: &LayerWeights, ws: &mut Workspace) {
    let form = weights.ffn_out.input();
    let states = ws.input.input(weights.ffn_in.input(), &ws.states);
    let (rows, threads, ffn) = (ws.states.rows(), compute.team.threads(), ws.inner.cols());
    let (share, at_once) = (rows.div_ceil(threads), FFN_ROWS / threads);
    // By step: what each thread has of it, and where that begins.
    let mut steps: Vec<Vec<_>> = (0..share.div_ceil(at_once)).map(|_| Vec::new()).collect();
    let mut below = ws.branch.view_mut();
    for first in (0..rows).step_by(share) {
        let end = rows.min(first + share);
        for (step, row) in steps.iter_mut().zip((first..end).step_by(at_once)) {
            let (branch, rest) = below.split_rows(at_once.min(end - row));
            step.push((row, branch));
            below = rest;
        }
    }
    for step in steps {
        ws.inner.reshape(step.iter().map(|(_, branch)| branch.rows()).sum(), ffn);
        let (mut tasks, mut inner) = (Vec::new(), ws.inner.view_mut());
        for (row, branch) in &step {
            let (own, rest) = inner.split_rows(branch.rows());
            let x = states.rows_from(*row, own.rows());
            tasks.extend(LinearTask::of_one_thread(compute, x, &weights.ffn_in, own));
            inner = rest;
        }
        run_linear(compute, tasks, true);
        ws.inner_input.fill(compute, form, &ws.inner);
        let inner = ws.inner_input.input(form, &ws.inner);
        let (mut tasks, mut first) = (Vec::new(), 0);
        for (_, branch) in step {
            let x = inner.rows_from(first, branch.rows());
            first += branch.rows();
            tasks.extend(LinearTask::of_one_thread(compute, x, &weights.ffn_out, branch));
        }
        run_linear(compute, tasks, false);
    }
}
