//! Add & norm: the residual connection and the layer normalisation after it.

use super::schedule::Share;
use super::workspace::RowScratch;
use crate::compute::rows_of_a_task;
use crate::linear::InputRows;
use crate::weights::{InputForm, Norm};

/// Which layer reads the normalised states next. It decides in which form they are written a second time, next to the f32 states.
pub(super) enum Reader<'a> {
    /// The next step of this encoder layer, in this form.
    ThisLayer(&'a InputForm),
    /// The following encoder layer, in the form of [`Share::next`].
    NextLayer,
}

/// `states ← LayerNorm(states + branch)` (Vaswani et al. 2017, §3.1). Also writes each row in the form that the `reader` needs, while the
/// row is still in the cache.
pub(super) fn add_and_norm(share: &mut Share<'_>, norm: &Norm, eps: f32, reader: Reader<'_>) {
    let Share { compute, states, scratch, next, .. } = share;
    let (compute, states) = (*compute, states.view_mut());
    let (rows, hidden) = (states.rows(), states.cols());
    let RowScratch { input, branch, .. } = &mut **scratch;
    let (form, block, inputs): (&InputForm, usize, Vec<InputRows<'_>>) = match reader {
        Reader::ThisLayer(form) => {
            let block = rows_of_a_task(compute, rows);
            (form, block, input.blocks_mut(form, rows, hidden, block))
        }
        Reader::NextLayer => (next.form, next.block, std::mem::take(&mut next.rows)),
    };
    let branch = branch.view();
    let tasks = states.into_blocks(block, hidden).into_iter().zip(inputs).collect();
    compute.team.for_each(
        tasks,
        |_| vec![0.0; hidden],
        |scratch, (mut states, mut input)| {
            for row in 0..states.view.rows() {
                let state = states.view.row_mut(row);
                let branch = branch.row(states.row + row);
                compute.kernels.add_layer_norm(state, branch, norm.gain(), norm.bias(), eps);
                input.write(compute, form, row, state, scratch);
            }
        },
    );
}
