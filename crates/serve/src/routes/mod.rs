//! The routes, and the checks and counters that every request passes through.

mod binary;
#[cfg(feature = "search")]
mod documents;
mod explain;
#[cfg(feature = "search")]
mod indexes;
mod missing;
mod native;
mod openai;
mod ops;
mod pairs;
mod rerank;
mod rows;
#[cfg(feature = "search")]
mod search;
mod tei;
mod tei_refusals;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use self::missing::{not_how_of, nothing_at};
use super::app::{App, ms};
use super::error::{ApiError, Dialect, Result};
use super::guard::{AllowedOrigins, Guard};
use super::header_fields;
use super::memory::{HELD, Held};
use super::work::{Answered, WORK, note};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All routes over `app`, each with the dialect of its errors.
pub(super) fn router(app: Arc<App>, guard: Arc<Guard>) -> Router {
    let own = Router::new()
        .route("/v1/encode", post(native::encode))
        .route("/v1/score", post(native::score_route))
        .route("/v1/rerank", post(rerank::v1))
        .route("/v2/rerank", post(rerank::v2))
        .route("/v1/explain", post(explain::explain))
        .route("/v1/status", get(ops::status))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/admin/reload", post(ops::reload))
        .route("/health", get(ops::health))
        .route("/ready", get(ops::ready))
        .route("/metrics", get(ops::metrics))
        .route("/openapi.json", get(ops::openapi))
        .route("/docs", get(ops::docs))
        // The route has every method, because a file that does not exist is 404 with any of them.
        .route("/{file}", any(ops::asset))
        .fallback(not_found);
    #[cfg(feature = "search")]
    let own = own.merge(search_routes());
    let tei = Router::new()
        .route("/embed", post(tei::embed))
        .route("/embed_all", post(tei::embed_all))
        .route("/embed_sparse", post(tei::embed_sparse))
        .route("/similarity", post(tei::similarity))
        .route("/rerank", post(rerank::tei))
        .route("/tokenize", post(tei::tokenize))
        .route("/decode", post(tei::decode))
        .route("/info", get(tei::info))
        .route("/", get(ops::index).post(tei::root));
    let way = |dialect| Way { app: Arc::clone(&app), guard: Arc::clone(&guard), dialect };
    let router = way(Dialect::OpenAi).to(own).merge(way(Dialect::Tei).to(tei));
    cors(router, &guard.origins).with_state(app)
}

/// The routes that search and change indexes.
#[cfg(feature = "search")]
fn search_routes() -> Router<Arc<App>> {
    use axum::routing::delete;
    Router::new()
        .route("/v1/search", post(search::search))
        .route("/v1/documents", post(documents::upsert).merge(delete(documents::delete_where)))
        .route("/v1/documents/{*key}", get(documents::get).delete(documents::delete))
        .route("/v1/index", get(indexes::stats))
        .route("/v1/index/commit", post(indexes::commit))
        .route("/v1/index/compact", post(indexes::compact))
        .route("/v1/index/snapshot", post(indexes::snapshot))
}

/// What requests need on the way to the routes of one dialect.
#[derive(Clone)]
struct Way {
    app: Arc<App>,
    guard: Arc<Guard>,
    dialect: Dialect,
}

impl Way {
    /// Refuses a request that the guard refuses, or that needs a key and has no valid one.
    fn check(&self, request: &Request) -> Result<()> {
        self.guard.check(request)?;
        if !self.app.needs_key() || is_open(request.method(), request.uri().path()) {
            return Ok(());
        }
        match header_fields::bearer(request.headers()) {
            Some(key) if self.app.knows_key(key) => Ok(()),
            _ => Err(ApiError::unauthorized()),
        }
    }

    /// Wraps `routes` so that every request to them passes the checks, is counted, and carries its dialect.
    fn to(self, routes: Router<Arc<App>>) -> Router<Arc<App>> {
        let (app, dialect) = (Arc::clone(&self.app), self.dialect);
        routes
            .method_not_allowed_fallback(method_not_allowed)
            .layer(Extension(dialect))
            .layer(middleware::from_fn_with_state(self, check_access))
            .layer(CatchPanicLayer::custom(move |_| panicked(dialect)))
            .layer(middleware::from_fn_with_state(app, observe))
    }
}

/// Lets pages of the allowed origins read answers (CORS). They may send any headers, such as keys, and those that their libraries add.
fn cors(router: Router<Arc<App>>, origins: &AllowedOrigins) -> Router<Arc<App>> {
    let allowed = match origins.list() {
        _ if origins.any() => AllowOrigin::any(),
        [] => return router,
        list => AllowOrigin::list(list.iter().cloned()),
    };
    let cors = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID, header::RETRY_AFTER]);
    router.layer(cors)
}

/// Answers requests to paths without a route.
async fn not_found(request: Request) -> Response {
    nothing_at(request.uri().path()).answer(Dialect::of(request.extensions()))
}

/// Answers requests with a method that the route does not have.
async fn method_not_allowed(request: Request) -> Response {
    not_how_of(&request).answer(Dialect::of(request.extensions()))
}

/// The answer to a request whose handler panicked.
fn panicked(dialect: Dialect) -> Response {
    tracing::error!("a request's handler panicked");
    ApiError::internal().answer(dialect)
}

/// Whether a request needs no key: health checks, and the page, which asks for the key itself.
fn is_open(method: &Method, path: &str) -> bool {
    // `POST /`, at the address of the page, is a route of text-embeddings-inference and needs a key.
    if !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    matches!(path, "/health" | "/ready" | "/" | "/docs" | "/openapi.json") || {
        let name = path.trim_start_matches('/');
        [".js", ".css", ".svg", ".html"].iter().any(|suffix| name.ends_with(suffix)) && !name.contains('/')
    }
}

/// Refuses requests from other sites and requests without a needed key.
async fn check_access(State(way): State<Way>, request: Request, next: Next) -> Response {
    match way.check(&request) {
        Ok(()) => next.run(request).await,
        Err(e) => e.answer(way.dialect),
    }
}

/// Counts, times and logs a request, gives it an id, and sets the headers that every answer has.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let trace = request.headers().get("traceparent").cloned();
    let mut record = Record {
        app,
        route,
        method: request.method().clone(),
        id: request_id(&request),
        trace: trace.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned),
        since: SystemTime::now(),
        begin: Instant::now(),
        status: None,
    };
    let held = Held::new(&record.app.budget);
    let answered = WORK.scope(RefCell::default(), async move {
        let mut response = next.run(request).await;
        record.status = Some(response.status().as_u16());
        let headers = response.headers_mut();
        note(|work| {
            if work.tokens > 0 {
                work.headers(record.begin.elapsed(), headers);
            }
        });
        headers.insert(REQUEST_ID, record.id.clone());
        if let Some(trace) = trace {
            headers.insert(HeaderName::from_static("traceparent"), trace);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        response
    });
    HELD.scope(held, answered).await
}

/// The status that is logged when the client has disconnected before the answer began. Proxies such as nginx log the same.
const CLIENT_GONE: u16 = 499;

/// Counts and logs a request when it is dropped: when the answer's head and its first 64 KiB are made, or when the client has disconnected
/// before that.
struct Record {
    app: Arc<App>,
    route: String,
    method: Method,
    id: HeaderValue,
    trace: Option<String>,
    since: SystemTime,
    begin: Instant,
    status: Option<u16>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let (took, status) = (self.begin.elapsed(), self.status.unwrap_or(CLIENT_GONE));
        let (route, id) = (&self.route, self.id.to_str().unwrap_or(""));
        self.app.metrics.request(route, status, took);
        note(|work| {
            let work = std::mem::take(work);
            let done = work.texts > 0;
            let of = |value: usize| done.then_some(value);
            let ms_of = |value| done.then(|| ms(value));
            let contents = (!work.contents.is_empty()).then(|| json!(work.contents).to_string());
            // Health checks come every few seconds, so they are logged at a lower level.
            macro_rules! log {
                ($level:ident) => {
                    tracing::$level!(
                        method = %self.method, route, status, ms = ms(took), id, traceparent = self.trace,
                        texts = of(work.texts), tokens = of(work.tokens), tokenize_ms = ms_of(work.tokenize),
                        queue_ms = ms_of(work.queue), encode_ms = ms_of(work.encode), contents, "request"
                    )
                };
            }
            if matches!(route.as_str(), "/health" | "/ready" | "/metrics") {
                log!(debug)
            } else {
                log!(info)
            }
            if let Some(observer) = &self.app.observer {
                observer.answered(&Answered {
                    method: self.method.as_str(),
                    route,
                    status,
                    id,
                    traceparent: self.trace.as_deref(),
                    begin: self.since,
                    took,
                    work: &work,
                });
            }
        });
    }
}

/// The id of a request: the client's, if it sent a plain one, else a new one.
fn request_id(request: &Request) -> HeaderValue {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    if let Some(id) = request.headers().get(REQUEST_ID)
        && id.len() <= 128
        && id.to_str().is_ok_and(|id| id.chars().all(|c| c.is_ascii_graphic()))
    {
        return id.clone();
    }
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    HeaderValue::from_str(&format!("{}-{number}", std::process::id())).unwrap_or(HeaderValue::from_static("-"))
}
