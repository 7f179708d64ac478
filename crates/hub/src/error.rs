//! Errors on the way from a name to an installed model.

use std::fmt;
use std::path::Path;

/// The cause of an error, by which a caller decides what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubErrorKind {
    /// The name or an option makes no sense.
    Usage,
    /// A model, a record, or what a hub sent, is damaged, missing or not what was promised.
    Model,
    /// A hub does not have what was asked for.
    #[cfg_attr(not(feature = "fetch"), allow(dead_code))]
    NotFound,
    /// The operating system refused, or a hub denied access (HTTP 401 or 403).
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
    /// The cause, by which a caller decides what to do.
    pub kind: HubErrorKind,
    /// What was wrong, found and expected.
    pub message: String,
    /// The engine's error, if the failure came from the engine.
    pub cause: Option<std::sync::Arc<trivec::Error>>,
}

impl HubError {
    /// An error of this kind. User and password are removed from the addresses in the message.
    pub fn new(kind: HubErrorKind, message: impl Into<String>) -> HubError {
        HubError { kind, message: without_users(message.into()), cause: None }
    }

    /// An error of the kind [`HubErrorKind::Usage`]: the name or an option makes no sense.
    pub fn usage(message: impl Into<String>) -> HubError {
        HubError::new(HubErrorKind::Usage, message)
    }

    /// An error of the kind [`HubErrorKind::Model`]: the model's files are damaged, incomplete or of a kind that is not supported.
    pub fn model(message: impl Into<String>) -> HubError {
        HubError::new(HubErrorKind::Model, message)
    }

    /// An error of the file system at `path`.
    pub fn io(path: &Path, error: &std::io::Error) -> HubError {
        let text = error.to_string();
        // The errors of `tempfile` end in the path of its hidden file, which tells the user nothing.
        let what = text.split_once(" at path \"").map_or(text.as_str(), |(what, _)| what);
        HubError::new(HubErrorKind::Io, format!("{}: {what}", path.display()))
    }
}

/// Replaces `https://user:password@host` by `https://host` in a message.
pub(crate) fn without_users(message: String) -> String {
    if !message.contains('@') {
        return message;
    }
    let mut shown = String::with_capacity(message.len());
    let mut rest = message.as_str();
    while let Some(at) = rest.find("://") {
        let (before, authority) = rest.split_at(at + "://".len());
        shown.push_str(before);
        let end = authority.find(|c: char| matches!(c, '/' | '?' | '#' | '`' | '"') || c.is_whitespace());
        let user = authority[..end.unwrap_or(authority.len())].rfind('@').map_or(0, |at| at + 1);
        rest = &authority[user..];
    }
    shown + rest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_no_hidden_file() {
        let failed = tempfile::Builder::new().prefix(".new-").tempfile_in("/nonexistent").unwrap_err();
        let shown = HubError::io(Path::new("/nonexistent/default"), &failed).message;
        assert!(shown.starts_with("/nonexistent/default: ") && !shown.contains(".new-"), "{shown}");
    }

    #[test]
    fn addresses_are_shown_without_users() {
        for (message, shown) in [
            ("https://user:secret@hub.example/x: not found", "https://hub.example/x: not found"),
            ("`http://secret@[::1]:80` is no address", "`http://[::1]:80` is no address"),
            ("a http://u:secret@b c https://secret:secret@d", "a http://b c https://d"),
            ("http://u:sec@secret@b", "http://b"),
            ("https://hub.example/@scope/x?a=b@c", "https://hub.example/@scope/x?a=b@c"),
            ("org/name@main", "org/name@main"),
            ("https://", "https://"),
        ] {
            assert_eq!(HubError::usage(message).message, shown);
        }
    }
}
