//! Identifies the files that a model was read from, so that callers can tell whether two models are the same.

use std::fs::{File, Metadata};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::mmap::Bytes;

/// A file changed less than this many nanoseconds ago could change again within the same tick of the file system's clock.
const SETTLED_NS: i128 = 2_000_000_000;

/// A handle to the content of one file of a model.
#[derive(Debug, Clone)]
pub enum Content {
    /// The open file itself, because its path may lead to another file by now. `None` if the system gave no second handle.
    File(Option<Arc<File>>),
    /// Bytes that are part of the binary.
    Static(&'static [u8]),
    /// A copy in memory, whose origin is unknown.
    Memory,
}

/// Facts about a file that change when its content changes. Times are in nanoseconds since 1970. Programs can set `modified` as they like,
/// but not `changed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The file system's device.
    pub device: u64,
    /// The file's number in that file system.
    pub inode: u64,
    /// The file's length.
    pub bytes: u64,
    /// When the file's content was changed last.
    pub modified: i128,
    /// When the content or the metadata was changed last.
    pub changed: i128,
}

impl Content {
    /// The content's length in bytes; 0 where it is not known.
    pub fn bytes(&self) -> u64 {
        match self {
            Content::File(Some(file)) => file.metadata().map_or(0, |metadata| metadata.len()),
            Content::Static(bytes) => bytes.len() as u64,
            Content::File(None) | Content::Memory => 0,
        }
    }

    /// A handle to the content that `bytes` are.
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
    /// The stamp of a file as it is now; `None` on systems other than Unix.
    ///
    /// # Errors
    /// The operating system's error if it does not give the file's metadata.
    pub fn of(file: &File) -> io::Result<Option<Stamp>> {
        Ok(Stamp::of_metadata(&file.metadata()?))
    }

    /// The stamp of the file that this metadata describes; `None` on systems other than Unix.
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

    /// Whether the file's last change lies so far before `now` that any change after `now` would get another time, and so another stamp.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128);
        self.changed.max(self.modified) + SETTLED_NS < now
    }
}

/// Calls `each` with the file's bytes from the first to the last, at most 1 MiB at a time, and returns how many there were. The file's position
/// does not matter. On Unix it stays where it is; on Windows this moves it.
///
/// # Errors
/// The error of the first read that fails.
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
