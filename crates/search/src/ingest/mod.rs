//! Adds the documents of files to an index: reads and checks them, cuts them into chunks, skips those that the index has already, and
//! commits from time to time.
//!
//! Memory is bounded whatever the size of the input: lines are read one at a time, documents are embedded in batches of little text, and
//! the writer commits after a number of entries or seconds. A run that was killed and is started again reads everything, but embeds only
//! what was not committed: a document whose content is the same as in the index is skipped.

mod beside;
mod chunk;
mod columns;
mod csv;
mod files;
mod jsonl;
#[cfg(feature = "parquet")]
mod parquet;

mod sniff;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use trivec::Embedding;

use self::beside::{Embedded, Embedder};
use crate::document::Document;
use crate::encode::{BATCH, BATCH_BYTES, Encoder, batch_len};
use crate::error::{Error, ErrorKind, Result};
use crate::reader::Reader;
use crate::writer::{Staged, Writer};
pub use chunk::{Chunking, chunks};
pub use columns::{Columns, Format, MAX_COLUMNS, MAX_RECORD_BYTES};
pub use files::{STANDARD_INPUT, Source, open};
pub(crate) use jsonl::error_of;
pub use jsonl::from_json;
pub(crate) use jsonl::is_exact;

#[doc(hidden)]
pub use self::csv::read as read_csv;
#[doc(hidden)]
pub use jsonl::read as read_jsonl;

/// The largest number of refused documents whose errors are reported.
const MOST_REFUSED: usize = 100;

/// The options of adding documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOptions {
    /// How documents are cut into chunks; `None`: each document is one entry, of which the model reads at most the index's maximum length.
    pub chunk: Option<Chunking>,
    /// The number of entries since the last commit at which they are committed.
    pub commit_every: u64,
    /// The time since the last commit after which pending entries are committed.
    pub commit_after: Duration,
}

impl Default for IngestOptions {
    fn default() -> Self {
        IngestOptions { chunk: None, commit_every: 10_000, commit_after: Duration::from_secs(30) }
    }
}

/// What a run has done so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ingested {
    /// Documents that were read, refused ones too.
    pub read: u64,
    /// Documents that were embedded and added.
    pub added: u64,
    /// Documents that the index had already, with the same content.
    pub unchanged: u64,
    /// Documents that were refused.
    pub refused: u64,
    /// Entries made of the added documents: as many as these, unless they were cut into chunks.
    pub entries: u64,
    /// Entries that were cut to the maximum length.
    pub truncated: u64,
    /// Documents of this run that a later document with the same key has replaced.
    pub duplicates: u64,
    /// Why documents were refused: the first hundred.
    pub errors: Vec<String>,
}

/// Adds documents to an index and commits them. `progress` is called after every batch and may end the run, which then commits the
/// documents that it has read so far.
///
/// # Errors
/// A document that cannot be read or accepted is counted and reported in [`Ingested::errors`], and the run goes on. Errors of the index,
/// the model or the disk end the run, as does an input in which no document has a field that was named; what was committed before stays.
pub fn ingest(
    writer: &mut Writer,
    encoder: &Encoder<'_>,
    documents: impl IntoIterator<Item = Result<Document>>,
    options: &IngestOptions,
    mut progress: impl FnMut(&Ingested) -> ControlFlow<()>,
) -> Result<Ingested> {
    if let Some(chunking) = &options.chunk {
        chunking.check(encoder.model())?;
    }
    std::thread::scope(|scope| {
        let mut run = Run {
            reader: writer.view()?,
            encoder,
            embedder: Embedder::begin(scope, encoder),
            done: Ingested::default(),
            waiting: Vec::new(),
            bytes: 0,
            outside: 0,
            coming: BTreeMap::new(),
            keys: Default::default(),
            current: None,
        };
        let mut committed = Instant::now();
        for document in documents {
            run.done.read += 1;
            let taken = document.and_then(|document| run.take(writer, document, options));
            match taken {
                Ok(()) => {}
                // This error is about the whole input and not about one document: nothing more of it is committed.
                Err(e @ Error::Columns { .. }) => return Err(e),
                Err(e) if e.kind() == ErrorKind::Input => run.refuse(&e),
                Err(e) => return Err(e),
            }
            if run.waiting.len() >= BATCH || run.bytes >= BATCH_BYTES {
                run.pass_on(writer)?;
                if progress(&run.done).is_break() {
                    break;
                }
            }
            if writer.pending() + run.outside + run.staged() >= options.commit_every
                || (writer.pending() > 0 && committed.elapsed() >= options.commit_after)
            {
                run.flush(writer)?;
                run.done.truncated += writer.commit()?.truncated;
                run.reader = run.reader.refresh()?;
                run.keys.clear();
                committed = Instant::now();
            }
        }
        run.flush(writer)?;
        run.done.truncated += writer.commit()?.truncated;
        let _ = progress(&run.done);
        Ok(run.done)
    })
}

/// The state of a call of [`ingest`].
struct Run<'e, 'm> {
    reader: Reader,
    encoder: &'e Encoder<'m>,
    embedder: Embedder<'e, 'm>,
    done: Ingested,
    /// Entries that were not given to the embedder yet.
    waiting: Vec<Document>,
    /// The bytes of text in `waiting`.
    bytes: usize,
    /// How many entries the embedder has.
    outside: u64,
    /// For the keys of the entries that the writer may not have yet, and for the keys of their documents: the key of the document.
    coming: BTreeMap<String, String>,
    /// Keys of the documents that were read and not skipped since the last commit.
    keys: std::collections::BTreeSet<String>,
    /// The document of the entry that the embedder gave back last. The entries of a document follow each other.
    current: Option<Current>,
}

/// A document of which not all entries may have come back from the embedder yet.
struct Current {
    key: String,
    /// The entries that came back, each with what the writer needs to add it; `None` if one of them cannot be embedded: then the index gets
    /// none of the document, and keeps what it has of it.
    entries: Option<Vec<(Document, Staged)>>,
}

impl Run<'_, '_> {
    /// Counts a refused document, and reports the error if not too many were reported before.
    fn refuse(&mut self, error: &Error) {
        self.done.refused += 1;
        if self.done.errors.len() < MOST_REFUSED {
            self.done.errors.push(error.to_string());
        }
    }

    /// How many entries the writer has staged and not added.
    fn staged(&self) -> u64 {
        let entries = self.current.as_ref().and_then(|current| current.entries.as_ref());
        entries.map_or(0, |entries| entries.len() as u64)
    }

    /// Adds the document whose entries have all come back, if none of them was refused. First all entries that the index has of this
    /// document are deleted, because they may be more than the new ones.
    fn settle(&mut self, writer: &mut Writer) -> Result<()> {
        let Some(Current { key, entries: Some(entries) }) = self.current.take() else { return Ok(()) };
        writer.delete_document(&key)?;
        // `take` has checked that the keys are free.
        entries.into_iter().try_for_each(|(entry, staged)| writer.admit(&entry, staged))
    }

    /// Takes an entry that the embedder gave back. If it cannot be embedded, its document, which was counted as added, is refused.
    fn put(&mut self, writer: &mut Writer, entry: Document, embedding: Result<Embedding>) -> Result<()> {
        if self.current.as_ref().is_none_or(|current| current.key != entry.group()) {
            self.settle(writer)?;
        }
        let begin = || Current { key: entry.group().to_owned(), entries: Some(Vec::new()) };
        let current = self.current.get_or_insert_with(begin);
        match (embedding, &mut current.entries) {
            (Ok(embedding), Some(entries)) => {
                let staged = writer.stage(&entry, &embedding)?;
                entries.push((entry, staged));
            }
            (Err(e), Some(entries)) => {
                self.done.entries -= 1 + entries.len() as u64;
                current.entries = None;
                self.done.added -= 1;
                self.refuse(&e);
            }
            (_, None) => self.done.entries -= 1,
        }
        Ok(())
    }

    /// Checks a document, cuts it into entries and puts these into `waiting`, unless the index has exactly these entries already.
    fn take(&mut self, writer: &mut Writer, document: Document, options: &IngestOptions) -> Result<()> {
        document.validate()?;
        let key = document.key.clone();
        let again = self.keys.contains(&key);
        let chunked = options.chunk.is_some();
        let entries = match &options.chunk {
            Some(chunking) => chunks(self.encoder, &document, chunking)?,
            None => vec![document],
        };
        entries.iter().try_for_each(Document::validate)?;
        if !again && self.has(&key, &entries, chunked)? {
            self.done.unchanged += 1;
            return Ok(());
        }
        if again {
            self.done.duplicates += 1;
            // The earlier document of this key is added first, so that this one replaces it.
            self.flush(writer)?;
        }
        let others = |name: &str| self.coming.get(name).is_some_and(|document| *document != key);
        if !again && (others(&key) || entries.iter().any(|entry| others(&entry.key))) {
            // One of the keys is that of another document's entry that the writer may not have yet: with it the writer can check the key.
            self.flush(writer)?;
        }
        entries.iter().try_for_each(|entry| writer.check_key(entry))?;
        self.keys.insert(key);
        self.done.added += 1;
        self.done.entries += entries.len() as u64;
        self.bytes += entries.iter().map(|entry| entry.text.len()).sum::<usize>();
        self.coming.extend(entries.iter().map(|entry| (entry.key.clone(), entry.group().to_owned())));
        self.coming.extend(entries.iter().map(|entry| (entry.group().to_owned(), entry.group().to_owned())));
        self.waiting.extend(entries);
        Ok(())
    }

    /// Whether the index has exactly these entries of a document.
    fn has(&self, key: &str, entries: &[Document], chunked: bool) -> Result<bool> {
        for entry in entries {
            if self.reader.content_hash(key, &entry.key)? != Some(entry.content_hash()) {
                return Ok(false);
            }
        }
        // The index must not have further chunks of the document, nor the whole document if it is cut into chunks now.
        let beyond = if chunked { entries.len() } else { 0 };
        Ok(self.reader.content_hash(key, &chunk::chunk_key(key, beyond))?.is_none()
            && (!chunked || self.reader.content_hash(key, key)?.is_none()))
    }

    /// Gives the waiting entries to the embedder, and adds those that it has embedded, except that one batch may stay with it.
    fn pass_on(&mut self, writer: &mut Writer) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        while !waiting.is_empty() {
            let others = waiting.split_off(batch_len(&waiting));
            self.outside += waiting.len() as u64;
            self.embedder.give(std::mem::replace(&mut waiting, others))?;
            self.take_back(writer, 1)?;
        }
        Ok(())
    }

    /// Adds all entries that are waiting, with the embedder or staged.
    fn flush(&mut self, writer: &mut Writer) -> Result<()> {
        self.pass_on(writer)?;
        self.take_back(writer, 0)?;
        self.settle(writer)?;
        self.coming.clear();
        Ok(())
    }

    /// Takes embedded batches until at most `left` are still with the embedder, and adds the documents that are complete. Where the model
    /// cannot embed an entry, its document is refused, and what the index has of that document stays.
    fn take_back(&mut self, writer: &mut Writer, left: usize) -> Result<()> {
        while let Some(Embedded { entries, vectors }) = self.embedder.take(left)? {
            self.outside -= entries.len() as u64;
            for (entry, embedding) in entries.into_iter().zip(vectors?) {
                self.put(writer, entry, embedding)?;
            }
        }
        Ok(())
    }
}
