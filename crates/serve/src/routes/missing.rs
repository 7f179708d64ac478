//! The errors for paths and methods that do not exist.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::ApiError;

/// The error for an unknown path.
pub(super) fn nothing_at(path: &str) -> ApiError {
    let what = format!("there is nothing at {path}; the API is described at /openapi.json");
    ApiError::new(StatusCode::NOT_FOUND, "not_found", what)
}

/// The error for a method that a request's path does not have.
pub(super) fn not_how_of(request: &Request) -> ApiError {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    not_how(request.method(), request.uri().path(), route)
}

/// The error for a method that a path does not have, which belongs to `route`.
pub(super) fn not_how(method: &Method, path: &str, route: &str) -> ApiError {
    // What the description does not name is a file of the page.
    let expected = methods().get(&route.replace("{*", "{")).map_or("GET", String::as_str);
    let what = format!("{method} is not how {path} is used, expected {expected}");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", what)
}

/// The methods of every path, as the API's description has them: `POST or DELETE`.
fn methods() -> &'static BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Description {
        paths: BTreeMap<String, BTreeMap<String, IgnoredAny>>,
    }
    static METHODS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    METHODS.get_or_init(|| {
        let parts = [
            include_str!("../openapi.json"),
            #[cfg(feature = "search")]
            include_str!("../openapi.search.json"),
        ];
        let parts = parts.iter().filter_map(|part| serde_json::from_str::<Description>(part).ok());
        let named = |methods: BTreeMap<String, IgnoredAny>| {
            methods.into_keys().map(|method| method.to_uppercase()).collect::<Vec<_>>().join(" or ")
        };
        parts.flat_map(|part| part.paths).map(|(path, methods)| (path, named(methods))).collect()
    })
}
