//! Embeds on a thread of its own: while one thread rounds and writes the vectors of a batch, the other one computes those of the next, or
//! reads them from a cache. Batches come back in the order in which they were given, so that the index gets the same bytes as without a
//! thread.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use trivec::Embedding;

use crate::document::Document;
use crate::encode::Encoder;
use crate::error::{Error, ErrorKind, Result};

/// A batch of entries, and for each its vectors, or the error that says why the model cannot embed it.
pub(super) struct Embedded {
    pub entries: Vec<Document>,
    pub vectors: Result<Vec<Result<Embedding>>>,
}

impl Embedded {
    /// Embeds a batch of entries. If the model cannot embed one of them, each is embedded alone.
    fn of(encoder: &Encoder<'_>, entries: Vec<Document>) -> Embedded {
        let alone = |entry: &Document| match encoder.documents(std::slice::from_ref(entry)) {
            Ok(mut one) => Ok(one.pop().ok_or_else(|| Error::option("embeddings", "none for a document"))),
            Err(e) if e.kind() == ErrorKind::Input => Ok(Err(e)),
            Err(e) => Err(e),
        };
        let vectors = match encoder.documents(&entries) {
            Ok(embeddings) => Ok(embeddings.into_iter().map(Ok).collect()),
            Err(e) if e.kind() == ErrorKind::Input => entries.iter().map(alone).collect(),
            Err(e) => Err(e),
        };
        Embedded { entries, vectors }
    }
}

/// Embeds batches, on a thread of its own if the model may use several.
pub(super) struct Embedder<'e, 'm> {
    encoder: &'e Encoder<'m>,
    beside: Option<(SyncSender<Vec<Document>>, Receiver<Embedded>)>,
    /// Batches that were embedded on the caller's thread.
    ready: VecDeque<Embedded>,
    /// How many batches were given to the thread and not taken back yet.
    given: usize,
}

impl<'e, 'm> Embedder<'e, 'm> {
    /// Makes an embedder, and starts its thread in `scope` if the model may use several threads.
    pub fn begin<'s>(scope: &'s Scope<'s, '_>, encoder: &'e Encoder<'m>) -> Embedder<'e, 'm>
    where
        'e: 's,
    {
        let mut beside = None;
        if encoder.model().info().threads > 1 {
            let (give, given) = sync_channel::<Vec<Document>>(1);
            let (done, take) = sync_channel(1);
            let work = move || {
                while let Ok(entries) = given.recv() {
                    if done.send(Embedded::of(encoder, entries)).is_err() {
                        break;
                    }
                }
            };
            // If the system cannot create a thread, `give` embeds on the caller's.
            beside = Builder::new().spawn_scoped(scope, work).is_ok().then_some((give, take));
        }
        Embedder { encoder, beside, ready: VecDeque::new(), given: 0 }
    }

    /// Gives a batch to be embedded. Waits while the thread is embedding one and another one is in the queue.
    pub fn give(&mut self, entries: Vec<Document>) -> Result<()> {
        match &self.beside {
            Some((give, _)) => {
                give.send(entries).map_err(|_| ended())?;
                self.given += 1;
            }
            None => self.ready.push_back(Embedded::of(self.encoder, entries)),
        }
        Ok(())
    }

    /// Takes back the batch that was given first, and waits until it is embedded; `None` if only `left` batches or fewer are with the
    /// thread. Without a thread it takes back any batch.
    pub fn take(&mut self, left: usize) -> Result<Option<Embedded>> {
        match &self.beside {
            Some((_, take)) if self.given > left => {
                let embedded = take.recv().map_err(|_| ended())?;
                self.given -= 1;
                Ok(Some(embedded))
            }
            _ => Ok(self.ready.pop_front()),
        }
    }
}

/// The error for a thread that ended before its work was done.
fn ended() -> Error {
    Error::option("embeddings", "the thread that embeds has ended")
}
