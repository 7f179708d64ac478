//! Writes a directory that appears complete or not at all: while it is written it has a hidden name in the same parent directory, and then it is
//! renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::lock_file::LockFile;

/// A directory that is being written. It is removed if this is dropped before [`finish`](Staging::finish).
#[derive(Debug)]
pub(super) struct Staging {
    target: PathBuf,
    hidden: PathBuf,
    /// The path of the previous content of the target, while the two are exchanged.
    old: PathBuf,
    force: bool,
    /// A file in the same parent directory, which is locked while a process writes the target.
    lock_path: PathBuf,
    lock: Option<LockFile>,
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
            force,
            lock_path: beside(".trivec-lock"),
            lock: None,
        };
        check_target(target, force)?;
        let parent = parent_of(target);
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        staging.lock = Some(staging.take_lock()?);
        staging.clean().map_err(|e| Error::io(&staging.hidden, e))?;
        // Cleaning up may have moved the content from before a killed run back to its place.
        check_target(target, force)?;
        Ok(staging)
    }

    fn take_lock(&self) -> Result<LockFile> {
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing it");
        let taken = LockFile::take(&self.lock_path).map_err(|e| Error::io(&self.lock_path, e))?;
        taken.ok_or_else(|| Error::io(&self.target, busy()))
    }

    /// Removes what a killed run has left, moves the previous content back, and creates the hidden directory.
    fn clean(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.hidden) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir(&self.hidden)?,
        }
        match (self.old.exists(), self.target.exists()) {
            (true, true) => fs::remove_dir_all(&self.old),
            (true, false) => fs::rename(&self.old, &self.target),
            (false, _) => Ok(()),
        }
    }

    /// Writes a file of the directory and returns what `write` returned. The bytes are on the disk when this returns.
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

    /// Gives the directory its final name, and with `force` removes the directory that it replaces.
    pub(super) fn finish(mut self) -> Result<()> {
        // Another program may have created something there in the meantime.
        check_target(&self.target, self.force)?;
        let moved = self.exchange();
        moved.map_err(|e| Error::io(&self.target, e))
    }

    /// Renames the hidden directory to the target and removes the directory that it replaces. If the rename fails, the old one is put back.
    fn exchange(&mut self) -> io::Result<()> {
        // Removes an empty directory. A directory with content stays, and without `force` the rename below then fails.
        let _ = fs::remove_dir(&self.target);
        let replaced = self.force && self.target.exists();
        if replaced {
            fs::rename(&self.target, &self.old)?;
        }
        if let Err(e) = fs::rename(&self.hidden, &self.target) {
            if replaced {
                fs::rename(&self.old, &self.target)?;
            }
            return Err(e);
        }
        #[cfg(unix)]
        File::open(parent_of(&self.target))?.sync_all()?;
        if replaced { fs::remove_dir_all(&self.old) } else { Ok(()) }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Without the lock the directory belongs to another process. The lock is released after the directory is removed.
        if self.lock.is_some() {
            let _ = fs::remove_dir_all(&self.hidden);
        }
    }
}

fn parent_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn refuse(target: &Path, what: &str) -> Error {
    Error::Option { option: "output", what: format!("{} {what}", target.display()) }
}

/// Refuses a `target` at which no directory may be written. Allowed are a path where nothing is, an empty directory, and with `force` a
/// directory that has a `config.json`.
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
