//! From a name to a model in use: fetch, pack, verify, install. Every completed stage stays on disk, so that the same call goes on where
//! an earlier one ended, however it ended.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trivec::pack::PackOptions;
use trivec::pack::verify::{Promise, VerifyReport, bundled_texts, verify};
use trivec::{LoadOptions, Model, WeightFormat};

use crate::download::Progress;
use crate::error::HubError;
use crate::fetch::{FetchOptions, Fetched, fetch_to_pack};
use crate::names::Spec;
use crate::staged::{self, Watcher};
use crate::store::{Record, Store};

/// How to pull a model.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The hubs to fetch from, and how.
    pub fetch: FetchOptions,
    /// How to store the layers' weights.
    pub weights: WeightFormat,
    /// Whether to pack and verify again a model that is installed or packed already.
    pub force: bool,
    /// Whether the downloaded files are kept after the installation.
    pub keep_source: bool,
    /// How models are loaded to be packed and compared.
    pub load: LoadOptions,
}

impl PullOptions {
    /// Options that store the layers as `weights`; everything else is as `trivec pull` does it without options.
    pub fn new(weights: WeightFormat) -> PullOptions {
        PullOptions {
            fetch: FetchOptions::default(),
            weights,
            force: false,
            keep_source: false,
            load: LoadOptions::default(),
        }
    }
}

/// Progress of a pull. Use `()` to ignore it.
pub trait PullProgress: Progress + Watcher {
    /// `done` of `total` texts have been compared.
    fn comparing(&self, done: usize, total: usize);
}

impl PullProgress for () {
    fn comparing(&self, _: usize, _: usize) {}
}

/// A model that is installed and is now the one in use.
#[derive(Debug)]
pub struct Pulled {
    /// The store's record of the model.
    pub record: Record,
    /// What was done; `None` if the model was installed already.
    pub made: Option<Made>,
}

/// What a pull had to do.
#[derive(Debug)]
pub struct Made {
    /// Bytes of all files that the model needs, newly downloaded or not.
    pub source_bytes: u64,
    /// Where the downloaded files are, if they were to be kept.
    pub source: Option<PathBuf>,
    /// How the packed model compares with its source.
    pub report: VerifyReport,
}

/// Fetches the model that `spec` names, packs it, compares the result with its source, installs it in `store` and makes it the one that is
/// used without a name. A call reuses the verified files that an earlier call has downloaded and, unless `options.force` is set, the file
/// that it has packed; the comparison is made again. After the installation the downloaded files are removed, unless `options.keep_source`
/// is set.
///
/// ```no_run
/// # use trivec_hub::{PullOptions, Store, names::Spec, pull};
/// # fn main() -> Result<(), trivec_hub::HubError> {
/// let store = Store::from_env()?;
/// let options = PullOptions::new(trivec::WeightFormat::Int8);
/// let pulled = pull(&Spec::parse("bge-m3")?, &options, &store, &())?; // `()` reports no progress
/// let model = trivec::Model::load(store.path(&pulled.record));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`HubErrorKind`](crate::HubErrorKind) tells the causes apart: a name or an option that makes no sense, a hub that cannot be reached or does
/// not have the model, a file that is not what was promised, a packed model that is not faithful enough, the file system, and another process
/// that is pulling the same model.
pub fn pull(
    spec: &Spec,
    options: &PullOptions,
    store: &Store,
    progress: &dyn PullProgress,
) -> Result<Pulled, HubError> {
    let _lock = store.lock_model(&spec.name, options.fetch.wait, &|text| progress.note(text))?;
    // If the current installation is damaged, the model is installed again.
    let installed = store.find(&spec.name).ok().flatten();
    let same = |record: &&Record| record.weights == options.weights.name() && !options.force;
    let known = spec.known.filter(|_| options.fetch.pinned);
    let wanted = spec.revision.as_deref().or(known.and_then(|known| known.revision));
    if let Some(record) = installed.as_ref().filter(same)
        && wanted == Some(record.revision.as_str())
    {
        if !record.keep_source && !options.keep_source {
            // Removes files that a killed run has left although the model was installed.
            remove_files(&store.source_directory(&record.hub, &record.repository).join(&record.revision));
        }
        return already(store, record);
    }
    let fetched = fetch_to_pack(spec, &options.fetch, Some(options.weights), store, progress)?;
    if let Some(record) = installed.as_ref().filter(same)
        && (record.hub.as_str(), &record.revision) == (fetched.hub.name(), &fetched.revision)
    {
        if !record.keep_source && !options.keep_source {
            remove_files(&fetched.directory);
        }
        return already(store, record);
    }
    let (path, report) = make(spec, options, store, installed.as_ref(), &fetched, progress)?;
    let verification = serde_json::to_value(&report).map_err(|e| HubError::model(e.to_string()))?;
    let record = Record {
        format: 0,
        name: spec.name.clone(),
        hub: fetched.hub.name().to_owned(),
        repository: fetched.repository.clone(),
        revision: fetched.revision.clone(),
        weights: options.weights.name().to_owned(),
        file: format!("{}/{}", last_part(&store.model_directory(&spec.name)), last_part(&path)),
        bytes: fs::metadata(&path).map_err(|e| HubError::io(&path, &e))?.len(),
        fidelity: verification.pointer("/dense/mean").and_then(Value::as_f64),
        verification,
        keep_source: options.keep_source,
        installed: 0,
        installed_nanos: 0,
    };
    let record = store.install(record)?;
    let source = if options.keep_source {
        Some(fetched.directory.clone())
    } else {
        remove_files(&fetched.directory);
        None
    };
    Ok(Pulled { record, made: Some(Made { source_bytes: fetched.bytes, source, report }) })
}

/// Makes a model that is installed already the one in use.
fn already(store: &Store, record: &Record) -> Result<Pulled, HubError> {
    store.set_default(Some(&record.name))?;
    Ok(Pulled { record: record.clone(), made: None })
}

/// The last part of a path: the name of a file or directory.
fn last_part(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Packs the fetched files, unless an earlier run has, and compares the result with them. Returns the packed file and the comparison; a
/// packed model that is not faithful enough is an error.
fn make(
    spec: &Spec,
    options: &PullOptions,
    store: &Store,
    installed: Option<&Record>,
    fetched: &Fetched,
    progress: &dyn PullProgress,
) -> Result<(PathBuf, VerifyReport), HubError> {
    let source = Model::load_with(&fetched.directory, &options.load)?;
    let directory = store.model_directory(&spec.name);
    fs::create_dir_all(&directory).map_err(|e| HubError::io(&directory, &e))?;
    remove_temporary(&directory);
    let in_use = installed.map(|record| store.path(record));
    let path = packed_path(&directory, options.weights, fetched, in_use.as_deref());
    // No record names this file, so it is not in use; an interrupted run may have packed it.
    let earlier = if path.exists() && !options.force { Model::load_with(&path, &options.load).ok() } else { None };
    let candidate = match earlier {
        Some(candidate) => {
            progress.note("packed already by an earlier run");
            candidate
        }
        None => {
            progress.note(&format!("packing to {}", options.weights.name()));
            let from = format!("{}:{}@{}", fetched.hub.name(), fetched.repository, fetched.revision);
            let pack_options = PackOptions { source: Some(from), ..PackOptions::new(options.weights) };
            staged::pack(&source, &pack_options, &path, progress)?;
            Model::load_with(&path, &options.load)?
        }
    };
    let texts = bundled_texts();
    progress.note(&format!("comparing with the source on {} texts", texts.len()));
    let report = verify(&source, &candidate, &texts, &|done, total| progress.comparing(done, total))?;
    let promise = Promise::least(options.weights);
    let mut failures = report.failures(&promise);
    // A model called `bge-m3` must have BGE-M3's published values. Other models of its shape have others.
    failures.extend(report.published_failure(&promise).filter(|_| spec.name == "bge-m3" && options.fetch.pinned));
    if failures.is_empty() {
        return Ok((path, report));
    }
    Err(HubError::model(format!(
        "the packed model is not faithful enough and is not installed: {}. Kept are the packed model, {}, and the downloaded files, {}; \
         `trivec models rm {}` removes them",
        failures.join("; "),
        path.display(),
        fetched.directory.display(),
        spec.name
    )))
}

/// The path for the new packed file, which is never the path of the file in use.
fn packed_path(directory: &Path, weights: WeightFormat, fetched: &Fetched, in_use: Option<&Path>) -> PathBuf {
    let version = env!("CARGO_PKG_VERSION");
    let stem = format!("{:.12}-{}-{version}", fetched.revision, weights.name());
    let first = directory.join(format!("{stem}.safetensors"));
    if in_use == Some(first.as_path()) { directory.join(format!("{stem}-again.safetensors")) } else { first }
}

/// Removes what a killed run was writing. The caller holds the model's lock, so no other process writes here.
fn remove_temporary(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(".trivec-") {
            // A file that cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes downloaded files. Errors are ignored, because the installed model does not need the files.
fn remove_files(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    if let Some(parent) = directory.parent() {
        // This fails, as it should, if anything else is in it.
        let _ = fs::remove_dir(parent);
    }
}
