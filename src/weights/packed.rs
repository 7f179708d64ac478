//! Reading a packed file: one safetensors file with everything a model needs, used in place.
//!
//! Metadata, all text: the keys below. Tensors: the checkpoint's names; a layer's `weight` holds panels (`trivec_kernels`, "Matrix
//! products"), beside it `weight_scale` (int8 and int4) and the site's `input_centre` and `input_scale`; `dense.N`, `sparse_linear` and `colbert_linear` are the heads,
//! `classifier.dense` and `classifier.out_proj` a reranker's;
//! `tokenizer.*` the compiled tokenizer; `pad.*` only fill up to multiples of 64 bytes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, PackedScheme};
use super::linear::WeightFormat;
use super::safetensors::read_header;
use super::source::Source;
use crate::config::{DensePipeline, MIN_PAIR_TOKENS, ModelConfig, ModelKind, Pooling};
use crate::error::{Error, Result};

/// The version of the layout that this engine writes and reads.
pub(crate) const FORMAT_VERSION: &str = "3";

/// The version before: the same but for int4 weights that were rounded here, which had other panels.
const BEFORE_INT4: &str = "2";

/// Metadata keys.
pub(crate) mod keys {
    /// [`super::FORMAT_VERSION`]; its presence makes a safetensors file a packed one.
    pub(crate) const VERSION: &str = "trivec.packed";
    /// A [`super::WeightFormat`]'s name.
    pub(crate) const WEIGHTS: &str = "trivec.weights";
    /// Names for every layer, comma-separated, where they are not all stored alike.
    pub(crate) const LAYERS: &str = "trivec.layers";
    pub(crate) const ROTATED: &str = "trivec.rotated";
    /// Whether int4 layers are the source's own 4-bit blocks, which have a scale each, and take rows with as many.
    pub(crate) const GROUPED: &str = "trivec.grouped";
    pub(crate) const CALIBRATION: &str = "trivec.calibration";
    /// Where the model comes from: a digest of its weights.
    pub(crate) const SOURCE: &str = "trivec.source";
    /// [`super::MetaModel`] as JSON.
    pub(crate) const MODEL: &str = "trivec.model";
    /// Tables of 4-bit blocks, as in `checkpoint.rs`.
    pub(crate) const Q4_0: &str = "trivec.q4_0";
}

/// The sizes and switches of a packed model.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaModel {
    /// Left out for embedders, so that their files are what they were before there were others.
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
}

fn is_embedder(kind: &ModelKind) -> bool {
    *kind == ModelKind::Embedder
}

impl MetaModel {
    pub(crate) fn of(config: &ModelConfig, pipeline: &DensePipeline, max_length: usize) -> MetaModel {
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
            pooling: pipeline.pooling.name().to_owned(),
            dense_modules: pipeline.dense.len(),
            normalize: pipeline.normalize,
            max_length,
        }
    }

    /// Checks the values as those of a `config.json` are.
    fn into_parts(self, path: &Path) -> Result<(ModelConfig, DensePipeline, usize)> {
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
        };
        config.check(path)?;
        let refuse = |what: String| Err(Error::format(path, what));
        let pooling = match self.pooling.as_str() {
            "cls" => Pooling::Cls,
            "mean" => Pooling::Mean,
            other => return refuse(format!("pooling is `{other}`, expected cls or mean")),
        };
        let least = if self.kind == ModelKind::Reranker { MIN_PAIR_TOKENS } else { 2 };
        if !(least..=config.max_tokens()).contains(&self.max_length) {
            let (found, most) = (self.max_length, config.max_tokens());
            return refuse(format!("the maximum length is {found}, expected {least} to {most}"));
        }
        if self.dense_modules > MAX_DENSE_MODULES {
            return refuse(format!("{} dense modules, expected at most {MAX_DENSE_MODULES}", self.dense_modules));
        }
        let dense = (0..self.dense_modules).map(|index| format!("dense.{index}")).collect();
        Ok((config, DensePipeline { pooling, dense, normalize: self.normalize }, self.max_length))
    }
}

/// More `Dense` modules than any model has.
const MAX_DENSE_MODULES: usize = 16;

/// What a packed file holds beside its tensors.
#[derive(Debug)]
pub(crate) struct PackedModel {
    pub config: ModelConfig,
    pub pipeline: DensePipeline,
    pub max_length: usize,
    pub format: WeightFormat,
    /// How the weights of each layer are stored.
    pub layers: Vec<WeightFormat>,
    /// A digest of the weights it was packed from, or `starter`, or `unknown`.
    pub packed_from: String,
    pub checkpoint: Checkpoint,
}

/// What is said of a file of another version.
fn of_version(found: &str) -> String {
    let is_newer = found.parse::<u32>().is_ok_and(|found| FORMAT_VERSION.parse().is_ok_and(|own: u32| found > own));
    let what_to_do = match found {
        _ if is_newer => "it was packed by a newer trivec",
        BEFORE_INT4 => "its int4 weights lie otherwise: pack it again (an installed model: `trivec pull NAME --force`)",
        _ => "pack it again (an installed model: `trivec pull NAME --force`)",
    };
    format!("a packed file of format version `{found}`, expected {FORMAT_VERSION}: {what_to_do}")
}

/// Opens a packed file. `exact` asks for the arithmetic of the model it was packed from, which only weights that were not rounded have.
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
    let (config, pipeline, max_length) = meta.into_parts(&path)?;
    // Every layer has tensors: a list as long as a number that nothing stands behind is not made.
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
    let (rotated, grouped) = (flag(keys::ROTATED)?, flag(keys::GROUPED)?);
    let is_rounded =
        |layer: &&WeightFormat| !(**layer == WeightFormat::F32 || **layer == WeightFormat::Int4 && grouped);
    if let Some(rounded) = layers.iter().find(is_rounded).filter(|_| exact) {
        let what =
            format!("{} has weights rounded to {}: load the model it was packed from", path.display(), rounded.name());
        return Err(Error::Option { option: "exact", what });
    }
    let scheme = PackedScheme { layers: layers.clone(), rotated, grouped, exact };
    if get(keys::VERSION) == Some(BEFORE_INT4) && layers.contains(&WeightFormat::Int4) && !scheme.grouped {
        return refuse(of_version(BEFORE_INT4));
    }
    let packed_from = get(keys::SOURCE).unwrap_or("unknown").to_owned();
    let checkpoint = Checkpoint::of_packed(source, bytes, header, scheme, check_finite);
    Ok(PackedModel { config, pipeline, max_length, format, layers, packed_from, checkpoint })
}
