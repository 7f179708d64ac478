//! Who computes, and the matrix product as it is handed out: what the encoder and the heads share.

use trivec_kernels::{Block, Kernels, PANEL};

use crate::parallel::Team;
use crate::tensor::MatMut;
use crate::weights::{Input, Linear};

/// Who computes: the kernels that were chosen once, and the threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute<'a> {
    pub kernels: &'static Kernels,
    pub team: &'a Team,
}

/// Outputs of a task: enough work (25 MFLOP at 96 rows and a depth of 1,024) to hide the cost of handing it out, little
/// enough to share a single short text among threads.
const TASK_OUTPUTS: usize = 128;

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
    pub(crate) fn cut(compute: Compute<'_>, x: Input<'a>, linear: &'a Linear, out: MatMut<'a>) -> Vec<LinearTask<'a>> {
        let task_rows = compute.kernels.product_rows(x.row_bytes());
        let blocks = match out.rows().div_ceil(task_rows) {
            0 | 1 => shares(compute, out),
            // As equal as they can be: 512 rows are three of 171.
            n => {
                let rows = out.rows().div_ceil(n);
                out.into_blocks(rows, TASK_OUTPUTS)
            }
        };
        let task = |block: Block<'a>| LinearTask {
            x: x.rows_from(block.row, block.view.rows()),
            linear,
            first: block.col,
            out: block.view,
        };
        blocks.into_iter().map(task).collect()
    }
}

/// Blocks of all rows: an equal share of the outputs for every thread, cut into halves of what is left of it. Each thread has one stream
/// through memory and few tasks to take; the last ones are small, so that all threads end together.
fn shares<'a>(compute: Compute<'_>, out: MatMut<'a>) -> Vec<Block<'a>> {
    let share = out.cols().div_ceil(compute.team.threads()).next_multiple_of(PANEL);
    let rows = out.rows().max(1);
    let mut blocks = Vec::new();
    for Block { row, col, view } in out.into_blocks(rows, share) {
        let (mut right, mut at) = (view, 0);
        while right.cols() > 0 {
            let cols = right.cols().div_ceil(2).next_multiple_of(PANEL).min(right.cols());
            let (view, rest) = right.split_cols(cols);
            blocks.push(Block { row, col: col + at, view });
            at += cols;
            right = rest;
        }
    }
    blocks
}

/// Runs the tasks; with `gelu` that of each output is taken while it is near.
pub(crate) fn run_linear(compute: Compute<'_>, tasks: Vec<LinearTask<'_>>, gelu: bool) {
    compute.team.for_each(
        tasks,
        || (),
        |(), LinearTask { x, linear, first, out }| linear.product(compute.kernels, x, first, gelu, out),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Matrix;

    #[test]
    fn shares_cover_every_output_once() {
        for threads in [1, 2, 3, 5] {
            let team = Team::new(Some(threads)).unwrap();
            let compute = Compute { kernels: Kernels::best(), team: &team };
            for cols in (1..200).chain([1024, 4096, 4097]) {
                let mut out = Matrix::default();
                out.reshape(3, cols);
                let mut next = 0;
                for block in shares(compute, out.view_mut()) {
                    assert_eq!(
                        (block.row, block.view.rows(), block.col),
                        (0, 3, next),
                        "{cols} outputs, {threads} threads"
                    );
                    assert!(block.view.cols() > 0 && block.col.is_multiple_of(PANEL));
                    next += block.view.cols();
                }
                assert_eq!(next, cols);
            }
        }
    }
}
