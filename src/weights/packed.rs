//! Reading a packed file: one safetensors file with everything a model needs, used in place.
//!
//! The metadata has the keys of [`keys`]; all its values are text. The encoder's tensors have the checkpoint's names. A linear layer's
//! `weight` holds panels (`kernels/src/gemm/mod.rs` describes them) unless it is f32, and its `weight_scale` the scales of int8 and int4
//! weights; `input_centre` and `input_scale` belong to all layers of a site. The heads are `dense.N`, `sparse_linear` and `colbert_linear`,
//! or a reranker's `classifier.dense` and `classifier.out_proj`. The tensors `tokenizer.*` are the compiled tokenizer; `pad.*` only fill up
//! to multiples of 64 bytes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, PackedScheme};
use super::format::WeightFormat;
use super::safetensors::read_header;
use super::source::Source;
use crate::config::{
    Activation, DenseModule, DensePipeline, MAX_DENSE_MODULES, MIN_PAIR_TOKENS, ModelConfig, ModelKind, ModelSettings,
    Pooling, Prompts, ScoreActivation,
};
use crate::error::{Error, Result};

/// The version of the layout that this engine writes and reads.
pub(crate) const FORMAT_VERSION: &str = "3";

/// The previous version. It differs only in the panels of int4 weights that trivec rounded itself, so files without such weights are still
/// read.
const BEFORE_INT4: &str = "2";

/// Metadata keys.
pub(crate) mod keys {
    /// [`super::FORMAT_VERSION`]; its presence makes a safetensors file a packed one.
    pub(crate) const VERSION: &str = "trivec.packed";
    /// The name of the layers' [`super::WeightFormat`].
    pub(crate) const WEIGHTS: &str = "trivec.weights";
    /// The name of each encoder layer's format, comma-separated; left out if all have the format under [`WEIGHTS`].
    pub(crate) const LAYERS: &str = "trivec.layers";
    /// Whether the integer weights were rotated, and their inputs have to be: `true` or `false`.
    pub(crate) const ROTATED: &str = "trivec.rotated";
    /// Whether int4 layers are the checkpoint's own q4_0 blocks, so that activations get a scale for every 32 values: `true` or `false`.
    pub(crate) const LAYERS_IN_Q4_0: &str = "trivec.grouped";
    /// What the layers' inputs were measured on; for information only.
    pub(crate) const CALIBRATION: &str = "trivec.calibration";
    /// What the file was packed from: see [`super::PackedModel::packed_from`].
    pub(crate) const SOURCE: &str = "trivec.source";
    /// [`super::MetaModel`] as JSON.
    pub(crate) const MODEL: &str = "trivec.model";
    /// `1` if embedding tables of type `U8` are the checkpoint's own q4_0 blocks: [`super::super::Q4_0_KEY`].
    pub(crate) const Q4_0: &str = "trivec.q4_0";
}

/// The sizes and switches of a packed model, as the metadata key [`keys::MODEL`] has them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaModel {
    /// Left out for embedders, so that older engines can still read their files.
    #[serde(default, skip_serializing_if = "is_embedder")]
    kind: ModelKind,
    layers: usize,
    hidden: usize,
    heads: usize,
    ffn: usize,
    vocabulary: usize,
    positions: usize,
    token_types: usize,
    layer_norm_eps: f32,
    pad_id: u32,
    pooling: String,
    dense_modules: usize,
    normalize: bool,
    max_length: usize,
    // The following fields are left out where they have their default, for the same reason as `kind`: an engine that does not know a field
    // refuses the file.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    include_prompt: bool,
    /// The activation of each `Dense` module; an empty list means that all are identities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dense_activations: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    truncate_dim: Option<usize>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    prompts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    similarity: Option<String>,
    #[serde(default, skip_serializing_if = "is_sigmoid")]
    activation: ScoreActivation,
}

// The next four functions tell serde which fields are left out, and what an absent field means.
fn is_embedder(kind: &ModelKind) -> bool {
    *kind == ModelKind::Embedder
}
fn yes() -> bool {
    true
}
fn is_true(value: &bool) -> bool {
    *value
}
fn is_sigmoid(activation: &ScoreActivation) -> bool {
    *activation == ScoreActivation::Sigmoid
}

/// What [`MetaModel`] describes, in the engine's types.
#[derive(Debug)]
pub(crate) struct MetaParts {
    pub config: ModelConfig,
    pub pipeline: DensePipeline,
    pub max_length: usize,
    pub prompts: Prompts,
    pub similarity: Option<String>,
}

impl MetaModel {
    /// The description of `parts` that a packed file stores.
    pub(crate) fn of(parts: &MetaParts) -> MetaModel {
        let MetaParts { config, pipeline, max_length, prompts, similarity } = parts;
        let is_identity = pipeline.dense.iter().all(|module| module.activation == Activation::Identity);
        let activations =
            pipeline.dense.iter().filter(|_| !is_identity).map(|module| module.activation.name().to_owned());
        MetaModel {
            kind: config.kind,
            layers: config.layers,
            hidden: config.hidden,
            heads: config.heads,
            ffn: config.ffn,
            vocabulary: config.vocabulary,
            positions: config.positions,
            token_types: config.token_types,
            layer_norm_eps: config.layer_norm_eps,
            pad_id: config.pad_id,
            pooling: pipeline.pooling.name(),
            dense_modules: pipeline.dense.len(),
            normalize: pipeline.normalize,
            max_length: *max_length,
            include_prompt: pipeline.pooling.include_prompt,
            dense_activations: activations.collect(),
            truncate_dim: pipeline.truncate_dim,
            prompts: prompts.named.clone(),
            default_prompt: prompts.default.clone(),
            similarity: similarity.clone(),
            activation: config.activation,
        }
    }

    /// Converts the description, and checks its values as those of a checkpoint's `config.json` are checked. `path` names the file in
    /// errors.
    fn into_parts(self, path: &Path) -> Result<MetaParts> {
        let config = ModelConfig {
            kind: self.kind,
            layers: self.layers,
            hidden: self.hidden,
            heads: self.heads,
            ffn: self.ffn,
            vocabulary: self.vocabulary,
            positions: self.positions,
            token_types: self.token_types,
            layer_norm_eps: self.layer_norm_eps,
            pad_id: self.pad_id,
            activation: self.activation,
        };
        config.check(path)?;
        let refuse = |what: String| Err(Error::format(path, what));
        let Some(modes) = Pooling::modes_of(&self.pooling) else {
            return refuse(format!("pooling is `{}`, expected one that is known, as cls or mean", self.pooling));
        };
        let least = if self.kind == ModelKind::Reranker { MIN_PAIR_TOKENS } else { 2 };
        if !(least..=config.max_tokens()).contains(&self.max_length) {
            let (found, most) = (self.max_length, config.max_tokens());
            return refuse(format!("the maximum length is {found}, expected {least} to {most}"));
        }
        if self.dense_modules > MAX_DENSE_MODULES {
            return refuse(format!("{} dense modules, expected at most {MAX_DENSE_MODULES}", self.dense_modules));
        }
        let activations = match self.dense_activations.len() {
            0 => vec![Activation::Identity; self.dense_modules],
            _ => {
                let known =
                    self.dense_activations.iter().map(|name| Activation::by_name(name)).collect::<Option<Vec<_>>>();
                match known.filter(|known| known.len() == self.dense_modules) {
                    Some(known) => known,
                    None => {
                        return refuse(format!(
                            "the activations of its dense modules are {:?}",
                            self.dense_activations
                        ));
                    }
                }
            }
        };
        if self.truncate_dim == Some(0) {
            return refuse("`truncate_dim` is 0, expected 1 or more".to_owned());
        }
        let prompts = Prompts { named: self.prompts, default: self.default_prompt };
        ModelSettings::check_prompts(&prompts, path)?;
        let module = |(index, activation)| DenseModule { folder: format!("dense.{index}"), activation };
        let pipeline = DensePipeline {
            pooling: Pooling { modes, include_prompt: self.include_prompt },
            dense: activations.into_iter().enumerate().map(module).collect(),
            normalize: self.normalize,
            truncate_dim: self.truncate_dim,
        };
        Ok(MetaParts { config, pipeline, max_length: self.max_length, prompts, similarity: self.similarity })
    }
}

/// A packed file that has been opened: its metadata, and its tensors as a checkpoint.
#[derive(Debug)]
pub(crate) struct PackedModel {
    pub parts: MetaParts,
    /// The format that the file was packed in. Some of `layers` may have another.
    pub format: WeightFormat,
    /// How the weights of each layer are stored.
    pub layers: Vec<WeightFormat>,
    /// What the file was packed from: a digest of those weights, `starter`, or `unknown`.
    pub packed_from: String,
    pub checkpoint: Checkpoint,
}

/// The error message for a file of another version.
fn of_version(found: &str) -> String {
    let is_newer = found.parse::<u32>().is_ok_and(|found| FORMAT_VERSION.parse().is_ok_and(|own: u32| found > own));
    let what_to_do = match found {
        _ if is_newer => "it was packed by a newer trivec",
        BEFORE_INT4 => "its int4 weights lie otherwise: pack it again (an installed model: `trivec pull NAME --force`)",
        _ => "pack it again (an installed model: `trivec pull NAME --force`)",
    };
    format!("a packed file of format version `{found}`, expected {FORMAT_VERSION}: {what_to_do}")
}

/// Opens a packed file. `exact` asks for the arithmetic of the model it was packed from; it is an error if packing rounded the weights of
/// any layer. `check_finite` asks that weights are checked for NaN and infinities when they are read.
pub(crate) fn open(source: Source, check_finite: bool, exact: bool) -> Result<PackedModel> {
    let bytes = source.require("")?;
    let path = source.path("");
    let header = read_header(&bytes, &path)?;
    let refuse = |what: String| Err(Error::format(&path, what));
    let get = |key: &str| header.metadata.get(key).map(String::as_str);
    match get(keys::VERSION) {
        Some(FORMAT_VERSION | BEFORE_INT4) => {}
        Some(other) => return refuse(of_version(other)),
        None => {
            return refuse(
                "a safetensors file, but not a packed one: give the model's directory, or pack it with `trivec pack`"
                    .into(),
            );
        }
    }
    let require =
        |key: &str| get(key).ok_or_else(|| Error::format(&path, format!("a packed file without the metadata `{key}`")));
    let flag = |key: &str| match require(key)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Error::format(&path, format!("`{key}` is `{other}`, expected true or false"))),
    };
    let name = require(keys::WEIGHTS)?;
    let format_of = |name: &str| {
        let known = || WeightFormat::ALL.map(WeightFormat::name).join(", ");
        let what = || format!("its weights are of the scheme `{name}`, expected one of {}", known());
        WeightFormat::by_name(name).ok_or_else(|| Error::format(&path, what()))
    };
    let format = format_of(name)?;
    let meta: MetaModel = serde_json::from_str(require(keys::MODEL)?)
        .map_err(|e| Error::format(&path, format!("`{}` is not what was expected: {e}", keys::MODEL)))?;
    let parts = meta.into_parts(&path)?;
    let config = &parts.config;
    // Every layer has tensors, so a larger number is damage. It is checked before a list of that length is allocated.
    if config.layers > header.tensors.len() {
        return refuse(format!("it tells of {} layers, but has {} tensors", config.layers, header.tensors.len()));
    }
    let layers = match get(keys::LAYERS) {
        Some(names) => names.split(',').map(format_of).collect::<Result<Vec<_>>>()?,
        None => vec![format; config.layers],
    };
    if layers.len() != config.layers {
        return refuse(format!("`{}` names {} layers, expected {}", keys::LAYERS, layers.len(), config.layers));
    }
    let (rotated, q4_0) = (flag(keys::ROTATED)?, flag(keys::LAYERS_IN_Q4_0)?);
    let is_rounded = |layer: &&WeightFormat| !(**layer == WeightFormat::F32 || **layer == WeightFormat::Int4 && q4_0);
    if let Some(rounded) = layers.iter().find(is_rounded).filter(|_| exact) {
        let what =
            format!("{} has weights rounded to {}: load the model it was packed from", path.display(), rounded.name());
        return Err(Error::Option { option: "exact", what });
    }
    let scheme = PackedScheme { layers: layers.clone(), rotated, q4_0, exact };
    if get(keys::VERSION) == Some(BEFORE_INT4) && layers.contains(&WeightFormat::Int4) && !scheme.q4_0 {
        return refuse(of_version(BEFORE_INT4));
    }
    let packed_from = get(keys::SOURCE).unwrap_or("unknown").to_owned();
    let checkpoint = Checkpoint::of_packed(source, bytes, header, scheme, check_finite);
    Ok(PackedModel { parts, format, layers, packed_from, checkpoint })
}
