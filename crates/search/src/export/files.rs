//! Writes the files of an export, one after another, and records their lengths and hashes.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The largest number of documents of a file that is sent as one request.
pub(super) const BATCH: usize = 1_000;

/// The largest number of bytes of such a file, unless a single document has more.
pub(super) const BATCH_BYTES: usize = 30_000_000;

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

/// The files of an export, one open at a time.
pub(super) struct Files {
    pub(super) directory: PathBuf,
    open: Option<Open>,
    done: Vec<ExportedFile>,
}

struct Open {
    file: BufWriter<fs::File>,
    path: PathBuf,
    name: String,
    bytes: u64,
    hash: Sha256,
}

impl Files {
    pub(super) fn new(directory: &Path) -> Files {
        Files { directory: directory.to_path_buf(), open: None, done: Vec::new() }
    }

    /// Ends the file that is open, and begins the next.
    pub(super) fn begin(&mut self, name: impl Into<String>) -> Result<()> {
        self.end()?;
        let name = name.into();
        let path = self.directory.join(&name);
        let file = BufWriter::new(fs::File::create(&path).map_err(|e| Error::io(&path, e))?);
        self.open = Some(Open { file, path, name, bytes: 0, hash: Sha256::new() });
        Ok(())
    }

    /// Appends bytes to the file that is open.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.file.write_all(bytes).map_err(|e| Error::io(&open.path, e))?;
            open.hash.update(bytes);
            open.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Syncs and closes the file that is open, if one is, and records its length and hash.
    pub(super) fn end(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.file.flush().and_then(|()| open.file.get_ref().sync_all()).map_err(|e| Error::io(&open.path, e))?;
        let sha256 = open.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.done.push(ExportedFile { name: open.name, bytes: open.bytes, sha256 });
        Ok(())
    }

    /// Ends the file that is open, and returns the records of all files.
    pub(super) fn finish(mut self) -> Result<Vec<ExportedFile>> {
        self.end()?;
        Ok(self.done)
    }
}
