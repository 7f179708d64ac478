//! Error answers in the shape that clients expect: OpenAI's, or on its own routes that of text-embeddings-inference (TEI).

use axum::Json;
use axum::http::{Extensions, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::memory::NoMemory;
use super::scheduler::Refused;
use trivec::{Error, ErrorKind};

/// The error code for a compressed body; an answer with it also has the header `Accept-Encoding`.
pub(super) const UNSUPPORTED_ENCODING: &str = "unsupported_encoding";

/// The shape of error answers. Every route is declared with one, and its requests carry it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"error": {"message", "type", "code", "param"}}`
    OpenAi,
    /// `{"error", "error_type"}`, and `param` if a field is wrong
    Tei,
}

impl Dialect {
    /// The dialect of the route that a request has come to.
    pub(super) fn of(extensions: &Extensions) -> Dialect {
        extensions.get().copied().unwrap_or(Dialect::OpenAi)
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub param: Option<String>,
    /// Seconds after which the client should try again.
    pub retry_after: Option<u64>,
    /// If one of the request's texts is to blame: the text's index, and what is wrong with it.
    pub text: Option<(usize, String)>,
}

pub(super) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), param: None, retry_after: None, text: None }
    }

    /// The error for a wrong value of the field `param`.
    pub(super) fn invalid(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError { param: Some(param.into()), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message) }
    }

    /// The error for a failure of the service itself.
    pub(super) fn internal() -> ApiError {
        let what = "the request failed; others are not affected";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", what)
    }

    pub(super) fn unauthorized() -> ApiError {
        let what = "a valid API key is needed: send `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", what)
    }

    /// Changes the index of the text that is to blame, for a caller that gave only a part of its texts: `place` turns an index in the part
    /// into that in the caller's list. The message then calls the text `input[INDEX]`.
    pub(super) fn at_text(mut self, place: impl Fn(usize) -> usize) -> ApiError {
        self.text = self.text.map(|(index, what)| (place(index), what));
        self.named(input)
    }

    /// Calls the text that is to blame, if there is one, by the route's own name for it: `name` turns the text's index into its name.
    pub(super) fn named(self, name: impl Fn(usize) -> String) -> ApiError {
        match &self.text {
            Some((index, what)) => {
                let name = name(*index);
                ApiError { message: format!("{name}: {what}"), param: Some(name), ..self }
            }
            None => self,
        }
    }

    /// OpenAI's `type` for the status.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// The answer in a dialect.
    pub(super) fn answer(self, dialect: Dialect) -> Response {
        let body = match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": self.message, "type": self.kind(), "code": self.code, "param": self.param,
            }}),
            Dialect::Tei => {
                let kind = match self.status.as_u16() {
                    429 => "overloaded",
                    424 | 501 => "backend",
                    503 => "unhealthy",
                    500 => "backend",
                    400 if self.code == "empty" => "empty",
                    _ if self.code == "tokenizer" => "tokenizer",
                    _ => "validation",
                };
                let mut body = json!({"error": self.message, "error_type": kind});
                // TEI's errors have no such field; its clients ignore it.
                if let Some(param) = self.param {
                    body["param"] = json!(param);
                }
                body
            }
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == UNSUPPORTED_ENCODING {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }
}

/// The name of a text in errors of most routes.
fn input(index: usize) -> String {
    format!("input[{index}]")
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let message = error.to_string();
        if let Error::NotFinite { .. } = error {
            let engine = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "not_finite", message);
            return ApiError { text: error.of_input(), ..engine }.named(input);
        }
        match (error.kind(), &error) {
            (ErrorKind::Usage, Error::Option { option, .. }) => ApiError::invalid(*option, message),
            (ErrorKind::Usage | ErrorKind::Input, _) => ApiError::invalid("input", message),
            (ErrorKind::ModeUnavailable, _) => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "mode_unavailable", message)
            }
            _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", message),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::Full { queued, limit, busy } => ApiError {
                // By then about half of the queue will be computed.
                retry_after: Some((busy.as_secs() / 2).clamp(1, 60)),
                ..ApiError::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "queue_full",
                    format!("the queue is full: texts that cost {queued} of {limit} are waiting; try again"),
                )
            },
            Refused::Ending => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the service is shutting down")
            }
            Refused::Panicked => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "engine_error",
                "the engine failed on this request; others are not affected",
            ),
            Refused::Engine(error) => error.into(),
        }
    }
}

impl From<NoMemory> for ApiError {
    fn from(none: NoMemory) -> ApiError {
        match none {
            NoMemory::Full { in_flight, most } => ApiError {
                retry_after: Some(2),
                ..ApiError::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "memory_full",
                    format!(
                        "requests hold {in_flight} of {most} bytes of memory, too many to take this one; try again"
                    ),
                )
            },
            NoMemory::TooMuch { needed, most } => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                format!(
                    "the request needs up to {needed} bytes of memory, expected at most {most}: send less at a time, or \
                     start the service with a larger --max-memory"
                ),
            ),
        }
    }
}
