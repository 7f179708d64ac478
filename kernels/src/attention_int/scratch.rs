//! The buffers of a thread.

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
    /// `[48][dims]`
    pub(super) output: Buffer<f32>,
    /// `[48][query_stride]`
    pub(super) queries: Buffer<i8>,
    /// With matrix registers, products with the keys, `[16 queries][64]`, and with the values, `[groups][16 queries][64]`.
    pub(super) products: Buffer<i32>,
    pub(super) query_scales: Vec<f32>,
    pub(super) offsets: Vec<i32>,
    /// `-128 Σ (P - 127)`
    pub(super) p_offsets: Vec<i32>,
    pub(super) max: Vec<f32>,
    pub(super) sum: Vec<f32>,
    pub(super) tile_sum: Vec<f32>,
    pub(super) tile_scale: Vec<f32>,
    pub(super) rescale: Vec<f32>,
    /// Four rows in f32, then in i8: whole vectors.
    pub(super) row: Vec<f32>,
    pub(super) row8: Vec<i8>,
    /// Each token's share in a mean: whole vectors.
    pub(super) shares: Vec<f32>,
}

impl IntScratch {
    /// For heads of `head_dim` dimensions, of which a query's product runs over `depth`.
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

/// Bytes from a query to the next: whole vectors, and all that its product runs over.
pub(super) fn query_stride(dims: usize, depth: usize) -> usize {
    dims.max(depth)
}
