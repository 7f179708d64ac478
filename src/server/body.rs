//! Reading JSON bodies, with errors that say where.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::{self, DeserializeOwned, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
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

/// A whole number, also when it is written `301.0`: that is an integer in JSON Schema, and what some clients write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<T>(pub T);

impl<T> Whole<T> {
    pub(super) fn plain(numbers: Vec<Whole<T>>) -> Vec<T> {
        numbers.into_iter().map(|Whole(number)| number).collect()
    }
}

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<T>(PhantomData<T>);
        impl<T: TryFrom<u64>> Visitor<'_> for Number<T> {
            type Value = Whole<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, not negative")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole<T>, E> {
                T::try_from(number).map(Whole).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole<T>, E> {
                // Above 2^53 neighbouring whole numbers are one f64.
                if number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number) {
                    return self.visit_u64(number as u64);
                }
                Err(E::invalid_value(Unexpected::Float(number), &self))
            }
        }
        deserializer.deserialize_any(Number(PhantomData))
    }
}

/// A field that is a [`Whole`] number, `null` or absent.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(Option::<Whole<usize>>::deserialize(deserializer)?.map(|Whole(number)| number))
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
    fn whole_numbers_may_be_written_with_a_point() {
        #[derive(serde::Deserialize)]
        struct Numbers {
            ids: Vec<Whole<u32>>,
            #[serde(default, deserialize_with = "whole")]
            most: Option<usize>,
        }
        let read = |body: &str| parse::<Numbers>(body.as_bytes()).map(|n| (Whole::plain(n.ids), n.most));
        assert_eq!(
            read(r#"{"ids":[1, 101.0, 4294967295.0],"most":301.0}"#).unwrap(),
            (vec![1, 101, u32::MAX], Some(301))
        );
        assert_eq!(read(r#"{"ids":[],"most":null}"#).unwrap(), (vec![], None));
        assert_eq!(read(r#"{"ids":[]}"#).unwrap(), (vec![], None));
        for bad in ["-1", "-0.5", "1.5", "4294967296", "4294967296.0", "1e300", "\"1\"", "null", "true", "-1e9"] {
            assert_eq!(read(&format!(r#"{{"ids":[{bad}]}}"#)).unwrap_err().status, 422, "{bad}");
        }
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
