//! The file of ColBERT vectors: the token vectors of all documents one after another, rounded and in panels of 32 (`panels.rs`). A
//! document's vectors may begin and end in the middle of a panel.
//!
//! ```text
//! panels [tokens / 32]      scales f32 [tokens]      starts of documents u64 [rows + 1]
//! ```

use trivec::TokenVectors;
use trivec_kernels::{Epilogue, Kernels, MatMut, PANEL, Panels};

use super::file::{FileRecord, FileWriter, SegmentFile, Shape, aligned};
use super::panels::{QueryRows, are_finite, copy_row, decode, empty_panel, panel_bytes, put_row, unpack};
use crate::error::{Error, Result};
use crate::settings::ColbertBits;

/// The largest number of token vectors that a document has in a valid file: more tokens than any model reads.
const MAX_TOKENS: u64 = 1 << 20;

pub(crate) struct ColbertWriter {
    file: FileWriter,
    dim: usize,
    bits: ColbertBits,
    panel: Vec<u8>,
    scales: Vec<f32>,
    starts: Vec<u64>,
    scratch: Vec<f32>,
}

impl ColbertWriter {
    pub fn new(file: FileWriter, dim: usize, bits: ColbertBits) -> ColbertWriter {
        let (panel, scales, starts) = (empty_panel(bits, dim), Vec::new(), vec![0]);
        ColbertWriter { file, dim, bits, panel, scales, starts, scratch: Vec::new() }
    }

    /// Adds the token vectors of the next document.
    pub fn push(&mut self, vectors: &TokenVectors) -> Result<()> {
        if vectors.dim() != self.dim || !are_finite(vectors.as_slice()) {
            let what = format!("ColBERT vectors of {} values, expected {} finite ones", vectors.dim(), self.dim);
            return Err(Error::option("embedding", what));
        }
        for row in vectors.iter() {
            let lane = self.scales.len() % PANEL;
            let scale = put_row(&mut self.panel, lane, self.bits, row, &mut self.scratch);
            self.next(scale)?;
        }
        self.starts.push(self.scales.len() as u64);
        Ok(())
    }

    /// Adds the vectors of a document of another segment as they are stored there.
    pub fn copy(&mut self, from: &ColbertReader, row: usize) -> Result<()> {
        let (start, end) = from.tokens(row)?;
        let (panels, scales) = from.panels(start, end)?;
        let first = start / PANEL * PANEL;
        for token in start..end {
            let (panel, lane) = ((token - first) / PANEL, self.scales.len() % PANEL);
            let panel = &panels[panel * from.panel_bytes..][..from.panel_bytes];
            copy_row(panel, token % PANEL, &mut self.panel, lane, self.bits, self.dim);
            self.next(scales[token - first])?;
        }
        self.starts.push(self.scales.len() as u64);
        Ok(())
    }

    /// Adds the scale of the vector that was put into the panel last, and writes the panel if it is full.
    fn next(&mut self, scale: f32) -> Result<()> {
        self.scales.push(scale);
        if self.scales.len().is_multiple_of(PANEL) {
            self.file.append(&self.panel)?;
            self.panel = empty_panel(self.bits, self.dim);
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<FileRecord> {
        if !self.scales.len().is_multiple_of(PANEL) {
            self.file.append(&self.panel)?;
        }
        self.file.align()?;
        self.file.append_all(&self.scales)?;
        self.file.align()?;
        self.file.append_all(&self.starts)?;
        let (rows, items) = (self.starts.len() as u64 - 1, self.scales.len() as u64);
        self.file.finish(Shape { dim: self.dim as u32, bits: self.bits.number(), rows, items, more: 0 })
    }
}

#[derive(Debug)]
pub(crate) struct ColbertReader {
    file: SegmentFile,
    bits: ColbertBits,
    panel_bytes: usize,
    tokens: usize,
    rows: usize,
    scales: usize,
    starts: usize,
}

/// Buffers that a thread uses for one document after another.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    products: Vec<f32>,
    unpacked: Vec<u8>,
}

/// The token vector of a document that is most similar to one of the query's: its place among the document's vectors, and the product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Best {
    pub row: usize,
    pub similarity: f32,
}

impl ColbertReader {
    pub fn new(file: SegmentFile, rows: u64, dim: usize, bits: ColbertBits) -> Result<ColbertReader> {
        let shape = file.shape();
        if (shape.rows, shape.dim as usize, shape.bits) != (rows, dim, bits.number()) {
            let found = format!("{} rows of {} values of {} bits", shape.rows, shape.dim, shape.bits);
            let expected = format!("{rows} of {dim} of {}", bits.number());
            return Err(Error::damaged(file.path(), format!("it has {found}, expected {expected}")));
        }
        let panel_bytes = panel_bytes(bits, dim);
        let scales = shape.items.div_ceil(PANEL as u64).checked_mul(panel_bytes as u64).and_then(aligned);
        let starts = scales.and_then(|at| at.checked_add(shape.items.checked_mul(4)?)).and_then(aligned);
        file.expect_len(starts.and_then(|at| at.checked_add(rows.checked_add(1)?.checked_mul(8)?)))?;
        let (scales, starts) = (scales.unwrap_or_default() as usize, starts.unwrap_or_default() as usize);
        Ok(ColbertReader { bits, panel_bytes, tokens: shape.items as usize, rows: rows as usize, scales, starts, file })
    }

    /// The range of the token vectors of the document in `row`, among those of the whole segment.
    pub fn tokens(&self, row: usize) -> Result<(usize, usize)> {
        let pair = self.file.list::<u64>(self.starts, row..row.saturating_add(2))?;
        let (from, to) = (pair[0], pair[1]);
        if from > to || to > self.tokens as u64 || to - from > MAX_TOKENS {
            return Err(Error::damaged(self.file.path(), format!("the tokens of row {row} run from {from} to {to}")));
        }
        Ok((from as usize, to as usize))
    }

    /// The panels that hold the token vectors `start..end`, and the scales of all vectors in these panels.
    fn panels(&self, start: usize, end: usize) -> Result<(&[u8], &[f32])> {
        let (first, last) = (start / PANEL, end.div_ceil(PANEL));
        let bytes = self.file.bytes(first * self.panel_bytes..last * self.panel_bytes)?;
        Ok((bytes, self.file.list(self.scales, first * PANEL..self.tokens.min(last * PANEL))?))
    }

    /// MaxSim of a query with a document: `1/n Σ_i max_j q_i · d_j` over the query's `n` token vectors. 0 for a document without tokens.
    pub fn score(&self, query: &QueryRows, row: usize, scratch: &mut Scratch) -> Result<f32> {
        let mut sum = 0.0;
        self.for_each_row(query, row, scratch, |_, similarities| {
            // Sixteen maxima side by side, so that the compiler makes vector instructions; the largest of all does not depend on the order.
            let mut best = [f32::NEG_INFINITY; 16];
            let (parts, rest) = similarities.as_chunks::<16>();
            for part in parts {
                best.iter_mut().zip(part).for_each(|(best, &x)| *best = if x > *best { x } else { *best });
            }
            best.iter_mut().zip(rest).for_each(|(best, &x)| *best = if x > *best { x } else { *best });
            sum += f64::from(best.iter().fold(f32::NEG_INFINITY, |best, &x| best.max(x)));
        })?;
        let score = (sum / query.rows().max(1) as f64) as f32;
        match score.is_finite() {
            true => Ok(score),
            false => Err(Error::damaged(self.file.path(), format!("the ColBERT score of row {row} is not a number"))),
        }
    }

    /// For every token vector of a query, the most similar one of the document; of equally similar ones the first.
    pub fn align(&self, query: &QueryRows, row: usize, scratch: &mut Scratch) -> Result<Vec<Best>> {
        let mut best = vec![Best { row: 0, similarity: f32::NEG_INFINITY }; query.rows()];
        self.for_each_row(query, row, scratch, |q, similarities| {
            for (row, &similarity) in similarities.iter().enumerate() {
                if similarity > best[q].similarity {
                    best[q] = Best { row, similarity };
                }
            }
        })?;
        Ok(best)
    }

    /// Calls `each`, for every token vector of the query, with its index and its products with all token vectors of the document. Does
    /// nothing for a document without tokens.
    fn for_each_row(
        &self,
        query: &QueryRows,
        row: usize,
        scratch: &mut Scratch,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let (start, end) = self.tokens(row)?;
        if start == end || query.rows() == 0 {
            return Ok(());
        }
        let (panels, scales) = self.panels(start, end)?;
        let outputs = scales.len();
        scratch.products.resize(query.rows() * outputs, 0.0);
        let out = MatMut::dense(&mut scratch.products, outputs);
        let finish = Epilogue { scales: Some(scales), ..Epilogue::default() };
        let kernels = Kernels::best();
        match self.bits {
            ColbertBits::Four => {
                kernels.linear_i4(query.as_rows8(), Panels::new(panels, outputs, self.panel_bytes), finish, out);
            }
            ColbertBits::Eight | ColbertBits::Off => {
                kernels.linear_i8(query.as_rows8(), Panels::new(panels, outputs, self.panel_bytes), finish, out);
            }
            ColbertBits::Two | ColbertBits::One => {
                unpack(self.bits, panels, &mut scratch.unpacked);
                let panel = scratch.unpacked.len() / outputs.div_ceil(PANEL);
                let panels = Panels::new(&scratch.unpacked, outputs, panel);
                kernels.linear_i8(query.as_rows8(), panels, finish, out);
            }
        }
        let from = start % PANEL;
        for q in 0..query.rows() {
            each(q, &scratch.products[q * outputs + from..][..end - start]);
        }
        Ok(())
    }

    /// How many token vectors a document has.
    pub fn tokens_of(&self, row: usize) -> Result<usize> {
        self.tokens(row).map(|(start, end)| end - start)
    }

    /// A document's token vectors in f32, as the stored rows stand for them.
    pub fn vectors(&self, row: usize) -> Result<Vec<Vec<f32>>> {
        let (start, end) = self.tokens(row)?;
        let (panels, scales) = self.panels(start, end)?;
        let (first, dim) = (start / PANEL * PANEL, self.file.shape().dim as usize);
        let vector = |token: usize| {
            let panel = &panels[(token - first) / PANEL * self.panel_bytes..][..self.panel_bytes];
            decode(panel, token % PANEL, self.bits, dim, scales[token - first])
        };
        Ok((start..end).map(vector).collect())
    }

    pub fn check(&self) -> Result<()> {
        self.file.check()?;
        let mut next = 0;
        for row in 0..self.rows {
            let (from, to) = self.tokens(row)?;
            if from != next {
                return Err(Error::damaged(
                    self.file.path(),
                    format!("the tokens of row {row} do not follow those before"),
                ));
            }
            next = to;
        }
        match next == self.tokens {
            true => Ok(()),
            false => Err(Error::damaged(self.file.path(), "it has tokens of no document")),
        }
    }
}
