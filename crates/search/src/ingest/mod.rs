//! From files to an index: reading, checking, cutting into chunks, skipping what is there, committing as it goes.
//!
//! Memory is bounded whatever the input's size: lines are read one at a time, documents are embedded in batches of little text, and the
//! index commits every so many documents or seconds. A run that was killed and is started again reads everything, and embeds only what was
//! not committed: a document whose content is the same as the index's is passed over.

mod beside;
mod chunk;
mod columns;
mod csv;
mod files;
mod jsonl;
#[cfg(feature = "parquet")]
mod parquet;

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
use crate::writer::Writer;
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

/// Most refused documents that are reported one by one.
const MOST_REFUSED: usize = 100;

/// How documents are taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOptions {
    /// Cut into chunks of so many tokens; `None`: a document is one entry, cut at the index's maximum length.
    pub chunk: Option<Chunking>,
    /// Number of pending entries at which they are committed.
    pub commit_every: u64,
    /// Time after the last commit at which what is pending is committed.
    pub commit_after: Duration,
}

impl Default for IngestOptions {
    fn default() -> Self {
        IngestOptions { chunk: None, commit_every: 10_000, commit_after: Duration::from_secs(30) }
    }
}

/// Progress of a run.
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
    /// Entries made of the added documents: as many, unless they were cut into chunks.
    pub entries: u64,
    /// Entries that were cut to the maximum length.
    pub truncated: u64,
    /// Documents of this run that a later document with the same key has replaced.
    pub duplicates: u64,
    /// Why documents were refused: the first hundred.
    pub errors: Vec<String>,
}

/// Adds documents to an index. `progress` is called after every batch and may end the run, whose documents so far are then committed.
///
/// # Errors
/// A document that cannot be read or accepted is counted and reported in [`Ingested::errors`], and the run goes on. Errors of the
/// index, the model or the disk end the run, as does an input of which no line has a column that was named; what was committed stays.
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
            putting: None,
            refusing: None,
        };
        let mut committed = Instant::now();
        for document in documents {
            run.done.read += 1;
            let taken = document.and_then(|document| run.take(writer, document, options));
            match taken {
                Ok(()) => {}
                // Not of a document alone: what is pending would have to be taken again.
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
            if writer.pending() + run.outside >= options.commit_every
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

struct Run<'e, 'm> {
    reader: Reader,
    encoder: &'e Encoder<'m>,
    embedder: Embedder<'e, 'm>,
    done: Ingested,
    /// Entries that are not given to the embedder yet.
    waiting: Vec<Document>,
    bytes: usize,
    /// Entries that the embedder has.
    outside: u64,
    /// Of entries that were taken since all were added: to their keys, the keys of their documents.
    coming: BTreeMap<String, String>,
    /// Keys of documents that were added since the last commit.
    keys: std::collections::BTreeSet<String>,
    /// The document whose entries are being added, and the last one of which an entry was refused: its entries follow each other.
    putting: Option<String>,
    refusing: Option<String>,
}

impl Run<'_, '_> {
    fn refuse(&mut self, error: &Error) {
        self.done.refused += 1;
        if self.done.errors.len() < MOST_REFUSED {
            self.done.errors.push(error.to_string());
        }
    }

    /// Refuses an entry of a document that was counted as added.
    fn refuse_entry(&mut self, entry: &Document, error: &Error) {
        self.done.entries -= 1;
        if self.refusing.as_deref() == Some(entry.group()) {
            return;
        }
        self.refusing = Some(entry.group().to_owned());
        self.done.added -= 1;
        self.refuse(error);
    }

    /// Adds an entry. With the first one of a document, all entries go that were there before: they may have been more.
    fn put(&mut self, writer: &mut Writer, entry: &Document, embedding: &Embedding) -> Result<()> {
        if self.putting.as_deref() != Some(entry.group()) {
            writer.delete_document(entry.group())?;
            self.putting = Some(entry.group().to_owned());
        }
        // Its key was looked at when it was taken.
        writer.put(entry, embedding)
    }

    /// Puts a document's entries into the list of those that wait, unless the index has them.
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
            // The earlier entries are added first, so that these replace them.
            self.flush(writer)?;
        }
        let others = |name: &str| self.coming.get(name).is_some_and(|document| *document != key);
        if !again && (others(&key) || entries.iter().any(|entry| others(&entry.key))) {
            // The writer does not know the keys of those that are not added yet.
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
        // The index must not have further chunks of the document.
        let beyond = if chunked { entries.len() } else { 0 };
        Ok(self.reader.content_hash(key, &chunk::chunk_key(key, beyond))?.is_none()
            && (!chunked || self.reader.content_hash(key, key)?.is_none()))
    }

    /// Gives what waits to the embedder, and adds what it gives back, but for its last batch.
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

    /// Adds everything that was taken.
    fn flush(&mut self, writer: &mut Writer) -> Result<()> {
        self.pass_on(writer)?;
        self.take_back(writer, 0)?;
        (self.putting, self.refusing) = (None, None);
        self.coming.clear();
        Ok(())
    }

    /// Adds the batches that are embedded, until at most `left` are not. A text that the model cannot embed is refused alone, and what the
    /// index has of its document stays.
    fn take_back(&mut self, writer: &mut Writer, left: usize) -> Result<()> {
        while let Some(Embedded { entries, vectors }) = self.embedder.take(left)? {
            self.outside -= entries.len() as u64;
            for (entry, vectors) in entries.iter().zip(vectors?) {
                match vectors {
                    Ok(embedding) => self.put(writer, entry, &embedding)?,
                    Err(e) => self.refuse_entry(entry, &e),
                }
            }
        }
        Ok(())
    }
}
