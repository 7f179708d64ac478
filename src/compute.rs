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

/// Rows of a task: thirty-two register tiles of f32, sixteen of int8. A block of bytes (192 x 4 KB at a depth of 4,096) stays in the
/// second-level cache beside a panel of weights; more rows would not, fewer would read the weights more often.
const TASK_ROWS: usize = 192;
/// Outputs of a task: enough work (25 MFLOP at 96 rows and a depth of 1,024) to hide the cost of handing it out, little
/// enough to share a single short text among threads.
const TASK_OUTPUTS: usize = 64;
/// Fewest outputs of a task of few rows, where the time is that of reading the weights: 64 KB to 256 KB of them.
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
    pub(crate) fn cut(compute: Compute<'_>, x: Input<'a>, linear: &'a Linear, out: MatMut<'a>) -> Vec<LinearTask<'a>> {
        let blocks =
            if out.rows() <= FEW_ROWS { shrinking(compute, out) } else { out.into_blocks(TASK_ROWS, TASK_OUTPUTS) };
        let task = |block: Block<'a>| LinearTask {
            x: x.rows_from(block.row, block.view.rows()),
            linear,
            first: block.col,
            out: block.view,
        };
        blocks.into_iter().map(task).collect()
    }
}

/// Blocks of few rows, each a third of a thread's share of what is left: long streams through memory first, then ever shorter ones, so that
/// all threads end together.
fn shrinking<'a>(compute: Compute<'_>, out: MatMut<'a>) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    let (mut right, mut col) = (out, 0);
    while right.cols() > 0 {
        let share = (right.cols() / (3 * compute.team.threads())).next_multiple_of(PANEL);
        let cols = share.max(TASK_OUTPUTS_FEW_ROWS).min(right.cols());
        let (view, rest) = right.split_cols(cols);
        blocks.push(Block { row: 0, col, view });
        col += cols;
        right = rest;
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
