//! Reads JSON bodies, parameters of paths, and those after the `?`. Errors say which value is wrong.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::Instant;

use super::app::App;
use super::error::{ApiError, Dialect};
use super::fields::Object;
use super::header_fields;
use super::memory::{self, Held, Part};

/// A JSON body as a value of type `T`.
pub(super) struct Body<T>(pub T);

/// A JSON body as a value of type `T`, for a request whose fields are all optional: an empty body means `{}`.
pub(super) struct OptionalBody<T>(pub T);

/// The fields of a request that has none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// The parameter of a route's path, without its percent-encoding.
pub(super) struct PathPart(pub String);

/// The parameters after a path's `?`.
#[cfg(feature = "search")]
pub(super) struct QueryPart<T>(pub T);

/// The error of a request that is refused before its handler runs, in the dialect of its route: its body, path or parameters are wrong, too
/// large or too slow, or there is no memory for it at present.
pub(super) struct Refused(ApiError, Dialect);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.answer(self.1)
    }
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refused> {
        let dialect = Dialect::of(request.extensions());
        let held = app.held();
        let read = async {
            header_fields::check_json(request.headers())?;
            let bytes = read(request.into_body(), app.limits.body_bytes, app.body_idle, &held).await?;
            counted_and_parsed(app, Arc::clone(&held), bytes).await.map(Body)
        };
        read.await.map_err(|e| Refused(e, dialect))
    }
}

impl<T: DeserializeOwned + Default + Send + 'static> FromRequest<Arc<App>> for OptionalBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refused> {
        let dialect = Dialect::of(request.extensions());
        let held = app.held();
        let read = async {
            header_fields::check_json(request.headers())?;
            let bytes = read(request.into_body(), app.limits.body_bytes, app.body_idle, &held).await?;
            if bytes.is_empty() {
                return Ok(OptionalBody(T::default()));
            }
            counted_and_parsed(app, Arc::clone(&held), bytes).await.map(OptionalBody)
        };
        read.await.map_err(|e| Refused(e, dialect))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathPart {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let dialect = Dialect::of(&parts.extensions);
        // The route has one parameter, so this fails only if the parameter's bytes are not UTF-8.
        let part = Path::<String>::from_request_parts(parts, state).await;
        part.map(|Path(part)| PathPart(part)).map_err(|e| {
            let what = format!("the path `{}` cannot be read: {}", parts.uri.path(), e.body_text());
            Refused(ApiError::new(StatusCode::BAD_REQUEST, "bad_path", what), dialect)
        })
    }
}

#[cfg(feature = "search")]
impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryPart<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let dialect = Dialect::of(&parts.extensions);
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|axum::extract::Query(value)| QueryPart(value)).map_err(
            |e| {
                let what = format!("the parameters after the `?` cannot be read: {}", e.body_text());
                Refused(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", what), dialect)
            },
        )
    }
}

/// A body of at most this many bytes is parsed on the runtime's own thread, which takes less time than handing it to another thread.
pub(super) const PARSED_AT_ONCE: usize = 16 << 10;

/// Reserves memory for a body and parses it; a large one on a blocking thread.
async fn counted_and_parsed<T: DeserializeOwned + Send + 'static>(
    app: &App,
    held: Arc<Held>,
    bytes: Vec<u8>,
) -> Result<T, ApiError> {
    let at_once = bytes.len() <= PARSED_AT_ONCE;
    let run = move || {
        held.set(Part::Body, memory::parsed(&bytes))?;
        parse(&bytes)
    };
    if at_once { run() } else { app.beside(run).await? }
}

/// Bytes a second: a client that sends a body or reads an answer more slowly for long is cut off.
pub(super) const SLOWEST: f64 = 8192.0;

/// Reads a body of at most `most` bytes, which `held` counts as they arrive. The client may pause for `idle`; in all it may take the time of
/// [`SLOWEST`] bytes a second and `idle` more, so that a byte now and then does not keep the connection open for ever.
pub(super) async fn read(
    mut body: axum::body::Body,
    most: usize,
    idle: Duration,
    held: &Held,
) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let what = format!("the body is larger than {most} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", what)
    };
    // The announced length is checked before a byte is read.
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
        // Trailers are ignored.
        let data = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        held.set(Part::Body, (bytes.len() + data.len()) as u64)?;
        bytes.extend_from_slice(&data);
    }
}

/// Parses a JSON object. JSON that is not well-formed is the error 400; well-formed JSON with a wrong value is 422, with the place of the
/// value. A byte order mark before the object, which some clients write, is ignored (RFC 8259, 8.1).
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let what = format!("the body is not UTF-8 at byte {}", e.valid_up_to());
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", what)
    })?;
    if text.trim().is_empty() {
        let what = "the body is empty, expected a JSON object";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", what));
    }
    // The parser's own limit of 128 levels keeps deep nesting off the stack.
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|e| {
        let place = e.path().to_string();
        let found = e.into_inner();
        syntax_error(text).unwrap_or_else(|| invalid_value(&place, &found))
    })?;
    parser.end().map_err(|e| not_json(text, &e))?;
    let Object(value) = value;
    Ok(value)
}

/// The error of a body that is not JSON: the place, and what is wrong there, in words that do not depend on the parser.
pub(super) fn not_json(body: &str, error: &serde_json::Error) -> ApiError {
    let (at, what) = trivec::json::fault(body, error);
    let before = body.get(..at).unwrap_or(body);
    let (above, line) = before.rsplit_once('\n').unwrap_or(("", before));
    let character = line.chars().count() + 1;
    let place = match body.trim_end().contains('\n') {
        true => {
            let lines = above.matches('\n').count() + usize::from(above.len() + line.len() < before.len()) + 1;
            format!("line {lines}, character {character}")
        }
        false => format!("character {character}"),
    };
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: at {place}: {what}"))
}

/// The error of a body that is not JSON; `None` if its syntax is right. The category of the parser's own error cannot tell: the parser also
/// calls it a syntax error if a number stands in the place of an enum, is beyond f64, or if a string has a lone surrogate.
fn syntax_error(body: &str) -> Option<ApiError> {
    serde_json::from_str::<IgnoredAny>(body).err().map(|e| not_json(body, &e))
}

/// The most characters of an error's message that an answer has: the message quotes values, which may be long.
const MESSAGE_CHARS: usize = 400;

/// The deserializer's words for lists and objects, and the usual words of JSON that replace them.
const WORDS: [(&str, &str); 4] = [
    ("invalid type: sequence", "invalid type: list"),
    ("invalid type: map", "invalid type: object"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected an object"),
];

/// The error of a value in well-formed JSON, at `place`.
fn invalid_value(place: &str, error: &serde_json::Error) -> ApiError {
    let mut message = error.to_string();
    for (theirs, ours) in WORDS {
        message = message.replace(theirs, ours);
    }
    if message.contains("hex escape") {
        // The parser's words for it: `lone leading surrogate in hex escape`, `unexpected end of hex escape`.
        let at = message.find(" at line").map_or("", |at| &message[at..]);
        message = format!("a surrogate escape without its other half is no character{at}");
    }
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS) {
        message.truncate(end);
        message.push('…');
    }
    // A missing or repeated field is an error of the object around it.
    let field = ["missing field `", "duplicate field `"].iter().find_map(|kind| message.strip_prefix(kind));
    let field = field.and_then(|rest| rest.split('`').next());
    let param = match (place, field) {
        (".", None) => None,
        (".", Some(field)) => Some(field.to_owned()),
        (place, None) => Some(place.to_owned()),
        (place, Some(field)) => Some(format!("{place}.{field}")),
    };
    ApiError { param, ..ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message) }
}

/// The place of the error in `body`, or `None` if it parses as a `T`.
#[cfg(test)]
pub(super) fn place<T: DeserializeOwned>(body: &str) -> Option<String> {
    let error = parse::<T>(body.as_bytes()).err()?;
    assert_eq!(error.status, 422, "{body}: {error:?}");
    Some(error.param.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{Word, Words};
    use crate::inputs::Pair;

    #[test]
    fn errors_of_json_syntax_have_a_place_and_plain_words() {
        for (body, expected) in [
            ("{", "character 2: it ends before it is complete"),
            ("{\"a\": [1", "character 9: it ends before it is complete"),
            ("{\"ä\": nope}", "character 8: expected a value of JSON"),
            ("{\"ä\": [1]} x\n", "character 12: expected nothing more after the value"),
            ("{\n \"a\": [1],\n}\n", "line 3, character 1: expected the name of a field, in double quotes"),
            ("{\n\n\"a\" [1]}", "line 3, character 5: expected `:`"),
            ("\n{a: 1}", "line 2, character 2: expected the name of a field, in double quotes"),
            (&"[".repeat(1_000), "character 1001: it ends before it is complete"),
        ] {
            let error = parse::<std::collections::BTreeMap<String, Vec<u8>>>(body.as_bytes()).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "invalid_json"), "{body}: {error:?}");
            assert_eq!(error.message, format!("the body is not JSON: at {expected}"), "{body}");
        }
    }

    #[test]
    fn errors_call_values_lists_and_objects() {
        let message =
            |body: &str| parse::<std::collections::BTreeMap<String, Vec<u8>>>(body.as_bytes()).unwrap_err().message;
        assert!(
            message(r#"{"a": {}}"#).starts_with("invalid type: object, expected a list"),
            "{}",
            message(r#"{"a": {}}"#)
        );
        assert!(
            message(r#"{"a": [[]]}"#).starts_with("invalid type: list, expected u8"),
            "{}",
            message(r#"{"a": [[]]}"#)
        );
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // read in part
    struct Example {
        input: Vec<String>,
        #[serde(default)]
        pairs: Vec<Pair>,
        form: Option<Word<Form>>,
        inner: Option<Object<Inner>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        x: f64,
    }

    #[derive(Debug, Clone, Copy)]
    enum Form {
        A,
        B,
    }

    impl Words for Form {
        const WORDS: &'static [(&'static str, Form)] = &[("a", Form::A), ("b", Form::B)];
    }

    fn refused(body: &[u8]) -> (u16, Option<String>) {
        let e = parse::<Example>(body).unwrap_err();
        (e.status.as_u16(), e.param)
    }

    #[test]
    fn errors_of_values_name_their_field() {
        assert_eq!(parse::<Example>(br#"{"input":["a","\u00e9"]}"#).unwrap().input.len(), 2);
        assert_eq!(parse::<Example>("\u{feff}{\"input\":[]}".as_bytes()).unwrap().input.len(), 0);
        let at = |place: &str| (422, Some(place.to_owned()));
        assert_eq!(refused(br#"{"input":["a",5]}"#), at("input[1]"));
        assert_eq!(refused(br#"{"input":[],"more":1}"#), at("more"));
        assert_eq!(refused(br#"{"input":[],"input":[]}"#), at("input"));
        assert_eq!(refused(b"{}"), at("input"));
        assert_eq!(refused(br#"{"input":["a"],"pairs":[["a","b"],["a","b","c"]]}"#), at("pairs[1]"));
        assert_eq!(refused(br#"{"input":["a"],"form":5}"#), at("form"));
        assert_eq!(refused(br#"{"input":["a"],"form":{"b":null}}"#), at("form"));
        assert_eq!(refused(br#"{"input":["a"],"inner":{}}"#), at("inner.x"));
        assert_eq!(refused(br#"{"input":["a"],"inner":[1]}"#), at("inner"));
        assert_eq!(refused(br#"{"input":["a"],"inner":{"x":1e999}}"#), at("inner.x"));
        assert_eq!(refused(br#"{"input":["a"],"inner":{"x":"5"}}"#), at("inner.x"));
    }

    #[test]
    fn wrong_values_in_well_formed_json_are_422_and_wrong_syntax_is_400() {
        // A lone surrogate: the escape is right by JSON's grammar, but stands for no character.
        for half in [r"\ud83d", r"\ud83d!", r"\ude00", r"\ud83d\ud83d", r"\ud83d\u0041"] {
            let body = format!(r#"{{"input":["fine","cut {half}"]}}"#);
            assert_eq!(refused(body.as_bytes()), (422, Some("input[1]".to_owned())), "{half}");
        }
        // Only an object is a body, not even a list of the fields' values in their order.
        for body in [r#"[["a"]]"#, "null", "5", r#""a""#, " []"] {
            assert_eq!(refused(body.as_bytes()), (422, None), "{body}");
        }
        // Nesting deeper than the parser's limit is well-formed too.
        let deep = |before: &str, after: &str| {
            [before.as_bytes(), &[b'['; 100_000], &[b']'; 100_000], after.as_bytes()].concat()
        };
        assert_eq!(refused(&deep("", "")), (422, None));
        assert_eq!(refused(&deep(r#"{"input":"#, "}")), (422, Some("input[0]".to_owned())));
        for body in [
            "",
            "\u{feff}",
            "\u{feff}\u{feff}{}",
            " ",
            "{",
            r#"{"input":[]} x"#,
            r#"{"input":5"#,
            r#"{"input":["\ud8"]}"#,
            r#"{"input":NaN}"#,
            r#"{"input":[01]}"#,
            "{'input':[]}",
            r#"{"input":[],}"#,
            "{\"input\":[\"a\nb\"]}",
            r#"{"input":[-Infinity]}"#,
        ] {
            assert_eq!(refused(body.as_bytes()).0, 400, "{body}");
        }
        assert_eq!(refused(b"\xff").0, 400);
        for empty in ["", "\u{feff}", " \r\n\t", "\n"] {
            let message = parse::<Example>(empty.as_bytes()).unwrap_err().message;
            assert_eq!(message, "the body is empty, expected a JSON object");
        }
    }

    #[test]
    fn a_message_is_short_whatever_it_quotes() {
        let body = format!(r#"{{"input":["a"],"form":"{}"}}"#, "ü".repeat(100_000));
        let message = parse::<Example>(body.as_bytes()).unwrap_err().message;
        assert!(message.starts_with("invalid value: string \"üü") && message.len() < 1000, "{message}");
    }
}
