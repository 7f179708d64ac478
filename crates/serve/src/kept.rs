//! The service's cache of embeddings. It is opened while the first requests run, has entries of the model in use, and no request waits for it.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use trivec::Model;
use trivec_cache::{Cache, Identity, Stats};

/// A cache and the identity of the model whose entries are read and written.
pub(super) type Open = (Arc<Cache>, Arc<Identity>);

/// The cache: its file, the most bytes that this may have, and whether it is open.
pub(super) struct Kept {
    path: PathBuf,
    size: u64,
    state: RwLock<State>,
}

/// What is known of the cache at present.
#[derive(Default)]
struct State {
    /// Whether opening the file has succeeded or failed already.
    tried: bool,
    cache: Option<Arc<Cache>>,
    /// The model that the cache is used for, with its identity.
    known: Option<(Arc<Model>, Arc<Identity>)>,
}

impl Kept {
    pub(super) fn new(path: PathBuf, size: u64) -> Kept {
        Kept { path, size, state: RwLock::default() }
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Opens the file. This blocks, as [`Kept::follow`] does.
    pub(super) fn open(&self) {
        let opened = Cache::open(&self.path, self.size, Box::new(|what| tracing::warn!("{what}")));
        let cache = match opened {
            Ok(cache) => Some(Arc::new(cache)),
            Err(e) => {
                tracing::warn!("no cache: {e}");
                None
            }
        };
        self.change(|state| (state.tried, state.cache) = (true, cache));
    }

    /// Uses the cache for `model` from now on. This blocks until the model's files have been digested (if they are not known yet); until then,
    /// requests with this model do not use the cache.
    pub(super) fn follow(&self, model: &Arc<Model>) {
        let Some(cache) = self.state().cache.clone() else { return };
        let known = match cache.identify(model) {
            Ok(identity) => Some((Arc::clone(model), Arc::new(identity))),
            Err(what) => {
                tracing::warn!("no cache: {what}");
                None
            }
        };
        self.change(|state| state.known = known);
    }

    /// The cache, if it is open and used for `model`. (A request that began before a reload has another model.)
    pub(super) fn of(&self, model: &Arc<Model>) -> Option<Open> {
        let state = self.state();
        let (known, identity) = state.known.as_ref()?;
        let cache = state.cache.as_ref().filter(|_| Arc::ptr_eq(known, model))?;
        Some((Arc::clone(cache), Arc::clone(identity)))
    }

    /// The cache's counters; zeros if it is not open.
    pub(super) fn stats(&self) -> Stats {
        self.state().cache.as_ref().map(|cache| cache.stats()).unwrap_or_default()
    }

    /// The cache's part of `/v1/status`.
    pub(super) fn describe(&self) -> Value {
        let stats = self.stats();
        let state = self.state();
        let name = match &state.cache {
            None if state.tried => "off",
            None => "opening",
            Some(cache) if cache.is_broken() => "off",
            Some(_) if state.known.is_none() => "waiting",
            Some(_) => "on",
        };
        json!({
            "state": name, "hits": stats.hits, "misses": stats.misses, "entries": stats.entries, "bytes": stats.bytes,
            "limit": self.size, "evictions": stats.evictions, "errors": stats.errors,
        })
    }

    /// Writes the entries that wait to be written, and closes the cache.
    pub(super) fn close(&self) {
        let cache = self.state().cache.clone();
        if let Some(cache) = cache {
            cache.close();
        }
    }
}
