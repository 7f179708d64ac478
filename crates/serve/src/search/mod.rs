//! The indexes that a service searches and, if allowed, writes.
//!
//! ```text
//! routes/search.rs ─▶ tokens ─▶ scheduler (the query's vectors) ─▶ a job on a blocking thread: reader ─▶ hits
//! routes/documents.rs ─▶ tokens ─▶ scheduler, a part at a time ─▶ writer.rs: one turn at a time ─▶ commit
//! ```
//! The vectors of every index were made by the model that is served. A reader is a view of the last commit; each request looks whether there
//! is a newer commit, because other processes may write too.

pub(crate) mod errors;
pub(crate) mod metrics;
mod served;
pub(crate) mod wanted;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use trivec::Model;
use trivec_search::{Error, ErrorKind, Index, ModelId};

use crate::error::{ApiError, Result};
use metrics::SearchMetrics;
use served::Slot;
pub(crate) use served::{Counts, Served};

/// The longest name of an index, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// An index to serve: its name and its directory.
///
/// ```
/// use trivec_serve::IndexPlace;
///
/// let named: IndexPlace = "notes=/var/lib/notes".parse()?;
/// assert_eq!((named.name.as_str(), named.directory.to_str()), ("notes", Some("/var/lib/notes")));
/// let by_its_directory: IndexPlace = "/var/lib/notes/".parse()?;
/// assert_eq!(by_its_directory.name, "notes");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPlace {
    /// The name that requests have for the index.
    pub name: String,
    /// The directory of the index.
    pub directory: PathBuf,
}

impl std::str::FromStr for IndexPlace {
    type Err = String;

    /// Reads `NAME=DIR`, or `DIR`, whose last part is then the name. A relative path whose first part has an `=`, such as `a=b/c`, is written
    /// `./a=b/c`.
    fn from_str(text: &str) -> std::result::Result<IndexPlace, String> {
        let (name, directory) = match text.split_once('=') {
            Some((name, directory)) if !name.contains(['/', '\\']) => (name.to_owned(), directory),
            _ => (last_part(Path::new(text)), text),
        };
        if directory.is_empty() {
            return Err("found an empty path, expected the directory of an index".to_owned());
        }
        let fits = !name.is_empty()
            && name.len() <= MAX_NAME_BYTES
            && !name.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | '&' | '='));
        if !fits {
            let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
            return Err(format!(
                "found the name `{}`, expected 1 to {MAX_NAME_BYTES} bytes without spaces and slashes: NAME=DIR gives another",
                shown.escape_debug()
            ));
        }
        Ok(IndexPlace { name, directory: PathBuf::from(directory) })
    }
}

/// The name at the end of a path; if the path ends in `.` or `..`, that of the directory which it means. Empty for `/`.
fn last_part(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    name(path).or_else(|| name(&path.canonicalize().ok()?)).unwrap_or_default()
}

/// The indexes of a service, opened and compared with its model.
pub struct Indexes {
    served: Vec<Arc<Served>>,
    write: bool,
    snapshots: Option<PathBuf>,
    /// A cross-encoder that searches may ask for.
    reranker: Option<Arc<Model>>,
    /// Held while a snapshot is made.
    pub(crate) copying: Arc<tokio::sync::Mutex<()>>,
    pub(crate) metrics: SearchMetrics,
}

impl Default for Indexes {
    fn default() -> Self {
        Indexes {
            served: Vec::new(),
            write: false,
            snapshots: None,
            reranker: None,
            copying: Arc::default(),
            metrics: SearchMetrics::new(),
        }
    }
}

impl Indexes {
    /// Opens indexes whose vectors `model` has made. If `write`, requests with an API key may change them, and copy them into the directory
    /// `snapshots`, if one is given.
    ///
    /// # Errors
    /// Those of [`Index::open`]; [`Error::Mismatch`] names both models if another one has made an index; [`Error::Option`] if two indexes
    /// have the same name, or `snapshots` is no directory.
    pub fn open(
        model: &Model,
        places: &[IndexPlace],
        write: bool,
        snapshots: Option<PathBuf>,
    ) -> std::result::Result<Indexes, Error> {
        let option = |option, what| Err(Error::Option { option, what });
        if let Some(path) = snapshots.as_ref().filter(|path| !path.is_dir()) {
            return option("index_snapshots", format!("{}: expected a directory that is there", path.display()));
        }
        if places.is_empty() {
            return Ok(Indexes::default());
        }
        // All indexes are opened before the model's identity is computed, which takes longer, so that errors come early.
        let mut opened: Vec<(String, Index)> = Vec::new();
        for place in places {
            if opened.iter().any(|(name, _)| *name == place.name) {
                return option(
                    "index",
                    format!("two indexes are called `{}`: NAME=DIR gives another name", place.name),
                );
            }
            opened.push((place.name.clone(), Index::open(&place.directory)?));
        }
        let id = ModelId::of(model)?;
        let mut served = Vec::new();
        for (name, index) in opened {
            index.encoder(model, &id)?;
            let reader = index.reader()?;
            let (last, reader) = (Mutex::new(reader.clone()), Mutex::new(reader));
            served.push(Arc::new(Served { name, index, id: id.clone(), reader, last, slot: Slot::default() }));
        }
        Ok(Indexes { served, write, snapshots, ..Indexes::default() })
    }

    /// Adds a cross-encoder, which reorders the best documents of searches that ask for it.
    ///
    /// # Errors
    /// [`Error::Option`] if the model has no reranking head.
    pub fn with_reranker(self, model: Model) -> std::result::Result<Indexes, Error> {
        let info = model.info();
        if !info.rerank {
            let what = format!(
                "{} has no reranking head: give a cross-encoder, as bge-reranker-v2-m3",
                info.name.escape_debug()
            );
            return Err(Error::Option { option: "reranker", what });
        }
        Ok(Indexes { reranker: Some(Arc::new(model)), ..self })
    }

    pub(crate) fn reranker(&self) -> Option<&Arc<Model>> {
        self.reranker.as_ref()
    }

    /// Refuses a model that did not make the indexes' vectors, before it is put into use.
    pub(crate) fn check_model(&self, model: &Model) -> std::result::Result<(), Error> {
        if self.served.is_empty() {
            return Ok(());
        }
        let id = ModelId::of(model)?;
        self.served.iter().try_for_each(|served| served.index.encoder(model, &id).map(drop))
    }

    /// The index of this name; the first one if no name is given.
    pub(crate) fn get(&self, name: Option<&str>) -> Result<Arc<Served>> {
        let none = |what: String| {
            let error = ApiError::new(StatusCode::NOT_FOUND, "index_not_found", what);
            Err(ApiError { param: Some("index".to_owned()), ..error })
        };
        match (name, self.served.first()) {
            (_, None) => none("this service has no index: start it with `--index DIR`".to_owned()),
            (None, Some(first)) => Ok(Arc::clone(first)),
            (Some(name), _) => match self.served.iter().find(|served| served.name == name) {
                Some(served) => Ok(Arc::clone(served)),
                None => {
                    let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
                    none(format!(
                        "there is no index `{}` here, expected `{}`",
                        shown.escape_debug(),
                        self.names().collect::<Vec<_>>().join("` or `")
                    ))
                }
            },
        }
    }

    /// The names of the indexes. A request without a name means the first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.served.iter().map(|served| served.name.as_str())
    }

    /// The name of the first index whose directory does not have it any more; `None` if all are there.
    pub(crate) async fn missing(&self) -> Option<String> {
        let served = self.served.clone();
        let is_gone = |own: &Served| own.index.check_place().is_err_and(|e| e.kind() == ErrorKind::NotFound);
        let look = move || served.iter().find(|own| is_gone(own)).map(|own| own.name.clone());
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    /// How many documents and entries each index has.
    pub(crate) async fn counts(&self) -> Vec<Counts> {
        let served = self.served.clone();
        let count = move || served.iter().map(|served| served.counts()).collect();
        tokio::task::spawn_blocking(count).await.unwrap_or_default()
    }

    /// Whether the service was started so that requests may change the indexes.
    pub(crate) fn is_writable(&self) -> bool {
        self.write
    }

    /// The directory that copies go into.
    pub(crate) fn snapshots(&self) -> Option<&Path> {
        self.snapshots.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivec_search::IndexOptions;

    #[test]
    fn an_index_is_named_by_its_directory_or_by_name() {
        let read = |text: &str| text.parse::<IndexPlace>().map(|place| (place.name, place.directory));
        for (text, name, directory) in [
            ("notes", "notes", "notes"),
            ("a/b/", "b", "a/b/"),
            ("n=a/b", "n", "a/b"),
            ("笔记=/x", "笔记", "/x"),
            ("n=a=b", "n", "a=b"),
            (".", "serve", "."),
            ("./a=b", "a=b", ""),
            ("/x/a=b/c", "c", "/x/a=b/c"),
        ] {
            let found = read(text);
            if directory.is_empty() {
                assert!(found.unwrap_err().contains("NAME=DIR"), "a name with `=` could not be told apart");
            } else {
                assert_eq!(found.unwrap(), (name.to_owned(), PathBuf::from(directory)), "{text}");
            }
        }
        for bad in ["", "n=", "=a", "/", "a b=x", "x\n=y", &format!("{}=d", "n".repeat(200))] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn indexes_are_opened_only_with_the_model_that_made_them() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str, path: &str| IndexPlace { name: name.into(), directory: directory.path().join(path) };
        let model = Model::starter().unwrap();
        let id = ModelId::of(&model).unwrap();
        Index::create(directory.path().join("a"), &id, &IndexOptions::default()).unwrap();
        let other = ModelId { digest: "0".repeat(64), name: "other".to_owned(), ..id };
        Index::create(directory.path().join("b"), &other, &IndexOptions::default()).unwrap();

        let open = |places: &[IndexPlace]| Indexes::open(&model, places, false, None);
        let refused = |places: &[IndexPlace]| open(places).err().unwrap().to_string();
        let indexes = open(&[place("x", "a"), place("y", "a")]).unwrap();
        assert_eq!(indexes.get(None).unwrap().name, "x");
        assert_eq!(indexes.get(Some("y")).unwrap().name, "y");
        let missing = indexes.get(Some("z")).err().unwrap();
        assert_eq!((missing.status.as_u16(), missing.code), (404, "index_not_found"));
        assert!(missing.message.contains("`x` or `y`"), "{missing:?}");
        assert!(Indexes::default().get(None).err().unwrap().message.contains("--index DIR"));
        assert!(refused(&[place("x", "a"), place("x", "a")]).contains("two indexes"));
        assert!(refused(&[place("x", "none")]).contains("there is no index"));
        let mismatch = refused(&[place("x", "b")]);
        assert!(mismatch.contains("other") && mismatch.contains("starter"), "{mismatch}");
        let missing = Indexes::open(&model, &[], false, Some(directory.path().join("none"))).err().unwrap();
        assert!(missing.to_string().contains("expected a directory"), "{missing}");
    }
}
