//! A cache of embeddings on disk, for `--cache` of `trivec serve`, `embed` and `index`.
//!
//! ```text
//! lookup ─▶ readers ─▶ the file (SQLite, WAL) ◀─ one writer thread ◀─ queue ◀─ insert
//!           checksum                              evicts, batches       bounded
//! ```
//! The cache never makes a call fail: any error of the file becomes a warning and a miss. It never returns a wrong vector: an entry's key
//! holds everything that decides the vector (`identity.rs`, `entry.rs`), and its SHA-256 is checked each time it is read.
//!
//! When the file is full, the least recently used entries are removed. The use of an entry is recorded only if more than a sixteenth of the
//! file's entries were added since its last recorded use. So a lookup seldom causes a write, and the order of use is approximate.

mod entry;
mod identity;
mod options;
mod store;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use self::entry::Wanted;
pub use self::identity::Identity;
pub use self::options::{Stats, Warn, WhenBehind};
pub use self::store::CacheError;

use self::entry::{digest_of_ids, key, payload};
use self::store::{Reader, Store};
use self::writer::{Job, Shared};
use trivec::Embedding;
use trivec::Model;

/// Smallest size of a cache, in bytes.
pub const LEAST_BYTES: u64 = 1 << 20;
/// Size of a cache unless another is asked for, in bytes.
pub const DEFAULT_BYTES: u64 = 1 << 30;

/// An open cache.
pub struct Cache {
    shared: Arc<Shared>,
    /// Connections for reading that no call is using.
    readers: Mutex<Vec<Reader>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The result of [`Cache::plan`]: the embeddings that were found, and which texts are missing.
#[derive(Debug)]
pub struct Plan {
    found: Vec<Option<Embedding>>,
    missing: Vec<usize>,
}

impl Plan {
    fn of(found: Vec<Option<Embedding>>) -> Plan {
        let missing = (0..found.len()).filter(|&place| found[place].is_none()).collect();
        Plan { found, missing }
    }

    /// The places of the texts that are missing from the cache, ascending.
    pub fn missing(&self) -> &[usize] {
        &self.missing
    }

    /// Those of `items` (one for each text, in the texts' order) that belong to missing texts.
    pub fn missing_of<'i, T>(&self, items: &'i [T]) -> Vec<&'i T> {
        self.missing.iter().filter_map(|&place| items.get(place)).collect()
    }

    /// Puts the `computed` embeddings into the places of the missing ones; returns all in the texts' order.
    pub fn complete(mut self, computed: Vec<Embedding>) -> Vec<Embedding> {
        for (place, embedding) in self.missing.into_iter().zip(computed) {
            self.found[place] = Some(embedding);
        }
        self.found.into_iter().flatten().collect()
    }
}

impl Cache {
    /// Opens the cache at `path`, or creates it. The file never becomes larger than `size` bytes; its log (`-wal`) takes some more
    /// megabytes while it is in use.
    ///
    /// # Errors
    /// [`CacheError`]. A file that is refused because it is not a cache or is damaged has not been changed. After any other error, a file
    /// that was larger than `size` may already have lost its least recently used entries.
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

    /// Computes the identity of `model`. It reads the model's files unless the cache remembers their digests (about a second for a gigabyte).
    ///
    /// # Errors
    /// A sentence that says why the model cannot be identified, or that it has no embeddings.
    pub fn identify(&self, model: &Model) -> Result<Identity, String> {
        let known = |stamp: &trivec::internal::Stamp| self.read(|reader| reader.digest(stamp)).flatten();
        let remember = |digest| {
            self.shared.push(Job::Digest(digest), 0, WhenBehind::Wait);
        };
        Identity::of(model, known, remember)
    }

    /// Looks up the embeddings of `ids`, and says which are left to compute.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use trivec::{EncodeOptions, Model};
    /// use trivec_cache::{Cache, LEAST_BYTES, Wanted, WhenBehind};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cache");
    /// let model = Model::starter()?;
    /// let cache = Cache::open(&path, LEAST_BYTES, Box::new(|warning| eprintln!("{warning}")))?;
    /// let identity = Arc::new(cache.identify(&model)?);
    ///
    /// let options = EncodeOptions::default();
    /// let ids = [model.token_ids("a text", &options)?.0, model.token_ids("another", &options)?.0];
    /// let wanted = Wanted::from(options.modes);
    /// let plan = cache.plan(&identity, &wanted, &ids);
    /// assert_eq!(plan.missing(), [0, 1]); // the cache is new
    /// let missing = plan.missing_of(&ids);
    /// let computed = model.encode_ids(&missing, &options)?;
    /// cache.insert(&identity, &wanted, missing.iter().zip(&computed), WhenBehind::Wait);
    /// let embeddings = plan.complete(computed); // in the order of `ids`
    /// # assert_eq!(embeddings, model.encode_ids(&ids, &options)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn plan<I: AsRef<[u32]>>(&self, identity: &Identity, wanted: &Wanted, ids: &[I]) -> Plan {
        Plan::of(self.lookup(identity, wanted, ids))
    }

    /// As [`Cache::plan`], on `threads` threads, one of which is the calling thread: for many texts whose embeddings are large. Each thread
    /// reads with a connection of its own.
    pub fn plan_on<I: AsRef<[u32]> + Sync>(
        &self,
        threads: usize,
        identity: &Identity,
        wanted: &Wanted,
        ids: &[I],
    ) -> Plan {
        let part = ids.len().div_ceil(threads.max(1)).max(1);
        let (first, others) = ids.split_at(part.min(ids.len()));
        let found = std::thread::scope(|scope| {
            let look = |ids| move || self.lookup(identity, wanted, ids);
            // If a thread could not be started, or panicked, the calling thread looks up its share.
            let begun: Vec<_> = others
                .chunks(part)
                .map(|ids| (ids, std::thread::Builder::new().spawn_scoped(scope, look(ids)).ok()))
                .collect();
            let mut found = self.lookup(identity, wanted, first);
            for (ids, thread) in begun {
                let part = thread.and_then(|thread| thread.join().ok());
                found.extend(part.unwrap_or_else(|| self.lookup(identity, wanted, ids)));
            }
            found
        });
        Plan::of(found)
    }

    /// For each text its embedding, or `None` if the cache lacks a representation that is wanted. The embedding's `truncated` is always
    /// `false`, because it is not stored.
    pub fn lookup<S: AsRef<[u32]>>(&self, identity: &Identity, wanted: &Wanted, ids: &[S]) -> Vec<Option<Embedding>> {
        let found =
            self.read(|reader| ids.iter().map(|ids| self.lookup_one(reader, identity, wanted, ids.as_ref())).collect());
        let found: Vec<Option<Embedding>> = found.unwrap_or_else(|| ids.iter().map(|_| None).collect());
        let hits = found.iter().flatten().count();
        self.shared.counters.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.shared.counters.misses.fetch_add((found.len() - hits) as u64, Ordering::Relaxed);
        found
    }

    /// The embedding of one text, or `None`; notes the use of each entry that was read, and reports a damaged one.
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
        // Empty sequences, calls that want nothing, and invalid lengths are left to the engine, which has the error messages.
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

    /// Stores `texts`, each the token ids of a text and their embedding, which the model of `identity` computed with the settings in
    /// `wanted`. The writer thread writes them a little later, and only if the model's files have not been changed since it was identified.
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

    /// Whether the cache was given up because its file is damaged: then every lookup misses, and nothing is stored.
    pub fn is_broken(&self) -> bool {
        self.shared.is_broken()
    }

    /// Writes everything that is waiting, and ends the writer. Lookups still work afterwards; inserts are dropped.
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

    /// Calls `read` with an idle reader, or a new one. If it fails, warns and returns `None`.
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
