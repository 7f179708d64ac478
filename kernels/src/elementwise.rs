//! Operations on rows: layer norm and GELU, written once for all instruction sets over the operations of `simd`.

use crate::layout::LANES;
use crate::simd::{Simd, math};

/// Loads sixteen elements of `row` from `at` on, or as many as are left and zeros after them.
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

/// Writes sixteen lanes to `row` from `at` on, or as many as there are elements left.
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

/// How many sums run side by side: a single one would wait three or four cycles for each of its own additions.
const CHAINS: usize = 4;

/// Four vectors of `row` from `at` on.
///
/// # Safety
/// `at + 64 <= row.len()`.
#[inline(always)]
unsafe fn load4<S: Simd>(s: S, row: &[f32], at: usize) -> [S::V; CHAINS] {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let p = row.as_ptr().add(at);
        [s.load(p), s.load(p.add(LANES)), s.load(p.add(2 * LANES)), s.load(p.add(3 * LANES))]
    }
}

/// The sum of four chains, then of their lanes.
#[inline(always)]
fn reduce_chains<S: Simd>(s: S, sums: [S::V; CHAINS]) -> f32 {
    s.reduce(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// How many of a row's `len` elements belong to whole groups of four vectors.
#[inline(always)]
fn grouped(len: usize) -> usize {
    len - len % (CHAINS * LANES)
}

/// The sum of the values: value `i` in lane `i mod 16` of chain `i / 16 mod 4` (of the first chain after the last whole group), in ascending order.
#[inline(always)]
fn sum<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); CHAINS];
    for at in (0..grouped(row.len())).step_by(CHAINS * LANES) {
        // SAFETY: a whole group.
        let x = unsafe { load4(s, row, at) };
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = s.add(*sum, x);
        }
    }
    for at in (grouped(row.len())..row.len()).step_by(LANES) {
        // SAFETY: `at` is below the length.
        sums[0] = s.add(sums[0], unsafe { load(s, row, at) });
    }
    reduce_chains(s, sums)
}

/// The sum of the squared differences between the values and `mean`, added in the order of [`sum`].
#[inline(always)]
fn sum_of_squares<S: Simd>(s: S, row: &[f32], mean: S::V) -> f32 {
    let mut sums = [s.splat(0.0); CHAINS];
    for at in (0..grouped(row.len())).step_by(CHAINS * LANES) {
        // SAFETY: a whole group.
        let x = unsafe { load4(s, row, at) };
        for (sum, x) in sums.iter_mut().zip(x) {
            let d = s.sub(x, mean);
            *sum = s.mul_add(d, d, *sum);
        }
    }
    for at in (grouped(row.len())..row.len()).step_by(LANES) {
        // SAFETY: `at` is below the length.
        let d = s.sub(unsafe { load(s, row, at) }, mean);
        let d = if row.len() - at >= LANES { d } else { keep_first(s, d, row.len() - at) };
        sums[0] = s.mul_add(d, d, sums[0]);
    }
    reduce_chains(s, sums)
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
    let mut sums = [s.splat(0.0); CHAINS];
    for at in (0..grouped(row.len())).step_by(CHAINS * LANES) {
        // SAFETY: a whole group of both.
        let (x, added) = unsafe { (load4(s, row, at), load4(s, branch, at)) };
        for chain in 0..CHAINS {
            let at = at + chain * LANES;
            // The next call is usually for the row below, which another thread may have written, so it is prefetched.
            prefetch_below(s, row, at);
            prefetch_below(s, branch, at);
            let x = s.add(x[chain], added[chain]);
            sums[chain] = s.add(sums[chain], x);
            // SAFETY: as above.
            unsafe { s.store(row.as_mut_ptr().add(at), x) };
        }
    }
    for at in (grouped(row.len())..row.len()).step_by(LANES) {
        // SAFETY: `at` is below both lengths.
        let x = unsafe { s.add(load(s, row, at), load(s, branch, at)) };
        sums[0] = s.add(sums[0], x);
        // SAFETY: as above.
        unsafe { store(s, row, at, x) };
    }
    norm_of_sum(s, row, reduce_chains(s, sums), gain, bias, epsilon);
}

/// Prefetches the same columns of the row below, in a matrix whose rows are one cache line longer than their data (as the encoder's are).
#[inline(always)]
pub(crate) fn prefetch_below<S: Simd>(s: S, row: &[f32], at: usize) {
    s.prefetch(row.as_ptr().wrapping_add(row.len() + LANES + at).cast());
}

/// See [`crate::Kernels::layer_norm`], which has checked the lengths.
#[inline(always)]
pub(crate) fn layer_norm<S: Simd>(s: S, row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    norm_of_sum(s, row, sum(s, row), gain, bias, epsilon);
}

/// [`layer_norm`] of a row whose sum is known.
#[inline(always)]
fn norm_of_sum<S: Simd>(s: S, row: &mut [f32], total: f32, gain: &[f32], bias: &[f32], epsilon: f32) {
    if row.is_empty() {
        return;
    }
    let n = row.len() as f32;
    let mean = s.splat(total / n);
    let variance = sum_of_squares(s, row, mean) / n;
    let scale = s.splat(1.0 / (variance + epsilon).sqrt());
    for at in (0..row.len()).step_by(LANES) {
        // SAFETY: `at` is below the length, which the methods of `Kernels` compared with the other two.
        unsafe {
            let normed = s.mul(s.sub(load(s, row, at), mean), scale);
            store(s, row, at, s.mul_add(normed, load(s, gain, at), load(s, bias, at)));
        }
    }
}
