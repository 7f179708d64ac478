//! The tiles of integer attention by registers that hold matrices: sixteen queries and 64 keys a step.
//!
//! A step waits for none of its own products: those with the keys were asked for while the step before was at its exponentials, and those with the
//! values are added while the step behind is.
//!
//! ```text
//! for each step, all tiles of sixteen queries after each other
//!   P V of the step before; Q Kᵀ of the step behind      matrix registers
//!   P of this step                                       vectors from here on
//!   output += P V of the step before
//!   the largest scores of the step behind
//! ```

use super::key_values::{IntKeyValues, Tile};
use super::{Block, Steps, softmax};
use crate::LANES;
use crate::attention::{KEY_TILE, QUERY_BLOCK};
use crate::gemm::matrix::{Registers, STEP, TILE};
use crate::simd::int::SimdInt;

/// Sums of products of digits for 16 queries and 16 dimensions.
pub(super) const DIGIT_SUMS: usize = 3 * TILE * LANES;
/// Elements of the digits of 64 values in 16 dimensions.
const GROUP_VALUES: usize = KEY_TILE * LANES;
/// Elements of a step's scores, and of its weights.
const STEP_SCORES: usize = TILE * KEY_TILE;
// Steps go by vectors of queries, and two are at work at a time.
const _: () = assert!(TILE == LANES && 2 * TILE <= QUERY_BLOCK);

/// Gathers the outputs of all tiles.
#[inline(always)]
pub(super) fn attend<S: SimdInt>(s: S, packed: &IntKeyValues, block: Block<'_>, at_work: Steps<'_>) {
    let Block { queries, stride, scales, output, rows, dims, max, sum, .. } = block;
    let Steps { scores, p, digits, tile_sum, tile_scale, rescale } = at_work;
    let blocks = rows.div_ceil(TILE);
    let place = |step: usize| {
        let first = step % blocks * TILE;
        Place { tile: packed.tile(step / blocks), first, queries: (rows - first).min(TILE) }
    };
    let steps = packed.tiles().len() * blocks;
    let _configured = Registers::configure(s, TILE, STEP);
    let (mut before, mut now, mut next) = (None, None, (steps > 0).then(|| place(0)));
    for step in 0..steps + 2 {
        // Which half of the buffers belongs to the step `now`, and which to those before and behind.
        let (own, other) = (step % 2 * TILE, (step + 1) % 2 * TILE);
        if let Some(Place { tile, .. }) = before {
            digit_products(s, &p[other * KEY_TILE..][..STEP_SCORES], tile, dims / LANES, digits);
        }
        if let Some(Place { tile, first, .. }) = next {
            products(s, &queries[first * stride..], stride, tile, &mut scores[other * KEY_TILE..][..STEP_SCORES]);
        }
        if let Some(Place { tile, first, queries }) = now {
            // What the last four have beyond the last query is computed and not read.
            for query in (0..queries).step_by(4) {
                let at = (own + query) * KEY_TILE..(own + query + 4) * KEY_TILE;
                let (scales, largest) = (&scales[first + query..][..4], &tile_scale[own + query..][..4]);
                let (scores, p, sums) = (&scores[at.clone()], &mut p[at], &mut tile_sum[query..query + 4]);
                softmax::weights::<S, true>(s, scores, scales, largest, tile, p, sums);
            }
            let state = softmax::State {
                max: &mut max[first..first + TILE],
                sum: &mut sum[first..first + TILE],
                rescale: &mut rescale[own..own + TILE],
                tile: &mut tile_scale[own..own + TILE],
                query_scales: &scales[first..first + TILE],
                tile_sum: &tile_sum[..TILE],
            };
            softmax::rescale(s, state);
        }
        if let Some(Place { tile, first, queries }) = before {
            let output = &mut output[first * dims..][..queries * dims];
            let (rescale, scales) = (&rescale[other..other + TILE], &tile_scale[other..other + TILE]);
            add_values(s, digits, rescale, scales, tile.scale, dims, output);
        }
        if let Some(Place { tile, queries, .. }) = next {
            let scores = &mut scores[other * KEY_TILE..][..STEP_SCORES];
            softmax::maxima(s, scores, queries, tile, &mut tile_scale[other..other + TILE]);
        }
        (before, now, next) = (now, next, (step + 1 < steps).then(|| place(step + 1)));
    }
}

/// A step: a tile of keys, and its queries.
#[derive(Clone, Copy)]
struct Place<'a> {
    tile: Tile<'a>,
    first: usize,
    queries: usize,
}

/// The products of 16 queries with the keys of a tile: `sums[16][64]`.
#[inline(always)]
fn products<S: SimdInt>(s: S, queries: &[i8], stride: usize, tile: Tile<'_>, sums: &mut [i32]) {
    let depth = tile.keys.len() / KEY_TILE;
    assert!(depth > 0 && depth.is_multiple_of(STEP) && queries.len() >= (TILE - 1) * stride + depth);
    assert!(sums.len() == STEP_SCORES);
    // SAFETY: the registers are configured by the caller; 16 queries of that depth, as many keys, and room for the sums.
    unsafe { s.matrix_scores(queries.as_ptr(), stride, tile.keys.as_ptr(), depth / STEP, sums.as_mut_ptr()) }
}

/// The products of the digits of 16 queries' weights with those of the values, in `groups` of 16 dimensions.
#[inline(always)]
fn digit_products<S: SimdInt>(s: S, p: &[i16], tile: Tile<'_>, groups: usize, sums: &mut [i32]) {
    assert!(p.len() == STEP_SCORES && groups > 0 && tile.values.len() == groups * GROUP_VALUES);
    assert!(sums.len() >= groups * DIGIT_SUMS);
    // SAFETY: the registers are configured by the caller; 16 rows of weights and 64 values of those dimensions in two digits; room for the sums.
    unsafe { s.matrix_values(p.as_ptr().cast(), tile.values.as_ptr().cast(), groups, sums.as_mut_ptr()) }
}

/// `output[n][dims] = output · rescale + (P · V) · scales · scale`, of the products of digits.
#[inline(always)]
fn add_values<S: SimdInt>(
    s: S,
    digits: &[i32],
    rescale: &[f32],
    scales: &[f32],
    scale: f32,
    dims: usize,
    output: &mut [f32],
) {
    let groups = dims / LANES;
    assert!(digits.len() >= groups * DIGIT_SUMS && output.len() <= TILE * dims);
    for (r, row) in output.chunks_exact_mut(dims).enumerate() {
        let (rescale, scale) = (s.splat(rescale[r]), s.splat(scales[r] * scale));
        for group in 0..groups {
            // SAFETY: a row of each of the group's three sums; a vector of the outputs.
            unsafe {
                let sum = s.sum_digits(digits.as_ptr().add(group * DIGIT_SUMS + r * LANES), TILE * LANES);
                let at = row.as_mut_ptr().add(group * LANES);
                s.store(at, s.mul_add(s.to_f32(sum), scale, s.mul(s.load(at), rescale)));
            }
        }
    }
}
