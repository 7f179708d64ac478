//! The int4 matrix product: int8 rows times blocks of 32 weights of 4 bits with an f16 scale each.
//!
//! ```text
//! for each panel of 32 outputs
//!   for each tile of up to 8 rows
//!     for each block of 32 depths         576 bytes: 32 scales, 512 bytes of nibbles
//!       for each 8 depths                 2 loads, 4 vectors of weights, 2 R broadcasts, 4 R dot products
//!         acc[R][2] = Σ (w + 8) · a - 8 Σ a
//!       sum[R][2] += acc · block scale (· activation scale of the block)
//! ```
//! Nibbles are stored as `w + 8`, unsigned, and multiplied as such; the rows carry `-8 Σ a` of each block, exact.
//! `|acc| <= 32 · 15 · 127 · 2`: far from overflow.

use super::{
    Finish, I4_BLOCK, I4_BLOCK_BYTES, PANEL, PREFETCH_BYTES, Panels, load_pair, store_pair, tile_rows, with_rows,
};
use crate::LANES;
use crate::rows8::{Rows8, Rows8Kind};
use crate::simd::int::SimdInt;
use crate::simd::math;
use crate::view::MatMut;

/// See [`crate::Kernels::linear_i4`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear<S: SimdInt>(s: S, x: Rows8<'_>, w: Panels<'_, u8>, finish: Finish<'_>, mut out: MatMut<'_>) {
    let stride = out.stride();
    let blocks = x.depth() / I4_BLOCK;
    let groups = x.scale_groups();
    for (panel, from) in (0..w.outputs()).step_by(PANEL).enumerate() {
        let cols = (w.outputs() - from).min(PANEL);
        let bias = load_pair(s, finish.bias, from, 0.0);
        let mut row = 0;
        while row < x.rows() {
            let rows = tile_rows(x.rows() - row, S::I4_ROWS);
            let tile = Tile {
                x: x.row_ptr(row),
                ldx: x.stride(),
                blocks,
                offsets: &x.offsets()[row * blocks..],
                scales: &x.scales()[row * groups..],
                grouped: x.kind() == Rows8Kind::Int4Grouped,
            };
            // SAFETY: `rows` rows of `x` from `row` on; a panel of their depth; `rows` x `cols` of `out`.
            unsafe {
                let out = out.as_mut_ptr().add(row * stride + from);
                let panel = w.panel(panel);
                with_rows!(rows, S::I4_ROWS, tile_product::<S>(s, tile, panel, bias, cols, finish.gelu, out, stride));
            }
            row += rows;
        }
    }
}

/// The rows of a tile.
#[derive(Clone, Copy)]
struct Tile<'a> {
    x: *const i8,
    ldx: usize,
    blocks: usize,
    /// `-8 Σ a` of each block of each row.
    offsets: &'a [i32],
    /// A scale a row, or (`grouped`) one a block.
    scales: &'a [f32],
    grouped: bool,
}

/// # Safety
/// `tile` has `R` rows of `blocks · 32` activations with offsets and scales, `panel` as many blocks; `out` takes `R` rows of
/// `cols <= 32`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // operands, finish, place: a struct would only rename them
unsafe fn tile_product<S: SimdInt, const R: usize>(
    s: S,
    tile: Tile<'_>,
    panel: &[u8],
    bias: [S::V; 2],
    cols: usize,
    gelu: bool,
    out: *mut f32,
    ldo: usize,
) {
    let blocks = tile.blocks;
    let offsets = &tile.offsets[..R * blocks];
    let row_scales = &tile.scales[..R * if tile.grouped { blocks } else { 1 }];
    let mut sums = [[s.splat(0.0); 2]; R];
    for (block, bytes) in panel.chunks_exact(I4_BLOCK_BYTES).enumerate() {
        for line in 0..I4_BLOCK_BYTES / 64 {
            s.prefetch(bytes.as_ptr().wrapping_add(PREFETCH_BYTES + line * 64));
        }
        let mut start = [0; R];
        for (r, start) in start.iter_mut().enumerate() {
            // SAFETY: block < blocks, r < R: inside the slice of R * blocks.
            *start = unsafe { *offsets.get_unchecked(r * blocks + block) };
        }
        // SAFETY: 32 activations of each row; behind 64 bytes of scales, 512 of nibbles.
        let acc = unsafe {
            let (x, nibbles) = (tile.x.add(block * I4_BLOCK), bytes.as_ptr().add(64));
            match s.matrix4(x, tile.ldx, nibbles, start) {
                Some(acc) => acc,
                None => dot_sums(s, x, tile.ldx, nibbles, start),
            }
        };
        // SAFETY: 32 scales of two bytes begin the block.
        let scale = unsafe { [s.load_f16(bytes.as_ptr().cast()), s.load_f16(bytes.as_ptr().add(LANES * 2).cast())] };
        for (r, acc) in acc.into_iter().enumerate() {
            let mut values = [s.to_f32(acc[0]), s.to_f32(acc[1])];
            if tile.grouped {
                // SAFETY: as above.
                let of_block = s.splat(unsafe { *row_scales.get_unchecked(r * blocks + block) });
                values = [s.mul(values[0], of_block), s.mul(values[1], of_block)];
            }
            sums[r][0] = s.mul_add(values[0], scale[0], sums[r][0]);
            sums[r][1] = s.mul_add(values[1], scale[1], sums[r][1]);
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        let scale = s.splat(if tile.grouped { 1.0 } else { row_scales[r] });
        let mut values = [s.mul_add(sums[0], scale, bias[0]), s.mul_add(sums[1], scale, bias[1])];
        if gelu {
            values = [math::gelu_fast(s, values[0]), math::gelu_fast(s, values[1])];
        }
        // SAFETY: by the caller's word.
        unsafe { store_pair(s, out.add(r * ldo), cols, values) };
    }
}

/// Sums of a block.
///
/// # Safety
/// `x` has `R` rows of 32 activations, `nibbles` 512 bytes.
#[inline(always)]
unsafe fn dot_sums<S: SimdInt, const R: usize>(
    s: S,
    x: *const i8,
    ldx: usize,
    nibbles: *const u8,
    start: [i32; R],
) -> [[S::I; 2]; R] {
    let mut acc = [[s.splat_i32(0); 2]; R];
    for (acc, start) in acc.iter_mut().zip(start) {
        *acc = [s.splat_i32(start); 2];
    }
    for step in 0..4 {
        // SAFETY: 128 bytes of nibbles a step; 32 activations of each row.
        unsafe {
            let first = s.load_w4(nibbles.add(step * 128));
            let second = s.load_w4(nibbles.add(step * 128 + 64));
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = x.add(r * ldx + step * 4);
                let a = s.broadcast_a8(x);
                acc[0] = s.dot4(acc[0], first[0], a);
                acc[1] = s.dot4(acc[1], second[0], a);
                let a = s.broadcast_a8(x.add(16));
                acc[0] = s.dot4(acc[0], first[1], a);
                acc[1] = s.dot4(acc[1], second[1], a);
            }
        }
    }
    acc
}
