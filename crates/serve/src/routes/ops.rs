//! Health, readiness, metrics, status, reload; the page and the description of the API.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::missing::{not_how, nothing_at};
use crate::app::App;
use crate::assets;
use crate::body::{NoFields, OptionalBody, PathPart};
use crate::error::{ApiError, Dialect};
use crate::header_fields;
use crate::kept::Kept;
#[cfg(feature = "search")]
use crate::search::Counts;

/// `GET /health`: the process answers.
pub(super) async fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /ready`: whether the service takes requests; 503 while it ends, or if an index is not there any more.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.ending.load(Ordering::Relaxed) {
        let what = "the service is shutting down";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", what).answer(Dialect::OpenAi);
    }
    if let Some(error) = index_missing(&app).await {
        return error.answer(Dialect::OpenAi);
    }
    Json(json!({"status": "ready", "model": app.names.first()})).into_response()
}

/// `GET /metrics`, for Prometheus.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kept = app.kept.as_ref().map(Kept::stats);
    #[cfg(feature = "search")]
    let counts = app.search.counts().await;
    let more = |registry: &mut prometheus_client::registry::Registry| {
        let _ = registry;
        #[cfg(feature = "search")]
        app.search.metrics.register(registry, &counts);
    };
    let text = app.metrics.text(&app.scheduler, &app.budget, app.model().info(), kept, more);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

/// `GET /v1/status`: the model, the queue, memory, latencies, cache and indexes, as the page shows them.
pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let model = app.model();
    let info = model.info();
    let (depth, cost) = app.scheduler.depth();
    let recent = app.metrics.recent();
    let indexes = indexes(&app).await;
    Json(json!({
        "model": {
            "name": app.names.first(),
            "weights": info.weights,
            "layers": info.layers,
            "hidden": info.hidden,
            "max_length": info.max_length,
            "modes": {"dense": info.modes.dense, "sparse": info.modes.sparse, "colbert": info.modes.colbert},
            "rerank": info.rerank,
            "dense_dim": info.dense_dim,
            "colbert_dim": info.colbert_dim,
        },
        "isa": info.isa,
        "threads": info.threads,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": app.started.elapsed().as_secs(),
        "queue": {"depth": depth, "limit": app.scheduler.limit(), "cost": cost},
        "memory": {"in_flight": app.budget.in_flight(), "limit": app.budget.most()},
        "latency": {"p50_ms": recent.p50_ms, "p95_ms": recent.p95_ms, "count": recent.count},
        "tokens_s": recent.tokens_s,
        "cache": app.kept.as_ref().map(Kept::describe),
        "indexes": indexes,
        "reranker": has_reranker(&app),
    }))
    .into_response()
}

/// The indexes that are served: their names, how many documents and entries each has, and whether requests may change them. Without the
/// feature `search` there are none.
async fn indexes(app: &App) -> serde_json::Value {
    #[cfg(feature = "search")]
    let all: Vec<serde_json::Value> = {
        let write = app.search.is_writable();
        let said = |own: &Counts| json!({"name": own.name, "documents": own.documents, "entries": own.entries, "write": write});
        app.search.counts().await.iter().map(said).collect()
    };
    #[cfg(not(feature = "search"))]
    let (all, _) = (Vec::<serde_json::Value>::new(), app);
    all.into()
}

/// The error for an index that is served but is not in its directory any more; `None` if all are there. Without the feature `search` there
/// are no indexes.
async fn index_missing(app: &App) -> Option<ApiError> {
    #[cfg(feature = "search")]
    let missing = app.search.missing().await.map(|name| {
        let what = format!("the index `{name}` is not there any more, or another is in its place");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "index_gone", what)
    });
    #[cfg(not(feature = "search"))]
    let (missing, _) = (None, app);
    missing
}

/// Whether searches may ask for a cross-encoder.
fn has_reranker(app: &App) -> bool {
    #[cfg(feature = "search")]
    let has = app.search.reranker().is_some();
    #[cfg(not(feature = "search"))]
    let (has, _) = (false, app);
    has
}

/// `POST /admin/reload`: loads the model again. This needs a key; a service without keys is reloaded by SIGHUP.
pub(super) async fn reload(State(app): State<Arc<App>>, OptionalBody(NoFields {}): OptionalBody<NoFields>) -> Response {
    if !app.needs_key() {
        let what = "reloading needs an API key, and this service has none: send the process SIGHUP";
        return ApiError::new(StatusCode::FORBIDDEN, "forbidden", what).answer(Dialect::OpenAi);
    }
    let own = Arc::clone(&app);
    match tokio::task::spawn_blocking(move || own.reload()).await {
        Ok(Ok(())) => {
            let model = app.names.first();
            tracing::info!(model, "model loaded again");
            Json(json!({"status": "ok", "model": model})).into_response()
        }
        Ok(Err(what)) => {
            tracing::error!(error = what, "the model could not be loaded again; the old one stays");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "reload_failed", what).answer(Dialect::OpenAi)
        }
        Err(_) => ApiError::internal().answer(Dialect::OpenAi),
    }
}

/// The content security policy of the page: it may load nothing but its own files.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";

/// A file of the page, or 304 if the client has it already, by its entity tag.
fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some((kind, bytes)) = assets::find(name) else {
        return nothing_at(&format!("/{name}")).answer(Dialect::OpenAi);
    };
    // The files are part of the program, so the version and the content identify them.
    let tag = format!("\"{}-{}\"", env!("CARGO_PKG_VERSION"), fingerprint(bytes));
    let fresh = header_fields::none_match(headers, &tag);
    let mut response = if fresh { StatusCode::NOT_MODIFIED.into_response() } else { bytes.to_vec().into_response() };
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    own.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    own.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        own.insert(header::ETAG, tag);
    }
    response
}

/// An FNV-1a hash, which tells one version of a file from another.
fn fingerprint(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

/// `GET /`: the page.
pub(super) async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

/// `GET /docs`: the page that shows the description of the API.
pub(super) async fn docs(headers: HeaderMap) -> Response {
    file("docs.html", &headers)
}

/// `/{file}`: a file of the page. Another method than GET or HEAD is 405 if there is such a file, and else 404.
pub(super) async fn asset(method: Method, PathPart(name): PathPart, headers: HeaderMap) -> Response {
    if matches!(method, Method::GET | Method::HEAD) || assets::find(&name).is_none() {
        return file(&name, &headers);
    }
    let mut response = not_how(&method, &format!("/{name}"), "").answer(Dialect::OpenAi);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

/// `GET /openapi.json`: the description of the API, with the limits of the model in use. They are inserted into the text: parsed and written
/// again, it would lose the order of its fields.
pub(super) async fn openapi(State(app): State<Arc<App>>) -> Response {
    let model = app.model();
    let info = model.info();
    let most = |value: usize| format!("\"maximum\": {value}");
    // A request may name one of the model's prompts, or none (null).
    let prompt_names: Vec<Option<&str>> = info.prompts.keys().map(|name| Some(name.as_str())).chain([None]).collect();
    let of_model = [
        ("TokenId", most(info.vocabulary.saturating_sub(1))),
        ("Dimensions", most(info.dense_dim)),
        ("MaxLength", most(info.max_length)),
        ("PairLength", most(info.max_length)),
        ("PromptName", format!("\"enum\": {}", json!(prompt_names))),
    ];
    let description = of_model.iter().fold(include_str!("../openapi.json").to_owned(), |text, (name, limit)| {
        text.replacen(&format!("\"{name}\": {{"), &format!("\"{name}\": {{ {limit},"), 1)
    });
    #[cfg(feature = "search")]
    let description = with_search(&description);
    ([(header::CONTENT_TYPE, "application/json")], description).into_response()
}

/// Inserts the routes of indexes, whose description is a file of its own, before the others. This is done in the text too.
#[cfg(feature = "search")]
fn with_search(description: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Part<'a> {
        #[serde(borrow)]
        schemas: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        paths: &'a serde_json::value::RawValue,
    }
    let Ok(part) = serde_json::from_str::<Part<'_>>(include_str!("../openapi.search.json")) else {
        return description.to_owned();
    };
    let inside = |value: &serde_json::value::RawValue| {
        let text = value.get().trim();
        text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default().trim_end().to_owned()
    };
    let with_schemas = description.replacen("\"schemas\": {", &format!("\"schemas\": {{{},", inside(part.schemas)), 1);
    with_schemas.replacen("\"paths\": {", &format!("\"paths\": {{{},", inside(part.paths)), 1)
}
