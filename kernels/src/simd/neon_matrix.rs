//! Sums of products of bytes by `USMMLA` (i8mm): it multiplies a matrix of 2 outputs x 8 depths with one of 8 depths x 2 rows, and adds the result
//! to a square of 2 x 2 sums.
//!
//! ```text
//! weights as stored        16 bytes: 4 outputs x 4 depths; the next 4 depths of these outputs lie `N · 64` bytes further on
//! zipped by 32 bits        [o0 d0..8 | o1 d0..8] and [o2 d0..8 | o3 d0..8]        2 loads, 2 zips
//! activations              [r0 d0..8 | r1 d0..8]                                  2 loads of 8 bytes
//! square += w · aᵀ         [o0·r0, o0·r1, o1·r0, o1·r1]
//! unzipped, at the end     even lanes of two squares: 4 outputs of r0; odd lanes: of r1
//! ```
//! The weights are multiplied as they are stored, `w + 128` unsigned, so sums begin with `-128 Σ a`. All sums are exact, so the order of
//! addition does not matter. A depth of 4 that is left over is zipped with zeros; the last of an odd number of rows is paired with itself.
//!
//! Functions here are unsafe because they take no token: the CPU must have i8mm. `neon_int.rs` calls them where its token proves that.

use std::arch::aarch64::*;
use std::arch::asm;

/// Rows of the register tile: 3 pairs x 8 squares (16 outputs) are 24 registers, 3 hold activations, 2 weights, and 2 the weights that are loaded
/// next: 31 of 32. Eight depths take 8 loads and 8 zips of weights and 6 loads of activations, for 24 products of 32 multiply-adds each.
pub(super) const ROWS: usize = 6;
const PAIRS: usize = ROWS / 2;

/// Sixteen `i32`.
type I = [int32x4_t; 4];
/// Eight squares for each pair of rows and each of `V` vectors of 16 outputs.
type Squares<const V: usize> = [[[int32x4_t; 8]; V]; PAIRS];
/// The activations of eight depths, a register for each pair of rows.
type Activations = [int8x16_t; PAIRS];

/// `square + w · aᵀ`: see the top of this file. The instruction has no stable intrinsic; `.arch_extension` makes the assembler accept it
/// whatever features the function around it is compiled for. The assembly is not marked `pure`, because a compiler that may reorder the
/// products loads more weights at a time than there are registers (seen in the loop of six rows: 30 moves and 4 spills; in this order none).
///
/// # Safety
/// The CPU has i8mm.
#[inline(always)]
pub(super) unsafe fn multiply(square: int32x4_t, w: uint8x16_t, a: int8x16_t) -> int32x4_t {
    let mut square = square;
    // SAFETY: guaranteed by the caller; the instruction reads and writes its three registers alone.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "usmmla {square:v}.4s, {w:v}.16b, {a:v}.16b",
            square = inout(vreg) square,
            w = in(vreg) w,
            a = in(vreg) a,
            options(nomem, nostack, preserves_flags)
        );
    }
    square
}

/// Squares whose sums begin with the number in `start` for their row.
///
/// # Safety
/// The CPU has i8mm.
#[inline(always)]
unsafe fn begin<const R: usize, const V: usize>(start: &[i32]) -> Squares<V> {
    // SAFETY: guaranteed by the caller; registers alone.
    unsafe {
        let mut squares = [[[vdupq_n_s32(0); 8]; V]; PAIRS];
        for (pair, squares) in squares.iter_mut().enumerate().take(R.div_ceil(2)) {
            let [first, second] = rows_of::<R>(pair);
            *squares = [[vzip1q_s32(vdupq_n_s32(start[first]), vdupq_n_s32(start[second])); 8]; V];
        }
        squares
    }
}

/// The two rows of a pair; the last of an odd number of rows is both.
#[inline(always)]
fn rows_of<const R: usize>(pair: usize) -> [usize; 2] {
    [2 * pair, (2 * pair + 1).min(R - 1)]
}

/// Loads the activations of eight depths of each row (`WHOLE`), or of four depths and zeros after them.
///
/// # Safety
/// The CPU has i8mm; as many bytes are readable at `x + r · ldx` for `r < R`.
#[inline(always)]
unsafe fn load_rows<const R: usize, const WHOLE: bool>(x: *const i8, ldx: usize) -> Activations {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut all = [vdupq_n_s8(0); PAIRS];
        for (pair, a) in all.iter_mut().enumerate().take(R.div_ceil(2)) {
            let [first, second] = rows_of::<R>(pair);
            *a = vcombine_s8(load_row::<WHOLE>(x.add(first * ldx)), load_row::<WHOLE>(x.add(second * ldx)));
        }
        all
    }
}

/// Loads eight bytes (`WHOLE`), or four bytes and zeros after them.
///
/// # Safety
/// The CPU has NEON; as many bytes are readable.
#[inline(always)]
unsafe fn load_row<const WHOLE: bool>(x: *const i8) -> int8x8_t {
    // SAFETY: guaranteed by the caller.
    unsafe { if WHOLE { vld1_s8(x) } else { vcreate_s8(u64::from(x.cast::<u32>().read_unaligned())) } }
}

/// Adds the products of four outputs (register `i` of vector `v`) over eight depths to the squares of all pairs of rows. `low` and `high` are what
/// [`zip`] returns.
///
/// # Safety
/// The CPU has i8mm.
#[inline(always)]
unsafe fn add<const R: usize, const V: usize>(
    squares: &mut Squares<V>,
    v: usize,
    i: usize,
    [low, high]: [uint8x16_t; 2],
    a: &Activations,
) {
    for (squares, &a) in squares.iter_mut().zip(a).take(R.div_ceil(2)) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            squares[v][2 * i] = multiply(squares[v][2 * i], low, a);
            squares[v][2 * i + 1] = multiply(squares[v][2 * i + 1], high, a);
        }
    }
}

/// Turns four outputs by four depths (`first`) and by the next four depths (`second`) into two outputs by eight depths, and the other two.
///
/// # Safety
/// The CPU has i8mm.
#[inline(always)]
unsafe fn zip(first: uint8x16_t, second: uint8x16_t) -> [uint8x16_t; 2] {
    // SAFETY: guaranteed by the caller; registers alone.
    unsafe {
        let (first, second) = (vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(second));
        [vreinterpretq_u8_u32(vzip1q_u32(first, second)), vreinterpretq_u8_u32(vzip2q_u32(first, second))]
    }
}

/// Moves the sums from the squares to vectors `n .. n + V` of their rows in `sums`.
///
/// # Safety
/// The CPU has i8mm.
#[inline(always)]
unsafe fn end<const R: usize, const V: usize, const N: usize>(squares: &Squares<V>, n: usize, sums: &mut [[I; N]; R]) {
    for (r, sums) in sums.iter_mut().enumerate() {
        for (sums, squares) in sums[n..].iter_mut().zip(&squares[r / 2]) {
            for (sums, square) in sums.iter_mut().zip(squares.as_chunks::<2>().0) {
                // SAFETY: guaranteed by the caller; registers alone.
                *sums = unsafe {
                    if r % 2 == 0 { vuzp1q_s32(square[0], square[1]) } else { vuzp2q_s32(square[0], square[1]) }
                };
            }
        }
    }
}

/// See [`super::int::SimdInt::matrix8`]; `R` is 2 ..= 6, `N` even.
///
/// # Safety
/// The CPU has i8mm; `4 · quads` activations are readable at `x + r · ldx` for `r < R`, `64 · N · quads` bytes at `w`.
#[inline(always)]
pub(super) unsafe fn sums8<const R: usize, const N: usize>(
    x: *const i8,
    ldx: usize,
    w: *const u8,
    quads: usize,
    start: &[i32],
) -> [[I; N]; R] {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut sums = [[[vdupq_n_s32(0); 4]; N]; R];
        if R == 2 {
            // One pair leaves registers for two vectors: an int8 panel is then read front to back.
            for n in (0..N).step_by(2) {
                columns8::<R, 2, N>(x, ldx, w, quads, start, n, &mut sums);
            }
        } else {
            for n in 0..N {
                columns8::<R, 1, N>(x, ldx, w, quads, start, n, &mut sums);
            }
        }
        sums
    }
}

/// [`sums8`] for vectors `n .. n + V`.
///
/// # Safety
/// As for [`sums8`]; `n + V <= N`.
#[inline(always)]
unsafe fn columns8<const R: usize, const V: usize, const N: usize>(
    x: *const i8,
    ldx: usize,
    w: *const u8,
    quads: usize,
    start: &[i32],
    n: usize,
    sums: &mut [[I; N]; R],
) {
    // SAFETY: guaranteed by the caller: 64 N bytes of weights and four activations of each row for each quad.
    unsafe {
        let mut squares = begin::<R, V>(start);
        let (mut x, mut w) = (x, w.add(n * 64));
        for _ in 0..quads / 2 {
            let a = load_rows::<R, true>(x, ldx);
            for v in 0..V {
                for i in 0..4 {
                    let at = w.add(v * 64 + i * 16);
                    add::<R, V>(&mut squares, v, i, zip(vld1q_u8(at), vld1q_u8(at.add(N * 64))), &a);
                }
            }
            x = x.wrapping_add(8);
            w = w.wrapping_add(2 * N * 64);
        }
        if quads % 2 == 1 {
            let a = load_rows::<R, false>(x, ldx);
            for v in 0..V {
                for i in 0..4 {
                    let weights = zip(vld1q_u8(w.add(v * 64 + i * 16)), vdupq_n_u8(0));
                    add::<R, V>(&mut squares, v, i, weights, &a);
                }
            }
        }
        end(&squares, n, sums);
    }
}

/// See [`super::int::SimdInt::block_q4_0`]; `R` is 2 ..= 6.
///
/// # Safety
/// The CPU has i8mm; 32 activations are readable at `x + r · ldx` for `r < R`, 512 bytes at `nibbles`.
#[inline(always)]
pub(super) unsafe fn sums4<const R: usize>(
    x: *const i8,
    ldx: usize,
    nibbles: *const u8,
    start: [i32; R],
) -> [[I; 2]; R] {
    // SAFETY: guaranteed by the caller: [4 steps][2 vectors][64] bytes, whose low nibbles belong to depths 4 step .. 4 step + 4 and
    // whose high nibbles to those 16 further on.
    unsafe {
        let mut sums = [[[vdupq_n_s32(0); 4]; 2]; R];
        for n in 0..2 {
            let mut squares = begin::<R, 1>(&start);
            for half in 0..2 {
                let low = load_rows::<R, true>(x.add(8 * half), ldx);
                let high = load_rows::<R, true>(x.add(16 + 8 * half), ldx);
                for i in 0..4 {
                    let at = nibbles.add(half * 256 + n * 64 + i * 16);
                    let [first, second] = zip(vld1q_u8(at), vld1q_u8(at.add(128)));
                    let mask = vdupq_n_u8(15);
                    add::<R, 1>(&mut squares, 0, i, [vandq_u8(first, mask), vandq_u8(second, mask)], &low);
                    add::<R, 1>(&mut squares, 0, i, [vshrq_n_u8::<4>(first), vshrq_n_u8::<4>(second)], &high);
                }
            }
            end(&squares, n, &mut sums);
        }
        sums
    }
}
