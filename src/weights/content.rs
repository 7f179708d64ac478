//! What a model was read from, for whoever has to know whether two models are the same one.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::mmap::Bytes;

/// The content of a model's file.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// The file itself: not the path, which may lead to another one by now. `None` if the system gave no second handle.
    File(Option<Arc<File>>),
    /// Part of the binary.
    Static(&'static [u8]),
    /// A copy in memory, of which no more is known.
    Memory,
}

/// What changes when a file's content changes: device, inode, length, and the times of the last change of its content and of itself, in
/// nanoseconds. Nobody can set the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
    pub modified: i128,
    pub changed: i128,
}

impl Content {
    pub(super) fn of(bytes: &Bytes) -> Content {
        match bytes {
            // The handle and not the map: a map that is kept counts as memory of this process.
            Bytes::Mapped(_, file) => Content::File(file.try_clone().ok().map(Arc::new)),
            Bytes::Static(bytes) => Content::Static(bytes),
            Bytes::Owned(_) => Content::Memory,
        }
    }
}

impl Stamp {
    /// The stamp of a file as it is now; `None` where the system has no such thing.
    pub(crate) fn of(file: &File) -> io::Result<Option<Stamp>> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let metadata = file.metadata()?;
            let time = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
            Ok(Some(Stamp {
                device: metadata.dev(),
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: time(metadata.mtime(), metadata.mtime_nsec()),
                changed: time(metadata.ctime(), metadata.ctime_nsec()),
            }))
        }
        #[cfg(not(unix))]
        {
            let _ = file;
            Ok(None)
        }
    }
}

/// Calls `each` with the file's bytes, some at a time. The file's own position is neither read nor moved.
pub(crate) fn read_through(file: &File, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
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
