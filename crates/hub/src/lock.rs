//! Locks, so that one process at a time works on a model.

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::error::{HubError, HubErrorKind};
use trivec::lock_file::LockFile;

/// How often a lock is tried, and the pause between two tries, before it counts as held by a worker. A process that removes left lock files
/// holds each one for a moment.
const ATTEMPTS: usize = 5;
const BETWEEN: Duration = Duration::from_millis(20);

/// A lock that the system releases when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: LockFile,
}

impl Lock {
    /// Takes the lock at `path` for work on `what`, which messages name. If another process holds it: with `wait`, calls `waiting` with a
    /// sentence for the user and blocks until the lock is free; without, fails with [`HubErrorKind::Busy`].
    pub fn acquire(path: &Path, what: &str, wait: bool, waiting: &dyn Fn(&str)) -> Result<Lock, HubError> {
        let io = |e: std::io::Error| HubError::io(path, &e);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(io)?;
            remove_left(directory, path);
        }
        let mut taken = LockFile::take(path).map_err(io)?;
        for _ in 1..ATTEMPTS {
            if taken.is_none() {
                std::thread::sleep(BETWEEN);
                taken = LockFile::take(path).map_err(io)?;
            }
        }
        let mut lock = match taken {
            Some(lock) => lock,
            None => {
                let holder = holder(path);
                if !wait {
                    return Err(HubError::new(HubErrorKind::Busy, format!("{holder} is working on {what}")));
                }
                waiting(&format!("waiting for {holder}, which is working on {what}"));
                LockFile::wait(path).map_err(io)?
            }
        };
        let file = lock.file();
        // The process id is only for the message above.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Lock { _file: lock })
    }
}

/// Returns a name for the holder of the lock, for messages: `process 123`, or `another process`.
fn holder(path: &Path) -> String {
    let mut holder = String::new();
    // Some systems do not let a locked file be read; then the message has no process id.
    let _ = fs::File::open(path).and_then(|file| file.take(32).read_to_string(&mut holder));
    match holder.trim().parse::<u32>() {
        Ok(process) => format!("process {process}"),
        Err(_) => "another process".to_owned(),
    }
}

/// Removes the other lock files in `directory` that no process holds, which killed processes have left. Outside Unix they stay: see
/// [`LockFile`].
fn remove_left(directory: &Path, except: &Path) {
    for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path != except && path.extension().is_some_and(|extension| extension == "lock") {
            // Taking and dropping a lock removes its file.
            let _ = LockFile::take(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locks/a.lock");
        let first = Lock::acquire(&path, "a", false, &|_| {}).unwrap();
        let refused = Lock::acquire(&path, "a", false, &|_| {}).unwrap_err();
        assert_eq!(refused.kind, HubErrorKind::Busy);
        assert!(refused.message.contains("working on a"), "{refused}");
        drop(first);
        Lock::acquire(&path, "a", false, &|_| {}).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn lock_files_that_nobody_holds_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let locks = directory.path().join("locks");
        let held = Lock::acquire(&locks.join("held.lock"), "held", false, &|_| {}).unwrap();
        // The files that killed processes have left.
        fs::write(locks.join("a.lock"), "1").unwrap();
        fs::write(locks.join("b.lock"), "2").unwrap();
        drop(Lock::acquire(&locks.join("a.lock"), "a", false, &|_| {}).unwrap());
        let left: Vec<_> = fs::read_dir(&locks).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["held.lock"]);
        drop(held);
    }
}
