//! Embedding beside the thread that reads and writes: while the vectors of a batch are rounded and written, those of the next are computed, or
//! read from a cache. Batches come back in the order in which they were given, so that an index has the same bytes.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use trivec::Embedding;

use crate::document::Document;
use crate::encode::Encoder;
use crate::error::{Error, ErrorKind, Result};

/// Entries, and the vectors of each or why the model cannot embed it.
pub(super) struct Embedded {
    pub entries: Vec<Document>,
    pub vectors: Result<Vec<Result<Embedding>>>,
}

impl Embedded {
    /// Embeds entries. If one cannot be, each is embedded alone.
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
    /// Batches that were given to the thread and not taken back.
    given: usize,
}

impl<'e, 'm> Embedder<'e, 'm> {
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
            // Where the system gives no thread, this one embeds.
            beside = Builder::new().spawn_scoped(scope, work).is_ok().then_some((give, take));
        }
        Embedder { encoder, beside, ready: VecDeque::new(), given: 0 }
    }

    /// Gives a batch. Waits if one is being embedded and another one waits.
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

    /// The first batch that was given, if more than `left` were.
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

fn ended() -> Error {
    Error::option("embeddings", "the thread that embeds has ended")
}
