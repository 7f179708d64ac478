//! Packed copies of checkpoints outside the store: `--weights` packs one once, and finds the copy again by the checkpoint's content.
//!
//! ```text
//! $TRIVEC_HOME/packed/
//!   KEY.safetensors  the packed file. KEY is a digest of the checkpoint's content, the format and this program's version
//!   KEY.json         of which checkpoint it is. A copy is there when this is
//!   seen/PATH.json   how a checkpoint's files looked when its content was last read through: while they look the same, KEY is known
//! ```
//! A file is taken to be unchanged while its device, inode, length and times of change are the same ([`Stamp`]); the last of these times
//! cannot be set by a program.

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

/// Most files, and deepest level, of a checkpoint's directory whose stamps are compared. A directory with more is read completely every
/// time.
const MOST_FILES: usize = 4096;
const MOST_DEPTH: usize = 4;

/// A packed copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackedCopy {
    format: u32,
    /// Name of its file, made of what it was packed from and how.
    pub key: String,
    /// The checkpoints of this content, by their directories.
    pub sources: Vec<PathBuf>,
    /// How the weights are stored: `int8` …
    pub weights: String,
    /// Its length.
    pub bytes: u64,
    /// Mean cosine of dense vectors to those of the checkpoint; `None` for a reranker.
    pub fidelity: Option<f64>,
}

/// A checkpoint that was read completely, and the stamps of its files.
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
    /// Names the directory of packed copies in `store`. Nothing is read or made yet.
    pub fn of(store: &Store) -> Copies {
        Copies { directory: store.home().join("packed") }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The key of the copy of a checkpoint whose files have this digest.
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

    fn read(&self, path: &Path) -> Option<PackedCopy> {
        let record: PackedCopy = serde_json::from_slice(&read_small(path).ok()?).ok()?;
        (record.format == FORMAT && is_key(&record.key)).then_some(record)
    }

    /// Takes the lock for making the copy of this key. If another process holds it, this calls `waiting` with a sentence for the user, in which
    /// `what` names the work, and waits.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn lock(&self, key: &str, what: &str, waiting: &dyn Fn(&str)) -> Result<Lock, HubError> {
        Lock::acquire(&self.directory.join("locks").join(format!("{key}.lock")), what, true, waiting)
    }

    /// Makes a copy visible, whose file is in place. Copies of what `source` held before are removed, unless others hold it still.
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

    /// Records a further checkpoint with the same content. If that fails, nothing is said: the copy works as before, and only the list of copies
    /// lacks the second path.
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

    fn write(&self, copy: &PackedCopy) -> Result<(), HubError> {
        let text = serde_json::to_vec_pretty(copy).map_err(|e| HubError::model(e.to_string()))?;
        write_whole(&self.record_path(&copy.key), &text)
    }

    /// Removes `source` from earlier copies in the format of `now`, whose content it has now.
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

    /// All copies, by their sources.
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

    fn seen_path(&self, source: &Path, weights: WeightFormat) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(source.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(weights.name());
        hash.update(env!("CARGO_PKG_VERSION"));
        self.directory.join("seen").join(format!("{}.json", hex(&hash.finalize()[..16])))
    }

    /// The key of the copy that a checkpoint had when its files looked as `listing` says.
    pub fn seen(&self, source: &Path, weights: WeightFormat, listing: &Listing) -> Option<String> {
        let seen: Seen = serde_json::from_slice(&read_small(&self.seen_path(source, weights)).ok()?).ok()?;
        let same = seen.format == FORMAT && seen.listing == listing.0 && is_key(&seen.key);
        same.then_some(seen.key)
    }

    /// Records that the checkpoint in `source`, packed to `weights`, has the copy `key` while its files look as `listing` says:
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

/// The stamps of a directory's files: equal listings mean equal content.
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

/// Adds the files of `directory`, which is `prefix` below where the walk began. Links are followed.
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
    fn a_copy_is_there_with_its_record_and_its_whole_file_alone() {
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
    fn what_a_checkpoint_held_before_goes_unless_another_holds_it_still() {
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
    fn a_key_is_remembered_for_one_look_of_the_files_and_one_format() {
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
    fn every_change_of_a_directory_shows() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("1_Pooling")).unwrap();
        for name in ["config.json", "model.safetensors", "1_Pooling/config.json"] {
            fs::write(at(name), "one").unwrap();
        }
        // Just written: a further change might not show.
        assert_eq!(Listing::of(directory.path()), None);
        // The stamps of files cannot be made old, so this compares what the listing is made of.
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
