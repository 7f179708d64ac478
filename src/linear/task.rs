//! Cuts a product into tasks for the threads.

use trivec_kernels::{Block, PANEL};

use super::product::Product;
use crate::compute::{Compute, rows_are_shared};
use crate::tensor::MatMut;

/// The part of a product `out = x Wᵀ + b` that one thread computes at a time: some rows and some outputs.
pub(crate) struct LinearTask<'a> {
    /// The product for the task's rows, with all outputs.
    product: Product<'a>,
    /// The first of the task's outputs.
    first: usize,
    /// The number of the share that the task belongs to. Tasks of several layers with the same number should run on the same thread.
    turn: usize,
    /// Where the results go: `[rows, outputs]` of this task alone.
    out: MatMut<'a>,
}

impl<'a> LinearTask<'a> {
    /// Cuts `out = x Wᵀ + b` into tasks, listed thread by thread: each thread gets a share of the rows if there are
    /// [enough](rows_are_shared), else a share of the outputs.
    pub(crate) fn cut(compute: Compute<'_>, product: Product<'a>, out: MatMut<'a>) -> Vec<LinearTask<'a>> {
        if !rows_are_shared(compute, out.rows()) {
            return Self::cut_outputs(compute, product, out);
        }
        let blocks = row_blocks(compute, &product, &out).next_multiple_of(compute.team.shares());
        Self::of_blocks(product, cut_shares(out, blocks, 1), |block| block.row)
    }

    /// Cuts the product into tasks, listed thread by thread: each thread gets a share of the outputs, however many rows there are.
    pub(crate) fn cut_outputs(compute: Compute<'_>, product: Product<'a>, out: MatMut<'a>) -> Vec<LinearTask<'a>> {
        let (blocks, threads) = (row_blocks(compute, &product, &out), compute.team.shares());
        let (rows, cols) = (out.rows().div_ceil(blocks).max(1), out.cols());
        if threads == 1 {
            return Self::of_blocks(product, out.into_blocks(rows, cols.max(1)), |_| 0);
        }
        if blocks > 1 && !rows_are_shared(compute, out.rows()) {
            // With so many rows there are enough tasks of a fixed size for all threads, and each is small enough to balance the load.
            return Self::of_blocks(product, out.into_blocks(rows, TASK_OUTPUTS), |block| block.row);
        }
        let share = share_of_outputs(&out, threads);
        Self::of_blocks(product, cut_shares(out, blocks, threads), |block| block.col / share)
    }

    /// Reorders the tasks of several layers over the same rows, so that the tasks of one turn follow each other.
    pub(crate) fn in_turns(mut tasks: Vec<LinearTask<'a>>) -> Vec<LinearTask<'a>> {
        tasks.sort_by_key(|task| task.turn);
        tasks
    }

    /// A task for each block of `out`; `turn` gives the number of its share.
    fn of_blocks(
        product: Product<'a>,
        blocks: Vec<Block<'a>>,
        turn: impl Fn(&Block<'a>) -> usize,
    ) -> Vec<LinearTask<'a>> {
        let task = |block: Block<'a>| LinearTask {
            product: product.rows_from(block.row, block.view.rows()),
            first: block.col,
            turn: turn(&block),
            out: block.view,
        };
        blocks.into_iter().map(task).collect()
    }
}

/// How many blocks of rows a product must be cut into at least, so that the input rows of a block stay in a cache.
fn row_blocks(compute: Compute<'_>, product: &Product<'_>, out: &MatMut<'_>) -> usize {
    out.rows().div_ceil(compute.kernels.product_rows(product.row_bytes())).max(1)
}

/// The number of outputs in each of `shares` shares: whole panels.
fn share_of_outputs(out: &MatMut<'_>, shares: usize) -> usize {
    out.cols().div_ceil(shares).next_multiple_of(PANEL)
}

/// Outputs of a task when all threads work on the same rows and there are many rows: enough work (25 MFLOP at 96 rows and a depth of 1,024)
/// to hide the cost of handing the task out, little enough to balance the load.
const TASK_OUTPUTS: usize = 128;

/// Cuts the outputs into `shares` equal shares, each share into `blocks` blocks of nearly as many rows each (512 rows in three blocks: 171,
/// 171 and 170), and each block by outputs into pieces, each of which is half of what remains of it. So a thread reads one stream of memory
/// in few tasks, and the last pieces are small, so that all threads finish together.
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

/// Runs the tasks. With `gelu`, GELU is applied to each output while it is still in a register or cache.
pub(crate) fn run_linear(compute: Compute<'_>, tasks: Vec<LinearTask<'_>>, gelu: bool) {
    compute.team.for_each(
        tasks,
        |_| (),
        |(), LinearTask { product, first, out, .. }| product.compute(compute.kernels, first, gelu, out),
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
    fn blocks_are_listed_share_by_share() {
        let mut out = Matrix::default();
        out.reshape(65, 1024);
        // One share in two blocks of rows: 33 and 32 rows, cut into equally many pieces. Then two shares of 512 outputs.
        let rows: Vec<usize> = cut_shares(out.view_mut(), 2, 1).iter().map(|block| block.row).collect();
        let (first, second) = rows.split_at(rows.len() / 2);
        assert!(first.iter().all(|&row| row == 0) && second.iter().all(|&row| row == 33), "{rows:?}");
        let cols: Vec<usize> = cut_shares(out.view_mut(), 3, 2).iter().map(|block| block.col).collect();
        let (first, second) = cols.split_at(cols.len() / 2);
        assert!(first.iter().all(|&col| col < 512) && second.iter().all(|&col| col >= 512), "{cols:?}");
    }
}
