//! f32 attention of one head, without its whole score matrix ever being in memory.
//!
//! ```text
//! m = -inf, l = 0, O = 0                               for each query of a block
//! for each tile of 64 keys:
//!   S = scale · q Kᵀ                                   up to 6 queries at a time, broadcast q, lanes along the keys
//!   m' = max(m, max S);  P = e^(S - m');  c = e^(m - m')
//!   l = l·c + Σ P;  O = O·c + P V                      lanes along the head's dimensions
//! out = O / l
//! ```
//! (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022, FlashAttention.)
//!
//! 1. Keys are transposed once a head into tiles `[head_dim, 64]`, so that both products have the same shape: elements of one
//!    operand are broadcast and multiplied with rows of the other.
//! 2. A block of 48 queries shares each tile. The block's scores (12 KB) stay in the first-level cache, the tile's keys and values (16 KB each
//!    at 64 dimensions) in the second, where each of the block's 8 register tiles reads them.
//! 3. Tiles begin at the text's first key, whichever block a query is in: a query's bits do not depend on its neighbours.

use crate::layout::LANES;
use crate::simd::{Simd, math};
use crate::view::{MatMut, MatRef};

/// Keys of a tile. Part of the numeric contract: the softmax is rescaled once a tile.
pub const KEY_TILE: usize = 64;

/// The largest number of queries in a call of [`crate::Kernels::attend`] (where they make eight register tiles) or [`crate::Kernels::attend_int`].
pub const QUERY_BLOCK: usize = 48;

/// Rows of a register tile on every instruction set.
const TILE_ROWS: usize = 6;

/// One head of one text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Tokens of the text: keys and values.
    pub tokens: usize,
    /// Dimensions of the head.
    pub head_dim: usize,
    /// What the products of queries and keys are multiplied by: usually `1/√head_dim`.
    pub scale: f32,
}

impl AttentionShape {
    /// Number of values of the packed keys: whole tiles.
    pub fn packed_keys_len(&self) -> usize {
        self.tokens.div_ceil(KEY_TILE) * KEY_TILE * self.head_dim
    }

    /// Number of values of scratch memory: scores, output and softmax state of a block of queries.
    pub fn scratch_len(&self) -> usize {
        QUERY_BLOCK * (KEY_TILE + self.padded_dim() + 3)
    }

    /// Dimensions of a row of the output in scratch: whole vectors.
    fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }
}

/// See [`crate::Kernels::pack_keys`]. Portable code is fast enough, because each key is packed once and read `tokens` times.
#[inline(always)]
pub(crate) fn pack_keys(keys: MatRef<'_>, packed: &mut [f32]) {
    let head_dim = keys.cols();
    for (tile, packed) in packed.chunks_exact_mut(head_dim * KEY_TILE).enumerate() {
        let from = tile * KEY_TILE;
        let present = (keys.rows() - from).min(KEY_TILE);
        for (d, row) in packed.chunks_exact_mut(KEY_TILE).enumerate() {
            row[present..].fill(0.0);
            for (key, value) in row[..present].iter_mut().enumerate() {
                *value = keys.row(from + key)[d];
            }
        }
    }
}

/// The parts of the scratch memory, for one block of queries.
struct State<'a> {
    /// `[queries, KEY_TILE]`
    scores: &'a mut [f32],
    /// `[queries, padded_dim]`
    output: &'a mut [f32],
    /// `[queries]`: the largest score so far.
    max: &'a mut [f32],
    /// `[queries]`: the sum of the exponentials so far.
    sum: &'a mut [f32],
    /// `[queries]`: what the earlier tiles' sums are multiplied by.
    rescale: &'a mut [f32],
}

impl<'a> State<'a> {
    /// Cuts `scratch` into its parts, and resets all but scores and factors for the first tile of keys.
    fn cut(scratch: &'a mut [f32], padded_dim: usize) -> Self {
        let (scores, rest) = scratch.split_at_mut(QUERY_BLOCK * KEY_TILE);
        let (output, rest) = rest.split_at_mut(QUERY_BLOCK * padded_dim);
        let (max, rest) = rest.split_at_mut(QUERY_BLOCK);
        let (sum, rest) = rest.split_at_mut(QUERY_BLOCK);
        let rescale = &mut rest[..QUERY_BLOCK];
        output.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        State { scores, output, max, sum, rescale }
    }
}

/// See [`crate::Kernels::attend`], which has checked the shapes.
#[inline(always)]
pub(crate) fn attend<S: Simd>(
    s: S,
    shape: AttentionShape,
    queries: MatRef<'_>,
    packed_keys: &[f32],
    values: MatRef<'_>,
    scratch: &mut [f32],
    mut out: MatMut<'_>,
) {
    let (head_dim, padded_dim) = (shape.head_dim, shape.padded_dim());
    let mut state = State::cut(scratch, padded_dim);
    for (tile, keys) in packed_keys.chunks_exact(head_dim * KEY_TILE).enumerate() {
        let from = tile * KEY_TILE;
        let present = (shape.tokens - from).min(KEY_TILE);
        let keys = Panel { rows: head_dim, data: keys.as_ptr(), stride: KEY_TILE, cols: KEY_TILE };
        let q = Broadcast { data: queries.as_ptr(), stride: queries.stride(), rows: queries.rows() };
        // SAFETY: `q` is `[queries, head_dim]`, `keys` a tile `[head_dim, 64]`, the scores `[>= queries, 64]`.
        unsafe { product(s, q, keys, state.scores.as_mut_ptr(), KEY_TILE, None) };

        for query in 0..queries.rows() {
            softmax_step(s, &mut state, query, present, shape.scale);
        }

        let tile_values = values.rows_from(from, present);
        let v = Panel { rows: present, data: tile_values.as_ptr(), stride: values.stride(), cols: head_dim };
        let p = Broadcast { data: state.scores.as_ptr(), stride: KEY_TILE, rows: queries.rows() };
        let rescale = &*state.rescale;
        // SAFETY: the scores are `[>= queries, >= present]`, `v` is `[present, head_dim]`, the output `[>= queries, padded_dim]`.
        unsafe { product(s, p, v, state.output.as_mut_ptr(), padded_dim, Some(rescale)) };
    }
    for query in 0..queries.rows() {
        let scale = 1.0 / state.sum[query];
        let row = &state.output[query * padded_dim..][..head_dim];
        for (out, value) in out.row_mut(query).iter_mut().zip(row) {
            *out = value * scale;
        }
    }
}

/// Scales a query's products with one tile of keys, turns them into exponentials in place, and updates the query's maximum, sum and `rescale`.
#[inline(always)]
fn softmax_step<S: Simd>(s: S, state: &mut State<'_>, query: usize, present: usize, scale: f32) {
    const VECTORS: usize = KEY_TILE / LANES;
    let scores = &mut state.scores[query * KEY_TILE..][..KEY_TILE];
    let p = scores.as_mut_ptr();
    let scale = s.splat(scale);
    let mut v = [s.splat(0.0); VECTORS];
    for (i, v) in v.iter_mut().enumerate() {
        // SAFETY: the row holds VECTORS vectors.
        *v = s.mul(unsafe { s.load(p.add(i * LANES)) }, scale);
    }
    if present < KEY_TILE {
        for (i, v) in v.iter().enumerate() {
            // SAFETY: as above.
            unsafe { s.store(p.add(i * LANES), *v) };
        }
        for key in present..KEY_TILE {
            // SAFETY: an element of the row. It is written through `p`, because a new borrow of the scores would invalidate `p`.
            unsafe { p.add(key).write(f32::NEG_INFINITY) };
        }
        for (i, v) in v.iter_mut().enumerate() {
            // SAFETY: as above.
            *v = unsafe { s.load(p.add(i * LANES)) };
        }
    }
    let tile_max = s.reduce_max(s.max(s.max(v[0], v[1]), s.max(v[2], v[3])));
    let before = state.max[query];
    let now = if before > tile_max { before } else { tile_max };
    let now_v = s.splat(now);
    for (i, v) in v.iter_mut().enumerate() {
        *v = math::exp(s, s.sub(*v, now_v));
        // SAFETY: as above.
        unsafe { s.store(p.add(i * LANES), *v) };
    }
    let tile_sum = s.reduce(s.add(s.add(v[0], v[1]), s.add(v[2], v[3])));
    let rescale = math::exp(s, s.splat(before - now));
    // SAFETY: one element of the state.
    unsafe { s.store_first(&mut state.rescale[query], 1, rescale) };
    state.max[query] = now;
    state.sum[query] = state.sum[query].mul_add(state.rescale[query], tile_sum);
}

/// The operand `[rows, depth]` of a [`product`] whose elements are broadcast.
#[derive(Clone, Copy)]
struct Broadcast {
    data: *const f32,
    stride: usize,
    rows: usize,
}

/// The operand `[depth, cols]` of a [`product`] that is read by rows. (It is no panel of weights; its `rows` are the depth.)
#[derive(Clone, Copy)]
struct Panel {
    rows: usize,
    data: *const f32,
    stride: usize,
    cols: usize,
}

/// `out[r] = a[r] · b`, or with factors `out[r] = out[r] · factor[r] + a[r] · b`.
///
/// # Safety
/// `a` is readable as `[a.rows, b.rows]`, `b` as `[b.rows, b.cols]`, and `out` is writable as `[a.rows, b.cols rounded up to 16]`
/// at stride `ldo`.
#[inline(always)]
unsafe fn product<S: Simd>(s: S, a: Broadcast, b: Panel, out: *mut f32, ldo: usize, factor: Option<&[f32]>) {
    let mut col = 0;
    while col < b.cols {
        let whole_vectors = (b.cols - col) / LANES;
        let vectors = whole_vectors.clamp(1, S::PANEL_VECTORS);
        let mut row = 0;
        while row < a.rows {
            // SAFETY: guaranteed by the caller, for rows below `a.rows` and columns below `b.cols`.
            unsafe {
                match vectors {
                    4 => panel_rows::<S, 4>(s, a, row, b, col, out, ldo, factor),
                    2 | 3 => panel_rows::<S, 2>(s, a, row, b, col, out, ldo, factor),
                    _ => panel_rows::<S, 1>(s, a, row, b, col, out, ldo, factor),
                }
            }
            row += TILE_ROWS;
        }
        col += LANES * if vectors == 3 { 2 } else { vectors };
    }
}

/// [`product`] for up to six rows from `row` on, and `N` vectors from column `col` on.
///
/// # Safety
/// As for [`product`]; `b` has all columns of the `N` vectors, or `N` is 1.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the two operands, the place, the result: a struct would only rename them
unsafe fn panel_rows<S: Simd, const N: usize>(
    s: S,
    a: Broadcast,
    row: usize,
    b: Panel,
    col: usize,
    out: *mut f32,
    ldo: usize,
    factor: Option<&[f32]>,
) {
    let lanes = (b.cols - col).min(LANES);
    // SAFETY: guaranteed by the caller.
    unsafe {
        let a_at = a.data.add(row * a.stride);
        let b_at = b.data.add(col);
        let out = out.add(row * ldo + col);
        let factor = factor.map(|factor| &factor[row..]);
        match a.rows - row {
            1 => panel_tile::<S, 1, N>(s, a_at, a.stride, b_at, b, lanes, out, ldo, factor),
            2 => panel_tile::<S, 2, N>(s, a_at, a.stride, b_at, b, lanes, out, ldo, factor),
            3 => panel_tile::<S, 3, N>(s, a_at, a.stride, b_at, b, lanes, out, ldo, factor),
            4 => panel_tile::<S, 4, N>(s, a_at, a.stride, b_at, b, lanes, out, ldo, factor),
            5 => panel_tile::<S, 5, N>(s, a_at, a.stride, b_at, b, lanes, out, ldo, factor),
            _ => panel_tile::<S, TILE_ROWS, N>(s, a_at, a.stride, b_at, b, lanes, out, ldo, factor),
        }
    }
}

/// [`product`] for one register tile of `R` rows by `N` vectors. `lanes` columns of each vector are in `b`: 16, or fewer if `N` is 1.
///
/// # Safety
/// As for [`product`], from the rows and columns that the pointers are at.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // as above
unsafe fn panel_tile<S: Simd, const R: usize, const N: usize>(
    s: S,
    a: *const f32,
    lda: usize,
    b: *const f32,
    panel: Panel,
    lanes: usize,
    out: *mut f32,
    ldo: usize,
    factor: Option<&[f32]>,
) {
    let mut acc = [[s.splat(0.0); N]; R];
    for k in 0..panel.rows {
        let mut bv = [s.splat(0.0); N];
        for (n, bv) in bv.iter_mut().enumerate() {
            // SAFETY: row k < panel.rows, of which the caller guarantees whole vectors (or `lanes` elements).
            *bv = unsafe {
                let p = b.add(k * panel.stride + n * LANES);
                if lanes == LANES { s.load(p) } else { s.load_first(p, lanes) }
            };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: element [r, k] of `a`.
            let av = s.splat(unsafe { *a.add(r * lda + k) });
            for n in 0..N {
                acc[n] = s.mul_add(av, bv[n], acc[n]);
            }
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        for (n, v) in acc.into_iter().enumerate() {
            // SAFETY: `out` has whole vectors in every row.
            unsafe {
                let p = out.add(r * ldo + n * LANES);
                let v = match factor {
                    Some(factor) => s.mul_add(s.load(p), s.splat(factor[r]), v),
                    None => v,
                };
                s.store(p, v);
            }
        }
    }
}
