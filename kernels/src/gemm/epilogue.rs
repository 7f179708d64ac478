//! From sums to outputs: what the products in integers do with a row's, or a tile's, sums.

use super::{Epilogue, load_vectors, store_vectors};
use crate::simd::int::SimdInt;
use crate::simd::math;

/// A tile's outputs from its sums: those from `at` on, of `outputs`.
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
        // SAFETY: by the caller's word.
        unsafe { store_vectors(s, out.add(r * ldo), outputs - at, values) };
    }
}

/// A row's outputs from its sums.
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

/// A row's outputs from sums that have their scales already.
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
