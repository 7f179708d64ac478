//! Keys and values in integers, laid out as the two products of attention read them.

use super::block::{GROUP, P_MIDDLE};
use super::quantize::{ROWS, ROWS_AHEAD, SMALLEST, four_rows, quantize};
use super::scratch::IntScratch;
use crate::attention::KEY_TILE;
use crate::buffer::Buffer;
use crate::elementwise::load;
use crate::layout::{LANES, MATRIX_STEP};
use crate::simd::int::SimdInt;
use crate::simd::math;
use crate::view::MatRef;

/// Keys and values of one head of one text, as [`crate::Kernels::attend_int`] reads them. If [`crate::Isa::Amx`] laid out more than 16 keys,
/// only it can read them.
#[derive(Debug, Default)]
pub struct IntKeyValues {
    tokens: usize,
    head_dim: usize,
    /// Whether keys and values are laid out for matrix registers.
    matrices: bool,
    /// `[tiles][quads][64 keys][4 dimensions]`: `k + 128`, or `k` for matrix registers.
    keys: Buffer<u8>,
    /// `[tiles · 64]`: the scale of each key; 0 beyond the last token.
    key_scales: Vec<f32>,
    /// `[tiles][groups][16 quads of keys][64 dimensions][4 keys]`: `v + 128`, or `v` for matrix registers.
    values: Buffer<u8>,
    /// `[tiles][groups][64]`: 127 times the sum of the tile's values in each dimension.
    value_sums: Vec<i32>,
    /// `[tiles · 64]`: log₂ of each value's scale divided by the largest scale; -∞ beyond the last token.
    value_logs: Vec<f32>,
    /// `[tiles · 64]`: the largest scale divided by each value's scale; 0 beyond the last token.
    value_inverses: Vec<f32>,
    /// The mean of the values (see [`mean_row`]), which was subtracted from each.
    value_mean: Vec<f32>,
    /// The largest scale of a value; NaN if one is not finite.
    value_scale: f32,
}

/// With fewer keys, dot products are faster than matrix registers (EXPERIMENTS.md).
const FEWEST_FOR_MATRICES: usize = 17;

/// Vectors of a mean that are summed side by side.
const MEAN_VECTORS: usize = 4;

/// The part of [`IntKeyValues`] for one tile of 64 tokens.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub keys: &'a [u8],
    pub key_scales: &'a [f32],
    /// `[groups][16 quads of keys][64 dimensions][4 keys]`
    pub values: &'a [u8],
    /// `[groups][64]`
    pub value_sums: &'a [i32],
    pub value_logs: &'a [f32],
    pub value_inverses: &'a [f32],
    /// How many of the tile's 64 tokens exist.
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

    /// Number of quads of dimensions that the product of queries and keys runs over, padding included.
    pub(super) fn quads(&self) -> usize {
        match self.matrices {
            true => self.head_dim.div_ceil(MATRIX_STEP) * (MATRIX_STEP / 4),
            false => self.head_dim.div_ceil(4),
        }
    }

    /// Number of dimensions of values and outputs, padded to whole vectors.
    pub(super) fn dims(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Number of groups of [`GROUP`] dimensions of the values.
    pub(super) fn groups(&self) -> usize {
        self.head_dim.div_ceil(GROUP)
    }

    pub(super) fn value_scale(&self) -> f32 {
        self.value_scale
    }

    pub(super) fn value_mean(&self) -> &[f32] {
        &self.value_mean
    }

    pub(super) fn tile(&self, tile: usize) -> Tile<'_> {
        let (keys, values) = (self.quads() * 4 * KEY_TILE, KEY_TILE * GROUP * self.groups());
        let own = tile * KEY_TILE..(tile + 1) * KEY_TILE;
        Tile {
            keys: &self.keys[tile * keys..][..keys],
            key_scales: &self.key_scales[own.clone()],
            values: &self.values[tile * values..][..values],
            value_sums: &self.value_sums[tile * values / KEY_TILE..][..values / KEY_TILE],
            value_logs: &self.value_logs[own.clone()],
            value_inverses: &self.value_inverses[own],
            present: (self.tokens - tile * KEY_TILE).min(KEY_TILE),
        }
    }

    pub(super) fn tiles(&self) -> impl ExactSizeIterator<Item = Tile<'_>> {
        (0..self.tokens.div_ceil(KEY_TILE)).map(|tile| self.tile(tile))
    }

    /// Makes room for `tokens` keys and values of `head_dim` dimensions, laid out for matrix registers or not.
    fn resize(&mut self, tokens: usize, head_dim: usize, matrices: bool) {
        (self.tokens, self.head_dim, self.matrices) = (tokens, head_dim, matrices);
        let tiles = tokens.div_ceil(KEY_TILE);
        // Elements beyond the last token or the last dimension are cleared, because an earlier text may have left data there. All others
        // are overwritten.
        let (keys, values) = (self.quads() * 4 * KEY_TILE, KEY_TILE * GROUP * self.groups());
        self.keys.grow(tiles * keys);
        self.values.grow(tiles * values);
        for rows in [&mut self.key_scales, &mut self.value_logs, &mut self.value_inverses] {
            rows.resize(tiles * KEY_TILE, 0.0);
        }
        self.value_mean.resize(self.dims(), 0.0);
        self.value_sums.clear();
        self.value_sums.resize(tiles * values / KEY_TILE, 0);
        let last = tiles - usize::from(!tokens.is_multiple_of(KEY_TILE));
        let first = if self.quads() > head_dim.div_ceil(4) { 0 } else { last };
        // The byte that stands for 0.
        let zero = if matrices { 0 } else { 128 };
        self.keys[first * keys..tiles * keys].fill(zero);
        self.key_scales[last * KEY_TILE..].fill(0.0);
        let first = if head_dim.is_multiple_of(GROUP) { last } else { 0 };
        self.values[first * values..tiles * values].fill(zero);
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
    let (quads, dims, groups) = (packed.quads(), packed.dims(), packed.groups());
    scratch.resize(head_dim, 4 * quads);
    let IntScratch { output, row, row8, shares, .. } = scratch;
    // Bytes are stored as `+ 128`, which flips their highest bit; for matrix registers, which multiply signed bytes, as they are.
    let sign = if matrices { 0 } else { 0x8080_8080 };

    // `output` is not in use yet. It has room for the keys' mean, which need not be kept: the softmax stays the same if one row is subtracted
    // from all keys.
    let mean = &mut output[..dims];
    let smallest = mean_row(s, keys, shares, mean);
    for first in (0..tokens).step_by(ROWS) {
        let scales = quantize_minus_mean(s, keys, first, (mean, smallest), row, row8);
        packed.key_scales[first..first + ROWS].copy_from_slice(&scales);
        let tile = &mut packed.keys[first / KEY_TILE * quads * 4 * KEY_TILE..][..quads * 4 * KEY_TILE];
        // Of each quad of dimensions come the four bytes of key `a`, then those of `b`, `c` and `d`.
        let at = first % KEY_TILE * 4;
        let [a, b, c, d] = four_rows(row8, dims);
        let (a, b, c, d) = (a.as_chunks::<4>().0, b.as_chunks::<4>().0, c.as_chunks::<4>().0, d.as_chunks::<4>().0);
        let to = tile.as_chunks_mut::<{ 4 * KEY_TILE }>().0.iter_mut().take(head_dim.div_ceil(4));
        for ((((to, a), b), c), d) in to.zip(a).zip(b).zip(c).zip(d) {
            for (to, [a, b, c, d]) in to[at..at + 4 * ROWS].as_chunks_mut::<4>().0.iter_mut().zip([a, b, c, d]) {
                *to = (u32::from_ne_bytes([*a as u8, *b as u8, *c as u8, *d as u8]) ^ sign).to_ne_bytes();
            }
        }
    }

    let mut mean = std::mem::take(&mut packed.value_mean);
    let smallest = mean_row(s, values, shares, &mut mean);
    for first in (0..tokens).step_by(ROWS) {
        let scales = quantize_minus_mean(s, values, first, (&mean, smallest), row, row8);
        // These are the scales themselves; `relate_scales` turns them into logarithms when the largest is known.
        packed.value_logs[first..first + ROWS].copy_from_slice(&scales);
        let tile = first / KEY_TILE * groups;
        for (group, from) in (0..dims).step_by(GROUP).enumerate() {
            let to = (tile + group) * KEY_TILE * GROUP + first % KEY_TILE * GROUP;
            let to = packed.values[to..][..ROWS * GROUP].as_chunks_mut::<ROWS>().0;
            let sums = &mut packed.value_sums[(tile + group) * GROUP..][..GROUP];
            let own = from..dims.min(from + GROUP);
            let [a, b, c, d] = four_rows(row8, dims);
            let (a, b, c, d) = (&a[own.clone()], &b[own.clone()], &c[own.clone()], &d[own]);
            // Of each dimension come one byte of each of the four keys. They are combined by shifts, which compilers turn into vector code.
            for ((((to, a), b), c), d) in to.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                let [low, high] =
                    [u32::from(*a as u8) | u32::from(*b as u8) << 8, u32::from(*c as u8) | u32::from(*d as u8) << 8];
                *to = ((low | high << 16) ^ sign).to_le_bytes();
            }
            for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *sum += P_MIDDLE as i32 * (i32::from(*a) + i32::from(*b) + i32::from(*c) + i32::from(*d));
            }
        }
    }
    packed.value_mean = mean;
    relate_scales(packed);
}

/// Replaces the scales in `value_logs` by their logarithms relative to the largest scale, and fills `value_inverses`.
#[inline(always)]
fn relate_scales(packed: &mut IntKeyValues) {
    /// Smaller than the relative scale of any value that is not zero: a value's distance to the mean is at most twice the largest
    /// magnitude.
    const LEAST: f32 = SMALLEST_PART / 4.0;
    let (scales, beyond) = packed.value_logs.split_at_mut(packed.tokens);
    let (inverses, none) = packed.value_inverses.split_at_mut(packed.tokens);
    beyond.fill(f32::NEG_INFINITY);
    none.fill(0.0);
    // Compared by their bits, NaN is the largest.
    let largest = scales.iter().fold(0, |largest, scale| scale.to_bits().max(largest));
    packed.value_scale = f32::from_bits(largest);
    if packed.value_scale.is_nan() || largest == 0 {
        // No scale is needed: all values equal the mean, or all results are NaN.
        scales.fill(0.0);
        inverses.fill(1.0);
        return;
    }
    for (scale, inverse) in scales.iter_mut().zip(inverses) {
        let part = (*scale / packed.value_scale).max(LEAST);
        (*scale, *inverse) = (math::log2(part), 1.0 / part);
    }
}

/// Subtracts `mean` from four rows, beginning at `first`, and quantises the differences to bytes in `row8`; returns their scales. `rows` is
/// scratch. Rows beyond the last one, and rows closer to the mean than `smallest`, become zeros.
#[inline(always)]
fn quantize_minus_mean<S: SimdInt>(
    s: S,
    matrix: MatRef<'_>,
    first: usize,
    (mean, smallest): (&[f32], f32),
    rows: &mut [f32],
    row8: &mut [i8],
) -> [f32; ROWS] {
    let dims = mean.len();
    for (key, row) in rows.chunks_exact_mut(dims).enumerate() {
        if first + key >= matrix.rows() {
            row.fill(0.0);
            continue;
        }
        let own = matrix.row(first + key);
        let mut at = 0;
        while at < own.len() {
            // SAFETY: `at` is below the row's length; whole vectors of the others.
            unsafe {
                let k = s.sub(load(s, own, at), s.load(mean.as_ptr().add(at)));
                s.store(row.as_mut_ptr().add(at), k);
            }
            at += LANES;
        }
    }
    quantize(s, four_rows(rows, dims), smallest, row8, dims).0
}

/// A row whose distance to the mean is less than this part of the text's largest magnitude is treated as equal to the mean.
const SMALLEST_PART: f32 = 1.0 / (1u128 << 80) as f32;

/// Computes the row that is subtracted from all rows: a mean in which large rows are weighted down to the usual size. (Attention stays the same
/// whichever row is subtracted. A plain mean would be dominated by the few large rows, and the other rows, which get most of the attention,
/// would lose precision.) `mean` holds whole vectors. Returns the distance below which a row is treated as equal to the mean.
#[inline(always)]
fn mean_row<S: SimdInt>(s: S, rows: MatRef<'_>, shares: &mut Vec<f32>, mean: &mut [f32]) -> f32 {
    let largest = shares_of_rows(s, rows, shares);
    let mut at = 0;
    while at < rows.cols() {
        // Several vectors are summed side by side, because a single sum would wait for its own last addition.
        if at + MEAN_VECTORS * LANES <= rows.cols() {
            mean_of::<S, MEAN_VECTORS>(s, rows, shares, at, mean);
            at += MEAN_VECTORS * LANES;
        } else {
            mean_of::<S, 1>(s, rows, shares, at, mean);
            at += LANES;
        }
    }
    (largest * SMALLEST_PART).max(SMALLEST)
}

/// Computes each row's share in the mean; the shares add up to 1 and are in the proportion `min(1, h / a)`, where `a` is a row's largest
/// magnitude and `h` the harmonic mean of all `a`. Returns the largest magnitude of all rows.
#[inline(always)]
fn shares_of_rows<S: SimdInt>(s: S, rows: MatRef<'_>, shares: &mut Vec<f32>) -> f32 {
    /// The limit of a ratio between two rows' magnitudes, so that the sum of such ratios over all tokens stays finite.
    const MOST: f32 = (1u128 << 100) as f32;
    let tokens = rows.rows();
    shares.clear();
    shares.resize(tokens.next_multiple_of(LANES), 0.0);
    let last = tokens - 1;
    for first in (0..tokens).step_by(ROWS) {
        let mut seen = [s.splat(0.0); ROWS];
        for (token, seen) in (first..tokens).zip(&mut seen) {
            let (row, next) = (rows.row(token), rows.row((token + ROWS_AHEAD).min(last)));
            let mut at = 0;
            while at < row.len() {
                s.prefetch(next.as_ptr().wrapping_add(at).cast());
                // SAFETY: `at` is below the row's length.
                *seen = s.max_magnitude(s.abs(unsafe { load(s, row, at) }), *seen);
                at += LANES;
            }
        }
        shares[first..first + ROWS].copy_from_slice(&s.reduce_magnitude4(seen));
    }
    // Compared by their bits, NaN is the largest.
    let largest = f32::from_bits(shares.iter().fold(0, |largest, magnitude| magnitude.to_bits().max(largest)));
    for share in shares[..tokens].iter_mut() {
        // A text of zero rows gives 0 / 0 = NaN here, which `min` replaces.
        *share = (largest / *share).min(MOST);
    }
    let usual = tokens as f32 / sum_of(s, shares);
    for share in shares[..tokens].iter_mut() {
        *share = (*share * usual).min(1.0);
    }
    let inverse = 1.0 / sum_of(s, shares);
    shares.iter_mut().for_each(|share| *share *= inverse);
    largest
}

/// The sum of all values, which are whole vectors.
#[inline(always)]
fn sum_of<S: SimdInt>(s: S, values: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for vector in values.chunks_exact(LANES) {
        // SAFETY: sixteen elements.
        sum = s.add(sum, unsafe { s.load(vector.as_ptr()) });
    }
    s.reduce(sum)
}

/// Computes `N` vectors of the mean from `at` on: the sum of the rows, each times its share, in ascending order.
#[inline(always)]
fn mean_of<S: SimdInt, const N: usize>(s: S, rows: MatRef<'_>, shares: &[f32], at: usize, mean: &mut [f32]) {
    let mut sums = [s.splat(0.0); N];
    for (token, share) in (0..rows.rows()).zip(shares) {
        let (row, share) = (rows.row(token), s.splat(*share));
        for (n, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at` and the vectors after it are below the row's length.
            *sum = s.mul_add(unsafe { load(s, row, at + n * LANES) }, share, *sum);
        }
    }
    let mean = &mut mean[at..][..N * LANES];
    for (n, sum) in sums.into_iter().enumerate() {
        // SAFETY: as many vectors.
        unsafe { s.store(mean.as_mut_ptr().add(n * LANES), sum) };
    }
}
