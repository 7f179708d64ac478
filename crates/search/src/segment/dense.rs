//! The two files of dense vectors: in int8, with which a query is multiplied first, and in f16, for the final scores of the best.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use trivec_kernels::PANEL;

use super::file::{FileRecord, FileWriter, SegmentFile, Shape, aligned};
use super::panels::{empty_panel, panel_bytes, put_row, put_row8, row8};
use crate::error::{Error, Result};
use crate::settings::ColbertBits;

/// The panels of dense vectors are those of 8-bit ColBERT vectors.
const BITS: ColbertBits = ColbertBits::Eight;

/// Writes the int8 file: the panels, then a scale for each row.
pub(crate) struct Dense8Writer {
    file: FileWriter,
    dim: usize,
    panel: Vec<u8>,
    scales: Vec<f32>,
    scratch: Vec<f32>,
}

impl Dense8Writer {
    pub fn new(file: FileWriter, dim: usize) -> Dense8Writer {
        Dense8Writer { file, dim, panel: empty_panel(BITS, dim), scales: Vec::new(), scratch: Vec::new() }
    }

    pub fn push(&mut self, row: &[f32]) -> Result<()> {
        check_row(row, self.dim)?;
        let lane = self.scales.len() % PANEL;
        let scale = put_row(&mut self.panel, lane, BITS, row, &mut self.scratch);
        self.next(scale)
    }

    /// Adds a row of another segment, unchanged.
    pub fn push_bytes(&mut self, (row, scale): &(Vec<i8>, f32)) -> Result<()> {
        let lane = self.scales.len() % PANEL;
        put_row8(&mut self.panel, lane, row);
        self.next(*scale)
    }

    /// Adds the scale of the row that was put into the panel last, and writes the panel if it is full.
    fn next(&mut self, scale: f32) -> Result<()> {
        self.scales.push(scale);
        if self.scales.len().is_multiple_of(PANEL) {
            self.file.append(&self.panel)?;
            self.panel = empty_panel(BITS, self.dim);
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<FileRecord> {
        if !self.scales.len().is_multiple_of(PANEL) {
            self.file.append(&self.panel)?;
        }
        self.file.align()?;
        self.file.append_all(&self.scales)?;
        self.file.finish(Shape { dim: self.dim as u32, bits: 8, rows: self.scales.len() as u64, ..Shape::default() })
    }
}

/// Refuses a row that has not `dim` values, or has one that is not finite.
fn check_row(row: &[f32], dim: usize) -> Result<()> {
    if row.len() == dim && row.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Error::option("embedding", format!("a dense vector of {} values, expected {dim} finite ones", row.len())))
}

#[derive(Debug)]
pub(crate) struct Dense8Reader {
    file: SegmentFile,
    rows: usize,
    dim: usize,
    panel_bytes: usize,
    /// Where in the content the scales begin.
    scales: usize,
}

/// Checks that the header of a dense file has this number of rows, values and bits. Returns the number of rows.
fn check_shape(file: &SegmentFile, rows: u64, dim: usize, bits: u32) -> Result<usize> {
    let shape = file.shape();
    if (shape.rows, shape.dim as usize, shape.bits) != (rows, dim, bits) {
        let found = format!("{} rows of {} values of {} bits", shape.rows, shape.dim, shape.bits);
        return Err(Error::damaged(file.path(), format!("it has {found}, expected {rows} of {dim} of {bits}")));
    }
    usize::try_from(rows).map_err(|_| Error::damaged(file.path(), format!("{rows} rows")))
}

impl Dense8Reader {
    pub fn new(file: SegmentFile, rows: u64, dim: usize) -> Result<Dense8Reader> {
        let count = check_shape(&file, rows, dim, 8)?;
        let panel_bytes = panel_bytes(BITS, dim);
        let panels = rows.div_ceil(PANEL as u64).checked_mul(panel_bytes as u64).and_then(aligned);
        file.expect_len(panels.and_then(|panels| panels.checked_add(rows.checked_mul(4)?)))?;
        let scales = panels.unwrap_or_default() as usize;
        Ok(Dense8Reader { file, rows: count, dim, panel_bytes, scales })
    }

    pub fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    /// The panels and the scales of the rows `first..end`. `first` must be the first row of a panel.
    pub fn rows(&self, first: usize, end: usize) -> Result<(&[u8], &[f32])> {
        let end = end.min(self.rows);
        let bytes = first / PANEL * self.panel_bytes..end.div_ceil(PANEL) * self.panel_bytes;
        Ok((self.file.bytes(bytes)?, self.file.list(self.scales, first..end)?))
    }

    /// The int8 values of a row, and its scale.
    pub fn row(&self, row: usize) -> Result<(Vec<i8>, f32)> {
        let (panel, scales) = self.rows(row / PANEL * PANEL, row + 1)?;
        let scale = scales.last().copied().unwrap_or_default();
        Ok((row8(panel, row % PANEL, self.dim), scale))
    }

    pub fn check(&self) -> Result<()> {
        self.file.check()
    }
}

/// Writes the f16 file: `[rows, dim]`.
pub(crate) struct Dense16Writer {
    file: FileWriter,
    dim: usize,
    rows: u64,
    halves: Vec<u16>,
}

impl Dense16Writer {
    pub fn new(file: FileWriter, dim: usize) -> Dense16Writer {
        Dense16Writer { file, dim, rows: 0, halves: vec![0; dim] }
    }

    pub fn push(&mut self, row: &[f32]) -> Result<()> {
        check_row(row, self.dim)?;
        self.halves.reinterpret_cast_mut::<f16>().convert_from_f32_slice(row);
        self.rows += 1;
        self.file.append_all(&self.halves)
    }

    /// Adds a row of another segment, given as f16 bits, unchanged.
    pub fn push_halves(&mut self, row: &[u16]) -> Result<()> {
        self.rows += 1;
        self.file.append_all(row)
    }

    pub fn finish(self) -> Result<FileRecord> {
        self.file.finish(Shape { dim: self.dim as u32, bits: 16, rows: self.rows, ..Shape::default() })
    }
}

#[derive(Debug)]
pub(crate) struct Dense16Reader {
    file: SegmentFile,
    dim: usize,
}

impl Dense16Reader {
    pub fn new(file: SegmentFile, rows: u64, dim: usize) -> Result<Dense16Reader> {
        check_shape(&file, rows, dim, 16)?;
        file.expect_len(rows.checked_mul(2 * dim as u64))?;
        Ok(Dense16Reader { file, dim })
    }

    /// The f16 bits of a row.
    pub fn row(&self, row: usize) -> Result<&[u16]> {
        let from = row.saturating_mul(self.dim);
        self.file.list(0, from..from.saturating_add(self.dim))
    }

    /// Writes a row to `to`, converted to f32.
    pub fn read(&self, row: usize, to: &mut [f32]) -> Result<()> {
        self.row(row)?.reinterpret_cast::<f16>().convert_to_f32_slice(to);
        Ok(())
    }

    pub fn check(&self) -> Result<()> {
        self.file.check()
    }
}
