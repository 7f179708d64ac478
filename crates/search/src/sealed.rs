//! The files of the text index. tantivy gives each of its files a checksum, except `meta.json`, which names the others, and
//! `.managed.json`, the list of the files that it may remove; and no file says which other file belongs to it. So these two get a seal
//! here:
//!
//! ```text
//! what tantivy wrote
//! {"uuid": the index, "files": {name: [bytes, CRC-32], …}}     in meta.json: every file of the segments that it names; else none
//! CRC-32 of everything before, eight hexadecimal digits
//! ```
//! A bit that flips in any of the files is found, and so is an intact file in the place of another: of another index, or of an older
//! commit. The files are compared before they are read, so tantivy, which trusts its files, sees only files that are as they were written.
//!
//! Everything is written by [`Disk`], and `meta.json` is on the disk under its name before a commit returns. (tantivy's own directory syncs
//! the file before it is renamed, but not the directory after that.)

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tantivy::directory::error::{DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

use crate::disk::{Disk, DiskFile};

/// tantivy's file that names the others.
const META: &str = "meta.json";
/// Bytes of the checksum's line: eight digits and the line end.
const CHECKSUM: usize = 9;

/// The length in bytes and the CRC-32 that one of tantivy's files must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum(pub u64, pub u32);

/// What is written after tantivy's own text in a sealed file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    /// The index that the file belongs to.
    uuid: String,
    /// The files of the segments that `meta.json` names.
    files: BTreeMap<String, Sum>,
}

/// The parts of `meta.json` that say which files it names.
#[derive(Deserialize)]
struct Meta {
    segments: Vec<MetaSegment>,
}

#[derive(Deserialize)]
struct MetaSegment {
    segment_id: String,
    deletes: Option<Deletes>,
}

#[derive(Deserialize)]
struct Deletes {
    opstamp: u64,
}

impl Meta {
    /// Whether the file `name` belongs to one of the segments.
    fn names(&self, name: &str) -> bool {
        self.segments.iter().any(|segment| {
            let id = segment.segment_id.replace('-', "");
            match name.strip_prefix(&id).and_then(|rest| rest.strip_prefix('.')) {
                // The lists of deleted documents: a file for every commit that deleted some, of which only the last one counts.
                Some(rest) if rest.ends_with("del") => {
                    segment.deletes.as_ref().is_some_and(|deletes| rest == format!("{}.del", deletes.opstamp))
                }
                // A temporary file may vanish at any time.
                Some(rest) => !rest.ends_with("temp"),
                None => false,
            }
        })
    }
}

/// The bytes of a sealed file: the text, the seal and their checksum.
fn seal(text: &[u8], seal: &Seal) -> io::Result<Vec<u8>> {
    let mut bytes = text.to_vec();
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, seal)?;
    bytes.push(b'\n');
    let sum = crc32fast::hash(&bytes);
    writeln!(bytes, "{sum:08x}")?;
    Ok(bytes)
}

/// Splits a sealed file into its text and its seal. Fails if the checksum is wrong, or if the file is not one of the index `uuid`.
fn unseal(mut bytes: Vec<u8>, uuid: &str) -> io::Result<(Vec<u8>, Seal)> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let end = bytes.len().saturating_sub(CHECKSUM);
    if format!("{:08x}\n", crc32fast::hash(&bytes[..end])).as_bytes() != &bytes[end..] {
        return Err(wrong("its checksum is wrong".to_owned()));
    }
    let body = &bytes[..end - usize::from(end > 0)];
    let begin = body.iter().rposition(|&byte| byte == b'\n').ok_or_else(|| wrong("it has no seal".to_owned()))?;
    let seal: Seal = serde_json::from_slice(&body[begin..])?;
    if seal.uuid != uuid {
        return Err(wrong(format!("it belongs to index {}, this is {uuid}", seal.uuid.escape_debug())));
    }
    bytes.truncate(begin);
    Ok((bytes, seal))
}

/// The directory in which tantivy keeps the files of one index: reads by mapping them, writes by [`Disk`], and seals and checks the two
/// lists.
#[derive(Debug, Clone)]
pub(crate) struct SealedDirectory {
    inner: MmapDirectory,
    path: PathBuf,
    uuid: Arc<str>,
    disk: Arc<dyn Disk>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Files that were written and that the `meta.json` on the disk does not name yet.
    written: BTreeMap<String, Sum>,
    /// The last failure to create, write, sync or replace a file. It is kept because tantivy does not report every failure.
    failure: Option<(PathBuf, io::ErrorKind, String)>,
}

impl SealedDirectory {
    /// Opens the directory at `path` for the files of the index `uuid`. They may not exist yet.
    pub fn open(path: &Path, uuid: &str, disk: &Arc<dyn Disk>) -> Result<SealedDirectory, OpenDirectoryError> {
        let inner = MmapDirectory::open(path)?;
        Ok(SealedDirectory {
            inner,
            path: path.to_path_buf(),
            uuid: uuid.into(),
            disk: Arc::clone(disk),
            state: Arc::default(),
        })
    }

    /// The files that the last commit (or merge) names, with the length and checksum that each must have.
    pub fn named(&self) -> io::Result<BTreeMap<String, Sum>> {
        Ok(unseal(std::fs::read(self.path.join(META))?, &self.uuid)?.1.files)
    }

    /// The length and checksum that a file has now; `None` if it does not exist.
    pub fn sum_of(&self, name: &str) -> io::Result<Option<Sum>> {
        match self.inner.open_read(Path::new(name)) {
            Ok(file) => {
                let bytes = file.read_bytes()?;
                Ok(Some(Sum(bytes.len() as u64, crc32fast::hash(&bytes))))
            }
            Err(OpenReadError::FileDoesNotExist(_)) => Ok(None),
            Err(e) => Err(io::Error::other(e.to_string())),
        }
    }

    /// Returns the last failure to create, write, sync or replace a file since the previous call of this function, and forgets it: the path,
    /// and the error of the operating system. A later failure overwrites an earlier one; failures to read or to delete are not recorded.
    pub fn take_failure(&self) -> Option<(PathBuf, io::Error)> {
        self.state().failure.take().map(|(path, kind, what)| (path, io::Error::new(kind, what)))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `result`, and records its error for [`take_failure`](Self::take_failure) if it is one.
    fn remember<T>(&self, name: &Path, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result {
            self.state().failure = Some((self.path.join(name), e.kind(), e.to_string()));
        }
        result
    }

    /// The seal for a new `meta.json` with this text.
    fn seal_of(&self, text: &[u8]) -> io::Result<Seal> {
        let meta: Meta = serde_json::from_slice(text)?;
        // The lengths and checksums of files that an earlier writer made are in the seal of the `meta.json` that is to be replaced.
        let mut files = if self.path.join(META).exists() { self.named()? } else { BTreeMap::new() };
        files.extend(self.state().written.iter().map(|(name, sum)| (name.clone(), *sum)));
        files.retain(|name, _| meta.names(name));
        Ok(Seal { uuid: self.uuid.to_string(), files })
    }

    /// Fails if the files in the directory belong to another index, so that writing would overwrite its files. The seal of `meta.json` says
    /// to which index they belong; a new index has no `meta.json` yet.
    fn check_owner(&self) -> io::Result<()> {
        match self.path.join(META).exists() {
            true => self.named().map(drop),
            false => Ok(()),
        }
    }

    /// Writes a sealed file so that it is there as a whole or not at all.
    fn replace(&self, name: &Path, text: &[u8]) -> io::Result<()> {
        self.check_owner()?;
        let is_meta = name == Path::new(META);
        let own = if is_meta { self.seal_of(text)? } else { Seal { uuid: self.uuid.to_string(), ..Seal::default() } };
        let path = self.path.join(name);
        let partial = path.with_extension("partial");
        let mut file = self.disk.create(&partial)?;
        file.append(&seal(text, &own)?)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&partial, &path)?;
        if is_meta {
            self.disk.sync_directory(&self.path)?;
            self.state().written.retain(|name, _| !own.files.contains_key(name));
        }
        Ok(())
    }
}

impl Directory for SealedDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.state().written.remove(&*path.to_string_lossy());
        self.disk.remove(&self.path.join(path)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => DeleteError::FileDoesNotExist(path.to_path_buf()),
            _ => DeleteError::IoError { io_error: Arc::new(e), filepath: path.to_path_buf() },
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let whole = self.path.join(path);
        // A writer that was killed may have left a file of this name, because the next writer numbers its files from the same commit on. No
        // commit names that file, so it is removed.
        let create = || {
            self.check_owner()?;
            if whole.exists() {
                self.disk.remove(&whole)?;
            }
            self.disk.create(&whole)
        };
        let file = self.remember(path, create()).map_err(|e| OpenWriteError::wrap_io_error(e, path.to_path_buf()))?;
        let (directory, name) = (self.clone(), path.to_path_buf());
        let sum = crc32fast::Hasher::new();
        Ok(BufWriter::new(Box::new(SummedFile { directory, name, file: Mutex::new(file), length: 0, sum })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let bytes = self.inner.atomic_read(path)?;
        let text = unseal(bytes, &self.uuid).map_err(|e| OpenReadError::wrap_io_error(e, path.to_path_buf()))?;
        Ok(text.0)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.remember(path, self.replace(path, data))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.remember(Path::new(""), self.disk.sync_directory(&self.path))
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(watch_callback)
    }
}

/// A file that tantivy writes. Its length and checksum are counted on the way, and recorded in [`State`] when it is complete.
struct SummedFile {
    directory: SealedDirectory,
    name: PathBuf,
    /// In a mutex only because tantivy wants the writer to be `Sync`: one thread uses it.
    file: Mutex<Box<dyn DiskFile>>,
    length: u64,
    sum: crc32fast::Hasher,
}

impl SummedFile {
    /// Calls `call` on the file, and records its failure.
    fn with<T>(&mut self, call: impl FnOnce(&mut dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        let result = call(&mut **self.file.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.directory.remember(&self.name, result)
    }
}

impl Write for SummedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.append(bytes))?;
        self.sum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TerminatingWrite for SummedFile {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.with(|file| file.sync())?;
        let sum = Sum(self.length, std::mem::take(&mut self.sum).finalize());
        self.directory.state().written.insert(self.name.to_string_lossy().into_owned(), sum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_sealed_file_is_found() {
        let own = Seal { uuid: "abc".to_owned(), files: [("x.idx".to_owned(), Sum(9, 7))].into() };
        let good = seal(b"{\"segments\": []}\n", &own).unwrap();
        assert_eq!(unseal(good.clone(), "abc").unwrap(), (b"{\"segments\": []}\n".to_vec(), own));
        assert!(unseal(good.clone(), "abd").unwrap_err().to_string().contains("belongs to index abc"));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(bad, "abc").is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(unseal(good[..length].to_vec(), "abc").is_err(), "cut at {length}");
        }
    }

    #[test]
    fn nothing_is_written_among_the_files_of_another_index() {
        let place = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(crate::disk::RealDisk);
        let own = SealedDirectory::open(place.path(), "own", &disk).unwrap();
        own.atomic_write(Path::new(META), b"{\"segments\": []}").unwrap();
        own.atomic_write(Path::new(".managed.json"), b"[]").unwrap();
        own.open_write(Path::new("a.idx")).unwrap().terminate().unwrap();
        let listed = || {
            let mut files: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            files.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
        };
        let before = listed();
        let other = SealedDirectory::open(place.path(), "other", &disk).unwrap();
        for name in [META, ".managed.json"] {
            let error = other.atomic_write(Path::new(name), b"{\"segments\": []}").unwrap_err();
            assert!(error.to_string().contains("it belongs to index own, this is other"), "{name}: {error}");
        }
        for name in ["a.idx", "b.idx"] {
            assert!(other.open_write(Path::new(name)).is_err(), "{name}");
        }
        assert_eq!(listed(), before);
    }

    #[test]
    fn a_meta_file_names_the_files_of_its_segments_and_their_last_lists_of_deletes() {
        let text = r#"{"segments": [{"segment_id": "01-ab", "max_doc": 3, "deletes": {"num_deleted_docs": 1, "opstamp": 7}}]}"#;
        let meta: Meta = serde_json::from_str(text).unwrap();
        assert!(["01ab.idx", "01ab.7.del", "01ab.store"].iter().all(|name| meta.names(name)));
        assert!(["01ab", "01ab.6.del", "01abc.idx", "01ab.store.temp", "x.idx"].iter().all(|name| !meta.names(name)));
    }
}
