//! Integer attention with matrix registers. Each step multiplies sixteen queries with a tile of 64 keys.
//!
//! Steps are pipelined, so that none waits for its own products: a step's products with the keys are computed while the previous step computes
//! its exponentials, and its products with the values while the next step computes its own exponentials.
//!
//! ```text
//! for each tile of keys, for each sixteen queries of the block
//!   P V of the step before; Q Kᵀ of the step after       by matrix registers
//!   P of this step                                       by vector registers, like all that follows
//!   output += P V of the step before
//!   the exponents of the step after, and their largest
//! ```

use super::block::{Block, GROUP, KEY_TILE_VECTORS, Steps};
use super::key_values::{IntKeyValues, Tile};
use super::softmax;
use crate::attention::{KEY_TILE, QUERY_BLOCK};
use crate::gemm::matrix::Registers;
use crate::layout::{LANES, MATRIX_STEP, MATRIX_TILE};
use crate::simd::int::SimdInt;

/// Number of elements of a step's scores, of its `P`, and of its products with a group of values.
pub(super) const STEP_SCORES: usize = MATRIX_TILE * KEY_TILE;
// A step has a vector of queries, and the buffers hold two steps at a time; the keys of a tile are the depth of a matrix register.
const _: () =
    assert!(MATRIX_TILE == LANES && 2 * MATRIX_TILE <= QUERY_BLOCK && MATRIX_STEP == KEY_TILE && GROUP == KEY_TILE);

/// Attends with all queries of the block to all tiles of keys, and sums the outputs up in `block`.
#[inline(always)]
pub(super) fn attend<S: SimdInt>(s: S, packed: &IntKeyValues, block: Block<'_>, at_work: Steps<'_>) {
    let Block { queries, stride, scales, output, rows, dims, max, sum, .. } = block;
    let Steps { exponents, p, p_offsets, products: (of_keys, of_values), tile_sum, tile_scale, rescale } = at_work;
    let blocks = rows.div_ceil(MATRIX_TILE);
    let place = |step: usize| {
        let first = step % blocks * MATRIX_TILE;
        Place { tile: packed.tile(step / blocks), first, queries: (rows - first).min(MATRIX_TILE) }
    };
    let steps = packed.tiles().len() * blocks;
    let _configured = Registers::configure(s, MATRIX_TILE, MATRIX_STEP);
    let (mut before, mut now, mut next) = (None, None, (steps > 0).then(|| place(0)));
    for step in 0..steps + 2 {
        // One half of the buffers belongs to the current step, the other to the previous and the next one.
        let (own, other) = (step % 2 * MATRIX_TILE, (step + 1) % 2 * MATRIX_TILE);
        if let Some(Place { tile, .. }) = before {
            let p = &p[other * KEY_TILE..][..STEP_SCORES];
            let groups = tile.values.chunks_exact(KEY_TILE * GROUP);
            for (values, sums) in groups.zip(of_values.chunks_exact_mut(STEP_SCORES)) {
                products(s, p, KEY_TILE, values, sums);
            }
        }
        if let Some(Place { tile, first, .. }) = next {
            products(s, &queries[first * stride..], stride, tile.keys, &mut of_keys[..STEP_SCORES]);
        }
        if let Some(Place { tile, first, queries }) = now {
            // The last group of four may reach beyond the last query; those results are never read.
            for query in (0..queries).step_by(4) {
                let at = (own + query) * KEY_TILE..(own + query + 4) * KEY_TILE;
                let (exponents, p, sums) = (&exponents[at.clone()], &mut p[at], &mut tile_sum[query..query + 4]);
                let largest = &tile_scale[own + query..][..4];
                softmax::weights::<S, false>(s, exponents, largest, tile, p, sums, p_offsets);
            }
            let state = softmax::State {
                max: &mut max[first..first + MATRIX_TILE],
                sum: &mut sum[first..first + MATRIX_TILE],
                rescale: &mut rescale[own..own + MATRIX_TILE],
                tile: &mut tile_scale[own..own + MATRIX_TILE],
                tile_sum: &tile_sum[..MATRIX_TILE],
            };
            softmax::rescale(s, state);
        }
        if let Some(Place { tile, first, queries }) = before {
            let output = &mut output[first * dims..][..queries * dims];
            let (rescale, scales) = (&rescale[other..other + MATRIX_TILE], &tile_scale[other..other + MATRIX_TILE]);
            add_values(s, of_values, rescale, scales, tile.value_sums, dims, output);
        }
        if let Some(Place { tile, first, queries }) = next {
            let exponents = &mut exponents[other * KEY_TILE..][..STEP_SCORES];
            to_exponents(s, of_keys, &scales[first..first + MATRIX_TILE], queries, tile, exponents);
            softmax::maxima(s, exponents, queries, &mut tile_scale[other..other + MATRIX_TILE]);
        }
        (before, now, next) = (now, next, (step + 1 < steps).then(|| place(step + 1)));
    }
}

/// A step: a tile of keys, and `queries` queries of the block from `first` on.
#[derive(Clone, Copy)]
struct Place<'a> {
    tile: Tile<'a>,
    first: usize,
    queries: usize,
}

/// Multiplies 16 rows of bytes, `stride` apart, with keys or values that are laid out as `[quads][64][4]`, and writes `sums[16][64]`.
#[inline(always)]
fn products<S: SimdInt>(s: S, rows: &[i8], stride: usize, stored: &[u8], sums: &mut [i32]) {
    let depth = stored.len() / KEY_TILE;
    assert!(depth > 0 && depth.is_multiple_of(MATRIX_STEP) && rows.len() >= (MATRIX_TILE - 1) * stride + depth);
    assert!(sums.len() == STEP_SCORES);
    // SAFETY: the registers are configured by the caller; 16 rows of that depth, as much of the stored, and room for the sums.
    unsafe { s.matrix_scores(rows.as_ptr(), stride, stored.as_ptr(), depth / MATRIX_STEP, sums.as_mut_ptr()) }
}

/// Turns the products of up to 16 queries with the keys of a tile into exponents `[16][64]`.
#[inline(always)]
fn to_exponents<S: SimdInt>(
    s: S,
    products: &[i32],
    query_scales: &[f32],
    queries: usize,
    tile: Tile<'_>,
    exponents: &mut [f32],
) {
    assert!(products.len() >= STEP_SCORES && exponents.len() == STEP_SCORES && queries <= MATRIX_TILE);
    for (query, scale) in query_scales.iter().enumerate().take(queries) {
        let scales = softmax::Scales::new(tile, *scale);
        for vector in 0..KEY_TILE_VECTORS {
            let at = query * KEY_TILE + vector * LANES;
            // SAFETY: 16 x 64 of both.
            unsafe {
                let products = s.load_i32(products.as_ptr().add(at));
                s.store(exponents.as_mut_ptr().add(at), scales.exponents(s, products, vector));
            }
        }
    }
}

/// `output[n][dims] = output · rescale + (P · V) · scales`; `products` are `[groups][16][64]`, those of `P - 127` with the values.
#[inline(always)]
fn add_values<S: SimdInt>(
    s: S,
    products: &[i32],
    rescale: &[f32],
    scales: &[f32],
    value_sums: &[i32],
    dims: usize,
    output: &mut [f32],
) {
    assert!(products.len() >= dims.div_ceil(GROUP) * STEP_SCORES && output.len() <= MATRIX_TILE * dims);
    assert!(value_sums.len() >= dims);
    for (r, row) in output.chunks_exact_mut(dims).enumerate() {
        let (rescale, scale) = (s.splat(rescale[r]), s.splat(scales[r]));
        for col in (0..dims).step_by(LANES) {
            // SAFETY: a vector of the row's products in its group, of the sums and of the outputs.
            unsafe {
                let own = products.as_ptr().add(col / GROUP * STEP_SCORES + r * GROUP + col % GROUP);
                let own = s.add_i32(s.load_i32(own), s.load_i32(value_sums.as_ptr().add(col)));
                let at = row.as_mut_ptr().add(col);
                s.store(at, s.mul_add(s.to_f32(own), scale, s.mul(s.load(at), rescale)));
            }
        }
    }
}
