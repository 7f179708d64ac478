//! The ColBERT head: one vector for every token but `<s>`.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use trivec_kernels::Block;

use super::finite::{NotFinite, normalize};
use crate::compute::Compute;
use crate::embedding::TokenVectors;
use crate::linear::{LinearTask, Product, run_linear};
use crate::tensor::{MatMut, Matrix};
use crate::weights::FloatLinear;

/// How ColBERT vectors are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColbertHead<'a> {
    pub linear: &'a FloatLinear,
    /// How many of each vector's first values to keep, at most as many as `linear` gives; `None`: all.
    pub dimensions: Option<usize>,
    /// Whether the vectors are left as they are, instead of being L2-normalised.
    pub raw: bool,
}

/// The ColBERT vectors of every text from the states `[tokens, hidden]`, in which `texts` says where each text's rows are (at least one).
/// They are `W_c h + b_c` of all tokens but `<s>`; each vector is cut to [`ColbertHead::dimensions`], then L2-normalised.
///
/// Source: FlagEmbedding `_colbert_embedding`, which also leaves out row 0 (`<s>`) and keeps `</s>`.
pub(crate) fn colbert(
    compute: Compute<'_>,
    head: &ColbertHead<'_>,
    texts: &[Range<usize>],
    states: &Matrix,
) -> Vec<Result<TokenVectors, NotFinite>> {
    let dim = head.linear.outputs;
    let kept = head.dimensions.unwrap_or(dim).min(dim);
    let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| vec![0.0; (text.len() - 1) * dim]).collect();
    let mut tasks = Vec::new();
    for (range, out) in texts.iter().zip(&mut vectors) {
        let rows = states.view().rows_from(range.start + 1, range.len() - 1);
        tasks.extend(LinearTask::cut(compute, Product::of_head(head.linear, rows), MatMut::dense(out, dim)));
    }
    run_linear(compute, tasks, false);
    // For each text, the first row that is not finite; `usize::MAX` if all are finite.
    let broken: Vec<AtomicUsize> = texts.iter().map(|_| AtomicUsize::new(usize::MAX)).collect();
    let mut rows: Vec<(Block<'_>, &AtomicUsize)> = Vec::new();
    for (text, broken) in vectors.iter_mut().zip(&broken) {
        rows.extend(MatMut::dense(text, dim).into_blocks(64, dim).into_iter().map(|block| (block, broken)));
    }
    compute.team.for_each(
        rows,
        |_| (),
        |(), (mut block, broken)| {
            for row in 0..block.view.rows() {
                let vector = &mut block.view.row_mut(row)[..kept];
                let finite = match head.raw {
                    true => vector.iter().all(|x| x.is_finite()),
                    false => normalize(compute.kernels, vector),
                };
                if !finite {
                    broken.fetch_min(block.row + row, Ordering::Relaxed);
                }
            }
        },
    );
    // Row i is the vector of token i + 1, because `<s>` has none.
    let result = |(data, broken): (Vec<f32>, AtomicUsize)| match broken.into_inner() {
        usize::MAX => Ok(TokenVectors::new(leading(data, dim, kept), kept)),
        row => Err(NotFinite { mode: "colbert", at: row + 1 }),
    };
    vectors.into_iter().zip(broken).map(result).collect()
}

/// Cuts every row of `dim` values to its first `kept`.
fn leading(mut rows: Vec<f32>, dim: usize, kept: usize) -> Vec<f32> {
    if kept < dim {
        let count = rows.len() / dim;
        (0..count).for_each(|row| rows.copy_within(row * dim..row * dim + kept, row * kept));
        rows.truncate(count * kept);
        rows.shrink_to_fit();
    }
    rows
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_leading_values_of_every_row_are_kept() {
        let rows: Vec<f32> = (0..12u8).map(f32::from).collect();
        assert_eq!(super::leading(rows.clone(), 4, 4), rows);
        assert_eq!(super::leading(rows.clone(), 4, 3), [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 9.0, 10.0]);
        assert_eq!(super::leading(rows, 4, 1), [0.0, 4.0, 8.0]);
        assert!(super::leading(Vec::new(), 4, 2).is_empty());
    }
}
