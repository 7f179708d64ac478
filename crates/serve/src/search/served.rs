//! An index that is served, and the slot for its writer between requests.

use std::sync::{Arc, Mutex, PoisonError};

use trivec::Model;
use trivec_search::{Encoder, Error, Index, ModelId, Reader, Writer};

/// An index that is served.
pub(crate) struct Served {
    pub name: String,
    pub index: Index,
    pub id: ModelId,
    /// The view that was opened last. It is locked while a newer one is opened.
    pub(super) reader: Mutex<Reader>,
    /// The same view, for callers that do not wait while a newer one is opened.
    pub(super) last: Mutex<Reader>,
    pub slot: Slot,
}

impl Served {
    /// A view of the last commit. It may map files, so it must not run on the runtime's threads.
    pub fn reader(&self) -> Result<Reader, Error> {
        let mut last = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let now = last.refresh()?;
        *last = now.clone();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
        Ok(now)
    }

    /// How many documents and entries the view that was opened last has. The first call for a view reads all its keys, so it must not run on the
    /// runtime's threads.
    pub fn counts(&self) -> Counts {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Counts { name: self.name.clone(), documents: last.documents().ok(), entries: last.len() }
    }

    pub fn encoder<'m>(&self, model: &'m Model) -> Result<Encoder<'m>, Error> {
        self.index.encoder(model, &self.id)
    }
}

/// How many documents and entries (documents and their chunks) an index has, for `/v1/status` and the metrics.
pub(crate) struct Counts {
    pub name: String,
    /// `None` if the keys cannot be read.
    pub documents: Option<usize>,
    pub entries: usize,
}

/// Where an open writer with pending changes stays between requests; the lock is the turn to write.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Writer>>>;
