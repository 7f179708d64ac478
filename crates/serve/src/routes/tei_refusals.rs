//! Errors that the routes of text-embeddings-inference share.

use axum::http::StatusCode;

use crate::error::{ApiError, Result};

/// Refuses a request without texts.
pub(super) fn not_empty(texts: usize) -> Result<()> {
    if texts > 0 {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::BAD_REQUEST, "empty", "`inputs` cannot be empty"))
}

/// An error of the type `tokenizer`.
pub(super) fn tokenizer(what: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "tokenizer", what)
}

/// The error for a text that is too long in a request that does not allow to cut it. `place` names the text.
pub(super) fn too_long(place: &str, what: impl Into<String>) -> ApiError {
    ApiError { param: Some(place.to_owned()), ..tokenizer(what.into()) }
}
