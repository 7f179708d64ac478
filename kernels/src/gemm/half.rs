//! Matrix products with 16-bit weights: f16 (rows of f32, weights widened to f32, fused multiply-adds) and bf16 (rows of bf16, dot products of
//! pairs).
//!
//! Each output has one f32 accumulator, to which products are added in ascending order of the depth. Its rounding error is at most `depth · 2^-24`
//! of the sum of the products' magnitudes; where the CPU has instructions for bf16, these round pairs in their own way, with at most twice that.

use super::tiles::{Place, TileProduct, by_tiles, of_this_tile};
use super::{Epilogue, Panels, load_vectors, matrix, store_vectors};
use crate::layout::{LANES, PANEL, TileShape};
use crate::simd::int::SimdInt;
use crate::view::{MatMut, MatRef};

/// See [`crate::Kernels::linear_f16`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear_f16<S: SimdInt>(s: S, x: MatRef<'_>, w: Panels<'_, u16>, epilogue: Epilogue<'_>, out: MatMut<'_>) {
    // SAFETY: rows, panels and outputs of the same shape, as checked.
    unsafe { by_tiles(s, w, F16 { x, epilogue, outputs: w.outputs() }, out) }
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
    if S::MATRICES {
        return matrix::linear_bf16(s, x, depth, w, epilogue, out);
    }
    // SAFETY: as above.
    unsafe { by_tiles(s, w, Bf16 { x, depth, epilogue, outputs: w.outputs() }, out) }
}

/// Rows of f32 times f16 weights.
struct F16<'a> {
    x: MatRef<'a>,
    epilogue: Epilogue<'a>,
    outputs: usize,
}

impl<S: SimdInt> TileProduct<S, u16> for F16<'_> {
    const TILE: TileShape = S::F16_TILE;

    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(
        &mut self,
        s: S,
        panel: &[u16],
        place: Place,
        out: *mut f32,
        ldo: usize,
    ) {
        let (x, ldx) = (self.x.as_ptr().wrapping_add(place.row * self.x.stride()), of_this_tile(self.x.stride()));
        let ahead = place.prefetch(panel.len() / PANEL);
        self.epilogue.prefetch::<S, N>(s, place.at);
        let mut acc = [[s.splat(0.0); N]; R];
        for (d, w) in panel.chunks_exact(PANEL).enumerate() {
            ahead.fetch(s, d * ahead.step);
            // SAFETY: 32 weights, and one value of every row.
            unsafe {
                let w = w.as_ptr().add(place.vector * LANES);
                let mut wv = [s.load_f16(w); N];
                for (n, wv) in wv.iter_mut().enumerate().skip(1) {
                    *wv = s.load_f16(w.add(n * LANES));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = s.splat(*x.add(r * ldx + d));
                    for n in 0..N {
                        acc[n] = s.mul_add(wv[n], a, acc[n]);
                    }
                }
            }
        }
        // SAFETY: guaranteed by the caller.
        unsafe { finish_tile(s, acc, self.epilogue, (place.at, self.outputs), out, ldo) };
    }
}

/// Rows of bf16 times bf16 weights.
struct Bf16<'a> {
    x: &'a [u16],
    depth: usize,
    epilogue: Epilogue<'a>,
    outputs: usize,
}

impl<S: SimdInt> TileProduct<S, u16> for Bf16<'_> {
    const TILE: TileShape = S::BF16_TILE;

    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(
        &mut self,
        s: S,
        panel: &[u16],
        place: Place,
        out: *mut f32,
        ldo: usize,
    ) {
        let (x, ldx) = (self.x[place.row * self.depth..].as_ptr(), of_this_tile(self.depth));
        let ahead = place.prefetch(panel.len() / (2 * PANEL));
        self.epilogue.prefetch::<S, N>(s, place.at);
        let mut acc = [[s.splat(0.0); N]; R];
        for (pair, w) in panel.chunks_exact(2 * PANEL).enumerate() {
            let at = pair * ahead.step;
            ahead.fetch(s, at);
            ahead.fetch(s, at + 64);
            // SAFETY: 32 pairs of weights; one pair of values of every row.
            unsafe {
                let w = w.as_ptr().add(place.vector * 2 * LANES);
                let mut wv = [s.load_wb(w); N];
                for (n, wv) in wv.iter_mut().enumerate().skip(1) {
                    *wv = s.load_wb(w.add(n * 2 * LANES));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = s.broadcast_ab(x.add(r * ldx + 2 * pair));
                    for n in 0..N {
                        acc[n] = s.dot_bf16(acc[n], wv[n], a);
                    }
                }
            }
        }
        // SAFETY: guaranteed by the caller.
        unsafe { finish_tile(s, acc, self.epilogue, (place.at, self.outputs), out, ldo) };
    }
}

/// Adds the bias to a register tile's sums and writes them: the outputs from `at` on, of `outputs` in all.
///
/// # Safety
/// `R` rows, `ldo` elements apart, are writable at `out`: `16 N` elements of each, or as many as outputs are left from `at` on.
#[inline(always)]
unsafe fn finish_tile<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    acc: [[S::V; N]; R],
    epilogue: Epilogue<'_>,
    (at, outputs): (usize, usize),
    out: *mut f32,
    ldo: usize,
) {
    let bias = load_vectors::<S, N>(s, epilogue.bias, at, 0.0);
    for (r, sums) in acc.into_iter().enumerate() {
        let mut values = sums;
        for n in 0..N {
            values[n] = s.add(sums[n], bias[n]);
        }
        // SAFETY: guaranteed by the caller.
        unsafe { store_vectors(s, out.add(r * ldo), outputs - at, values) };
    }
}
