//! Fetches the files of a model that a name names: asks the hubs for the listing, and downloads and verifies what is not there yet.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::{CachedRepository, endpoint, endpoint_at, offline};
use super::client::{Client, Patience};
use super::download::{Job, Progress, part_path};
use super::error::{HubError, HubErrorKind};
use super::hash::{Hash, check};
use super::listing::{Hub, Listing, RemoteFile};
use super::lock::Lock;
use super::names::{KnownModel, Spec, is_commit};
use super::remote::list;
use super::select::{CONFIG, guides, needed};
use super::store::{Store, write_whole};
use trivec::WeightFormat;
use trivec::internal::check_config;

/// The list of files that a source directory is to hold, so that an interrupted pull can go on without asking a hub.
const MANIFEST: &str = ".trivec-files.json";

/// Free disk space that a download must leave for other purposes.
const SPARE_BYTES: u64 = 64 << 20;

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Address of Hugging Face's API, or of a mirror; `None`: that of `HF_ENDPOINT`, or the usual one.
    pub endpoint: Option<String>,
    /// The hubs to ask, the preferred one first.
    pub hubs: Vec<Hub>,
    /// Whether known models are fetched at their known revision and must have their known hashes.
    pub pinned: bool,
    /// How long to wait, and how often to try again.
    pub patience: Patience,
    /// How many files are fetched at a time.
    pub parallel: usize,
    /// Whether to wait for another process that fetches the same, instead of failing.
    pub wait: bool,
}

impl Default for FetchOptions {
    /// Hugging Face and, where that cannot be reached, ModelScope; known models at their known revision and hashes; four files at a time.
    fn default() -> Self {
        FetchOptions {
            endpoint: None,
            hubs: vec![Hub::HuggingFace, Hub::ModelScope],
            pinned: true,
            patience: Patience::default(),
            parallel: 4,
            wait: false,
        }
    }
}

/// A repository whose needed files are all there and verified.
#[derive(Debug)]
pub struct Fetched {
    /// Where they came from.
    pub hub: Hub,
    /// The repository there.
    pub repository: String,
    /// The commit or version.
    pub revision: String,
    /// Where the files lie now.
    pub directory: PathBuf,
    /// Bytes of the needed files.
    pub bytes: u64,
    /// Keeps other processes out of the directory.
    _lock: Lock,
}

/// Fetches the files of the model that `spec` names. A hub that cannot be reached is skipped if there is another. With
/// `HF_HUB_OFFLINE` only the first hub's files on this machine are looked at.
///
/// # Errors
/// [`HubErrorKind::Network`] if no hub can be reached; otherwise that of the first hub which answered:
/// [`HubErrorKind::NotFound`] if it does not have the model, [`HubErrorKind::Model`] if a file is not what was promised,
/// [`HubErrorKind::Usage`] for a malformed address, [`HubErrorKind::Io`] of the file system, and [`HubErrorKind::Busy`] if another
/// process is fetching the same and [`FetchOptions::wait`] is false.
pub fn fetch(spec: &Spec, options: &FetchOptions, store: &Store, progress: &dyn Progress) -> Result<Fetched, HubError> {
    fetch_to_pack(spec, options, None, store, progress)
}

/// As [`fetch`]; the disk must also have room for the model packed to `weights`, if it is to be packed.
pub(super) fn fetch_to_pack(
    spec: &Spec,
    options: &FetchOptions,
    weights: Option<WeightFormat>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Fetched, HubError> {
    let mut failures: Vec<HubError> = Vec::new();
    for (index, &hub) in options.hubs.iter().enumerate() {
        let others = index + 1 < options.hubs.len();
        let mut patience = options.patience.clone();
        if others {
            // If another hub is left to try, this one is given up sooner.
            patience.retries = patience.retries.min(2);
        }
        let client = Client::new(patience);
        match fetch_from(hub, &client, spec, options, weights, store, progress) {
            Err(error) if error.kind == HubErrorKind::Network => {
                if others && !offline() {
                    progress.note(&format!("{error}; trying {}", options.hubs[index + 1].name()));
                }
                failures.push(error);
            }
            done => return done,
        }
        if offline() {
            break;
        }
    }
    let mut message = failures.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ");
    if !offline() {
        message.push_str(
            ". Nothing that was fetched is lost: run the same command again. Where huggingface.co cannot be reached, a mirror may \
             be: set HF_ENDPOINT=https://hf-mirror.com, or give --from modelscope",
        );
    }
    Err(HubError::new(HubErrorKind::Network, message))
}

/// Fetches from one hub: gets the listing, decides which files are needed, and downloads those that are neither in place nor in Hugging
/// Face's cache.
fn fetch_from(
    hub: Hub,
    client: &Client,
    spec: &Spec,
    options: &FetchOptions,
    weights: Option<WeightFormat>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Fetched, HubError> {
    let known = spec.known.filter(|_| options.pinned && spec.revision.is_none());
    let revision = match hub {
        // ModelScope has revisions of its own.
        Hub::ModelScope => spec.revision.as_deref(),
        Hub::HuggingFace => spec.revision.as_deref().or(known.and_then(|known| known.revision)),
    };
    let home = store.source_directory(hub.name(), &spec.repository);
    let note = |text: &str| progress.note(text);
    let lock = store.lock_source(&spec.repository, options.wait, &note)?;
    let endpoint = match &options.endpoint {
        Some(base) if hub == Hub::HuggingFace => endpoint_at(base),
        _ => endpoint(hub),
    };
    let cached = if hub == Hub::HuggingFace { CachedRepository::find(&spec.repository) } else { None };

    let remembered = revision.filter(|revision| is_commit(revision)).and_then(|commit| manifest(&home.join(commit)));
    let mut listing = match remembered {
        Some(listing) => listing,
        None if offline() => offline_listing(cached.as_ref(), &home, hub, spec, revision)?,
        None => list(client, &endpoint, hub, &spec.repository, revision, &note)?,
    };
    if let Some(known) = known {
        hold_pins(known, &mut listing)?;
    }
    let listing = listing;

    let directory = home.join(&listing.revision);
    fs::create_dir_all(&directory).map_err(|e| HubError::io(&directory, &e))?;
    let job = Job { client, endpoint: &endpoint, listing: &listing, directory: &directory, progress };
    let place = |files: &[&RemoteFile]| -> Result<Vec<RemoteFile>, HubError> {
        let mut missing = Vec::new();
        for file in files {
            if !is_in_place(&directory, file, cached.as_ref(), &listing, progress)? {
                missing.push((*file).clone());
            }
        }
        Ok(missing)
    };
    let fetch_missing = |missing: &[RemoteFile]| -> Result<(), HubError> {
        if missing.is_empty() {
            return Ok(());
        }
        if offline() {
            let names: Vec<&str> = missing.iter().map(|file| file.path.as_str()).collect();
            return Err(HubError::new(
                HubErrorKind::Network,
                format!(
                    "HF_HUB_OFFLINE is set, and these files of {} are not here: {}",
                    spec.repository,
                    names.join(", ")
                ),
            ));
        }
        job.fetch_all(&missing.iter().collect::<Vec<_>>(), options.parallel)
    };

    fetch_missing(&place(&guides(&listing)?)?)?;
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).map_err(|e| HubError::io(&path, &e))
    };
    let files = needed(&listing, read)?;
    // An unsupported model is refused before gigabytes are downloaded.
    let config = directory.join(CONFIG);
    check_config(&read(CONFIG)?, &config).map_err(|e| HubError::model(e.to_string()))?;
    without_hash(&files, options.pinned, &note)?;
    let kept = Listing { files: files.clone(), ..listing.clone() };
    let text = serde_json::to_vec(&kept).map_err(|e| HubError::model(e.to_string()))?;
    write_whole(&directory.join(MANIFEST), &text)?;

    let missing = place(&files.iter().collect::<Vec<_>>())?;
    check_space(&directory, &missing, &files, weights.map_or(0.0, packed_share))?;
    fetch_missing(&missing)?;
    Ok(Fetched {
        hub,
        repository: spec.repository.clone(),
        revision: listing.revision.clone(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        directory,
        _lock: lock,
    })
}

/// Refuses a listing that contradicts the pinned lengths and hashes of a known model. A file without a published hash gets the pinned one.
fn hold_pins(known: &KnownModel, listing: &mut Listing) -> Result<(), HubError> {
    for pin in known.pinned {
        let Some(file) = listing.files.iter_mut().find(|file| file.path == pin.path) else { continue };
        let pinned = Hash::Sha256(pin.sha256.to_owned());
        if file.hash == Hash::Unknown && file.bytes == pin.bytes {
            file.hash = pinned;
        } else if (file.bytes, &file.hash) != (pin.bytes, &pinned) {
            return Err(HubError::model(format!(
                "{}: the hub offers {} bytes with the hash {}, expected {} with {}; --pin never takes what the hub has",
                pin.path,
                file.bytes,
                if file.hash == Hash::Unknown { "unknown" } else { file.hash.text() },
                pin.bytes,
                pin.sha256
            )));
        }
    }
    Ok(())
}

/// Refuses files without a published hash, of which only the length can be checked, if models are `pinned` and the network is in use. Else
/// `note` says which they are.
fn without_hash(files: &[RemoteFile], pinned: bool, note: &dyn Fn(&str)) -> Result<(), HubError> {
    let names: Vec<&str> =
        files.iter().filter(|file| file.hash == Hash::Unknown).map(|file| file.path.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let what = format!("no hash is told of {}", names.join(", "));
    if pinned && !offline() {
        return Err(HubError::model(format!(
            "{what}; --pin never takes files of which only the length can be checked"
        )));
    }
    note(&format!("{what}: only the length is checked"));
    Ok(())
}

/// The listing that an earlier call has stored in a source directory; `None` if there is none or it is damaged.
fn manifest(directory: &Path) -> Option<Listing> {
    let listing: Listing = serde_json::from_slice(&fs::read(directory.join(MANIFEST)).ok()?).ok()?;
    let sound = listing.files.iter().all(|file| super::listing::is_safe(&file.path));
    sound.then_some(listing)
}

/// The listing of the files of a revision that are on disk already, in the store or in Hugging Face's cache, for use without a network.
fn offline_listing(
    cached: Option<&CachedRepository>,
    home: &Path,
    hub: Hub,
    spec: &Spec,
    revision: Option<&str>,
) -> Result<Listing, HubError> {
    let commit = cached.and_then(|cached| Some((cached, cached.commit(revision.unwrap_or("main"))?)));
    let found = commit.map(|(cached, commit)| match manifest(&home.join(&commit)) {
        Some(listing) => listing,
        None => cached.listing(&spec.repository, &commit),
    });
    found.filter(|listing| !listing.files.is_empty()).ok_or_else(|| {
        let at = revision.map(|revision| format!("@{revision}")).unwrap_or_default();
        let hint = if spec.revision.is_none() { " (--pin never takes the revision that is)" } else { "" };
        let (repository, hub) = (&spec.repository, hub.name());
        let message = format!("HF_HUB_OFFLINE is set, and {repository}{at} is not in the cache of {hub}{hint}");
        HubError::new(HubErrorKind::Network, message)
    })
}

/// Whether a file is in place and verified. A file that is not, but is in Hugging Face's cache and sound, is linked into place first. A
/// damaged file is removed.
fn is_in_place(
    directory: &Path,
    file: &RemoteFile,
    cached: Option<&CachedRepository>,
    listing: &Listing,
    progress: &dyn Progress,
) -> Result<bool, HubError> {
    let path = directory.join(&file.path);
    let io = |e: std::io::Error| HubError::io(&path, &e);
    if path.exists() {
        match check(&path, file.bytes, &file.hash).map_err(io)? {
            Ok(()) => return Ok(true),
            Err(what) => progress.note(&format!("{}: {what}: fetching it again", path.display())),
        }
    }
    // What may still be here is a damaged file or a broken link.
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    let Some(blob) = cached.and_then(|cached| cached.file(&listing.revision, &file.path)) else { return Ok(false) };
    if let Err(what) = check(&blob, file.bytes, &file.hash).map_err(|e| HubError::io(&blob, &e))? {
        progress.note(&format!("{}: {what}: not used", blob.display()));
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    link(&blob, &path).map_err(io)?;
    progress.note(&format!("{}: taken from the cache of Hugging Face", file.path));
    Ok(true)
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    // On Windows, links need a privilege that most users do not have.
    let part = part_path(to);
    fs::copy(from, &part)?;
    fs::rename(&part, to)
}

/// Refuses to begin a download if the disk has too little space for what is missing and for the packed file.
fn check_space(directory: &Path, missing: &[RemoteFile], files: &[RemoteFile], share: f64) -> Result<(), HubError> {
    let part = |file: &RemoteFile| fs::metadata(part_path(&directory.join(&file.path))).map_or(0, |part| part.len());
    let download: u64 = missing.iter().map(|file| file.bytes.saturating_sub(part(file))).fold(0, u64::saturating_add);
    let all = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let packed = (all as f64 * share) as u64;
    // If the file system does not report its free space, the download fails when the disk is full.
    let Ok(free) = fs4::available_space(directory) else { return Ok(()) };
    enough_space(free, download, packed).map_err(|what| {
        HubError::new(HubErrorKind::Io, format!("{}: {what}; TRIVEC_HOME names another place", directory.display()))
    })
}

/// The expected size of a model that is packed to `weights`, as a share of its checkpoint's, which nearly always has f32 weights. The
/// tokenizer is included.
fn packed_share(weights: WeightFormat) -> f64 {
    match weights.bits() {
        ..=8 => 0.3,
        9..=16 => 0.55,
        _ => 1.05,
    }
}

/// Compares free bytes with the bytes to download, those of the packed file and [`SPARE_BYTES`]; the error is a sentence for the user.
fn enough_space(free: u64, download: u64, packed: u64) -> Result<(), String> {
    let needed = download.saturating_add(packed).saturating_add(SPARE_BYTES);
    if needed <= free {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    Err(format!(
        "the disk has {:.2} GB left, and {:.2} GB are needed: {:.2} to download, about {:.2} for the packed model",
        gb(free),
        gb(needed),
        gb(download),
        gb(packed)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn download_packed_file_and_spare_space_must_fit() {
        assert!(enough_space(SPARE_BYTES + 30, 20, 10).is_ok());
        assert!(enough_space(SPARE_BYTES + 29, 20, 10).unwrap_err().contains("are needed"));
        assert!(enough_space(u64::MAX - 1, u64::MAX, u64::MAX).is_err());
    }

    #[test]
    fn the_share_of_a_packed_file_is_no_less_than_that_of_its_weights() {
        for weights in WeightFormat::ALL {
            let (share, least) = (packed_share(weights), weights.bits() as f64 / 32.0);
            assert!((least..=1.05).contains(&share), "{}: {share}", weights.name());
        }
    }
}
