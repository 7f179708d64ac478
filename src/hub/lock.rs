//! One process at a time on one model.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::error::{HubError, HubErrorKind};

/// A lock that the system takes back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` for work on `what`. If another process has it: waits after calling `waiting`, or, without `wait`, fails
    /// with [`HubErrorKind::Busy`].
    pub(crate) fn acquire(path: &Path, what: &str, wait: bool, waiting: &dyn Fn(&str)) -> Result<Lock, HubError> {
        let io = |e: std::io::Error| HubError::io(path, &e);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Some systems let nobody read a locked file: then the number is not told.
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = match holder.trim().parse::<u32>() {
                    Ok(process) => format!("process {process}"),
                    Err(_) => "another process".to_owned(),
                };
                if !wait {
                    let message = format!("{holder} is working on {what}; --wait waits for it");
                    return Err(HubError::new(HubErrorKind::Busy, message));
                }
                waiting(&format!("waiting for {holder}, which is working on {what}"));
                file.lock().map_err(io)?;
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        // The number only serves the message above.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
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
}
