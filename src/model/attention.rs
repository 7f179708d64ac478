//! Multi-head self-attention inside each text.

use std::ops::Range;

use trivec_kernels::{AttentionShape, Block, IntKeyValues, IntScratch, QUERY_BLOCK};

use super::batch::{TextBatch, Wanted};
use super::observe::show;
use super::schedule::Share;
use super::workspace::{HeadScratch, RowScratch, Workspace, attention_shape};
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::linear::{LinearTask, run_linear};
use crate::tensor::{MatMut, MatRef, Matrix};
use crate::weights::{LayerWeights, Linear, Site};

/// `context ← Concat(softmax(Q Kᵀ / √head_dim) V)` (Vaswani et al. 2017, §3.2), for each text by itself. `ws.input` must hold the states in
/// the form that the projections need.
///
/// If only each text's first token is wanted, `ws.states` is cut to these tokens' rows, and only keys and values are computed for the other
/// tokens.
pub(crate) fn attention(
    compute: Compute<'_>,
    config: &ModelConfig,
    (index, weights): (usize, &LayerWeights),
    batch: &TextBatch,
    wanted: Wanted,
    ws: &mut Workspace,
) {
    show(&ws.observer, compute.team, (index, Site::Attention), ws.states.view());
    project(compute, weights, batch, wanted, ws);
    if weights.query.format().is_int() {
        attend_int(compute, config, batch, wanted, ws);
    } else {
        attend(compute, config, batch, wanted, ws);
    }
    show(&ws.observer, compute.team, (index, Site::AttentionOutput), ws.context.view());
}

/// `branch ← Concat(heads) W_o + b_o`
pub(super) fn project_context(share: &mut Share<'_>, output: &Linear) {
    let Share { compute, context, scratch, .. } = share;
    let (compute, context) = (*compute, *context);
    let RowScratch { input, branch, .. } = &mut **scratch;
    branch.reshape(context.rows(), context.cols());
    input.fill(compute, output.input(), context);
    let product = input.product(output, context);
    run_linear(compute, LinearTask::cut(compute, product, branch.view_mut()), false);
}

/// Computes the queries, keys and values of all heads. If only first tokens are wanted, cuts `ws.states` to their rows before the queries.
fn project(compute: Compute<'_>, weights: &LayerWeights, batch: &TextBatch, wanted: Wanted, ws: &mut Workspace) {
    // Each thread should project what it will need for attention. That is whole texts (a share of the rows) if there are enough texts for
    // all threads, else whole heads (a share of the outputs).
    let cut = match batch.ranges().count() >= compute.team.threads() {
        true => LinearTask::cut,
        false => LinearTask::cut_outputs,
    };
    // Queries, keys and values have the same input, so it is prepared once for all three.
    let Workspace { input, states, queries, keys, values, context, .. } = ws;
    let mut tasks = cut(compute, input.product(&weights.key, states.view()), keys.view_mut());
    tasks.extend(cut(compute, input.product(&weights.value, states.view()), values.view_mut()));
    if wanted == Wanted::AllTokens {
        tasks.extend(cut(compute, input.product(&weights.query, states.view()), queries.view_mut()));
    }
    run_linear(compute, LinearTask::in_turns(tasks), false);
    if wanted == Wanted::FirstTokens {
        let (texts, hidden) = (batch.ranges().count(), states.cols());
        states.keep_rows(batch.ranges().map(|range| range.start));
        for matrix in [&mut *queries, context] {
            matrix.reshape(texts, hidden);
        }
        input.fill(compute, weights.query.input(), states.view());
        let product = input.product(&weights.query, states.view());
        run_linear(compute, LinearTask::cut(compute, product, queries.view_mut()), false);
    }
}

/// The columns of head `head` in the rows `rows` of a matrix `[tokens, hidden]`.
fn head_of(matrix: &Matrix, head: usize, head_dim: usize, rows: Range<usize>) -> MatRef<'_> {
    let stride = matrix.stride();
    MatRef::new(&matrix.as_slice()[rows.start * stride + head * head_dim..], rows.len(), head_dim, stride)
}

/// Where a text's rows are: `tokens` in keys and values, `queries` in queries and context.
struct TextRows {
    tokens: Range<usize>,
    queries: Range<usize>,
}

/// The rows of every text of the batch.
fn texts(batch: &TextBatch, wanted: Wanted) -> Vec<TextRows> {
    let rows = |(text, tokens): (usize, Range<usize>)| match wanted {
        Wanted::AllTokens => TextRows { queries: tokens.clone(), tokens },
        Wanted::FirstTokens => TextRows { tokens, queries: text..text + 1 },
    };
    batch.ranges().enumerate().map(rows).collect()
}

/// Cuts the context into blocks of at most `rows` rows of one text and one head. Returns each with the number of its text.
fn context_blocks<'a>(
    texts: &[TextRows],
    head_dim: usize,
    rows: usize,
    context: &'a mut Matrix,
) -> Vec<(usize, Block<'a>)> {
    let mut blocks = Vec::new();
    let mut below = context.view_mut();
    for (text, TextRows { queries, .. }) in texts.iter().enumerate() {
        let (context, others) = below.split_rows(queries.len());
        blocks.extend(context.into_blocks(rows, head_dim).into_iter().map(|block| (text, block)));
        below = others;
    }
    blocks
}

/// The most tokens of a text for which one task computes the whole attention of a head.
const SHORT_TEXT: usize = 1024;

/// Attention with integer products, for layers with int8 and int4 weights.
fn attend_int(compute: Compute<'_>, config: &ModelConfig, batch: &TextBatch, wanted: Wanted, ws: &mut Workspace) {
    let (head_dim, texts) = (config.head_dim(), texts(batch, wanted));
    let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
    if longest <= SHORT_TEXT && texts.len() * config.heads >= 2 * compute.team.threads() {
        let Workspace { queries, keys, values, context, heads, .. } = ws;
        let tasks = context_blocks(&texts, head_dim, SHORT_TEXT, context);
        compute.team.for_each(
            tasks,
            |thread| heads.take(thread),
            |scratch, (text, block)| {
                let HeadScratch { int, key_values } = &mut **scratch;
                let (TextRows { tokens, queries: rows }, head) = (&texts[text], block.col / head_dim);
                let (k, v) =
                    (head_of(keys, head, head_dim, tokens.clone()), head_of(values, head, head_dim, tokens.clone()));
                compute.kernels.pack_int(k, v, int, key_values);
                let q = head_of(queries, head, head_dim, rows.clone());
                attend_rows(compute, config, q, key_values, int, block.view);
            },
        );
        return;
    }
    // One text after another. Each head's keys and values are packed once, then used by the tasks of all its blocks of queries.
    let Workspace { queries, keys, values, context, key_values, heads, .. } = ws;
    key_values.resize_with(config.heads, Default::default);
    let mut below = context.view_mut();
    for TextRows { tokens, queries: rows } in &texts {
        let packing = key_values.iter_mut().enumerate().collect();
        compute.team.for_each(
            packing,
            |thread| heads.take(thread),
            |scratch, (head, packed): (usize, &mut IntKeyValues)| {
                let (k, v) =
                    (head_of(keys, head, head_dim, tokens.clone()), head_of(values, head, head_dim, tokens.clone()));
                compute.kernels.pack_int(k, v, &mut scratch.int, packed);
            },
        );
        let (own, others) = below.split_rows(rows.len());
        // Tasks are listed head by head: the keys and values of one head fit the second-level cache, those of all heads do not.
        let columns = own.into_blocks(rows.len().max(1), head_dim).into_iter();
        let blocks = columns.flat_map(|head| {
            head.view.into_blocks(QUERY_BLOCK, head_dim).into_iter().map(move |block| (head.col / head_dim, block))
        });
        let key_values = &*key_values;
        compute.team.for_each(
            blocks.collect(),
            |thread| heads.take(thread),
            |scratch, (head, block)| {
                let first = rows.start + block.row;
                let q = head_of(queries, head, head_dim, first..first + block.view.rows());
                attend_rows(compute, config, q, &key_values[head], &mut scratch.int, block.view);
            },
        );
        below = others;
    }
}

/// Computes integer attention for some queries of one head, in blocks as large as the kernel allows.
fn attend_rows(
    compute: Compute<'_>,
    config: &ModelConfig,
    queries: MatRef<'_>,
    key_values: &IntKeyValues,
    scratch: &mut IntScratch,
    out: MatMut<'_>,
) {
    let scale = attention_shape(config, 0).scale;
    for block in out.into_blocks(QUERY_BLOCK, config.head_dim()) {
        let q = queries.rows_from(block.row, block.view.rows());
        compute.kernels.attend_int(scale, q, key_values, scratch, block.view);
    }
}

/// How many f32 values the packed keys and values of one head take.
fn packed_len(shape: AttentionShape) -> usize {
    shape.packed_keys_len() + shape.tokens * shape.head_dim
}

/// Attention in f32, for layers with float weights.
fn attend(compute: Compute<'_>, config: &ModelConfig, batch: &TextBatch, wanted: Wanted, ws: &mut Workspace) {
    let (head_dim, texts) = (config.head_dim(), texts(batch, wanted));
    let shape = |text: usize| attention_shape(config, texts[text].tokens.len());
    // Where each text's heads begin in the packed buffer.
    let mut begins = vec![0];
    for text in 0..texts.len() {
        begins.push(begins[text] + packed_len(shape(text)) * config.heads);
    }
    let needed = begins[texts.len()];
    if ws.packed.len() < needed {
        ws.packed.resize(needed, 0.0);
    }
    let mut tasks = Vec::new();
    let mut rest = &mut ws.packed[..needed];
    for text in 0..texts.len() {
        for head in 0..config.heads {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(packed_len(shape(text)));
            tasks.push((text, head, own));
            rest = others;
        }
    }
    let (keys, values) = (&ws.keys, &ws.values);
    compute.team.for_each(
        tasks,
        |_| (),
        |(), (text, head, own): (usize, usize, &mut [f32])| {
            let tokens = &texts[text].tokens;
            let (packed_keys, packed_values) = own.split_at_mut(shape(text).packed_keys_len());
            compute.kernels.pack_keys(head_of(keys, head, head_dim, tokens.clone()), packed_keys);
            // The rows of a head's values are copied next to each other. In `values` they lie a whole state apart, so they would all fall
            // into a few cache sets.
            let values = head_of(values, head, head_dim, tokens.clone());
            for (row, packed) in packed_values.chunks_exact_mut(head_dim).enumerate() {
                packed.copy_from_slice(values.row(row));
            }
        },
    );

    let (queries, packed) = (&ws.queries, &ws.packed);
    let tasks = context_blocks(&texts, head_dim, QUERY_BLOCK, &mut ws.context);
    compute.team.for_each(
        tasks,
        |_| (vec![0.0; attention_shape(config, 0).scratch_len()], vec![0.0; QUERY_BLOCK * head_dim]),
        |(scratch, q), (text, block)| {
            let (head, shape) = (block.col / head_dim, shape(text));
            let own = &packed[begins[text] + head * packed_len(shape)..][..packed_len(shape)];
            let (packed_keys, packed_values) = own.split_at(shape.packed_keys_len());
            let (first, rows) = (texts[text].queries.start + block.row, block.view.rows());
            let q = &mut q[..rows * head_dim];
            let from = head_of(queries, head, head_dim, first..first + rows);
            for (row, q) in q.chunks_exact_mut(head_dim).enumerate() {
                q.copy_from_slice(from.row(row));
            }
            let (q, v) = (MatRef::dense(q, head_dim), MatRef::dense(packed_values, head_dim));
            compute.kernels.attend(shape, q, packed_keys, v, scratch, block.view);
        },
    );
}
