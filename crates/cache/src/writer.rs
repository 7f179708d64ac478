//! The queue and the one thread that writes: it takes the jobs that wait, up to some megabytes, and writes them in one transaction.

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

/// The most bytes that wait for the writer. A single larger text may wait if it is alone.
const QUEUE_BYTES: usize = 64 << 20;
/// The most jobs that wait for the writer.
const QUEUE_JOBS: usize = 1 << 16;
/// The most bytes of entries in a transaction, unless a single text has more. SQLite keeps a transaction's pages in its log.
const BATCH_BYTES: usize = 8 << 20;

/// Shortest time between two warnings.
const QUIET: Duration = Duration::from_secs(60);

/// What the writer is to record.
pub(super) enum Job {
    /// A text's entries, computed by the model with this identity.
    Insert(Arc<Identity>, Vec<(Key, Vec<u8>)>),
    /// The id of an entry that was read.
    Used(i64),
    /// The key of a damaged entry, to be removed.
    Wrong(Key),
    /// The digest of a model's file, to be remembered.
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
    /// Wakes the writer: there is work, or no more will come.
    wake: Condvar,
    /// Wakes callers that wait for room: there is some, or waiting is in vain.
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

    /// Locks the queue.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job of `bytes` bytes for the writer. `false` if it was refused: the cache is given up or closed, the job is larger than a
    /// quarter of the file, or the queue is full and `when_behind` says to drop.
    pub(super) fn push(&self, job: Job, bytes: usize, when_behind: WhenBehind) -> bool {
        // A larger text would evict too much of the rest.
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

    /// Called when an entry was read. Queues its use if more than a sixteenth of the entries were added since its last recorded use.
    pub(super) fn touch(&self, place: Place) {
        let newest = self.counters.newest.load(Ordering::Relaxed);
        let entries = self.counters.entries.load(Ordering::Relaxed);
        if newest.saturating_sub(place.used) as u64 > entries / 16 {
            // If the queue is full, the use is not recorded, and the entry is only evicted a little earlier.
            self.push(Job::Used(place.id), 0, WhenBehind::Drop);
        }
    }

    /// Called when a damaged entry was read: counts it, warns, and queues its removal.
    pub(super) fn wrong_entry(&self, key: Key) {
        self.count_error();
        self.warn(&format!("{}: an entry of the cache is damaged and is not used", self.path.display()));
        self.push(Job::Wrong(key), 0, WhenBehind::Drop);
    }

    /// Called when the file could not be read or written (`what` is that word): counts the error and warns. If the file is damaged, the cache
    /// is given up.
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

    /// Passes a warning on, unless one was passed on within the last minute.
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

    /// Refuses jobs from now on; those that wait are still written.
    pub(super) fn end(&self) {
        self.queue().ending = true;
        self.wake.notify_all();
        self.room.notify_all();
    }

    /// Whether no job waits in the queue. The writer may still be writing the last ones.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.queue().jobs.is_empty()
    }

    /// Sets the counters from `extent`, except that of the entries.
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

/// Starts the writer's thread.
pub(super) fn spawn(shared: Arc<Shared>, store: Store) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("trivec-cache".to_owned()).spawn(move || run(&shared, store))
}

/// The writer's thread: writes batch after batch until the queue is closed and empty.
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
        // If the version differs, another process has written. Then all entries are counted anew, its own among them.
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

/// Waits for jobs and takes some from the queue; `None` when it is closed and empty. Leaves out the entries of a model whose files were
/// changed.
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
