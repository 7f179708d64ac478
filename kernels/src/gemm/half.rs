//! Matrix products of 16-bit weights: f16 (f32 rows, widened weights, fused multiply-adds) and bf16 (bf16 rows, pairs of products).
//!
//! The same loop as `int8.rs`: panels of 32 outputs, tiles of up to 12 rows. A sum runs over the whole depth in one f32 accumulator an
//! output, in ascending order: its rounding error is at most `depth · 2^-24` of the sum of magnitudes.

use super::{Epilogue, Panels, Prefetch, load_vectors, matrix};
use super::{of_this_tile, store_vectors, tile_rows, with_tile};
use crate::layout::{LANES, PANEL};
use crate::simd::int::SimdInt;
use crate::view::{MatMut, MatRef};

/// Rows of a matrix by pointer.
#[derive(Clone, Copy)]
struct Tile<T> {
    x: *const T,
    ldx: usize,
}

/// The outputs of a tile.
#[derive(Clone, Copy)]
struct Weights<'a> {
    panel: &'a [u16],
    /// Which of the panel's vectors is the tile's first.
    vector: usize,
    bias: Option<&'a [f32]>,
    /// The tile's first output.
    at: usize,
    /// All outputs.
    outputs: usize,
    ahead: Prefetch,
}

impl<'a> Weights<'a> {
    /// The weights of tile `index` of `tiles`, whose first output is `at`. Each step along the depth reads `step` bytes.
    fn new(w: Panels<'a, u16>, epilogue: Epilogue<'a>, at: usize, step: usize, (index, tiles): (usize, usize)) -> Self {
        let (panel, vector) = (w.panel(at / PANEL), at % PANEL / LANES);
        let ahead = Prefetch::of(panel, step, index, tiles);
        Weights { panel, vector, bias: epilogue.bias, at, outputs: w.outputs(), ahead }
    }

    /// Adds the bias to a row's sums and writes them.
    ///
    /// # Safety
    /// The tile's outputs at `out` are writable: `16 N` from `at` on, or as many as there are.
    #[inline(always)]
    unsafe fn epilogue<S: SimdInt, const N: usize>(&self, s: S, sums: [S::V; N], out: *mut f32) {
        let bias = load_vectors::<S, N>(s, self.bias, self.at, 0.0);
        let mut values = sums;
        for n in 0..N {
            values[n] = s.add(sums[n], bias[n]);
        }
        // SAFETY: by the caller's word.
        unsafe { store_vectors(s, out, self.outputs - self.at, values) };
    }
}

/// See [`crate::Kernels::linear_f16`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear_f16<S: SimdInt>(
    s: S,
    x: MatRef<'_>,
    w: Panels<'_, u16>,
    epilogue: Epilogue<'_>,
    mut out: MatMut<'_>,
) {
    let stride = out.stride();
    for at in (0..w.outputs()).step_by(S::F16_TILE.vectors * LANES) {
        let tiles = x.rows().div_ceil(S::F16_TILE.rows);
        let (mut row, mut index) = (0, 0);
        while row < x.rows() {
            let rows = tile_rows(x.rows() - row, S::F16_TILE.rows);
            let weights = Weights::new(w, epilogue, at, 2 * PANEL, (index, tiles));
            epilogue.prefetch::<S, 2>(s, at);
            // SAFETY: `rows` rows of `x` from `row` on; a panel of their depth; as many rows of `out`.
            unsafe {
                let tile = Tile { x: x.as_ptr().wrapping_add(row * x.stride()), ldx: of_this_tile(x.stride()) };
                let stride = of_this_tile(stride);
                let out = out.as_mut_ptr().add(row * stride + at);
                with_tile!(rows, S::F16_TILE, f16_product::<S>(s, tile, weights, out, stride));
            }
            row += rows;
            index += 1;
        }
    }
}

/// # Safety
/// `tile` has `R` rows of `panel.len() / 32` values; `out` takes `R` rows of the outputs from `weights.at` on, `16 N` or as many as there
/// are; `weights.vector + N <= 2`.
#[inline(always)]
unsafe fn f16_product<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    tile: Tile<f32>,
    weights: Weights<'_>,
    out: *mut f32,
    ldo: usize,
) {
    let mut acc = [[s.splat(0.0); N]; R];
    for (d, w) in weights.panel.chunks_exact(PANEL).enumerate() {
        weights.ahead.fetch(s, d * weights.ahead.step);
        // SAFETY: 32 weights; one value of every row.
        unsafe {
            let w = w.as_ptr().add(weights.vector * LANES);
            let mut wv = [s.load_f16(w); N];
            for (n, wv) in wv.iter_mut().enumerate().skip(1) {
                *wv = s.load_f16(w.add(n * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = s.splat(*tile.x.add(r * tile.ldx + d));
                for n in 0..N {
                    acc[n] = s.mul_add(wv[n], a, acc[n]);
                }
            }
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        // SAFETY: by the caller's word.
        unsafe { weights.epilogue(s, acc, out.add(r * ldo)) };
    }
}

/// See [`crate::Kernels::linear_bf16`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear_bf16<S: SimdInt>(
    s: S,
    x: &[u16],
    depth: usize,
    w: Panels<'_, u16>,
    epilogue: Epilogue<'_>,
    mut out: MatMut<'_>,
) {
    if S::MATRICES {
        return matrix::linear_bf16(s, x, depth, w, epilogue, out);
    }
    let (stride, all_rows) = (out.stride(), out.rows());
    for at in (0..w.outputs()).step_by(S::BF16_TILE.vectors * LANES) {
        let tiles = all_rows.div_ceil(S::BF16_TILE.rows);
        let (mut row, mut index) = (0, 0);
        while row < all_rows {
            let rows = tile_rows(all_rows - row, S::BF16_TILE.rows);
            let weights = Weights::new(w, epilogue, at, 4 * PANEL, (index, tiles));
            epilogue.prefetch::<S, 2>(s, at);
            // SAFETY: `rows` rows of `x` from `row` on; a panel of their depth; as many rows of `out`.
            unsafe {
                let tile = Tile { x: x.as_ptr().add(row * depth), ldx: of_this_tile(depth) };
                let stride = of_this_tile(stride);
                let out = out.as_mut_ptr().add(row * stride + at);
                with_tile!(rows, S::BF16_TILE, bf16_product::<S>(s, tile, weights, out, stride));
            }
            row += rows;
            index += 1;
        }
    }
}

/// # Safety
/// As for [`f16_product`].
#[inline(always)]
unsafe fn bf16_product<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    tile: Tile<u16>,
    weights: Weights<'_>,
    out: *mut f32,
    ldo: usize,
) {
    let mut acc = [[s.splat(0.0); N]; R];
    for (pair, w) in weights.panel.chunks_exact(2 * PANEL).enumerate() {
        let at = pair * weights.ahead.step;
        weights.ahead.fetch(s, at);
        weights.ahead.fetch(s, at + 64);
        // SAFETY: 32 pairs of weights; one pair of values of every row.
        unsafe {
            let w = w.as_ptr().add(weights.vector * 2 * LANES);
            let mut wv = [s.load_wb(w); N];
            for (n, wv) in wv.iter_mut().enumerate().skip(1) {
                *wv = s.load_wb(w.add(n * 2 * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = s.broadcast_ab(tile.x.add(r * tile.ldx + 2 * pair));
                for n in 0..N {
                    acc[n] = s.dot_bf16(acc[n], wv[n], a);
                }
            }
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        // SAFETY: by the caller's word.
        unsafe { weights.epilogue(s, acc, out.add(r * ldo)) };
    }
}
