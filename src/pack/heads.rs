//! Writes a packed file with new heads in place of its own. All other tensors are copied byte for byte.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::file::{Fill, PackedWriter};
use crate::config::{Activation, DenseModule, DensePipeline};
use crate::engine::{HeadMap, Model};
use crate::error::{Error, Result};
use crate::weights::packed::{MetaModel, MetaParts, keys};
use crate::weights::{TensorEntry, read_header};

/// The types that a packed file's tensors can have.
const DTYPES: [&str; 8] = ["F32", "F16", "BF16", "F64", "U8", "I8", "U32", "I64"];

/// A head that takes the place of a packed model's own.
#[derive(Debug, Clone)]
pub struct NewHead {
    /// `dense`, `sparse_linear` or `colbert_linear`.
    pub name: &'static str,
    /// The head's linear map.
    pub map: HeadMap,
}

/// Writes the file of the packed `model` again, with `heads` in place of its own heads of the same names, and with `metadata` added to its own.
/// `path` only names the output in errors. Returns the new file's length.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the model is not packed, or a head does not fit it; [`ErrorKind::Io`](crate::ErrorKind::Io)
/// if `out` refuses.
pub fn write_with_heads(
    model: &Model,
    heads: &[NewHead],
    metadata: &BTreeMap<String, String>,
    path: &Path,
    out: &mut dyn Write,
) -> Result<u64> {
    let option = |what: String| Error::Option { option: "model", what };
    let bytes = model.source().open("")?.ok_or_else(|| option("it is not a packed file".to_owned()))?;
    let header = read_header(&bytes, &model.source().path(""))?;
    check(model, heads)?;
    let mut writer = PackedWriter::new();
    for (key, value) in header.metadata.iter().chain(metadata) {
        writer.meta(key, value.clone());
    }
    writer.meta(keys::MODEL, meta_of(model, heads)?);
    let mut tensors: Vec<(&String, &TensorEntry)> = header.tensors.iter().collect();
    tensors.sort_by_key(|(_, entry)| entry.range.start);
    for (name, entry) in tensors {
        let replaced = heads.iter().any(|head| tensor_names(head).contains(name));
        if replaced || name.starts_with("pad.") {
            continue;
        }
        let dtype = DTYPES.into_iter().find(|dtype| *dtype == entry.dtype);
        let dtype = dtype.ok_or_else(|| Error::tensor(path, name, format!("its type is {}", entry.dtype)))?;
        let content = &bytes[entry.range.clone()];
        let fill: Fill<'_> = Box::new(move || Ok(content.to_vec()));
        writer.add(name.clone(), dtype, entry.shape.clone(), content.len(), fill);
    }
    for head in heads {
        let [weight, bias] = tensor_names(head);
        for (name, shape, values) in [
            (weight, vec![head.map.outputs, head.map.inputs], &head.map.weight),
            (bias, vec![head.map.outputs], &head.map.bias),
        ] {
            let fill: Fill<'_> = Box::new(move || Ok(values.iter().flat_map(|x| x.to_le_bytes()).collect()));
            writer.add(name, "F32", shape, values.len() * 4, fill);
        }
    }
    writer.write(model.team(), path, out, 0, &|_, _| ())
}

/// The names that a head's weight and bias have in a packed file.
fn tensor_names(head: &NewHead) -> [String; 2] {
    let name = if head.name == "dense" { "dense.0" } else { head.name };
    ["weight", "bias"].map(|part| format!("{name}.{part}"))
}

/// Refuses heads with shapes that the model cannot use.
fn check(model: &Model, heads: &[NewHead]) -> Result<()> {
    for NewHead { name, map } in heads {
        let refuse = |what: String| Err(Error::Option { option: "heads", what: format!("`{name}`: {what}") });
        let inputs = match *name {
            "dense" => model.pipeline().pooled(model.info().hidden),
            _ => model.info().hidden,
        };
        let outputs_fit = if *name == "sparse_linear" { map.outputs == 1 } else { map.outputs > 0 };
        if map.inputs != inputs || !outputs_fit {
            return refuse(format!("it maps {} to {} values, the model has {inputs}", map.inputs, map.outputs));
        }
        if map.weight.len() != map.inputs * map.outputs || map.bias.len() != map.outputs {
            return refuse("its numbers are not as many as its shape says".to_owned());
        }
    }
    Ok(())
}

/// The model's settings as JSON for the metadata, with a `Dense` module added if the model gets its first.
fn meta_of(model: &Model, heads: &[NewHead]) -> Result<String> {
    let info = model.info();
    let mut pipeline: DensePipeline = model.pipeline().clone();
    if pipeline.dense.is_empty() && heads.iter().any(|head| head.name == "dense") {
        pipeline.dense.push(DenseModule { folder: "dense.0".to_owned(), activation: Activation::Identity });
    }
    let meta = MetaModel::of(&MetaParts {
        config: model.encoder().config.clone(),
        pipeline,
        max_length: info.max_length,
        prompts: model.prompts().clone(),
        similarity: info.similarity.clone(),
    });
    serde_json::to_string(&meta).map_err(|e| Error::Option { option: "model", what: e.to_string() })
}
