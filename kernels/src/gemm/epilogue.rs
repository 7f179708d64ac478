//! The epilogue of the products of integers: turns the sums of a row or of a register tile into outputs, by scales, bias and GELU.

use super::{Epilogue, load_vectors, store_vectors};
use crate::simd::int::SimdInt;
use crate::simd::math;

/// Turns a register tile's sums into outputs and writes them: those from output `at` on, of `outputs` in all.
///
/// # Safety
/// `R` rows, `ldo` elements apart, are writable at `out`: `16 N` elements of each, or as many as outputs are left from `at` on.
#[inline(always)]
pub(super) unsafe fn finish_tile<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    acc: [[S::I; N]; R],
    row_scales: &[f32],
    epilogue: Epilogue<'_>,
    (at, outputs): (usize, usize),
    out: *mut f32,
    ldo: usize,
) {
    let scales = load_vectors::<S, N>(s, epilogue.scales, at, 1.0);
    let bias = load_vectors::<S, N>(s, epilogue.bias, at, 0.0);
    for (r, acc) in acc.into_iter().enumerate() {
        let values = finish_row(s, acc, row_scales[r], scales, bias, epilogue.gelu);
        // SAFETY: guaranteed by the caller.
        unsafe { store_vectors(s, out.add(r * ldo), outputs - at, values) };
    }
}

/// Turns a row's integer sums into outputs.
#[inline(always)]
pub(super) fn finish_row<S: SimdInt, const N: usize>(
    s: S,
    sums: [S::I; N],
    row_scale: f32,
    scales: [S::V; N],
    bias: [S::V; N],
    gelu: bool,
) -> [S::V; N] {
    let row_scale = s.splat(row_scale);
    let mut values = [s.splat(0.0); N];
    for n in 0..N {
        values[n] = s.mul_add(s.mul(s.to_f32(sums[n]), row_scale), scales[n], bias[n]);
        if gelu {
            values[n] = math::gelu_fast(s, values[n]);
        }
    }
    values
}

/// Turns a row's sums that are already scaled into outputs.
#[inline(always)]
pub(super) fn finish_scaled_row<S: SimdInt, const N: usize>(
    s: S,
    sums: [S::V; N],
    bias: [S::V; N],
    gelu: bool,
) -> [S::V; N] {
    let mut values = [s.splat(0.0); N];
    for n in 0..N {
        values[n] = s.add(sums[n], bias[n]);
        if gelu {
            values[n] = math::gelu_fast(s, values[n]);
        }
    }
    values
}
