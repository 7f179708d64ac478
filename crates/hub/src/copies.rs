//! Packed copies of checkpoints outside the store: `--weights` packs one once, and finds the copy again by the checkpoint's content.
//!
//! ```text
//! $TRIVEC_HOME/packed/
//!   KEY.safetensors  the packed file. KEY is a digest of the checkpoint's content, the format and this program's version
//!   KEY.json         its record: of which checkpoints it is a copy. Without a record a packed file does not count as a copy
//!   seen/PATH.json   the stamps of a checkpoint's files when its content was last read completely: while they are the same, KEY is known.
//!                    PATH is a digest of the checkpoint's path, the format and this program's version
//! ```
//! A file counts as unchanged while its device, inode, length, time of modification and time of change are the same ([`Stamp`]); no program
//! can set the time of change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::HubError;
use super::lock::Lock;
use super::store::{Store, read_small, write_whole};
use trivec::WeightFormat;
use trivec::internal::Stamp;

/// The layout of the files that this version writes and reads.
const FORMAT: u32 = 1;

/// The most files and levels of a checkpoint's directory for which stamps are compared. A checkpoint with more is read completely every
/// time.
const MOST_FILES: usize = 4096;
const MOST_DEPTH: usize = 4;

/// A packed copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackedCopy {
    format: u32,
    /// The name of its file without the ending: a digest of what it was packed from and how.
    pub key: String,
    /// The directories of the checkpoints that have this content.
    pub sources: Vec<PathBuf>,
    /// How the weights are stored: `int8` …
    pub weights: String,
    /// Length of its file.
    pub bytes: u64,
    /// Mean cosine of dense vectors to those of the checkpoint; `None` for a reranker.
    pub fidelity: Option<f64>,
}

/// A checkpoint that was read completely: a digest of its files' stamps, and the key of its copy.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    format: u32,
    listing: String,
    key: String,
}

/// The directory in a store that holds packed copies of checkpoints which lie elsewhere.
#[derive(Debug, Clone)]
pub struct Copies {
    directory: PathBuf,
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Copies {
    /// The packed copies in `store`. Nothing is read or created yet.
    pub fn of(store: &Store) -> Copies {
        Copies { directory: store.home().join("packed") }
    }

    /// The directory of the copies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The key of the copy, packed to `weights`, of a checkpoint whose files have this digest.
    pub fn key(content: &[u8; 32], weights: WeightFormat) -> String {
        let mut hash = Sha256::new();
        for part in [&content[..], weights.name().as_bytes(), env!("CARGO_PKG_VERSION").as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize()[..16])
    }

    /// Where the copy of this key lies.
    pub fn path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}.safetensors"))
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}.json"))
    }

    /// Finds the copy with this key, if its file exists and has the length that its record says.
    pub fn find(&self, key: &str) -> Option<PackedCopy> {
        let record = self.read(&self.record_path(key)).filter(|record| record.key == key)?;
        let metadata = fs::metadata(self.path(key)).ok()?;
        (metadata.is_file() && metadata.len() == record.bytes).then_some(record)
    }

    /// Reads a record; `None` if there is none, or it is damaged or of another layout.
    fn read(&self, path: &Path) -> Option<PackedCopy> {
        let record: PackedCopy = serde_json::from_slice(&read_small(path).ok()?).ok()?;
        (record.format == FORMAT && is_key(&record.key)).then_some(record)
    }

    /// Takes the lock for making the copy of this key. If another process holds it, this calls `waiting` with a sentence for the user, in
    /// which `what` names the work, and blocks until the lock is free.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn lock(&self, key: &str, what: &str, waiting: &dyn Fn(&str)) -> Result<Lock, HubError> {
        Lock::acquire(&self.directory.join("locks").join(format!("{key}.lock")), what, true, waiting)
    }

    /// Writes the record of a copy whose file is in place, so that it counts. A copy of what `source` held before is removed, unless it is
    /// also a copy of another checkpoint.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io) if the file is not there, or its record cannot be written.
    pub fn add(&self, key: &str, source: &Path, weights: WeightFormat, fidelity: Option<f64>) -> Result<(), HubError> {
        let path = self.path(key);
        let bytes = fs::metadata(&path).map_err(|e| HubError::io(&path, &e))?.len();
        let sources = vec![source.to_path_buf()];
        let weights = weights.name().to_owned();
        let copy = PackedCopy { format: FORMAT, key: key.to_owned(), sources, weights, bytes, fidelity };
        self.write(&copy)?;
        self.supersede(&copy, source);
        Ok(())
    }

    /// Records that `copy` is also the copy of the checkpoint in `source`. An error is ignored: the copy works as before, and only the list
    /// of copies lacks the path.
    pub fn also_of(&self, copy: PackedCopy, source: &Path) {
        if copy.sources.iter().any(|other| other == source) {
            return;
        }
        let mut copy = copy;
        copy.sources.push(source.to_path_buf());
        if self.write(&copy).is_ok() {
            self.supersede(&copy, source);
        }
    }

    /// Writes the record of a copy.
    fn write(&self, copy: &PackedCopy) -> Result<(), HubError> {
        let text = serde_json::to_vec_pretty(copy).map_err(|e| HubError::model(e.to_string()))?;
        write_whole(&self.record_path(&copy.key), &text)
    }

    /// Removes `source`, whose content is now that of the copy `now`, from the other copies in the same format; one that is left without
    /// a source is removed.
    fn supersede(&self, now: &PackedCopy, source: &Path) {
        for mut copy in self.list() {
            if copy.key == now.key || copy.weights != now.weights || !copy.sources.iter().any(|other| other == source) {
                continue;
            }
            copy.sources.retain(|other| other != source);
            // A copy that cannot be removed only takes space.
            let _ = if copy.sources.is_empty() { self.remove(&copy) } else { self.write(&copy) };
        }
    }

    /// All copies, sorted by their sources.
    pub fn list(&self) -> Vec<PackedCopy> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let stems = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
        let mut copies: Vec<PackedCopy> = stems.filter_map(|stem| self.find(&stem)).collect();
        copies.sort_by(|a, b| (&a.sources, &a.weights).cmp(&(&b.sources, &b.weights)));
        copies
    }

    /// Removes a copy, its record first. A copy that is not there is no error.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn remove(&self, copy: &PackedCopy) -> Result<(), HubError> {
        for path in [self.record_path(&copy.key), self.path(&copy.key)] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(HubError::io(&path, &e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes everything in the directory, also files that are not copies. Returns the bytes that were freed.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn remove_all(&self) -> Result<u64, HubError> {
        let bytes = super::store::size_of(&self.directory);
        match fs::remove_dir_all(&self.directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(HubError::io(&self.directory, &e)),
            _ => Ok(bytes),
        }
    }

    /// Where it is recorded which copy a checkpoint has in a format.
    fn seen_path(&self, source: &Path, weights: WeightFormat) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(source.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(weights.name());
        hash.update(env!("CARGO_PKG_VERSION"));
        self.directory.join("seen").join(format!("{}.json", hex(&hash.finalize()[..16])))
    }

    /// The key that [`remember`](Copies::remember) has recorded for this checkpoint, format and `listing`.
    pub fn seen(&self, source: &Path, weights: WeightFormat, listing: &Listing) -> Option<String> {
        let seen: Seen = serde_json::from_slice(&read_small(&self.seen_path(source, weights)).ok()?).ok()?;
        let same = seen.format == FORMAT && seen.listing == listing.0 && is_key(&seen.key);
        same.then_some(seen.key)
    }

    /// Records that the checkpoint in `source`, packed to `weights`, has the copy `key` while its files have this `listing`:
    /// [`seen`](Copies::seen) then finds the copy without reading the checkpoint. An error of writing is ignored; the checkpoint is read
    /// completely again next time.
    pub fn remember(&self, source: &Path, weights: WeightFormat, listing: &Listing, key: &str) {
        let seen = Seen { format: FORMAT, listing: listing.0.clone(), key: key.to_owned() };
        if let Ok(text) = serde_json::to_vec(&seen) {
            let _ = write_whole(&self.seen_path(source, weights), &text);
        }
    }
}

/// Whether a text can be a key: it becomes part of a path.
fn is_key(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A digest of the names and stamps of a directory's files: equal listings mean equal content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(String);

impl Listing {
    /// The listing of all files below `directory`. `None` if the system has no stamps, a file was changed so recently that another change
    /// might not show, there are too many files, or one cannot be read.
    pub fn of(directory: &Path) -> Option<Listing> {
        let mut files = Vec::new();
        walk(directory, Path::new(""), 0, &mut files)?;
        files.sort();
        let now = SystemTime::now();
        let mut hash = Sha256::new();
        for (name, stamp) in files {
            if !stamp.is_settled(now) {
                return None;
            }
            let name = name.into_os_string().into_encoded_bytes();
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            for number in [stamp.device, stamp.inode, stamp.bytes] {
                hash.update(number.to_le_bytes());
            }
            hash.update(stamp.modified.to_le_bytes());
            hash.update(stamp.changed.to_le_bytes());
        }
        Some(Listing(hex(hash.finalize())))
    }
}

/// Adds the files below `directory`, which lies at `prefix` below the first directory. Links are followed. `None` if there are too many
/// levels or files, or one cannot be read.
fn walk(directory: &Path, prefix: &Path, depth: usize, files: &mut Vec<(PathBuf, Stamp)>) -> Option<()> {
    if depth > MOST_DEPTH {
        return None;
    }
    for entry in fs::read_dir(directory).ok()? {
        let entry = entry.ok()?;
        let name = prefix.join(entry.file_name());
        // A broken link is not a file of the model.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), &name, depth + 1, files)?;
        } else {
            files.push((name, Stamp::of_metadata(&metadata)?));
        }
        if files.len() > MOST_FILES {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies() -> (tempfile::TempDir, Copies) {
        let directory = tempfile::tempdir().unwrap();
        let copies = Copies { directory: directory.path().join("packed") };
        fs::create_dir_all(&copies.directory).unwrap();
        (directory, copies)
    }

    fn add(copies: &Copies, content: u8, source: &str, weights: WeightFormat) -> String {
        let key = Copies::key(&[content; 32], weights);
        fs::write(copies.path(&key), vec![content; 10]).unwrap();
        copies.add(&key, Path::new(source), weights, Some(0.999)).unwrap();
        key
    }

    #[test]
    fn a_copy_counts_only_with_its_record_and_its_whole_file() {
        let (_directory, copies) = copies();
        let key = add(&copies, 1, "/a", WeightFormat::Int8);
        assert_eq!(copies.find(&key).unwrap().bytes, 10);
        assert_eq!(copies.find(&Copies::key(&[1; 32], WeightFormat::Int4)), None);
        fs::write(copies.path(&key), b"short").unwrap();
        assert_eq!(copies.find(&key), None);
        fs::remove_file(copies.path(&key)).unwrap();
        assert_eq!(copies.find(&key), None);
        for text in ["", "{", "null", "{\"format\": 2}"] {
            fs::write(copies.record_path(&key), text).unwrap();
            assert_eq!(copies.find(&key), None, "{text}");
        }
        assert!(copies.list().is_empty());
        assert!(!is_key("../../../../../../../../../../x") && !is_key(""));
    }

    #[test]
    fn a_copy_of_earlier_content_goes_unless_another_checkpoint_has_it() {
        let (_directory, copies) = copies();
        let first = add(&copies, 1, "/a", WeightFormat::Int8);
        let other_format = add(&copies, 1, "/a", WeightFormat::Int4);
        copies.also_of(copies.find(&first).unwrap(), Path::new("/b"));
        let second = add(&copies, 2, "/a", WeightFormat::Int8);
        assert_eq!(copies.find(&first).unwrap().sources, [PathBuf::from("/b")]);
        assert!(copies.find(&second).is_some() && copies.find(&other_format).is_some());
        copies.also_of(copies.find(&second).unwrap(), Path::new("/b"));
        assert_eq!(copies.find(&first), None);
        assert_eq!(copies.find(&second).unwrap().sources.len(), 2);
        assert_eq!(copies.list().len(), 2);
        copies.remove_all().unwrap();
        assert!(copies.list().is_empty() && copies.remove_all().unwrap() == 0);
    }

    #[test]
    fn a_key_is_remembered_for_one_checkpoint_listing_and_format() {
        let (_directory, copies) = copies();
        let (source, looks) = (Path::new("/a"), |text: &str| Listing(text.to_owned()));
        let key = Copies::key(&[1; 32], WeightFormat::Int8);
        assert_eq!(copies.seen(source, WeightFormat::Int8, &looks("before")), None);
        copies.remember(source, WeightFormat::Int8, &looks("before"), &key);
        assert_eq!(copies.seen(source, WeightFormat::Int8, &looks("before")), Some(key.clone()));
        assert_eq!(copies.seen(source, WeightFormat::Int8, &looks("after")), None);
        assert_eq!(copies.seen(source, WeightFormat::Int4, &looks("before")), None);
        assert_eq!(copies.seen(Path::new("/b"), WeightFormat::Int8, &looks("before")), None);
        copies.remember(source, WeightFormat::Int8, &looks("before"), "../../../../../../../../../../xx");
        assert_eq!(copies.seen(source, WeightFormat::Int8, &looks("before")), None, "no key, so no path is made of it");
    }

    #[cfg(unix)]
    #[test]
    fn changes_of_a_directory_change_its_stamps() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("1_Pooling")).unwrap();
        for name in ["config.json", "model.safetensors", "1_Pooling/config.json"] {
            fs::write(at(name), "one").unwrap();
        }
        // Just written: a further change might not show.
        assert_eq!(Listing::of(directory.path()), None);
        // No test can make stamps old, so this compares the stamps that a listing is made of.
        let stamps = || {
            let mut files = Vec::new();
            walk(directory.path(), Path::new(""), 0, &mut files).unwrap();
            files.sort();
            files
        };
        let mut before = stamps();
        assert_eq!(before.len(), 3);
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(at("model.safetensors"), "longer").unwrap(),
            &|| fs::write(at("1_Pooling/config.json"), "another").unwrap(),
            &|| fs::write(at("tokenizer.json"), "new").unwrap(),
            &|| fs::rename(at("tokenizer.json"), at("tokenizer_config.json")).unwrap(),
            &|| fs::remove_file(at("config.json")).unwrap(),
            &|| std::os::unix::fs::symlink(at("model.safetensors"), at("linked")).unwrap(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            change();
            let now = stamps();
            assert_ne!(before, now, "change {number}");
            before = now;
        }
    }
}
