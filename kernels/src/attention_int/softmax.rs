//! The online softmax of integer attention.

use super::key_values::Tile;
use super::{P_ONE, TILE_VECTORS};
use crate::LANES;
use crate::attention::{KEY_TILE, QUERY_BLOCK};
use crate::simd::int::SimdInt;
use crate::simd::math;

/// 0, then -∞: from `64 - n` on a mask of `n` keys.
static BEYOND: [f32; 2 * KEY_TILE] = {
    let mut mask = [0.0; 2 * KEY_TILE];
    let mut key = KEY_TILE;
    while key < mask.len() {
        mask[key] = f32::NEG_INFINITY;
        key += 1;
    }
    mask
};

/// Multiplies the products `[rows][64]` of queries and keys with the keys' scales, in place: they become the bits of f32, those of keys that do
/// not exist -∞. `max`, whole vectors, becomes the largest score of each query, with its scale in `query_scales`, or a little more.
///
/// A pass of its own: what takes long here, from a row's values to their largest, would keep the exponentials of the next step waiting.
#[inline(always)]
pub(super) fn maxima<S: SimdInt>(
    s: S,
    products: &mut [i32],
    rows: usize,
    query_scales: &[f32],
    tile: Tile<'_>,
    max: &mut [f32],
) {
    match tile.present {
        KEY_TILE => maxima_of::<S, false>(s, products, rows, query_scales, tile, max),
        _ => maxima_of::<S, true>(s, products, rows, query_scales, tile, max),
    }
}

#[inline(always)]
fn maxima_of<S: SimdInt, const PART: bool>(
    s: S,
    products: &mut [i32],
    rows: usize,
    query_scales: &[f32],
    tile: Tile<'_>,
    max: &mut [f32],
) {
    let queries = max.len();
    assert!(queries.is_multiple_of(LANES) && query_scales.len() == queries && products.len() >= queries * KEY_TILE);
    assert!(tile.key_scales.len() == KEY_TILE && rows <= queries);
    let beyond = &BEYOND[KEY_TILE - tile.present..][..KEY_TILE];
    // What the last four have beyond the last query is computed and not read.
    for query in (0..rows).step_by(4) {
        let mut largest = [s.splat(0.0); 4];
        for (row, largest) in largest.iter_mut().enumerate() {
            let mut v = [s.splat(0.0); TILE_VECTORS];
            for (i, v) in v.iter_mut().enumerate() {
                // SAFETY: 64 products of a row, 64 scales, 64 of the mask.
                unsafe {
                    let at = products.as_mut_ptr().add((query + row) * KEY_TILE + i * LANES);
                    *v = s.mul(s.to_f32(s.load_i32(at)), s.load(tile.key_scales.as_ptr().add(i * LANES)));
                    if PART {
                        *v = s.add(*v, s.load(beyond.as_ptr().add(i * LANES)));
                    }
                    s.store(at.cast(), *v);
                }
            }
            *largest = s.max(s.max(v[0], v[1]), s.max(v[2], v[3]));
        }
        max[query..query + 4].copy_from_slice(&s.reduce_max4(largest));
    }
    for at in (0..queries).step_by(LANES) {
        // SAFETY: whole vectors of both.
        unsafe {
            let m = s.mul(s.load(max.as_ptr().add(at)), s.load(query_scales.as_ptr().add(at)));
            // A little above, by more than the product is rounded: no exponent of `weights` is positive.
            let m = s.mul_add(s.abs(m), s.splat(2.0 * f32::EPSILON), m);
            s.store(max.as_mut_ptr().add(at), m);
        }
    }
}

/// Turns what [`maxima`] has left of four queries into `P` in units of `1 / 16,384` of the largest, as the product with the values takes them;
/// `sums` become those of `P`.
#[inline(always)]
pub(super) fn weights<S: SimdInt>(
    s: S,
    scores: &[i32],
    query_scales: &[f32],
    max: &[f32],
    tile: Tile<'_>,
    p: &mut [i16],
    sums: &mut [f32],
) {
    match tile.present {
        KEY_TILE => weights_of::<S, false>(s, scores, query_scales, max, p, sums),
        _ => weights_of::<S, true>(s, scores, query_scales, max, p, sums),
    }
}

#[inline(always)]
fn weights_of<S: SimdInt, const PART: bool>(
    s: S,
    scores: &[i32],
    query_scales: &[f32],
    max: &[f32],
    p: &mut [i16],
    sums: &mut [f32],
) {
    assert!(scores.len() == 4 * KEY_TILE && p.len() == 4 * KEY_TILE);
    let mut totals = [s.splat(0.0); 4];
    for (query, total) in totals.iter_mut().enumerate() {
        let (scale, minus_max) = (s.splat(query_scales[query]), s.splat(-max[query]));
        let mut x = [s.splat(0.0); TILE_VECTORS];
        for (i, x) in x.iter_mut().enumerate() {
            // SAFETY: 4 x 64 scores, the bits of f32.
            let score = unsafe { s.load(scores.as_ptr().add(query * KEY_TILE + i * LANES).cast()) };
            *x = s.mul_add(score, scale, minus_max);
            if PART {
                // A scale of 0 has made NaN of the -∞ of a key that does not exist.
                *x = s.select_lt(score, s.splat(f32::MIN), score, *x);
            }
        }
        let v = math::exp2_scaled::<S, { P_ONE.ilog2() }, TILE_VECTORS>(s, x);
        // SAFETY: 4 x 64 weights.
        unsafe { s.store_weights(p.as_mut_ptr().add(query * KEY_TILE), v) };
        *total = s.add(s.add(v[0], v[1]), s.add(v[2], v[3]));
    }
    sums.copy_from_slice(&s.reduce4(totals));
}

/// What a query block carries from tile to tile, and what a tile adds: `[queries]`, whole vectors of them.
pub(super) struct State<'a> {
    /// The largest score so far.
    pub max: &'a mut [f32],
    /// `Σ P`, relative to it.
    pub sum: &'a mut [f32],
    /// Becomes `2^(max before - max)`, by which earlier sums and outputs are multiplied.
    pub rescale: &'a mut [f32],
    /// The tile's largest score; becomes `2^(tile - max) / 16,384`, by which the tile's are.
    pub tile: &'a mut [f32],
    pub tile_sum: &'a [f32],
}

/// `max` takes in the tile's, and `sum ← sum · rescale + tile_sum · tile`.
#[inline(always)]
pub(super) fn rescale<S: SimdInt>(s: S, state: State<'_>) {
    let State { max, sum, rescale, tile, tile_sum } = state;
    let len = max.len();
    assert!(len.is_multiple_of(LANES) && len <= QUERY_BLOCK);
    assert!([rescale.len(), tile.len(), sum.len(), tile_sum.len()] == [len; 4]);
    for at in (0..len).step_by(LANES) {
        // SAFETY: whole vectors of the five.
        unsafe {
            let (before, own) = (s.load(max.as_ptr().add(at)), s.load(tile.as_ptr().add(at)));
            let now = s.max(before, own);
            let factor = math::exp2_fast(s, s.sub(before, now));
            let own = s.mul(math::exp2_fast(s, s.sub(own, now)), s.splat(1.0 / P_ONE as f32));
            s.store(max.as_mut_ptr().add(at), now);
            s.store(rescale.as_mut_ptr().add(at), factor);
            s.store(tile.as_mut_ptr().add(at), own);
            let earlier = s.mul(s.load(sum.as_ptr().add(at)), factor);
            s.store(sum.as_mut_ptr().add(at), s.mul_add(s.load(tile_sum.as_ptr().add(at)), own, earlier));
        }
    }
}
