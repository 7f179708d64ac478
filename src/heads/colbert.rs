use std::ops::Range;

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
) -> Vec<TokenVectors> {
    let dim = head.outputs;
    let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| vec![0.0; (text.len() - 1) * dim]).collect();
    let mut tasks = Vec::new();
    for (range, out) in texts.iter().zip(&mut vectors) {
        let rows = states.view().rows_from(range.start + 1, range.len() - 1);
        tasks.extend(LinearTask::cut(compute, Input::F32(rows), head, MatMut::dense(out, dim)));
    }
    run_linear(compute, tasks, false);
    let rows = vectors.iter_mut().flat_map(|text| MatMut::dense(text, dim).into_blocks(64, dim)).collect();
    compute.team.for_each(
        rows,
        |_| (),
        |(), mut block| (0..block.view.rows()).for_each(|row| compute.kernels.l2_normalize(block.view.row_mut(row))),
    );
    vectors.into_iter().map(|data| TokenVectors::new(data, dim)).collect()
}
