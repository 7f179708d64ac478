//! A block of queries, and the buffers in which it is multiplied with one tile of keys after the other.

use crate::attention::KEY_TILE;
use crate::layout::LANES;

/// How many SIMD vectors the products of one query with the 64 keys of a key tile fill.
pub(super) const KEY_TILE_VECTORS: usize = KEY_TILE / LANES;

/// The integer that stands for 1 in `P`.
pub(super) const P_ONE: f32 = 254.0;

/// The offset that is subtracted from `P` so that it fits a signed byte.
pub(super) const P_MIDDLE: f32 = 127.0;

/// Number of the values' dimensions that are stored together. It equals the number of keys in a tile, so that both products have the same shape.
pub(super) const GROUP: usize = KEY_TILE;

/// Quantised queries, their softmax state, and the sums that become their outputs.
pub(super) struct Block<'a> {
    /// `[rows][stride]`
    pub(super) queries: &'a [i8],
    pub(super) stride: usize,
    /// `-128 Σ q` of each query.
    pub(super) offsets: &'a [i32],
    /// The factor of each query's products, which contains the attention's scale and log₂ e; padded to whole vectors.
    pub(super) scales: &'a [f32],
    /// `[rows][dims]`: the weighted sums of values so far.
    pub(super) output: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) dims: usize,
    /// Each query's largest exponent and sum of weights so far; padded to whole vectors.
    pub(super) max: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
}

/// The buffers in which the block's queries are computed with one tile of keys at a time. Those with one element a query are whole vectors.
pub(super) struct Steps<'a> {
    /// `[48][64]`
    pub(super) exponents: &'a mut [f32],
    /// `[48][64]`: `P - 127`
    pub(super) p: &'a mut [i8],
    /// `-128 Σ (P - 127)` of each query.
    pub(super) p_offsets: &'a mut [i32],
    /// With matrix registers: the products with keys, `[16][64]`, and with values, `[groups][16][64]`.
    pub(super) products: (&'a mut [i32], &'a mut [i32]),
    /// These three: see [`State`](super::softmax::State), where `tile_scale` is `tile`.
    pub(super) tile_sum: &'a mut [f32],
    pub(super) tile_scale: &'a mut [f32],
    pub(super) rescale: &'a mut [f32],
}
