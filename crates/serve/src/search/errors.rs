//! Turns errors of an index into error answers. They have the facts, but no local paths, which only the log gets.

use std::io;

use axum::http::StatusCode;
use trivec_search::{Error, ErrorKind};

use crate::error::ApiError;

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let new = |status, code, what: &str| ApiError::new(status, code, what);
        match error {
            Error::Engine(error) => error.into(),
            Error::Option { option, what } => ApiError::invalid(option, format!("{option}: {what}")),
            Error::Filter { .. } | Error::NoField { .. } | Error::FieldType { .. } => {
                ApiError::invalid("filter", error.to_string())
            }
            Error::Document { .. } | Error::Line { .. } | Error::Columns { .. } => {
                ApiError::invalid("documents", error.to_string())
            }
            Error::NoDocument { .. } => new(StatusCode::NOT_FOUND, "document_not_found", &error.to_string()),
            Error::Exists { .. } => new(StatusCode::CONFLICT, "exists", "there is something of this name already"),
            Error::Locked { .. } => ApiError {
                retry_after: Some(1),
                ..new(
                    StatusCode::CONFLICT,
                    "index_locked",
                    "another process writes to the index: there can be one writer at a time",
                )
            },
            Error::Changing { .. } => ApiError {
                retry_after: Some(1),
                ..new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "index_busy",
                    "another process changes the index faster than it can be read: try again",
                )
            },
            _ => logged(&error),
        }
    }
}

/// Logs an error that the client has not caused, and returns an answer that says only its kind.
fn logged(error: &Error) -> ApiError {
    tracing::error!(error = %error, "an index failed");
    let internal = |code, what: &str| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code, what);
    match (error.kind(), error) {
        (_, Error::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
            let what = "the disk of the index is full: nothing of this was written";
            ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", what)
        }
        (ErrorKind::Damaged, _) => internal(
            "index_damaged",
            "the index is damaged: the service's log names the file, `trivec index DIR --check` reads all",
        ),
        (ErrorKind::Mismatch, _) => {
            internal("index_mismatch", "the index is of another model: the service's log names both")
        }
        (_, Error::Replaced { .. }) => {
            internal("index_gone", "another index is in the place of the one that is served: start the service anew")
        }
        (ErrorKind::NotFound, _) => {
            internal("index_gone", "the index is not there any more: the service's log says what is missing")
        }
        (ErrorKind::Io, _) => {
            internal("index_io", "the system refused to read or write the index: the service's log says what")
        }
        _ => internal("index_error", "the index failed: the service's log says how"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_no_path() {
        let path = || std::path::PathBuf::from("/secret/index");
        let io = |kind: io::ErrorKind| Error::Io { path: path(), source: kind.into() };
        for (error, status, code) in [
            (io(io::ErrorKind::StorageFull), 507, "storage_full"),
            (io(io::ErrorKind::PermissionDenied), 500, "index_io"),
            (Error::Damaged { path: path(), what: "bad".into() }, 500, "index_damaged"),
            (Error::NotAnIndex { path: path(), what: "gone".into() }, 500, "index_gone"),
            (Error::Replaced { path: path() }, 500, "index_gone"),
            (Error::Exists { path: path(), what: "there".into() }, 409, "exists"),
            (Error::Locked { path: path() }, 409, "index_locked"),
            (Error::Changing { path: path(), what: "copied", attempts: 20 }, 503, "index_busy"),
            (Error::NoDocument { key: "k".into() }, 404, "document_not_found"),
            (Error::Filter { at: 3, what: "bad".into() }, 422, "invalid_value"),
            (Error::NoField { name: "a".into(), fields: vec!["b".into()] }, 422, "invalid_value"),
            (
                Error::FieldType { name: "a".into(), has: "text".into(), value: "the number 1".into() },
                422,
                "invalid_value",
            ),
            (Error::Option { option: "top", what: "found 5".into() }, 422, "invalid_value"),
        ] {
            let answer = ApiError::from(error);
            assert_eq!((answer.status.as_u16(), answer.code), (status, code));
            assert!(!answer.message.contains("secret"), "{answer:?}");
        }
        assert_eq!(ApiError::from(Error::Locked { path: path() }).retry_after, Some(1));
    }
}
