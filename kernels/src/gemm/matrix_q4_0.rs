//! The product of many rows with a checkpoint's own 4-bit blocks (q4_0) on ISAs whose registers hold matrices. Matrix registers compute the
//! integer sums of each block of 32 depths, vector registers scale and add them.
//!
//! ```text
//! for each panel of 32 outputs
//!   for each piece of 1,024 depths                 unpacked to bytes once for all rows
//!     for each 16 rows by 16 outputs
//!       for each 4 blocks of 32 depths             4 x 2 loads, 4 products, 4 stores: a product waits for its own loads alone
//!         sum[16] += acc · activation scale · block scale
//! ```
//! A block's integer sums go from matrix to vector registers through memory. The scaled sums, 16 rows of 16 outputs, stay in vector registers
//! from one block to the next, and in `out` from one piece of the depth to the next. Weights are unpacked to signed `w`, so the rows need no
//! correction. The sums are the same integers, added in the same order, as in `q4_0.rs`.

use super::epilogue::finish_scaled_row;
use super::matrix::Registers;
use super::{Epilogue, Panels, Prefetch, load_vectors, store_vectors};
use crate::layout::{BLOCK_GROUP, GroupSums, I4_BLOCK, LANES, MATRIX_TILE, PANEL, Q4_0_BLOCK_BYTES};
use crate::rows8::Rows8;
use crate::simd::int::SimdInt;
use crate::view::MatMut;

/// Bytes of a panel's block after it has been unpacked: `[8 quads][32 outputs][4]`.
const UNPACKED: usize = PANEL * I4_BLOCK;
/// Blocks in a piece, which is unpacked at once: 32 KB, a depth of 1,024.
const PIECE: usize = 32;
const _: () = assert!(PIECE.is_multiple_of(BLOCK_GROUP));

/// The unpacked blocks of a piece.
#[repr(C, align(64))]
struct Weights8([[i8; UNPACKED]; PIECE]);

/// With fewer rows, the dot products of `q4_0.rs` are faster (EXPERIMENTS.md).
pub(crate) const FEWEST_ROWS: usize = 2 * MATRIX_TILE + 1;

/// See [`crate::Kernels::linear_q4_0`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear<S: SimdInt>(s: S, x: Rows8<'_>, w: Panels<'_, u8>, epilogue: Epilogue<'_>, mut out: MatMut<'_>) {
    assert!(x.rows() >= MATRIX_TILE, "{} rows", x.rows());
    let (stride, to) = (out.stride(), out.as_mut_ptr());
    let registers = x.rows().div_ceil(MATRIX_TILE);
    let _configured = Registers::configure(s, MATRIX_TILE, I4_BLOCK);
    let mut unpacked = Weights8([[0; UNPACKED]; PIECE]);
    let mut sums = GroupSums([[0; MATRIX_TILE * LANES]; BLOCK_GROUP]);
    for at in (0..w.outputs()).step_by(PANEL) {
        let panel = w.panel(at / PANEL);
        for (piece, bytes) in panel.chunks(PIECE * Q4_0_BLOCK_BYTES).enumerate() {
            for (block, to) in bytes.chunks_exact(Q4_0_BLOCK_BYTES).zip(&mut unpacked.0) {
                for vector in 0..2 {
                    // SAFETY: 512 bytes of nibbles after the scales, 1,024 to write.
                    unsafe { s.unpack_q4_0(block.as_ptr().add(2 * PANEL), vector, to.as_mut_ptr()) };
                }
            }
            for register in 0..registers {
                let ahead = Prefetch::of(bytes, Q4_0_BLOCK_BYTES, register, registers);
                for line in 0..(PIECE * ahead.step).div_ceil(64) {
                    s.prefetch(ahead.first.wrapping_add(line * 64));
                }
                // The last register begins 16 rows before the end. The rows it shares with the register before are skipped when its sums
                // are stored.
                let (row, again) = ((register * MATRIX_TILE).min(x.rows() - MATRIX_TILE), piece > 0);
                let skip = register * MATRIX_TILE - row;
                let tile =
                    Tile { x, row, skip, epilogue, outputs: w.outputs(), first: piece * PIECE, blocks: bytes, again };
                for vector in 0..2 {
                    let at = at + vector * LANES;
                    if at >= w.outputs() {
                        break;
                    }
                    // SAFETY: 16 rows from `row` on, of the panel's depth; the blocks of the piece are unpacked.
                    unsafe {
                        let out = to.add(row * stride + at);
                        let weights = unpacked.0.as_ptr().cast::<i8>().add(vector * 4 * LANES);
                        let end = piece * PIECE + bytes.len() / Q4_0_BLOCK_BYTES == x.depth() / I4_BLOCK;
                        if end {
                            tile_product::<S, true>(s, tile, weights, (vector, at), &mut sums, out, stride);
                        } else {
                            tile_product::<S, false>(s, tile, weights, (vector, at), &mut sums, out, stride);
                        }
                    }
                }
            }
        }
    }
}

/// Sixteen rows and a piece of a panel.
#[derive(Clone, Copy)]
struct Tile<'a> {
    x: Rows8<'a>,
    /// The first of the sixteen rows.
    row: usize,
    /// How many of the rows another tile writes.
    skip: usize,
    epilogue: Epilogue<'a>,
    /// Number of all outputs.
    outputs: usize,
    /// The first block of the piece.
    first: usize,
    /// The piece as it is stored, for its scales.
    blocks: &'a [u8],
    /// Whether `out` holds the sums of earlier pieces.
    again: bool,
}

/// Multiplies the tile's rows with one piece of vector `vector` of the panel's outputs, which begins at output `at`. After the `LAST` piece,
/// bias and GELU follow.
///
/// # Safety
/// The registers are configured for 16 rows and 32 bytes of depth; 16 rows of `tile.x`, from `tile.row` on, have the panel's depth; `weights` are the
/// piece's blocks, unpacked, of this vector; the rows are writable at `out`, `stride` apart.
#[inline(always)]
unsafe fn tile_product<S: SimdInt, const LAST: bool>(
    s: S,
    tile: Tile<'_>,
    weights: *const i8,
    (vector, at): (usize, usize),
    products: &mut GroupSums,
    out: *mut f32,
    stride: usize,
) {
    let Tile { x, row, skip, epilogue, outputs, first, .. } = tile;
    let groups = x.scale_groups();
    let scales = &x.scales()[row * groups..][..MATRIX_TILE * groups];
    let mut sums = [s.splat(0.0); MATRIX_TILE];
    if tile.again {
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: what this tile wrote for the piece before.
            *sum = unsafe { s.load_first(out.wrapping_add(r * stride), (outputs - at).min(LANES)) };
        }
    }
    for (group, blocks) in tile.blocks.chunks(BLOCK_GROUP * Q4_0_BLOCK_BYTES).enumerate() {
        let block = first + group * BLOCK_GROUP;
        // SAFETY: 32 activations of each row and, for blocks that do not exist, what fills the row up to its stride, a multiple of 64 and
        // at least 64 more; a group of unpacked blocks.
        unsafe {
            let rows = x.row_ptr(row).add(block * I4_BLOCK);
            s.matrix_q4_0(rows, x.stride(), weights.add(group * BLOCK_GROUP * UNPACKED), products);
        }
        for (index, bytes) in blocks.chunks_exact(Q4_0_BLOCK_BYTES).enumerate() {
            // SAFETY: 32 scales of two bytes begin the block.
            let block_scale = unsafe { s.load_f16(bytes.as_ptr().cast::<u16>().add(vector * LANES)) };
            for (r, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 16 sums of row `r < 16`; a scale for each block of 16 rows.
                unsafe {
                    let product = s.to_f32(s.load_i32(products.0[index].as_ptr().add(r * LANES)));
                    let row_scale = s.splat(*scales.get_unchecked(r * groups + block + index));
                    *sum = s.mul_add(s.mul(product, row_scale), block_scale, *sum);
                }
            }
        }
    }
    let bias = load_vectors::<S, 1>(s, epilogue.bias, at, 0.0);
    for (r, sum) in sums.into_iter().enumerate().skip(skip) {
        let values = match LAST {
            true => finish_scaled_row(s, [sum], bias, epilogue.gelu),
            false => [sum],
        };
        // SAFETY: guaranteed by the caller.
        unsafe { store_vectors(s, out.wrapping_add(r * stride), outputs - at, values) };
    }
}
