//! The int8 product of more than two rows on ISAs whose products of bytes saturate: AVX2 without VNNI.
//!
//! ```text
//! vpmaddubsw: pair = w0 · a0 + w1 · a1 in 16 bits        w: the stored bytes, 0 ..= 255
//! a pair does not saturate if its positive activations sum to at most 128, and its negative ones to at least -128: 255 · 128 < 2^15
//!
//! a = a' + rest      split once for all outputs: rest = 0 in quads whose two pairs do not saturate, else a' is half of a, rest the other half
//!   for each tile of rows           see `tiles.rs`
//!     acc += w · a'                 every quad: vpmaddubsw, vpmaddwd, vpaddd
//!     acc += w · rest               the few quads that have one
//! ```
//! 1. The sums are the same integers as those of `int8.rs`. Its loop would multiply `|w|` by `a` with the sign of `w`, which takes one instruction
//!    more for every 32 products, and two more registers for the weights.
//! 2. Activations are close to normally distributed, because rows are rotated before they are rounded (`rows8.rs`). So some 3 % of the quads of
//!    rows of 1,024 have a rest, and 1.5 % of those of rows of 4,096. A tile with a row in which every quad has one takes twice as long.

use std::cell::Cell;
use std::ops::Range;

use super::epilogue::finish_tile;
use super::tiles::{MOST_TILE_ROWS, Place, TileProduct, by_tiles, of_this_tile, tile_rows};
use super::{Epilogue, Prefetch, Source};
use crate::buffer::Buffer;
use crate::layout::{LANES, PANEL, Rest, TileShape};
use crate::rows8::Rows8;
use crate::simd::int::SimdInt;
use crate::view::MatMut;

/// Most rows that are split at a time, which limits the memory that split rows take.
const ROWS: usize = 192;

/// Most rests for which a thread keeps memory after a product: 1 MB. Only rows that are far from normally distributed have more.
const MOST_KEPT: usize = 1 << 17;

/// Rows that have been split into `a'` and rests.
#[derive(Default)]
struct Split {
    /// `a'`, with the stride of the rows.
    rows: Buffer<i8>,
    /// The rests, tile by tile: the first rest of each row of the tile, then the second of each, and so on. A row with fewer rests than another has
    /// zeros instead, so that one loop goes through the rests of all rows of a tile.
    rests: Vec<Rest>,
    /// For each row, where the rests of its tile begin and end in `rests`.
    of_tile: Vec<Range<usize>>,
    /// The rests of the tile that is being split, row by row.
    in_order: Vec<Rest>,
}

thread_local! {
    /// Memory for the split rows, which a thread keeps from one product to the next: 192 rows are 800 KB at a depth of 4,096, and their rests
    /// some 50 KB. It is freed if there were more than [`MOST_KEPT`] rests.
    static SPLIT: Cell<Split> = Cell::default();
}

/// See [`crate::Kernels::linear_i8`], which has checked the shapes.
#[inline(always)]
pub(super) fn linear<S: SimdInt, W: Source<u8>>(s: S, x: Rows8<'_>, mut w: W, epilogue: Epilogue<'_>, out: MatMut<'_>) {
    // The memory is taken out of the cell instead of borrowed in a closure, because closures are compiled without the ISA's features. On a
    // thread that is ending, the cell may already be destroyed.
    let mut split = SPLIT.try_with(Cell::take).unwrap_or_default();
    let outputs = w.outputs();
    let (mut first, mut left) = (0, out);
    while first < x.rows() {
        let rows = ROWS.min(x.rows() - first);
        let (out, rest) = left.split_rows(rows);
        let x = x.rows_from(first, rows);
        split.fill(s, x);
        // SAFETY: rows, panels and outputs of the same shape, as checked.
        unsafe { by_tiles(s, &mut w, Product { x, split: &split, epilogue, outputs }, out) };
        (first, left) = (first + rows, rest);
    }
    if split.rests.capacity() + split.in_order.capacity() <= MOST_KEPT {
        let _ = SPLIT.try_with(|kept| kept.set(split));
    }
}

impl Split {
    /// Splits the rows `x`, in place of the rows that were split before.
    #[inline(always)]
    fn fill<S: SimdInt>(&mut self, s: S, x: Rows8<'_>) {
        let (stride, quads) = (x.stride(), x.depth() / 4);
        self.rows.grow(x.rows() * stride);
        self.rests.clear();
        self.of_tile.clear();
        while self.of_tile.len() < x.rows() {
            let first = self.of_tile.len();
            let height = tile_rows(x.rows() - first, S::SPLIT_I8_TILE.rows);
            let mut ends = [0; MOST_TILE_ROWS + 1];
            self.in_order.clear();
            for r in 0..height {
                let to = &mut self.rows[(first + r) * stride..][..stride];
                // SAFETY: a row has a stride of bytes, which is at least its depth and 64 more.
                unsafe { s.split_row8(x.row_ptr(first + r), quads, to.as_mut_ptr(), &mut self.in_order) };
                ends[r + 1] = self.in_order.len();
            }
            let rounds = (0..height).map(|r| ends[r + 1] - ends[r]).max().unwrap_or(0);
            let begin = self.rests.len();
            for round in 0..rounds {
                for own in ends[..=height].windows(2) {
                    self.rests.push(self.in_order[own[0]..own[1]].get(round).copied().unwrap_or_default());
                }
            }
            self.of_tile.extend(std::iter::repeat_n(begin..self.rests.len(), height));
        }
    }
}

/// The product of rows that have been split.
struct Product<'a> {
    /// The rows before the split, for their scales and corrections.
    x: Rows8<'a>,
    split: &'a Split,
    epilogue: Epilogue<'a>,
    outputs: usize,
}

impl<S: SimdInt> TileProduct<S, u8> for Product<'_> {
    const TILE: TileShape = S::SPLIT_I8_TILE;

    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(
        &mut self,
        s: S,
        panel: &[u8],
        place: Place,
        out: *mut f32,
        ldo: usize,
    ) {
        let Place { row, at, vector, .. } = place;
        let ldx = of_this_tile(self.x.stride());
        let x = self.split.rows[row * ldx..].as_ptr();
        let (offsets, scales) = (&self.x.offsets()[row..][..R], &self.x.scales()[row..][..R]);
        let ahead = place.prefetch(panel.len() / (4 * PANEL));
        self.epilogue.prefetch::<S, N>(s, at);
        // Prefetches the cache lines of `out`, because the stores at the end would wait for them (EXPERIMENTS.md).
        for r in 0..R {
            for n in 0..N {
                s.prefetch_to_write(out.wrapping_add(r * ldo + n * LANES).cast());
            }
        }
        let mut sums = [[s.splat_i32(0); N]; R];
        for (sums, &offset) in sums.iter_mut().zip(offsets) {
            *sums = [s.splat_i32(offset); N];
        }
        // SAFETY: guaranteed by the caller; the split has as many rows, as far apart, and its rests lie within their depth.
        unsafe {
            let w = panel.as_ptr().add(vector * 4 * LANES);
            add_dots(s, &mut sums, x, ldx, w, panel.len() / PANEL, ahead);
            self.add_rests(s, &mut sums, row, w);
            finish_tile(s, sums, scales, self.epilogue, (at, self.outputs), out, ldo);
        }
    }
}

impl Product<'_> {
    /// Adds the products of the rests of a tile of `R` rows from `row` on.
    ///
    /// # Safety
    /// `w` has 128 bytes for every quad of the rows, of which the first `64 N` are readable.
    #[inline(always)]
    unsafe fn add_rests<S: SimdInt, const R: usize, const N: usize>(
        &self,
        s: S,
        sums: &mut [[S::I; N]; R],
        row: usize,
        w: *const u8,
    ) {
        for round in self.split.rests[self.split.of_tile[row].clone()].chunks_exact(R) {
            for (sums, rest) in sums.iter_mut().zip(round) {
                let w = w.wrapping_add(rest.quad as usize * 4 * PANEL);
                // SAFETY: guaranteed by the caller.
                unsafe { s.add_split_quad8(std::array::from_mut(sums), rest.bytes.as_ptr(), 0, w) };
            }
        }
    }
}

/// Adds the dot products of rows `a'` over `depth` activations of each row, a multiple of 4. Each step of 4 prefetches `N` cache lines of `ahead`.
///
/// # Safety
/// `depth` activations are readable at `x + r · ldx` for `r < R`; `w` has 128 bytes for every 4 of them, of which the first `64 N` are readable.
#[inline(always)]
unsafe fn add_dots<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    sums: &mut [[S::I; N]; R],
    x: *const i8,
    ldx: usize,
    w: *const u8,
    depth: usize,
    ahead: Prefetch,
) {
    let (mut w, mut from, mut d) = (w, 0, 0);
    while d < depth {
        for line in 0..N {
            ahead.fetch(s, from + 64 * line);
        }
        from += ahead.step;
        // SAFETY: guaranteed by the caller.
        unsafe { s.add_split_quad8(sums, x.add(d), ldx, w) };
        w = w.wrapping_add(4 * PANEL);
        d += 4;
    }
}
