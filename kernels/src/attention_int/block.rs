//! A block of queries, and what its tiles of keys are computed in.

use crate::attention::KEY_TILE;
use crate::layout::LANES;

/// Vectors of a tile's scores.
pub(super) const TILE_VECTORS: usize = KEY_TILE / LANES;

/// The integer that stands for 1 in `P`.
pub(super) const P_ONE: f32 = 254.0;

/// The offset that is subtracted from `P` so that it fits a signed byte.
pub(super) const P_MIDDLE: f32 = 127.0;

/// Dimensions of the values that are stored together. It equals the number of keys in a tile, so that both products have the same shape.
pub(super) const GROUP: usize = KEY_TILE;

/// Quantised queries and where their outputs are gathered.
pub(super) struct Block<'a> {
    /// `[rows][stride]`
    pub(super) queries: &'a [i8],
    pub(super) stride: usize,
    /// `-128 Σ q`
    pub(super) offsets: &'a [i32],
    /// Of the scores, with log₂ e in them: whole vectors.
    pub(super) scales: &'a [f32],
    /// `[rows][dims]`
    pub(super) output: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) dims: usize,
    /// The softmax's state: whole vectors.
    pub(super) max: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
}

/// What the tiles of a block are computed in: whole vectors of queries.
pub(super) struct Steps<'a> {
    /// `[48][64]`
    pub(super) exponents: &'a mut [f32],
    pub(super) p: &'a mut [i8],
    pub(super) p_offsets: &'a mut [i32],
    /// With matrix registers: `[16][64]` and `[groups][16][64]`.
    pub(super) products: (&'a mut [i32], &'a mut [i32]),
    pub(super) tile_sum: &'a mut [f32],
    pub(super) tile_scale: &'a mut [f32],
    pub(super) rescale: &'a mut [f32],
}
