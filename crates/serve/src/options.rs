//! The limits of a service: sizes of requests, and timeouts.

use std::time::Duration;

use super::memory;

/// How large requests may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of a body.
    pub body_bytes: usize,
    /// The most texts of a request.
    pub texts: usize,
    /// The largest cost of all waiting texts. A token of a short text costs 1; the tokens of long texts cost more.
    pub queue_cost: u64,
    /// The most bytes that all requests together may hold, from the first byte of a body to the last of its answer.
    pub memory: u64,
}

/// How long a connection may take: for its head, without progress, and when the service ends.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Within what time a client must send a request's whole head, from the opening of the connection or the last answer on.
    pub head: Duration,
    /// The longest time without progress in reading or writing.
    pub idle: Duration,
    /// How long running requests may take to finish when the service ends.
    pub drain: Duration,
}

/// Limits that suit a small server.
impl Default for Limits {
    fn default() -> Self {
        Limits { body_bytes: 8 << 20, texts: 2048, queue_cost: 1 << 20, memory: memory::default_budget(8 << 20) }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Timeouts { head: s(10), idle: s(30), drain: s(30) }
    }
}
