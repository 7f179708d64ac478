//! Who computes, and the matrix product as it is handed out: what the encoder and the heads share.

use trivec_kernels::Kernels;

use crate::parallel::Team;
use crate::tensor::{MatMut, MatRef};
use crate::weights::Linear;

/// Who computes: the kernels that were chosen once, and the threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute<'a> {
    pub kernels: &'static Kernels,
    pub team: &'a Team,
}

/// Rows of a task: sixteen register tiles; the block of states (96 x 4 KB at a depth of 1,024) stays in the second-level cache.
const TASK_ROWS: usize = 96;
/// Outputs of a task: enough work (25 MFLOP at 96 rows and a depth of 1,024) to hide the cost of handing it out, little
/// enough to share a single short text among threads.
const TASK_OUTPUTS: usize = 128;

/// `out = x Wᵀ + b` for some rows and outputs.
pub(crate) struct LinearTask<'a> {
    /// `[rows, inputs]`
    x: MatRef<'a>,
    /// `[outputs, inputs]`
    weight: MatRef<'a>,
    /// `[outputs]`
    bias: Option<&'a [f32]>,
    /// `[rows, outputs]`
    out: MatMut<'a>,
}

impl<'a> LinearTask<'a> {
    /// The tasks of `out = x Wᵀ + b` over outputs `from ..` of `linear`, as many as `out` has columns.
    pub(crate) fn cut(
        x: MatRef<'a>,
        linear: &'a Linear,
        from: usize,
        out: MatMut<'a>,
    ) -> impl Iterator<Item = LinearTask<'a>> {
        out.into_blocks(TASK_ROWS, TASK_OUTPUTS).into_iter().map(move |block| {
            let (rows, outputs) = (block.view.rows(), block.view.cols());
            let first = from + block.col;
            LinearTask {
                x: x.rows_from(block.row, rows),
                weight: linear.weight().rows_from(first, outputs),
                bias: linear.bias().map(|bias| &bias[first..first + outputs]),
                out: block.view,
            }
        })
    }
}

/// Runs the tasks; `after` sees each finished block while it is still in the cache.
pub(crate) fn run_linear(compute: Compute<'_>, tasks: Vec<LinearTask<'_>>, after: impl Fn(&mut [f32]) + Sync + Send) {
    compute.team.for_each(
        tasks,
        || (),
        |(), LinearTask { x, weight, bias, mut out }| {
            compute.kernels.linear(x, weight, bias, out.reborrow());
            (0..out.rows()).for_each(|row| after(out.row_mut(row)));
        },
    );
}
