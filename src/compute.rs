//! Who computes, and the matrix product as it is handed out: what the encoder and the heads share.

use trivec_kernels::{Block, Isa, Kernels, PANEL};

use crate::parallel::Team;
use crate::tensor::MatMut;
use crate::weights::{Input, Linear};

/// Who computes: the kernels that were chosen once, and the threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute<'a> {
    pub kernels: &'static Kernels,
    pub team: &'a Team,
}

impl<'a> Compute<'a> {
    /// This thread alone.
    pub(crate) fn alone(self) -> Compute<'a> {
        Compute { team: Team::alone(), ..self }
    }
}

/// `out = x Wᵀ + b` for some rows and outputs.
pub(crate) struct LinearTask<'a> {
    /// `[rows, inputs]`
    x: Input<'a>,
    linear: &'a Linear,
    /// First output.
    first: usize,
    /// Tasks of several layers in the same turn are wanted by the same thread.
    turn: usize,
    /// `[rows, outputs]`
    out: MatMut<'a>,
}

impl<'a> LinearTask<'a> {
    /// The tasks of `out = x Wᵀ + b` over all outputs of `linear`, a share for each thread after the other's: of the rows if they are
    /// [enough](rows_are_shared), else of the outputs.
    pub(crate) fn cut(compute: Compute<'_>, x: Input<'a>, linear: &'a Linear, out: MatMut<'a>) -> Vec<LinearTask<'a>> {
        if !rows_are_shared(compute, out.rows()) {
            return Self::cut_outputs(compute, x, linear, out);
        }
        let blocks = row_blocks(compute, x, &out).next_multiple_of(compute.team.shares());
        Self::of_blocks(x, linear, cut_shares(out, blocks, 1), |block| block.row)
    }

    /// A share of the outputs for each thread after the other's, however many rows there are.
    pub(crate) fn cut_outputs(
        compute: Compute<'_>,
        x: Input<'a>,
        linear: &'a Linear,
        out: MatMut<'a>,
    ) -> Vec<LinearTask<'a>> {
        let (blocks, threads) = (row_blocks(compute, x, &out), compute.team.shares());
        let (rows, cols) = (out.rows().div_ceil(blocks).max(1), out.cols());
        if threads == 1 {
            return Self::of_blocks(x, linear, out.into_blocks(rows, cols.max(1)), |_| 0);
        }
        if blocks > 1 && !rows_are_shared(compute, out.rows()) {
            // Enough for all, and small enough to be shared.
            return Self::of_blocks(x, linear, out.into_blocks(rows, TASK_OUTPUTS), |block| block.row);
        }
        let share = share_of_outputs(&out, threads);
        Self::of_blocks(x, linear, cut_shares(out, blocks, threads), |block| block.col / share)
    }

    /// The tasks of several layers over the same rows, all of a turn after each other.
    pub(crate) fn in_turns(mut tasks: Vec<LinearTask<'a>>) -> Vec<LinearTask<'a>> {
        tasks.sort_by_key(|task| task.turn);
        tasks
    }

    fn of_blocks(
        x: Input<'a>,
        linear: &'a Linear,
        blocks: Vec<Block<'a>>,
        turn: impl Fn(&Block<'a>) -> usize,
    ) -> Vec<LinearTask<'a>> {
        let task = |block: Block<'a>| LinearTask {
            x: x.rows_from(block.row, block.view.rows()),
            linear,
            first: block.col,
            turn: turn(&block),
            out: block.view,
        };
        blocks.into_iter().map(task).collect()
    }
}

/// Into how many blocks of rows a product is cut, at least: as many as stay in a cache each.
fn row_blocks(compute: Compute<'_>, x: Input<'_>, out: &MatMut<'_>) -> usize {
    out.rows().div_ceil(compute.kernels.product_rows(x.row_bytes())).max(1)
}

/// Outputs of a thread: whole panels.
fn share_of_outputs(out: &MatMut<'_>, shares: usize) -> usize {
    out.cols().div_ceil(shares).next_multiple_of(PANEL)
}

/// Outputs of a task of many rows that all threads share: enough work (25 MFLOP at 96 rows and a depth of 1,024) to hide the cost of handing it out,
/// little enough to share.
const TASK_OUTPUTS: usize = 128;

/// Fewest rows of a thread, for each thread there is, that make it worth that every thread reads all weights: memory has to bring them for all of
/// them in the time that the rows' products take.
const ROWS_A_THREAD: usize = 16;

/// Whether each thread has rows of its own in all linear layers. What it has written then stays in its caches until the next layer, where
/// it would else be fetched from the other threads'. Not with matrix registers, by which the products of as many rows take an eighth of the time.
///
/// Measured on two cores of a Zen 4, rows against outputs, whole passes of BGE-M3's shape: 32 tokens 0.96 to 1.00 times as fast, 64 1.00 to 1.05, 128
/// 1.03 to 1.04, 512 1.02, 8 texts of 128 1.02 to 1.03.
pub(crate) fn rows_are_shared(compute: Compute<'_>, rows: usize) -> bool {
    let threads = compute.team.shares();
    threads > 1 && rows >= ROWS_A_THREAD * threads * threads && compute.kernels.isa() != Isa::Amx
}

/// Equal shares of the outputs, each in so many blocks of rows, as equal as they can be (512 rows are three of 171), each cut into halves of what is
/// left of it. A thread has one stream through memory and few tasks to take; the last ones are small, so that all threads end together.
fn cut_shares(out: MatMut<'_>, blocks: usize, shares: usize) -> Vec<Block<'_>> {
    let (rows, share) = (out.rows().div_ceil(blocks).max(1), share_of_outputs(&out, shares));
    let (mut cut, mut all, mut from) = (Vec::new(), out, 0);
    while all.cols() > 0 {
        let width = share.min(all.cols());
        let (own, rest) = all.split_cols(width);
        for Block { row, view, .. } in own.into_blocks(rows, width) {
            let (mut right, mut col) = (view, from);
            while right.cols() > 0 {
                let cols = right.cols().div_ceil(2).next_multiple_of(PANEL).min(right.cols());
                let (view, rest) = right.split_cols(cols);
                cut.push(Block { row, col, view });
                col += cols;
                right = rest;
            }
        }
        from += width;
        all = rest;
    }
    cut
}

/// Runs the tasks; with `gelu` that of each output is taken while it is near.
pub(crate) fn run_linear(compute: Compute<'_>, tasks: Vec<LinearTask<'_>>, gelu: bool) {
    compute.team.for_each(
        tasks,
        |_| (),
        |(), LinearTask { x, linear, first, out, .. }| linear.product(compute.kernels, x, first, gelu, out),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Matrix;

    #[test]
    fn shares_cover_every_output_once() {
        for (rows, blocks, shares) in [(3, 1, 1), (3, 1, 2), (3, 1, 5), (7, 2, 1), (96, 4, 3), (9, 4, 1)] {
            for cols in (1..200).chain([1024, 4096, 4097]) {
                let mut out = Matrix::default();
                out.reshape(rows, cols);
                let mut seen = vec![0; rows];
                for block in cut_shares(out.view_mut(), blocks, shares) {
                    let own = block.row..block.row + block.view.rows();
                    assert!(block.view.cols() > 0 && block.col.is_multiple_of(PANEL));
                    assert!(seen[own.clone()].iter().all(|&seen| seen == block.col), "{rows} rows, {cols} outputs");
                    seen[own].fill(block.col + block.view.cols());
                }
                assert!(seen.iter().all(|&seen| seen == cols), "{rows} rows in {blocks}, {cols} outputs in {shares}");
            }
        }
    }

    #[test]
    fn each_thread_has_its_own() {
        let mut out = Matrix::default();
        out.reshape(65, 1024);
        // A thread takes an equal number of tasks.
        let rows: Vec<usize> = cut_shares(out.view_mut(), 2, 1).iter().map(|block| block.row).collect();
        let (first, second) = rows.split_at(rows.len() / 2);
        assert!(first.iter().all(|&row| row == 0) && second.iter().all(|&row| row == 33), "{rows:?}");
        let cols: Vec<usize> = cut_shares(out.view_mut(), 3, 2).iter().map(|block| block.col).collect();
        let (first, second) = cols.split_at(cols.len() / 2);
        assert!(first.iter().all(|&col| col < 512) && second.iter().all(|&col| col >= 512), "{cols:?}");
    }
}
