//! An index that is served, and the place of its writer.

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
    /// The same one, for those who do not wait while a newer one is opened.
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

    /// How much there is in the view that was opened last. The first call for a view goes through its keys, so it must not run on the
    /// runtime's threads.
    pub fn counts(&self) -> Counts {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Counts { name: self.name.clone(), documents: last.documents().ok(), entries: last.len() }
    }

    pub fn encoder<'m>(&self, model: &'m Model) -> Result<Encoder<'m>, Error> {
        self.index.encoder(model, &self.id)
    }
}

/// How much an index has, as `/v1/status` and the metrics say it.
pub(crate) struct Counts {
    pub name: String,
    /// Unknown where the keys cannot be read.
    pub documents: Option<usize>,
    pub entries: usize,
}

/// The place of an index's writer between requests.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Writer>>>;
