//! The int8 and bf16 products on ISAs whose registers hold matrices (`SimdInt::MATRICES`).
//!
//! ```text
//! for each panel of 32 outputs
//!   for each 32 rows                       two registers of 16; the last one begins 16 rows before the end: rows that it shares with the one
//!     for each 64 bytes of depth           before are computed twice and stored once
//!       sums[32][32] += rows · panel       2 + 2 loads, 4 products
//!     out[32][32] = epilogue(sums)         as on every other ISA
//! ```
//! With 32 rows or fewer, reading the weights from memory limits the speed. If the number of steps is even, int8 then reads the two halves of the
//! depth in turn, each with its own prefetch (`SimdInt::matrix_halves`). Up to 12 rows of int8 are left to dot products (`int8.rs`).
//!
//! A depth that is no multiple of 64 bytes ends in a step over copies that are padded with zeros. The sums of this step are added last, by
//! ordinary code (which, unlike the instruction, does not treat subnormal sums as zero).

use super::epilogue::finish_row;
use super::{Epilogue, Panels, Prefetch, Source, load_vectors, store_vectors};
use crate::layout::{I4_GROUP_BYTES, I4_GROUP_UNPACKED, LANES, MATRIX_STEP, MATRIX_TILE, Operands, PANEL, Sums};
use crate::rows8::Rows8;
use crate::simd::int::SimdInt;
use crate::view::MatMut;

/// Bytes of a line of a panel (no cache line): 32 outputs by 4 bytes of depth.
const LINE: usize = 4 * PANEL;
/// Bytes of a panel that a step multiplies.
const PANEL_STEP: usize = MATRIX_STEP / 4 * LINE;

/// This thread's matrix registers, configured for a product until this value is dropped.
pub(crate) struct Registers<S: SimdInt>(S);

impl<S: SimdInt> Registers<S> {
    /// Configures them for sums of `rows` rows each and steps of `depth_bytes` bytes.
    pub(crate) fn configure(s: S, rows: usize, depth_bytes: usize) -> Self {
        s.begin_matrices(rows, depth_bytes);
        Registers(s)
    }
}

impl<S: SimdInt> Drop for Registers<S> {
    fn drop(&mut self) {
        self.0.end_matrices();
    }
}

/// The rows of a product.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: *const u8,
    /// Bytes between rows.
    stride: usize,
    rows: usize,
    /// Bytes of a row.
    bytes: usize,
    /// For int8, `-128 Σ a` of each row, and its scale; for bf16 empty.
    offsets: &'a [i32],
    scales: &'a [f32],
}

/// See [`crate::Kernels::linear_i8`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear_i8<S: SimdInt, W: Source<u8>>(s: S, x: Rows8<'_>, w: W, epilogue: Epilogue<'_>, out: MatMut<'_>) {
    let (data, offsets, scales) = (x.row_ptr(0).cast(), x.offsets(), x.scales());
    let rows = Rows { data, stride: x.stride(), rows: x.rows(), bytes: x.depth(), offsets, scales };
    // SAFETY: rows and panels of one depth, as checked: a panel has 32 bytes for each byte of a row.
    unsafe { linear::<S, true, u8, W>(s, rows, w, epilogue, out) }
}

/// See [`crate::Kernels::linear_bf16`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear_bf16<S: SimdInt>(
    s: S,
    x: &[u16],
    depth: usize,
    w: Panels<'_, u16>,
    epilogue: Epilogue<'_>,
    out: MatMut<'_>,
) {
    let (data, bytes) = (x.as_ptr().cast(), 2 * depth);
    let rows = Rows { data, stride: bytes, rows: out.rows(), bytes, offsets: &[], scales: &[] };
    // SAFETY: as above.
    unsafe { linear::<S, false, u16, _>(s, rows, w, epilogue, out) }
}

/// The product of int8 (`INT8`) or of bf16.
///
/// # Safety
/// `x` has as many rows as `out`, each of `x.bytes`, and scales and offsets if `INT8`; a panel has 32 times as many bytes as a row.
#[inline(always)]
unsafe fn linear<S: SimdInt, const INT8: bool, T, W: Source<T>>(
    s: S,
    x: Rows<'_>,
    mut w: W,
    epilogue: Epilogue<'_>,
    mut out: MatMut<'_>,
) {
    let outputs = w.outputs();
    if x.rows == 0 || outputs == 0 {
        return;
    }
    let (stride, out) = (out.stride(), out.as_mut_ptr());
    let height = x.rows.min(MATRIX_TILE);
    let blocks = x.rows.div_ceil(2 * MATRIX_TILE);
    let _configured = Registers::configure(s, height, MATRIX_STEP);
    let mut sums = Sums::default();
    for at in (0..outputs).step_by(PANEL) {
        let (panel, coming) = w.ready(s, at / PANEL, blocks);
        let scales = load_vectors::<S, 2>(s, epilogue.scales, at, 1.0);
        let bias = load_vectors::<S, 2>(s, epilogue.bias, at, 0.0);
        epilogue.prefetch::<S, 2>(s, at + PANEL);
        for block in 0..blocks {
            let (own, pair) = registers_of(block, x.rows);
            let ahead = coming.share(x.bytes / MATRIX_STEP, block, blocks);
            // SAFETY: the rows of both registers are rows of `x`, `height` each; the panel is as deep as they.
            unsafe {
                match INT8 && W::IN_PLACE && blocks == 1 {
                    true => sums_of_block::<S, INT8, true, T>(s, x, own, pair, height, panel, ahead, &mut sums),
                    false => sums_of_block::<S, INT8, false, T>(s, x, own, pair, height, panel, ahead, &mut sums),
                }
            }
            let sums = Block { sums: &sums, first: own, pair, height, row: 2 * block * MATRIX_TILE };
            // SAFETY: those rows; `out` has as many, outputs from `at` on.
            unsafe {
                finish_block::<S, INT8>(s, x, sums, scales, bias, epilogue.gelu, out.add(at), stride, outputs - at)
            };
        }
    }
}

/// The sums of one or two registers of rows.
#[derive(Clone, Copy)]
struct Block<'a> {
    sums: &'a Sums,
    /// Where each register's rows begin.
    first: [usize; 2],
    /// Whether there are two registers.
    pair: bool,
    /// Number of rows of a register.
    height: usize,
    /// The first row that the block before does not have.
    row: usize,
}

/// Turns the sums of a block's rows from `block.row` on into outputs, and writes them.
///
/// # Safety
/// All rows of `x` are writable at `out`, `stride` apart, each with 32 outputs or as many as are `left`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the sums, what finishes them, and where to
unsafe fn finish_block<S: SimdInt, const INT8: bool>(
    s: S,
    x: Rows<'_>,
    block: Block<'_>,
    scales: [S::V; 2],
    bias: [S::V; 2],
    gelu: bool,
    out: *mut f32,
    stride: usize,
    left: usize,
) {
    let mut row = block.row;
    for (register, first) in block.first.into_iter().enumerate().take(1 + usize::from(block.pair)) {
        while row < first + block.height {
            let values = &block.sums.0[register * MATRIX_TILE + row - first];
            let values = if INT8 {
                let start = s.splat_i32(x.offsets[row]);
                // SAFETY: 32 sums.
                let sums = unsafe { [s.load_i32(values.as_ptr()), s.load_i32(values.as_ptr().add(LANES))] };
                let sums = [s.add_i32(sums[0], start), s.add_i32(sums[1], start)];
                finish_row(s, sums, x.scales[row], scales, bias, gelu)
            } else {
                let values = values.as_ptr().cast::<f32>();
                // SAFETY: 32 sums, the bits of f32.
                let [low, high] = unsafe { [s.load(values), s.load(values.add(LANES))] };
                [s.add(low, bias[0]), s.add(high, bias[1])]
            };
            // SAFETY: guaranteed by the caller.
            unsafe { store_vectors(s, out.add(row * stride), left, values) };
            row += 1;
        }
    }
}

/// Groups of an int4 panel that are unpacked together: 16 KB, which stay in the first-level cache together with the packed groups.
const GROUPS: usize = 8;
/// Cache lines of half of a packed group.
const LINES: usize = (I4_GROUP_BYTES / 2).div_ceil(64);

/// The product of up to 16 rows with int4 weights: unpacks each piece of a panel and multiplies it before the next one.
#[inline(always)]
pub(crate) fn linear_few_i4<S: SimdInt>(
    s: S,
    x: Rows8<'_>,
    w: Panels<'_, u8>,
    epilogue: Epilogue<'_>,
    mut out: MatMut<'_>,
) {
    assert!((1..=MATRIX_TILE).contains(&x.rows()), "{} rows", x.rows());
    let (data, offsets, scales) = (x.row_ptr(0).cast(), x.offsets(), x.scales());
    let rows = Rows { data, stride: x.stride(), rows: x.rows(), bytes: x.depth(), offsets, scales };
    let (stride, out) = (out.stride(), out.as_mut_ptr());
    let (height, first, pair) = (x.rows(), [0; 2], false);
    let _configured = Registers::configure(s, height, MATRIX_STEP);
    let mut bytes = Aligned([[0u8; I4_GROUP_UNPACKED]; GROUPS]);
    let (mut sums, mut more) = (Sums::default(), Sums::default());
    for at in (0..w.outputs()).step_by(PANEL) {
        epilogue.prefetch::<S, 2>(s, at);
        for (piece, groups) in w.panel(at / PANEL).chunks(GROUPS * I4_GROUP_BYTES).enumerate() {
            // Half of the next piece is prefetched now, the other half while this piece is multiplied, so that memory is never idle.
            let (next, half) = (groups.as_ptr().wrapping_add(groups.len()), groups.len() / 2);
            for (index, (group, to)) in groups.chunks_exact(I4_GROUP_BYTES).zip(&mut bytes.0).enumerate() {
                let ahead = next.wrapping_add(index * (I4_GROUP_BYTES / 2));
                for line in 0..LINES {
                    s.prefetch(ahead.wrapping_add(line * 64));
                }
                // SAFETY: a group, and room for what it becomes.
                unsafe { s.unpack4(group.as_ptr(), to.as_mut_ptr()) };
            }
            let steps = groups.len() / I4_GROUP_BYTES;
            // SAFETY: the rows of `x`; after their depth they are filled up with zeros to whole steps of 64 bytes. As many groups have been
            // unpacked.
            unsafe {
                let rows = [rows.data.add(piece * GROUPS * MATRIX_STEP); 2];
                let weights = bytes.0.as_ptr().cast();
                let ahead = next.wrapping_add(half);
                let operands = Operands { rows, row_stride: x.stride(), weights, steps, ahead, lines: LINES };
                multiply::<S, true>(s, operands, pair, if piece == 0 { &mut sums } else { &mut more });
            }
            if piece > 0 {
                for (sum, more) in sums.0[..x.rows()].iter_mut().zip(&more.0) {
                    for (sum, more) in sum.iter_mut().zip(more) {
                        *sum = sum.wrapping_add(*more);
                    }
                }
            }
        }
        let scales = load_vectors::<S, 2>(s, epilogue.scales, at, 1.0);
        let bias = load_vectors::<S, 2>(s, epilogue.bias, at, 0.0);
        let block = Block { sums: &sums, first, pair, height, row: 0 };
        // SAFETY: all rows of `x`; `out` has as many, outputs from `at` on.
        unsafe {
            let left = w.outputs() - at;
            finish_block::<S, true>(s, rows, block, scales, bias, epilogue.gelu, out.add(at), stride, left);
        }
    }
}

/// Computes the sums of one register of rows, or of two (`pair`). `ONLY`: these are the product's only rows, so the panel comes from memory.
///
/// # Safety
/// The registers are configured for `height` rows; `x` has `height` rows from each of `first` on; the panel is as deep as they.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the two operands, which part of each, where to, and what comes next
unsafe fn sums_of_block<S: SimdInt, const INT8: bool, const ONLY: bool, T>(
    s: S,
    x: Rows<'_>,
    first: [usize; 2],
    pair: bool,
    height: usize,
    panel: &[T],
    ahead: Prefetch,
    sums: &mut Sums,
) {
    let (whole, left) = (x.bytes / MATRIX_STEP, x.bytes % MATRIX_STEP);
    if x.bytes == 0 {
        *sums = Sums::default();
        return;
    }
    // SAFETY: guaranteed by the caller. The last step's copies hold whole steps; their ends stay zero.
    unsafe {
        let rows = first.map(|row| x.data.add(row * x.stride));
        let weights = panel.as_ptr().cast::<u8>();
        let lines = ahead.step.div_ceil(64).max(1);
        let operands = Operands { rows, row_stride: x.stride, weights, steps: whole, ahead: ahead.first, lines };
        if left == 0 {
            if ONLY && whole.is_multiple_of(2) {
                match pair {
                    true => s.matrix_halves::<true>(operands, sums),
                    false => s.matrix_halves::<false>(operands, sums),
                }
            } else {
                multiply::<S, INT8>(s, operands, pair, sums);
            }
            return;
        }
        let mut last_rows = Aligned([[0u8; MATRIX_STEP]; 2 * MATRIX_TILE]);
        let mut last_weights = Aligned([0u8; PANEL_STEP]);
        for (register, from) in rows.into_iter().enumerate().take(1 + usize::from(pair)) {
            for row in 0..height {
                let to = last_rows.0[register * MATRIX_TILE + row].as_mut_ptr();
                to.copy_from_nonoverlapping(from.add(row * x.stride + whole * MATRIX_STEP), left);
            }
        }
        last_weights.0.as_mut_ptr().copy_from_nonoverlapping(weights.add(whole * PANEL_STEP), left / 4 * LINE);
        let rows = [last_rows.0[0].as_ptr(), last_rows.0[MATRIX_TILE].as_ptr()];
        let end = Operands { rows, row_stride: MATRIX_STEP, weights: last_weights.0.as_ptr(), steps: 1, ..operands };
        if whole == 0 {
            multiply::<S, INT8>(s, end, pair, sums);
            return;
        }
        multiply::<S, INT8>(s, operands, pair, sums);
        let mut more = Sums::default();
        multiply::<S, INT8>(s, end, pair, &mut more);
        for (sum, more) in sums.0.as_flattened_mut().iter_mut().zip(more.0.as_flattened()) {
            *sum = match INT8 {
                true => sum.wrapping_add(*more),
                false => (f32::from_bits(*sum as u32) + f32::from_bits(*more as u32)).to_bits() as i32,
            };
        }
    }
}

/// The two registers of rows of block `index`: where the rows of each begin, and whether there is a second one. The last register of all begins 16
/// rows before the end.
#[inline(always)]
fn registers_of(index: usize, rows: usize) -> ([usize; 2], bool) {
    let (row, last) = (index * 2 * MATRIX_TILE, rows - rows.min(MATRIX_TILE));
    ([row.min(last), (row + MATRIX_TILE).min(last)], row + MATRIX_TILE < rows)
}

/// [`SimdInt::matrix_sums`] for one register of rows, or for two (`pair`).
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn multiply<S: SimdInt, const INT8: bool>(s: S, operands: Operands, pair: bool, sums: &mut Sums) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match pair {
            true => s.matrix_sums::<INT8, true>(operands, sums),
            false => s.matrix_sums::<INT8, false>(operands, sums),
        }
    }
}

/// Memory that begins at a cache line.
#[repr(C, align(64))]
struct Aligned<T>(T);
