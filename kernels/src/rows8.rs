//! Rows of activations in int8, and how f32 rows become them: centred, smoothed, rotated, rounded.
//!
//! ```text
//! y = H ((x - centre) ∘ inverse_smoothing)   H: a Walsh-Hadamard transform of blocks of up to 128, which spreads large values
//! scale = max |y| / 127,  a = round(y / scale)
//! ```
//! `pack` applies the inverse of the smoothing and the same rotation to each row of the weights, and adds `W centre` to the bias, so the
//! products are unchanged. So the part that all tokens have in common (the centre) is never rounded. After the rotation a row's values are close
//! to normally distributed, which suits 127 equal steps: on the starter's weights, one scale a row with rotation is more precise than one
//! scale for every 64 values without it. Rotations for quantisation: Ashkboos et al. 2024, "QuaRot"; smoothing: Xiao et al. 2023,
//! "SmoothQuant".

use crate::elementwise::{load, store};
use crate::layout::{I4_BLOCK, LANES, MAX_INT_DEPTH};
use crate::simd::Simd;
use crate::simd::int::SimdInt;

/// Largest block of the rotation: eight vectors.
pub const MAX_ROTATION: usize = 8 * LANES;

/// A group whose largest magnitude is below this counts as zero, because for even smaller ones `127 / max` would overflow.
const SMALLEST_MAX: f32 = 1e-35;

/// Bytes from one row of `depth` activations to the next: whole cache lines, and one more, so that rows do not fall into the same sets of the
/// cache.
pub fn row8_stride(depth: usize) -> usize {
    depth.next_multiple_of(64) + 64
}

/// The kind of weights that the rows will be multiplied with. It decides how many scales a row has, and which corrections sums need because
/// weights are stored with an offset (128 or 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows8Kind {
    /// int8 and int4 weights: one scale and one correction (`-128 Σ a`) a row.
    Int8,
    /// A checkpoint's own 4-bit blocks (q4_0): a scale and a correction (`-8 Σ a`) for every block of 32.
    Q4_0,
}

impl Rows8Kind {
    /// Number of scales of a row of `depth` activations.
    pub fn scales(self, depth: usize) -> usize {
        if self == Rows8Kind::Int8 { 1 } else { depth.div_ceil(I4_BLOCK) }
    }

    /// Number of corrections of a row of `depth` activations.
    pub fn offsets(self, depth: usize) -> usize {
        self.scales(depth)
    }

    /// The depth that products of such rows run over: `depth`, padded with zeros.
    pub fn padded_depth(self, depth: usize) -> usize {
        depth.next_multiple_of(if self == Rows8Kind::Int8 { 4 } else { I4_BLOCK })
    }
}

/// Quantised rows `[rows, depth]`.
#[derive(Debug, Clone, Copy)]
pub struct Rows8<'a> {
    data: &'a [i8],
    scales: &'a [f32],
    offsets: &'a [i32],
    rows: usize,
    depth: usize,
    kind: Rows8Kind,
}

impl<'a> Rows8<'a> {
    /// Wraps rows that [`crate::Kernels::quantize_row`] has filled. Each has `row8_stride(depth)` bytes, and as many scales and corrections
    /// as the kind says. Rows that were filled otherwise give right products only if all bytes are -127 ..= 127, those from `depth` up to the
    /// [padded depth](Rows8Kind::padded_depth) are 0, and each correction is -128 (for q4_0, -8) times the sum of the bytes that it is for.
    ///
    /// # Panics
    /// If the lengths of the slices do not fit `rows` rows, or a row is empty or longer than [`MAX_INT_DEPTH`](crate::MAX_INT_DEPTH).
    pub fn new(
        kind: Rows8Kind,
        rows: usize,
        depth: usize,
        data: &'a [i8],
        scales: &'a [f32],
        offsets: &'a [i32],
    ) -> Self {
        // Checked first, because the rounding in `row8_stride` would overflow for a depth near 2^64. The products below are checked.
        assert!((1..=MAX_INT_DEPTH).contains(&depth), "rows of {depth} values");
        let of = |length: usize| rows.checked_mul(length);
        assert_eq!(Some(data.len()), of(row8_stride(depth)), "bytes of {rows} rows of {depth}");
        assert_eq!(Some(scales.len()), of(kind.scales(depth)), "scales of {rows} rows of {depth}");
        assert_eq!(Some(offsets.len()), of(kind.offsets(depth)), "corrections of {rows} rows of {depth}");
        Rows8 { data, scales, offsets, rows, depth, kind }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows `first .. first + rows`.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn rows_from(&self, first: usize, rows: usize) -> Rows8<'a> {
        assert!(first <= self.rows && rows <= self.rows - first, "rows {first} + {rows} of {}", self.rows);
        let (stride, scales, offsets) =
            (row8_stride(self.depth), self.kind.scales(self.depth), self.kind.offsets(self.depth));
        Rows8 {
            data: &self.data[first * stride..][..rows * stride],
            scales: &self.scales[first * scales..][..rows * scales],
            offsets: &self.offsets[first * offsets..][..rows * offsets],
            rows,
            ..*self
        }
    }

    /// The kind of weights that the rows are for.
    pub fn kind(&self) -> Rows8Kind {
        self.kind
    }

    /// The depth that products run over, zeros at its end included.
    pub fn depth(&self) -> usize {
        self.kind.padded_depth(self.depth)
    }

    pub(crate) fn stride(&self) -> usize {
        row8_stride(self.depth)
    }

    /// The scales of all rows, one row after the other.
    pub(crate) fn scales(&self) -> &'a [f32] {
        self.scales
    }

    /// Number of scales of a row.
    pub(crate) fn scale_groups(&self) -> usize {
        self.kind.scales(self.depth)
    }

    /// The corrections of all rows, one row after the other.
    pub(crate) fn offsets(&self) -> &'a [i32] {
        self.offsets
    }

    pub(crate) fn row_ptr(&self, row: usize) -> *const i8 {
        self.data[row * self.stride()..].as_ptr()
    }
}

/// How a row is prepared before it is rounded.
#[derive(Debug, Clone, Copy)]
pub struct Prepare<'a> {
    /// `[depth]`: what is subtracted from each value first.
    pub centre: Option<&'a [f32]>,
    /// `[depth]`: what each value is multiplied by next.
    pub inverse_smoothing: Option<&'a [f32]>,
    /// Length of the blocks that are rotated: a power of two up to [`MAX_ROTATION`] that divides the depth; 1 for none.
    pub rotation: usize,
}

/// The longest rotation that suits rows of `depth` values: the largest power of two that divides it, up to [`MAX_ROTATION`].
pub fn rotation_for(depth: usize) -> usize {
    1 << depth.trailing_zeros().min(MAX_ROTATION.trailing_zeros())
}

/// See [`crate::Kernels::prepare_row`].
#[inline(always)]
pub(crate) fn prepare_row<S: SimdInt>(s: S, prepare: Prepare<'_>, row: &[f32], out: &mut [f32]) {
    let _ = prepare_and_measure(s, prepare, row, out);
}

/// `out = H ((row - centre) ∘ inverse_smoothing)`, `H` unscaled. Each lane of the result is the largest magnitude that `out` has in that lane,
/// compared by its bits, so that NaN is the largest.
#[inline(always)]
fn prepare_and_measure<S: SimdInt>(s: S, prepare: Prepare<'_>, row: &[f32], out: &mut [f32]) -> S::V {
    let mut seen = s.splat(0.0);
    let mut from = 0;
    while from < row.len() {
        let left = row.len() - from;
        if left >= MAX_ROTATION && prepare.rotation == MAX_ROTATION {
            prepare_block::<S, true>(s, prepare, row, from, out, &mut seen);
        } else {
            prepare_block::<S, false>(s, prepare, row, from, out, &mut seen);
        }
        from += MAX_ROTATION;
    }
    seen
}

/// [`prepare_and_measure`] for one block of [`MAX_ROTATION`] values from `from` on, or for what is left of the row. `WHOLE`: the block is complete
/// and rotated as one, so its size is known to the compiler and it stays in registers.
#[inline(always)]
fn prepare_block<S: SimdInt, const WHOLE: bool>(
    s: S,
    prepare: Prepare<'_>,
    row: &[f32],
    from: usize,
    out: &mut [f32],
    seen: &mut S::V,
) {
    let len = if WHOLE { MAX_ROTATION } else { (row.len() - from).min(MAX_ROTATION) };
    let rotation = if WHOLE { MAX_ROTATION } else { prepare.rotation };
    // Prefetches the next row, which another thread may have written (see `elementwise::prefetch_below`).
    let below = row.as_ptr().wrapping_add(row.len() + LANES + from);
    let (row, out) = (&row[from..][..len], &mut out[from..][..len]);
    let centre = prepare.centre.map(|values| &values[from..][..len]);
    let inverse = prepare.inverse_smoothing.map(|values| &values[from..][..len]);
    let mut v = [s.splat(0.0); 8];
    for (i, v) in v.iter_mut().enumerate() {
        let at = i * LANES;
        if at >= len {
            break;
        }
        // SAFETY: `at` is below the length of all.
        unsafe {
            *v = load(s, row, at);
            if WHOLE {
                s.prefetch(below.wrapping_add(at).cast());
            }
            if let Some(centre) = centre {
                *v = s.sub(*v, load(s, centre, at));
            }
            if let Some(inverse) = inverse {
                *v = s.mul(*v, load(s, inverse, at));
            }
        }
    }
    if rotation > 1 {
        rotate(s, &mut v, rotation);
    }
    for (i, v) in v.iter().enumerate() {
        let at = i * LANES;
        if at >= len {
            break;
        }
        *seen = s.max_magnitude(s.abs(*v), *seen);
        // SAFETY: as above.
        unsafe { store(s, out, at, *v) };
    }
}

/// The largest magnitude of the values in each lane, compared by its bits, so that NaN is the largest.
#[inline(always)]
fn widest<S: SimdInt>(s: S, values: &[f32]) -> S::V {
    let mut seen = s.splat(0.0);
    let mut at = 0;
    while at < values.len() {
        // SAFETY: `at` is below the length.
        seen = s.max_magnitude(s.abs(unsafe { load(s, values, at) }), seen);
        at += LANES;
    }
    seen
}

/// The factor that turns values into bytes, `127 / largest`, and its inverse, which turns bytes back into values; both are 0 if `largest`
/// is below `smallest`. `None` if `largest` is not finite: then the caller stores zeros with the scale NaN.
#[inline(always)]
pub(crate) fn byte_scales(largest: f32, smallest: f32) -> Option<(f32, f32)> {
    if largest < smallest {
        return Some((0.0, 0.0));
    }
    largest.is_finite().then_some((127.0 / largest, largest / 127.0))
}

/// The Walsh-Hadamard transform of each block of `rotation` values in eight vectors: butterflies at distances of 1 to 8 inside vectors, then of 16
/// to 64 between vectors.
#[inline(always)]
fn rotate<S: SimdInt>(s: S, v: &mut [S::V; 8], rotation: usize) {
    for v in v.iter_mut() {
        *v = s.butterfly::<1>(*v);
        if rotation > 2 {
            *v = s.butterfly::<2>(*v);
        }
        if rotation > 4 {
            *v = s.butterfly::<4>(*v);
        }
        if rotation > 8 {
            *v = s.butterfly::<8>(*v);
        }
    }
    if rotation > LANES {
        stage::<S, 1>(s, v);
    }
    if rotation > 2 * LANES {
        stage::<S, 2>(s, v);
    }
    if rotation > 4 * LANES {
        stage::<S, 4>(s, v);
    }
}

/// Replaces each two vectors that are `STEP` vectors apart by their sum and their difference.
#[inline(always)]
fn stage<S: Simd, const STEP: usize>(s: S, v: &mut [S::V; 8]) {
    for i in 0..8 {
        if i & STEP == 0 {
            let (a, b) = (v[i], v[i + STEP]);
            v[i] = s.add(a, b);
            v[i + STEP] = s.sub(a, b);
        }
    }
}

/// See [`crate::Kernels::quantize_row`], which has checked the lengths.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the row, its preparation, scratch, and the three parts of the result
pub(crate) fn quantize_row<S: SimdInt>(
    s: S,
    kind: Rows8Kind,
    prepare: Prepare<'_>,
    row: &[f32],
    scratch: &mut [f32],
    out: &mut [i8],
    scales: &mut [f32],
    offsets: &mut [i32],
) {
    let depth = row.len();
    let of_row = prepare_and_measure(s, prepare, row, scratch);
    let scratch = &scratch[..depth];
    let (group, bias) = if kind == Rows8Kind::Int8 { (depth, -128.0) } else { (I4_BLOCK, -8.0) };
    for (index, (scale, offset)) in scales.iter_mut().zip(offsets).enumerate() {
        let from = index * group;
        let to = (from + group).min(depth);
        let seen = if kind == Rows8Kind::Int8 { of_row } else { widest(s, &scratch[from..to]) };
        let zero = s.splat(0.0);
        let largest = s.reduce_magnitude4([seen, zero, zero, zero])[0];
        let Some((inverse, of_bytes)) = byte_scales(largest, SMALLEST_MAX) else {
            // Instruction sets convert NaN to different i8, so groups with a NaN or an infinity are stored as zeros.
            out[from..to.next_multiple_of(LANES)].fill(0);
            (*scale, *offset) = (f32::NAN, 0);
            continue;
        };
        *scale = of_bytes;
        let inverse = s.splat(inverse);
        let (mut at, mut sum) = (from, zero);
        while at + 4 * LANES <= to {
            // SAFETY: 64 values remain, and as many bytes.
            unsafe {
                let mut v = [zero; 4];
                for (i, v) in v.iter_mut().enumerate() {
                    *v = s.mul(s.load(scratch.as_ptr().add(at + i * LANES)), inverse);
                }
                sum = s.add(sum, s.store_i8x64(out.as_mut_ptr().add(at), v));
            }
            at += 4 * LANES;
        }
        while at < to {
            let left = to - at;
            // SAFETY: `left` values remain; `out` has whole vectors beyond them.
            unsafe {
                let p = scratch.as_ptr().add(at);
                let v = if left >= LANES { s.load(p) } else { s.load_first(p, left) };
                let v = s.round(s.mul(v, inverse));
                sum = s.add(sum, v);
                s.store_i8(out.as_mut_ptr().add(at), v);
            }
            at += LANES;
        }
        // A sum of at most 65,536 values of up to 127: exact in f32.
        *offset = (s.reduce(sum) * bias) as i32;
    }
    let written = depth.next_multiple_of(LANES);
    out[written..].fill(0);
}

/// See [`crate::Kernels::round_bf16`], which has checked the lengths.
#[inline(always)]
pub(crate) fn round_bf16<S: SimdInt>(s: S, row: &[f32], out: &mut [u16]) {
    let mut at = 0;
    while at < row.len() {
        let left = row.len() - at;
        // SAFETY: `at` is below both lengths; a last part goes through sixteen elements of its own.
        unsafe {
            let v = load(s, row, at);
            if left >= LANES {
                s.store_bf16(out.as_mut_ptr().add(at), v);
            } else {
                let mut last = [0u16; LANES];
                s.store_bf16(last.as_mut_ptr(), v);
                out[at..at + left].copy_from_slice(&last[..left]);
            }
        }
        at += LANES;
    }
}
