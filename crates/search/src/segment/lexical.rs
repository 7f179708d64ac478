//! The file of lexical weights: a list for each document, and a list for each token id. Both hold the same weights in f16, so that a
//! document has the same score by either, whatever else is in the segment.
//!
//! ```text
//! starts of documents  u64 [rows + 1]      token ids  u32 [n]    weights  f16 [n]      ids ascending
//! token ids that occur u32 [t]             starts     u64 [t + 1]
//! rows                 u32 [n]             weights    f16 [n]    rows ascending
//! ```

use half::f16;
use trivec::numbers::grouped;

use super::file::{FileRecord, FileWriter, SegmentFile, Shape, aligned};
use crate::error::{Error, Result};

pub(crate) struct LexicalWriter {
    file: FileWriter,
    starts: Vec<u64>,
    ids: Vec<u32>,
    weights: Vec<u16>,
}

/// The f16 bits of a weight as it is stored: at least the smallest number above 0 and at most the largest finite one.
fn half(weight: f32) -> u16 {
    let weight = f16::from_f32(weight);
    if weight.is_infinite() || weight.is_nan() { f16::MAX.to_bits() } else { weight.to_bits().max(1) }
}

/// Refuses more weights than a segment can have: they are numbered by u32.
fn check_count(weights: usize) -> Result<()> {
    if u32::try_from(weights).is_ok() {
        return Ok(());
    }
    let what = format!(
        "one segment would have {} lexical weights, expected at most {}: commit before so many documents are pending",
        grouped(weights),
        grouped(u32::MAX as usize)
    );
    Err(Error::option("documents", what))
}

impl LexicalWriter {
    pub fn new(file: FileWriter) -> LexicalWriter {
        LexicalWriter { file, starts: vec![0], ids: Vec::new(), weights: Vec::new() }
    }

    /// Adds the next document's pairs of token id and weight, ids ascending.
    pub fn push(&mut self, weights: impl Iterator<Item = (u32, f32)>) -> Result<()> {
        for (id, weight) in weights {
            if !weight.is_finite() {
                return Err(Error::option("embedding", format!("the lexical weight of token {id} is {weight}")));
            }
            self.ids.push(id);
            self.weights.push(half(weight));
        }
        check_count(self.ids.len())?;
        self.starts.push(self.ids.len() as u64);
        Ok(())
    }

    /// Adds the next document's token ids and weights as another segment stores them.
    pub fn push_halves(&mut self, (ids, weights): &(&[u32], &[u16])) -> Result<()> {
        self.ids.extend_from_slice(ids);
        self.weights.extend_from_slice(weights);
        check_count(self.ids.len())?;
        self.starts.push(self.ids.len() as u64);
        Ok(())
    }

    pub fn finish(mut self) -> Result<FileRecord> {
        let n = self.ids.len();
        let row_of = |starts: &[u64], entry: usize| starts.partition_point(|&start| start <= entry as u64) as u32 - 1;
        // Sorts the weights by id, and those of one id by row: they are in the order of rows, which a stable sort keeps.
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by_key(|&entry| self.ids[entry as usize]);
        let (mut terms, mut term_starts) = (Vec::new(), Vec::new());
        for (at, &entry) in order.iter().enumerate() {
            let id = self.ids[entry as usize];
            if terms.last() != Some(&id) {
                terms.push(id);
                term_starts.push(at as u64);
            }
        }
        term_starts.push(n as u64);
        let rows: Vec<u32> = order.iter().map(|&entry| row_of(&self.starts, entry as usize)).collect();
        let weights: Vec<u16> = order.iter().map(|&entry| self.weights[entry as usize]).collect();
        let file = &mut self.file;
        file.append_all(&self.starts)?;
        file.align()?;
        file.append_all(&self.ids)?;
        file.align()?;
        file.append_all(&self.weights)?;
        file.align()?;
        file.append_all(&terms)?;
        file.align()?;
        file.append_all(&term_starts)?;
        file.align()?;
        file.append_all(&rows)?;
        file.align()?;
        file.append_all(&weights)?;
        let shape =
            Shape { rows: self.starts.len() as u64 - 1, items: n as u64, more: terms.len() as u64, ..Shape::default() };
        self.file.finish(shape)
    }
}

#[derive(Debug)]
pub(crate) struct LexicalReader {
    file: SegmentFile,
    rows: usize,
    terms: usize,
    /// Where in the content each of the seven sections begins, in the order of the table above.
    at: [usize; 7],
}

impl LexicalReader {
    pub fn new(file: SegmentFile, rows: u64) -> Result<LexicalReader> {
        let shape = file.shape();
        if shape.rows != rows {
            return Err(Error::damaged(file.path(), format!("it has {} rows, the commit says {rows}", shape.rows)));
        }
        let (n, t) = (shape.items, shape.more);
        let sections = [
            (rows.checked_add(1), 8),
            (Some(n), 4),
            (Some(n), 2),
            (Some(t), 4),
            (t.checked_add(1), 8),
            (Some(n), 4),
            (Some(n), 2),
        ];
        let (mut at, mut next) = ([0; 7], Some(0u64));
        for ((items, width), at) in sections.into_iter().zip(&mut at) {
            let start = next.and_then(aligned);
            *at = start.unwrap_or(u64::MAX) as usize;
            next = start.and_then(|start| start.checked_add(items?.checked_mul(width)?));
        }
        file.expect_len(next)?;
        Ok(LexicalReader { file, rows: rows as usize, terms: t as usize, at })
    }

    /// The list with number `index` of a document or a token id: its ids or rows, and its weights. The numbers of the sections say where
    /// they are: of the lists' starts, of the ids or rows, and of the weights.
    fn entries(&self, starts: usize, index: usize, ids: usize, weights: usize) -> Result<(&[u32], &[u16])> {
        let pair = self.file.list::<u64>(self.at[starts], index..index.saturating_add(2))?;
        let (from, to) = (pair[0] as usize, pair[1] as usize);
        if from > to || to as u64 > self.file.shape().items {
            return Err(Error::damaged(self.file.path(), format!("list {index} runs from {from} to {to}")));
        }
        Ok((self.file.list(self.at[ids], from..to)?, self.file.list(self.at[weights], from..to)?))
    }

    /// The token ids of a document, ascending, and their weights as f16 bits.
    pub fn document(&self, row: usize) -> Result<(&[u32], &[u16])> {
        self.entries(0, row, 1, 2)
    }

    /// The rows that have a weight for a token id, ascending, and these weights as f16 bits.
    pub fn postings(&self, id: u32) -> Result<(&[u32], &[u16])> {
        let terms: &[u32] = self.file.list(self.at[3], 0..self.terms)?;
        match terms.binary_search(&id) {
            Ok(term) => self.entries(4, term, 5, 6),
            Err(_) => Ok((&[], &[])),
        }
    }

    pub fn check(&self) -> Result<()> {
        self.file.check()?;
        let wrong = |what: &str| Err(Error::damaged(self.file.path(), what));
        let ascending = |list: &[u32]| list.windows(2).all(|pair| pair[0] < pair[1]);
        let terms: &[u32] = self.file.list(self.at[3], 0..self.terms)?;
        if !ascending(terms) {
            return wrong("its token ids are not in order");
        }
        let (mut by_row, mut by_term) = (0, 0);
        for row in 0..self.rows {
            let (ids, _) = self.document(row)?;
            if !ascending(ids) {
                return wrong("a document's token ids are not in order");
            }
            by_row += ids.len();
        }
        for &term in terms {
            let (rows, _) = self.postings(term)?;
            if !ascending(rows) || rows.last().is_some_and(|&row| row as usize >= self.rows) {
                return wrong("a token's documents are not in order");
            }
            by_term += rows.len();
        }
        let entries = self.file.shape().items;
        if (by_row as u64, by_term as u64) != (entries, entries) {
            return wrong("its two lists have not the same entries");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_weights_than_can_be_numbered_are_refused() {
        for fits in [0, 1, u32::MAX as usize] {
            check_count(fits).unwrap();
        }
        let error = check_count(u32::MAX as usize + 1).unwrap_err().to_string();
        assert!(error.contains("4,294,967,296 lexical weights, expected at most 4,294,967,295"), "{error}");
        check_count(usize::MAX).unwrap_err();
    }
}
