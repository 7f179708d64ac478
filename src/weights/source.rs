//! Where a model's files are: a directory, or one packed file, which may be part of the binary.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::content::Content;
use super::mmap::{AlignedBytes, Bytes};
use crate::error::{Error, Result};

/// The files of a directory that have been opened, by name; copies of a source share them.
pub(crate) type Opened = Arc<Mutex<Vec<(String, Content)>>>;

/// A set of files by relative name.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Directory(PathBuf, Opened),
    /// One file, which has the name "".
    Packed {
        path: PathBuf,
        bytes: Arc<Bytes>,
    },
}

impl Source {
    /// A directory that exists.
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

    /// A packed file.
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

    /// A packed file's content; `name` names it in errors.
    pub(crate) fn packed_bytes(bytes: &[u8], name: &str) -> Source {
        Source::Packed { path: PathBuf::from(name), bytes: Arc::new(Bytes::Owned(AlignedBytes::new(bytes))) }
    }

    /// A packed file that is part of the binary; `name` names it in errors.
    #[cfg(feature = "starter")]
    pub(crate) fn embedded(bytes: &'static [u8], name: &str) -> Source {
        Source::Packed { path: PathBuf::from(name), bytes: Arc::new(Bytes::Static(bytes)) }
    }

    /// The path that errors name.
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

    /// The only file of a directory that may hold a model's weights by the end of its name, for a message that they are missing under their own.
    pub(crate) fn other_weights(&self) -> Option<String> {
        /// What lies beside the weights: heads, and what training scripts save.
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

    /// Everything that was read from the source so far, ordered by name. Equal contents make equal models.
    pub(crate) fn contents(&self) -> Vec<(String, Content)> {
        let mut all = match self {
            Source::Directory(_, opened) => opened.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Source::Packed { bytes, .. } => vec![(String::new(), Content::of(bytes))],
        };
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
