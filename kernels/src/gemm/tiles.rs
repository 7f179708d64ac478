//! The loop that all products by register tiles share: over panels of outputs, and in each of them over tiles of rows.
//!
//! ```text
//! for each panel of 32 outputs                 read from memory by the first tile, from a cache by those that follow
//!   for each N of its 2 vectors                both at once, if there are registers for them
//!     for each tile of up to TILE.rows rows    tiles as equal in size as possible
//! ```

use super::{NextPanel, Prefetch, Source};
use crate::layout::{LANES, PANEL, TileShape};
use crate::simd::int::SimdInt;
use crate::view::MatMut;

/// Most rows of a register tile, on any instruction set.
pub(super) const MOST_TILE_ROWS: usize = 12;

/// A product that is computed in register tiles: how large they are, and how one is computed.
pub(super) trait TileProduct<S: SimdInt, T> {
    /// The shape of the largest tile.
    const TILE: TileShape;

    /// Computes the outputs of one tile, `R` rows by `16 N` outputs, and writes them to `out`, whose rows are `ldo` elements apart.
    ///
    /// # Safety
    /// The product has `R` rows from `place.row` on, as deep as `panel`. `R` rows are writable at `out`: the outputs from `place.at` on, `16 N`
    /// or as many as there are. `place.vector + N <= 2`.
    unsafe fn tile<const R: usize, const N: usize>(
        &mut self,
        s: S,
        panel: &[T],
        place: Place,
        out: *mut f32,
        ldo: usize,
    );
}

/// Where a register tile lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its first row.
    pub row: usize,
    /// Its first output.
    pub at: usize,
    /// Which of the panel's two vectors of outputs is the tile's first.
    pub vector: usize,
    /// How many tiles read the same panel.
    pub tiles: usize,
    /// Which of them this is.
    index: usize,
    next: NextPanel,
}

impl Place {
    /// What the tile prefetches, if it goes along the depth in `steps` steps.
    #[inline(always)]
    pub fn prefetch(&self, steps: usize) -> Prefetch {
        self.next.share(steps, self.index, self.tiles)
    }
}

/// How many tiles of this shape read each panel of a product of `rows` rows.
#[inline(always)]
pub(super) const fn tiles_of_a_panel(shape: TileShape, rows: usize) -> usize {
    rows.div_ceil(shape.rows) * (PANEL / LANES / shape.vectors)
}

/// Computes all of `out`, whose columns are the outputs of `w`, tile by tile.
///
/// # Safety
/// The product has as many rows as `out`, as deep as the panels of `w`.
#[inline(always)]
pub(super) unsafe fn by_tiles<S: SimdInt, T, W: Source<T>, P: TileProduct<S, T>>(
    s: S,
    mut w: W,
    mut product: P,
    mut out: MatMut<'_>,
) {
    let (stride, rows, outputs) = (out.stride(), out.rows(), w.outputs());
    let tiles = tiles_of_a_panel(P::TILE, rows);
    for first in (0..outputs).step_by(PANEL) {
        let (panel, next) = w.ready(s, first / PANEL, tiles);
        let mut index = 0;
        for at in (first..outputs.min(first + PANEL)).step_by(P::TILE.vectors * LANES) {
            let mut row = 0;
            while row < rows {
                let height = tile_rows(rows - row, P::TILE.rows);
                let place = Place { row, at, vector: at % PANEL / LANES, tiles, index, next };
                let stride = of_this_tile(stride);
                // SAFETY: guaranteed by the caller; `height` rows and the outputs from `at` on are in `out`, and a tile of one vector begins at
                // either vector of its panel, a tile of two at the first.
                unsafe {
                    let out = out.as_mut_ptr().add(row * stride + at);
                    with_tile!(height, P::TILE, |R, N| product.tile::<R, N>(s, panel, place, out, stride));
                }
                row += height;
                index += 1;
            }
        }
    }
}

/// Evaluates the body with the constants `R` = `$rows`, which is 1 ..= `$shape.rows`, and `N` = `$shape.vectors`. The compiler generates no
/// code for other shapes.
macro_rules! with_tile {
    ($rows:expr, $shape:expr, |$R:ident, $N:ident| $body:expr) => {
        match const { $shape.vectors } {
            4 => with_tile!(@vectors 4, $rows, $shape, $R, $N, $body),
            2 => with_tile!(@vectors 2, $rows, $shape, $R, $N, $body),
            _ => with_tile!(@vectors 1, $rows, $shape, $R, $N, $body),
        }
    };
    (@vectors $vectors:literal, $rows:expr, $shape:expr, $R:ident, $N:ident, $body:expr) => {{
        const $N: usize = $vectors;
        with_tile!(@rows $rows, $shape, $R, $body, 12 11 10 9 8 7 6 5 4 3 2)
    }};
    (@rows $rows:expr, $shape:expr, $R:ident, $body:expr, $($height:literal)*) => {
        match $rows {
            $($height if const { $shape.rows >= $height } => {
                const $R: usize = $height;
                $body
            })*
            _ => {
                const $R: usize = 1;
                $body
            }
        }
    };
}
pub(crate) use with_tile;

/// Hides a row stride from the compiler. Otherwise it computes the row addresses of all tile shapes before the loop over tiles and keeps
/// them on the stack (EXPERIMENTS.md).
#[inline(always)]
pub(crate) fn of_this_tile(stride: usize) -> usize {
    std::hint::black_box(stride)
}

/// How many rows the next tile should have if `left` rows remain and a tile has at most `max`. Tiles are made as equal as possible, because a
/// small tile takes as long to load its weights as a full one.
pub(crate) fn tile_rows(left: usize, max: usize) -> usize {
    left.div_ceil(left.div_ceil(max))
}
