//! Loads a checkpoint by its packed copy, which is packed once, compared, kept, and found again by the checkpoint's content.
//!
//! ```text
//! listing of the files, seen before ─▶ the copy
//! content of the files, packed before ─▶ the copy
//! neither ─▶ pack ─▶ compare ─▶ record
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::copies::{Copies, Listing, PackedCopy};
use super::error::{HubError, HubErrorKind};
use super::staged::{self, Watcher};
use super::store::Store;
use trivec::internal::{Content, Stamp, read_through};
use trivec::pack::PackOptions;
use trivec::pack::verify::{Promise, bundled_texts, verify};
use trivec::{ErrorKind, LoadOptions, Model, RerankOptions, WeightFormat};

/// A packed copy is compared with its checkpoint on every fourth of the bundled texts: enough to notice a file of another model.
const TEXTS_STEP: usize = 4;

/// Progress of [`load_packed`]. Use `()` to ignore it.
pub trait CopyProgress: Watcher {
    /// Something a person may want to know.
    fn note(&self, text: &str);
    /// `done` of the checkpoint's `total` bytes have been read, to tell what it holds.
    fn reading(&self, done: u64, total: u64);
    /// `done` of `total` texts have been compared.
    fn comparing(&self, done: usize, total: usize);
    /// A stage is over.
    fn end(&self);
}

impl CopyProgress for () {
    fn note(&self, _: &str) {}
    fn reading(&self, _: u64, _: u64) {}
    fn comparing(&self, _: usize, _: usize) {}
    fn end(&self) {}
}

/// Why there is no packed copy.
#[derive(Debug, Clone)]
pub enum CopyError {
    /// The checkpoint cannot be read or cannot be packed.
    Checkpoint(HubError),
    /// The store cannot keep the copy.
    NotKept(HubError),
    /// The copy is not faithful enough to the checkpoint, and is not used: what is wrong with it.
    NotFaithful(Vec<String>),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::Checkpoint(error) => error.fmt(f),
            CopyError::NotKept(error) => write!(f, "a packed copy cannot be kept: {error}"),
            CopyError::NotFaithful(failures) => {
                write!(f, "the packed copy is not faithful enough and is not used: {}", failures.join("; "))
            }
        }
    }
}

impl std::error::Error for CopyError {}

impl From<HubError> for CopyError {
    fn from(error: HubError) -> CopyError {
        CopyError::Checkpoint(error)
    }
}

impl From<trivec::Error> for CopyError {
    fn from(error: trivec::Error) -> CopyError {
        CopyError::Checkpoint(error.into())
    }
}

/// Loads the packed copy of the checkpoint in `directory`. The model's name is that of the checkpoint. If `store` has no copy of its content
/// in the format `weights`, one is packed, compared with the checkpoint and kept.
///
/// # Errors
/// [`CopyError`], which tells whether the checkpoint, the store or the copy is at fault.
pub fn load_packed(
    directory: &Path,
    weights: WeightFormat,
    load: &LoadOptions,
    store: &Store,
    progress: &dyn CopyProgress,
) -> Result<Model, CopyError> {
    let copies = Copies::of(store);
    let job = Job { directory, weights, load, copies: &copies, progress };
    let source = fs::canonicalize(directory).map_err(|e| HubError::io(directory, &e))?;
    let listing = Listing::of(&source);
    let seen = listing.as_ref().and_then(|listing| copies.seen(&source, weights, listing));
    if let Some(model) = seen.and_then(|key| copies.find(&key)).map(|copy| job.open(&copy)).transpose()?.flatten() {
        return Ok(model);
    }
    let original = Model::load_with(directory, load)?;
    let content = Checkpoint::read(&original, progress)?;
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
    // The key is remembered only if the files' stamps were the same before and after they were read.
    if let Some(listing) = listing.filter(|before| Listing::of(&source).as_ref() == Some(before)) {
        copies.remember(&source, weights, &listing, &key);
    }
    Ok(model)
}

/// The checkpoint, the format it is packed to, and how it is loaded.
struct Job<'a> {
    directory: &'a Path,
    weights: WeightFormat,
    load: &'a LoadOptions,
    copies: &'a Copies,
    progress: &'a dyn CopyProgress,
}

impl Job<'_> {
    /// Loads a copy and gives it the checkpoint's name. Removes a damaged copy, and returns `None` for it.
    fn open(&self, copy: &PackedCopy) -> Result<Option<Model>, CopyError> {
        match self.load(&self.copies.path(&copy.key)) {
            Ok(model) => Ok(Some(model)),
            Err(error) if error.kind() == ErrorKind::Model => {
                self.progress.note(&damaged(&error));
                self.copies.remove(copy)?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Loads a packed file and gives the model the checkpoint's name.
    fn load(&self, path: &Path) -> trivec::Result<Model> {
        let model = Model::load_with(path, self.load)?;
        Ok(model.called(self.directory.display().to_string()))
    }

    /// Packs the checkpoint, unless another process has meanwhile, and compares the copy with it.
    fn make(&self, original: &Model, content: &Checkpoint, key: &str, source: &Path) -> Result<Model, CopyError> {
        let (copies, weights, progress) = (self.copies, self.weights, self.progress);
        let what = format!("the packed copy of {}", self.directory.display());
        let _lock = copies.lock(key, &what, &|text| progress.note(text)).map_err(not_kept)?;
        if let Some(copy) = copies.find(key)
            && let Some(model) = self.open(&copy)?
        {
            return Ok(model);
        }
        let path = copies.path(key);
        // A file that does not count as a copy may be there: an earlier run packed it and was ended before it had compared it, or the file no
        // longer has the length in its record.
        let earlier = match path.exists().then(|| self.load(&path)) {
            Some(Err(error)) => {
                progress.note(&damaged(&error));
                None
            }
            Some(Ok(model)) => Some(model),
            None => None,
        };
        let model = match earlier {
            Some(model) => model,
            None => {
                let (name, kept_in) = (weights.name(), copies.directory().display());
                let from = self.directory.display();
                progress.note(&format!("packing {from} to {name}, once; the copy is kept in {kept_in}"));
                let digest = content.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let options = PackOptions { source: Some(format!("sha256:{digest}")), ..PackOptions::new(weights) };
                let packed = staged::pack(original, &options, &path, progress);
                progress.end();
                packed.map_err(not_kept)?;
                self.load(&path)?
            }
        };
        let fidelity = self.compare(original, &model).inspect_err(|_| {
            // The file has no record yet, so no process uses it.
            let _ = fs::remove_file(&path);
        })?;
        content.check_unchanged()?;
        copies.add(key, source, weights, fidelity).map_err(not_kept)?;
        Ok(model)
    }

    /// Refuses a copy that is not faithful to the checkpoint. Returns the mean cosine of their dense vectors, or `None` for a reranker.
    fn compare(&self, original: &Model, copy: &Model) -> Result<Option<f64>, CopyError> {
        let texts: Vec<String> = bundled_texts().into_iter().step_by(TEXTS_STEP).collect();
        self.progress.note(&format!("comparing the copy with the checkpoint on {} texts", texts.len()));
        let promise = Promise::least(self.weights);
        let (failures, fidelity) = if original.info().rerank {
            (compare_rerankers(original, copy, &texts, &promise)?, None)
        } else {
            let report = verify(original, copy, &texts, &|done, total| self.progress.comparing(done, total));
            self.progress.end();
            let report = report?;
            (report.failures(&promise), Some(report.dense.mean))
        };
        if failures.is_empty() { Ok(fidelity) } else { Err(CopyError::NotFaithful(failures)) }
    }
}

/// Blames the store for an error of the file system, and the checkpoint for any other.
fn not_kept(error: HubError) -> CopyError {
    match error.kind {
        HubErrorKind::Io => CopyError::NotKept(error),
        _ => CopyError::Checkpoint(error),
    }
}

/// The note about a damaged copy.
fn damaged(error: &trivec::Error) -> String {
    format!("the packed copy is damaged and is made anew: {error}")
}

/// What is wrong with a packed reranker: an entry if its scores of pairs of texts differ from the checkpoint's, in the mean, by more than
/// `promise` allows.
fn compare_rerankers(
    original: &Model,
    copy: &Model,
    texts: &[String],
    promise: &Promise,
) -> Result<Vec<String>, CopyError> {
    let pairs: Vec<(&String, &String)> = texts.iter().zip(&texts[1..]).collect();
    let scores = |model: &Model| model.rerank_pairs(&pairs, &RerankOptions::default());
    let (expected, found) = (scores(original)?, scores(copy)?);
    let differences = expected.iter().zip(&found).map(|(a, b)| f64::from((a.score - b.score).abs()));
    let mean = differences.sum::<f64>() / pairs.len() as f64;
    let failed = mean.is_nan() || mean > promise.published;
    let what = format!("the mean distance of scores is {mean:.6}, expected at most {}", promise.published);
    Ok(failed.then_some(what).into_iter().collect())
}

/// The content of a checkpoint: a digest of its files, and their stamps when they were read.
struct Checkpoint {
    digest: [u8; 32],
    files: Vec<(PathBuf, Arc<File>, Option<Stamp>)>,
}

impl Checkpoint {
    /// Reads and digests all files that a model was loaded from.
    fn read(model: &Model, progress: &dyn CopyProgress) -> Result<Checkpoint, HubError> {
        let mut hash = Sha256::new();
        let mut files = Vec::new();
        let contents = model.contents();
        let total: u64 = contents.iter().map(|(_, content)| content.bytes()).sum();
        let mut done = 0;
        for (name, content) in contents {
            let path = Path::new(&model.info().name).join(&name);
            let bytes = content.bytes();
            let Content::File(Some(file)) = content else {
                return Err(HubError::model(format!("{}: its content cannot be read again", path.display())));
            };
            let failed = |e: io::Error| HubError::io(&path, &e);
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(&name);
            hash.update(bytes.to_le_bytes());
            let stamp = Stamp::of(&file).map_err(failed)?;
            let read = read_through(&file, |bytes| {
                hash.update(bytes);
                done += bytes.len() as u64;
                progress.reading(done, total);
            });
            read.map_err(failed)?;
            files.push((path, file, stamp));
        }
        progress.end();
        let content = Checkpoint { digest: hash.finalize().into(), files };
        content.check_unchanged()?;
        Ok(content)
    }

    /// Refuses a checkpoint whose files were changed since they were digested, because then other bytes may have been packed.
    fn check_unchanged(&self) -> Result<(), HubError> {
        for (path, file, stamp) in &self.files {
            if Stamp::of(file).map_err(|e| HubError::io(path, &e))? != *stamp {
                let what = "the file was changed while it was packed; try again when it is whole";
                return Err(HubError::model(format!("{}: {what}", path.display())));
            }
        }
        Ok(())
    }
}
