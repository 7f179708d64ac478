//! What can go wrong between a name and a model that is in place.

use std::fmt;
use std::path::Path;

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubErrorKind {
    /// The name or an option makes no sense.
    Usage,
    /// A model, a record, or what a hub sent, is damaged, missing or not what was promised.
    Model,
    /// A hub does not have what was asked for.
    #[cfg_attr(not(feature = "fetch"), allow(dead_code))]
    NotFound,
    /// The operating system refused.
    Io,
    /// A hub cannot be reached, or does not answer as a hub does: another one may.
    #[cfg_attr(not(feature = "fetch"), allow(dead_code))]
    Network,
    /// Another process works on the same model.
    Busy,
}

/// An error of the store or of a hub: a kind, and a text that names what was wrong, found and expected.
#[derive(Debug, Clone)]
pub struct HubError {
    /// What a caller can do about it.
    pub kind: HubErrorKind,
    /// What was wrong, found and expected.
    pub message: String,
}

impl HubError {
    /// An error of a kind.
    pub fn new(kind: HubErrorKind, message: impl Into<String>) -> HubError {
        HubError { kind, message: message.into() }
    }

    /// An error of who asked.
    pub fn usage(message: impl Into<String>) -> HubError {
        HubError::new(HubErrorKind::Usage, message)
    }

    /// An error of a model.
    pub fn model(message: impl Into<String>) -> HubError {
        HubError::new(HubErrorKind::Model, message)
    }

    /// An error of the file system at `path`.
    pub fn io(path: &Path, error: &std::io::Error) -> HubError {
        HubError::new(HubErrorKind::Io, format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
