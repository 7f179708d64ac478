//! The stack of layers over a batch of texts.

use super::batch::{TextBatch, Wanted};
use super::embeddings::embed;
use super::layer::layer;
use super::workspace::Workspace;
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::weights::{EncoderWeights, InputForm};

/// An XLM-RoBERTa encoder.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub config: ModelConfig,
    pub weights: EncoderWeights,
}

impl Encoder {
    /// Computes the last hidden states into `ws.states`: `[tokens, hidden]` of all tokens, or `[texts, hidden]` of each text's first token.
    /// Asks `cancelled` before every layer, and returns `false` at once if it says so; otherwise returns `true`.
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
