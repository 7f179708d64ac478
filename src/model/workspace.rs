//! Every buffer of the forward pass, with its shape. `tokens` are those of all texts of a batch, one after another.

use trivec_kernels::{AttentionShape, MatMut};

use super::encoder::TextBatch;
use crate::config::ModelConfig;
use crate::tensor::Matrix;

/// Rows of token states that go through the feed-forward layers at once: bounds the widest buffer of a long text (16 MB instead of
/// 128 MB for 8,192 tokens of BGE-M3).
pub(crate) const FFN_ROWS: usize = 1024;

/// The buffers of one batch.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// `[tokens, hidden]`: what each layer reads and replaces.
    pub states: Matrix,
    /// `[tokens, hidden]`: the output of attention or feed-forward, before it is added to the states.
    pub branch: Matrix,
    /// `[tokens, hidden]`: the heads' outputs side by side.
    pub context: Matrix,
    pub queries: HeadPanels,
    pub keys: HeadPanels,
    pub values: HeadPanels,
    /// Keys laid out for the kernel: text by text, in each text head by head.
    pub packed_keys: Vec<f32>,
    /// `[min(tokens, FFN_ROWS), ffn]`
    pub inner: Matrix,
}

/// `[heads, tokens, head_dim]`: a head's rows lie together, so that attention reads them without strides of whole states (which
/// would fall into a few cache sets).
#[derive(Debug)]
pub(crate) struct HeadPanels {
    data: Vec<f32>,
    tokens: usize,
    head_dim: usize,
}

impl HeadPanels {
    fn new(heads: usize, tokens: usize, head_dim: usize) -> HeadPanels {
        HeadPanels { data: vec![0.0; heads * tokens * head_dim], tokens, head_dim }
    }

    /// `[tokens, head_dim]` of head `head`.
    pub(crate) fn head(&self, head: usize) -> &[f32] {
        let len = self.tokens * self.head_dim;
        &self.data[head * len..][..len]
    }

    /// The panels as one matrix a head.
    pub(crate) fn heads_mut(&mut self) -> impl Iterator<Item = MatMut<'_>> {
        let head_dim = self.head_dim;
        self.data.chunks_exact_mut(self.tokens * head_dim).map(move |panel| MatMut::dense(panel, head_dim))
    }
}

impl Workspace {
    pub(crate) fn new(config: &ModelConfig, batch: &TextBatch) -> Workspace {
        let (tokens, hidden, heads, head_dim) = (batch.tokens(), config.hidden, config.heads, config.head_dim());
        let packed: usize = batch.lengths().map(|len| attention_shape(config, len).packed_keys_len() * heads).sum();
        Workspace {
            states: Matrix::zeros(tokens, hidden),
            branch: Matrix::zeros(tokens, hidden),
            context: Matrix::zeros(tokens, hidden),
            queries: HeadPanels::new(heads, tokens, head_dim),
            keys: HeadPanels::new(heads, tokens, head_dim),
            values: HeadPanels::new(heads, tokens, head_dim),
            packed_keys: vec![0.0; packed],
            inner: Matrix::zeros(tokens.min(FFN_ROWS), config.ffn),
        }
    }
}

/// One head over a text of `tokens`: scores are divided by `√head_dim`.
pub(crate) fn attention_shape(config: &ModelConfig, tokens: usize) -> AttentionShape {
    let head_dim = config.head_dim();
    AttentionShape { tokens, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}
