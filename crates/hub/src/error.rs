//! Errors on the way from a name to an installed model.

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
    /// The engine's error, if it was one of its.
    pub cause: Option<std::sync::Arc<trivec::Error>>,
}

impl HubError {
    /// An error of a kind.
    pub fn new(kind: HubErrorKind, message: impl Into<String>) -> HubError {
        HubError { kind, message: message.into(), cause: None }
    }

    /// A wrong request.
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

impl From<trivec::Error> for HubError {
    fn from(error: trivec::Error) -> Self {
        let kind = match (&error, error.kind()) {
            (trivec::Error::Io { source, .. }, _) if source.kind() == std::io::ErrorKind::ResourceBusy => {
                HubErrorKind::Busy
            }
            (_, trivec::ErrorKind::Io) => HubErrorKind::Io,
            (_, trivec::ErrorKind::Usage) => HubErrorKind::Usage,
            _ => HubErrorKind::Model,
        };
        HubError { kind, message: error.to_string(), cause: Some(std::sync::Arc::new(error)) }
    }
}

impl std::error::Error for HubError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().and_then(|cause| cause.source())
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
