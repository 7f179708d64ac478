//! The refusals that the routes of text-embeddings-inference share.

use axum::http::StatusCode;

use crate::error::{ApiError, Result};

pub(super) fn not_empty(texts: usize) -> Result<()> {
    if texts > 0 {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::BAD_REQUEST, "empty", "`inputs` cannot be empty"))
}

pub(super) fn tokenizer(what: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "tokenizer", what)
}

/// A text that would have to be cut, where that is not wanted.
pub(super) fn too_long(place: &str, what: impl Into<String>) -> ApiError {
    ApiError { param: Some(place.to_owned()), ..tokenizer(what.into()) }
}
