//! The stack of layers over a batch of texts.

use std::ops::Range;

use super::embeddings::embed;
use super::layer::layer;
use super::workspace::Workspace;
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::weights::{EncoderWeights, InputForm};

/// The token ids of several texts, one after another: no padding anywhere.
#[derive(Debug, Default)]
pub(crate) struct TextBatch {
    ids: Vec<u32>,
    /// Where each text ends in `ids`.
    ends: Vec<usize>,
}

impl TextBatch {
    /// Appends a text of at least one token.
    pub(crate) fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
    }

    /// All ids.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Tokens of all texts.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Each text's tokens in the batch, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// Each text's ids.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u32]> + '_ {
        self.ranges().map(|range| &self.ids[range])
    }
}

/// Whose last hidden states are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    AllTokens,
    /// Each text's first token: what CLS pooling reads. Everything before the last layer needs all tokens; in it, the others' queries,
    /// attention outputs and feed-forward are left out. The bits of what is computed are the same.
    FirstTokens,
}

/// An XLM-RoBERTa encoder.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub config: ModelConfig,
    pub weights: EncoderWeights,
}

impl Encoder {
    /// Leaves the last hidden states in `states` of the workspace: of every token, or `[texts, hidden]` of each text's first. Asks before every
    /// layer whether the call is `cancelled`, and then returns `false` at once.
    pub(crate) fn forward(
        &self,
        compute: Compute<'_>,
        batch: &TextBatch,
        wanted: Wanted,
        ws: &mut Workspace,
        cancelled: &dyn Fn() -> bool,
    ) -> bool {
        ws.fit(&self.config, batch.tokens());
        embed(compute, &self.config, &self.weights, batch, ws.states.view_mut());
        let layers = &self.weights.layers;
        if let Some(first) = layers.first() {
            ws.input.fill(compute, first.query.input(), ws.states.view());
        }
        for (index, weights) in layers.iter().enumerate() {
            if cancelled() {
                return false;
            }
            let (next, wanted) = match layers.get(index + 1) {
                Some(next) => (next.query.input(), Wanted::AllTokens),
                None => (&InputForm::F32, wanted),
            };
            layer(compute, &self.config, (index, weights), next, batch, wanted, ws);
        }
        true
    }
}
