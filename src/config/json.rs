//! What the readers of all settings files share: reading JSON, and reading the names of torch's classes.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The bare name of a class of `torch.nn`: `Tanh` for `torch.nn.modules.activation.Tanh`. `None` for a class of any other package.
pub(super) fn torch_class(path: &str) -> Option<&str> {
    let (module, class) = path.rsplit_once('.')?;
    (module == "torch.nn" || module.starts_with("torch.nn.")).then_some(class)
}

/// Reads `bytes` as JSON for `T`. `path` names the file in errors.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::format(path, format!("not the JSON that was expected: {e}")))
}
