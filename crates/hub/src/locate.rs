//! Finds a model by the name or path that a user has given.

use std::path::{Path, PathBuf};

use crate::error::HubError;
use crate::names::{STARTER, Spec};
use crate::store::{Choice, Store};

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// A packed file or a directory in Hugging Face layout: `trivec::Model::load` loads it, or says what is wrong with it.
    Path(PathBuf),
    /// The small model inside the binary, which `trivec::Model::starter` loads.
    Starter,
}

/// Finds a model by what a user calls it: a path, `starter`, or the name of an installed model (a known model also by its repository,
/// `BAAI/bge-m3` for `bge-m3`). An existing path takes precedence. Any other text is treated as a path.
///
/// ```no_run
/// use trivec_hub::{Located, locate};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = match locate("bge-m3".as_ref())? {
///     Located::Path(path) => trivec::Model::load(path)?,
///     Located::Starter => return Err("built without the starter".into()),
/// };
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`HubErrorKind::Model`](crate::HubErrorKind::Model) if it names a known model that is not installed, or an installed one that is
/// damaged.
pub fn locate(model: &Path) -> Result<Located, HubError> {
    let path = || Ok(Located::Path(model.to_path_buf()));
    if model.exists() {
        return path();
    }
    let Some(name) = model.to_str() else { return path() };
    if name == STARTER {
        return Ok(Located::Starter);
    }
    if let Ok(store) = Store::from_env() {
        // `BAAI/bge-m3` is installed as `bge-m3`.
        let short = Spec::parse(name).map_or_else(|_| name.to_owned(), |spec| spec.name);
        if let Some(record) = store.find(&short)? {
            return Ok(Located::Path(store.path(&record)));
        }
    }
    match Spec::parse(name) {
        Ok(spec) if spec.known.is_some() => {
            Err(HubError::model(format!("the model `{name}` is not installed: `trivec pull {name}` fetches it")))
        }
        _ => path(),
    }
}

/// The installed model that is used when none is named, as its record and the path of its packed file. `None` if that is the starter, or if
/// there is no home directory.
///
/// # Errors
/// As [`Store::default_model`].
pub fn locate_default() -> Result<Option<(crate::Record, PathBuf)>, HubError> {
    let Ok(store) = Store::from_env() else { return Ok(None) };
    Ok(match store.default_model()? {
        Choice::Installed(record) => {
            let path = store.path(&record);
            Some((*record, path))
        }
        _ => None,
    })
}
