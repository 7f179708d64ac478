//! Statistics of a request: collected while it runs; used at its end by the log, the answer's headers and the observer.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Statistics of a request.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Number of texts.
    pub texts: usize,
    /// Their characters.
    pub characters: usize,
    /// Their tokens, after truncation.
    pub tokens: usize,
    /// Time to make tokens of them.
    pub tokenize: Duration,
    /// Longest time that one of them waited.
    pub queue: Duration,
    /// Longest time of a batch that held one of them.
    pub encode: Duration,
    /// The texts themselves, where the log is to hold them.
    pub contents: Vec<String>,
}

/// A request and its answer.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Method, as `POST`.
    pub method: &'a str,
    /// The route that took it, as `/v1/models/{*id}`; `other` if none did.
    pub route: &'a str,
    /// Status of the answer; 499 if the client disconnected before the answer began.
    pub status: u16,
    /// The request's id, from its client or from us.
    pub id: &'a str,
    /// The header `traceparent`, as it came.
    pub traceparent: Option<&'a str>,
    /// When its head had been read.
    pub begin: SystemTime,
    /// Time from the request's head to the beginning of the answer: its head, and its body up to the first 64 KiB. Sending is not in it.
    pub took: Duration,
    /// What was done for it.
    pub work: &'a Work,
}

/// Observes requests, as for statistics of one's own.
pub trait Observer: Send + Sync {
    /// The service calls this once for every request that it counts: when the answer's head and its first 64 KiB are made, or when the client
    /// has disconnected before that. The rest of a longer answer is made and sent afterwards. The call comes on a thread of the runtime, so
    /// it must not block.
    fn answered(&self, request: &Answered<'_>);
}

tokio::task_local! {
    // A request is one task from its head to its answer, so its statistics are task-local and need not be passed through every function.
    pub(super) static WORK: RefCell<Work>;
}

/// Updates the statistics of this task's request. Outside a request (in a test) it does nothing.
pub(super) fn note(write: impl FnOnce(&mut Work)) {
    let _ = WORK.try_with(|work| write(&mut work.borrow_mut()));
}

impl Work {
    /// What text-embeddings-inference says in its answers' headers: whole milliseconds.
    pub(super) fn headers(&self, took: Duration, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("x-compute-type"), HeaderValue::from_static("cpu"));
        for (name, value) in [
            ("x-compute-time", took.as_millis() as u64),
            ("x-compute-characters", self.characters as u64),
            ("x-compute-tokens", self.tokens as u64),
            ("x-total-time", took.as_millis() as u64),
            ("x-tokenization-time", self.tokenize.as_millis() as u64),
            ("x-queue-time", self.queue.as_millis() as u64),
            ("x-inference-time", self.encode.as_millis() as u64),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
}
