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
/// not exist -∞. `largest` becomes the largest of each query, whose own scale is not in it yet.
///
/// A pass of its own: what takes long here, from a row's values to their largest, would keep the exponentials of the next step waiting.
#[inline(always)]
pub(super) fn maxima<S: SimdInt>(s: S, products: &mut [i32], rows: usize, tile: Tile<'_>, largest: &mut [f32]) {
    match tile.present {
        KEY_TILE => maxima_of::<S, false>(s, products, rows, tile, largest),
        _ => maxima_of::<S, true>(s, products, rows, tile, largest),
    }
}

#[inline(always)]
fn maxima_of<S: SimdInt, const PART: bool>(
    s: S,
    products: &mut [i32],
    rows: usize,
    tile: Tile<'_>,
    largest: &mut [f32],
) {
    let queries = rows.next_multiple_of(4);
    assert!(largest.len() >= queries && products.len() >= queries * KEY_TILE && tile.key_scales.len() == KEY_TILE);
    let beyond = &BEYOND[KEY_TILE - tile.present..][..KEY_TILE];
    // What the last four have beyond the last query is computed and not read.
    for query in (0..rows).step_by(4) {
        let mut widest = [s.splat(0.0); 4];
        for (row, widest) in widest.iter_mut().enumerate() {
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
            *widest = s.max(s.max(v[0], v[1]), s.max(v[2], v[3]));
        }
        largest[query..query + 4].copy_from_slice(&s.reduce_max4(widest));
    }
}

/// Turns what [`maxima`] has left of four queries into `P` in units of `1 / 16,384` of the largest, as the product with the values takes them;
/// `sums` become those of `P`. `DIGITS`: for matrix registers.
#[inline(always)]
pub(super) fn weights<S: SimdInt, const DIGITS: bool>(
    s: S,
    scores: &[i32],
    query_scales: &[f32],
    largest: &[f32],
    tile: Tile<'_>,
    p: &mut [i16],
    sums: &mut [f32],
) {
    match tile.present {
        KEY_TILE => weights_of::<S, DIGITS, false>(s, scores, query_scales, largest, p, sums),
        _ => weights_of::<S, DIGITS, true>(s, scores, query_scales, largest, p, sums),
    }
}

#[inline(always)]
fn weights_of<S: SimdInt, const DIGITS: bool, const PART: bool>(
    s: S,
    scores: &[i32],
    query_scales: &[f32],
    largest: &[f32],
    p: &mut [i16],
    sums: &mut [f32],
) {
    assert!(scores.len() == 4 * KEY_TILE && p.len() == 4 * KEY_TILE);
    let mut totals = [s.splat(0.0); 4];
    for (query, total) in totals.iter_mut().enumerate() {
        let (scale, largest) = (s.splat(query_scales[query]), s.splat(largest[query]));
        let mut x = [s.splat(0.0); TILE_VECTORS];
        for (i, x) in x.iter_mut().enumerate() {
            // SAFETY: 4 x 64 scores, the bits of f32.
            let score = unsafe { s.load(scores.as_ptr().add(query * KEY_TILE + i * LANES).cast()) };
            // First the difference: 0 for the largest, however large it is, and for none above.
            *x = s.mul(s.sub(score, largest), scale);
            if PART {
                // A scale of 0 has made NaN of the -∞ of a key that does not exist.
                *x = s.select_lt(score, s.splat(f32::MIN), score, *x);
            }
        }
        let v = math::exp2_scaled::<S, { P_ONE.ilog2() }, TILE_VECTORS>(s, x);
        // SAFETY: 4 x 64 weights.
        unsafe { s.store_weights::<DIGITS>(p.as_mut_ptr().add(query * KEY_TILE), v) };
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
    /// The tile's largest without the queries' scales; becomes `2^(largest · scale - max) / 16,384`, by which the tile's are multiplied.
    pub tile: &'a mut [f32],
    pub query_scales: &'a [f32],
    pub tile_sum: &'a [f32],
}

/// `max` takes in the tile's, and `sum ← sum · rescale + tile_sum · tile`.
#[inline(always)]
pub(super) fn rescale<S: SimdInt>(s: S, state: State<'_>) {
    let State { max, sum, rescale, tile, query_scales, tile_sum } = state;
    let len = max.len();
    assert!(len.is_multiple_of(LANES) && len <= QUERY_BLOCK);
    assert!([rescale.len(), tile.len(), sum.len(), tile_sum.len(), query_scales.len()] == [len; 5]);
    for at in (0..len).step_by(LANES) {
        // SAFETY: whole vectors of the six.
        unsafe {
            let own = s.mul(s.load(tile.as_ptr().add(at)), s.load(query_scales.as_ptr().add(at)));
            let before = s.load(max.as_ptr().add(at));
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
