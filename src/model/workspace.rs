//! Every buffer of the forward pass, with its shape. `tokens` are those of all texts of a batch, one after another.
//!
//! A workspace takes any batch and keeps its memory for the next one: the engine holds a few and drops the large ones when idle.

use trivec_kernels::{AttentionShape, IntKeyValues, IntScratch};

use super::observe::Watch;
use crate::config::ModelConfig;
use crate::linear::Activations;
use crate::parallel::Pool;
use crate::tensor::Matrix;

/// Rows of token states that all threads together take through the feed-forward layers at once: bounds the widest buffer of a long text (8 MB instead of
/// 128 MB for 8,192 tokens of BGE-M3). Where each thread has rows of its own, it has a buffer of its own for a smaller number (`layer.rs`).
pub(crate) const FFN_ROWS: usize = 512;

/// The buffers of one batch.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// `[tokens, hidden]`: what each layer reads and replaces. After a last layer that was asked for the first tokens alone,
    /// `[texts, hidden]`.
    pub states: Matrix,
    /// The states as the projections of the next attention take them.
    pub input: Activations,
    /// `[tokens, hidden]`: the heads' outputs side by side.
    pub context: Matrix,
    /// `[tokens, hidden]` each.
    pub queries: Matrix,
    pub keys: Matrix,
    pub values: Matrix,
    /// f32 attention: keys and values laid out for the kernel, text by text, in each text head by head.
    pub packed: Vec<f32>,
    /// Integer attention over a long text: one a head.
    pub key_values: Vec<IntKeyValues>,
    /// Integer attention: each thread's scratch.
    pub heads: Pool<HeadScratch>,
    /// Scratch of the steps after attention where all threads work on the same rows.
    pub together: RowScratch,
    pub scratch: Pool<RowScratch>,
    /// Observes the inputs of the linear layers while a model is calibrated.
    pub observer: Watch,
}

/// Scratch of the steps after attention, for `rows` tokens.
#[derive(Debug, Default)]
pub(crate) struct RowScratch {
    /// The context, then the states, as the next linear layer takes them.
    pub input: Activations,
    /// `[rows, hidden]`: the output of attention or feed-forward, before it is added to the states.
    pub branch: Matrix,
    /// `[min(rows, FFN_ROWS), ffn]`
    pub inner: Matrix,
    /// `inner` as the second feed-forward layer takes it.
    pub inner_input: Activations,
}

impl RowScratch {
    fn bytes(&self) -> usize {
        self.branch.bytes() + self.inner.bytes()
    }
}

/// A thread's scratch for one head of integer attention, with the head's keys and values if the text is short.
#[derive(Debug, Default)]
pub(crate) struct HeadScratch {
    pub int: IntScratch,
    pub key_values: IntKeyValues,
}

impl Workspace {
    /// Makes room for a batch.
    pub(crate) fn fit(&mut self, config: &ModelConfig, tokens: usize) {
        let hidden = config.hidden;
        for matrix in [&mut self.states, &mut self.context, &mut self.queries, &mut self.keys, &mut self.values] {
            matrix.reshape(tokens, hidden);
        }
    }

    /// Bytes of the largest buffers, which decide whether the workspace is worth keeping.
    pub(crate) fn bytes(&self) -> usize {
        let matrices = [&self.states, &self.context, &self.queries, &self.keys, &self.values];
        matrices.iter().map(|matrix| matrix.bytes()).sum::<usize>()
            + self.packed.capacity() * size_of::<f32>()
            + self.together.bytes()
            + self.scratch.sum(RowScratch::bytes)
    }
}

/// One head over a text of `tokens`: scores are divided by `√head_dim`.
pub(crate) fn attention_shape(config: &ModelConfig, tokens: usize) -> AttentionShape {
    let head_dim = config.head_dim();
    AttentionShape { tokens, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}
