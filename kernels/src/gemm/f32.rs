//! The f32 matrix product, `X · Wᵀ`, with both operands row-major, as in a checkpoint.
//!
//! ```text
//! for each depth block of 512
//!   for each 6 rows                    copied next to each other: 12 KB that stay in the first-level cache
//!     for each 4 outputs               their weights come from memory for the first 6 rows, then from the second-level cache
//!       acc[6][4] += x[row][d..d+16] * w[output][d..d+16]      24 vectors of 16 partial sums
//!       out[6][4] += the sums of the 24 vectors                (ISAs with few registers use smaller tiles)
//! ```
//! 1. Lanes run along the depth, so `W` needs no packing: it is read in place from a mapped file.
//! 2. Rows of 1,024 or 4,096 values lie a multiple of 4 KB apart, where ten of them compete for the eight ways of one set of the cache.
//!    Copying the six rows of `X` to a stride that is no such multiple leaves only the four of `W` (EXPERIMENTS.md).
//! 3. An element of `out` is the result of the same additions in a tile of any size, so the edges use smaller tiles of the same code.
//! 4. Adding up the lanes costs about 13 operations for four outputs in every 32 steps of 16 depths, and overlaps with the multiply-adds.

use crate::layout::LANES;
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};

/// Depth of a block, which is summed in registers before the lanes are added. Part of the numeric contract: another value gives other bits.
pub const DEPTH_BLOCK: usize = 512;

/// Most outputs of a register tile: as many vectors as `reduce4` adds up at once.
const TILE_OUTPUTS: usize = 4;

/// Most rows of a register tile.
const MAX_TILE_ROWS: usize = 6;

/// Distance between the copied rows: one vector more than a block, so that equal depths fall into different sets of the cache.
const STRIP_STRIDE: usize = DEPTH_BLOCK + LANES;

/// See [`crate::Kernels::linear`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear<S: Simd>(s: S, x: MatRef<'_>, weight: MatRef<'_>, bias: Option<&[f32]>, mut out: MatMut<'_>) {
    let (rows, depth, outputs) = (x.rows(), x.cols(), weight.rows());
    let mut strip = [0.0; MAX_TILE_ROWS * STRIP_STRIDE];
    let mut from = 0;
    loop {
        let block = (depth - from).min(DEPTH_BLOCK);
        let (first, last) = (from == 0, from + block == depth);
        let mut row = 0;
        while row < rows {
            let tile_rows = (rows - row).min(S::DOT_TILE.rows);
            for r in 0..tile_rows {
                strip[r * STRIP_STRIDE..][..block].copy_from_slice(&x.row(row + r)[from..from + block]);
            }
            let mut output = 0;
            while output < outputs {
                let tile_outputs = if output + S::DOT_TILE.outputs <= outputs { S::DOT_TILE.outputs } else { 1 };
                let bias = bias.filter(|_| last).map(|bias| &bias[output..]);
                let tile = Tile { strip: &strip, weight, from, block, row, output, first, bias };
                // SAFETY: the tile's rows and outputs are inside the shapes that `Kernels::linear` compared.
                unsafe {
                    match tile_outputs {
                        4 => tile.rows::<S, 4>(s, tile_rows, &mut out),
                        2 => tile.rows::<S, 2>(s, tile_rows, &mut out),
                        _ => tile.rows::<S, 1>(s, tile_rows, &mut out),
                    }
                }
                output += tile_outputs;
            }
            row += tile_rows;
        }
        from += block;
        if last {
            break;
        }
    }
}

/// One depth block of a register tile: its operands, and where it lies.
struct Tile<'a> {
    /// The tile's rows of `x`, this depth block of them, `STRIP_STRIDE` apart.
    strip: &'a [f32; MAX_TILE_ROWS * STRIP_STRIDE],
    weight: MatRef<'a>,
    /// Where the depth block begins, and its length.
    from: usize,
    block: usize,
    /// The tile's first row and first output.
    row: usize,
    output: usize,
    /// Whether this is the first depth block, which overwrites `out`.
    first: bool,
    /// Present in the last depth block; begins at the tile's first output.
    bias: Option<&'a [f32]>,
}

impl Tile<'_> {
    /// [`Tile::run`] for a tile of `rows` rows.
    ///
    /// # Safety
    /// As there, with `R` = `rows`.
    #[inline(always)]
    unsafe fn rows<S: Simd, const C: usize>(&self, s: S, rows: usize, out: &mut MatMut<'_>) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match rows {
                6 if S::DOT_TILE.rows >= 6 => self.run::<S, 6, C>(s, out),
                5 if S::DOT_TILE.rows >= 5 => self.run::<S, 5, C>(s, out),
                4 if S::DOT_TILE.rows >= 4 => self.run::<S, 4, C>(s, out),
                3 if S::DOT_TILE.rows >= 3 => self.run::<S, 3, C>(s, out),
                2 if S::DOT_TILE.rows >= 2 => self.run::<S, 2, C>(s, out),
                _ => self.run::<S, 1, C>(s, out),
            }
        }
    }

    /// Adds one depth block to `R x C` outputs.
    ///
    /// # Safety
    /// `row + R <= out.rows()`, `output + C <= weight.rows() = out.cols()`, `from + block <= weight.cols()`, `R <= 6`, `C <= 4`,
    /// `block <= DEPTH_BLOCK`.
    #[inline(always)]
    unsafe fn run<S: Simd, const R: usize, const C: usize>(&self, s: S, out: &mut MatMut<'_>) {
        let x = self.strip.as_ptr();
        // SAFETY: C rows of the weight have `block` elements left from `from` on, guaranteed by the caller; the strip has R rows.
        let acc = unsafe {
            // `wrapping_add`, because with a depth of 0 there is no element to point to.
            let w = self.weight.as_ptr().wrapping_add(self.output * self.weight.stride() + self.from);
            partial_sums::<S, R, C>(s, x, STRIP_STRIDE, w, self.weight.stride(), self.block)
        };
        let stride = out.stride();
        for (r, acc) in acc.into_iter().enumerate() {
            let mut padded = [s.splat(0.0); TILE_OUTPUTS];
            padded[..C].copy_from_slice(&acc);
            let sums = s.reduce4(padded);
            for (c, sum) in sums.into_iter().enumerate().take(C) {
                // SAFETY: element [row + r, output + c] of `out`, guaranteed by the caller.
                let element = unsafe { &mut *out.as_mut_ptr().add((self.row + r) * stride + self.output + c) };
                let mut value = if self.first { sum } else { *element + sum };
                if let Some(bias) = self.bias {
                    value += bias[c];
                }
                *element = value;
            }
        }
    }
}

/// Lane `l` of `acc[r][c]` becomes the sum of `x[r, d] · w[c, d]` over all `d ≡ l mod 16`, `d < depth`.
///
/// Where several registers make up a vector, the sums are computed for one of these registers after the other, so that a tile needs no more
/// accumulators than there are registers. Lanes are not added to each other before `reduce4`, so the bits are the same. After the first of
/// these runs, the depth block is in the first-level cache.
///
/// # Safety
/// `depth` elements are readable at `x + r·ldx` for `r < R` and at `w + c·ldw` for `c < C`.
#[inline(always)]
unsafe fn partial_sums<S: Simd, const R: usize, const C: usize>(
    s: S,
    x: *const f32,
    ldx: usize,
    w: *const f32,
    ldw: usize,
    depth: usize,
) -> [[S::V; C]; R] {
    let mut lanes = [[[0.0f32; LANES]; C]; R];
    let mut from = 0;
    while from < LANES {
        // SAFETY: guaranteed by the caller.
        let acc = unsafe { sums_of_part::<S, R, C>(s, x, ldx, w, ldw, depth, from) };
        for (lanes, acc) in lanes.iter_mut().zip(acc) {
            for (lanes, acc) in lanes.iter_mut().zip(acc) {
                // SAFETY: a register's lanes from `from` on, of sixteen.
                unsafe { s.store_part(lanes.as_mut_ptr().add(from), acc) };
            }
        }
        from += S::PART_LANES;
    }
    let mut acc = [[s.splat(0.0); C]; R];
    for (acc, lanes) in acc.iter_mut().zip(&lanes) {
        for (acc, lanes) in acc.iter_mut().zip(lanes) {
            // SAFETY: sixteen elements.
            *acc = unsafe { s.load(lanes.as_ptr()) };
        }
    }
    acc
}

/// Lanes `from .. from + PART_LANES` of [`partial_sums`].
///
/// # Safety
/// As there; `from + PART_LANES <= 16`.
#[inline(always)]
unsafe fn sums_of_part<S: Simd, const R: usize, const C: usize>(
    s: S,
    x: *const f32,
    ldx: usize,
    w: *const f32,
    ldw: usize,
    depth: usize,
    from: usize,
) -> [[S::P; C]; R] {
    let mut acc = [[s.zero_part(); C]; R];
    // In the last step these pointers may lie beyond the ends of the rows; then no lane is read.
    let (x, w) = (x.wrapping_add(from), w.wrapping_add(from));
    let mut d = 0;
    while d + LANES <= depth {
        // SAFETY: 16 elements are left of each row from `d` on.
        unsafe { add_step::<S, R, C>(s, &mut acc, x.wrapping_add(d), ldx, w.wrapping_add(d), ldw, S::PART_LANES) };
        d += LANES;
    }
    if d < depth {
        let lanes = (depth - d).saturating_sub(from);
        // SAFETY: `lanes` elements are left of each row from `d + from` on.
        unsafe { add_step::<S, R, C>(s, &mut acc, x.wrapping_add(d), ldx, w.wrapping_add(d), ldw, lanes) };
    }
    acc
}

/// `acc[r][c] += x[r] · w[c]` for one register of lanes, of which the first `lanes` are read and the others are 0.
///
/// # Safety
/// `lanes`, or `PART_LANES` if that is less, elements are readable at `x + r·ldx` and `w + c·ldw`.
#[inline(always)]
unsafe fn add_step<S: Simd, const R: usize, const C: usize>(
    s: S,
    acc: &mut [[S::P; C]; R],
    x: *const f32,
    ldx: usize,
    w: *const f32,
    ldw: usize,
    lanes: usize,
) {
    // The smaller side of the tile stays in registers; the larger side is loaded one register at a time.
    if R < C {
        let mut rows = [s.zero_part(); R];
        for (r, row) in rows.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            *row = unsafe { s.load_part(x.wrapping_add(r * ldx), lanes) };
        }
        for c in 0..C {
            // SAFETY: guaranteed by the caller.
            let weight = unsafe { s.load_part(w.wrapping_add(c * ldw), lanes) };
            for (acc, row) in acc.iter_mut().zip(rows) {
                acc[c] = s.mul_add_part(row, weight, acc[c]);
            }
        }
    } else {
        let mut weights = [s.zero_part(); C];
        for (c, weight) in weights.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            *weight = unsafe { s.load_part(w.wrapping_add(c * ldw), lanes) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let row = unsafe { s.load_part(x.wrapping_add(r * ldx), lanes) };
            for (acc, weight) in acc.iter_mut().zip(weights) {
                *acc = s.mul_add_part(row, weight, *acc);
            }
        }
    }
}
