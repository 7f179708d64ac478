//! The product with a checkpoint's own 4-bit blocks (q4_0): rows of bytes with a scale for every 32 values, times blocks of 32 weights of 4
//! bits with an f16 scale each.
//!
//! ```text
//! for each panel of 32 outputs
//!   for each N of its 2 vectors             both at once, if there are registers for them
//!     for each tile of up to 8 rows
//!       for each block of 32 depths         576 bytes of the panel: 32 scales, 512 bytes of nibbles
//!         for each 8 depths                 N loads, 2 N vectors of weights, 2 R broadcasts, 2 N R dot products
//!           acc[R][N] = Σ (w + 8) · a - 8 Σ a
//!         sum[R][N] += acc · activation scale · block scale
//! ```
//! Nibbles are stored as `w + 8`, unsigned, and multiplied as stored; `-8 Σ a` of each block, which `Rows8` has, makes up for the 8.
//! `|acc| <= 32 · 15 · 127 · 2`: far from overflow.

use super::epilogue::finish_scaled_row;
use super::tiles::{Place, TileProduct, by_tiles, of_this_tile};
use super::{Epilogue, Panels, load_vectors, matrix_q4_0, store_vectors};
use crate::layout::{I4_BLOCK, LANES, PANEL, Q4_0_BLOCK_BYTES, TileShape};
use crate::rows8::Rows8;
use crate::simd::int::SimdInt;
use crate::view::MatMut;

/// See [`crate::Kernels::linear_q4_0`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear<S: SimdInt>(s: S, x: Rows8<'_>, w: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>) {
    if S::MATRICES && x.rows() >= matrix_q4_0::FEWEST_ROWS {
        return matrix_q4_0::linear(s, x, w, epilogue, out);
    }
    // SAFETY: rows, panels and outputs of the same shape, as checked.
    unsafe { by_tiles(s, w, Product { x, blocks: x.depth() / I4_BLOCK, epilogue, outputs: w.outputs() }, out) }
}

/// The product's rows, and the epilogue that turns sums into outputs.
struct Product<'a> {
    x: Rows8<'a>,
    /// Number of blocks of a row. Each has a correction (`-8 Σ a`) and a scale.
    blocks: usize,
    epilogue: Epilogue<'a>,
    outputs: usize,
}

impl<S: SimdInt> TileProduct<S, u8> for Product<'_> {
    const TILE: TileShape = S::Q4_0_TILE;

    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(
        &mut self,
        s: S,
        panel: &[u8],
        place: Place,
        out: *mut f32,
        ldo: usize,
    ) {
        let Product { x, blocks, epilogue, outputs } = *self;
        let Place { row, at, vector, .. } = place;
        let (rows, ldx) = (x.row_ptr(row), of_this_tile(x.stride()));
        let offsets = &x.offsets()[row * blocks..][..R * blocks];
        let row_scales = &x.scales()[row * blocks..][..R * blocks];
        let ahead = place.prefetch(panel.len() / Q4_0_BLOCK_BYTES);
        epilogue.prefetch::<S, N>(s, at);
        let mut sums = [[s.splat(0.0); N]; R];
        for (block, bytes) in panel.chunks_exact(Q4_0_BLOCK_BYTES).enumerate() {
            for line in 0..ahead.step.div_ceil(64) {
                ahead.fetch(s, block * ahead.step + line * 64);
            }
            let mut minus_8_sums = [0; R];
            for (r, sum) in minus_8_sums.iter_mut().enumerate() {
                // SAFETY: block < blocks, r < R: inside the slice of R * blocks.
                *sum = unsafe { *offsets.get_unchecked(r * blocks + block) };
            }
            // SAFETY: 32 activations of each row; after 64 bytes of scales, 512 of nibbles.
            let acc = unsafe {
                let (x, nibbles) = (rows.add(block * I4_BLOCK), bytes.as_ptr().add(64));
                let whole = match N * LANES {
                    PANEL => s.block_q4_0(x, ldx, nibbles, minus_8_sums),
                    _ => None,
                };
                match whole {
                    Some(acc) => acc,
                    None => dot_sums::<S, R, N>(s, x, ldx, nibbles.add(vector * 64), minus_8_sums),
                }
            };
            let mut scales = [s.splat(0.0); N];
            for (n, scale) in scales.iter_mut().enumerate() {
                // SAFETY: 32 scales of two bytes begin the block.
                *scale = unsafe { s.load_f16(bytes.as_ptr().cast::<u16>().add((vector + n) * LANES)) };
            }
            for (r, acc) in acc.into_iter().enumerate() {
                for n in 0..N {
                    // SAFETY: as for the offsets.
                    let row_scale = s.splat(unsafe { *row_scales.get_unchecked(r * blocks + block) });
                    sums[r][n] = s.mul_add(s.mul(s.to_f32(acc[n]), row_scale), scales[n], sums[r][n]);
                }
            }
        }
        let bias = load_vectors::<S, N>(s, epilogue.bias, at, 0.0);
        for (r, sums) in sums.into_iter().enumerate() {
            let values = finish_scaled_row(s, sums, bias, epilogue.gelu);
            // SAFETY: guaranteed by the caller.
            unsafe { store_vectors(s, out.add(r * ldo), outputs - at, values) };
        }
    }
}

/// The integer sums of a block, computed by dot products.
///
/// # Safety
/// `x` has `R` rows of 32 activations; at `nibbles` begin four runs of `64 N` bytes, 128 bytes apart.
#[inline(always)]
unsafe fn dot_sums<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    x: *const i8,
    ldx: usize,
    nibbles: *const u8,
    minus_8_sums: [i32; R],
) -> [[S::I; N]; R] {
    let mut acc = [[s.start_q4_0(0); N]; R];
    for (acc, sum) in acc.iter_mut().zip(minus_8_sums) {
        *acc = [s.start_q4_0(sum); N];
    }
    for step in 0..4 {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let nibbles = nibbles.add(step * 128);
            let mut wv = [s.load_q4_0(nibbles); N];
            for (n, wv) in wv.iter_mut().enumerate().skip(1) {
                *wv = s.load_q4_0(nibbles.add(64 * n));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = x.add(r * ldx + step * 4);
                let (low, high) = (s.broadcast_a8(x), s.broadcast_a8(x.add(16)));
                for (acc, [w_low, w_high]) in acc.iter_mut().zip(wv) {
                    *acc = s.dot_q4_0(s.dot_q4_0(*acc, w_low, low), w_high, high);
                }
            }
        }
    }
    let mut sums = [[s.splat_i32(0); N]; R];
    for r in 0..R {
        for n in 0..N {
            sums[r][n] = s.sum_q4_0(acc[r][n], minus_8_sums[r]);
        }
    }
    sums
}
