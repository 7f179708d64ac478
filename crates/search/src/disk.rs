//! The calls by which the index writes its own files. One trait, so that tests can make any one of them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Bytes that are buffered before they are written to a file: so many that the time of the system calls does not matter.
const BUFFER: usize = 1 << 16;

/// The operations by which files are created, renamed and removed.
pub(crate) trait Disk: std::fmt::Debug + Send + Sync {
    /// Creates a file, or empties an existing one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, and replaces the file that has the new name, if there is one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Syncs a directory, so that files which were created, renamed or removed in it are so after a crash too.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub(crate) trait DiskFile: Send {
    /// Appends bytes at the end of the file.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Overwrites the file's first bytes.
    fn overwrite_start(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Syncs the file: its content is on the disk when this returns.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(RealFile(BufWriter::with_capacity(BUFFER, file))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        #[cfg(unix)]
        return File::open(path)?.sync_all();
        // Elsewhere a directory cannot be opened as a file: when a rename reaches the disk is left to the system.
        #[cfg(not(unix))]
        {
            let _ = path;
            Ok(())
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

struct RealFile(BufWriter<File>);

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn overwrite_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.flush()?;
        let file = self.0.get_mut();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(bytes)?;
        file.seek(SeekFrom::End(0)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.0.get_ref().sync_all()
    }
}

/// Writes a small file so that it is there as a whole or not at all: writes and syncs it under another name, renames it, and syncs its
/// directory.
pub(crate) fn write_whole(disk: &Arc<dyn Disk>, path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |e| Error::io(path, e);
    let partial = path.with_extension("partial");
    let mut file = disk.create(&partial).map_err(fail)?;
    file.append(bytes).map_err(fail)?;
    file.sync().map_err(fail)?;
    drop(file);
    disk.rename(&partial, path).map_err(fail)?;
    match path.parent() {
        Some(parent) => disk.sync_directory(parent).map_err(fail),
        None => Ok(()),
    }
}
