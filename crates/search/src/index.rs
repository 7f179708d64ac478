//! An index as a directory: creating and opening it, and operations that need neither a model nor a writer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, RealDisk};
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::segment::file::Kind;
use crate::settings::{ColbertBits, IndexOptions, ModelId, SETTINGS_FILE, Settings};
use crate::text::TextIndex;
use crate::writer::Writer;

/// The directory of the text index, inside that of the index.
pub(crate) const TEXT: &str = "text";
/// The directory of the segments.
pub(crate) const SEGMENTS: &str = "seg";
/// The file that a writer holds.
const LOCK: &str = "lock";

/// An index on disk. Any number of readers, of any processes, may use it while one writer changes it.
///
/// See the crate's documentation for an example.
#[derive(Debug, Clone)]
pub struct Index {
    pub(crate) directory: PathBuf,
    pub(crate) settings: Arc<Settings>,
    pub(crate) text: TextIndex,
    pub(crate) disk: Arc<dyn Disk>,
}

/// What an index is and how large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Documents that are not deleted (each chunk counts).
    pub documents: u64,
    /// Documents that are deleted or replaced, and take space until the index is compacted.
    pub deleted: u64,
    /// Segments of vectors.
    pub segments: usize,
    /// How often it was committed.
    pub commits: u64,
    /// The languages of its documents.
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
    /// Documents that are not deleted (each chunk counts).
    pub documents: u64,
    /// Files.
    pub files: u64,
    /// Bytes of the files that the commit names.
    pub bytes: u64,
}

/// The settings, and tantivy's two lists: files that no commit names.
const UNNAMED_FILES: u64 = 3;

/// The writer's lock. The operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(directory: &Path) -> Result<Lock> {
        let path = directory.join(LOCK);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| Error::io(&path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path }),
            Err(TryLockError::Error(e)) => Err(Error::io(&path, e)),
        }
    }
}

impl Index {
    /// Creates an index for the vectors of a model. The directory must be empty or not exist.
    ///
    /// # Errors
    /// [`Error::Exists`] if something else is in the directory, an index too; [`Error::Io`]; [`Error::Option`].
    pub fn create(directory: impl AsRef<Path>, model: &ModelId, options: &IndexOptions) -> Result<Index> {
        Self::create_on(Arc::new(RealDisk), directory.as_ref(), model, options)
    }

    pub(crate) fn create_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        model: &ModelId,
        options: &IndexOptions,
    ) -> Result<Index> {
        let settings = Settings::new(model, options)?;
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |e: std::io::Error| Error::io(&path, e)
        };
        fs::create_dir_all(directory).map_err(fail(directory))?;
        let _lock = Lock::take(directory)?;
        for entry in fs::read_dir(directory).map_err(fail(directory))? {
            let name = entry.map_err(fail(directory))?.file_name();
            let name = name.to_string_lossy();
            // These are left by a creation that was killed; it has written no settings yet.
            let remains = [LOCK, TEXT, SEGMENTS].contains(&&*name) || name.ends_with(".partial");
            if !remains {
                let what = match &*name {
                    SETTINGS_FILE => "there is an index already".to_owned(),
                    name => format!("the directory is not empty (it has `{}`)", name.escape_debug()),
                };
                return Err(Error::Exists { path: directory.to_path_buf(), what });
            }
        }
        for part in [TEXT, SEGMENTS] {
            let path = directory.join(part);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(fail(&path))?;
            }
            fs::create_dir(&path).map_err(fail(&path))?;
        }
        let text = TextIndex::create(&directory.join(TEXT), &settings.uuid, &disk)?;
        // The settings are written last, because a directory with settings counts as an index.
        settings.write(&disk, directory)?;
        Ok(Index { directory: directory.to_path_buf(), settings: Arc::new(settings), text, disk })
    }

    /// Opens an index.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`]; [`Error::Mismatch`] for one of another format or analyzer; [`Error::Damaged`]; [`Error::Io`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Index> {
        Self::open_on(Arc::new(RealDisk), directory.as_ref())
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, directory: &Path) -> Result<Index> {
        let settings = Settings::read(directory)?;
        let text = TextIndex::open(&directory.join(TEXT), &settings.uuid, &disk)?;
        Ok(Index { directory: directory.to_path_buf(), settings: Arc::new(settings), text, disk })
    }

    /// Opens the existing index, which must belong to this model, or creates one with these options. An existing index keeps the options it was
    /// created with ([`options`](Self::options)).
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`open`](Self::open); [`Error::Mismatch`] if the index that is there is another model's.
    pub fn open_or_create(directory: impl AsRef<Path>, model: &ModelId, options: &IndexOptions) -> Result<Index> {
        let directory = directory.as_ref();
        if !directory.join(SETTINGS_FILE).exists() {
            return Self::create(directory, model, options);
        }
        let index = Self::open(directory)?;
        index.settings.check_model(directory, model)?;
        Ok(index)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The model that made its vectors.
    pub fn model(&self) -> &ModelId {
        &self.settings.model
    }

    /// The options that the index was created with. They apply to all its documents and queries, whatever options
    /// [`open_or_create`](Self::open_or_create) was called with later.
    pub fn options(&self) -> IndexOptions {
        self.settings.options()
    }

    /// How ColBERT vectors are stored.
    pub fn colbert(&self) -> ColbertBits {
        self.settings.colbert_bits
    }

    /// The encoder that turns texts into the index's vectors. The identity `id` of `model` is compared with the index's.
    ///
    /// # Errors
    /// [`Error::Mismatch`] names both models, if it is another.
    pub fn encoder<'m>(&self, model: &'m trivec::Model, id: &ModelId) -> Result<Encoder<'m>> {
        self.settings.check_model(&self.directory, id)?;
        Ok(Encoder::new(model, Arc::clone(&self.settings)))
    }

    /// A view of the last commit.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a file is not what the commit says; [`Error::Io`].
    pub fn reader(&self) -> Result<Reader> {
        Reader::open(self)
    }

    /// The writer: there is one at a time.
    ///
    /// # Errors
    /// [`Error::Locked`] if there is another one, of this process or another; [`Error::Damaged`]; [`Error::Io`].
    pub fn writer(&self) -> Result<Writer> {
        Writer::open(self)
    }

    /// What the index is and how large.
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    pub fn stats(&self) -> Result<Stats> {
        let reader = self.reader()?;
        let commit = reader.commit();
        let mut bytes = std::collections::BTreeMap::new();
        bytes.insert(TEXT.to_owned(), directory_bytes(&self.text.path)?);
        for kind in Kind::ALL {
            let files = commit.segments.iter().flat_map(|segment| &segment.files);
            let sum: u64 = files.filter(|file| file.kind == kind).map(|file| file.bytes).sum();
            bytes.insert(kind.extension().to_owned(), sum);
        }
        Ok(Stats {
            documents: reader.len() as u64,
            deleted: (reader.rows() - reader.len()) as u64,
            segments: commit.segments.len(),
            commits: commit.generation,
            languages: commit.languages.iter().cloned().collect(),
            model: self.settings.model.clone(),
            colbert: self.settings.colbert_bits,
            bytes,
        })
    }

    /// Reads every byte of every file, and compares it with its checksum, the lists with each other, and the documents with the vectors.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the first file that is not what it should be.
    pub fn check(&self) -> Result<Checked> {
        // The settings are read again, because they may have changed since the index was opened.
        if Settings::read(&self.directory)? != *self.settings {
            return Err(Error::damaged(&self.directory.join(SETTINGS_FILE), "it has changed since it was opened"));
        }
        let (text_files, text_bytes) = self.text.check()?;
        let reader = self.reader()?;
        reader.check()?;
        let files: Vec<_> = reader.commit().segments.iter().flat_map(|segment| &segment.files).collect();
        Ok(Checked {
            documents: reader.len() as u64,
            files: text_files + files.len() as u64 + UNNAMED_FILES,
            bytes: text_bytes + files.iter().map(|file| file.bytes).sum::<u64>(),
        })
    }

    /// Copies the last commit to a new directory, while others read and write. The copy is an index of its own, and is there as a whole or
    /// not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if something is at `to`; [`Error::Io`]; [`Error::Damaged`] if the index is.
    pub fn snapshot(&self, to: impl AsRef<Path>) -> Result<()> {
        crate::snapshot::copy(self, to.as_ref())
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
