//! Attention of one head with integer products: the algorithm of `attention.rs`, but both of its products are exact sums of products of bytes.
//!
//! ```text
//! k ← k - mean(k)                       does not change the softmax; the part that all keys share would waste the range of a byte
//! v ← v - mean(v)                       weights sum to 1, so the whole mean is added to the output, even if small weights are rounded to 0
//!                                       (any row could be subtracted; in this mean, large rows count no more than others)
//! q, k, v → int8, a scale a row         y = acc · scale_q · scale_k · log₂ e + log₂ (scale_v / max scale_v)
//! P = 2^(y - m_t) → 0 ..= 254           m_t: the tile's largest y. A key's weight contains the scale of its value. Each tile has its own
//!                                       m_t, because many small weights may together count as much as one large weight in another tile.
//!                                       Weights below 1/508 of the tile's largest become 0, so that their values count as the mean
//! O = O·c + acc · 2^(m_t - m) / 254     sum = sum·c + Σ P / (scale_v / max scale_v) · 2^(m_t - m), with P before it is rounded;
//!                                       m: the largest y so far; c = 2^(m before - m)
//! out = O · max scale_v / sum + mean(v)
//! ```
//! Keys and values are laid out like the weights of an int8 product (`[quads][64][4]`; for dot products as bytes `+ 128`): keys in quads of
//! dimensions, values in quads of keys for 64 dimensions. So both products are computed by the same code, dot products in [`dots`] or matrix
//! registers in [`matrices`]. `P` is multiplied as `P - 127`, a signed byte, and `127 Σ v` of the tile is added.
//! Bounds: `|q·k| <= head_dim · 127 · 255 < 2^31` up to a `head_dim` of 65,536; `|P·V| <= 64 · 254 · 127`.

mod block;
mod dots;
mod key_values;
mod matrices;
mod quantize;
mod scratch;
mod softmax;

pub use key_values::IntKeyValues;
pub(crate) use key_values::pack;
pub use scratch::IntScratch;

use self::block::{Block, GROUP, Steps};
use self::quantize::{ROWS, ROWS_AHEAD, SMALLEST, four_rows, quantize};
use self::scratch::query_stride;
use crate::attention::QUERY_BLOCK;
use crate::layout::LANES;
use crate::simd::int::SimdInt;
use crate::view::{MatMut, MatRef};

// The softmax of a block of queries is computed for four queries, or for sixteen, at a time.
const _: () = assert!(QUERY_BLOCK.is_multiple_of(LANES));

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
    // Every NaN becomes the same NaN, for the reason that `quantize` gives.
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
            // The rows of one head are far apart in memory, so the CPU's own prefetchers do not find them.
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
