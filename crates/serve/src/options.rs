//! Sizes and times that a service keeps to.

use std::time::Duration;

use super::memory;

/// What requests may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Texts of a request.
    pub texts: usize,
    /// Largest cost of all waiting texts, in tokens of short texts.
    pub queue_cost: u64,
    /// Bytes that all requests together hold, from their bodies to the last of their answers.
    pub memory: u64,
}

/// How long a connection may take: for its head, without progress, and when the service ends.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To send a whole head, from the connection's opening or the last answer on.
    pub head: Duration,
    /// Longest time without progress in reading or writing.
    pub idle: Duration,
    /// Time to finish running requests when the service ends.
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
