//! Reading JSON bodies, with errors that say where.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::app::App;
use super::error::{ApiError, Dialect};

/// A JSON body as a value of type `T`.
pub(super) struct Body<T>(pub T);

/// The answer to a body that cannot be taken, in the dialect of its route.
pub(super) struct BadBody(ApiError, Dialect);

impl axum::response::IntoResponse for BadBody {
    fn into_response(self) -> axum::response::Response {
        self.0.answer(self.1)
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = BadBody;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, BadBody> {
        let dialect = Dialect::of(request.uri().path());
        let read = read(request.into_body(), app.limits.body_bytes, app.body_idle).await;
        read.and_then(|bytes| parse(&bytes)).map(Body).map_err(|e| BadBody(e, dialect))
    }
}

/// Bytes a second below which a body is too slow to wait for: less than any link that still works.
const SLOWEST: f64 = 8192.0;

/// All bytes of a body, of which there may be `most`. It may stand still for `idle`, and in all so much longer than [`SLOWEST`] needs:
/// a byte now and then does not hold a connection for ever.
async fn read(mut body: axum::body::Body, most: usize, idle: Duration) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let what = format!("the body is larger than {most} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", what)
    };
    // What it says of its length, before a byte of it is read.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let begin = Instant::now();
    let mut bytes = Vec::new();
    loop {
        let deadline = begin + idle + Duration::from_secs_f64(bytes.len() as f64 / SLOWEST);
        let deadline = deadline.min(Instant::now() + idle);
        let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let frame = match tokio::time::timeout_at(deadline, next).await {
            Ok(None) => return Ok(bytes),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(e))) => {
                let what = format!("the body cannot be read: {e}");
                return Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_body", what));
            }
            Err(_) => {
                let what = format!("the body did not come in time: {} bytes of it did", bytes.len());
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", what));
            }
        };
        // Trailers say nothing here.
        let data = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
}

/// A value of JSON. Syntax errors are 400, values of the wrong kind 422.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if let Err(e) = std::str::from_utf8(bytes) {
        let what = format!("the body is not UTF-8 at byte {}", e.valid_up_to());
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", what));
    }
    // The parser's own limit of 128 levels keeps deep nesting off the stack.
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.inner();
        let message = format!("{inner}");
        if inner.is_data() {
            let param = if path == "." { None } else { Some(path) };
            ApiError { param, ..ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message) }
        } else {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {message}"))
        }
    })?;
    parser
        .end()
        .map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {e}")))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[allow(dead_code)]
        input: Vec<String>,
    }

    fn refused(body: &[u8]) -> (u16, Option<String>) {
        let e = parse::<Example>(body).unwrap_err();
        (e.status.as_u16(), e.param)
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(parse::<Example>(br#"{"input":["a","\u00e9"]}"#).unwrap().input.len(), 2);
        assert_eq!(refused(br#"{"input":["a",5]}"#), (422, Some("input[1]".to_owned())));
        assert_eq!(refused(br#"{"input":[],"more":1}"#).0, 422);
        assert_eq!(refused(br#"{"input":[],"input":[]}"#).0, 422);
        assert_eq!(refused(b"{").0, 400);
        assert_eq!(refused(br#"{"input":[]} x"#).0, 400);
        assert_eq!(refused(b"\xff").0, 400);
        assert_eq!(refused(br#"{"input":["\ud800"]}"#).0, 400);
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(matches!(refused(&deep).0, 400 | 422));
    }
}
