//! Attention of one head in integers: the same loop as `attention.rs`, its two products exact.
//!
//! ```text
//! k ← k - mean(k)                       softmax does not see it; what all keys share would waste the range of a byte
//! q, k → int8, a scale a row            S = acc · scale_q · scale_k · log₂ e
//! P = 2^(S - m_t) → 0 ..= 16,384        14 bits below the maximum of the tile of keys: attention may rest on many small weights far below
//!                                       one large one in another tile
//! V → -2047 ..= 2047, a scale a tile    O = O·c + acc · 2^(m_t - m) · scale_v / 16,384
//!                                       sum = sum·c + Σ P · 2^(m_t - m) / 16,384, of P before it is rounded
//! ```
//! Bounds: `|q·k| <= head_dim · 127 · 255 < 2^31` up to a `head_dim` of 65,536; `|P·V| <= 64 · 16,384 · 2,047 < 2^31`.
//! Keys lie as the weights of an int8 product (`[head_dim/4][64 keys][4]`, `k + 128`), values in pairs of keys
//! (`[32 pairs][dims][2]`), so both products broadcast four bytes of a row and multiply them with a vector.

use crate::LANES;
use crate::attention::{KEY_TILE, QUERY_BLOCK};
use crate::buffer::Buffer;
use crate::elementwise::load;
use crate::gemm::{tile_rows, with_tile};
use crate::simd::int::SimdInt;
use crate::simd::math;
use crate::view::{MatMut, MatRef};

/// Vectors of a tile's scores.
const TILE_VECTORS: usize = KEY_TILE / LANES;
/// What 1 becomes in `P`.
const P_ONE: f32 = 16_384.0;
// The softmax of a block takes four queries, or sixteen, at a time.
const _: () = assert!(QUERY_BLOCK.is_multiple_of(LANES));
/// Largest magnitude of a value.
const V_MAX: f32 = 2047.0;

/// Keys and values of one head of one text, as [`crate::Kernels::attend_int`] reads them.
#[derive(Debug, Default)]
pub struct IntKeyValues {
    tokens: usize,
    head_dim: usize,
    /// `[tiles][head_dim/4][64][4]`
    keys: Buffer<u8>,
    /// `[tiles · 64]`, 0 beyond the last token.
    key_scales: Vec<f32>,
    /// `[tiles][32][dims][2]`
    values: Buffer<i16>,
    /// `[tiles]`
    value_scales: Vec<f32>,
}

impl IntKeyValues {
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Dimensions of the queries and keys that the product runs over: whole quads.
    fn quads(&self) -> usize {
        self.head_dim.div_ceil(4)
    }

    /// Dimensions of values and outputs: whole vectors.
    fn dims(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    fn resize(&mut self, tokens: usize, head_dim: usize) {
        (self.tokens, self.head_dim) = (tokens, head_dim);
        let tiles = tokens.div_ceil(KEY_TILE);
        // What is beyond the last token must not hold what an earlier text left; all else is written.
        let (keys, values) = (self.quads() * 4 * KEY_TILE, KEY_TILE * self.dims());
        self.keys.grow(tiles * keys);
        self.key_scales.resize(tiles * KEY_TILE, 0.0);
        self.values.grow(tiles * values);
        self.value_scales.resize(tiles, 0.0);
        if !tokens.is_multiple_of(KEY_TILE) {
            // 128 is a key of 0.
            self.keys[(tiles - 1) * keys..][..keys].fill(128);
            self.key_scales[(tiles - 1) * KEY_TILE..].fill(0.0);
            self.values[(tiles - 1) * values..][..values].fill(0);
        }
    }
}

/// Buffers of one thread for [`crate::Kernels::pack_int`] and [`crate::Kernels::attend_int`]; they grow as needed.
#[derive(Debug, Default)]
pub struct IntScratch {
    /// `[48][64]`
    scores: Buffer<f32>,
    /// `[48][64]`
    p: Buffer<i16>,
    /// `[48][dims]`
    output: Buffer<f32>,
    /// `[48][4 quads]`, and room for a whole vector.
    queries: Buffer<i8>,
    query_scales: Vec<f32>,
    offsets: Vec<i32>,
    max: Vec<f32>,
    sum: Vec<f32>,
    tile_sum: Vec<f32>,
    tile_scale: Vec<f32>,
    rescale: Vec<f32>,
    /// A row in f32, then one in i8: whole vectors.
    row: Vec<f32>,
    row8: Vec<i8>,
}

impl IntScratch {
    fn resize(&mut self, head_dim: usize) {
        let dims = head_dim.next_multiple_of(LANES);
        self.scores.grow(QUERY_BLOCK * KEY_TILE);
        self.p.grow(QUERY_BLOCK * KEY_TILE);
        self.output.grow(QUERY_BLOCK * dims);
        self.queries.grow(QUERY_BLOCK * dims);
        self.query_scales.resize(QUERY_BLOCK, 0.0);
        self.offsets.resize(QUERY_BLOCK, 0);
        for state in [&mut self.max, &mut self.sum, &mut self.tile_sum, &mut self.tile_scale, &mut self.rescale] {
            state.resize(QUERY_BLOCK, 0.0);
        }
        self.row.resize(dims, 0.0);
        self.row8.resize(dims, 0);
    }
}

/// `out = round(row / scale)` with `scale = max |row| / 127`; returns the scale and the sum of `out`. Both hold whole vectors, zero
/// beyond the row's end.
#[inline(always)]
fn quantize<S: SimdInt>(s: S, row: &[f32], out: &mut [i8]) -> (f32, i32) {
    let mut max = s.splat(0.0);
    let mut poison = s.splat(0.0);
    let mut at = 0;
    while at < row.len() {
        // SAFETY: whole vectors.
        let v = unsafe { s.load(row.as_ptr().add(at)) };
        max = s.max(s.abs(v), max);
        poison = s.mul_add(v, s.splat(0.0), poison);
        at += LANES;
    }
    let max = s.reduce_max(max);
    let zero = max < 1e-35;
    let inverse = s.splat(if zero { 0.0 } else { 127.0 / max });
    let mut sum = s.splat(0.0);
    let mut at = 0;
    while at < row.len() {
        // SAFETY: whole vectors, as long as each other.
        unsafe {
            let v = s.round(s.mul(s.load(row.as_ptr().add(at)), inverse));
            sum = s.add(sum, v);
            s.store_i8(out.as_mut_ptr().add(at), v);
        }
        at += LANES;
    }
    (if zero { 0.0 } else { max / 127.0 } + s.reduce(poison), s.reduce(sum) as i32)
}

/// See [`crate::Kernels::pack_int`], which has checked the shapes.
#[inline(always)]
pub(crate) fn pack<S: SimdInt>(
    s: S,
    keys: MatRef<'_>,
    values: MatRef<'_>,
    scratch: &mut IntScratch,
    packed: &mut IntKeyValues,
) {
    let (tokens, head_dim) = (keys.rows(), keys.cols());
    packed.resize(tokens, head_dim);
    scratch.resize(head_dim);
    let (quads, dims) = (packed.quads(), packed.dims());

    // The mean key, in the scratch's output: summed in ascending order.
    let mean = &mut scratch.output[..dims];
    let inverse = s.splat(1.0 / tokens as f32);
    let mut at = 0;
    while at < head_dim {
        let mut sum = s.splat(0.0);
        for token in 0..tokens {
            // SAFETY: `at` is below the row's length.
            sum = s.add(sum, unsafe { load(s, keys.row(token), at) });
        }
        // SAFETY: `mean` holds whole vectors up to `dims`.
        unsafe { s.store(mean.as_mut_ptr().add(at), s.mul(sum, inverse)) };
        at += LANES;
    }
    for token in 0..tokens {
        let mut at = 0;
        while at < head_dim {
            // SAFETY: `at` is below the row's length; whole vectors of the others.
            unsafe {
                let k = s.sub(load(s, keys.row(token), at), s.load(mean.as_ptr().add(at)));
                s.store(scratch.row.as_mut_ptr().add(at), k);
            }
            at += LANES;
        }
        let (scale, _) = quantize(s, &scratch.row, &mut scratch.row8);
        packed.key_scales[token] = scale;
        let tile = &mut packed.keys[token / KEY_TILE * quads * 4 * KEY_TILE..][..quads * 4 * KEY_TILE];
        let at = token % KEY_TILE * 4;
        for (quad, bytes) in scratch.row8.as_chunks::<4>().0.iter().take(quads).enumerate() {
            let to: &mut [u8; 4] = tile[quad * 4 * KEY_TILE + at..].first_chunk_mut().unwrap_or_else(|| unreachable!());
            *to = (u32::from_le_bytes(bytes.map(|byte| byte as u8)) ^ 0x8080_8080).to_le_bytes();
        }
    }
    for tile in 0..tokens.div_ceil(KEY_TILE) {
        pack_values(s, values, tile, packed);
    }
}

/// One tile of values: a common scale, then pairs of keys side by side.
#[inline(always)]
fn pack_values<S: SimdInt>(s: S, values: MatRef<'_>, tile: usize, packed: &mut IntKeyValues) {
    let (head_dim, dims) = (packed.head_dim, packed.dims());
    let from = tile * KEY_TILE;
    let present = (packed.tokens - from).min(KEY_TILE);
    let mut max = s.splat(0.0);
    let mut poison = s.splat(0.0);
    for token in from..from + present {
        let mut at = 0;
        while at < head_dim {
            // SAFETY: `at` is below the row's length.
            let v = unsafe { load(s, values.row(token), at) };
            max = s.max(s.abs(v), max);
            poison = s.mul_add(v, s.splat(0.0), poison);
            at += LANES;
        }
    }
    let max = s.reduce_max(max);
    let zero = max < 1e-30;
    let inverse = s.splat(if zero { 0.0 } else { V_MAX / max });
    packed.value_scales[tile] = if zero { 0.0 } else { max / V_MAX } + s.reduce(poison);
    let tile_values = &mut packed.values[tile * KEY_TILE * dims..][..KEY_TILE * dims];
    for (pair, out) in tile_values.chunks_exact_mut(2 * dims).enumerate().take(present.div_ceil(2)) {
        let first = values.row(from + 2 * pair);
        let second = if 2 * pair + 1 < present { values.row(from + 2 * pair + 1) } else { &[] };
        let mut at = 0;
        while at < head_dim {
            // SAFETY: `at` is below the rows' length; 2 · dims elements of `out`, whole vectors.
            unsafe {
                let a = load(s, first, at);
                let b = if second.is_empty() { s.splat(0.0) } else { load(s, second, at) };
                s.store_i16_pairs(out.as_mut_ptr().add(2 * at), s.mul(a, inverse), s.mul(b, inverse));
            }
            at += LANES;
        }
    }
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
    let (head_dim, dims, quads, rows) = (packed.head_dim, packed.dims(), packed.quads(), queries.rows());
    scratch.resize(head_dim);
    let IntScratch { scores, p, output, queries: q8, query_scales, offsets, row, .. } = scratch;
    let (max, sum, rescale) = (&mut scratch.max, &mut scratch.sum, &mut scratch.rescale);
    let (tile_sum, tile_scale) = (&mut scratch.tile_sum, &mut scratch.tile_scale);
    for query in 0..rows {
        let mut own = queries.row(query);
        if head_dim < dims {
            row[..head_dim].copy_from_slice(own);
            row[head_dim..].fill(0.0);
            own = row;
        }
        let (query_scale, total) = quantize(s, own, &mut q8[query * dims..][..dims]);
        query_scales[query] = query_scale * (scale * std::f32::consts::LOG2_E);
        offsets[query] = -128 * total;
    }
    output[..rows * dims].fill(0.0);
    max[..rows].fill(f32::NEG_INFINITY);
    sum[..rows].fill(0.0);

    for tile in 0..packed.value_scales.len() {
        let present = (packed.tokens - tile * KEY_TILE).min(KEY_TILE);
        let keys = &packed.keys[tile * quads * 4 * KEY_TILE..][..quads * 4 * KEY_TILE];
        let key_scales = &packed.key_scales[tile * KEY_TILE..][..KEY_TILE];
        let mut query = 0;
        while query < rows {
            let n = tile_rows(rows - query, S::SCORE_TILE.rows);
            let q = Queries {
                data: &q8[query * dims..],
                stride: dims,
                offsets: &offsets[query..],
                scales: &query_scales[query..],
            };
            let to = &mut scores[query * KEY_TILE..][..n * KEY_TILE];
            for from in (0..TILE_VECTORS).step_by(S::SCORE_TILE.vectors) {
                with_tile!(n, S::SCORE_TILE, scores_tile::<S>(s, q, keys, key_scales, from, to));
            }
            query += n;
        }
        if present < KEY_TILE {
            scores[..rows * KEY_TILE].chunks_exact_mut(KEY_TILE).for_each(|row| row[present..].fill(f32::NEG_INFINITY));
        }
        // Four queries at a time; what the last four have beyond the last query is computed and not read.
        for query in (0..rows).step_by(4) {
            let block = query * KEY_TILE..(query + 4) * KEY_TILE;
            let own = query..query + 4;
            softmax_step(s, &scores[block.clone()], &mut p[block], &mut tile_scale[own.clone()], &mut tile_sum[own]);
        }
        rescale_sums(s, max, rescale, tile_scale, sum, tile_sum);
        let values = &packed.values[tile * KEY_TILE * dims..][..KEY_TILE * dims];
        let pairs = present.div_ceil(2);
        let value_scale = packed.value_scales[tile];
        let mut query = 0;
        while query < rows {
            let n = tile_rows(rows - query, S::VALUE_TILE.rows);
            let (rescale, scales) = (&rescale[query..], &tile_scale[query..]);
            let weights = Weights { p: &p[query * KEY_TILE..], rescale, scales, pairs, scale: value_scale };
            let to = &mut output[query * dims..][..n * dims];
            with_tile!(n, S::VALUE_TILE, values_tile::<S>(s, weights, values, dims, to));
            query += n;
        }
    }
    for query in 0..rows {
        let scale = 1.0 / sum[query];
        for (out, value) in out.row_mut(query).iter_mut().zip(&output[query * dims..][..head_dim]) {
            *out = value * scale;
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
    scales: &'a [f32],
}

/// `scores[R][64] = (q · k) · scale_q · scale_k`, of which the `N` vectors of keys from vector `from` on.
#[inline(always)]
fn scores_tile<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    q: Queries<'_>,
    keys: &[u8],
    key_scales: &[f32],
    from: usize,
    scores: &mut [f32],
) {
    assert!(q.data.len() >= (R - 1) * q.stride + keys.len() / KEY_TILE && key_scales.len() == KEY_TILE);
    assert!(scores.len() == R * KEY_TILE && from + N <= TILE_VECTORS);
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
    for (r, acc) in acc.into_iter().enumerate() {
        let scale = s.splat(q.scales[r]);
        for (n, acc) in acc.into_iter().enumerate() {
            let at = (from + n) * LANES;
            // SAFETY: 64 scales; 64 scores a row.
            unsafe {
                let key_scale = s.load(key_scales.as_ptr().add(at));
                s.store(scores.as_mut_ptr().add(r * KEY_TILE + at), s.mul(s.mul(s.to_f32(acc), scale), key_scale));
            }
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

/// Turns the scores of four queries into `P` in units of `1 / 16,384` of the largest; `tile_max` becomes their maxima, `tile_sum` the sums
/// of `P`.
#[inline(always)]
fn softmax_step<S: SimdInt>(s: S, scores: &[f32], p: &mut [i16], tile_max: &mut [f32], tile_sum: &mut [f32]) {
    assert!(scores.len() == 4 * KEY_TILE && p.len() == 4 * KEY_TILE);
    let mut sums = [s.splat(0.0); 4];
    for (query, sum) in sums.iter_mut().enumerate() {
        let mut v = [s.splat(0.0); TILE_VECTORS];
        for (i, v) in v.iter_mut().enumerate() {
            // SAFETY: 4 x 64 scores.
            *v = unsafe { s.load(scores.as_ptr().add(query * KEY_TILE + i * LANES)) };
        }
        let max = s.reduce_max(s.max(s.max(v[0], v[1]), s.max(v[2], v[3])));
        tile_max[query] = max;
        let max = s.splat(max);
        for (i, v) in v.iter_mut().enumerate() {
            *v = s.mul(math::exp2_fast(s, s.sub(*v, max)), s.splat(P_ONE));
            // SAFETY: 4 x 64 weights.
            unsafe { s.store_i16(p.as_mut_ptr().add(query * KEY_TILE + i * LANES), *v) };
        }
        *sum = s.add(s.add(v[0], v[1]), s.add(v[2], v[3]));
    }
    tile_sum.copy_from_slice(&s.reduce4(sums));
}

/// Of every query: `max` takes in the tile's, which `tile` holds; `rescale ← 2^(max before - max)`, by which earlier sums and outputs are
/// multiplied; `tile ← 2^(tile - max) / 16,384`, by which the tile's are; and `sum ← sum · rescale + tile_sum · tile`.
#[inline(always)]
fn rescale_sums<S: SimdInt>(
    s: S,
    max: &mut [f32],
    rescale: &mut [f32],
    tile: &mut [f32],
    sum: &mut [f32],
    tile_sum: &[f32],
) {
    assert!([max.len(), rescale.len(), tile.len(), sum.len(), tile_sum.len()] == [QUERY_BLOCK; 5]);
    for at in (0..QUERY_BLOCK).step_by(LANES) {
        // SAFETY: whole vectors of the five: a block of queries is a multiple of them.
        unsafe {
            let (before, own) = (s.load(max.as_ptr().add(at)), s.load(tile.as_ptr().add(at)));
            let now = s.max(before, own);
            let factor = math::exp2_fast(s, s.sub(before, now));
            let own = s.mul(math::exp2_fast(s, s.sub(own, now)), s.splat(1.0 / P_ONE));
            s.store(max.as_mut_ptr().add(at), now);
            s.store(rescale.as_mut_ptr().add(at), factor);
            s.store(tile.as_mut_ptr().add(at), own);
            let earlier = s.mul(s.load(sum.as_ptr().add(at)), factor);
            s.store(sum.as_mut_ptr().add(at), s.mul_add(s.load(tile_sum.as_ptr().add(at)), own, earlier));
        }
    }
}

/// The weights of a register tile's queries.
#[derive(Clone, Copy)]
struct Weights<'a> {
    /// `[R][64]`
    p: &'a [i16],
    rescale: &'a [f32],
    /// Of the products, `2^(m_t - m) / 16,384`.
    scales: &'a [f32],
    /// Pairs of keys that exist.
    pairs: usize,
    /// Of the values.
    scale: f32,
}

/// `output[R][dims] = output · rescale + (P · V) · scales · scale`, `N` vectors at a time as long as there are so many.
#[inline(always)]
fn values_tile<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    weights: Weights<'_>,
    values: &[i16],
    dims: usize,
    output: &mut [f32],
) {
    let mut col = 0;
    while col + N * LANES <= dims {
        values_columns::<S, R, N>(s, weights, values, dims, col, output);
        col += N * LANES;
    }
    while N > 2 && col + 2 * LANES <= dims {
        values_columns::<S, R, 2>(s, weights, values, dims, col, output);
        col += 2 * LANES;
    }
    while N > 1 && col < dims {
        values_columns::<S, R, 1>(s, weights, values, dims, col, output);
        col += LANES;
    }
}

/// `N` vectors of the outputs from column `col` on.
#[inline(always)]
fn values_columns<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    weights: Weights<'_>,
    values: &[i16],
    dims: usize,
    col: usize,
    output: &mut [f32],
) {
    assert!(weights.p.len() >= R * KEY_TILE && weights.pairs <= KEY_TILE / 2 && values.len() == KEY_TILE * dims);
    assert!(col + N * LANES <= dims && output.len() == R * dims);
    let mut acc = [[s.splat_i32(0); N]; R];
    for pair in 0..weights.pairs {
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
        let (rescale, scale) = (s.splat(weights.rescale[r]), s.splat(weights.scales[r] * weights.scale));
        for (n, acc) in acc.into_iter().enumerate() {
            // SAFETY: inside the row, asserted above.
            unsafe {
                let at = output.as_mut_ptr().add(r * dims + col + n * LANES);
                s.store(at, s.mul_add(s.to_f32(acc), scale, s.mul(s.load(at), rescale)));
            }
        }
    }
}
