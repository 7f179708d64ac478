//! Accounts for the memory of requests before it is allocated: bodies, texts, tokens, results, answers.
//!
//! The counts are estimates that are never below the real use. A request that does not fit with the others at present is refused (429), and so is
//! one that could never fit (413). So all requests together stay below `--max-memory`.
//!
//! ```text
//! body ─▶ texts ─▶ tokens ─▶ results ─▶ answer, in chunks, each made while the one before it is sent
//! ```
//! The service never holds the whole text of a long answer, but holds the data that it is made from until the last chunk is sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use trivec::ModelInfo;
use trivec::Modes;

/// Bytes of a small request: it may use all of the budget. Larger requests must leave a quarter of the budget to small ones.
const SMALL: u64 = 1 << 20;

/// Bytes that writing an answer takes, besides the data: a chunk that is being sent, one that is ready, and one that is being made.
pub(super) const ANSWER: u64 = 256 << 10;

/// The least budget with which a body of `body_bytes`, the largest that is allowed, can be read, parsed and tokenised.
pub fn least(body_bytes: usize) -> u64 {
    // One large request may use three quarters of the budget.
    (body_bytes as u64).saturating_mul(6).saturating_add(SMALL).div_ceil(3).saturating_mul(4)
}

/// The default budget, if bodies may have at most `body_bytes`.
pub fn default_budget(body_bytes: usize) -> u64 {
    (384 << 20).max(least(body_bytes))
}

/// The most bytes that a JSON body and the value parsed from it take together.
///
/// A string or a list takes up to 64 bytes in the list around it (32, but the list may have just doubled its capacity), and 32 for an
/// allocation of its own; a number takes up to 16. So a body of empty strings takes more than thirty times its length, and a body of a few
/// long texts twice its length.
pub(super) fn parsed(body: &[u8]) -> u64 {
    let (mut values, mut numbers) = (0u64, 0u64);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                values += 1;
                skip_string(&mut bytes);
            }
            b'[' | b'{' => values += 1,
            b',' => numbers += 1,
            _ => {}
        }
    }
    2 * body.len() as u64 + 96 * values + 16 * numbers
}

/// Skips to the end of a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// Why there is no memory for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoMemory {
    /// Other requests hold the memory at present: `in_flight` of `most` bytes.
    Full { in_flight: u64, most: u64 },
    /// The request would need `needed` bytes, and does not fit into `most` even alone.
    TooMuch { needed: u64, most: u64 },
}

/// After a peak of at least this many bytes, the service returns freed memory to the system.
const WORTH_GIVING_BACK: u64 = 16 << 20;

/// How long the service waits before it returns memory: if requests that follow use it again by then, it is not returned.
const QUIET: Duration = Duration::from_secs(1);

/// The bytes that all requests together may hold.
#[derive(Debug)]
pub(super) struct Budget {
    most: u64,
    in_flight: AtomicU64,
    /// The most that requests held since memory was last given back.
    peak: AtomicU64,
    /// Wakes [`Budget::give_back_after_peaks`].
    fallen: Notify,
}

impl Budget {
    pub(super) fn new(most: u64) -> Arc<Budget> {
        Arc::new(Budget { most, in_flight: AtomicU64::new(0), peak: AtomicU64::new(0), fallen: Notify::new() })
    }

    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// Bytes that requests hold.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How much of the budget may be in use once a request, which then holds `total` bytes, has taken more.
    fn most_for(&self, total: u64) -> u64 {
        if total <= SMALL { self.most } else { self.most - self.most / 4 }
    }

    /// Takes `more` bytes for a request that then holds `total`, or refuses.
    fn take(&self, more: u64, total: u64) -> Result<(), NoMemory> {
        let most = self.most_for(total);
        if total > most {
            return Err(NoMemory::TooMuch { needed: total, most });
        }
        let add = |in_flight: u64| in_flight.checked_add(more).filter(|&sum| sum <= most);
        match self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) => {
                self.peak.fetch_max(before + more, Ordering::Relaxed);
                Ok(())
            }
            Err(in_flight) => Err(NoMemory::Full { in_flight, most }),
        }
    }

    fn free(&self, bytes: u64) {
        self.in_flight.fetch_sub(bytes, Ordering::Relaxed);
        if self.has_fallen() {
            self.fallen.notify_one();
        }
    }

    /// Whether there was a peak, and requests now hold at most a quarter of it.
    fn has_fallen(&self) -> bool {
        let peak = self.peak.load(Ordering::Relaxed);
        peak >= WORTH_GIVING_BACK && self.in_flight() <= peak / 4
    }

    /// Returns freed memory to the system after each peak. Runs until it is aborted.
    pub(super) async fn give_back_after_peaks(&self) {
        loop {
            self.fallen.notified().await;
            tokio::time::sleep(QUIET).await;
            if self.has_fallen() {
                self.peak.store(self.in_flight(), Ordering::Relaxed);
                // This fails only if the runtime is ending.
                let _ = tokio::task::spawn_blocking(trivec_team::allocator::give_back).await;
            }
        }
    }
}

/// The parts of a request's memory, which are counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The body, and the texts or ids that were parsed from it.
    Body,
    /// Copies of the texts for the log.
    Log,
    /// Token ids, and what the tokenizer needs to make them.
    Tokens,
    /// Embeddings, scores, alignments.
    Results,
    /// Chunks of the answer.
    Answer,
}

const PARTS: usize = 5;

/// A request's share of the budget. Everything that holds data of the request has a clone of it (its task, a blocking job, the queue, the
/// answer); when the last clone is dropped, the bytes are given back.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    parts: Mutex<[u64; PARTS]>,
}

impl Held {
    pub(super) fn new(budget: &Arc<Budget>) -> Arc<Held> {
        Arc::new(Held { budget: Arc::clone(budget), parts: Mutex::new([0; PARTS]) })
    }

    /// Sets the bytes of `part`. If they are fewer than before, the rest is given back; if more, they are taken from the budget, which may
    /// refuse.
    pub(super) fn set(&self, part: Part, bytes: u64) -> Result<(), NoMemory> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parts[part as usize];
        if bytes > before {
            let total = parts.iter().fold(0u64, |sum, &part| sum.saturating_add(part));
            let more = bytes - before;
            self.budget.take(more, total.saturating_add(more))?;
        } else {
            self.budget.free(before - bytes);
        }
        parts[part as usize] = bytes;
        Ok(())
    }

    /// Adds bytes to `part`.
    pub(super) fn add(&self, part: Part, more: u64) -> Result<(), NoMemory> {
        let before = self.parts.lock().unwrap_or_else(PoisonError::into_inner)[part as usize];
        self.set(part, before.saturating_add(more))
    }

    /// Gives back all bytes of the part.
    pub(super) fn free(&self, part: Part) {
        // Giving back is never refused.
        let _ = self.set(part, 0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let parts = self.parts.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.free(parts.iter().sum());
    }
}

tokio::task_local! {
    /// The memory account of this task's request.
    pub(super) static HELD: Arc<Held>;
}

/// Bytes of the lists of a text's `tokens` token ids: while the tokenizer makes them, and the copy for the engine.
pub(super) fn token_ids(tokens: usize) -> u64 {
    64 + 12 * tokens as u64
}

/// Bytes that the tokenizer takes besides a text of so many bytes: the text's normal form, in a buffer that grows.
pub(super) fn normalized(bytes: usize) -> u64 {
    3 * bytes as u64
}

/// The most bytes that the embedding of a text of `tokens` tokens takes.
pub(super) fn embedding(info: &ModelInfo, modes: Modes, tokens: usize) -> u64 {
    let (f32_bytes, tokens) = (4, tokens as u64);
    let dense = if modes.dense { info.dense_dim as u64 * f32_bytes } else { 0 };
    // Pairs of an id and a weight while they are computed, and then a list of each.
    let sparse = if modes.sparse { tokens * 16 } else { 0 };
    let colbert = if modes.colbert { tokens * info.colbert_dim.unwrap_or(0) as u64 * f32_bytes } else { 0 };
    // 512: the structures around these values, and their places in two lists.
    512 + dense + sparse + colbert
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gives_back_all_it_took() {
        let budget = Budget::new(100 << 20);
        let held = Held::new(&budget);
        held.set(Part::Body, 5 << 20).unwrap();
        held.set(Part::Results, 50 << 20).unwrap();
        assert_eq!(budget.in_flight(), 55 << 20);
        held.set(Part::Body, 2 << 20).unwrap();
        assert_eq!(budget.in_flight(), 52 << 20);
        let of_a_job = Arc::clone(&held);
        drop(held);
        assert_eq!(budget.in_flight(), 52 << 20, "a job is still at it");
        drop(of_a_job);
        assert_eq!(budget.in_flight(), 0);
    }

    #[test]
    fn a_refused_request_takes_nothing_from_the_budget() {
        let budget = Budget::new(100 << 20);
        let (one, other) = (Held::new(&budget), Held::new(&budget));
        one.set(Part::Results, 70 << 20).unwrap();
        let full = NoMemory::Full { in_flight: 70 << 20, most: 75 << 20 };
        assert_eq!(other.set(Part::Results, 10 << 20), Err(full));
        let never = NoMemory::TooMuch { needed: 76 << 20, most: 75 << 20 };
        assert_eq!(other.set(Part::Results, 76 << 20), Err(never));
        assert!(matches!(other.set(Part::Results, u64::MAX), Err(NoMemory::TooMuch { .. })));
        assert_eq!(budget.in_flight(), 70 << 20);
        other.set(Part::Results, 5 << 20).unwrap();
        assert!(other.set(Part::Body, u64::MAX).is_err());
    }

    #[test]
    fn small_requests_have_room_beside_large_ones() {
        let budget = Budget::new(8 << 20);
        let large = Held::new(&budget);
        large.set(Part::Body, 6 << 20).unwrap();
        let small: Vec<_> = (0..2).map(|_| Held::new(&budget)).collect();
        small.iter().for_each(|held| held.set(Part::Body, SMALL).unwrap());
        assert!(matches!(Held::new(&budget).set(Part::Body, 1), Err(NoMemory::Full { .. })));
        drop(large);
        Held::new(&budget).set(Part::Body, 1).unwrap();
    }

    #[test]
    fn the_least_and_the_default_budget_have_room_for_the_largest_body() {
        for body in [1, 8 << 20, 64 << 20, 1 << 30] {
            for most in [least(body), default_budget(body)] {
                Held::new(&Budget::new(most)).set(Part::Body, body as u64 * 6).unwrap();
            }
        }
        assert_eq!(default_budget(8 << 20), 384 << 20);
        assert_eq!(least(usize::MAX), u64::MAX);
    }

    #[test]
    fn the_estimate_for_a_body_covers_its_strings_lists_and_numbers() {
        let long = format!(r#"{{"inputs":["{}"]}}"#, r#"a, [b] \" \\"#.repeat(10_000));
        assert_eq!(parsed(long.as_bytes()), 2 * long.len() as u64 + 4 * 96);
        let empty = format!("[{}\"\"]", "\"\",".repeat(100_000));
        // A `String` has 24 bytes, and its list has room for as many again.
        assert!(parsed(empty.as_bytes()) > 48 * 100_000);
        let lists = format!("[{}[0]]", "[0],".repeat(100_000));
        assert!(parsed(lists.as_bytes()) > (48 + 32) * 100_000);
        let numbers = format!("[{}0]", "0,".repeat(100_000));
        assert!((8 * 100_000..30 * 100_000).contains(&parsed(numbers.as_bytes())));
        // Invalid JSON is counted too.
        assert!(parsed(&[b'"'; 100_000]) > 0 && parsed(&[b'\\'; 100_000]) > 0);
        assert!(parsed(b"") == 0 && parsed(b"[]") > 0);
    }
}
