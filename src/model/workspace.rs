//! Every buffer of the forward pass, with its shape. `tokens` is the number of tokens in all texts of a batch, one text after another.
//!
//! A workspace can be used for any batch and keeps its memory for the next one: the engine holds a few and drops the large ones when idle.

use trivec_kernels::{AttentionShape, IntKeyValues, IntScratch};

use super::observe::Watch;
use crate::config::ModelConfig;
use crate::linear::Activations;
use crate::parallel::Pool;
use crate::tensor::Matrix;

/// The most rows of token states that go through the feed-forward layers at once. It bounds the widest buffer of a long text (8 MB instead
/// of 128 MB for 8,192 tokens of BGE-M3) that all threads compute together. Where each thread has rows of its own, there are fewer at a
/// time, in a buffer of the thread's own (`schedule.rs`).
pub(crate) const FFN_ROWS: usize = 512;

/// The buffers of one batch.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// `[tokens, hidden]`: what each layer reads and replaces. After a last layer that was asked for the first tokens alone,
    /// `[texts, hidden]`.
    pub states: Matrix,
    /// The states in the form that the projections of the next attention need.
    pub input: Activations,
    /// `[tokens, hidden]`: the outputs of the attention heads, side by side.
    pub context: Matrix,
    /// `[tokens, hidden]` each.
    pub queries: Matrix,
    pub keys: Matrix,
    pub values: Matrix,
    /// For f32 attention: keys and values laid out for the kernel, text by text, and in each text head by head.
    pub packed: Vec<f32>,
    /// For integer attention where several tasks need the same head of a text (a long text, or few texts): each head's packed keys and
    /// values.
    pub key_values: Vec<IntKeyValues>,
    /// For integer attention: each thread's scratch.
    pub heads: Pool<HeadScratch>,
    /// Scratch of the steps after attention where all threads work on the same rows.
    pub together: RowScratch,
    /// Each thread's scratch of those steps where each thread has rows of its own.
    pub scratch: Pool<RowScratch>,
    /// Observes the inputs of the linear layers while a model is calibrated.
    pub observer: Watch,
}

/// Scratch of the steps after attention; `rows` is the number of tokens that go through them together.
#[derive(Debug, Default)]
pub(crate) struct RowScratch {
    /// The context, later the states, in the form that the next linear layer needs.
    pub input: Activations,
    /// `[rows, hidden]`: the output of attention or feed-forward, before it is added to the states.
    pub branch: Matrix,
    /// `[min(rows, FFN_ROWS), ffn]`: the output of the first feed-forward layer, after GELU.
    pub inner: Matrix,
    /// `inner` in the form that the second feed-forward layer needs.
    pub inner_input: Activations,
}

impl RowScratch {
    /// Bytes of the matrices, which are the largest buffers.
    fn bytes(&self) -> usize {
        self.branch.bytes() + self.inner.bytes()
    }
}

/// A thread's scratch for one head of integer attention. `key_values` is used if one task computes the whole head.
#[derive(Debug, Default)]
pub(crate) struct HeadScratch {
    pub int: IntScratch,
    pub key_values: IntKeyValues,
}

impl Workspace {
    /// Gives the matrices the shapes for a batch of `tokens` tokens.
    pub(crate) fn fit(&mut self, config: &ModelConfig, tokens: usize) {
        let hidden = config.hidden;
        for matrix in [&mut self.states, &mut self.context, &mut self.queries, &mut self.keys, &mut self.values] {
            matrix.reshape(tokens, hidden);
        }
    }

    /// Bytes of the largest buffers, by which the engine decides whether to keep the workspace.
    pub(crate) fn bytes(&self) -> usize {
        let matrices = [&self.states, &self.context, &self.queries, &self.keys, &self.values];
        matrices.iter().map(|matrix| matrix.bytes()).sum::<usize>()
            + self.packed.capacity() * size_of::<f32>()
            + self.together.bytes()
            + self.scratch.sum(RowScratch::bytes)
    }
}

/// The shape of one head's attention over a text of `tokens` tokens, with the factor `1 / √head_dim` for the scores.
pub(crate) fn attention_shape(config: &ModelConfig, tokens: usize) -> AttentionShape {
    let head_dim = config.head_dim();
    AttentionShape { tokens, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}
