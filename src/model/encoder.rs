//! The stack of layers over a batch of texts.

use std::ops::Range;

use super::embeddings::embed;
use super::layer::layer;
use super::workspace::Workspace;
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::weights::EncoderWeights;

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

    /// Each text's number of tokens.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranges().map(|range| range.len())
    }
}

/// An XLM-RoBERTa encoder.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub config: ModelConfig,
    pub weights: EncoderWeights,
}

impl Encoder {
    /// Leaves the last hidden state of every token in `states` of the workspace that it returns.
    pub(crate) fn forward(&self, compute: Compute<'_>, batch: &TextBatch) -> Workspace {
        let mut ws = Workspace::new(&self.config, batch);
        embed(compute, &self.config, &self.weights, batch, ws.states.view_mut());
        for weights in &self.weights.layers {
            layer(compute, &self.config, weights, batch, &mut ws);
        }
        ws
    }
}
