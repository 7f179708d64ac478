//! The tiles of integer attention by dot products: all queries of a block at a time, so that register tiles are whole.

use super::key_values::{IntKeyValues, Tile};
use super::{Block, Steps, TILE_VECTORS, softmax};
use crate::LANES;
use crate::attention::KEY_TILE;
use crate::gemm::{of_this_tile, tile_rows, with_tile};
use crate::simd::int::SimdInt;

/// Gathers the outputs of all tiles.
#[inline(always)]
pub(super) fn attend<S: SimdInt>(s: S, packed: &IntKeyValues, block: Block<'_>, steps: Steps<'_>) {
    let Block { queries, stride, offsets, scales, output, rows, dims, max, sum } = block;
    let Steps { scores, p, tile_sum, tile_scale, rescale, .. } = steps;
    let whole = rows.next_multiple_of(LANES);
    for tile in packed.tiles() {
        let mut query = 0;
        while query < rows {
            let n = tile_rows(rows - query, S::SCORE_TILE.rows);
            let q =
                Queries { data: &queries[query * stride..], stride: of_this_tile(stride), offsets: &offsets[query..] };
            let to = &mut scores[query * KEY_TILE..][..n * KEY_TILE];
            for from in (0..TILE_VECTORS).step_by(S::SCORE_TILE.vectors) {
                with_tile!(n, S::SCORE_TILE, scores_tile::<S>(s, q, tile.keys, from, to));
            }
            query += n;
        }
        softmax::maxima(s, scores, rows, tile, tile_scale);
        for query in (0..rows).step_by(4) {
            let (block, own) = (query * KEY_TILE..(query + 4) * KEY_TILE, query..query + 4);
            let (scales, largest) = (&scales[own.clone()], &tile_scale[own.clone()]);
            softmax::weights::<S, false>(
                s,
                &scores[block.clone()],
                scales,
                largest,
                tile,
                &mut p[block],
                &mut tile_sum[own],
            );
        }
        let state = softmax::State {
            max: &mut max[..whole],
            sum: &mut sum[..whole],
            rescale: &mut rescale[..whole],
            tile: &mut tile_scale[..whole],
            query_scales: &scales[..whole],
            tile_sum: &tile_sum[..whole],
        };
        softmax::rescale(s, state);
        let mut query = 0;
        while query < rows {
            let n = tile_rows(rows - query, S::VALUE_TILE.rows);
            let (rescale, scales) = (&rescale[query..], &tile_scale[query..]);
            let weights = Weights { p: &p[query * KEY_TILE..], rescale, scales };
            let to = &mut output[query * dims..][..n * dims];
            with_tile!(n, S::VALUE_TILE, values_tile::<S>(s, weights, tile, dims, to));
            query += n;
        }
    }
}

/// Quantised queries of a register tile.
#[derive(Clone, Copy)]
struct Queries<'a> {
    data: &'a [i8],
    stride: usize,
    /// `-128 Σ q`
    offsets: &'a [i32],
}

/// `sums[R][64] = q · k`, of which the `N` vectors of keys from vector `from` on.
#[inline(always)]
fn scores_tile<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    q: Queries<'_>,
    keys: &[u8],
    from: usize,
    sums: &mut [i32],
) {
    assert!(q.data.len() >= (R - 1) * q.stride + keys.len() / KEY_TILE && q.offsets.len() >= R);
    assert!(sums.len() == R * KEY_TILE && from + N <= TILE_VECTORS);
    let quads = keys.len() / (4 * KEY_TILE);
    // SAFETY: whole quads of keys; as many activations of every query (asserted above); with all vectors, the tile begins where the keys do.
    let acc = unsafe {
        let whole = match N {
            TILE_VECTORS => s.matrix8(q.data.as_ptr(), q.stride, keys.as_ptr(), quads, q.offsets),
            _ => None,
        };
        match whole {
            Some(acc) => acc,
            None => score_sums::<S, R, N>(s, q, keys, from),
        }
    };
    // By reference: by value, the accumulators went through memory (measured: 1.6 times as slow).
    for (r, acc) in acc.iter().enumerate() {
        for (n, acc) in acc.iter().enumerate() {
            // SAFETY: 64 sums a row.
            unsafe { s.store_i32(sums.as_mut_ptr().add(r * KEY_TILE + (from + n) * LANES), *acc) };
        }
    }
}

/// The sums of [`scores_tile`] by dot products.
///
/// # Safety
/// `keys` are whole quads; `q` has `R` queries of as many activations; `from + N <= 4`.
#[inline(always)]
unsafe fn score_sums<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    q: Queries<'_>,
    keys: &[u8],
    from: usize,
) -> [[S::I; N]; R] {
    let mut acc = [[s.splat_i32(0); N]; R];
    for (acc, &offset) in acc.iter_mut().zip(q.offsets) {
        *acc = [s.start8(offset); N];
    }
    for (quad, keys) in keys.chunks_exact(4 * KEY_TILE).enumerate() {
        // SAFETY: 256 bytes of keys; four bytes of every query.
        unsafe {
            let keys = keys.as_ptr().add(64 * from);
            let mut k = [s.load_w8(keys); N];
            for (n, k) in k.iter_mut().enumerate().skip(1) {
                *k = s.load_w8(keys.add(64 * n));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = s.broadcast_a8(q.data.as_ptr().add(r * q.stride + quad * 4));
                for n in 0..N {
                    acc[n] = s.dot8(acc[n], k[n], a);
                }
            }
        }
    }
    acc
}

/// The weights of a register tile's queries.
#[derive(Clone, Copy)]
struct Weights<'a> {
    /// `[R][64]`
    p: &'a [i16],
    rescale: &'a [f32],
    /// Of the products, `2^(m_t - m) / 16,384`.
    scales: &'a [f32],
}

/// `output[R][dims] = output · rescale + (P · V) · scales · scale`, `N` vectors at a time as long as there are so many.
#[inline(always)]
fn values_tile<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    weights: Weights<'_>,
    tile: Tile<'_>,
    dims: usize,
    output: &mut [f32],
) {
    let mut col = 0;
    while col + N * LANES <= dims {
        values_columns::<S, R, N>(s, weights, tile, dims, col, output);
        col += N * LANES;
    }
    while N > 2 && col + 2 * LANES <= dims {
        values_columns::<S, R, 2>(s, weights, tile, dims, col, output);
        col += 2 * LANES;
    }
    while N > 1 && col < dims {
        values_columns::<S, R, 1>(s, weights, tile, dims, col, output);
        col += LANES;
    }
}

/// `N` vectors of the outputs from column `col` on.
#[inline(always)]
fn values_columns<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    weights: Weights<'_>,
    tile: Tile<'_>,
    dims: usize,
    col: usize,
    output: &mut [f32],
) {
    let (values, pairs) = (tile.values, tile.present.div_ceil(2));
    assert!(weights.p.len() >= R * KEY_TILE && pairs <= KEY_TILE / 2 && values.len() == KEY_TILE * dims);
    assert!(col + N * LANES <= dims && output.len() == R * dims);
    let mut acc = [[s.splat_i32(0); N]; R];
    for pair in 0..pairs {
        // SAFETY: pair < 32 of the tile's rows of 2 · dims values, of which 32 N begin at column `col`; a pair of every row of P.
        unsafe {
            let row = values.as_ptr().add((pair * dims + col) * 2);
            let mut v = [s.load_pairs(row); N];
            for (n, v) in v.iter_mut().enumerate().skip(1) {
                *v = s.load_pairs(row.add(n * 2 * LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let p = s.broadcast_pair(weights.p.as_ptr().add(r * KEY_TILE + pair * 2));
                for n in 0..N {
                    acc[n] = s.dot16(acc[n], v[n], p);
                }
            }
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        let (rescale, scale) = (s.splat(weights.rescale[r]), s.splat(weights.scales[r] * tile.scale));
        for (n, acc) in acc.into_iter().enumerate() {
            // SAFETY: inside the row, asserted above.
            unsafe {
                let at = output.as_mut_ptr().add(r * dims + col + n * LANES);
                s.store(at, s.mul_add(s.to_f32(acc), scale, s.mul(s.load(at), rescale)));
            }
        }
    }
}
