//! Converts a checkpoint of any form that the engine loads to a directory of safetensors: one `model.safetensors` with the heads in it and
//! names without prefixes, a file for each `Dense` module, and the small files as they were.
//!
//! Tensors go from file to file through one buffer, so memory does not grow with the model; every number is the same as before, in the
//! same type. The same source gives the same bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::staging::Staging;
use crate::config::{ModelConfig, SENTENCE_FILES, is_plain_relative, parse_json};
use crate::engine::read::{read_settings, read_tokenizer};
use crate::error::{Error, Result};
use crate::weights::{
    Checkpoint, HeadWeights, Q4_0_KEY, Source, UnreadTensor, dense_module_tensors, encoder_shapes, head_tensors,
};

/// Files that are copied if they exist, besides [`SENTENCE_FILES`] and the `config.json` in each folder that `modules.json` names.
const COPIED: [&str; 10] = [
    "config.json",
    "tokenizer.json",
    "sentencepiece.bpe.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "modules.json",
    "config_sentence_transformers.json",
    "README.md",
    "LICENSE",
];

/// Bytes that are read, checked and written at a time: a whole number of elements of every type, 4-bit blocks of 18 bytes included.
const BUFFER: usize = 18 << 16;
/// The data of a file begins at a multiple of this.
const ALIGNMENT: usize = 64;

/// How to import.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Whether an existing model directory is replaced.
    pub force: bool,
    /// Heads, `sparse_linear` or `colbert_linear`, that are not written, because the caller replaces them.
    pub without_heads: Vec<&'static str>,
}

impl ImportOptions {
    /// Sets whether an existing model directory is replaced.
    pub fn force(mut self, force: bool) -> ImportOptions {
        self.force = force;
        self
    }

    /// Sets the heads that are not written.
    pub fn without_heads(mut self, heads: Vec<&'static str>) -> ImportOptions {
        self.without_heads = heads;
        self
    }
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Bytes of all safetensors files.
    pub bytes: u64,
    /// Tensors that were written.
    pub tensors: usize,
    /// Tensors of the source that hold no weights (stored position ids), left out.
    pub left_out: usize,
    /// The files that were written, in that order.
    pub files: Vec<String>,
}

/// Writes the model in the directory `source` to the directory `target`, which appears when it is complete. `progress` gets the
/// number of bytes of weights written so far, and of all.
///
/// # Errors
/// [`ErrorKind::Model`](crate::ErrorKind::Model) if the source is no model that can be loaded: its weights, shapes, checksums and tokenizer
/// are checked; [`ErrorKind::Usage`](crate::ErrorKind::Usage) if `target` exists already; [`ErrorKind::Io`](crate::ErrorKind::Io) if
/// reading or writing fails. Nothing is left of the target in any of these cases, and what was there before stays.
pub fn import(
    source: &Path,
    target: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ImportReport> {
    refuse_inside(source, target)?;
    let files = Source::directory(source)?;
    let mut config = ModelConfig::from_json(&files.require("config.json")?, &files.path("config.json"))?;
    let (settings, about_tokenizer) = read_settings(&files, &mut config)?;
    read_tokenizer(&files, &about_tokenizer, &config)?;
    let pipeline = settings.pipeline;
    let checkpoint = Checkpoint::open(files.clone(), true)?;
    // The heads are small. Reading them checks them.
    HeadWeights::read(&checkpoint, &config, &pipeline)?;

    let (main, left_out) = Output::main(&checkpoint, &config, &options.without_heads)?;
    let mut outputs = vec![main];
    for module in &pipeline.dense {
        outputs.push(Output::dense_module(&checkpoint, &module.folder)?);
    }
    let staging = Staging::begin(target, options.force)?;
    let mut report = ImportReport { bytes: 0, tensors: 0, left_out, files: Vec::new() };
    for name in small_files(&files)? {
        if let Some(bytes) = files.open(&name)? {
            staging.file(&name, |out, path| out.write_all(&bytes).map_err(|e| Error::io(path, e)))?;
            report.files.push(name);
        }
    }
    let total = outputs.iter().map(Output::bytes).sum();
    let mut done = 0;
    let mut count = |bytes: u64| {
        done += bytes;
        progress(done, total);
    };
    for output in &outputs {
        report.bytes += staging.file(&output.name, |out, path| output.write(out, path, &mut count))?;
        report.tensors += output.tensors.len();
        report.files.push(output.name.clone());
    }
    staging.finish()?;
    Ok(report)
}

/// Refuses a target directory that is or contains the source, which would be removed with it.
fn refuse_inside(source: &Path, target: &Path) -> Result<()> {
    match (std::fs::canonicalize(source), std::fs::canonicalize(target)) {
        (Ok(from), Ok(to)) if from.starts_with(&to) => {
            let what = format!("{} holds the model that is to be imported", target.display());
            Err(Error::Option { option: "output", what })
        }
        _ => Ok(()),
    }
}

/// The names of files that are copied if they are there.
fn small_files(source: &Source) -> Result<Vec<String>> {
    let mut names: Vec<String> = COPIED.iter().chain(&SENTENCE_FILES).map(|name| (*name).to_owned()).collect();
    if let Some(modules) = source.open("modules.json")? {
        #[derive(serde::Deserialize)]
        struct Module {
            path: String,
        }
        let modules: Vec<Module> = parse_json(&modules, &source.path("modules.json"))?;
        let folders = modules.iter().filter(|module| is_plain_relative(&module.path));
        names.extend(folders.map(|module| format!("{}/config.json", module.path)));
    }
    Ok(names)
}

/// A tensor to be written.
struct Planned {
    name: String,
    tensor: UnreadTensor,
    /// The shape that it must have, if the configuration says.
    expected: Option<Vec<usize>>,
}

/// A safetensors file to be written.
struct Output {
    name: String,
    tensors: Vec<Planned>,
}

impl Output {
    /// Plans `model.safetensors`: all tensors of the main files that hold weights, and the heads. Also returns how many tensors hold none.
    fn main(checkpoint: &Checkpoint, config: &ModelConfig, without_heads: &[&str]) -> Result<(Output, usize)> {
        let mut expected: BTreeMap<String, Vec<usize>> = encoder_shapes(config).into_iter().collect();
        let mut tensors: BTreeMap<String, Planned> = BTreeMap::new();
        let mut left_out = 0;
        for tensor in checkpoint.tensors() {
            if !tensor.holds_weights() {
                left_out += 1;
                continue;
            }
            let name = checkpoint.without_prefix(&tensor.stored.name);
            if name.split_once('.').is_some_and(|(head, _)| without_heads.contains(&head)) {
                continue;
            }
            let planned = Planned { expected: expected.remove(&name), name: name.clone(), tensor };
            if let Some(first) = tensors.insert(name, planned) {
                let what = "it comes twice, with different prefixes";
                return Err(Error::tensor(&first.tensor.stored.file, &first.name, what));
            }
        }
        if let Some(name) = expected.keys().next() {
            return Err(Error::tensor(&checkpoint.source().path(""), name, "it is missing"));
        }
        for head in ["sparse_linear", "colbert_linear"].into_iter().filter(|head| !without_heads.contains(head)) {
            if let Some(head_tensors) = head_tensors(checkpoint, head)? {
                for (part, stored) in ["weight", "bias"].into_iter().zip(head_tensors) {
                    let name = format!("{head}.{part}");
                    tensors.insert(name.clone(), Planned { name, tensor: stored.into(), expected: None });
                }
            }
        }
        Ok((Output::new("model.safetensors".to_owned(), tensors.into_values().collect()), left_out))
    }

    /// Plans the file of a `Dense` module.
    fn dense_module(checkpoint: &Checkpoint, folder: &str) -> Result<Output> {
        let tensors = dense_module_tensors(checkpoint, folder)?.into_iter();
        let planned =
            tensors.map(|stored| Planned { name: stored.name.clone(), tensor: stored.into(), expected: None });
        Ok(Output::new(format!("{folder}/model.safetensors"), planned.collect()))
    }

    /// A file with these tensors. Those with wide elements come first, so that all are aligned without gaps.
    fn new(name: String, mut tensors: Vec<Planned>) -> Output {
        let width = |planned: &Planned| match planned.tensor.stored.entry.dtype.as_str() {
            "F64" => 8,
            "F32" => 4,
            "F16" | "BF16" => 2,
            _ => 1,
        };
        tensors.sort_by(|a, b| width(b).cmp(&width(a)).then_with(|| a.name.cmp(&b.name)));
        Output { name, tensors }
    }

    /// Bytes of the tensors.
    fn bytes(&self) -> u64 {
        self.tensors.iter().map(|planned| planned.tensor.stored.entry.range.len() as u64).sum()
    }

    /// The header as JSON, padded with spaces so that the data begins at a multiple of [`ALIGNMENT`].
    fn header(&self) -> Vec<u8> {
        let q4_0 = self.tensors.iter().any(|planned| planned.tensor.stored.q4_0);
        let metadata = if q4_0 { json!({Q4_0_KEY: "1"}) } else { json!({"format": "pt"}) };
        let mut entries = serde_json::Map::new();
        entries.insert("__metadata__".to_owned(), metadata);
        let mut at = 0;
        for Planned { name, tensor, .. } in &self.tensors {
            let entry = &tensor.stored.entry;
            let end = at + entry.range.len();
            entries
                .insert(name.clone(), json!({"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [at, end]}));
            at = end;
        }
        let mut json = serde_json::Value::Object(entries).to_string().into_bytes();
        json.resize((8 + json.len()).next_multiple_of(ALIGNMENT) - 8, b' ');
        json
    }

    /// Writes the file and returns its length. `count` is called with the number of bytes of weights of each write.
    fn write(&self, out: &mut dyn Write, path: &Path, count: &mut dyn FnMut(u64)) -> Result<u64> {
        let io = |e| Error::io(path, e);
        let header = self.header();
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        out.write_all(&header).map_err(io)?;
        let mut buffer = vec![0; BUFFER];
        for Planned { tensor, expected, .. } in &self.tensors {
            let stored = tensor.read();
            if let Some(shape) = expected {
                stored.check_shape(shape)?;
            }
            let len = stored.entry.range.len();
            for from in (0..len).step_by(BUFFER) {
                let part = &mut buffer[..BUFFER.min(len - from)];
                stored.copy_to(from, part);
                stored.check_part(from, part)?;
                out.write_all(part).map_err(io)?;
                count(part.len() as u64);
            }
        }
        Ok(8 + header.len() as u64 + self.bytes())
    }
}
