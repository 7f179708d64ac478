//! Who computes, and the matrix product as it is handed out: what the encoder and the heads share.

use trivec_kernels::{Kernels, PANEL};

use crate::parallel::Team;
use crate::tensor::MatMut;
use crate::weights::{Input, Linear};

/// Who computes: the kernels that were chosen once, and the threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute<'a> {
    pub kernels: &'static Kernels,
    pub team: &'a Team,
}

/// Rows of a task: sixteen register tiles of f32, eight of int8; the block of states (96 x 4 KB at a depth of 1,024) stays in the
/// second-level cache.
const TASK_ROWS: usize = 96;
/// Outputs of a task: enough work (25 MFLOP at 96 rows and a depth of 1,024) to hide the cost of handing it out, little
/// enough to share a single short text among threads.
const TASK_OUTPUTS: usize = 128;
/// Outputs of a task of few rows, where the time is that of reading the weights: 64 KB to 256 KB of them.
const TASK_OUTPUTS_FEW_ROWS: usize = 2 * PANEL;
/// Up to so many rows are few.
const FEW_ROWS: usize = 32;

/// `out = x Wᵀ + b` for some rows and outputs.
pub(crate) struct LinearTask<'a> {
    /// `[rows, inputs]`
    x: Input<'a>,
    linear: &'a Linear,
    /// First output.
    first: usize,
    /// `[rows, outputs]`
    out: MatMut<'a>,
}

impl<'a> LinearTask<'a> {
    /// The tasks of `out = x Wᵀ + b` over all outputs of `linear`.
    pub(crate) fn cut(x: Input<'a>, linear: &'a Linear, out: MatMut<'a>) -> impl Iterator<Item = LinearTask<'a>> {
        let outputs = if out.rows() <= FEW_ROWS { TASK_OUTPUTS_FEW_ROWS } else { TASK_OUTPUTS };
        out.into_blocks(TASK_ROWS, outputs).into_iter().map(move |block| LinearTask {
            x: x.rows_from(block.row, block.view.rows()),
            linear,
            first: block.col,
            out: block.view,
        })
    }
}

/// Runs the tasks; `after` sees each finished row of a block while it is still in the cache.
pub(crate) fn run_linear(compute: Compute<'_>, tasks: Vec<LinearTask<'_>>, after: impl Fn(&mut [f32]) + Sync + Send) {
    compute.team.for_each(
        tasks,
        || (),
        |(), LinearTask { x, linear, first, mut out }| {
            linear.product(compute.kernels, x, first, out.reborrow());
            (0..out.rows()).for_each(|row| after(out.row_mut(row)));
        },
    );
}
