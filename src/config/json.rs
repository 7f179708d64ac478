//! What the settings files share: how JSON is read, and how torch names its classes.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The name of a class of `torch.nn`: `Tanh` of `torch.nn.modules.activation.Tanh`.
pub(super) fn torch_class(path: &str) -> Option<&str> {
    let (module, class) = path.rsplit_once('.')?;
    (module == "torch.nn" || module.starts_with("torch.nn.")).then_some(class)
}

pub(crate) fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::format(path, format!("not the JSON that was expected: {e}")))
}
