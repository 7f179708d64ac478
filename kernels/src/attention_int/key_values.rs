//! Keys and values in integers, laid out as the two products of attention read them.

use super::{IntScratch, ROWS, V_MAX, four_rows, quantize};
use crate::LANES;
use crate::attention::KEY_TILE;
use crate::buffer::Buffer;
use crate::elementwise::load;
use crate::gemm::matrix::STEP;
use crate::simd::int::SimdInt;
use crate::view::MatRef;

/// Keys and values of one head of one text, as [`crate::Kernels::attend_int`] reads them; those of [`crate::Isa::Amx`] only by that set.
#[derive(Debug, Default)]
pub struct IntKeyValues {
    tokens: usize,
    head_dim: usize,
    /// Whether they lie as matrix registers take them.
    matrices: bool,
    /// `[tiles][quads][64 keys][4 dimensions]`: `k + 128`, or `k` for matrix registers.
    keys: Buffer<u8>,
    /// `[tiles · 64]`, 0 beyond the last token.
    key_scales: Vec<f32>,
    /// `[tiles][32][dims][2 keys]`, or as [`SimdInt::matrix_values`] takes them.
    values: Buffer<i16>,
    /// `[tiles]`
    value_scales: Vec<f32>,
}

/// Fewest keys for which matrix registers are faster than dot products (measured: 8 keys 0.8 times as fast, 32 as fast, 64 1.1 times).
const FEWEST_FOR_MATRICES: usize = 17;

/// Vectors of the mean key that are summed side by side.
const MEAN_VECTORS: usize = 4;

/// What 64 tokens have of each.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub keys: &'a [u8],
    pub key_scales: &'a [f32],
    pub values: &'a [i16],
    /// Of the values.
    pub scale: f32,
    /// Tokens that exist.
    pub present: usize,
}

impl IntKeyValues {
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Whether they were packed for registers that hold matrices.
    pub(crate) fn for_matrices(&self) -> bool {
        self.matrices
    }

    /// Quads of dimensions that the product of queries and keys runs over.
    pub(super) fn quads(&self) -> usize {
        match self.matrices {
            true => self.head_dim.div_ceil(STEP) * (STEP / 4),
            false => self.head_dim.div_ceil(4),
        }
    }

    /// Dimensions of values and outputs: whole vectors.
    pub(super) fn dims(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    pub(super) fn tile(&self, tile: usize) -> Tile<'_> {
        let (keys, values) = (self.quads() * 4 * KEY_TILE, KEY_TILE * self.dims());
        Tile {
            keys: &self.keys[tile * keys..][..keys],
            key_scales: &self.key_scales[tile * KEY_TILE..][..KEY_TILE],
            values: &self.values[tile * values..][..values],
            scale: self.value_scales[tile],
            present: (self.tokens - tile * KEY_TILE).min(KEY_TILE),
        }
    }

    pub(super) fn tiles(&self) -> impl ExactSizeIterator<Item = Tile<'_>> {
        (0..self.value_scales.len()).map(|tile| self.tile(tile))
    }

    fn resize(&mut self, tokens: usize, head_dim: usize, matrices: bool) {
        (self.tokens, self.head_dim, self.matrices) = (tokens, head_dim, matrices);
        let tiles = tokens.div_ceil(KEY_TILE);
        // What is beyond the last token, or the last dimension, must not hold what an earlier text left; all else is written.
        let (keys, values) = (self.quads() * 4 * KEY_TILE, KEY_TILE * self.dims());
        self.keys.grow(tiles * keys);
        self.key_scales.resize(tiles * KEY_TILE, 0.0);
        self.values.grow(tiles * values);
        self.value_scales.resize(tiles, 0.0);
        let last = tiles - usize::from(!tokens.is_multiple_of(KEY_TILE));
        let first = if self.quads() > head_dim.div_ceil(4) { 0 } else { last };
        // A key of 0.
        self.keys[first * keys..tiles * keys].fill(if matrices { 0 } else { 128 });
        self.key_scales[last * KEY_TILE..].fill(0.0);
        self.values[last * values..tiles * values].fill(0);
    }
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
    let matrices = S::MATRICES && tokens >= FEWEST_FOR_MATRICES;
    packed.resize(tokens, head_dim, matrices);
    let (quads, dims) = (packed.quads(), packed.dims());
    scratch.resize(head_dim, 4 * quads);

    // The mean key, in the scratch's output.
    let mean = &mut scratch.output[..dims];
    let mut at = 0;
    while at < head_dim {
        // Side by side: one sum would wait for itself.
        if at + MEAN_VECTORS * LANES <= head_dim {
            mean_of::<S, MEAN_VECTORS>(s, keys, at, mean);
            at += MEAN_VECTORS * LANES;
        } else {
            mean_of::<S, 1>(s, keys, at, mean);
            at += LANES;
        }
    }
    // Stored as `k + 128`, but for matrix registers, which multiply signed bytes.
    let sign = if matrices { 0 } else { 0x8080_8080 };
    for first in (0..tokens).step_by(ROWS) {
        for (key, row) in scratch.row.chunks_exact_mut(dims).enumerate() {
            if first + key >= tokens {
                row.fill(0.0);
                continue;
            }
            let own = keys.row(first + key);
            let mut at = 0;
            while at < head_dim {
                // SAFETY: `at` is below the row's length; whole vectors of the others.
                unsafe {
                    let k = s.sub(load(s, own, at), s.load(mean.as_ptr().add(at)));
                    s.store(row.as_mut_ptr().add(at), k);
                }
                at += LANES;
            }
        }
        let (scales, _) = quantize(s, four_rows(&scratch.row, dims), &mut scratch.row8, dims);
        packed.key_scales[first..first + ROWS].copy_from_slice(&scales);
        let tile = &mut packed.keys[first / KEY_TILE * quads * 4 * KEY_TILE..][..quads * 4 * KEY_TILE];
        // The four keys' bytes of a quad lie side by side.
        let at = first % KEY_TILE * 4;
        let [a, b, c, d] = four_rows(&scratch.row8, dims).map(|row| row.as_chunks::<4>().0.iter());
        let to = tile.as_chunks_mut::<{ 4 * KEY_TILE }>().0.iter_mut().take(head_dim.div_ceil(4));
        for ((((to, a), b), c), d) in to.zip(a).zip(b).zip(c).zip(d) {
            for (to, own) in to[at..at + 4 * ROWS].as_chunks_mut::<4>().0.iter_mut().zip([a, b, c, d]) {
                *to = (u32::from_ne_bytes(own.map(|byte| byte as u8)) ^ sign).to_ne_bytes();
            }
        }
    }
    for tile in 0..tokens.div_ceil(KEY_TILE) {
        pack_values(s, values, tile, packed);
    }
}

/// `mean[at ..]`, `N` vectors: the sum of the keys in ascending order, times the inverse of their number.
#[inline(always)]
fn mean_of<S: SimdInt, const N: usize>(s: S, keys: MatRef<'_>, at: usize, mean: &mut [f32]) {
    let mut sums = [s.splat(0.0); N];
    for token in 0..keys.rows() {
        let row = keys.row(token);
        for (n, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at` and the vectors behind it are below the row's length.
            *sum = s.add(*sum, unsafe { load(s, row, at + n * LANES) });
        }
    }
    let inverse = s.splat(1.0 / keys.rows() as f32);
    let mean = &mut mean[at..][..N * LANES];
    for (n, sum) in sums.into_iter().enumerate() {
        // SAFETY: as many vectors.
        unsafe { s.store(mean.as_mut_ptr().add(n * LANES), s.mul(sum, inverse)) };
    }
}

/// One tile of values: a common scale, then pairs of keys side by side, or quads of them in two digits.
#[inline(always)]
fn pack_values<S: SimdInt>(s: S, values: MatRef<'_>, tile: usize, packed: &mut IntKeyValues) {
    let (head_dim, dims) = (packed.head_dim, packed.dims());
    let from = tile * KEY_TILE;
    let present = (packed.tokens - from).min(KEY_TILE);
    let mut seen = s.splat(0.0);
    for token in from..from + present {
        let row = values.row(token);
        let mut at = 0;
        while at < head_dim {
            // SAFETY: `at` is below the row's length.
            seen = s.max_magnitude(s.abs(unsafe { load(s, row, at) }), seen);
            at += LANES;
        }
    }
    let zero = s.splat(0.0);
    let max = s.reduce_magnitude4([seen, zero, zero, zero])[0];
    let small = max < 1e-30;
    let inverse = s.splat(if small { 0.0 } else { V_MAX / max });
    packed.value_scales[tile] = match small {
        true => 0.0,
        false if max.is_finite() => max / V_MAX,
        false => f32::NAN,
    };
    let tile_values = &mut packed.values[tile * KEY_TILE * dims..][..KEY_TILE * dims];
    let row = |key: usize| if key < present { values.row(from + key) } else { &[] };
    let matrices = S::MATRICES && packed.matrices;
    let per_step = if matrices { 4 } else { 2 };
    for first in (0..present).step_by(per_step) {
        let rows: [&[f32]; 4] = std::array::from_fn(|key| row(first + key));
        let mut at = 0;
        while at < head_dim {
            // SAFETY: `at` is below the rows' length; of the tile, `2 · dims` elements for a pair of keys, or two blocks of 1,024 bytes
            // for sixteen dimensions, of which 64 belong to the four keys: whole vectors.
            unsafe {
                let to = tile_values.as_mut_ptr();
                let mut v = [s.splat(0.0); 4];
                for (row, v) in rows.iter().zip(&mut v).take(per_step) {
                    if !row.is_empty() {
                        *v = s.mul(load(s, row, at), inverse);
                    }
                }
                if matrices {
                    let quad = first / 4;
                    // As `store_weights` orders the keys.
                    let line = quad % 4 * 4 + quad / 4;
                    let to = to.cast::<i8>().add(at / LANES * 2048 + line * 64);
                    s.store_value_digits(to, to.add(1024), v);
                } else {
                    s.store_i16_pairs(to.add(first * dims + 2 * at), v[0], v[1]);
                }
            }
            at += LANES;
        }
    }
}
