//! `--weights` for an unpacked checkpoint: it is packed once, and the copy is found again by the checkpoint's content.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::args::ModelArgs;
use super::exit::{self, Failure, Result};
use super::loading::{check_weights, choose, load_located, note_scalar, options};
use super::progress::{self, Bar};
use trivec::internal::{Content, Stamp, read_through};
use trivec::pack::verify::{Promise, bundled_texts, verify};
use trivec::pack::{PackOptions, advised_format, estimated_bytes};
use trivec::{ErrorKind, Model, RerankOptions, WeightFormat};
use trivec_hub::{Copies, Listing, Located, PackedCopy, Store, staged};

/// A packed copy is compared with its checkpoint on every fourth of the bundled texts: enough to find a file that is not the model's.
const TEXTS_STEP: usize = 4;

/// Loads the packed copy of the checkpoint in `directory`. If there is none, it is made first.
pub(super) fn load(directory: &Path, weights: WeightFormat, args: &ModelArgs) -> Result<Model> {
    let copies = Copies::of(&Store::from_env()?);
    let job = Job { directory, weights, args, copies: &copies };
    let source = fs::canonicalize(directory).map_err(|e| Failure::io_path(directory, &e))?;
    let listing = Listing::of(&source);
    let seen = listing.as_ref().and_then(|listing| copies.seen(&source, weights, listing));
    if let Some(model) = seen.and_then(|key| copies.find(&key)).map(|copy| job.open(&copy)).transpose()?.flatten() {
        return Ok(model);
    }
    let original = Model::load_with(directory, &options(args))?;
    let content = Checkpoint::read(&original, args.quiet)?;
    let key = Copies::key(&content.digest, weights);
    let known = match copies.find(&key) {
        Some(copy) => job.open(&copy)?.map(|model| (copy, model)),
        None => None,
    };
    let model = match known {
        Some((copy, model)) => {
            copies.also_of(copy, &source);
            model
        }
        None => job.make(&original, &content, &key, &source)?,
    };
    // Only if the files looked the same before and after they were read.
    if let Some(listing) = listing.filter(|before| Listing::of(&source).as_ref() == Some(before)) {
        copies.remember(&source, weights, &listing, &key);
    }
    Ok(model)
}

/// Loads the model for a command that takes `--weights`: a checkpoint that is not packed in its packed copy, or, without the option, with
/// a line on stderr that says what that would bring.
pub(super) fn load_as(weights: Option<WeightFormat>, args: &ModelArgs) -> Result<Model> {
    let chosen = choose(args)?;
    let directory = match &chosen {
        Located::Path(path) if path.is_dir() => Some(path.clone()),
        _ => None,
    };
    match (weights, directory) {
        (Some(weights), Some(directory)) => {
            let model = load(&directory, weights, args)?;
            note_scalar(&model, args);
            Ok(model)
        }
        (Some(weights), None) => {
            let model = load_located(chosen, args)?;
            check_weights(&model, weights)?;
            Ok(model)
        }
        (None, directory) => {
            let model = load_located(chosen, args)?;
            if let Some(directory) = directory.filter(|_| !args.quiet) {
                advise(&model, &directory, Advice::Option);
            }
            Ok(model)
        }
    }
}

/// The checkpoint, and the format it is packed to.
struct Job<'a> {
    directory: &'a Path,
    weights: WeightFormat,
    args: &'a ModelArgs,
    copies: &'a Copies,
}

impl Job<'_> {
    fn note(&self, text: &str) {
        if !self.args.quiet {
            say!("trivec: {text}");
        }
    }

    /// Loads a copy, under the checkpoint's name. One that is damaged is removed: `None`.
    fn open(&self, copy: &PackedCopy) -> Result<Option<Model>> {
        match self.load(&self.copies.path(&copy.key)) {
            Ok(model) => Ok(Some(model)),
            Err(error) if error.kind() == ErrorKind::Model => {
                self.note(&damaged(&error));
                self.copies.remove(copy)?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn load(&self, path: &Path) -> trivec::Result<Model> {
        let model = Model::load_with(path, &options(self.args))?;
        Ok(model.called(self.directory.display().to_string()))
    }

    /// Packs the checkpoint, unless another process has meanwhile, and compares the copy with it.
    fn make(&self, original: &Model, content: &Checkpoint, key: &str, source: &Path) -> Result<Model> {
        let (copies, weights) = (self.copies, self.weights);
        let what = format!("the packed copy of {}", self.directory.display());
        let _lock = copies.lock(key, &what, &|text| self.note(text)).map_err(|e| self.not_kept(e.into()))?;
        if let Some(copy) = copies.find(key)
            && let Some(model) = self.open(&copy)?
        {
            return Ok(model);
        }
        let path = copies.path(key);
        // A file without a record: an earlier run packed it and was ended before it had compared it. Or one that has no longer the length
        // that its record names.
        let earlier = match path.exists().then(|| self.load(&path)) {
            Some(Err(error)) => {
                self.note(&damaged(&error));
                None
            }
            Some(Ok(model)) => Some(model),
            None => None,
        };
        let model = match earlier {
            Some(model) => model,
            None => {
                let (name, kept_in) = (weights.name(), copies.directory().display());
                self.note(&format!(
                    "packing {} to {name}, once; the copy is kept in {kept_in}",
                    self.directory.display()
                ));
                let watcher = Bar::new(self.args.quiet);
                let digest = content.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let options = PackOptions { source: Some(format!("sha256:{digest}")), ..PackOptions::new(weights) };
                let packed = staged::pack(original, &options, &path, &watcher);
                watcher.finish();
                packed.map_err(|e| self.not_kept(e.into()))?;
                self.load(&path)?
            }
        };
        let fidelity = self.compare(original, &model).inspect_err(|_| {
            // It has no record, so nobody uses it.
            let _ = fs::remove_file(&path);
        })?;
        content.check_unchanged()?;
        copies.add(key, source, weights, fidelity).map_err(|e| self.not_kept(e.into()))?;
        Ok(model)
    }

    /// Refuses a copy that is not faithful to the checkpoint; returns the mean cosine of its dense vectors.
    fn compare(&self, original: &Model, copy: &Model) -> Result<Option<f64>> {
        let texts: Vec<String> = bundled_texts().into_iter().step_by(TEXTS_STEP).collect();
        self.note(&format!("comparing the copy with the checkpoint on {} texts", texts.len()));
        let promise = Promise::least(self.weights);
        let (failures, fidelity) = if original.info().rerank {
            (compare_rerankers(original, copy, &texts, &promise)?, None)
        } else {
            let bar = progress::bar(self.args.quiet);
            let report = verify(original, copy, &texts, &|done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            });
            bar.finish_and_clear();
            let report = report?;
            (report.failures(&promise), Some(report.dense.mean))
        };
        if failures.is_empty() {
            return Ok(fidelity);
        }
        Err(Failure::model(format!(
            "--weights {}: {} packed is not faithful enough to itself and is not used: {}",
            self.weights.name(),
            self.directory.display(),
            failures.join("; ")
        )))
    }

    /// An error of the directory of copies says what to do.
    fn not_kept(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Message { code: exit::IO, message } => Failure::Message {
                code: exit::IO,
                message: format!(
                    "--weights {}: a packed copy cannot be kept: {message}; set TRIVEC_HOME to a directory that can be written to, or \
                     pack it yourself: {}",
                    self.weights.name(),
                    command(self.directory, self.weights)
                ),
            },
            other => other,
        }
    }
}

fn damaged(error: &trivec::Error) -> String {
    format!("the packed copy is damaged and is made anew: {error}")
}

/// How far the scores of two rerankers may lie apart, in the mean over pairs of texts.
fn compare_rerankers(original: &Model, copy: &Model, texts: &[String], promise: &Promise) -> Result<Vec<String>> {
    let pairs: Vec<(&String, &String)> = texts.iter().zip(&texts[1..]).collect();
    let scores = |model: &Model| model.rerank_pairs(&pairs, &RerankOptions::default());
    let (expected, found) = (scores(original)?, scores(copy)?);
    let differences = expected.iter().zip(&found).map(|(a, b)| f64::from((a.score - b.score).abs()));
    let mean = differences.sum::<f64>() / pairs.len() as f64;
    let failed = mean.is_nan() || mean > promise.published;
    let what = format!("the mean distance of scores is {mean:.6}, expected at most {}", promise.published);
    Ok(failed.then_some(what).into_iter().collect())
}

/// What a checkpoint holds.
struct Checkpoint {
    digest: [u8; 32],
    files: Vec<(PathBuf, Arc<File>, Option<Stamp>)>,
}

impl Checkpoint {
    /// Reads all files that a model was loaded from.
    fn read(model: &Model, quiet: bool) -> Result<Checkpoint> {
        let mut hash = Sha256::new();
        let mut files = Vec::new();
        let contents = model.contents();
        let total: u64 = contents.iter().map(|(_, content)| bytes_of(content)).sum();
        let (bar, mut done) = (Bar::new(quiet), 0);
        for (name, content) in contents {
            let path = Path::new(&model.info().name).join(&name);
            let Content::File(Some(file)) = content else {
                return Err(Failure::model(format!("{}: its content cannot be read again", path.display())));
            };
            let failed = |e: io::Error| Failure::io_path(&path, &e);
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(&name);
            hash.update(bytes_of(&Content::File(Some(Arc::clone(&file)))).to_le_bytes());
            let stamp = Stamp::of(&file).map_err(failed)?;
            let read = read_through(&file, |bytes| {
                hash.update(bytes);
                done += bytes.len() as u64;
                bar.set("reading", done, total);
            });
            read.map_err(failed)?;
            files.push((path, file, stamp));
        }
        bar.finish();
        let content = Checkpoint { digest: hash.finalize().into(), files };
        content.check_unchanged()?;
        Ok(content)
    }

    /// Whether the files are still those that were read: what was packed is then what was digested.
    fn check_unchanged(&self) -> Result<()> {
        for (path, file, stamp) in &self.files {
            if Stamp::of(file).map_err(|e| Failure::io_path(path, &e))? != *stamp {
                let what = "the file was changed while it was packed; try again when it is whole";
                return Err(Failure::model(format!("{}: {what}", path.display())));
            }
        }
        Ok(())
    }
}

/// Bytes of a model's file; 0 where that is not known.
fn bytes_of(content: &Content) -> u64 {
    match content {
        Content::File(Some(file)) => file.metadata().map_or(0, |metadata| metadata.len()),
        Content::Static(bytes) => bytes.len() as u64,
        Content::File(None) | Content::Memory => 0,
    }
}

/// The command that packs a checkpoint.
fn command(directory: &Path, weights: WeightFormat) -> String {
    let name = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    let name = name.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
    format!(
        "`trivec pack {} --weights {} -o {name}-{}.safetensors`",
        directory.display(),
        weights.name(),
        weights.name()
    )
}

/// How to have a checkpoint packed.
pub(super) enum Advice {
    /// The command at hand takes `--weights`.
    Option,
    Command,
}

/// Prints one line about what packing the checkpoint in `directory` (loaded as `model`) would gain; nothing if the file would not be
/// smaller.
pub(super) fn advise(model: &Model, directory: &Path, how: Advice) {
    let weights = advised_format(model);
    let is_weights = |name: &str| [".safetensors", ".bin", ".pt"].iter().any(|suffix| name.ends_with(suffix));
    let from: u64 = model.contents().iter().filter(|(name, _)| is_weights(name)).map(|(_, c)| bytes_of(c)).sum();
    let Ok(to) = estimated_bytes(model, weights) else { return };
    if to >= from {
        return;
    }
    let name = weights.name();
    let how = match how {
        Advice::Option => format!("`--weights {name}` packs it once and uses the copy"),
        Advice::Command => format!("{} packs it", command(directory, weights)),
    };
    let (from, to) = (from as f64 / 1e6, to as f64 / 1e6);
    say!("trivec: {} is not packed: {from:.1} MB of weights, {to:.1} MB as {name}; {how}", directory.display());
}
