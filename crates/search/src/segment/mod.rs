//! Segments: the documents of one commit and their vectors, in files that never change once they are named.
//!
//! ```text
//! NNNNNN.rows      the documents' numbers, ascending, u64 each
//! NNNNNN.docs      the documents as they were given, JSON
//! NNNNNN.dense8    dense vectors in int8 with a scale each, in panels of 32: a query is multiplied with all of them
//! NNNNNN.dense16   the same dense vectors in f16: for the final scores of the best, and for exports
//! NNNNNN.lex       lexical weights in f16: a list for each token id (for queries), and one for each document (for single scores)
//! NNNNNN.colbert   token rows of 8, 4, 2 or 1 bits with a scale each, in panels of 32, and where those of each document begin
//! ```
//! `file.rs` has the frame that all files share: header, content, and a checksum for every MiB of it.

pub(crate) mod colbert;
pub(crate) mod dense;
pub(crate) mod documents;
pub(crate) mod file;
pub(crate) mod lexical;
pub(crate) mod panels;
pub(crate) mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::settings::{ColbertBits, Settings};
use colbert::{ColbertReader, ColbertWriter};
use dense::{Dense8Reader, Dense8Writer, Dense16Reader, Dense16Writer};
use documents::{DocumentsReader, DocumentsWriter};
use file::Kind;
pub(crate) use file::SegmentRecord;
use lexical::{LexicalReader, LexicalWriter};
use rows::{RowsReader, RowsWriter};
use trivec::Embedding;

/// The path of a segment's file.
pub(crate) fn path_of(directory: &Path, id: u32, kind: Kind) -> PathBuf {
    directory.join(format!("{id:06}.{}", kind.extension()))
}

/// A segment that is open for reading.
#[derive(Debug)]
pub(crate) struct Segment {
    pub record: SegmentRecord,
    pub rows: RowsReader,
    pub documents: DocumentsReader,
    pub dense8: Dense8Reader,
    pub dense16: Dense16Reader,
    pub lexical: Option<LexicalReader>,
    pub colbert: Option<ColbertReader>,
}

impl Segment {
    /// Maps the files that `record` names, and checks that they fit it and the index's settings. Their contents are compared with the
    /// checksums when they are first read.
    pub fn open(directory: &Path, record: &SegmentRecord, settings: &Settings) -> Result<Segment> {
        let open = |kind: Kind| -> Result<file::SegmentFile> {
            let path = path_of(directory, record.id, kind);
            let known = record.files.iter().find(|file| file.kind == kind);
            let known = known.ok_or_else(|| Error::damaged(&path, "the commit names no such file"))?;
            file::SegmentFile::open(&path, known)
        };
        let rows = RowsReader::new(open(Kind::Rows)?, record)?;
        let documents = DocumentsReader::new(open(Kind::Documents)?, record.rows)?;
        let dense8 = Dense8Reader::new(open(Kind::Dense8)?, record.rows, settings.dense_dim)?;
        let dense16 = Dense16Reader::new(open(Kind::Dense16)?, record.rows, settings.dense_dim)?;
        let lexical = settings.lexical.then(|| LexicalReader::new(open(Kind::Lexical)?, record.rows)).transpose()?;
        let colbert = match (settings.colbert_bits, settings.colbert_dim) {
            (ColbertBits::Off, _) | (_, None) => None,
            (bits, Some(dim)) => Some(ColbertReader::new(open(Kind::Colbert)?, record.rows, dim, bits)?),
        };
        Ok(Segment { record: record.clone(), rows, documents, dense8, dense16, lexical, colbert })
    }

    /// Reads every byte, compares it with the checksums, and checks that the lists in the files agree with each other.
    pub fn check(&self) -> Result<()> {
        self.rows.check()?;
        self.documents.check()?;
        self.dense8.check()?;
        self.dense16.check()?;
        self.lexical.as_ref().map_or(Ok(()), LexicalReader::check)?;
        self.colbert.as_ref().map_or(Ok(()), ColbertReader::check)
    }
}

/// A segment that is being written.
pub(crate) struct SegmentWriter {
    id: u32,
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    rows: RowsWriter,
    documents: DocumentsWriter,
    dense8: Dense8Writer,
    dense16: Dense16Writer,
    lexical: Option<LexicalWriter>,
    colbert: Option<ColbertWriter>,
}

/// The name that a file has until it is complete.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

impl SegmentWriter {
    /// Creates the files of segment `id`, under the names that they have until they are complete.
    pub fn create(disk: &Arc<dyn Disk>, directory: &Path, id: u32, settings: &Settings) -> Result<SegmentWriter> {
        let create = |kind: Kind| file::FileWriter::create(disk, &partial(&path_of(directory, id, kind)), kind);
        let colbert = match (settings.colbert_bits, settings.colbert_dim) {
            (ColbertBits::Off, _) | (_, None) => None,
            (bits, Some(dim)) => Some(ColbertWriter::new(create(Kind::Colbert)?, dim, bits)),
        };
        Ok(SegmentWriter {
            id,
            directory: directory.to_path_buf(),
            disk: Arc::clone(disk),
            rows: RowsWriter::new(create(Kind::Rows)?),
            documents: DocumentsWriter::new(create(Kind::Documents)?),
            dense8: Dense8Writer::new(create(Kind::Dense8)?, settings.dense_dim),
            dense16: Dense16Writer::new(create(Kind::Dense16)?, settings.dense_dim),
            lexical: settings.lexical.then(|| create(Kind::Lexical).map(LexicalWriter::new)).transpose()?,
            colbert,
        })
    }

    /// Adds a document's stored form `body` and its vectors. The number `docno` must be larger than that of the document before.
    pub fn push(&mut self, docno: u64, body: &[u8], embedding: &Embedding) -> Result<()> {
        let missing =
            |what: &'static str| Error::option("embedding", format!("it has no {what}, which the index keeps"));
        let dense = embedding.dense.as_deref().ok_or_else(|| missing("dense vector"))?;
        self.rows.push(docno)?;
        self.documents.push(body)?;
        self.dense8.push(dense)?;
        self.dense16.push(dense)?;
        if let Some(writer) = &mut self.lexical {
            let weights = embedding.lexical.as_ref().ok_or_else(|| missing("lexical weights"))?;
            writer.push(weights.iter())?;
        }
        if let Some(writer) = &mut self.colbert {
            let vectors = embedding.colbert.as_ref().ok_or_else(|| missing("ColBERT vectors"))?;
            writer.push(vectors)?;
        }
        Ok(())
    }

    /// Adds a document of another segment with its stored form and its rounded vectors, unchanged.
    pub fn copy(&mut self, from: &Segment, row: usize) -> Result<()> {
        self.rows.push(from.rows.docno(row)?)?;
        self.documents.push(from.documents.row(row)?)?;
        self.dense8.push_bytes(&from.dense8.row(row)?)?;
        self.dense16.push_halves(from.dense16.row(row)?)?;
        if let (Some(writer), Some(reader)) = (&mut self.lexical, &from.lexical) {
            writer.push_halves(&reader.document(row)?)?;
        }
        if let (Some(writer), Some(reader)) = (&mut self.colbert, &from.colbert) {
            writer.copy(reader, row)?;
        }
        Ok(())
    }

    /// Completes the files, syncs them to the disk and gives them their final names. The record that is returned must be put into the next
    /// commit.
    pub fn finish(self) -> Result<SegmentRecord> {
        let (rows, first, last) = (self.rows.len(), self.rows.first(), self.rows.last());
        let mut files =
            vec![self.rows.finish()?, self.documents.finish()?, self.dense8.finish()?, self.dense16.finish()?];
        files.extend(self.lexical.map(|writer| writer.finish()).transpose()?);
        files.extend(self.colbert.map(|writer| writer.finish()).transpose()?);
        for file in &files {
            let path = path_of(&self.directory, self.id, file.kind);
            self.disk.rename(&partial(&path), &path).map_err(|e| Error::io(&path, e))?;
        }
        self.disk.sync_directory(&self.directory).map_err(|e| Error::io(&self.directory, e))?;
        Ok(SegmentRecord { id: self.id, rows, first, last, files })
    }
}
