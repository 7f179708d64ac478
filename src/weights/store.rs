//! Weights as `f32`: read in place from the map where the file has them as aligned `f32`, converted once otherwise (embedding tables row by
//! row, at each use). `f16` and `bf16` widen to `f32` exactly, 4-bit blocks too; only `f64` is rounded.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use trivec_kernels::{PANEL, Q4_0_BLOCK_BYTES};

use super::checkpoint::StoredTensor;
use super::format::WeightFormat;
use super::mmap::InPlace;
use crate::error::{Error, Result};

/// Weights of a 4-bit block.
const Q4_BLOCK: usize = 32;
/// Bytes of a 4-bit block: an f16 scale, then 32 nibbles.
pub(super) const STORED_BLOCK_BYTES: usize = 18;

/// How a tensor stores its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Rounded to f32 when it is read.
    F64,
    F32,
    F16,
    Bf16,
    /// q4_0 blocks of 32 weights `(nibble - 8) · scale`. Byte `j` after the scale holds weight `j` in its low nibble and weight `j + 16` in
    /// its high one.
    Q4,
}

impl Format {
    /// How a tensor stores its values; `None` if its type is not one that weights have.
    fn of(stored: &StoredTensor) -> Option<Format> {
        match stored.entry.dtype.as_str() {
            "F64" => Some(Format::F64),
            "F32" => Some(Format::F32),
            "F16" => Some(Format::F16),
            "BF16" => Some(Format::Bf16),
            "U8" if stored.q4_0 => Some(Format::Q4),
            _ => None,
        }
    }

    /// The bytes of a row of `cols` values. For Q4 `cols` must be a multiple of 32.
    fn row_bytes(self, cols: usize) -> usize {
        match self {
            Format::F64 => cols * 8,
            Format::F32 => cols * 4,
            Format::F16 | Format::Bf16 => cols * 2,
            Format::Q4 => cols / Q4_BLOCK * STORED_BLOCK_BYTES,
        }
    }

    /// Converts the stored values `bytes` to f32 and writes them to `out`, whose length says how many there are.
    fn to_f32(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Format::F64 => {
                let (values, _) = bytes.as_chunks::<8>();
                out.iter_mut().zip(values).for_each(|(out, value)| *out = f64::from_le_bytes(*value) as f32);
            }
            Format::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *out = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            Format::F16 => {
                // The values go through a small buffer: the bytes may lie at an odd address, and a slice of halves is converted with F16C.
                let mut run = [f16::ZERO; 256];
                for (out, bytes) in out.chunks_mut(run.len()).zip(bytes.chunks(2 * run.len())) {
                    for (half, bytes) in run.iter_mut().zip(bytes.chunks_exact(2)) {
                        *half = f16::from_le_bytes([bytes[0], bytes[1]]);
                    }
                    run[..out.len()].convert_to_f32_slice(out);
                }
            }
            Format::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *out = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                }
            }
            Format::Q4 => {
                for (out, block) in out.chunks_exact_mut(Q4_BLOCK).zip(bytes.chunks_exact(STORED_BLOCK_BYTES)) {
                    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    let (low, high) = out.split_at_mut(Q4_BLOCK / 2);
                    for ((low, high), &byte) in low.iter_mut().zip(high).zip(&block[2..]) {
                        *low = (f32::from(byte & 15) - 8.0) * scale;
                        *high = (f32::from(byte >> 4) - 8.0) * scale;
                    }
                }
            }
        }
    }

    /// The index of the first value that is NaN or infinite as f32. For Q4 that of the first value of the block whose scale is.
    fn first_not_finite(self, bytes: &[u8]) -> Option<usize> {
        // The first value of `N` bytes that is not finite, as `exponent` says (by exponent bits that are all ones). Runs of values without
        // one are scanned by a fold that the compiler vectorises.
        fn find<const N: usize>(bytes: &[u8], exponent: impl Fn([u8; N]) -> bool) -> Option<usize> {
            const RUN: usize = 4096;
            bytes.chunks(RUN * N).enumerate().find_map(|(run, chunk)| {
                let (values, _) = chunk.as_chunks::<N>();
                let any = values.iter().fold(false, |any, &value| any | exponent(value));
                let at = any.then(|| values.iter().position(|&value| exponent(value))).flatten();
                at.map(|at| run * RUN + at)
            })
        }
        const F32_EXPONENT: u32 = 0x7f80_0000;
        const F16_EXPONENT: u16 = 0x7c00;
        const BF16_EXPONENT: u16 = 0x7f80;
        match self {
            // A finite f64 may be too large for f32.
            Format::F64 => find(bytes, |b: [u8; 8]| !(f64::from_le_bytes(b) as f32).is_finite()),
            Format::F32 => find(bytes, |b: [u8; 4]| u32::from_le_bytes(b) & F32_EXPONENT == F32_EXPONENT),
            Format::F16 => find(bytes, |b: [u8; 2]| u16::from_le_bytes(b) & F16_EXPONENT == F16_EXPONENT),
            Format::Bf16 => find(bytes, |b: [u8; 2]| u16::from_le_bytes(b) & BF16_EXPONENT == BF16_EXPONENT),
            Format::Q4 => {
                let scale =
                    |b: [u8; STORED_BLOCK_BYTES]| u16::from_le_bytes([b[0], b[1]]) & F16_EXPONENT == F16_EXPONENT;
                find(bytes, scale).map(|block| block * Q4_BLOCK)
            }
        }
    }
}

/// A tensor whose type and shape have been checked: floats or q4_0 blocks, rows of `cols` values.
#[derive(Debug, Clone)]
pub(super) struct FloatTensor {
    stored: StoredTensor,
    format: Format,
    cols: usize,
}

impl StoredTensor {
    /// Checks that the tensor is of floats or q4_0 blocks and has the shape `shape`; does not look at its values.
    pub(crate) fn check_shape(&self, shape: &[usize]) -> Result<()> {
        let mut unscanned = self.clone();
        unscanned.check_finite = false;
        FloatTensor::check(unscanned, shape).map(drop)
    }

    /// Checks that `bytes`, which are the tensor's bytes from byte `from` on, hold finite values; an error names the first that is not.
    /// `from` and the length of `bytes` must be whole numbers of elements (of blocks for Q4). Tensors that hold no weights pass.
    pub(crate) fn check_part(&self, from: usize, bytes: &[u8]) -> Result<()> {
        let Some(format) = Format::of(self) else { return Ok(()) };
        let Some(at) = format.first_not_finite(bytes) else { return Ok(()) };
        // The values before `from`: those in whole blocks of 32, then (only if values have bytes of their own) those in a part of a block.
        let block = format.row_bytes(Q4_BLOCK);
        let at = from / block * Q4_BLOCK + from % block * Q4_BLOCK / block + at;
        let cols = match self.entry.shape[..] {
            [_, blocks, _] if format == Format::Q4 => blocks * Q4_BLOCK,
            _ => self.entry.shape.last().copied().unwrap_or(1),
        };
        Err(self.refuse(not_finite(at, cols)))
    }
}

/// The message that value number `at` of a matrix of `cols` columns is not finite.
fn not_finite(at: usize, cols: usize) -> String {
    format!("its value at {at} (row {}, column {}) is not finite", at / cols, at % cols)
}

impl FloatTensor {
    /// Checks the type, that the values have the shape `shape` and, if `check_finite` asks for it, that they are finite.
    pub(super) fn check(stored: StoredTensor, shape: &[usize]) -> Result<FloatTensor> {
        let Some(format) = Format::of(&stored) else {
            return Err(stored.refuse(format!("its type is {}, expected F32, F16, BF16 or F64", stored.entry.dtype)));
        };
        let cols = shape.last().copied().unwrap_or(1);
        let stored_shape: Vec<usize> = match format {
            Format::Q4 => {
                shape[..shape.len() - 1].iter().copied().chain([cols.div_ceil(Q4_BLOCK), STORED_BLOCK_BYTES]).collect()
            }
            _ => shape.to_vec(),
        };
        if stored.entry.shape != stored_shape || (format == Format::Q4 && !cols.is_multiple_of(Q4_BLOCK)) {
            return Err(stored.refuse(format!("its shape is {:?}, expected {stored_shape:?}", stored.entry.shape)));
        }
        let tensor = FloatTensor { stored, format, cols };
        if tensor.stored.check_finite
            && let Some(at) = format.first_not_finite(tensor.stored.bytes())
        {
            return Err(tensor.stored.refuse(not_finite(at, cols)));
        }
        Ok(tensor)
    }

    /// The tensor's bytes if it is stored in q4_0 blocks.
    pub(super) fn q4_0_bytes(&self) -> Option<&[u8]> {
        (self.format == Format::Q4).then(|| self.stored.bytes())
    }

    /// All values as f32.
    fn to_vec(&self) -> Vec<f32> {
        let rows: usize = self.stored.bytes().len() / self.format.row_bytes(self.cols).max(1);
        let mut values = vec![0.0; rows * self.cols];
        self.format.to_f32(self.stored.bytes(), &mut values);
        values
    }
}

/// The values of a whole tensor as f32.
#[derive(Debug)]
pub(super) enum Floats {
    /// Read in place, because the file has them as aligned f32.
    Mapped(InPlace<f32>),
    /// Converted to f32, with the tensor that they were converted from.
    Owned(Vec<f32>, FloatTensor),
}

impl Floats {
    /// Reads the values in place if they are aligned f32; else converts them.
    pub(super) fn new(tensor: FloatTensor) -> Floats {
        match tensor.stored.in_place() {
            Some(values) if tensor.format == Format::F32 => Floats::Mapped(values),
            _ => Floats::Owned(tensor.to_vec(), tensor),
        }
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        match self {
            Floats::Mapped(values) => values.as_slice(),
            Floats::Owned(values, _) => values,
        }
    }

    /// The q4_0 blocks that the values were widened from, if they were.
    pub(super) fn q4_0_bytes(&self) -> Option<&[u8]> {
        match self {
            Floats::Owned(_, tensor) => tensor.q4_0_bytes(),
            Floats::Mapped(_) => None,
        }
    }
}

/// Refuses panels with a float that is NaN or infinite, if `check_finite` asks for it: a weight of f16 and bf16 panels, a scale of q4_0
/// `blocks`. Panels of int8 and int4 hold no floats.
pub(super) fn refuse_not_finite(panels: &StoredTensor, format: WeightFormat, blocks: bool) -> Result<()> {
    if !panels.check_finite {
        return Ok(());
    }
    let found = match format {
        WeightFormat::F16 => Format::F16.first_not_finite(panels.bytes()),
        WeightFormat::Bf16 => Format::Bf16.first_not_finite(panels.bytes()),
        // Each block begins with its scales.
        WeightFormat::Int4 if blocks => {
            let mut blocks = panels.bytes().chunks_exact(Q4_0_BLOCK_BYTES);
            if blocks.any(|block| Format::F16.first_not_finite(&block[..2 * PANEL]).is_some()) {
                return Err(panels.refuse("a scale of its 4-bit blocks is not finite"));
            }
            None
        }
        _ => None,
    };
    match found {
        Some(at) => Err(panels.refuse(format!("its value at {at} (in panels) is not finite"))),
        None => Ok(()),
    }
}

/// The values of a float tensor of shape `[len]`; an error if it has another.
pub(super) fn floats(tensor: StoredTensor, len: usize) -> Result<Vec<f32>> {
    Ok(FloatTensor::check(tensor, &[len])?.to_vec())
}

/// The gain and the bias of a layer norm, `[hidden]` each.
#[derive(Debug)]
pub(crate) struct Norm {
    gain: Floats,
    bias: Floats,
}

impl Norm {
    /// Checks that `gain` and `bias` are floats of shape `[hidden]`, and reads them.
    pub(crate) fn read(gain: StoredTensor, bias: StoredTensor, hidden: usize) -> Result<Norm> {
        let read = |tensor| Ok::<_, Error>(Floats::new(FloatTensor::check(tensor, &[hidden])?));
        Ok(Norm { gain: read(gain)?, bias: read(bias)? })
    }

    pub(crate) fn gain(&self) -> &[f32] {
        self.gain.as_slice()
    }

    pub(crate) fn bias(&self) -> &[f32] {
        self.bias.as_slice()
    }
}

/// An embedding table `[rows, cols]`. A row is read and converted each time it is used, so a mapped table is never in memory as a whole.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Rows,
    cols: usize,
    pub len: usize,
}

/// The rows of an embedding table, as they are stored.
#[derive(Debug)]
enum Rows {
    Floats(FloatTensor),
    /// Signed bytes, and a scale for each row.
    Int8 {
        stored: StoredTensor,
        scales: Floats,
    },
}

impl Table {
    /// A table of floats or q4_0 blocks.
    pub(crate) fn read(tensor: StoredTensor, rows: usize, cols: usize) -> Result<Table> {
        Ok(Table { rows: Rows::Floats(FloatTensor::check(tensor, &[rows, cols])?), cols, len: rows })
    }

    /// A table of type `I8` with `scales` `[rows]`.
    pub(crate) fn read_int8(tensor: StoredTensor, scales: StoredTensor, rows: usize, cols: usize) -> Result<Table> {
        if tensor.entry.dtype != "I8" || tensor.entry.shape != [rows, cols] {
            let (dtype, shape) = (&tensor.entry.dtype, &tensor.entry.shape);
            return Err(tensor.refuse(format!("it is {dtype} {shape:?}, expected I8 [{rows}, {cols}]")));
        }
        let scales = Floats::new(FloatTensor::check(scales, &[rows])?);
        Ok(Table { rows: Rows::Int8 { stored: tensor, scales }, cols, len: rows })
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Writes row `row` into `out` as f32. The caller must have checked that `row < len`.
    pub(crate) fn copy_row(&self, row: usize, out: &mut [f32]) {
        match &self.rows {
            Rows::Floats(tensor) => {
                let mut bytes = vec![0; tensor.format.row_bytes(tensor.cols)];
                tensor.stored.copy_to(row * bytes.len(), &mut bytes);
                tensor.format.to_f32(&bytes, out);
            }
            Rows::Int8 { stored, scales } => {
                let mut bytes = vec![0; self.cols];
                stored.copy_to(row * self.cols, &mut bytes);
                let scale = scales.as_slice()[row];
                for (out, byte) in out.iter_mut().zip(bytes) {
                    *out = f32::from(byte as i8) * scale;
                }
            }
        }
    }

    /// The q4_0 blocks of the whole table, if it is stored in them.
    pub(crate) fn q4_0_bytes(&self) -> Option<&[u8]> {
        match &self.rows {
            Rows::Floats(tensor) => tensor.q4_0_bytes(),
            Rows::Int8 { .. } => None,
        }
    }

    pub(crate) fn parameters(&self) -> usize {
        self.len * self.cols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_bf16_and_q4_0_widen_exactly_and_f64_is_rounded() {
        let values = [0.0f32, 1.0, -0.333_251_95, 65504.0, 5.960_464_5e-8];
        let f16_bytes: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let mut out = [0.0; 5];
        Format::F16.to_f32(&f16_bytes, &mut out);
        assert_eq!(out, values);
        let bf16_bytes: Vec<u8> = [1.5f32, -3.0e38].iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
        let mut out = [0.0; 2];
        Format::Bf16.to_f32(&bf16_bytes, &mut out);
        assert_eq!(out, [1.5, bf16::from_f32(-3.0e38).to_f32()]);

        let wide: Vec<u8> = [1.5f64, -0.1, 1e-50].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut out = [0.0; 3];
        Format::F64.to_f32(&wide, &mut out);
        assert_eq!(out, [1.5, -0.1, 0.0], "as f32 rounds them");

        let mut block = f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend((0..16u8).map(|j| j | (15 - j) << 4));
        let mut out = [0.0; 32];
        Format::Q4.to_f32(&block, &mut out);
        for j in 0..16 {
            assert_eq!((out[j], out[j + 16]), ((j as f32 - 8.0) * 0.5, (7.0 - j as f32) * 0.5));
        }
    }

    #[test]
    fn finds_the_first_value_that_is_not_finite() {
        // `find` scans runs of 4,096 values: both ends of a run, the start of the next, and the last value.
        for at in [0, 1, 4095, 4096, 9_000] {
            let mut values = vec![1.0f32; 9_001];
            assert_eq!(
                Format::F32.first_not_finite(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()),
                None
            );
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[at] = bad;
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                assert_eq!(Format::F32.first_not_finite(&bytes), Some(at));
                let bytes: Vec<u8> = values.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
                assert_eq!(Format::F64.first_not_finite(&bytes), Some(at));
                let bytes: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
                assert_eq!(Format::F16.first_not_finite(&bytes), Some(at));
                let bytes: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
                assert_eq!(Format::Bf16.first_not_finite(&bytes), Some(at));
            }
        }
        assert_eq!(Format::F64.first_not_finite(&1e39f64.to_le_bytes()), Some(0), "too large for f32");
        let mut blocks = vec![0u8; 3 * STORED_BLOCK_BYTES];
        assert_eq!(Format::Q4.first_not_finite(&blocks), None);
        blocks[2 * STORED_BLOCK_BYTES..][..2].copy_from_slice(&f16::NAN.to_le_bytes());
        assert_eq!(Format::Q4.first_not_finite(&blocks), Some(64));
    }
}
