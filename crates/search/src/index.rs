//! Opens the readers and the writer of an index, and counts, checks and copies what it has: operations that need no model. `directory.rs`
//! creates and opens the index itself.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::directory::{Index, TEXT};
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::segment::file::Kind;
use crate::settings::{ColbertBits, ModelId, SETTINGS_FILE, Settings};
use crate::writer::Writer;

/// What an index is and how large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Documents that are not deleted; one that was cut into chunks counts once.
    pub documents: u64,
    /// Entries that are not deleted: documents that are stored whole, and each chunk of the others.
    pub entries: u64,
    /// Entries that are deleted or replaced, and take space until the index is compacted.
    pub deleted: u64,
    /// Segments of vectors.
    pub segments: usize,
    /// How many commits it has had.
    pub commits: u64,
    /// The languages of all documents that it ever had, also of those that are deleted.
    pub languages: Vec<String>,
    /// The model that made its vectors.
    pub model: ModelId,
    /// How ColBERT vectors are stored.
    pub colbert: ColbertBits,
    /// Bytes on disk by kind of file: `text`, `rows`, `docs`, `dense8`, `dense16`, `lex`, `colbert`.
    pub bytes: std::collections::BTreeMap<String, u64>,
}

/// What [`Index::check`] has read and found intact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Documents that are not deleted; one that was cut into chunks counts once.
    pub documents: u64,
    /// Entries that are not deleted: documents that are stored whole, and each chunk of the others.
    pub entries: u64,
    /// Files that were read: those that the commit names, and the three that no commit names.
    pub files: u64,
    /// Bytes of the files that the commit names.
    pub bytes: u64,
}

/// Files that are read but that no commit names: the settings, and tantivy's two lists of files.
const UNNAMED_FILES: u64 = 3;

impl Index {
    /// A view of the last commit.
    ///
    /// # Errors
    /// As [`check_place`](Self::check_place); [`Error::Damaged`] if a file is not what the commit says; [`Error::Io`].
    pub fn reader(&self) -> Result<Reader> {
        self.unless_gone(Reader::open(self))
    }

    /// The writer: there is one at a time.
    ///
    /// # Errors
    /// [`Error::Locked`] if there is another one, of this process or another; as [`check_place`](Self::check_place); [`Error::Damaged`];
    /// [`Error::Io`].
    pub fn writer(&self) -> Result<Writer> {
        self.unless_gone(Writer::open(self))
    }

    /// What the index is and how large.
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    pub fn stats(&self) -> Result<Stats> {
        let reader = self.reader()?;
        let commit = reader.commit();
        let mut bytes = std::collections::BTreeMap::new();
        bytes.insert(TEXT.to_owned(), self.unless_gone(directory_bytes(&self.text.path))?);
        for kind in Kind::ALL {
            let files = commit.segments.iter().flat_map(|segment| &segment.files);
            let sum: u64 = files.filter(|file| file.kind == kind).map(|file| file.bytes).sum();
            bytes.insert(kind.extension().to_owned(), sum);
        }
        Ok(Stats {
            documents: reader.documents()? as u64,
            entries: reader.len() as u64,
            deleted: (reader.rows() - reader.len()) as u64,
            segments: commit.segments.len(),
            commits: commit.generation,
            languages: commit.languages.iter().cloned().collect(),
            model: self.settings.model.clone(),
            colbert: self.settings.colbert_bits,
            bytes,
        })
    }

    /// Reads every byte of every file and compares it with its checksum. Checks too that the lists in the files agree with each other, and
    /// that every document can be read and is valid.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the first file that is not what it should be; as [`check_place`](Self::check_place).
    pub fn check(&self) -> Result<Checked> {
        self.check_place()?;
        // The settings are read again, because they may have changed since the index was opened.
        if Settings::read(&self.directory)? != *self.settings {
            return Err(Error::damaged(&self.directory.join(SETTINGS_FILE), "it has changed since it was opened"));
        }
        let (text_files, text_bytes) = self.unless_gone(self.text.check())?;
        let reader = self.reader()?;
        reader.check()?;
        let files: Vec<_> = reader.commit().segments.iter().flat_map(|segment| &segment.files).collect();
        Ok(Checked {
            documents: reader.documents()? as u64,
            entries: reader.len() as u64,
            files: text_files + files.len() as u64 + UNNAMED_FILES,
            bytes: text_bytes + files.iter().map(|file| file.bytes).sum::<u64>(),
        })
    }

    /// Copies the last commit to a new directory, while others read and write. The copy is an index of its own, and is there as a whole or
    /// not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if something is at `to`; [`Error::Changing`] if the index was changed during every attempt; [`Error::Io`];
    /// [`Error::Damaged`] if the index is damaged; as [`check_place`](Self::check_place).
    pub fn snapshot(&self, to: impl AsRef<Path>) -> Result<()> {
        self.unless_gone(crate::snapshot::copy(self, to.as_ref()))
    }
}

/// Bytes of the files in a directory. A file that is removed meanwhile does not count.
fn directory_bytes(path: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path).map_err(|e| Error::io(path, e))? {
        let entry = entry.map_err(|e| Error::io(path, e))?;
        sum += entry.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(sum)
}
