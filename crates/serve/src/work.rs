//! Statistics of a request. They are collected while it runs, and go into the log, the answer's headers and to the observer.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::scheduler::Timing;

/// Statistics of a request.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Number of texts.
    pub texts: usize,
    /// Characters of the texts.
    pub characters: usize,
    /// Tokens that the engine computed, after truncation; texts that the cache had do not count.
    pub tokens: usize,
    /// Time of tokenising the texts.
    pub tokenize: Duration,
    /// Time until the engine began with the first of the texts. If the request was computed in several parts one after another, the sum of
    /// the times that they waited.
    pub queue: Duration,
    /// Engine time of the batches with the texts, of all parts together; the time of looking them up if the cache had them all.
    pub encode: Duration,
    /// The texts themselves, if the log is to have them.
    pub contents: Vec<String>,
}

/// A request and its answer.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Method, such as `POST`.
    pub method: &'a str,
    /// The route that the request matched, such as `/v1/models/{*id}`; `other` if it matched none.
    pub route: &'a str,
    /// Status of the answer; 499 if the client disconnected before the answer began.
    pub status: u16,
    /// The request's id, from the client or else from the service.
    pub id: &'a str,
    /// The request's header `traceparent`.
    pub traceparent: Option<&'a str>,
    /// When the request's head had been read.
    pub begin: SystemTime,
    /// Time from the request's head until the beginning of the answer (its head and the first 64 KiB of its body) was made. Sending does not
    /// count.
    pub took: Duration,
    /// Statistics of the request.
    pub work: &'a Work,
}

/// Observes requests, for example to collect statistics.
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
    /// Adds the times of a part of the request, which was computed or looked up after the parts before it.
    pub(super) fn took(&mut self, timing: Timing) {
        self.queue += timing.queued;
        self.encode += timing.computed;
    }

    /// Sets the headers in which text-embeddings-inference gives these statistics, with times in whole milliseconds.
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
