//! A lock file, which at most one thread of all processes holds at a time. The operating system releases the lock when the process ends,
//! however it ends. On Unix the holder removes the file when it releases the lock; a file that a killed process has left does not block
//! anyone, and the next holder removes it. On other systems the file stays, unlocked, for the next holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A lock, held until this value is dropped.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock, or returns `None` if another [`LockFile`] of this path exists, in this or in another process. The file's directory
    /// must exist.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn take(path: &Path) -> io::Result<Option<LockFile>> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                // Between opening and locking the file, its previous holder may have removed it. Then the path may name another process's
                // lock file by now.
                Ok(()) if is_at(&file, path) => return Ok(Some(LockFile { file, path: path.to_path_buf() })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }

    /// Waits, without a limit, until no other [`LockFile`] of this path exists in this or another process, and takes the lock. A thread that
    /// already holds this lock would wait for ever. The file's directory must exist.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn wait(path: &Path) -> io::Result<LockFile> {
        loop {
            let file = open(path)?;
            file.lock()?;
            if is_at(&file, path) {
                return Ok(LockFile { file, path: path.to_path_buf() });
            }
        }
    }

    /// The open file, in which the holder may write something about itself. It may still have what an earlier holder wrote.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // The file is removed before its lock is released, so it is not another holder's file by now. A failure to remove it does no harm.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether `path` still names this open file.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match (file.metadata(), fs::metadata(path)) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }
    // On other systems no holder removes the file, because the standard library cannot tell there whether two open files are the same.
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_at_a_time_and_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        // A file that a killed process has left.
        fs::write(&path, "12345").unwrap();
        let held = LockFile::take(&path).unwrap().unwrap();
        assert!(LockFile::take(&path).unwrap().is_none());
        drop(held);
        assert!(cfg!(not(unix)) || !path.exists());
        drop(LockFile::wait(&path).unwrap());
        assert!(cfg!(not(unix)) || !path.exists());
    }

    #[test]
    fn threads_that_wait_for_the_lock_never_hold_it_together() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _held = LockFile::wait(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(cfg!(not(unix)) || !path.exists());
    }
}
