//! The one thread that writes: it takes what is waiting, up to some megabytes, and writes it in one transaction.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::entry::Key;
use super::identity::Identity;
use super::options::{Stats, Warn, WhenBehind};
use super::store::{Batch, CacheError, Extent, FileDigest, Place, Store, is_damage};

/// Bytes that wait for the writer at most.
const QUEUE_BYTES: usize = 64 << 20;
/// Jobs that wait for the writer at most.
const QUEUE_JOBS: usize = 1 << 16;
/// Bytes of a transaction at most, a single text's aside: SQLite keeps a transaction's pages in its log.
const BATCH_BYTES: usize = 8 << 20;

/// Shortest time between two warnings.
const QUIET: Duration = Duration::from_secs(60);

pub(super) enum Job {
    /// A text's entries.
    Insert(Arc<Identity>, Vec<(Key, Vec<u8>)>),
    Used(i64),
    Wrong(Key),
    Digest(FileDigest),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Job, usize)>,
    bytes: usize,
    ending: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub evictions: AtomicU64,
    pub errors: AtomicU64,
    pub dropped: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    newest: AtomicI64,
}

/// What the cache and its writer share.
pub(super) struct Shared {
    pub path: PathBuf,
    pub size: u64,
    pub counters: Counters,
    queue: Mutex<Queue>,
    /// There is work, or none will come.
    wake: Condvar,
    /// There is room.
    room: Condvar,
    broken: AtomicBool,
    warn: Warn,
    warned: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(path: &Path, size: u64, extent: Extent, warn: Warn) -> Shared {
        let shared = Shared {
            path: path.to_path_buf(),
            size,
            counters: Counters::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            room: Condvar::new(),
            broken: AtomicBool::new(false),
            warn,
            warned: Mutex::new(None),
        };
        shared.counters.entries.store(extent.entries, Ordering::Relaxed);
        shared.set_extent(extent);
        shared
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a job to the writer; `false` if it is not taken.
    pub(super) fn push(&self, job: Job, bytes: usize, when_behind: WhenBehind) -> bool {
        // A text of nearly the file's size would only evict everything else.
        if self.is_broken() || bytes as u64 > self.size / 4 {
            return false;
        }
        let mut queue = self.queue();
        while queue.bytes > 0 && queue.bytes + bytes > QUEUE_BYTES || queue.jobs.len() >= QUEUE_JOBS {
            if when_behind == WhenBehind::Drop || queue.ending || self.is_broken() {
                return false;
            }
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.ending {
            return false;
        }
        queue.bytes += bytes;
        queue.jobs.push_back((job, bytes));
        drop(queue);
        self.wake.notify_one();
        true
    }

    /// Called when an entry was read. Its use is recorded if it has not been for a while.
    pub(super) fn touch(&self, place: Place) {
        let newest = self.counters.newest.load(Ordering::Relaxed);
        let entries = self.counters.entries.load(Ordering::Relaxed);
        if newest.saturating_sub(place.used) as u64 > entries / 16 {
            // If the queue is full, the use is not recorded, and the entry is only evicted a little earlier.
            self.push(Job::Used(place.id), 0, WhenBehind::Drop);
        }
    }

    /// An entry is not what was stored.
    pub(super) fn wrong_entry(&self, key: Key) {
        self.count_error();
        self.warn(&format!("{}: an entry of the cache is damaged and is not used", self.path.display()));
        self.push(Job::Wrong(key), 0, WhenBehind::Drop);
    }

    /// Reading or writing failed.
    pub(super) fn failed(&self, what: &str, error: &rusqlite::Error) {
        self.count_error();
        if is_damage(error) {
            if !self.broken.swap(true, Ordering::Relaxed) {
                (self.warn)(&format!("no cache from now on: {}", CacheError::of(&self.path, error)));
            }
            // Wakes callers that wait for room.
            self.room.notify_all();
        } else {
            self.warn(&format!("the cache could not be {what}: {}", CacheError::of(&self.path, error)));
        }
    }

    pub(super) fn count_error(&self) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
    }

    fn warn(&self, what: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() > QUIET) {
            *warned = Some(Instant::now());
            (self.warn)(what);
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// No more jobs are taken; those waiting are still written.
    pub(super) fn end(&self) {
        self.queue().ending = true;
        self.wake.notify_all();
        self.room.notify_all();
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.queue().jobs.is_empty()
    }

    fn set_extent(&self, extent: Extent) {
        self.counters.bytes.store(extent.bytes, Ordering::Relaxed);
        self.counters.newest.store(extent.newest, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        Stats {
            hits: of(&c.hits),
            misses: of(&c.misses),
            entries: of(&c.entries),
            bytes: of(&c.bytes),
            evictions: of(&c.evictions),
            errors: of(&c.errors),
            dropped: of(&c.dropped),
        }
    }
}

pub(super) fn spawn(shared: Arc<Shared>, store: Store) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("trivec-cache".to_owned()).spawn(move || run(&shared, store))
}

fn run(shared: &Shared, mut store: Store) {
    let mut version = store.version().ok();
    while let Some(batch) = next_batch(shared) {
        if shared.is_broken() {
            continue;
        }
        let counters = &shared.counters;
        match store.write(&batch) {
            Ok((added, removed)) => {
                counters.evictions.fetch_add(removed, Ordering::Relaxed);
                let entries = counters.entries.load(Ordering::Relaxed) + added;
                counters.entries.store(entries.saturating_sub(removed), Ordering::Relaxed);
            }
            Err(e) => shared.failed("written", &e),
        }
        // Another process has written: its entries are counted too.
        let now = store.version().ok();
        let extent = if now == version { store.quick_extent() } else { store.extent() };
        if let Ok(extent) = extent {
            if now != version {
                counters.entries.store(extent.entries, Ordering::Relaxed);
            }
            shared.set_extent(extent);
        }
        version = now;
    }
}

/// Waits for work; `None` when there is none and will be none.
fn next_batch(shared: &Shared) -> Option<Batch> {
    let mut queue = shared.queue();
    while queue.jobs.is_empty() {
        if queue.ending {
            return None;
        }
        queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    let most = BATCH_BYTES.min((shared.size / 4) as usize);
    let mut jobs = Vec::new();
    let mut taken = 0;
    while let Some((_, bytes)) = queue.jobs.front() {
        if taken > 0 && taken + bytes > most {
            break;
        }
        taken += bytes;
        jobs.extend(queue.jobs.pop_front());
    }
    queue.bytes -= taken;
    drop(queue);
    shared.room.notify_all();

    let mut batch = Batch::default();
    let mut sound: Option<(Arc<Identity>, bool)> = None;
    for (job, _) in jobs {
        match job {
            Job::Insert(identity, entries) => {
                // All waiting entries were computed earlier. If the model's files are unchanged now, they were unchanged then.
                let holds = match &sound {
                    Some((last, holds)) if Arc::ptr_eq(last, &identity) => *holds,
                    _ => identity.still_holds(),
                };
                if holds {
                    batch.entries.extend(entries);
                } else if sound.as_ref().is_none_or(|(last, _)| !Arc::ptr_eq(last, &identity)) {
                    shared.warn("the model's files were changed in place since they were loaded: nothing is cached");
                }
                sound = Some((identity, holds));
            }
            Job::Used(id) => batch.used.push(id),
            Job::Wrong(key) => batch.wrong.push(key),
            Job::Digest(digest) => batch.digests.push(digest),
        }
    }
    Some(batch)
}
