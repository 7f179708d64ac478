//! A cache of embeddings on disk, for `trivec serve --cache` and `trivec embed --cache`.
//!
//! ```text
//! lookup ─▶ readers ─▶ the file (SQLite, WAL) ◀─ one writer thread ◀─ queue ◀─ insert
//!           checksum                              evicts, batches       bounded
//! ```
//! It is never in the way: whatever goes wrong with the file is a warning and a miss. And it never gives a wrong vector: an entry's key holds
//! everything that decides it (`identity.rs`, `entry.rs`), and its SHA-256 is checked each time it is read.
//!
//! When the file is full, the entries that were not used for longest go. A use is noted when a sixteenth of the file's entries have come
//! since the last one was, so that reading seldom writes: the order of use is that coarse.

mod entry;
mod identity;
mod store;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use self::entry::Wanted;
pub use self::identity::Identity;
pub use self::store::CacheError;

use self::entry::{digest_of_ids, key, payload};
use self::store::{Reader, Store};
use self::writer::{Job, Shared};
use trivec::Embedding;
use trivec::Model;

/// The least and the default bytes that a cache may have.
pub const LEAST_BYTES: u64 = 1 << 20;
/// Size of a cache unless another is asked for, in bytes.
pub const DEFAULT_BYTES: u64 = 1 << 30;

/// Takes a warning. At most one a minute, but for the one that says that the cache is given up.
pub type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// What an insert does when the writer is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBehind {
    /// The entries are not kept.
    Drop,
    /// The caller waits.
    Wait,
}

/// Counters, and what the file holds as far as this process knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Texts of which all that was wanted was there, and those of which it was not.
    pub hits: u64,
    /// Look-ups that found nothing.
    pub misses: u64,
    /// Representations in the file, and bytes of it in use.
    pub entries: u64,
    /// Bytes of the entries.
    pub bytes: u64,
    /// Representations that made room for others.
    pub evictions: u64,
    /// Damaged entries, failed reads and failed writes.
    pub errors: u64,
    /// Texts that were not kept because the writer was behind.
    pub dropped: u64,
}

/// An open cache.
pub struct Cache {
    shared: Arc<Shared>,
    /// Readers between calls.
    readers: Mutex<Vec<Reader>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Texts of which the cache has a part: see [`Cache::plan`].
#[derive(Debug)]
pub struct Plan {
    found: Vec<Option<Embedding>>,
    missing: Vec<usize>,
}

impl Plan {
    /// The places of the texts that the cache has not, ascending.
    pub fn missing(&self) -> &[usize] {
        &self.missing
    }

    /// Of a list in the order of the texts, the items of those that the cache has not.
    pub fn missing_of<'i, T>(&self, items: &'i [T]) -> Vec<&'i T> {
        self.missing.iter().filter_map(|&place| items.get(place)).collect()
    }

    /// All embeddings in their order, once those that were missing are `computed`.
    pub fn complete(mut self, computed: Vec<Embedding>) -> Vec<Embedding> {
        for (place, embedding) in self.missing.into_iter().zip(computed) {
            self.found[place] = Some(embedding);
        }
        self.found.into_iter().flatten().collect()
    }
}

impl Cache {
    /// Opens the cache at `path`, or makes it. The file never becomes larger than `size` bytes; its log (`-wal`) has some
    /// megabytes more while it is in use.
    ///
    /// # Errors
    /// [`CacheError`]: nothing of what was there has been changed.
    pub fn open(path: &Path, size: u64, warn: Warn) -> Result<Cache, CacheError> {
        let failed = |e: rusqlite::Error| CacheError::of(path, &e);
        let store = Store::open(path, size)?;
        let extent = store.extent().map_err(failed)?;
        let reader = Reader::open(path).map_err(failed)?;
        let shared = Arc::new(Shared::new(path, size, extent, warn));
        let writer = writer::spawn(Arc::clone(&shared), store)
            .map_err(|e| CacheError::Io { path: path.to_path_buf(), what: e.to_string() })?;
        Ok(Cache { shared, readers: Mutex::new(vec![reader]), writer: Mutex::new(Some(writer)) })
    }

    /// Which model it is. Reads the model's files through when they are not known yet (a gigabyte takes about a second).
    ///
    /// # Errors
    /// A sentence: the model cannot be told from others, or has no embeddings.
    pub fn identify(&self, model: &Model) -> Result<Identity, String> {
        let known = |stamp: &trivec::internal::Stamp| self.read(|reader| reader.digest(stamp)).flatten();
        let remember = |digest| {
            self.shared.push(Job::Digest(digest), 0, WhenBehind::Wait);
        };
        Identity::of(model, known, remember)
    }

    /// What the cache has of `ids`, and what is left to compute.
    ///
    /// ```no_run
    /// # use trivec::{Embedding, EncodeOptions, Model};
    /// # use trivec_cache::{Cache, Identity, Wanted, WhenBehind};
    /// # fn example(cache: &Cache, identity: &std::sync::Arc<Identity>, model: &Model, ids: &[Vec<u32>]) -> trivec::Result<Vec<Embedding>> {
    /// let options = EncodeOptions::default();
    /// let wanted = Wanted::from(options.modes);
    /// let plan = cache.plan(identity, &wanted, ids);
    /// let missing = plan.missing_of(ids);
    /// let computed = model.encode_ids(&missing, &options)?;
    /// cache.insert(identity, &wanted, missing.iter().zip(&computed), WhenBehind::Drop);
    /// Ok(plan.complete(computed)) // in the order of `ids`
    /// # }
    /// ```
    pub fn plan<I: AsRef<[u32]>>(&self, identity: &Identity, wanted: &Wanted, ids: &[I]) -> Plan {
        let found = self.lookup(identity, wanted, ids);
        let missing = (0..found.len()).filter(|&place| found[place].is_none()).collect();
        Plan { found, missing }
    }

    /// One result a text: the embedding, if all that is wanted of it is there. `truncated` is not known here and is `false`.
    pub fn lookup<S: AsRef<[u32]>>(&self, identity: &Identity, wanted: &Wanted, ids: &[S]) -> Vec<Option<Embedding>> {
        let found =
            self.read(|reader| ids.iter().map(|ids| self.lookup_one(reader, identity, wanted, ids.as_ref())).collect());
        let found: Vec<Option<Embedding>> = found.unwrap_or_else(|| ids.iter().map(|_| None).collect());
        let hits = found.iter().flatten().count();
        self.shared.counters.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.shared.counters.misses.fetch_add((found.len() - hits) as u64, Ordering::Relaxed);
        found
    }

    fn lookup_one(
        &self,
        reader: &Reader,
        identity: &Identity,
        wanted: &Wanted,
        ids: &[u32],
    ) -> rusqlite::Result<Option<Embedding>> {
        let mut embedding =
            Embedding { dense: None, lexical: None, colbert: None, tokens: ids.len(), truncated: false };
        let in_range = |n| (1..=identity.widths.dense).contains(&n);
        // A sequence without tokens, a call that wants nothing, or a length that no vector has: the engine's to answer.
        if ids.is_empty() || wanted.parts().next().is_none() || !wanted.dimensions.is_none_or(in_range) {
            return Ok(None);
        }
        let mut complete = true;
        let digest = digest_of_ids(&identity.digest, ids);
        for part in wanted.parts() {
            let key = key(&digest, part, wanted);
            let open = |stored: &[u8]| entry::open(stored, &key, part, wanted, identity.widths, &mut embedding);
            match reader.get(&key, open)? {
                Some((place, Some(()))) => self.shared.touch(place),
                Some((_, None)) => {
                    self.shared.wrong_entry(key);
                    complete = false;
                }
                None => complete = false,
            }
            if !complete {
                break;
            }
        }
        Ok(complete.then_some(embedding))
    }

    /// Keeps embeddings of `ids`, which were computed by the model of `identity` with what is `wanted`. They are written a little later.
    pub fn insert<'a, S: AsRef<[u32]>>(
        &self,
        identity: &Arc<Identity>,
        wanted: &Wanted,
        texts: impl IntoIterator<Item = (S, &'a Embedding)>,
        when_behind: WhenBehind,
    ) {
        for (ids, embedding) in texts {
            let digest = digest_of_ids(&identity.digest, ids.as_ref());
            let entries: Vec<_> = wanted
                .parts()
                .filter_map(|part| Some((key(&digest, part, wanted), payload(embedding, part)?)))
                .collect();
            let bytes = entries.iter().map(|(_, payload)| payload.len()).sum();
            if !self.shared.push(Job::Insert(Arc::clone(identity), entries), bytes, when_behind) {
                self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What was found and stored since the cache was opened, and what it holds.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Whether it was given up because the file is damaged.
    pub fn is_broken(&self) -> bool {
        self.shared.is_broken()
    }

    /// Writes what waits, and ends.
    pub fn close(&self) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.end();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            self.shared.count_error();
        }
    }

    /// Reads with one of the readers. An error is a warning and `None`.
    fn read<R>(&self, read: impl FnOnce(&Reader) -> rusqlite::Result<R>) -> Option<R> {
        if self.shared.is_broken() {
            return None;
        }
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let result = idle.map_or_else(|| Reader::open(&self.shared.path), Ok).and_then(|mut reader| {
            let result = reader.together(read);
            self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            result
        });
        result.map_err(|e| self.shared.failed("read", &e)).ok()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
