//! Access to a model's internals for `pack`, training and `trivec bench`.

use std::sync::{Arc, Mutex};

use trivec_kernels::{Kernels, MatRef};

use super::model::Model;
use super::options::EncodeOptions;
use crate::compute::Compute;
use crate::config::{Activation, DensePipeline, Prompts};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::model::{Encoder, Observe, TextBatch, Wanted, Workspace};
use crate::parallel::Team;
use crate::text::Tokenizer;
use crate::weights::{Content, FloatLinear, HeadWeights, LayerWeights, Source, WeightFormat};

/// The least work that a call has to do: bytes to read and operations to compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Bytes of the layers' weights, each read once.
    pub weight_bytes: u64,
    /// For each layer the format of its weights and its operations: two for each multiply-add of its linear layers and its attention.
    pub operations: Vec<(WeightFormat, f64)>,
}

/// A linear map of a head, as training reads and writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadMap {
    /// `[outputs, inputs]`, row by row.
    pub weight: Vec<f32>,
    /// `[outputs]`; zeros where the head has none.
    pub bias: Vec<f32>,
    /// Length of its output vectors.
    pub outputs: usize,
    /// Length of its input vectors.
    pub inputs: usize,
}

impl HeadMap {
    fn of(linear: &FloatLinear) -> HeadMap {
        let weight = linear.weight();
        let rows = (0..linear.outputs).flat_map(|output| weight.row(output));
        HeadMap {
            weight: rows.copied().collect(),
            bias: linear.bias().map_or_else(|| vec![0.0; linear.outputs], <[f32]>::to_vec),
            outputs: linear.outputs,
            inputs: linear.inputs,
        }
    }
}

/// The linear maps of a model's heads.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadMaps {
    /// sentence-transformers' `Dense` module; `None` without one, or if `dense_is_more`.
    pub dense: Option<HeadMap>,
    /// Why the dense vector is more than a pooled state and at most one linear map, if it is.
    pub dense_is_more: Option<String>,
    /// `[1, hidden]`
    pub sparse: Option<HeadMap>,
    /// `[dim, hidden]`
    pub colbert: Option<HeadMap>,
}

/// Access for packing, training and measuring.
impl Model {
    /// The maps of the heads, widened to f32.
    #[doc(hidden)]
    pub fn head_maps(&self) -> HeadMaps {
        let modules = &self.pipeline.dense;
        let dense_is_more = match modules.as_slice() {
            [] => None,
            [module] if module.activation == Activation::Identity => None,
            [module] => Some(format!("its Dense module ends with {}", module.activation.name())),
            more => Some(format!("it has {} Dense modules", more.len())),
        };
        HeadMaps {
            dense: self.heads.dense.first().filter(|_| dense_is_more.is_none()).map(HeadMap::of),
            dense_is_more,
            sparse: self.heads.sparse.as_ref().map(HeadMap::of),
            colbert: self.heads.colbert.as_ref().map(HeadMap::of),
        }
    }

    /// Pools a text's states `[tokens, hidden]`, of which the first `prompt_tokens` are a prompt's, into the vector that the dense head
    /// reads.
    #[doc(hidden)]
    pub fn pooled(&self, states: &[f32], prompt_tokens: usize) -> Vec<f32> {
        let skipped = if self.pipeline.pooling.include_prompt { 0 } else { prompt_tokens };
        let states = MatRef::dense(states, self.info.hidden);
        crate::heads::pool(&self.pipeline.pooling.modes, states, skipped.min(states.rows()))
    }

    /// The work of dense vectors for texts of these lengths. With CLS pooling, the last layer computes queries, attention output and
    /// feed-forward for the first token only.
    #[doc(hidden)]
    pub fn work(&self, lengths: &[usize]) -> Work {
        let config = &self.encoder.config;
        let (hidden, ffn) = (config.hidden as f64, config.ffn as f64);
        let mut weight_bytes = 0.0;
        for layer in &self.encoder.weights.layers {
            for linear in layer.linears() {
                weight_bytes += (linear.outputs * linear.inputs) as f64 * linear.bytes_per_weight();
            }
        }
        let of_tokens = 4.0 * hidden * hidden + 2.0 * hidden * ffn;
        let (mut of_layer, mut of_last) = (0.0, 0.0);
        for &length in lengths {
            let tokens = length as f64;
            let layer = tokens * of_tokens + 2.0 * tokens * tokens * hidden;
            of_layer += 2.0 * layer;
            of_last += 2.0
                * if self.pipeline.pooling.is_first_token() {
                    2.0 * tokens * hidden * hidden + of_tokens - 2.0 * hidden * hidden + 2.0 * tokens * hidden
                } else {
                    layer
                };
        }
        let layers = &self.encoder.weights.layers;
        let operations = |(index, layer): (usize, &Arc<LayerWeights>)| {
            (layer.query.format(), if index + 1 == layers.len() { of_last } else { of_layer })
        };
        Work { weight_bytes: weight_bytes as u64, operations: layers.iter().enumerate().map(operations).collect() }
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub(crate) fn heads(&self) -> &HeadWeights {
        &self.heads
    }

    pub(crate) fn pipeline(&self) -> &DensePipeline {
        &self.pipeline
    }

    pub(crate) fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    #[doc(hidden)]
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    #[doc(hidden)]
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// Replaces one of the model's layers by `other`'s and returns the replaced layer. Both models must have the same shape.
    pub(crate) fn exchange_layer(&mut self, layer: usize, other: &Model) -> Arc<LayerWeights> {
        std::mem::replace(&mut self.encoder.weights.layers[layer], Arc::clone(&other.encoder.weights.layers[layer]))
    }

    /// Sets one of the model's layers, as to put back one that [`Model::exchange_layer`] returned.
    pub(crate) fn put_layer(&mut self, layer: usize, weights: Arc<LayerWeights>) {
        self.encoder.weights.layers[layer] = weights;
    }

    /// The format in which a packed file was packed; some of its layers may have another. `None` for a checkpoint, and for a file that is
    /// computed exactly ([`LoadOptions::exact`](crate::LoadOptions::exact)).
    pub fn packed_format(&self) -> Option<WeightFormat> {
        self.packed.as_ref().map(|packed| packed.format)
    }

    /// What a packed file was packed from: a digest of the weights, `starter`, or `unknown`. `None` where [`Model::packed_format`] is `None`.
    pub fn packed_source(&self) -> Option<&str> {
        self.packed.as_ref().map(|packed| packed.source.as_str())
    }

    /// Gives the model a name other than that of the file from which it was read.
    #[doc(hidden)]
    pub fn called(mut self, name: String) -> Model {
        self.info.name = name;
        self
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The contents of all files that the model was read from, with the files' names. A packed file, wherever it lies, has the name "".
    #[doc(hidden)]
    pub fn contents(&self) -> Vec<(String, Content)> {
        self.source.contents()
    }

    /// The token ids of many texts, as [`Model::token_ids`] returns them for one. All threads tokenise.
    ///
    /// # Errors
    /// As [`Model::token_ids`].
    #[doc(hidden)]
    pub fn token_ids_of<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        options: &EncodeOptions,
    ) -> Result<Vec<(Vec<u32>, bool)>> {
        let max_length = self.check_ranges(options)?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let applied = self.applied(options, max_length)?;
        Ok(self.team.map(texts, |text| {
            let tokens = applied.encode(text.as_ref());
            (tokens.ids, tokens.truncated)
        }))
    }

    /// As [`Model::encode_ids`]. If lexical weights are asked for, each text also gets a list with one weight for each of its tokens, in their order:
    /// special tokens are in it, and a piece that occurs twice has two weights.
    ///
    /// # Errors
    /// As [`Model::encode_ids`].
    #[doc(hidden)]
    pub fn encode_ids_weighted<S: AsRef<[u32]> + Sync>(
        &self,
        ids: &[S],
        options: &EncodeOptions,
    ) -> Result<Vec<(Embedding, Option<Vec<f32>>)>> {
        let max_length = self.check(options)?;
        let ids = self.checked_ids(ids, max_length)?;
        self.with_token_weights(&ids, options, self.skipped(options))
    }

    pub(crate) fn text_tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Runs the encoder over `texts` and shows `observer` the inputs of its layers. `progress` is told how many texts are done. A text whose
    /// states are NaN or infinite is an error, because its measurements mean nothing.
    pub(crate) fn observe(
        &self,
        texts: &[&str],
        options: &EncodeOptions,
        observer: Arc<Mutex<dyn Observe>>,
        progress: &dyn Fn(usize),
    ) -> Result<()> {
        let max_length = self.check_ranges(options)?;
        let applied = self.applied(options, max_length)?;
        let compute = Compute { kernels: self.kernels, team: &self.team };
        let mut ws = Workspace { observer: Some(observer), ..Workspace::default() };
        for (done, text) in texts.iter().enumerate() {
            progress(done);
            let mut batch = TextBatch::default();
            batch.push(&applied.encode(text).ids);
            self.encoder.forward(compute, &batch, Wanted::AllTokens, &mut ws, &|| false);
            let is_finite = |token: usize| ws.states.row(token).iter().all(|state| state.is_finite());
            if let Some(at) = (0..ws.states.rows()).find(|token| !is_finite(*token)) {
                return Err(Error::NotFinite { index: done, mode: "state", at });
            }
        }
        progress(texts.len());
        Ok(())
    }
}
