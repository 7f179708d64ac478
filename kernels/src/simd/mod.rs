//! The portable vector operations that kernels are written in: on vectors of sixteen `f32`, whatever registers hold them.
//!
//! Sixteen lanes on every instruction set (one AVX-512 register, two of AVX2, four of NEON, an array): the lane that an element falls into
//! decides in which order it is added, so equal lanes give equal bits. The traits have only the operations that kernels need. All are
//! `#[inline(always)]`: they are compiled with the features of the function that they are inlined into (see `dispatch.rs`).

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_int;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_int;
pub(crate) mod int;
#[cfg(test)]
mod int_tests;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_int;
#[cfg(target_arch = "aarch64")]
mod neon_matrix;
mod scalar;
mod scalar_int;
#[cfg(test)]
mod tests;

use crate::layout::{DotTile, LANES};

/// Operations on vectors of sixteen `f32`. They are methods of an ISA's token (see `isa`), which proves that the CPU can run them.
///
/// # Safety of loads and stores
/// The operations that take a pointer demand that the lanes they touch are valid for reads (writes) of `f32`. No alignment beyond
/// that of `f32` is needed.
pub(crate) trait Simd: Copy {
    /// A vector of sixteen lanes.
    type V: Copy;
    /// One of the registers that make up a vector. The operations called `_part` work on one.
    type P: Copy;
    /// Lanes of a register.
    const PART_LANES: usize;

    /// Register tile of the f32 matrix product (`gemm::f32`).
    const DOT_TILE: DotTile;
    /// Width, in vectors, of the register tile of six rows that f32 attention uses for both of its products.
    const PANEL_VECTORS: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Lanes `p[0..16]`.
    ///
    /// # Safety
    /// 16 elements at `p` are readable.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Lanes `p[0..n]`, then zeros; `n <= 16`.
    ///
    /// # Safety
    /// `n` elements at `p` are readable.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// Writes all lanes.
    ///
    /// # Safety
    /// 16 elements at `p` are writable.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Writes the first `n <= 16` lanes.
    ///
    /// # Safety
    /// `n` elements at `p` are writable.
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V);

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `|a|`
    fn abs(self, a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `sign`; `a` must not be negative.
    fn with_sign_of(self, a: Self::V, sign: Self::V) -> Self::V;
    /// `if a < b { then } else { otherwise }`
    fn select_lt(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// Rounds to the nearest integer, halves to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for integers `n` in -126 ..= 127.
    fn exp2_int(self, n: Self::V) -> Self::V;
    /// `v · 2^n` for integers `n`, where `v` and the result are normal; `magic` is `1.5 · 2^23 + n`.
    fn scale_exp2(self, v: Self::V, magic: Self::V) -> Self::V;
    /// The sum of each of four vectors. Lanes are halved: `i + (i+8)`, then `i + (i+4)`, `i + (i+2)`, `i + (i+1)`.
    fn reduce4(self, v: [Self::V; 4]) -> [f32; 4];
    /// A register whose lanes are all 0.
    fn zero_part(self) -> Self::P;
    /// Lanes `p[0..n]`, then zeros; beyond `PART_LANES` nothing is read.
    ///
    /// # Safety
    /// The first `n` or `PART_LANES` elements at `p`, whichever are fewer, are readable.
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::P;
    /// Writes all lanes.
    ///
    /// # Safety
    /// `PART_LANES` elements at `p` are writable.
    unsafe fn store_part(self, p: *mut f32, v: Self::P);
    /// `a * b + c`, rounded once.
    fn mul_add_part(self, a: Self::P, b: Self::P, c: Self::P) -> Self::P;
    /// The largest lane (by `max`, halved as in `reduce4`).
    fn reduce_max(self, v: Self::V) -> f32;

    /// [`reduce_max`](Self::reduce_max) of four vectors.
    #[inline(always)]
    fn reduce_max4(self, v: [Self::V; 4]) -> [f32; 4] {
        [self.reduce_max(v[0]), self.reduce_max(v[1]), self.reduce_max(v[2]), self.reduce_max(v[3])]
    }

    /// The larger of two magnitudes (no sign bits) by their bits: infinity is larger than any number, NaN than infinity.
    fn max_magnitude(self, a: Self::V, b: Self::V) -> Self::V;
    /// The largest lane of each of four vectors of magnitudes, compared as by [`max_magnitude`](Self::max_magnitude).
    #[inline(always)]
    fn reduce_magnitude4(self, v: [Self::V; 4]) -> [f32; 4] {
        let mut largest = [0.0; 4];
        for (largest, v) in largest.iter_mut().zip(v) {
            let (mut lanes, mut bits) = ([0.0; LANES], 0);
            // SAFETY: sixteen elements.
            unsafe { self.store(lanes.as_mut_ptr(), v) };
            for lane in lanes {
                bits = bits.max(lane.to_bits());
            }
            *largest = f32::from_bits(bits);
        }
        largest
    }

    /// Prefetches the cache line at `p`, which need not be readable. ISAs that do not implement this and the next two do nothing.
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        let _ = p;
    }
    /// Prefetches the cache line at `p`, in order to write to it.
    #[inline(always)]
    fn prefetch_to_write(self, p: *mut u8) {
        let _ = p;
    }
    /// Prefetches the cache line at `p` into the second-level cache.
    #[inline(always)]
    fn prefetch_far(self, p: *const u8) {
        let _ = p;
    }

    /// The sum of the lanes, in the order of `reduce4`.
    #[inline(always)]
    fn reduce(self, v: Self::V) -> f32 {
        let zero = self.splat(0.0);
        self.reduce4([v, zero, zero, zero])[0]
    }
}
