//! The routes, and what every request passes through on its way to them.

mod binary;
mod native;
mod openai;
mod ops;
mod rerank;
mod tei;

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::app::{App, ms};
use super::error::{ApiError, Dialect};
use super::work::{Answered, WORK, note};
use crate::server::assets;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The route of the page's files.
const FILE: &str = "/{file}";

/// All routes over `app`.
pub(super) fn router(app: Arc<App>, origins: &[HeaderValue]) -> Router {
    let mut router = Router::new()
        .route("/v1/encode", post(native::encode))
        .route("/v1/score", post(native::score_route))
        .route("/v1/explain", post(native::explain))
        .route("/v1/rerank", post(rerank::v1))
        .route("/v2/rerank", post(rerank::v2))
        .route("/v1/status", get(ops::status))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/embed", post(tei::embed))
        .route("/embed_all", post(tei::embed_all))
        .route("/embed_sparse", post(tei::embed_sparse))
        .route("/similarity", post(tei::similarity))
        .route("/rerank", post(rerank::tei))
        .route("/tokenize", post(tei::tokenize))
        .route("/decode", post(tei::decode))
        .route("/info", get(tei::info))
        .route("/admin/reload", post(ops::reload))
        .route("/health", get(ops::health))
        .route("/ready", get(ops::ready))
        .route("/metrics", get(ops::metrics))
        .route("/openapi.json", get(ops::openapi))
        .route("/docs", get(ops::docs))
        .route("/", get(ops::index).post(tei::root))
        .route(FILE, get(ops::asset))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), check_key))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe));
    if !origins.is_empty() {
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.iter().cloned()))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION]);
        router = router.layer(cors);
    }
    router.with_state(app)
}

async fn not_found(request: Request) -> Response {
    let what = format!("there is nothing at {}; the API is described at /openapi.json", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", what).answer(Dialect::OpenAi)
}

async fn method_not_allowed(request: Request) -> Response {
    let of_a_file = request.extensions().get::<MatchedPath>().is_some_and(|route| route.as_str() == FILE);
    if of_a_file && assets::find(request.uri().path().trim_start_matches('/')).is_none() {
        return not_found(request).await;
    }
    let what = format!("{} is not how {} is used", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", what).answer(Dialect::of(request.uri().path()))
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request's handler panicked");
    native::internal().answer(Dialect::OpenAi)
}

/// What needs no key: whether the service lives, and the page, which asks for the key itself.
fn is_open(method: &Method, path: &str) -> bool {
    // A POST to the page's own address is text-embeddings-inference's.
    if !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    matches!(path, "/health" | "/ready" | "/" | "/docs" | "/openapi.json") || {
        let name = path.trim_start_matches('/');
        [".js", ".css", ".svg", ".html"].iter().any(|suffix| name.ends_with(suffix)) && !name.contains('/')
    }
}

async fn check_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.needs_key() && !is_open(request.method(), request.uri().path()) {
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let key = given.and_then(|value| value.strip_prefix(b"Bearer ").or_else(|| value.strip_prefix(b"bearer ")));
        if !key.is_some_and(|key| app.knows_key(key)) {
            return ApiError::unauthorized().answer(Dialect::of(request.uri().path()));
        }
    }
    next.run(request).await
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
    WORK.scope(RefCell::default(), async move {
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
    })
    .await
}

/// The status that stands for an answer that nobody waited for, as proxies write it.
const CLIENT_GONE: u16 = 499;

/// What is told of a request when it is over: by its answer, or because its client went away and its task was dropped.
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
            // Probes ask every few seconds, and say nothing.
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

/// The client's id of a request if it sent a plain one, else one of ours.
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
