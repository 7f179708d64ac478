//! The buffers that a thread needs for integer attention.

use super::quantize::ROWS;
use crate::attention::{KEY_TILE, QUERY_BLOCK};
use crate::buffer::Buffer;
use crate::layout::LANES;

/// Buffers of one thread for [`crate::Kernels::pack_int`] and [`crate::Kernels::attend_int`]; they grow as needed.
#[derive(Debug, Default)]
pub struct IntScratch {
    /// `[48][64]`
    pub(super) exponents: Buffer<f32>,
    /// `[48][64]`: `P - 127`
    pub(super) p: Buffer<i8>,
    /// `[48][dims]`: the weighted sums of values so far.
    pub(super) output: Buffer<f32>,
    /// `[48][query_stride]`: the quantised queries.
    pub(super) queries: Buffer<i8>,
    /// With matrix registers, products with the keys, `[16 queries][64]`, and with the values, `[groups][16 queries][64]`.
    pub(super) products: Buffer<i32>,
    // From here to `rescale`: an element for each of the 48 queries.
    pub(super) query_scales: Vec<f32>,
    /// `-128 Σ q`
    pub(super) offsets: Vec<i32>,
    /// `-128 Σ (P - 127)`
    pub(super) p_offsets: Vec<i32>,
    pub(super) max: Vec<f32>,
    pub(super) sum: Vec<f32>,
    pub(super) tile_sum: Vec<f32>,
    pub(super) tile_scale: Vec<f32>,
    pub(super) rescale: Vec<f32>,
    /// Four rows in f32, padded to whole vectors.
    pub(super) row: Vec<f32>,
    /// Four rows after they have been quantised.
    pub(super) row8: Vec<i8>,
    /// Each token's share in a mean; padded to whole vectors.
    pub(super) shares: Vec<f32>,
}

impl IntScratch {
    /// Makes the buffers large enough for heads of `head_dim` dimensions. `depth` is what products with a query run over: `head_dim`, padded.
    pub(super) fn resize(&mut self, head_dim: usize, depth: usize) {
        let dims = head_dim.next_multiple_of(LANES);
        self.exponents.grow(QUERY_BLOCK * KEY_TILE);
        self.p.grow(QUERY_BLOCK * KEY_TILE);
        self.output.grow(QUERY_BLOCK * dims);
        self.queries.grow(QUERY_BLOCK * query_stride(dims, depth));
        self.query_scales.resize(QUERY_BLOCK, 0.0);
        self.offsets.resize(QUERY_BLOCK, 0);
        self.p_offsets.resize(QUERY_BLOCK, 0);
        for state in [&mut self.max, &mut self.sum, &mut self.tile_sum, &mut self.tile_scale, &mut self.rescale] {
            state.resize(QUERY_BLOCK, 0.0);
        }
        self.row.resize(ROWS * dims, 0.0);
        self.row8.resize(ROWS * dims, 0);
    }
}

/// Bytes from one quantised query to the next: room for whole vectors of its `dims` and for the `depth` of its products.
pub(super) fn query_stride(dims: usize, depth: usize) -> usize {
    dims.max(depth)
}
