//! Quantises rows of f32 to bytes, with a scale for each row, four rows at a time.

use crate::layout::LANES;
use crate::rows8::byte_scales;
use crate::simd::int::SimdInt;

/// A row whose values are all closer to 0 than this is treated as zeros.
pub(super) const SMALLEST: f32 = 1e-35;

/// Rows that are quantised together.
pub(super) const ROWS: usize = 4;

/// How many rows ahead of the current one the prefetch goes.
pub(super) const ROWS_AHEAD: usize = 8;

/// Writes `round(row / scale)` with `scale = max |row| / 127` for each of the rows to `out`, `stride` apart, and returns the scales and the
/// sums of the bytes. A row whose maximum is below `smallest` becomes zeros with the scale 0, one with a NaN or an infinity zeros with the
/// scale NaN. The rows are whole vectors, padded with zeros.
#[inline(always)]
pub(super) fn quantize<S: SimdInt>(
    s: S,
    rows: [&[f32]; ROWS],
    smallest: f32,
    out: &mut [i8],
    stride: usize,
) -> ([f32; ROWS], [i32; ROWS]) {
    let dims = rows[0].len();
    assert!(dims.is_multiple_of(LANES) && rows.iter().all(|row| row.len() == dims));
    assert!(stride >= dims && out.len() >= (ROWS - 1) * stride + dims);
    let zero = s.splat(0.0);
    let mut seen = [zero; ROWS];
    for (row, seen) in rows.iter().zip(&mut seen) {
        for at in (0..dims).step_by(LANES) {
            // SAFETY: whole vectors.
            *seen = s.max_magnitude(s.abs(unsafe { s.load(row.as_ptr().add(at)) }), *seen);
        }
    }
    let (mut scales, mut sums) = (s.reduce_magnitude4(seen), [zero; ROWS]);
    for (r, ((row, scale), sum)) in rows.iter().zip(&mut scales).zip(&mut sums).enumerate() {
        let Some((inverse, of_bytes)) = byte_scales(*scale, smallest) else {
            out[r * stride..][..dims].fill(0);
            // Every NaN becomes the same NaN: the softmax adds integers to the bits of what it computes from it, and some NaN payloads
            // would overflow into numbers.
            *scale = f32::NAN;
            continue;
        };
        *scale = of_bytes;
        let inverse = s.splat(inverse);
        let mut at = 0;
        // SAFETY: whole vectors of the row, and as many bytes.
        unsafe {
            let (row, out) = (row.as_ptr(), out.as_mut_ptr().add(r * stride));
            while at + 4 * LANES <= dims {
                let mut v = [zero; 4];
                for (i, v) in v.iter_mut().enumerate() {
                    *v = s.mul(s.load(row.add(at + i * LANES)), inverse);
                }
                *sum = s.add(*sum, s.store_i8x64(out.add(at), v));
                at += 4 * LANES;
            }
            while at < dims {
                let v = s.round(s.mul(s.load(row.add(at)), inverse));
                *sum = s.add(*sum, v);
                s.store_i8(out.add(at), v);
                at += LANES;
            }
        }
    }
    let mut totals = [0; ROWS];
    for (total, sum) in totals.iter_mut().zip(s.reduce4(sums)) {
        *total = sum as i32;
    }
    (scales, totals)
}

/// Cuts `rows` into four rows of `dims` values.
#[inline(always)]
pub(super) fn four_rows<T>(rows: &[T], dims: usize) -> [&[T]; ROWS] {
    let (first, second) = rows.split_at(2 * dims);
    [&first[..dims], &first[dims..], &second[..dims], &second[dims..2 * dims]]
}
