//! The int8 matrix product: rows with a scale each times weights with a scale an output.
//!
//! ```text
//! a panel of 32 outputs is 32 KB at a depth of 1,024: it stays in the second-level cache, also at 4,096
//!   for each tile of up to 12 rows        see `tiles.rs`
//!     for each 4 depths                   N loads of weights, R broadcasts, N R dot products
//!       acc[R][N] += w[16 N][4] · x[R][4]
//!     out[R][16 N] = acc · row scale · output scale + bias
//! ```
//! 1. Few rows (up to a tile): every weight byte is read once: memory speed. The two halves of a panel's depth are read in turn
//!    ([`add_dots_of_halves`]), each with its own prefetch; also on ISAs with matrix registers, whose loads of whole blocks wait
//!    longer. CPUs that read one stream faster than two ([`reads_one_stream`]) read the panel front to back and prefetch into the
//!    second-level cache, up to [`FAR_ROWS`].
//! 2. Many rows: a panel is read from the second-level cache once a tile, 128 bytes for 24 dot products (with 12 rows): arithmetic
//!    speed. Each tile prefetches its share of the next panel, so that the first tile of that panel does not wait for all of it
//!    (EXPERIMENTS.md).
//! 3. An ISA whose instructions multiply small matrices of bytes (`SimdInt::matrix8`) takes a tile's whole sums in its own order. They
//!    are the same integers, and what follows them is the same code.
//! 4. AVX2 without VNNI multiplies more than two rows by other instructions: see `int8_split.rs`.
//! 5. Accumulators are exact: `|acc| <= depth · 255 · 127` (the stored `w + 128` against `|a| <= 127`) is below 2^31 up to a depth of
//!    65,536. The ISAs that multiply the stored bytes begin with `-128 Σ a`, which the rows carry.

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

/// Up to this many rows, in two tiles, a CPU that reads one stream prefetches weights into the second-level cache. With more rows
/// arithmetic takes longer than memory, and a prefetch into the first-level cache is better (EXPERIMENTS.md).
const FAR_ROWS: usize = 16;

/// See [`crate::Kernels::linear_i8`], which has checked the shapes. `w` is int8 panels in place, or int4 panels that it unpacks one by one.
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

/// The product's rows, what its sums become, and how its panels are read. `FEW`: in the tile for few rows.
struct Product<'a, const FEW: bool> {
    x: Rows8<'a>,
    epilogue: Epilogue<'a>,
    outputs: usize,
    /// Whether each panel comes from memory for one tile alone, in two streams.
    streams: bool,
    /// Whether the next panel is prefetched into the second-level cache.
    far: bool,
}

impl<'a, const FEW: bool> Product<'a, FEW> {
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
            // Prefetches the cache lines that many rows' results are stored to: the stores at the end would wait for them (EXPERIMENTS.md).
            for r in 0..R {
                for n in 0..N {
                    s.prefetch_to_write(out.wrapping_add(r * ldo + n * LANES).cast());
                }
            }
        }
        // SAFETY: by the caller's word; with all of a panel's vectors, the tile begins where the panel does.
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

/// The register tile for few rows, or for many.
const fn tile_shape<S: SimdInt, const FEW: bool>() -> TileShape {
    if FEW { S::FEW_I8_TILE } else { S::I8_TILE }
}

/// The accumulators that dot products begin with.
#[inline(always)]
pub(super) fn begin_sums<S: SimdInt, const R: usize, const N: usize>(s: S, offsets: &[i32]) -> [[S::I; N]; R] {
    let mut acc = [[s.splat_i32(0); N]; R];
    for (acc, &offset) in acc.iter_mut().zip(offsets) {
        *acc = [s.start8(offset); N];
    }
    acc
}

/// Adds the dot products over `depth` activations of each row, a multiple of 4. Each step prefetches `LINES` cache lines of `ahead`.
///
/// # Safety
/// As many are readable at `x + r · ldx` for `r < R`; `w` has 128 bytes for every 4 of them, of which the first `64 N` are readable.
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
        // SAFETY: by the caller's word.
        unsafe { s.add_quad8(acc, x.add(d), ldx, w) };
        w = w.wrapping_add(4 * PANEL);
        d += 4;
    }
}

/// [`add_dots`] for weights that come from memory: the two halves of the depth are read in turn. Some cores' prefetchers follow both halves
/// and read more bytes a second than from one stream (EXPERIMENTS.md).
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
            // SAFETY: by the caller's word: `d < half` and `2 half <= depth`.
            unsafe { add_quads(s, acc, [x.add(d), x.add(d + half)], ldx, w.add(d * PANEL), half * PANEL, ahead) };
            d += 4;
        }
    }
    if depth > 2 * half {
        // SAFETY: as above, the last four.
        unsafe { s.add_quad8(acc, x.add(2 * half), ldx, w.wrapping_add(2 * half * PANEL)) };
    }
}

/// Adds the dot products over twice four activations of each row; the second weights lie `apart` bytes after the first. The lines `ahead` of
/// both are prefetched one at a time, between the rows. Several prefetches in a row, as the compiler would order them, fill the core's line
/// buffers, and its loads wait (EXPERIMENTS.md).
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
            // SAFETY: by the caller's word.
            unsafe { s.add_quad8(acc, x, ldx, w) };
        }
        return;
    }
    // SAFETY: by the caller's word.
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

/// [`SimdInt::sums_in_order`] for tiles whose sums take almost all registers.
#[inline(always)]
fn in_order<S: SimdInt, const R: usize>(s: S, sums: S::I) -> S::I {
    if R > 8 { s.sums_in_order(sums) } else { sums }
}
