//! The file of the numbers of a segment's documents, ascending. Item `i` is the number of the document in row `i` of the other files.

use super::file::{FileRecord, FileWriter, SegmentFile, SegmentRecord, Shape};
use crate::error::{Error, Result};

pub(crate) struct RowsWriter {
    file: FileWriter,
    first: u64,
    last: u64,
    rows: u64,
}

impl RowsWriter {
    pub fn new(file: FileWriter) -> RowsWriter {
        RowsWriter { file, first: 0, last: 0, rows: 0 }
    }

    pub fn len(&self) -> u64 {
        self.rows
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn last(&self) -> u64 {
        self.last
    }

    pub fn push(&mut self, docno: u64) -> Result<()> {
        if self.rows == 0 {
            self.first = docno;
        } else if docno <= self.last {
            return Err(Error::option("document number", format!("{docno} after {}", self.last)));
        }
        (self.last, self.rows) = (docno, self.rows + 1);
        self.file.append_all(&[docno])
    }

    pub fn finish(self) -> Result<FileRecord> {
        self.file.finish(Shape { rows: self.rows, ..Shape::default() })
    }
}

#[derive(Debug)]
pub(crate) struct RowsReader {
    file: SegmentFile,
    rows: usize,
    first: u64,
    last: u64,
}

impl RowsReader {
    pub fn new(file: SegmentFile, record: &SegmentRecord) -> Result<RowsReader> {
        let rows = record.rows;
        if file.shape().rows != rows {
            return Err(Error::damaged(
                file.path(),
                format!("it has {} rows, the commit says {rows}", file.shape().rows),
            ));
        }
        file.expect_len(rows.checked_mul(8))?;
        let span = record.last.checked_sub(record.first).and_then(|span| span.checked_add(1));
        if rows == 0 || rows > u64::from(u32::MAX) || span.is_none_or(|span| span < rows) {
            return Err(Error::damaged(file.path(), "the commit's numbers of its documents contradict each other"));
        }
        let reader = RowsReader { rows: rows as usize, first: record.first, last: record.last, file };
        if (reader.docno(0)?, reader.docno(reader.rows - 1)?) != (record.first, record.last) {
            return Err(Error::damaged(reader.file.path(), "it has other documents than the commit says"));
        }
        Ok(reader)
    }

    /// The number of the document in a row.
    pub fn docno(&self, row: usize) -> Result<u64> {
        Ok(self.file.list::<u64>(0, row..row.saturating_add(1))?[0])
    }

    /// The row of the document with this number, if the segment has it.
    pub fn find(&self, docno: u64) -> Result<Option<usize>> {
        if docno < self.first || docno > self.last {
            return Ok(None);
        }
        // If the numbers have no gaps, the row follows from the number.
        if self.last - self.first + 1 == self.rows as u64 {
            return Ok(Some((docno - self.first) as usize));
        }
        Ok(self.file.list::<u64>(0, 0..self.rows)?.binary_search(&docno).ok())
    }

    pub fn check(&self) -> Result<()> {
        let all = self.file.list::<u64>(0, 0..self.rows)?;
        match all.windows(2).all(|pair| pair[0] < pair[1]) {
            true => Ok(()),
            false => Err(Error::damaged(self.file.path(), "its documents are not in order")),
        }
    }
}
