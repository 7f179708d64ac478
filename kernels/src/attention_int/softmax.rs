//! The online softmax of integer attention.

use super::block::{KEY_TILE_VECTORS, P_MIDDLE, P_ONE};
use super::key_values::Tile;
use crate::attention::{KEY_TILE, QUERY_BLOCK};
use crate::layout::LANES;
use crate::simd::int::SimdInt;
use crate::simd::math;

/// What turns a query's integer products with the 64 keys of a tile into exponents: factors of the keys and of the query, and an addend for
/// each key.
#[derive(Clone, Copy)]
pub(super) struct Scales<'a> {
    pub keys: &'a [f32],
    /// Added to the exponents; -∞ for keys beyond the last token.
    pub value_logs: &'a [f32],
    pub query: f32,
}

impl<'a> Scales<'a> {
    #[inline(always)]
    pub(super) fn new(tile: Tile<'a>, query: f32) -> Self {
        assert!([tile.key_scales.len(), tile.value_logs.len()] == [KEY_TILE; 2]);
        Scales { keys: tile.key_scales, value_logs: tile.value_logs, query }
    }

    /// The exponents `y` of a query's products with the keys of vector `vector`, below [`KEY_TILE_VECTORS`].
    #[inline(always)]
    pub(super) fn exponents<S: SimdInt>(self, s: S, products: S::I, vector: usize) -> S::V {
        debug_assert!(vector < KEY_TILE_VECTORS);
        // SAFETY: 64 of each, by `new`.
        unsafe {
            let of_keys = s.mul(s.to_f32(products), s.load(self.keys.as_ptr().add(vector * LANES)));
            s.mul_add(of_keys, s.splat(self.query), s.load(self.value_logs.as_ptr().add(vector * LANES)))
        }
    }
}

/// The largest of the exponents `[rows][64]` of each query.
///
/// This is done apart from [`weights`], because the chain of operations from a row's values to its maximum is long: there it would delay the
/// exponentials.
#[inline(always)]
pub(super) fn maxima<S: SimdInt>(s: S, exponents: &[f32], rows: usize, largest: &mut [f32]) {
    let queries = rows.next_multiple_of(4);
    assert!(largest.len() >= queries && exponents.len() >= queries * KEY_TILE);
    // The last group of four may reach beyond the last query; those results are never read.
    for query in (0..rows).step_by(4) {
        let mut widest = [s.splat(0.0); 4];
        for (row, widest) in widest.iter_mut().enumerate() {
            let mut y = [s.splat(0.0); KEY_TILE_VECTORS];
            for (i, y) in y.iter_mut().enumerate() {
                // SAFETY: 64 exponents of a row.
                *y = unsafe { s.load(exponents.as_ptr().add((query + row) * KEY_TILE + i * LANES)) };
            }
            *widest = s.max(s.max(y[0], y[1]), s.max(y[2], y[3]));
        }
        largest[query..query + 4].copy_from_slice(&s.reduce_max4(widest));
    }
}

/// Turns the exponents of four queries into weights `P` in units of 1/254 of the tile's largest, and writes `P - 127` to `p`. `sums` become the
/// queries' sums of weights before rounding, with the values' scales divided out. With `OFFSETS`, `offsets` become -128 times the sums of
/// `P - 127`, else they stay.
#[inline(always)]
pub(super) fn weights<S: SimdInt, const OFFSETS: bool>(
    s: S,
    exponents: &[f32],
    largest: &[f32],
    tile: Tile<'_>,
    p: &mut [i8],
    sums: &mut [f32],
    offsets: &mut [i32],
) {
    assert!(exponents.len() == 4 * KEY_TILE && p.len() == 4 * KEY_TILE && tile.value_inverses.len() == KEY_TILE);
    let (mut totals, mut bytes) = ([s.splat(0.0); 4], [s.splat(0.0); 4]);
    let (one, middle) = (s.splat(P_ONE), s.splat(-P_MIDDLE));
    for (query, (total, bytes)) in totals.iter_mut().zip(&mut bytes).enumerate() {
        let largest = s.splat(largest[query]);
        let mut x = [s.splat(0.0); KEY_TILE_VECTORS];
        for (i, x) in x.iter_mut().enumerate() {
            // SAFETY: 4 x 64 exponents.
            let y = unsafe { s.load(exponents.as_ptr().add(query * KEY_TILE + i * LANES)) };
            *x = s.sub(y, largest);
        }
        let v = math::exp2_fast_each(s, x);
        let mut centred = v;
        for (centred, v) in centred.iter_mut().zip(v) {
            *centred = s.mul_add(v, one, middle);
        }
        // SAFETY: 4 x 64 weights, 64 of the values' scales.
        unsafe {
            *bytes = s.store_i8x64(p.as_mut_ptr().add(query * KEY_TILE), centred);
            let inverses = tile.value_inverses.as_ptr();
            let pair = [s.mul(v[0], s.load(inverses)), s.mul(v[1], s.load(inverses.add(LANES)))];
            let first = s.mul_add(v[2], s.load(inverses.add(2 * LANES)), pair[0]);
            let second = s.mul_add(v[3], s.load(inverses.add(3 * LANES)), pair[1]);
            *total = s.add(first, second);
        }
    }
    sums.copy_from_slice(&s.reduce4(totals));
    if OFFSETS {
        // The product with the values ends at the last quad that has a token. The keys beyond it have `P - 127 = -127`, which the sum must not
        // contain.
        let beyond = (KEY_TILE - tile.present.next_multiple_of(4)) as f32 * P_MIDDLE;
        for (offset, sum) in offsets.iter_mut().zip(s.reduce4(bytes)) {
            *offset = -128 * (sum + beyond) as i32;
        }
    }
}

/// The softmax state of a block of queries, and what one tile of keys adds to it: an element for each query, whole vectors.
pub(super) struct State<'a> {
    /// The largest exponent so far. Exponents include the scale of the key's value.
    pub max: &'a mut [f32],
    /// The sum of the weights relative to `max`, without the values' scales.
    pub sum: &'a mut [f32],
    /// Becomes `2^(max before - max)`, by which earlier sums and outputs are multiplied.
    pub rescale: &'a mut [f32],
    /// The tile's largest exponent; becomes `2^(largest - max) / 254`, by which the tile's products are multiplied.
    pub tile: &'a mut [f32],
    /// The sum of the tile's weights relative to its own largest, without the values' scales.
    pub tile_sum: &'a [f32],
}

/// Updates the state after a tile: `max` becomes the larger of itself and the tile's largest exponent, `sum` becomes
/// `sum · rescale + tile_sum · 2^(largest - max)`.
#[inline(always)]
pub(super) fn rescale<S: SimdInt>(s: S, state: State<'_>) {
    let State { max, sum, rescale, tile, tile_sum } = state;
    let len = max.len();
    assert!(len.is_multiple_of(LANES) && len <= QUERY_BLOCK);
    assert!([rescale.len(), tile.len(), sum.len(), tile_sum.len()] == [len; 4]);
    for at in (0..len).step_by(LANES) {
        // SAFETY: whole vectors of the five.
        unsafe {
            let own = s.load(tile.as_ptr().add(at));
            let before = s.load(max.as_ptr().add(at));
            let now = s.max(before, own);
            let factor = math::exp2_fast(s, s.sub(before, now));
            let own = math::exp2_fast(s, s.sub(own, now));
            s.store(max.as_mut_ptr().add(at), now);
            s.store(rescale.as_mut_ptr().add(at), factor);
            s.store(tile.as_mut_ptr().add(at), s.mul(own, s.splat(1.0 / P_ONE)));
            let earlier = s.mul(s.load(sum.as_ptr().add(at)), factor);
            s.store(sum.as_mut_ptr().add(at), s.mul_add(s.load(tile_sum.as_ptr().add(at)), own, earlier));
        }
    }
}
