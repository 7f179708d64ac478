//! A file that one process at a time holds. The system takes the lock back when the process ends, however it ends, and the file goes when
//! the lock does; one that a killed process has left means nothing, and the next one that takes the lock removes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock. `None`: another process has it.
    pub fn take(path: &Path) -> io::Result<Option<LockFile>> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                // Between our opening the file and locking it, its holder may have removed it: then it is another one's file by now.
                Ok(()) if is_at(&file, path) => return Ok(Some(LockFile { file, path: path.to_path_buf() })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }

    /// Takes the lock, as soon as nobody has it.
    pub fn wait(path: &Path) -> io::Result<LockFile> {
        loop {
            let file = open(path)?;
            file.lock()?;
            if is_at(&file, path) {
                return Ok(LockFile { file, path: path.to_path_buf() });
            }
        }
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // While it is still locked: nobody else can have taken it. One that cannot be removed is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether `path` is (still) this file.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match (file.metadata(), fs::metadata(path)) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }
    // Elsewhere a file that is open is not removed.
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_at_a_time_and_nothing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        // Left by a process that was killed.
        fs::write(&path, "12345").unwrap();
        let held = LockFile::take(&path).unwrap().unwrap();
        assert!(LockFile::take(&path).unwrap().is_none());
        drop(held);
        assert!(!path.exists());
        drop(LockFile::wait(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn many_that_take_and_remove_it_never_hold_it_together() {
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
        assert!(!path.exists());
    }
}
