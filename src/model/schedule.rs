//! Decides which threads compute which rows in the steps of a layer that treat each token by itself: all steps after attention.

use super::observe::Watch;
use super::workspace::{RowScratch, Workspace};
use crate::compute::{Compute, rows_are_shared, rows_of_a_task};
use crate::linear::InputRows;
use crate::tensor::{MatRef, RowsMut};
use crate::weights::InputForm;

/// The most rows that a thread takes through all steps after attention at a time: as many as a product without matrix registers computes at
/// once. So the buffers between the steps (16 KB a row between the feed-forward layers of BGE-M3) stay bounded, and no step waits for
/// another thread (kernels/EXPERIMENTS.md).
const ROWS_AT_ONCE: usize = 192;

/// Rows that go through the steps after attention together: all rows, computed by all threads, or a block of rows, computed by one thread.
pub(super) struct Share<'a> {
    /// The threads that compute these rows.
    pub compute: Compute<'a>,
    /// `[rows, hidden]`: the outputs of the attention heads.
    pub context: MatRef<'a>,
    /// `[rows, hidden]`: the layer's input states, which its output states replace.
    pub states: RowsMut<'a>,
    pub scratch: &'a mut RowScratch,
    pub next: NextInput<'a>,
    pub observer: &'a Watch,
}

/// Where the finished states are written in the form that the following layer needs: in blocks of `block` rows.
pub(super) struct NextInput<'a> {
    pub form: &'a InputForm,
    pub rows: Vec<InputRows<'a>>,
    pub block: usize,
}

/// Takes all rows of the workspace's states through `steps`, share by share; `next` is the form in which the following layer needs them.
pub(super) fn for_each_share(
    compute: Compute<'_>,
    next: &InputForm,
    ws: &mut Workspace,
    steps: impl Fn(&mut Share<'_>) + Sync + Send,
) {
    let Workspace { states, input, context, together, scratch, observer, .. } = ws;
    let (rows, hidden, threads) = (states.rows(), states.cols(), compute.team.threads());
    let (context, observer) = (context.view(), &*observer);
    // An observer has to be shown all tokens in order, so the rows are not divided then.
    if observer.is_some() || !rows_are_shared(compute, rows) {
        let block = rows_of_a_task(compute, rows);
        let next = NextInput { form: next, rows: input.blocks_mut(next, rows, hidden, block), block };
        return steps(&mut Share { compute, context, states: states.rows_mut(), scratch: together, next, observer });
    }
    // Each task takes a block of rows through all steps on one thread.
    let share = rows.div_ceil(threads);
    let block = share.div_ceil(share.div_ceil(ROWS_AT_ONCE));
    let inputs = input.blocks_mut(next, rows, hidden, block);
    let tasks = states.rows_mut().into_blocks(block).zip(inputs).collect();
    compute.team.for_each(
        tasks,
        |thread| scratch.take(thread),
        |scratch, ((first, states), input)| {
            let context = context.rows_from(first, states.rows());
            let next = NextInput { form: next, rows: vec![input], block };
            steps(&mut Share { compute: compute.alone(), context, states, scratch, next, observer });
        },
    );
}
