//! A directory that appears whole or not at all: it is written beside its place under a hidden name, and moved there at the end.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What the hidden directory holds while somebody writes to it.
const LOCK: &str = ".lock";

/// A directory in the making. Dropped before [`finish`](Staging::finish), it is removed.
#[derive(Debug)]
pub(super) struct Staging {
    target: PathBuf,
    hidden: PathBuf,
    /// What was in the target's place, while the two change places.
    old: PathBuf,
    lock: Option<File>,
}

impl Staging {
    /// Begins a directory that is to be called `target`. What a killed run has left behind is cleaned up first.
    ///
    /// # Errors
    /// [`Error::Option`] if something is there that may not be replaced; [`Error::Io`], of the kind `ResourceBusy` if another process is
    /// writing the same directory.
    pub(super) fn begin(target: &Path, force: bool) -> Result<Staging> {
        let name = target.file_name().ok_or_else(|| refuse(target, "is not a name for a directory"))?;
        let beside = |end: &str| {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(end);
            target.with_file_name(hidden)
        };
        let mut staging = Staging {
            target: target.to_path_buf(),
            hidden: beside(".trivec-new"),
            old: beside(".trivec-old"),
            lock: None,
        };
        check_target(target, force)?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        staging.lock = Some(staging.take_lock()?);
        staging.clean().map_err(|e| Error::io(&staging.hidden, e))?;
        Ok(staging)
    }

    fn take_lock(&self) -> Result<File> {
        let path = self.hidden.join(LOCK);
        // Between our opening the file and locking it, its owner may finish and move it away: then it is tried again.
        for _ in 0..100 {
            match fs::create_dir(&self.hidden) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io(&self.hidden, e)),
                _ => {}
            }
            let opened = File::options().create(true).truncate(false).write(true).open(&path);
            let file = match opened {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io(&path, e)),
            };
            match file.try_lock() {
                Ok(()) if path.exists() => return Ok(file),
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(e)) => return Err(Error::io(&path, e)),
            }
        }
        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing it");
        Err(Error::io(&self.target, busy))
    }

    /// Removes what a killed run has left, and puts back what it had moved away.
    fn clean(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.hidden)? {
            let entry = entry?;
            if entry.file_name() == LOCK {
                continue;
            }
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
        match (self.old.exists(), self.target.exists()) {
            (true, true) => fs::remove_dir_all(&self.old),
            (true, false) => fs::rename(&self.old, &self.target),
            (false, _) => Ok(()),
        }
    }

    /// Writes a file of the directory; `write` returns what it has made. The bytes are on the disk when this returns.
    pub(super) fn file<T>(&self, name: &str, write: impl FnOnce(&mut dyn Write, &Path) -> Result<T>) -> Result<T> {
        let path = self.hidden.join(name);
        let io = |e| Error::io(&path, e);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let mut file = File::create(&path).map_err(io)?;
        let made = write(&mut file, &path)?;
        file.sync_all().map_err(io)?;
        Ok(made)
    }

    /// Makes the directory visible.
    pub(super) fn finish(mut self) -> Result<()> {
        let moved = self.exchange();
        moved.map_err(|e| Error::io(&self.target, e))
    }

    fn exchange(&mut self) -> io::Result<()> {
        fs::remove_file(self.hidden.join(LOCK))?;
        // Windows moves no directory with an open file in it; without the lock file nobody can take the lock.
        self.lock = None;
        let replaced = match fs::rename(&self.target, &self.old) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
        if let Err(e) = fs::rename(&self.hidden, &self.target) {
            if replaced {
                fs::rename(&self.old, &self.target)?;
            }
            return Err(e);
        }
        #[cfg(unix)]
        if let Some(parent) = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        if replaced { fs::remove_dir_all(&self.old) } else { Ok(()) }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Without the lock the directory is somebody else's, or has its place already.
        if self.lock.is_some() {
            let _ = fs::remove_dir_all(&self.hidden);
        }
    }
}

fn refuse(target: &Path, what: &str) -> Error {
    Error::Option { option: "output", what: format!("{} {what}", target.display()) }
}

/// Whether `target` may be (re)placed: nothing is there, or an empty directory, or with `force` a model directory.
fn check_target(target: &Path, force: bool) -> Result<()> {
    let metadata = match fs::symlink_metadata(target) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(target, e)),
    };
    if !metadata.is_dir() {
        return Err(refuse(target, "is there and is not a directory"));
    }
    let mut entries = fs::read_dir(target).map_err(|e| Error::io(target, e))?;
    match (entries.next().is_none(), force, target.join("config.json").is_file()) {
        (true, _, _) | (_, true, true) => Ok(()),
        (_, false, _) => Err(refuse(target, "is there already: give another name, or --force to replace it")),
        (_, true, false) => Err(refuse(target, "is no model directory (it has no config.json): it is not replaced")),
    }
}
