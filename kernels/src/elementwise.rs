//! Operations on rows: layer norm and GELU, written once over the vector vocabulary.

use crate::simd::{LANES, Simd, math};

/// The lanes of `row` from `at` on: sixteen, or as many as are left and zeros.
///
/// # Safety
/// `at < row.len()`.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(s: S, row: &[f32], at: usize) -> S::V {
    let left = row.len() - at;
    // SAFETY: `left` elements remain from `at` on.
    unsafe {
        let p = row.as_ptr().add(at);
        if left >= LANES { s.load(p) } else { s.load_first(p, left) }
    }
}

/// Writes the lanes of `row` from `at` on, as many as are left.
///
/// # Safety
/// `at < row.len()`.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(s: S, row: &mut [f32], at: usize, v: S::V) {
    let left = row.len() - at;
    // SAFETY: `left` elements remain from `at` on.
    unsafe {
        let p = row.as_mut_ptr().add(at);
        if left >= LANES { s.store(p, v) } else { s.store_first(p, left, v) }
    }
}

/// See [`crate::Kernels::gelu`].
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, values: &mut [f32]) {
    for at in (0..values.len()).step_by(LANES) {
        // SAFETY: `at` is below the length.
        let x = unsafe { load(s, values, at) };
        let erf = math::erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
        let y = s.mul(s.mul(x, s.splat(0.5)), s.add(s.splat(1.0), erf));
        // SAFETY: as above.
        unsafe { store(s, values, at, y) };
    }
}

/// See [`crate::Kernels::gelu_fast`].
#[inline(always)]
pub(crate) fn gelu_fast<S: Simd>(s: S, values: &mut [f32]) {
    for at in (0..values.len()).step_by(LANES) {
        // SAFETY: `at` is below the length.
        let x = unsafe { load(s, values, at) };
        let y = math::gelu_fast(s, x);
        // SAFETY: as above.
        unsafe { store(s, values, at, y) };
    }
}

/// The sum of the values (of the squares of their differences to `mean`, if given): lane `i mod 16` in ascending order, lanes by
/// halves.
#[inline(always)]
fn sum<S: Simd>(s: S, row: &[f32], mean: Option<S::V>) -> f32 {
    let mut acc = s.splat(0.0);
    for at in (0..row.len()).step_by(LANES) {
        // SAFETY: `at` is below the length.
        let x = unsafe { load(s, row, at) };
        acc = match mean {
            None => s.add(acc, x),
            Some(mean) => {
                let d = s.sub(x, mean);
                let d = if row.len() - at >= LANES { d } else { keep_first(s, d, row.len() - at) };
                s.mul_add(d, d, acc)
            }
        };
    }
    s.reduce(acc)
}

/// The first `n` lanes, then zeros.
#[inline(always)]
fn keep_first<S: Simd>(s: S, v: S::V, n: usize) -> S::V {
    let mut lanes = [0.0; LANES];
    // SAFETY: `lanes` has sixteen elements, `n <= 16`.
    unsafe {
        s.store_first(lanes.as_mut_ptr(), n, v);
        s.load(lanes.as_ptr())
    }
}

/// See [`crate::Kernels::add_layer_norm`], which has checked the lengths.
#[inline(always)]
pub(crate) fn add_layer_norm<S: Simd>(s: S, row: &mut [f32], branch: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    let mut acc = s.splat(0.0);
    for at in (0..row.len()).step_by(LANES) {
        // Rows mostly follow each other, and have been written by other threads.
        prefetch_below(s, row, at);
        prefetch_below(s, branch, at);
        // SAFETY: `at` is below both lengths.
        let x = unsafe { s.add(load(s, row, at), load(s, branch, at)) };
        acc = s.add(acc, x);
        // SAFETY: as above.
        unsafe { store(s, row, at, x) };
    }
    norm_of_sum(s, row, s.reduce(acc), gain, bias, epsilon);
}

/// Asks for what lies below the lanes of `row` from `at` on, in a matrix whose rows lie a cache line further apart than they are long (the
/// encoder's).
#[inline(always)]
pub(crate) fn prefetch_below<S: Simd>(s: S, row: &[f32], at: usize) {
    s.prefetch(row.as_ptr().wrapping_add(row.len() + LANES + at).cast());
}

/// See [`crate::Kernels::layer_norm`], which has checked the lengths.
#[inline(always)]
pub(crate) fn layer_norm<S: Simd>(s: S, row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    norm_of_sum(s, row, sum(s, row, None), gain, bias, epsilon);
}

/// [`layer_norm`] of a row whose sum is known.
#[inline(always)]
fn norm_of_sum<S: Simd>(s: S, row: &mut [f32], total: f32, gain: &[f32], bias: &[f32], epsilon: f32) {
    if row.is_empty() {
        return;
    }
    let n = row.len() as f32;
    let mean = s.splat(total / n);
    let variance = sum(s, row, Some(mean)) / n;
    let scale = s.splat(1.0 / (variance + epsilon).sqrt());
    for at in (0..row.len()).step_by(LANES) {
        // SAFETY: `at` is below the length, which `Kernels::layer_norm` compared with the other two.
        unsafe {
            let normed = s.mul(s.sub(load(s, row, at), mean), scale);
            store(s, row, at, s.mul_add(normed, load(s, gain, at), load(s, bias, at)));
        }
    }
}
