//! The file of the documents themselves, in the form in which they are returned: JSON, one after another.
//!
//! ```text
//! bytes of all documents      starts u64 [rows + 1]
//! ```
//! Why not in tantivy's store: tantivy believes the lengths in its files, so that one flipped bit can make it ask for more memory than
//! there is, which ends the process. Therefore the checksums of its files are compared when an index is opened. Each covers a whole file,
//! so that for the store all texts would be read then. Here each MiB is compared when it is first read.

use super::file::{FileRecord, FileWriter, SegmentFile, Shape, aligned};
use crate::error::{Error, Result};

pub(crate) struct DocumentsWriter {
    file: FileWriter,
    starts: Vec<u64>,
    length: u64,
}

impl DocumentsWriter {
    pub fn new(file: FileWriter) -> DocumentsWriter {
        DocumentsWriter { file, starts: vec![0], length: 0 }
    }

    pub fn push(&mut self, body: &[u8]) -> Result<()> {
        self.file.append(body)?;
        self.length += body.len() as u64;
        self.starts.push(self.length);
        Ok(())
    }

    pub fn finish(mut self) -> Result<FileRecord> {
        self.file.align()?;
        self.file.append_all(&self.starts)?;
        let rows = self.starts.len() as u64 - 1;
        self.file.finish(Shape { rows, items: self.length, ..Shape::default() })
    }
}

#[derive(Debug)]
pub(crate) struct DocumentsReader {
    file: SegmentFile,
    rows: usize,
    /// Where in the content the list of starts begins.
    starts: usize,
}

impl DocumentsReader {
    pub fn new(file: SegmentFile, rows: u64) -> Result<DocumentsReader> {
        let shape = file.shape();
        if shape.rows != rows {
            return Err(Error::damaged(file.path(), format!("it has {} rows, the commit says {rows}", shape.rows)));
        }
        let starts = aligned(shape.items);
        file.expect_len(starts.and_then(|at| at.checked_add(rows.checked_add(1)?.checked_mul(8)?)))?;
        Ok(DocumentsReader { rows: rows as usize, starts: starts.unwrap_or_default() as usize, file })
    }

    /// The JSON of the document in a row.
    pub fn row(&self, row: usize) -> Result<&[u8]> {
        let pair = self.file.list::<u64>(self.starts, row..row.saturating_add(2))?;
        let (from, to) = (pair[0], pair[1]);
        if from > to || to > self.file.shape().items {
            return Err(Error::damaged(self.file.path(), format!("document {row} runs from {from} to {to}")));
        }
        self.file.bytes(from as usize..to as usize)
    }

    pub fn path(&self) -> &std::path::Path {
        self.file.path()
    }

    pub fn check(&self) -> Result<()> {
        self.file.check()?;
        (0..self.rows).try_for_each(|row| self.row(row).map(drop))
    }
}
