//! Identifies what a model was read from, so that callers can tell whether two models are the same.

use std::fs::{File, Metadata};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::mmap::Bytes;

/// A file changed less than this many nanoseconds ago could change again within the same tick of the file system's clock.
const SETTLED_NS: i128 = 2_000_000_000;

/// The content of a model's file.
#[derive(Debug, Clone)]
pub enum Content {
    /// The file itself: not the path, which may lead to another one by now. `None` if the system gave no second handle.
    File(Option<Arc<File>>),
    /// Part of the binary.
    Static(&'static [u8]),
    /// A copy in memory, whose origin is unknown.
    Memory,
}

/// Facts about a file that change when its content changes. Times are in nanoseconds since 1970; programs cannot set the last one, `changed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The file system's device.
    pub device: u64,
    /// The file's number on it.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When its content was changed last.
    pub modified: i128,
    /// When the content or the metadata was changed last.
    pub changed: i128,
}

impl Content {
    /// Its length; 0 where that is not known.
    pub fn bytes(&self) -> u64 {
        match self {
            Content::File(Some(file)) => file.metadata().map_or(0, |metadata| metadata.len()),
            Content::Static(bytes) => bytes.len() as u64,
            Content::File(None) | Content::Memory => 0,
        }
    }

    pub(super) fn of(bytes: &Bytes) -> Content {
        match bytes {
            // Keeps the handle and not the map, because a map counts as memory of this process.
            Bytes::Mapped(_, file) => Content::File(file.try_clone().ok().map(Arc::new)),
            Bytes::Static(bytes) => Content::Static(bytes),
            Bytes::Owned(_) => Content::Memory,
        }
    }
}

impl Stamp {
    /// The stamp of a file as it is now; `None` where the system has no such thing.
    ///
    /// # Errors
    /// That of the operating system if it does not tell the file's metadata.
    pub fn of(file: &File) -> io::Result<Option<Stamp>> {
        Ok(Stamp::of_metadata(&file.metadata()?))
    }

    /// The stamp of a file of which this is known; `None` where the system has no such thing.
    pub fn of_metadata(metadata: &Metadata) -> Option<Stamp> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let time = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
            Some(Stamp {
                device: metadata.dev(),
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: time(metadata.mtime(), metadata.mtime_nsec()),
                changed: time(metadata.ctime(), metadata.ctime_nsec()),
            })
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            None
        }
    }

    /// Whether a change after `now` would show in the stamp.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128);
        self.changed.max(self.modified) + SETTLED_NS < now
    }
}

/// Calls `each` with the file's bytes from the first to the last, at most 1 MiB at a time, and returns how many there were. The file's position
/// does not matter. On Unix it stays where it is; on Windows this moves it.
///
/// # Errors
/// That of the first read that fails.
pub fn read_through(file: &File, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(file, &mut buffer, at);
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(file, &mut buffer, at);
        match read {
            Ok(0) => return Ok(at),
            Ok(n) => {
                each(&buffer[..n]);
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
