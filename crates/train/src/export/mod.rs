//! Writes a model with its trained heads, so that trivec and other libraries can load it.
//!
//! If the model was a directory, the output is a directory in sentence-transformers' layout: a trained dense head is its `Dense` module, the
//! sparse and the ColBERT head are files of their own. If the model was a packed file, the output is one too.

mod torch;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};
use trivec::Model;
use trivec::internal::HeadMap;
use trivec::lock_file::LockFile;
use trivec::pack::{ImportOptions, NewHead, import, write_with_heads};

use crate::checkpoint::Tensor;
use crate::error::{Error, Result};
use crate::run::Trained;

/// The metadata key under which a safetensors file describes the training of its heads, as JSON.
pub const METADATA_KEY: &str = "trivec.train";

/// How a trained model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Whether a model that the output path has already is replaced.
    pub force: bool,
}

/// Whether a model trained from `model` is written as a packed file.
fn is_packed(model: &Model) -> bool {
    model.packed_format().is_some() && !Path::new(&model.info().name).is_dir()
}

/// Refuses an output that [`Trained::write`] would refuse. Call it before a run, so that the run is not wasted.
///
/// # Errors
/// As [`Trained::write`].
pub fn check_output(model: &Model, output: &Path, options: ExportOptions) -> Result<()> {
    hidden_beside(output, "")?;
    match is_packed(model) {
        true if output.is_dir() || (output.exists() && !options.force) => {
            let what = format!("{} is there already: give another name, or force its replacement", output.display());
            Err(Error::option("output", what))
        }
        true => Ok(()),
        false => check_target(Path::new(&model.info().name), output, options),
    }
}

impl Trained {
    /// Writes `model` with the trained heads to `output`, which gets its name only when it is complete: a directory if the model was one, else a
    /// packed file. A directory has the trained sparse and ColBERT heads twice: as `.safetensors`, and as `.pt` files, as BGE-M3 itself has them.
    ///
    /// # Errors
    /// [`Error::Option`] if `output` has something that may not be replaced; [`Error::Locked`] if another process writes there;
    /// [`Error::Damaged`] if the model's `modules.json` cannot be read; [`Error::Io`]; [`Error::Engine`].
    pub fn write(&self, model: &Model, output: &Path, options: ExportOptions) -> Result<()> {
        check_output(model, output, options)?;
        match is_packed(model) {
            true => self.write_packed(model, output),
            false => self.write_directory(Path::new(&model.info().name), output, options),
        }
    }

    /// Writes a packed file with the trained heads under a hidden name, and renames it to `output`.
    fn write_packed(&self, model: &Model, output: &Path) -> Result<()> {
        let partial = hidden_beside(output, ".trivec-new")?;
        let _removed = Removed(partial.clone());
        let fail = |e| Error::io(&partial, e);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial).map_err(fail)?);
        let metadata = BTreeMap::from([(METADATA_KEY.to_owned(), self.metadata.clone())]);
        write_with_heads(model, &self.heads, &metadata, output, &mut file)?;
        let file = file.into_inner().map_err(|e| fail(e.into_error()))?;
        file.sync_all().map_err(fail)?;
        fs::rename(&partial, output).map_err(|e| Error::io(output, e))
    }

    /// Copies the model's directory `source` to a hidden directory, writes the trained heads into it, and renames it to `output`.
    fn write_directory(&self, source: &Path, output: &Path, options: ExportOptions) -> Result<()> {
        let lock_path = hidden_beside(output, ".trivec-lock")?;
        let lock = LockFile::take(&lock_path).map_err(|e| Error::io(&lock_path, e))?;
        let _lock = lock.ok_or(Error::Locked { path: lock_path })?;
        let staging = hidden_beside(output, ".trivec-new")?;
        match fs::remove_dir_all(&staging) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&staging, e)),
            _ => {}
        }
        let _removed = Removed(staging.clone());
        let replaced = ["sparse_linear", "colbert_linear"].into_iter().filter(|name| self.head(name).is_some());
        let how = ImportOptions::default().without_heads(replaced.collect());
        import(source, &staging, &how, &mut |_, _| ())?;
        for name in ["sparse_linear", "colbert_linear"] {
            if let Some(head) = self.head(name) {
                let bytes = self.safetensors(name, &head.map)?;
                write(&staging.join(format!("{name}.safetensors")), &bytes)?;
                write(&staging.join(format!("{name}.pt")), &torch::linear(name, &head.map))?;
            }
        }
        if let Some(head) = self.head("dense") {
            self.write_dense(&staging, &head.map)?;
        }
        let training = serde_json::from_str::<Value>(&self.metadata).unwrap_or_default();
        write(&staging.join("training.json"), format!("{training:#}\n").as_bytes())?;
        replace(&staging, output, options)
    }

    /// The trained head of this name; `None` if it was not trained.
    fn head(&self, name: &str) -> Option<&NewHead> {
        self.heads.iter().find(|head| head.name == name)
    }

    /// A head as the bytes of a safetensors file, in f16: `{prefix}.weight`, `{prefix}.bias`, and the description of the training.
    fn safetensors(&self, prefix: &str, map: &HeadMap) -> Result<Vec<u8>> {
        let tensors = [
            (format!("{prefix}.weight"), half_tensor(&map.weight, vec![map.outputs, map.inputs])),
            (format!("{prefix}.bias"), half_tensor(&map.bias, vec![map.outputs])),
        ];
        // One key alone: a `HashMap` gives several keys in another order in every run, and the bytes must be the same.
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), self.metadata.clone())]);
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| Error::data(e.to_string()))
    }

    /// Writes the dense head as the model's `Dense` module: in the folder of the one that the model has, or as a new module after the pooling.
    fn write_dense(&self, staging: &Path, map: &HeadMap) -> Result<()> {
        let path = staging.join("modules.json");
        let read = |path: &Path| -> Result<Value> {
            let text = fs::read(path).map_err(|e| Error::io(path, e))?;
            serde_json::from_slice(&text).map_err(|e| Error::damaged(path, e.to_string()))
        };
        let mut modules = match path.is_file() {
            true => read(&path)?.as_array().cloned().unwrap_or_default(),
            // The engine pools a model without `modules.json` by `<s>` and normalises: this is written out.
            false => {
                let pooling = json!({"word_embedding_dimension": map.inputs, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false});
                write(&staging.join("1_Pooling/config.json"), format!("{pooling:#}\n").as_bytes())?;
                vec![module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Normalize", "Normalize")]
            }
        };
        let is = |module: &Value, kind: &str| module["type"].as_str().is_some_and(|class| class.ends_with(kind));
        let folder = match modules.iter().find(|module| is(module, ".Dense")) {
            Some(dense) => dense["path"].as_str().unwrap_or("2_Dense").to_owned(),
            None => {
                let after = modules.iter().position(|module| is(module, ".Pooling")).map_or(modules.len(), |at| at + 1);
                modules.insert(after, module("2_Dense", "Dense"));
                "2_Dense".to_owned()
            }
        };
        for (at, module) in modules.iter_mut().enumerate() {
            module["idx"] = json!(at);
            module["name"] = json!(at.to_string());
        }
        write(&path, format!("{:#}\n", Value::Array(modules)).as_bytes())?;
        let config = json!({
            "in_features": map.inputs,
            "out_features": map.outputs,
            "bias": true,
            "activation_function": "torch.nn.modules.linear.Identity",
        });
        write(&staging.join(&folder).join("config.json"), format!("{config:#}\n").as_bytes())?;
        write(&staging.join(&folder).join("model.safetensors"), &self.safetensors("linear", map)?)
    }
}

/// An entry of `modules.json`; the caller sets its index and name.
fn module(path: &str, kind: &str) -> Value {
    json!({"idx": 0, "name": "0", "path": path, "type": format!("sentence_transformers.models.{kind}")})
}

fn half_tensor(values: &[f32], shape: Vec<usize>) -> Tensor<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    Tensor { values: bytes.into(), shape, dtype: Dtype::F16 }
}

/// Writes a file and syncs it to the disk; makes its folder if it is not there.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |e| Error::io(path, e);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    let mut file = File::create(path).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)
}

/// When dropped, removes an unfinished file or directory; after it was renamed there is nothing to remove.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_file(&self.0);
    }
}

/// The path of a hidden file in the directory of `output`: a dot, the output's name, and `end`. An error if `output` has no name.
fn hidden_beside(output: &Path, end: &str) -> Result<PathBuf> {
    let name = output.file_name();
    let name =
        name.ok_or_else(|| Error::option("output", format!("{} is not a name for a model", output.display())))?;
    Ok(output.with_file_name(format!(".{}{end}", name.to_string_lossy())))
}

/// Refuses an output directory that may not be replaced: a file, the model's own directory or one around it, a directory that is no model, or any
/// without `force`. An empty directory is allowed.
fn check_target(source: &Path, output: &Path, options: ExportOptions) -> Result<()> {
    let refuse = |what: &str| Err(Error::option("output", format!("{} {what}", output.display())));
    let metadata = match fs::symlink_metadata(output) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(output, e)),
    };
    if !metadata.is_dir() {
        return refuse("is there and is not a directory");
    }
    if let (Ok(from), Ok(to)) = (fs::canonicalize(source), fs::canonicalize(output))
        && from.starts_with(&to)
    {
        return refuse("holds the model that is trained");
    }
    let is_empty = fs::read_dir(output).map_err(|e| Error::io(output, e))?.next().is_none();
    match (is_empty, options.force, output.join("config.json").is_file()) {
        (true, _, _) | (_, true, true) => Ok(()),
        (_, false, _) => refuse("is there already: give another name, or force its replacement"),
        (_, true, false) => refuse("is no model directory (it has no config.json): it is not replaced"),
    }
}

/// Renames the finished directory to `output`. A directory that may be replaced is first renamed itself, put back if this fails, and else
/// removed.
fn replace(staging: &Path, output: &Path, options: ExportOptions) -> Result<()> {
    let fail = |e| Error::io(output, e);
    let _ = fs::remove_dir(output);
    if !(options.force && output.exists()) {
        return fs::rename(staging, output).map_err(fail);
    }
    let old = hidden_beside(output, ".trivec-old")?;
    let _ = fs::remove_dir_all(&old);
    fs::rename(output, &old).map_err(fail)?;
    if let Err(e) = fs::rename(staging, output) {
        fs::rename(&old, output).map_err(fail)?;
        return Err(fail(e));
    }
    fs::remove_dir_all(&old).map_err(|e| Error::io(&old, e))
}
