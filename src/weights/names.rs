//! Reads a model's weights by the names of their tensors: the one place that knows how checkpoints name them, and with which shapes.

use super::checkpoint::Checkpoint;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::StoredTensor;
use super::format::WeightFormat;
use super::linear::{FloatLinear, Linear, PackedInput};
use super::q4_0::unpack_blocks;
use super::store::{Norm, Table, floats};
use crate::config::{DenseModuleConfig, DensePipeline, ModelConfig, ModelKind};
use crate::error::{Error, Result};

/// All weights of the encoder.
#[derive(Debug)]
pub(crate) struct EncoderWeights {
    /// The word embeddings, `[vocabulary, hidden]`.
    pub words: Table,
    /// The position embeddings, `[positions, hidden]`.
    pub positions: Table,
    /// The token type embeddings, `[token_types, hidden]`. Only row 0 is used.
    pub token_types: Table,
    pub embedding_norm: Norm,
    /// Behind `Arc`, so that two models can share a layer.
    pub layers: Vec<Arc<LayerWeights>>,
}

/// A place in an encoder layer where states enter linear layers. All linear layers at one site have the same input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// The projections to queries, keys and values.
    Attention,
    AttentionOutput,
    FfnIn,
    FfnOut,
}

/// The weights of one encoder layer; every matrix is `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// `[hidden, hidden]` each.
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub attention_output: Linear,
    pub attention_norm: Norm,
    /// `[ffn, hidden]`
    pub ffn_in: Linear,
    /// `[hidden, ffn]`
    pub ffn_out: Linear,
    pub ffn_norm: Norm,
}

/// Reads the linear layer `name` of encoder layer `layer`; `input` says how a packed file's layer takes its input.
fn linear(
    checkpoint: &Checkpoint,
    (layer, name): (usize, &str),
    input: &PackedInput,
    outputs: usize,
    inputs: usize,
) -> Result<Linear> {
    let weight = checkpoint.require(&format!("{name}.weight"))?;
    let bias = checkpoint.require(&format!("{name}.bias"))?;
    match checkpoint.packed().map(|scheme| (scheme, scheme.layers[layer])) {
        Some((scheme, WeightFormat::Int4)) if scheme.exact => {
            Linear::read(unpack_blocks(&weight, outputs, inputs)?, Some(bias), outputs, inputs)
        }
        Some((_, format)) if format != WeightFormat::F32 => {
            let scales = checkpoint.find(&[&format!("{name}.weight_scale")]);
            Linear::read_packed(format, weight, scales, Some(bias), [outputs, inputs], input)
        }
        _ => Linear::read(weight, Some(bias), outputs, inputs),
    }
}

/// How the linear layers at `site` take their `inputs` inputs. A packed file has the centre as the tensor `{site}.input_centre` and the
/// inverse smoothing as `{site}.input_scale`, where the layers have them; a checkpoint has neither.
fn packed_input(checkpoint: &Checkpoint, site: &str, inputs: usize) -> Result<PackedInput> {
    let Some(scheme) = checkpoint.packed() else {
        return Ok(PackedInput { rotated: false, q4_0: false, centre: None, inverse_smoothing: None });
    };
    let of_inputs = |part: &str| -> Result<Option<Arc<Vec<f32>>>> {
        let tensor = checkpoint.find(&[&format!("{site}.{part}")]);
        Ok(tensor.map(|tensor: StoredTensor| floats(tensor, inputs)).transpose()?.map(Arc::new))
    };
    let (centre, inverse_smoothing) = (of_inputs("input_centre")?, of_inputs("input_scale")?);
    Ok(PackedInput { rotated: scheme.rotated, q4_0: scheme.q4_0, centre, inverse_smoothing })
}

impl LayerWeights {
    /// All its linear layers.
    pub(crate) fn linears(&self) -> [&Linear; 6] {
        [&self.query, &self.key, &self.value, &self.attention_output, &self.ffn_in, &self.ffn_out]
    }

    /// The linear layers at a site, all of which take the same input.
    pub(crate) fn linears_at(&self, site: Site) -> Vec<&Linear> {
        match site {
            Site::Attention => vec![&self.query, &self.key, &self.value],
            Site::AttentionOutput => vec![&self.attention_output],
            Site::FfnIn => vec![&self.ffn_in],
            Site::FfnOut => vec![&self.ffn_out],
        }
    }
}

/// Reads the layer norm `name`.
fn norm(checkpoint: &Checkpoint, name: &str, hidden: usize) -> Result<Norm> {
    let gain = checkpoint.require(&format!("{name}.weight"))?;
    let bias = checkpoint.require(&format!("{name}.bias"))?;
    Norm::read(gain, bias, hidden)
}

/// Reads the embedding table `name`, `[rows, cols]`: floats, or in a packed file also int8 with a scale for each row.
fn table(checkpoint: &Checkpoint, name: &str, rows: usize, cols: usize) -> Result<Table> {
    let weight = checkpoint.require(&format!("{name}.weight"))?;
    match checkpoint.packed() {
        Some(_) if weight.entry.dtype == "I8" => {
            let scales = checkpoint.require(&format!("{name}.weight_scale"))?;
            Table::read_int8(weight, scales, rows, cols)
        }
        _ => Table::read(weight, rows, cols),
    }
}

impl EncoderWeights {
    /// Reads the encoder, an `XLMRobertaModel`. Its tensors that this engine does not need (the pooler, stored position ids) are ignored.
    pub(crate) fn read(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<EncoderWeights> {
        let hidden = config.hidden;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let linear = |part: &str, input: &PackedInput, outputs: usize, inputs: usize| {
                linear(checkpoint, (layer, &name(part)), input, outputs, inputs)
            };
            let site = |part: &str, inputs: usize| packed_input(checkpoint, &name(part), inputs);
            let of_states = site("attention.self", hidden)?;
            let square = |part: &str, input: &PackedInput| linear(part, input, hidden, hidden);
            layers.push(Arc::new(LayerWeights {
                query: square("attention.self.query", &of_states)?,
                key: square("attention.self.key", &of_states)?,
                value: square("attention.self.value", &of_states)?,
                attention_output: square("attention.output.dense", &site("attention.output.dense", hidden)?)?,
                attention_norm: norm(checkpoint, &name("attention.output.LayerNorm"), hidden)?,
                ffn_in: linear("intermediate.dense", &site("intermediate.dense", hidden)?, config.ffn, hidden)?,
                ffn_out: linear("output.dense", &site("output.dense", config.ffn)?, hidden, config.ffn)?,
                ffn_norm: norm(checkpoint, &name("output.LayerNorm"), hidden)?,
            }));
        }
        Ok(EncoderWeights {
            words: table(checkpoint, "embeddings.word_embeddings", config.vocabulary, hidden)?,
            positions: table(checkpoint, "embeddings.position_embeddings", config.positions, hidden)?,
            token_types: table(checkpoint, "embeddings.token_type_embeddings", config.token_types, hidden)?,
            embedding_norm: norm(checkpoint, "embeddings.LayerNorm", hidden)?,
            layers,
        })
    }

    /// The number of weights, biases included.
    pub(crate) fn parameters(&self) -> usize {
        let norms = |norm: &Norm| norm.gain().len() + norm.bias().len();
        let layer = |l: &Arc<LayerWeights>| {
            l.linears().iter().map(|l| l.parameters()).sum::<usize>() + norms(&l.attention_norm) + norms(&l.ffn_norm)
        };
        self.words.parameters()
            + self.positions.parameters()
            + self.token_types.parameters()
            + norms(&self.embedding_norm)
            + self.layers.iter().map(layer).sum::<usize>()
    }
}

/// The names of the tensors that [`EncoderWeights::read`] reads from a checkpoint of floats, with their shapes.
pub(crate) fn encoder_shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden;
    let mut shapes = Vec::new();
    let mut pair = |name: String, shape: &[usize]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        shapes.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    pair("embeddings.LayerNorm".to_owned(), &[hidden]);
    for layer in 0..config.layers {
        let mut part = |name: &str, shape: &[usize]| pair(format!("encoder.layer.{layer}.{name}"), shape);
        for name in ["query", "key", "value"] {
            part(&format!("attention.self.{name}"), &[hidden, hidden]);
        }
        part("attention.output.dense", &[hidden, hidden]);
        part("attention.output.LayerNorm", &[hidden]);
        part("intermediate.dense", &[config.ffn, hidden]);
        part("output.dense", &[hidden, config.ffn]);
        part("output.LayerNorm", &[hidden]);
    }
    for (table, rows) in
        [("word", config.vocabulary), ("position", config.positions), ("token_type", config.token_types)]
    {
        shapes.push((format!("embeddings.{table}_embeddings.weight"), vec![rows, hidden]));
    }
    shapes
}

/// The heads that a checkpoint has.
#[derive(Debug)]
pub(crate) struct HeadWeights {
    /// sentence-transformers' `Dense` modules, in order.
    pub dense: Vec<FloatLinear>,
    /// `[1, hidden]`
    pub sparse: Option<FloatLinear>,
    /// `[colbert_dim, hidden]`
    pub colbert: Option<FloatLinear>,
    /// A reranker's only head.
    pub classifier: Option<Classifier>,
}

/// The head of `XLMRobertaForSequenceClassification`.
#[derive(Debug)]
pub(crate) struct Classifier {
    /// `[hidden, hidden]`
    pub dense: FloatLinear,
    /// `[1, hidden]`
    pub out_proj: FloatLinear,
}

impl Classifier {
    /// The two layers with the names that checkpoints and packed files give them.
    pub(crate) fn named(&self) -> [(&'static str, &FloatLinear); 2] {
        [("classifier.dense", &self.dense), ("classifier.out_proj", &self.out_proj)]
    }

    fn read(checkpoint: &Checkpoint, hidden: usize) -> Result<Classifier> {
        // The classifier's weights are floats in packed files too.
        let layer = |name: &str, outputs: usize| {
            let weight = checkpoint.require(&format!("{name}.weight"))?;
            let bias = checkpoint.require(&format!("{name}.bias"))?;
            FloatLinear::read(weight, Some(bias), outputs, hidden)
        };
        Ok(Classifier { dense: layer("classifier.dense", hidden)?, out_proj: layer("classifier.out_proj", 1)? })
    }
}

/// The extensions that a head's own file may have: BAAI's files end in `.pt`.
const HEAD_FILES: [&str; 2] = ["safetensors", "pt"];

/// The first of `files` that exists, with its tensors; `None` if none exists.
fn first_sibling<const N: usize>(checkpoint: &Checkpoint, files: [String; N]) -> Result<Option<(String, Checkpoint)>> {
    for file in files {
        if let Some(own) = checkpoint.sibling(&file)? {
            return Ok(Some((file, own)));
        }
    }
    Ok(None)
}

/// The weight and the bias of the head `name`, or `None` if the model does not have it. They are in the main files as `{name}.weight` and
/// `{name}.bias`, or in a file of their own under these names or as `weight` and `bias`.
pub(crate) fn head_tensors(checkpoint: &Checkpoint, name: &str) -> Result<Option<[StoredTensor; 2]>> {
    let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
    let (weight, bias) = match checkpoint.within(&weight_name) {
        Some(weight) => (weight, checkpoint.within(&bias_name)),
        None => {
            let Some((file, own)) = first_sibling(checkpoint, HEAD_FILES.map(|end| format!("{name}.{end}")))? else {
                return Ok(None);
            };
            let weight = own.find_unwrapped(&[&weight_name, "weight"]);
            let missing = || Error::tensor(&own.source().path(&file), &weight_name, "it is missing");
            (weight.ok_or_else(missing)?, own.find_unwrapped(&[&bias_name, "bias"]))
        }
    };
    let bias = bias.ok_or_else(|| Error::tensor(&weight.file, &bias_name, "it is missing"))?;
    Ok(Some([weight, bias]))
}

/// Reads the head `name`, `[outputs, hidden]`, if the model has it. `None` as `outputs` accepts any number of them.
fn head(checkpoint: &Checkpoint, name: &str, outputs: Option<usize>, hidden: usize) -> Result<Option<FloatLinear>> {
    let Some([mut weight, mut bias]) = head_tensors(checkpoint, name)? else { return Ok(None) };
    if outputs == Some(1) {
        // The weights of one output are the same numbers whether they are stored as a row, a column or a list.
        weight.reshape_line(&[1, hidden]);
        bias.reshape_line(&[1]);
    }
    let outputs = outputs.or(weight.entry.shape.first().copied()).filter(|&outputs| outputs > 0);
    let outputs = outputs
        .ok_or_else(|| weight.refuse(format!("its shape is {:?}, expected [dim, {hidden}]", weight.entry.shape)))?;
    FloatLinear::read(weight, Some(bias), outputs, hidden).map(Some)
}

/// Reads `config.json` of the `Dense` module in `folder`; returns it with its path, for errors.
fn dense_module_config(checkpoint: &Checkpoint, folder: &str) -> Result<(DenseModuleConfig, PathBuf)> {
    let source = checkpoint.source();
    let name = format!("{folder}/config.json");
    let path = source.path(&name);
    Ok((DenseModuleConfig::from_json(&source.require(&name)?, &path)?, path))
}

/// The weight and, if its configuration says so, the bias of the `Dense` module in `folder`.
pub(crate) fn dense_module_tensors(checkpoint: &Checkpoint, folder: &str) -> Result<Vec<StoredTensor>> {
    let (config, _) = dense_module_config(checkpoint, folder)?;
    let source = checkpoint.source();
    let files = ["model.safetensors", "pytorch_model.bin"].map(|name| format!("{folder}/{name}"));
    let missing = || Error::format(&source.path(&files[0]), "the file is missing");
    let (file, own) = first_sibling(checkpoint, files.clone())?.ok_or_else(missing)?;
    if !config.bias
        && let Some(bias) = own.find_unwrapped(&["linear.bias"])
    {
        return Err(bias.refuse(format!("{folder}/config.json says that `bias` is false, but the file has a bias")));
    }
    let names = if config.bias { &["linear.weight", "linear.bias"][..] } else { &["linear.weight"] };
    let require = |name: &&str| {
        own.find_unwrapped(&[name]).ok_or_else(|| Error::tensor(&source.path(&file), name, "it is missing"))
    };
    names.iter().map(require).collect()
}

/// Reads sentence-transformers' `Dense` module in `folder`, which must take `inputs` values.
fn dense_module(checkpoint: &Checkpoint, folder: &str, inputs: usize) -> Result<FloatLinear> {
    let (config, config_path) = dense_module_config(checkpoint, folder)?;
    if config.in_features != inputs || config.out_features == 0 {
        let found = (config.in_features, config.out_features);
        return Err(Error::format(
            &config_path,
            format!("takes {} values and gives {}, expected to take {inputs} and give at least 1", found.0, found.1),
        ));
    }
    let mut tensors = dense_module_tensors(checkpoint, folder)?.into_iter();
    let weight = tensors.next().ok_or_else(|| Error::format(&config_path, "the module has no weight"))?;
    FloatLinear::read(weight, tensors.next(), config.out_features, inputs)
}

/// Reads the `Dense` module number `index` of a packed file, which must take `inputs` values.
fn packed_dense_module(checkpoint: &Checkpoint, index: usize, inputs: usize) -> Result<FloatLinear> {
    let weight = checkpoint.require(&format!("dense.{index}.weight"))?;
    let bias = checkpoint.find(&[&format!("dense.{index}.bias")]);
    let outputs = weight.entry.shape.first().copied().filter(|&outputs| outputs > 0);
    let outputs = outputs
        .ok_or_else(|| weight.refuse(format!("its shape is {:?}, expected [dim, {inputs}]", weight.entry.shape)))?;
    FloatLinear::read(weight, bias, outputs, inputs)
}

impl HeadWeights {
    /// Reads the heads that the model has, and the `Dense` modules of `pipeline`. A reranker has only its classifier.
    pub(crate) fn read(checkpoint: &Checkpoint, config: &ModelConfig, pipeline: &DensePipeline) -> Result<HeadWeights> {
        if config.kind == ModelKind::Reranker {
            let classifier = Some(Classifier::read(checkpoint, config.hidden)?);
            return Ok(HeadWeights { dense: Vec::new(), sparse: None, colbert: None, classifier });
        }
        let mut dense: Vec<FloatLinear> = Vec::new();
        for (index, module) in pipeline.dense.iter().enumerate() {
            let inputs = dense.last().map_or(pipeline.pooled(config.hidden), |last| last.outputs);
            let module = match checkpoint.packed() {
                Some(_) => packed_dense_module(checkpoint, index, inputs)?,
                None => dense_module(checkpoint, &module.folder, inputs)?,
            };
            dense.push(module);
        }
        Ok(HeadWeights {
            dense,
            sparse: head(checkpoint, "sparse_linear", Some(1), config.hidden)?,
            colbert: head(checkpoint, "colbert_linear", None, config.hidden)?,
            classifier: None,
        })
    }

    /// The number of weights, biases included.
    pub(crate) fn parameters(&self) -> usize {
        let classifier = self.classifier.iter().flat_map(Classifier::named).map(|(_, linear)| linear);
        self.dense.iter().chain(&self.sparse).chain(&self.colbert).chain(classifier).map(FloatLinear::parameters).sum()
    }
}
