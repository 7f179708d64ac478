use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use trivec_kernels::Block;

use super::{NotFinite, normalize};
use crate::compute::{Compute, LinearTask, run_linear};
use crate::embedding::TokenVectors;
use crate::tensor::{MatMut, Matrix};
use crate::weights::{Input, Linear};

/// ColBERT vectors of every text (its rows in `texts`, at least one), from the states `[tokens, hidden]`: `W_c h + b_c` of all tokens but `<s>`, each row
/// L2-normalised.
///
/// Source: FlagEmbedding `_colbert_embedding` and its loss of row 0; `</s>` is kept.
pub(crate) fn colbert(
    compute: Compute<'_>,
    head: &Linear,
    texts: &[Range<usize>],
    states: &Matrix,
) -> Vec<Result<TokenVectors, NotFinite>> {
    let dim = head.outputs;
    let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| vec![0.0; (text.len() - 1) * dim]).collect();
    let mut tasks = Vec::new();
    for (range, out) in texts.iter().zip(&mut vectors) {
        let rows = states.view().rows_from(range.start + 1, range.len() - 1);
        tasks.extend(LinearTask::cut(compute, Input::F32(rows), head, MatMut::dense(out, dim)));
    }
    run_linear(compute, tasks, false);
    // Of each text, the first row that is not finite.
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
                if !normalize(compute.kernels, block.view.row_mut(row)) {
                    broken.fetch_min(block.row + row, Ordering::Relaxed);
                }
            }
        },
    );
    // Row i belongs to token i + 1.
    let result = |(data, broken): (Vec<f32>, AtomicUsize)| match broken.into_inner() {
        usize::MAX => Ok(TokenVectors::new(data, dim)),
        row => Err(NotFinite { mode: "colbert", at: row + 1 }),
    };
    vectors.into_iter().zip(broken).map(result).collect()
}
