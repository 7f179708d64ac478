//! Where a model's files are: a directory, or one packed file, which may be part of the binary.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::content::Content;
use super::mmap::{AlignedBytes, Bytes};
use crate::error::{Error, Result};

/// The files of a directory that have been opened, each with its name; all clones of a source share this list.
pub(crate) type Opened = Arc<Mutex<Vec<(String, Content)>>>;

/// Where a model's files are read from. Each file is asked for by its name relative to the model's directory.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Directory(PathBuf, Opened),
    /// One packed file. It is asked for by the name "", and there is no other.
    Packed {
        path: PathBuf,
        bytes: Arc<Bytes>,
    },
}

impl Source {
    /// The source for the directory `path`; an error if there is no such directory.
    pub(crate) fn directory(path: &Path) -> Result<Source> {
        let metadata = std::fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::format(path, "there is no such model file or directory"),
            _ => Error::io(path, e),
        })?;
        if !metadata.is_dir() {
            return Err(Error::format(path, "expected a model directory in Hugging Face layout, found a file"));
        }
        Ok(Source::Directory(path.to_path_buf(), Opened::default()))
    }

    /// The source for the packed file `path`, which is mapped; an error if there is no such file.
    pub(crate) fn packed(path: &Path) -> Result<Source> {
        let bytes = Bytes::map(path).map_err(|e| match e {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::format(path, "there is no such model")
            }
            e => e,
        })?;
        bytes.prefer_huge_pages();
        Ok(Source::Packed { path: path.to_path_buf(), bytes: Arc::new(bytes) })
    }

    /// The source for a packed file whose content is `bytes`, which are copied; `name` names it in errors.
    pub(crate) fn packed_bytes(bytes: &[u8], name: &str) -> Source {
        Source::Packed { path: PathBuf::from(name), bytes: Arc::new(Bytes::Owned(AlignedBytes::new(bytes))) }
    }

    /// The source for a packed file that is part of the binary; `name` names it in errors.
    #[cfg(feature = "starter")]
    pub(crate) fn embedded(bytes: &'static [u8], name: &str) -> Source {
        Source::Packed { path: PathBuf::from(name), bytes: Arc::new(Bytes::Static(bytes)) }
    }

    /// The path by which errors name `file`.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        match self {
            Source::Directory(directory, _) => directory.join(file),
            Source::Packed { path, .. } => path.clone(),
        }
    }

    /// The file's bytes, or `None` if there is no such file.
    pub(crate) fn open(&self, file: &str) -> Result<Option<Arc<Bytes>>> {
        match self {
            Source::Directory(_, opened) => {
                let path = self.path(file);
                match Bytes::map(&path) {
                    Ok(bytes) => {
                        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
                        if !opened.iter().any(|(name, _)| name == file) {
                            opened.push((file.to_owned(), Content::of(&bytes)));
                        }
                        Ok(Some(Arc::new(bytes)))
                    }
                    Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(e),
                }
            }
            Source::Packed { bytes, .. } => Ok(file.is_empty().then(|| Arc::clone(bytes))),
        }
    }

    /// The file's bytes; a missing file is an error.
    pub(crate) fn require(&self, file: &str) -> Result<Arc<Bytes>> {
        self.open(file)?.ok_or_else(|| Error::format(&self.path(file), "the file is missing"))
    }

    /// The name of the one file in the directory whose extension says that it may hold the model's weights; `None` if there are none or
    /// several. It is for an error that says that no file has one of the usual names.
    pub(crate) fn other_weights(&self) -> Option<String> {
        /// The stems of files with such extensions that do not hold the encoder: heads, and what training scripts save.
        const BESIDE: [&str; 6] =
            ["sparse_linear", "colbert_linear", "optimizer", "scheduler", "rng_state", "training_args"];
        let Source::Directory(directory, _) = self else { return None };
        let files = std::fs::read_dir(directory).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut found = files.filter(|name| {
            let (stem, end) = name.rsplit_once('.').unwrap_or_default();
            ["safetensors", "bin", "pt", "pth", "ckpt"].contains(&end) && !BESIDE.contains(&stem)
        });
        found.next().filter(|_| found.next().is_none())
    }

    /// Every file that has been opened so far with its name, ordered by name so that the order of opening does not matter. Callers digest this
    /// list to tell whether two models were read from the same content. The name of a packed file is "".
    pub(crate) fn contents(&self) -> Vec<(String, Content)> {
        let mut all = match self {
            Source::Directory(_, opened) => opened.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Source::Packed { bytes, .. } => vec![(String::new(), Content::of(bytes))],
        };
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
