//! Integer attention whose two products are computed with dot-product instructions. All queries of a block are multiplied with one tile of keys
//! before the next, so that register tiles are full.

use super::block::{Block, GROUP, KEY_TILE_VECTORS, Steps};
use super::key_values::{IntKeyValues, Tile};
use super::softmax;
use crate::attention::KEY_TILE;
use crate::gemm::tiles::{of_this_tile, tile_rows, with_tile};
use crate::layout::LANES;
use crate::simd::int::SimdInt;

/// Attends with all queries of the block to all tiles of keys, and sums the outputs up in `block`.
#[inline(always)]
pub(super) fn attend<S: SimdInt>(s: S, packed: &IntKeyValues, block: Block<'_>, steps: Steps<'_>) {
    let Block { queries, stride, offsets, scales, output, rows, dims, max, sum } = block;
    let Steps { exponents, p, p_offsets, tile_sum, tile_scale, rescale, .. } = steps;
    let whole = rows.next_multiple_of(LANES);
    for tile in packed.tiles() {
        let mut query = 0;
        while query < rows {
            let n = tile_rows(rows - query, S::SCORE_TILE.rows);
            let q = Rows { data: &queries[query * stride..], stride: of_this_tile(stride), offsets: &offsets[query..] };
            let to = &mut exponents[query * KEY_TILE..][..n * KEY_TILE];
            for from in (0..KEY_TILE_VECTORS).step_by(S::SCORE_TILE.vectors) {
                with_tile!(n, S::SCORE_TILE, |R, N| scores_tile::<S, R, N>(s, q, tile, &scales[query..], from, to));
            }
            query += n;
        }
        softmax::maxima(s, exponents, rows, tile_scale);
        for query in (0..rows).step_by(4) {
            let (block, own) = (query * KEY_TILE..(query + 4) * KEY_TILE, query..query + 4);
            let (sums, offsets) = (&mut tile_sum[own.clone()], &mut p_offsets[own.clone()]);
            let (exponents, p) = (&exponents[block.clone()], &mut p[block]);
            softmax::weights::<S, true>(s, exponents, &tile_scale[own], tile, p, sums, offsets);
        }
        let state = softmax::State {
            max: &mut max[..whole],
            sum: &mut sum[..whole],
            rescale: &mut rescale[..whole],
            tile: &mut tile_scale[..whole],
            tile_sum: &tile_sum[..whole],
        };
        softmax::rescale(s, state);
        let mut query = 0;
        while query < rows {
            let n = tile_rows(rows - query, S::SCORE_TILE.rows);
            let p = Rows { data: &p[query * KEY_TILE..], stride: of_this_tile(KEY_TILE), offsets: &p_offsets[query..] };
            let weights = Weights { p, rescale: &rescale[query..], scales: &tile_scale[query..] };
            let to = &mut output[query * dims..][..n * dims];
            with_tile!(n, S::SCORE_TILE, |R, N| values_tile::<S, R, N>(s, weights, tile, dims, to));
            query += n;
        }
    }
}

/// Rows of bytes that a register tile multiplies: queries, or weights of the softmax (`P - 127`).
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [i8],
    stride: usize,
    /// -128 times the sum of each row.
    offsets: &'a [i32],
}

/// Multiplies `R` queries with `N` vectors of a tile's keys, those from vector `from` on, and writes their part of the exponents `[R][64]`.
#[inline(always)]
fn scores_tile<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    q: Rows<'_>,
    tile: Tile<'_>,
    query_scales: &[f32],
    from: usize,
    exponents: &mut [f32],
) {
    assert!(exponents.len() == R * KEY_TILE && query_scales.len() >= R);
    let acc = products::<S, R, N>(s, q, tile.keys, from);
    // By reference: iterating by value made the compiler move the accumulators through memory (EXPERIMENTS.md).
    for (r, acc) in acc.iter().enumerate() {
        let scales = softmax::Scales::new(tile, query_scales[r]);
        for (n, acc) in acc.iter().enumerate() {
            // SAFETY: 64 exponents a row.
            unsafe {
                let at = exponents.as_mut_ptr().add(r * KEY_TILE + (from + n) * LANES);
                s.store(at, scales.exponents(s, *acc, from + n));
            }
        }
    }
}

/// The products `[R][16 N]` of `R` rows with keys or values that are laid out as `[quads][64][4]`: with `N` of their four vectors, from vector
/// `from` on.
#[inline(always)]
fn products<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    rows: Rows<'_>,
    stored: &[u8],
    from: usize,
) -> [[S::I; N]; R] {
    let quads = stored.len() / (4 * KEY_TILE);
    assert!(rows.data.len() >= (R - 1) * rows.stride + 4 * quads && rows.offsets.len() >= R);
    assert!(from + N <= KEY_TILE_VECTORS);
    // SAFETY: whole quads; as many bytes of every row (asserted above); with all vectors, the tile begins where the quads do.
    unsafe {
        let whole = match N {
            KEY_TILE_VECTORS => s.matrix8(rows.data.as_ptr(), rows.stride, stored.as_ptr(), quads, rows.offsets),
            _ => None,
        };
        match whole {
            Some(acc) => acc,
            None => dot_products::<S, R, N>(s, rows, stored, from),
        }
    }
}

/// The sums of [`products`], computed by dot products.
///
/// # Safety
/// `stored` are whole quads; there are `R` rows of as many bytes; `from + N <= 4`.
#[inline(always)]
unsafe fn dot_products<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    rows: Rows<'_>,
    stored: &[u8],
    from: usize,
) -> [[S::I; N]; R] {
    let mut acc = [[s.splat_i32(0); N]; R];
    for (acc, &offset) in acc.iter_mut().zip(rows.offsets) {
        *acc = [s.start8(offset); N];
    }
    for (quad, stored) in stored.chunks_exact(4 * KEY_TILE).enumerate() {
        // SAFETY: 256 bytes; four bytes of every row.
        unsafe {
            s.add_quad8(&mut acc, rows.data.as_ptr().add(quad * 4), rows.stride, stored.as_ptr().add(64 * from));
        }
    }
    acc
}

/// The softmax weights of a register tile's queries.
#[derive(Clone, Copy)]
struct Weights<'a> {
    /// `P - 127`, `[R][64]`
    p: Rows<'a>,
    /// The factor of each query's output so far.
    rescale: &'a [f32],
    /// The factor of each query's products, `2^(m_t - m) / 254`.
    scales: &'a [f32],
}

/// `output[R][dims] = output · rescale + (P · V) · scales`, `N` vectors at a time as long as that many are left.
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

/// [`values_tile`] for the `N` vectors of outputs from column `col` on, all of them in one group.
#[inline(always)]
fn values_columns<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    weights: Weights<'_>,
    tile: Tile<'_>,
    dims: usize,
    col: usize,
    output: &mut [f32],
) {
    let quads = tile.present.div_ceil(4);
    let group = &tile.values[col / GROUP * KEY_TILE * GROUP..][..quads * 4 * GROUP];
    assert!(col + N * LANES <= dims && output.len() == R * dims && tile.value_sums.len() >= dims);
    let acc = products::<S, R, N>(s, weights.p, group, col % GROUP / LANES);
    for (r, acc) in acc.iter().enumerate() {
        let (rescale, scale) = (s.splat(weights.rescale[r]), s.splat(weights.scales[r]));
        for (n, acc) in acc.iter().enumerate() {
            // SAFETY: inside the row and the sums, asserted above.
            unsafe {
                let of_middle = s.load_i32(tile.value_sums.as_ptr().add(col + n * LANES));
                let at = output.as_mut_ptr().add(r * dims + col + n * LANES);
                let own = s.to_f32(s.add_i32(*acc, of_middle));
                s.store(at, s.mul_add(own, scale, s.mul(s.load(at), rescale)));
            }
        }
    }
}
