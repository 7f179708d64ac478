//! Writes answers. A short answer is written at once. A long one is written in chunks on a blocking thread, each chunk when the previous
//! one is being sent, so that only a few chunks are in memory however long the answer and however slow the client is.

use std::iter::once;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::app::App;
use super::body::SLOWEST;
use super::error::Result;
use super::memory::{ANSWER, Held, Part};

/// Size of a chunk in bytes. A shorter answer is sent whole, with its length.
const CHUNK: usize = 64 << 10;

pub(super) const JSON: &str = "application/json";

/// An answer that is written piece by piece.
pub(super) trait Pieces: Send + 'static {
    /// Appends the next piece, of some kilobytes. Returns `false` if no piece was left.
    fn append(&mut self, out: &mut Vec<u8>) -> bool;
}

/// A function that writes the beginning of an answer.
type Begin = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

/// An answer that consists of a beginning and steps, and the function that writes a step.
pub(super) struct Steps<I, F> {
    before: Option<Begin>,
    steps: I,
    write: F,
}

impl<I: Iterator, F: FnMut(I::Item, &mut Vec<u8>)> Steps<I, F> {
    /// An answer of steps alone.
    pub(super) fn new(steps: I, write: F) -> Steps<I, F> {
        Steps { before: None, steps, write }
    }

    /// An answer that begins with what `before` writes.
    pub(super) fn begun_by(before: impl FnOnce(&mut Vec<u8>) + Send + 'static, steps: I, write: F) -> Steps<I, F> {
        Steps { before: Some(Box::new(before)), steps, write }
    }
}

impl<I, F> Pieces for Steps<I, F>
where
    I: Iterator + Send + 'static,
    F: FnMut(I::Item, &mut Vec<u8>) + Send + 'static,
{
    fn append(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(before) = self.before.take() {
            before(out);
            return true;
        }
        let Some(step) = self.steps.next() else { return false };
        (self.write)(step, out);
        true
    }
}

/// Appends a value as JSON.
pub(super) fn json(out: &mut Vec<u8>, value: &impl Serialize) {
    // Writing to memory does not fail, and all keys in answers are strings.
    let _ = serde_json::to_writer(out, value);
}

/// Appends a text, escaped for a JSON string, without the quotes around it.
pub(super) fn inside_string(out: &mut Vec<u8>, text: &str) {
    let from = out.len();
    json(out, &text);
    out.remove(from);
    out.pop();
}

/// A JSON list of `count` elements, each of which is written by `write`.
pub(super) fn list(count: usize, mut write: impl FnMut(usize, &mut Vec<u8>) + Send + 'static) -> impl Pieces {
    Steps::new(0..=count, move |at, out| {
        if at == count {
            out.extend_from_slice(if at == 0 { b"[]" } else { b"]" });
        } else {
            out.push(if at == 0 { b'[' } else { b',' });
            write(at, out);
        }
    })
}

/// The steps of an answer that is a list of texts, each with rows (vectors or ids). Texts and rows are given by their indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The beginning of a text.
    Begin(usize),
    /// Some rows of a text.
    Rows(usize, Range<usize>),
    /// The end of a text.
    End(usize),
    /// The end of the answer, after all texts.
    Last,
}

/// The steps for texts with these numbers of rows, at most `together` rows in a step.
pub(super) fn steps(rows: Vec<usize>, together: usize) -> impl Iterator<Item = Step> + Send + 'static {
    let of_text = move |(text, rows): (usize, usize)| {
        let parts =
            (0..rows).step_by(together.max(1)).map(move |from| Step::Rows(text, from..rows.min(from + together)));
        once(Step::Begin(text)).chain(parts).chain(once(Step::End(text)))
    };
    rows.into_iter().enumerate().flat_map(of_text).chain(once(Step::Last))
}

impl App {
    /// Makes an answer of content type `kind` from its pieces. `length`, if it is known, becomes the `content-length` of an answer of several
    /// chunks.
    pub(super) fn answer(&self, kind: &'static str, length: Option<u64>, mut pieces: impl Pieces) -> Result<Response> {
        let begin = Instant::now();
        let (mut chunk, mut more) = (Vec::new(), true);
        while more && chunk.len() < CHUNK {
            more = pieces.append(&mut chunk);
        }
        self.metrics.serialize.observe(begin.elapsed().as_secs_f64());
        let body = if more {
            let held = self.held();
            held.set(Part::Answer, ANSWER)?;
            Body::new(Chunks {
                first: Some(chunk),
                next: None,
                rest: Some(Box::new(pieces)),
                writers: Writers { jobs: Arc::clone(&self.jobs), held },
                left: length,
                sent: 0,
                reader: Duration::ZERO,
                since: None,
                idle: self.body_idle,
            })
        } else {
            Body::from(chunk)
        };
        let mut response = body.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    }
}

/// What is needed to write chunks on blocking threads.
struct Writers {
    jobs: Arc<Semaphore>,
    held: Arc<Held>,
}

type Rest = Box<dyn Pieces>;
type Written = std::io::Result<(Vec<u8>, Option<Rest>)>;
type Next = Pin<Box<dyn Future<Output = Written> + Send>>;

impl Writers {
    /// Writes the next chunk on a blocking thread, when one of the [`App::jobs`] is free.
    fn write(&self, mut pieces: Rest) -> Next {
        let (jobs, held) = (Arc::clone(&self.jobs), Arc::clone(&self.held));
        Box::pin(async move {
            let turn = jobs.acquire_owned().await.map_err(std::io::Error::other)?;
            let write = move || {
                let mut chunk = Vec::with_capacity(CHUNK + CHUNK / 4);
                let mut more = true;
                while more && chunk.len() < CHUNK {
                    more = pieces.append(&mut chunk);
                }
                drop((turn, held));
                (chunk, more.then_some(pieces))
            };
            tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)
        })
    }
}

/// The body of a long answer.
struct Chunks {
    first: Option<Vec<u8>>,
    /// The chunk that is being written.
    next: Option<Next>,
    /// The part that is not being written yet.
    rest: Option<Rest>,
    writers: Writers,
    /// Bytes of the announced length that are not sent yet.
    left: Option<u64>,
    /// Bytes that were handed out for sending.
    sent: u64,
    /// How long finished chunks have waited for the client in all.
    reader: Duration,
    /// When the last chunk was handed out, if the client has not asked for another since.
    since: Option<Instant>,
    /// How long the client may take beyond the time at [`SLOWEST`] bytes a second.
    idle: Duration,
}

impl Chunks {
    /// Hands out a chunk for sending, and begins to write the next one.
    fn hand_out(&mut self, chunk: Vec<u8>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.next = self.rest.take().map(|rest| self.writers.write(rest));
        self.sent += chunk.len() as u64;
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        self.since = Some(Instant::now());
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        // The next chunk is requested when the client has taken most of the previous ones.
        this.reader += this.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        if this.reader > this.idle + Duration::from_secs_f64(this.sent as f64 / SLOWEST) {
            return Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into())));
        }
        if let Some(first) = this.first.take() {
            return this.hand_out(first);
        }
        let Some(next) = &mut this.next else { return Poll::Ready(None) };
        match next.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(e)) => Poll::Ready(Some(Err(e))),
            Poll::Ready(Ok((chunk, rest))) => {
                (this.next, this.rest) = (None, rest);
                if chunk.is_empty() { Poll::Ready(None) } else { this.hand_out(chunk) }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
