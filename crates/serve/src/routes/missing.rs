//! The errors for paths and methods that do not exist.

use axum::http::{Method, StatusCode};

use crate::error::ApiError;

/// The error for an unknown path.
pub(super) fn nothing_at(path: &str) -> ApiError {
    let what = format!("there is nothing at {path}; the API is described at /openapi.json");
    ApiError::new(StatusCode::NOT_FOUND, "not_found", what)
}

/// The error for a method that a path does not have.
pub(super) fn not_how(method: &Method, path: &str) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("{method} is not how {path} is used"))
}
