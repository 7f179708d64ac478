//! Matrix products of 16-bit weights: f16 (f32 rows, widened weights, fused multiply-adds) and bf16 (bf16 rows, pairs of products).
//!
//! The same loop as `int8.rs`: panels of 32 outputs, tiles of up to 12 rows. A sum runs over the whole depth in one f32 accumulator an
//! output, in ascending order: its rounding error is at most `depth · 2^-24` of the sum of magnitudes.

use super::{Finish, PANEL, PREFETCH_BYTES, Panels, load_pair, store_pair, tile_rows, with_rows};
use crate::simd::int::SimdInt;
use crate::view::{MatMut, MatRef};

/// Rows of a matrix by pointer.
#[derive(Clone, Copy)]
struct Tile<T> {
    x: *const T,
    ldx: usize,
}

/// See [`crate::Kernels::linear_f16`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear_f16<S: SimdInt>(s: S, x: MatRef<'_>, w: Panels<'_, u16>, finish: Finish<'_>, mut out: MatMut<'_>) {
    let stride = out.stride();
    for (panel, from) in (0..w.outputs()).step_by(PANEL).enumerate() {
        let cols = (w.outputs() - from).min(PANEL);
        let bias = load_pair(s, finish.bias, from, 0.0);
        let mut row = 0;
        while row < x.rows() {
            let rows = tile_rows(x.rows() - row, S::HALF_ROWS);
            // SAFETY: `rows` rows of `x` from `row` on; a panel of their depth; `rows` x `cols` of `out`.
            unsafe {
                let tile = Tile { x: x.as_ptr().add(row * x.stride()), ldx: x.stride() };
                let out = out.as_mut_ptr().add(row * stride + from);
                let panel = w.panel(panel);
                with_rows!(rows, S::HALF_ROWS, f16_product::<S>(s, tile, panel, bias, cols, out, stride));
            }
            row += rows;
        }
    }
}

/// # Safety
/// `tile` has `R` rows of `panel.len() / 32` values; `out` takes `R` rows of `cols <= 32`.
#[inline(always)]
unsafe fn f16_product<S: SimdInt, const R: usize>(
    s: S,
    tile: Tile<f32>,
    panel: &[u16],
    bias: [S::V; 2],
    cols: usize,
    out: *mut f32,
    ldo: usize,
) {
    let mut acc = [[s.splat(0.0); 2]; R];
    for (d, w) in panel.chunks_exact(PANEL).enumerate() {
        // SAFETY: 32 weights; one value of every row.
        unsafe {
            s.prefetch(w.as_ptr().cast::<u8>().wrapping_add(PREFETCH_BYTES));
            let wv = [s.load_f16(w.as_ptr()), s.load_f16(w.as_ptr().add(16))];
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = s.splat(*tile.x.add(r * tile.ldx + d));
                acc[0] = s.mul_add(wv[0], a, acc[0]);
                acc[1] = s.mul_add(wv[1], a, acc[1]);
            }
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        let values = [s.add(acc[0], bias[0]), s.add(acc[1], bias[1])];
        // SAFETY: by the caller's word.
        unsafe { store_pair(s, out.add(r * ldo), cols, values) };
    }
}

/// See [`crate::Kernels::linear_bf16`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear_bf16<S: SimdInt>(
    s: S,
    x: &[u16],
    depth: usize,
    w: Panels<'_, u16>,
    finish: Finish<'_>,
    mut out: MatMut<'_>,
) {
    let (stride, all_rows) = (out.stride(), out.rows());
    for (panel, from) in (0..w.outputs()).step_by(PANEL).enumerate() {
        let cols = (w.outputs() - from).min(PANEL);
        let bias = load_pair(s, finish.bias, from, 0.0);
        let mut row = 0;
        while row < all_rows {
            let rows = tile_rows(all_rows - row, S::HALF_ROWS);
            // SAFETY: `rows` rows of `x` from `row` on; a panel of their depth; `rows` x `cols` of `out`.
            unsafe {
                let tile = Tile { x: x.as_ptr().add(row * depth), ldx: depth };
                let out = out.as_mut_ptr().add(row * stride + from);
                let panel = w.panel(panel);
                with_rows!(rows, S::HALF_ROWS, bf16_product::<S>(s, tile, panel, bias, cols, out, stride));
            }
            row += rows;
        }
    }
}

/// # Safety
/// `tile` has `R` rows of `panel.len() / 32` values; `out` takes `R` rows of `cols <= 32`.
#[inline(always)]
unsafe fn bf16_product<S: SimdInt, const R: usize>(
    s: S,
    tile: Tile<u16>,
    panel: &[u16],
    bias: [S::V; 2],
    cols: usize,
    out: *mut f32,
    ldo: usize,
) {
    let mut acc = [[s.splat(0.0); 2]; R];
    for (pair, w) in panel.chunks_exact(2 * PANEL).enumerate() {
        // SAFETY: 32 pairs of weights; one pair of values of every row.
        unsafe {
            s.prefetch(w.as_ptr().cast::<u8>().wrapping_add(PREFETCH_BYTES));
            s.prefetch(w.as_ptr().cast::<u8>().wrapping_add(PREFETCH_BYTES + 64));
            let wv = [s.load_wb(w.as_ptr()), s.load_wb(w.as_ptr().add(32))];
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = s.broadcast_ab(tile.x.add(r * tile.ldx + 2 * pair));
                acc[0] = s.dot_bf16(acc[0], wv[0], a);
                acc[1] = s.dot_bf16(acc[1], wv[1], a);
            }
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        let values = [s.add(acc[0], bias[0]), s.add(acc[1], bias[1])];
        // SAFETY: by the caller's word.
        unsafe { store_pair(s, out.add(r * ldo), cols, values) };
    }
}
