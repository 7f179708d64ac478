//! An index that is served, and the place of its writer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use trivec::Model;
use trivec_search::{Encoder, Error, Index, ModelId, Reader, Writer};

/// An index that is served.
pub(crate) struct Served {
    pub name: String,
    pub index: Index,
    pub id: ModelId,
    /// The view that was opened last.
    pub(super) reader: Mutex<Reader>,
    /// Of the view that was opened last: asked without waiting for one that is being opened.
    pub(super) documents: AtomicUsize,
    pub slot: Slot,
}

impl Served {
    /// A view of the last commit. It may map files, so it must not run on the runtime's threads.
    pub fn reader(&self) -> Result<Reader, Error> {
        let mut last = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let now = last.refresh()?;
        *last = now.clone();
        self.documents.store(now.len(), Ordering::Relaxed);
        Ok(now)
    }

    /// Documents of the view that was opened last.
    pub fn documents(&self) -> usize {
        self.documents.load(Ordering::Relaxed)
    }

    pub fn encoder<'m>(&self, model: &'m Model) -> Result<Encoder<'m>, Error> {
        self.index.encoder(model, &self.id)
    }
}

/// The place of an index's writer between requests.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Writer>>>;
