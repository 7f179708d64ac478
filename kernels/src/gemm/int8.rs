//! The int8 matrix product: rows with a scale each, times weights with a scale for each output.
//!
//! ```text
//! a panel of 32 outputs is 32 KB at a depth of 1,024: it stays in the second-level cache, also at 4,096
//!   for each tile of up to 12 rows        see `tiles.rs`
//!     for each 4 depths                   N loads of weights, R broadcasts, N R dot products
//!       acc[R][N] += w[16 N][4] · x[R][4]
//!     out[R][16 N] = acc · row scale · output scale + bias
//! ```
//! 1. With few rows (up to one tile), every weight byte is used once, and memory limits the speed. The two halves of a panel's depth are
//!    read in turn ([`add_dots_of_halves`]), each with its own prefetch. ISAs with matrix registers do so too, because their loads of
//!    whole blocks would wait longer for memory. CPUs that read one stream faster than two ([`reads_one_stream`]) read the panel front to
//!    back; with up to [`FAR_ROWS`] rows they prefetch into the second-level cache.
//! 2. With many rows, each tile reads the panel from the second-level cache, 128 bytes for 24 dot products (with 12 rows), and arithmetic
//!    limits the speed. Each tile prefetches its share of the next panel, so that the first tile of that panel does not wait for all of
//!    it (EXPERIMENTS.md).
//! 3. An ISA whose instructions multiply small matrices of bytes (`SimdInt::matrix8`) computes the whole sums of a tile in an order of its
//!    own. They are the same integers, and the same epilogue follows.
//! 4. AVX2 without VNNI multiplies more than two rows in another way: see `int8_split.rs`.
//! 5. Accumulators are exact: `|acc| <= depth · 255 · 127` (the stored `w + 128` against `|a| <= 127`) is below 2^31 up to a depth of
//!    65,536. ISAs that multiply the stored bytes begin the sums with `-128 Σ a`, which `Rows8` has.

use std::sync::atomic::{Ordering, compiler_fence};

use super::epilogue::finish_tile;
use super::tiles::{Place, TileProduct, by_tiles, of_this_tile, tiles_of_a_panel};
use super::{Epilogue, PREFETCH_BYTES, Prefetch, Source};
use super::{int8_split, matrix};
use crate::cpu::reads_one_stream;
use crate::layout::{LANES, PANEL, TileShape};
use crate::rows8::Rows8;
use crate::simd::int::SimdInt;
use crate::view::MatMut;

/// Up to this many rows, in at most two tiles, a CPU that reads one stream prefetches weights into the second-level cache. With more rows
/// arithmetic takes longer than memory, and a prefetch into the first-level cache is better (EXPERIMENTS.md).
const FAR_ROWS: usize = 16;

/// See [`crate::Kernels::linear_i8`], which has checked the shapes. `w` are int8 panels that are read in place, or int4 panels that are
/// unpacked one by one.
#[inline(always)]
pub(crate) fn linear<S: SimdInt, W: Source<u8>>(s: S, x: Rows8<'_>, w: W, epilogue: Epilogue<'_>, out: MatMut<'_>) {
    if x.rows() == 0 {
        return;
    }
    let only = W::IN_PLACE && x.rows() <= tile_shape::<S, false>().rows;
    if S::MATRICES && !only {
        return matrix::linear_i8(s, x, w, epilogue, out);
    }
    if S::SPLITS_ROWS && x.rows() > S::FEW_I8_ROWS {
        return int8_split::linear(s, x, w, epilogue, out);
    }
    let outputs = w.outputs();
    // SAFETY: rows, panels and outputs of the same shape, as checked.
    unsafe {
        match const { S::FEW_I8_ROWS > 0 } && x.rows() <= S::FEW_I8_ROWS {
            true => by_tiles(s, w, Product::<true>::new::<S, W>(x, epilogue, outputs), out),
            false => by_tiles(s, w, Product::<false>::new::<S, W>(x, epilogue, outputs), out),
        }
    }
}

/// The product's rows, the epilogue that turns sums into outputs, and how panels are read. `FEW`: with the register tile for few rows.
struct Product<'a, const FEW: bool> {
    x: Rows8<'a>,
    epilogue: Epilogue<'a>,
    outputs: usize,
    /// Whether a single tile reads each panel, from memory, in two streams.
    streams: bool,
    /// Whether the next panel is prefetched into the second-level cache.
    far: bool,
}

impl<'a, const FEW: bool> Product<'a, FEW> {
    /// Decides, by the number of rows and by [`reads_one_stream`], in how many streams panels are read and how they are prefetched.
    #[inline(always)]
    fn new<S: SimdInt, W: Source<u8>>(x: Rows8<'a>, epilogue: Epilogue<'a>, outputs: usize) -> Self {
        let shape = tile_shape::<S, FEW>();
        let streams = W::IN_PLACE && tiles_of_a_panel(shape, x.rows()) == 1 && !reads_one_stream();
        let far = W::IN_PLACE && reads_one_stream() && x.rows() <= FAR_ROWS && x.rows().div_ceil(shape.rows) <= 2;
        Product { x, epilogue, outputs, streams, far }
    }
}

impl<S: SimdInt, const FEW: bool> TileProduct<S, u8> for Product<'_, FEW> {
    const TILE: TileShape = tile_shape::<S, FEW>();

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
        let (x, ldx) = (self.x.row_ptr(row), of_this_tile(self.x.stride()));
        let (offsets, scales) = (&self.x.offsets()[row..][..R], &self.x.scales()[row..][..R]);
        let mut ahead = place.prefetch(panel.len() / (4 * PANEL));
        ahead.far |= self.far;
        self.epilogue.prefetch::<S, N>(s, at);
        if !self.streams && !ahead.far {
            // With many rows, prefetches the cache lines of `out`, because the stores at the end would wait for them (EXPERIMENTS.md).
            for r in 0..R {
                for n in 0..N {
                    s.prefetch_to_write(out.wrapping_add(r * ldo + n * LANES).cast());
                }
            }
        }
        // SAFETY: guaranteed by the caller; with all of a panel's vectors, the tile begins where the panel does.
        unsafe {
            let whole = match N * LANES {
                PANEL => s.matrix8(x, ldx, panel.as_ptr(), panel.len() / (4 * PANEL), offsets),
                _ => None,
            };
            let acc = match whole {
                Some(acc) => acc,
                None => {
                    let mut acc = begin_sums::<S, R, N>(s, offsets);
                    let (w, depth) = (panel.as_ptr().add(vector * 4 * LANES), panel.len() / PANEL);
                    match self.streams {
                        true => add_dots_of_halves(s, &mut acc, x, ldx, w, depth),
                        false => add_dots::<S, R, N, N>(s, &mut acc, x, ldx, w, depth, ahead),
                    }
                    acc
                }
            };
            finish_tile(s, acc, scales, self.epilogue, (at, self.outputs), out, ldo);
        }
    }
}

/// The register tile for few rows (`FEW`), or for many.
const fn tile_shape<S: SimdInt, const FEW: bool>() -> TileShape {
    if FEW { S::FEW_I8_TILE } else { S::I8_TILE }
}

/// The accumulators that dot products begin with: the rows' corrections where the ISA needs them, else 0.
#[inline(always)]
pub(super) fn begin_sums<S: SimdInt, const R: usize, const N: usize>(s: S, offsets: &[i32]) -> [[S::I; N]; R] {
    let mut acc = [[s.splat_i32(0); N]; R];
    for (acc, &offset) in acc.iter_mut().zip(offsets) {
        *acc = [s.start8(offset); N];
    }
    acc
}

/// Adds the dot products over `depth` activations of each row, a multiple of 4. Each step of 4 prefetches `LINES` cache lines of `ahead`.
///
/// # Safety
/// `depth` activations are readable at `x + r · ldx` for `r < R`; `w` has 128 bytes for every 4 of them, of which the first `64 N` are readable.
#[inline(always)]
pub(super) unsafe fn add_dots<S: SimdInt, const R: usize, const N: usize, const LINES: usize>(
    s: S,
    acc: &mut [[S::I; N]; R],
    x: *const i8,
    ldx: usize,
    w: *const u8,
    depth: usize,
    ahead: Prefetch,
) {
    let (mut w, mut from) = (w, 0);
    let mut d = 0;
    while d < depth {
        for line in 0..LINES {
            ahead.fetch(s, from + 64 * line);
        }
        from += ahead.step;
        // SAFETY: guaranteed by the caller.
        unsafe { s.add_quad8(acc, x.add(d), ldx, w) };
        w = w.wrapping_add(4 * PANEL);
        d += 4;
    }
}

/// [`add_dots`] for weights that come from memory: reads the two halves of the depth in turn. The prefetchers of some CPUs follow both halves
/// and bring more bytes a second than from one stream (EXPERIMENTS.md).
///
/// # Safety
/// As for [`add_dots`].
#[inline(always)]
unsafe fn add_dots_of_halves<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    acc: &mut [[S::I; N]; R],
    x: *const i8,
    ldx: usize,
    w: *const u8,
    depth: usize,
) {
    let half = depth / 8 * 4;
    let (near, bytes) = (half - half.min(PREFETCH_BYTES / PANEL), PANEL * (depth - half));
    let (mut d, mut ahead) = (0, PREFETCH_BYTES);
    // At the end of its half, a stream continues with the same half of the next panel.
    for (until, skip) in [(near, 0), (half, bytes)] {
        ahead += skip;
        while d < until {
            // SAFETY: guaranteed by the caller: `d < half` and `2 half <= depth`.
            unsafe { add_quads(s, acc, [x.add(d), x.add(d + half)], ldx, w.add(d * PANEL), half * PANEL, ahead) };
            d += 4;
        }
    }
    if depth > 2 * half {
        // SAFETY: as above, the last four.
        unsafe { s.add_quad8(acc, x.add(2 * half), ldx, w.wrapping_add(2 * half * PANEL)) };
    }
}

/// Adds the dot products over four activations of each row in either half of the depth; the weights of the second four lie `apart` bytes after
/// those of the first. The cache lines `ahead` bytes after both are prefetched one at a time, between the rows: several prefetches in a row,
/// as the compiler would order them, fill the core's line buffers, so that its loads wait (EXPERIMENTS.md).
///
/// # Safety
/// As for [`add_dots`], with a depth of 4, for both.
#[inline(always)]
unsafe fn add_quads<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    acc: &mut [[S::I; N]; R],
    x: [*const i8; 2],
    ldx: usize,
    w: *const u8,
    apart: usize,
    ahead: usize,
) {
    if S::ONE_VECTOR_AT_A_TIME {
        for (x, w) in x.into_iter().zip([w, w.wrapping_add(apart)]) {
            for line in 0..N {
                s.prefetch(w.wrapping_add(ahead + 64 * line));
            }
            // SAFETY: guaranteed by the caller.
            unsafe { s.add_quad8(acc, x, ldx, w) };
        }
        return;
    }
    // SAFETY: guaranteed by the caller.
    unsafe {
        let second = w.add(apart);
        let (mut first_w, mut second_w) = ([s.load_w8(w); N], [s.load_w8(second); N]);
        for n in 1..N {
            first_w[n] = s.load_w8(w.add(64 * n));
            second_w[n] = s.load_w8(second.add(64 * n));
        }
        let mut row = 0;
        for (quarter, line) in [w, second, w.wrapping_add(64), second.wrapping_add(64)].into_iter().enumerate() {
            compiler_fence(Ordering::SeqCst);
            s.prefetch(line.wrapping_add(ahead));
            compiler_fence(Ordering::SeqCst);
            while 4 * row < (quarter + 1) * R {
                let a = s.broadcast_a8(x[0].add(row * ldx));
                for n in 0..N {
                    acc[row][n] = in_order::<S, R>(s, s.dot8(acc[row][n], first_w[n], a));
                }
                let a = s.broadcast_a8(x[1].add(row * ldx));
                for n in 0..N {
                    acc[row][n] = in_order::<S, R>(s, s.dot8(acc[row][n], second_w[n], a));
                }
                row += 1;
            }
        }
    }
}

/// [`SimdInt::sums_in_order`], but only for tiles with so many rows that their sums fill almost all registers.
#[inline(always)]
fn in_order<S: SimdInt, const R: usize>(s: S, sums: S::I) -> S::I {
    if R > 8 { s.sums_in_order(sums) } else { sums }
}
