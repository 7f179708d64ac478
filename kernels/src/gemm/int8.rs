//! The int8 matrix product: rows with a scale each times weights with a scale an output.
//!
//! ```text
//! for each panel of 32 outputs            one stream of memory; 32 KB at a depth of 1,024, second-level cache at 4,096
//!   for each tile of up to 12 rows        as equal as they can be
//!     for each 4 depths                   2 loads of weights, R broadcasts, 2 R dot products
//!       acc[R][2] += w[32][4] · x[R][4]
//!     out[R][32] = acc · row scale · output scale + bias
//! ```
//! 1. Few rows (up to a tile): every weight byte is read once, in the order it lies, with a prefetch ahead: memory speed.
//! 2. Many rows: a panel is read from the second-level cache once a tile, 128 bytes for 24 dot products: arithmetic speed.
//! 3. A set whose instructions multiply matrices of bytes (`SimdInt::matrix8`) takes a tile's whole sums in its own order. They are the
//!    same integers, and what follows them is the same code.
//! 4. Accumulators are exact: `|acc| <= depth · 255 · 127` (the stored `w + 128` against `|a| <= 127`) is below 2^31 up to a depth of
//!    65,536. The sets that multiply the stored bytes begin with `-128 Σ a`, which the rows carry.

use super::{Finish, PANEL, PREFETCH_BYTES, Panels, load_pair, store_pair, tile_rows, with_rows};
use crate::rows8::Rows8;
use crate::simd::int::SimdInt;
use crate::simd::math;
use crate::view::MatMut;

/// See [`crate::Kernels::linear_i8`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear<S: SimdInt>(s: S, x: Rows8<'_>, w: Panels<'_, u8>, finish: Finish<'_>, mut out: MatMut<'_>) {
    let stride = out.stride();
    for (panel, from) in (0..w.outputs()).step_by(PANEL).enumerate() {
        let cols = (w.outputs() - from).min(PANEL);
        let scales = load_pair(s, finish.scales, from, 1.0);
        let bias = load_pair(s, finish.bias, from, 0.0);
        let mut row = 0;
        while row < x.rows() {
            let rows = tile_rows(x.rows() - row, S::I8_ROWS);
            let tile =
                Tile { x: x.row_ptr(row), ldx: x.stride(), offsets: &x.offsets()[row..], scales: &x.scales()[row..] };
            // SAFETY: `rows` rows of `x` from `row` on; a panel of their depth; `rows` x `cols` of `out`.
            unsafe {
                let out = out.as_mut_ptr().add(row * stride + from);
                let panel = w.panel(panel);
                with_rows!(
                    rows,
                    S::I8_ROWS,
                    tile_product::<S>(s, tile, panel, scales, bias, cols, finish.gelu, out, stride)
                );
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
    /// `-128 Σ a` of each row.
    offsets: &'a [i32],
    scales: &'a [f32],
}

/// # Safety
/// `tile` has `R` rows of `panel.len() / 32` activations, and as many offsets and scales; `out` takes `R` rows of `cols <= 32`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // operands, finish, place: a struct would only rename them
unsafe fn tile_product<S: SimdInt, const R: usize>(
    s: S,
    tile: Tile<'_>,
    panel: &[u8],
    scales: [S::V; 2],
    bias: [S::V; 2],
    cols: usize,
    gelu: bool,
    out: *mut f32,
    ldo: usize,
) {
    let (offsets, row_scales) = (&tile.offsets[..R], &tile.scales[..R]);
    // SAFETY: by the caller's word.
    let acc = unsafe {
        match s.matrix8(tile.x, tile.ldx, panel.as_ptr(), panel.len() / (4 * PANEL), offsets) {
            Some(acc) => acc,
            None => dot_sums::<S, R>(s, tile, panel, offsets),
        }
    };
    for (r, acc) in acc.into_iter().enumerate() {
        let scale = s.splat(row_scales[r]);
        let mut values = [
            s.mul_add(s.mul(s.to_f32(acc[0]), scale), scales[0], bias[0]),
            s.mul_add(s.mul(s.to_f32(acc[1]), scale), scales[1], bias[1]),
        ];
        if gelu {
            values = [math::gelu_fast(s, values[0]), math::gelu_fast(s, values[1])];
        }
        // SAFETY: by the caller's word.
        unsafe { store_pair(s, out.add(r * ldo), cols, values) };
    }
}

/// # Safety
/// As for [`tile_product`].
#[inline(always)]
unsafe fn dot_sums<S: SimdInt, const R: usize>(s: S, tile: Tile<'_>, panel: &[u8], offsets: &[i32]) -> [[S::I; 2]; R] {
    let mut acc = [[s.splat_i32(0); 2]; R];
    for (acc, &offset) in acc.iter_mut().zip(offsets) {
        *acc = [s.start8(offset); 2];
    }
    let depth = panel.len() / PANEL;
    let mut w = panel.as_ptr();
    let mut d = 0;
    while d < depth {
        // SAFETY: 128 bytes of the panel for every 4 of the depth; 4 activations of every row.
        unsafe {
            s.prefetch(w.wrapping_add(PREFETCH_BYTES));
            s.prefetch(w.wrapping_add(PREFETCH_BYTES + 64));
            let wv = [s.load_w8(w), s.load_w8(w.add(64))];
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = s.broadcast_a8(tile.x.add(r * tile.ldx + d));
                acc[0] = s.dot8(acc[0], wv[0], a);
                acc[1] = s.dot8(acc[1], wv[1], a);
            }
            w = w.add(128);
        }
        d += 4;
    }
    acc
}
