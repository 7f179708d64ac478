//! Attention of one head with integer products: the loop of `attention.rs`, whose two products are exact sums of products of bytes.
//!
//! ```text
//! k ← k - mean(k)                       softmax does not see it; what all keys share would waste the range of a byte
//! v ← v - mean(v)                       weights sum to 1, so the mean is added to the output; weights that are rounded off take nothing of it away
//!                                       (both means: any row will do; one in which large rows count no more than others)
//! q, k, v → int8, a scale a row         y = acc · scale_q · scale_k · log₂ e + log₂ (scale_v / max scale_v)
//! P = 2^(y - m_t) → 0 ..= 254           8 bits below the maximum of the tile of keys, a value's scale being in its weight; attention may rest on
//!                                       many small weights far below one large one in another tile. In its own, those below 1/508 of it
//!                                       count as the mean
//! O = O·c + acc · 2^(m_t - m) / 254     sum = sum·c + Σ P / (scale_v / max scale_v) · 2^(m_t - m), of P before it is rounded
//! out = O · max scale_v / sum + mean(v)
//! ```
//! Keys and values both lie as the weights of an int8 product (`[quads][64][4]`, stored as `+ 128`): keys in quads of dimensions, values in quads of
//! keys for 64 dimensions. So both products are that of [`dots`] or of the registers that hold matrices. `P` takes part as `P - 127`, a signed
//! byte; `127 Σ v` of a tile is added.
//! Bounds: `|q·k| <= head_dim · 127 · 255 < 2^31` up to a `head_dim` of 65,536; `|P·V| <= 64 · 254 · 127`.

mod dots;
mod key_values;
mod matrices;
mod softmax;

pub use key_values::IntKeyValues;
pub(crate) use key_values::pack;

use crate::LANES;
use crate::attention::{KEY_TILE, QUERY_BLOCK};
use crate::buffer::Buffer;
use crate::rows8::byte_scales;
use crate::simd::int::SimdInt;
use crate::view::{MatMut, MatRef};

/// Vectors of a tile's scores.
const TILE_VECTORS: usize = KEY_TILE / LANES;
/// The integer that stands for 1 in `P`, and the offset that is subtracted so that `P` fits a signed byte.
const P_ONE: f32 = 254.0;
const P_MIDDLE: f32 = 127.0;
// The softmax of a block takes four queries, or sixteen, at a time.
const _: () = assert!(QUERY_BLOCK.is_multiple_of(LANES));
/// Dimensions of the values that are stored together. It equals the number of keys in a tile, so that both products have the same shape.
const GROUP: usize = KEY_TILE;

/// Buffers of one thread for [`crate::Kernels::pack_int`] and [`crate::Kernels::attend_int`]; they grow as needed.
#[derive(Debug, Default)]
pub struct IntScratch {
    /// `[48][64]`
    exponents: Buffer<f32>,
    /// `[48][64]`: `P - 127`
    p: Buffer<i8>,
    /// `[48][dims]`
    output: Buffer<f32>,
    /// `[48][query_stride]`
    queries: Buffer<i8>,
    /// With matrix registers, products with the keys, `[16 queries][64]`, and with the values, `[groups][16 queries][64]`.
    products: Buffer<i32>,
    query_scales: Vec<f32>,
    offsets: Vec<i32>,
    /// `-128 Σ (P - 127)`
    p_offsets: Vec<i32>,
    max: Vec<f32>,
    sum: Vec<f32>,
    tile_sum: Vec<f32>,
    tile_scale: Vec<f32>,
    rescale: Vec<f32>,
    /// Four rows in f32, then in i8: whole vectors.
    row: Vec<f32>,
    row8: Vec<i8>,
    /// Each token's share in a mean: whole vectors.
    shares: Vec<f32>,
}

impl IntScratch {
    /// For heads of `head_dim` dimensions, of which a query's product runs over `depth`.
    fn resize(&mut self, head_dim: usize, depth: usize) {
        let dims = head_dim.next_multiple_of(LANES);
        self.exponents.grow(QUERY_BLOCK * KEY_TILE);
        self.p.grow(QUERY_BLOCK * KEY_TILE);
        self.output.grow(QUERY_BLOCK * dims);
        self.queries.grow(QUERY_BLOCK * query_stride(dims, depth));
        self.query_scales.resize(QUERY_BLOCK, 0.0);
        self.offsets.resize(QUERY_BLOCK, 0);
        self.p_offsets.resize(QUERY_BLOCK, 0);
        for state in [&mut self.max, &mut self.sum, &mut self.tile_sum, &mut self.tile_scale, &mut self.rescale] {
            state.resize(QUERY_BLOCK, 0.0);
        }
        self.row.resize(ROWS * dims, 0.0);
        self.row8.resize(ROWS * dims, 0);
    }
}

/// Bytes from a query to the next: whole vectors, and all that its product runs over.
fn query_stride(dims: usize, depth: usize) -> usize {
    dims.max(depth)
}

/// A row whose values are all closer to 0 than this is treated as zeros.
const SMALLEST: f32 = 1e-35;
/// Rows that are quantised together.
const ROWS: usize = 4;
/// How many rows ahead of the current one the prefetch goes.
const ROWS_AHEAD: usize = 8;

/// `out = round(row / scale)` with `scale = max |row| / 127`, or zeros where that maximum is below `smallest`, `stride` apart; the scales and the sums
/// of `out`. The rows hold whole vectors, zero beyond their end.
#[inline(always)]
fn quantize<S: SimdInt>(
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

/// Four rows of `dims` values.
#[inline(always)]
fn four_rows<T>(rows: &[T], dims: usize) -> [&[T]; ROWS] {
    let (first, second) = rows.split_at(2 * dims);
    [&first[..dims], &first[dims..], &second[..dims], &second[dims..2 * dims]]
}

/// Quantised queries and where their outputs are gathered.
struct Block<'a> {
    /// `[rows][stride]`
    queries: &'a [i8],
    stride: usize,
    /// `-128 Σ q`
    offsets: &'a [i32],
    /// Of the scores, with log₂ e in them: whole vectors.
    scales: &'a [f32],
    /// `[rows][dims]`
    output: &'a mut [f32],
    rows: usize,
    dims: usize,
    /// The softmax's state: whole vectors.
    max: &'a mut [f32],
    sum: &'a mut [f32],
}

/// What the tiles of a block are computed in: whole vectors of queries.
struct Steps<'a> {
    /// `[48][64]`
    exponents: &'a mut [f32],
    p: &'a mut [i8],
    p_offsets: &'a mut [i32],
    /// With matrix registers: `[16][64]` and `[groups][16][64]`.
    products: (&'a mut [i32], &'a mut [i32]),
    tile_sum: &'a mut [f32],
    tile_scale: &'a mut [f32],
    rescale: &'a mut [f32],
}

/// See [`crate::Kernels::attend_int`], which has checked the shapes.
#[inline(always)]
pub(crate) fn attend<S: SimdInt>(
    s: S,
    scale: f32,
    queries: MatRef<'_>,
    packed: &IntKeyValues,
    scratch: &mut IntScratch,
    mut out: MatMut<'_>,
) {
    let (head_dim, dims, depth, rows) = (packed.head_dim(), packed.dims(), 4 * packed.quads(), queries.rows());
    let stride = query_stride(dims, depth);
    // One NaN for all, as in `quantize`.
    let scale = if scale.is_nan() { f32::NAN } else { scale };
    scratch.resize(head_dim, depth);
    let matrices = S::MATRICES && packed.for_matrices();
    if matrices {
        scratch.products.grow((1 + dims.div_ceil(GROUP)) * matrices::STEP_SCORES);
    }
    let IntScratch { exponents, p, output, queries: q8, products, query_scales, offsets, row, max, sum, .. } = scratch;
    let (p_offsets, tile_sum) = (&mut scratch.p_offsets, &mut scratch.tile_sum);
    let (tile_scale, rescale) = (&mut scratch.tile_scale, &mut scratch.rescale);
    for first in (0..rows).step_by(ROWS) {
        let present = (rows - first).min(ROWS);
        for query in first..first + present {
            // The rows of one head are far apart in memory, so the CPU's own prefetchers do not predict them.
            let (next, out) = (queries.row((query + ROWS_AHEAD).min(rows - 1)), out.row_mut(query));
            for at in (0..head_dim).step_by(LANES) {
                s.prefetch(next.as_ptr().wrapping_add(at).cast());
                s.prefetch_to_write(out.as_mut_ptr().wrapping_add(at).cast());
            }
        }
        if head_dim < dims || present < ROWS {
            row.fill(0.0);
            for query in 0..present {
                row[query * dims..][..head_dim].copy_from_slice(queries.row(first + query));
            }
        }
        let own = match head_dim < dims || present < ROWS {
            true => four_rows(row, dims),
            false => [queries.row(first), queries.row(first + 1), queries.row(first + 2), queries.row(first + 3)],
        };
        // The last group of four is filled up with zero queries, whose results are never read.
        let (of_rows, totals) = quantize(s, own, SMALLEST, &mut q8[first * stride..], stride);
        for query in 0..ROWS {
            query_scales[first + query] = of_rows[query] * (scale * std::f32::consts::LOG2_E);
            offsets[first + query] = -128 * totals[query];
        }
    }
    output[..rows * dims].fill(0.0);
    max.fill(f32::NEG_INFINITY);
    sum.fill(0.0);
    let block = Block { queries: q8, stride, offsets, scales: query_scales, output, rows, dims, max, sum };
    let products = products.split_at_mut(if matrices { matrices::STEP_SCORES } else { 0 });
    let steps = Steps { exponents, p, p_offsets, products, tile_sum, tile_scale, rescale };
    if matrices {
        matrices::attend(s, packed, block, steps);
    } else {
        dots::attend(s, packed, block, steps);
    }
    for query in 0..rows {
        let scale = packed.value_scale() / sum[query];
        let own = &output[query * dims..][..head_dim];
        for ((out, value), mean) in out.row_mut(query).iter_mut().zip(own).zip(packed.value_mean()) {
            *out = value * scale + mean;
        }
    }
}
