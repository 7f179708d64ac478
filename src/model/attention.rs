//! Multi-head self-attention inside each text.

use super::encoder::TextBatch;
use super::workspace::{Workspace, attention_shape};
use crate::compute::{Compute, LinearTask, run_linear};
use crate::config::ModelConfig;
use crate::tensor::{MatMut, MatRef};
use crate::weights::LayerWeights;
use trivec_kernels::{AttentionShape, QUERY_BLOCK};

/// `branch ← Concat(softmax(Q Kᵀ / √head_dim) V) W_o + b_o` (Vaswani et al. 2017, §3.2), text by text.
pub(crate) fn attention(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights,
    batch: &TextBatch,
    ws: &mut Workspace,
) {
    project(compute, config, weights, ws);
    pack_keys(compute, config, batch, ws);
    attend(compute, config, batch, ws);
    let tasks = LinearTask::cut(ws.context.view(), &weights.attention_output, 0, ws.branch.view_mut()).collect();
    run_linear(compute, tasks, |_| ());
}

/// Queries, keys and values of all heads.
fn project(compute: Compute<'_>, config: &ModelConfig, weights: &LayerWeights, ws: &mut Workspace) {
    let states = ws.states.view();
    let mut tasks = Vec::new();
    let projections =
        [(&weights.query, &mut ws.queries), (&weights.key, &mut ws.keys), (&weights.value, &mut ws.values)];
    for (linear, panels) in projections {
        for (head, panel) in panels.heads_mut().enumerate() {
            tasks.extend(LinearTask::cut(states, linear, head * config.head_dim(), panel));
        }
    }
    run_linear(compute, tasks, |_| ());
}

/// One head of one text: the keys it owns in the packed buffer.
struct HeadOfText<'a> {
    head: usize,
    /// First token of the text in the batch.
    from: usize,
    shape: AttentionShape,
    packed: &'a mut [f32],
}

impl HeadOfText<'_> {
    /// The text's rows in a head's panel.
    fn rows<'p>(&self, panel: &'p [f32]) -> MatRef<'p> {
        MatRef::dense(panel, self.shape.head_dim).rows_from(self.from, self.shape.tokens)
    }
}

fn pack_keys(compute: Compute<'_>, config: &ModelConfig, batch: &TextBatch, ws: &mut Workspace) {
    let mut tasks = Vec::new();
    let mut rest = ws.packed_keys.as_mut_slice();
    for text in batch.ranges() {
        let shape = attention_shape(config, text.len());
        for head in 0..config.heads {
            let (packed, tail) = rest.split_at_mut(shape.packed_keys_len());
            tasks.push(HeadOfText { head, from: text.start, shape, packed });
            rest = tail;
        }
    }
    let keys = &ws.keys;
    compute.team.for_each(
        tasks,
        || (),
        |(), task| compute.kernels.pack_keys(task.rows(keys.head(task.head)), task.packed),
    );
}

/// A block of queries of one head of one text.
struct QueryBlock<'a> {
    head: usize,
    text: std::ops::Range<usize>,
    /// First query of the block in the text.
    first: usize,
    packed_keys: &'a [f32],
    out: MatMut<'a>,
}

fn attend(compute: Compute<'_>, config: &ModelConfig, batch: &TextBatch, ws: &mut Workspace) {
    let head_dim = config.head_dim();
    let mut tasks = Vec::new();
    let mut packed_keys = ws.packed_keys.as_slice();
    let mut below = ws.context.view_mut();
    for text in batch.ranges() {
        let shape = attention_shape(config, text.len());
        let (of_text, rest) = packed_keys.split_at(shape.packed_keys_len() * config.heads);
        let (context, others) = below.split_rows(text.len());
        for block in context.into_blocks(QUERY_BLOCK, head_dim) {
            let head = block.col / head_dim;
            let packed_keys = &of_text[head * shape.packed_keys_len()..][..shape.packed_keys_len()];
            tasks.push(QueryBlock { head, text: text.clone(), first: block.row, packed_keys, out: block.view });
        }
        (packed_keys, below) = (rest, others);
    }
    let (queries, values) = (&ws.queries, &ws.values);
    compute.team.for_each(
        tasks,
        || vec![0.0; attention_shape(config, 0).scratch_len()],
        |scratch, QueryBlock { head, text, first, packed_keys, out }| {
            let shape = attention_shape(config, text.len());
            let panel = |panel| MatRef::dense(panel, head_dim);
            let q = panel(queries.head(head)).rows_from(text.start + first, out.rows());
            let v = panel(values.head(head)).rows_from(text.start, text.len());
            compute.kernels.attend(shape, q, packed_keys, v, scratch, out);
        },
    );
}
