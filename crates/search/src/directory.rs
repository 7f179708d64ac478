//! An index as a directory: creating and opening it, and the lock of its writer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::commit::Commit;
use crate::disk::{Disk, RealDisk};
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::settings::{ColbertBits, IndexOptions, ModelId, SETTINGS_FILE, Settings};
use crate::text::TextIndex;

/// The name of the text index's directory, inside the index's directory.
pub(crate) const TEXT: &str = "text";
/// The name of the directory of the segments.
pub(crate) const SEGMENTS: &str = "seg";
/// The name of the file that a writer locks.
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

/// The writer's lock. The operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the index in `directory`, or fails at once if another writer has locked it.
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
    /// [`Error::Exists`] if the directory has something in it (an index or other files) or `directory` is a file; [`Error::Locked`] if
    /// another call creates an index there; [`Error::Option`] for an option that cannot be used; [`Error::Io`].
    pub fn create(directory: impl AsRef<Path>, model: &ModelId, options: &IndexOptions) -> Result<Index> {
        Self::create_on(Arc::new(RealDisk), directory.as_ref(), model, options)
    }

    /// [`create`](Self::create) on a disk, which a test can let fail.
    pub(crate) fn create_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        model: &ModelId,
        options: &IndexOptions,
    ) -> Result<Index> {
        let settings = Settings::new(model, options)?;
        if fs::metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
            let what = "it is a file, expected the directory of an index, or a name that is free for one".to_owned();
            return Err(Error::Exists { path: directory.to_path_buf(), what });
        }
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |e: std::io::Error| Error::io(&path, e)
        };
        fs::create_dir_all(directory).map_err(fail(directory))?;
        let is_free = || {
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
            Ok(())
        };
        // Checked before the lock is taken, because the lock is a file, which must not be left in a directory with other files; and again
        // with the lock, because another process may have created an index in between.
        is_free()?;
        let _lock = Lock::take(directory)?;
        is_free()?;
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
    /// [`Error::NotAnIndex`]; [`Error::Mismatch`] for an index of another format or analyzer; [`Error::Damaged`]; [`Error::Io`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Index> {
        Self::open_on(Arc::new(RealDisk), directory.as_ref())
    }

    /// [`open`](Self::open) on a disk, which a test can let fail.
    pub(crate) fn open_on(disk: Arc<dyn Disk>, directory: &Path) -> Result<Index> {
        let settings = Settings::read(directory)?;
        let text = TextIndex::open(&directory.join(TEXT), &settings.uuid, &disk)?;
        Ok(Index { directory: directory.to_path_buf(), settings: Arc::new(settings), text, disk })
    }

    /// Opens the existing index, which must belong to this model and have these options, or creates one with them. An index to which no
    /// document was ever added is made anew if its model or options differ. Callers to whom any options are right call
    /// [`open`](Self::open) for an existing index.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`open`](Self::open); [`Error::Mismatch`] if the existing index belongs to another model;
    /// [`Error::Option`] names the first option that the index was created with another value of.
    pub fn open_or_create(directory: impl AsRef<Path>, model: &ModelId, options: &IndexOptions) -> Result<Index> {
        let directory = directory.as_ref();
        if !directory.join(SETTINGS_FILE).exists() {
            return Self::create(directory, model, options);
        }
        let index = Self::open(directory)?;
        match index.settings.check_model(directory, model).and_then(|()| index.check_options(options)) {
            Ok(()) => Ok(index),
            Err(_) if index.is_unused()? => index.remake(model, options),
            Err(other) => Err(other),
        }
    }

    /// Whether no document was ever added to it, so that nothing depends on its model and options.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Io`].
    pub fn is_unused(&self) -> Result<bool> {
        let payload = self.text.payload()?;
        Ok(Commit::read(&self.text.path, payload.as_deref(), &self.settings.uuid)?.next_docno == 0)
    }

    /// Makes an index to which no document was ever added anew, for another model or with other options.
    ///
    /// # Errors
    /// [`Error::Exists`] if a document was added; [`Error::Locked`] if one is being added; those of [`create`](Self::create) and
    /// [`check_place`](Self::check_place).
    pub fn remake(&self, model: &ModelId, options: &IndexOptions) -> Result<Index> {
        // Before anything is removed.
        Settings::new(model, options)?;
        {
            let _lock = Lock::take(&self.directory)?;
            self.check_place()?;
            if !self.is_unused()? {
                let what = "there is an index with documents already".to_owned();
                return Err(Error::Exists { path: self.directory.clone(), what });
            }
            let path = self.directory.join(SETTINGS_FILE);
            self.disk.remove(&path).map_err(|e| Error::io(&path, e))?;
        }
        Self::create_on(Arc::clone(&self.disk), &self.directory, model, options)
    }

    /// Refuses options that differ from those that the index was created with.
    ///
    /// # Errors
    /// [`Error::Option`] names the first that differs, its value in `options` and its value in the index.
    pub fn check_options(&self, options: &IndexOptions) -> Result<()> {
        self.settings.check_options(&self.directory, options)
    }

    /// Checks that the index is still where it was when it was opened.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`] if it was removed or moved; [`Error::Replaced`] if another index is in its place; [`Error::Damaged`] and
    /// [`Error::Io`] if its settings cannot be read.
    pub fn check_place(&self) -> Result<()> {
        let path = || self.directory.clone();
        match Settings::read(&self.directory) {
            Ok(found) if found.uuid == self.settings.uuid => Ok(()),
            // Another index is there: one of this format, or of another.
            Ok(_) | Err(Error::Mismatch { .. }) => Err(Error::Replaced { path: path() }),
            Err(Error::NotAnIndex { .. }) => {
                let what = "it was removed, or moved, since it was opened".to_owned();
                Err(Error::NotAnIndex { path: path(), what })
            }
            Err(other) => Err(other),
        }
    }

    /// Replaces an error of damage or of the disk if its cause is that the index was removed or replaced by another since it was opened:
    /// then the error says so, because nothing is damaged.
    pub(crate) fn unless_gone<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            Error::Damaged { .. } | Error::Io { .. } => match self.check_place() {
                Err(gone @ (Error::NotAnIndex { .. } | Error::Replaced { .. })) => gone,
                _ => error,
            },
            other => other,
        })
    }

    /// The directory of the index.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The model that made its vectors.
    pub fn model(&self) -> &ModelId {
        &self.settings.model
    }

    /// The options that the index was created with. They apply to all its documents and queries.
    pub fn options(&self) -> IndexOptions {
        self.settings.options()
    }

    /// How ColBERT vectors are stored.
    pub fn colbert(&self) -> ColbertBits {
        self.settings.colbert_bits
    }

    /// The encoder that embeds texts for this index by `model`, whose identity `id` must be that of the index's model.
    ///
    /// # Errors
    /// [`Error::Mismatch`] names both models if they differ.
    pub fn encoder<'m>(&self, model: &'m trivec::Model, id: &ModelId) -> Result<Encoder<'m>> {
        self.settings.check_model(&self.directory, id)?;
        Ok(Encoder::new(model, Arc::clone(&self.settings)))
    }
}
