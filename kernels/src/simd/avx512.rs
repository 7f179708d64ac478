//! The operations of [`Simd`] over one AVX-512 register.
//!
//! Safety in this file: every method takes `self`, an `Avx512`, which exists only where the CPU has the features (`isa.rs`);
//! "`self` proves the ISA" below cites that.

use super::Simd;
use crate::isa::Avx512;
use crate::layout::{DotTile, LANES};
use std::arch::x86_64::*;

/// The mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

/// Wraps intrinsics that touch no memory: the token alone makes them safe to call.
macro_rules! token {
    ($e:expr) => {
        // SAFETY: `self` proves the ISA; the intrinsic works on registers alone.
        unsafe { $e }
    };
}

/// In each lane the larger of two numbers without sign bits, compared by their bits.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn max_of_bits(a: __m512, b: __m512) -> __m512 {
    // SAFETY: guaranteed by the caller.
    unsafe { _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
}

/// Combines the lanes of each of four vectors with `$two`, upper half with lower half, until one value of each is left.
macro_rules! reduce4 {
    ($v:expr, $two:ident) => {{
        const LOW_HALVES: i32 = 0b01_00_01_00;
        const HIGH_HALVES: i32 = 0b11_10_11_10;
        let [a, b, c, d] = $v;
        token!({
            // Halves of two vectors side by side, put together: [a 0..8 | b 0..8] and [a 8..16 | b 8..16].
            let ab = $two(_mm512_shuffle_f32x4::<LOW_HALVES>(a, b), _mm512_shuffle_f32x4::<HIGH_HALVES>(a, b));
            let cd = $two(_mm512_shuffle_f32x4::<LOW_HALVES>(c, d), _mm512_shuffle_f32x4::<HIGH_HALVES>(c, d));
            // Quarters: each 128-bit group now belongs to one vector, in the order a, b, c, d.
            let quarters =
                $two(_mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd), _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
            let pairs = $two(quarters, _mm512_permute_ps::<0b11_10_11_10>(quarters));
            let sums = $two(pairs, _mm512_permute_ps::<0b01_01_01_01>(pairs));
            // Lane 0 of each group, gathered into one register: one store instead of four extracts.
            let first_of_groups = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
            let four = _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_groups, sums));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), four);
            out
        })
    }};
}

impl<const LEVEL: u8> Simd for Avx512<LEVEL> {
    type V = __m512;
    type P = __m512;
    const PART_LANES: usize = LANES;

    // 6 x 4 accumulators fill 24 of 32 registers; a depth step is 10 loads for 24 multiply-adds, so the tile is bound by
    // arithmetic (one 512-bit multiply-add and one load a cycle on Zen 4, two and two on Intel servers).
    const DOT_TILE: DotTile = DotTile { rows: 6, outputs: 4 };
    // 6 rows x 4 vectors = 24 accumulators, 4 for the shared operand, 1 for the broadcast.
    const PANEL_VECTORS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        token!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable elements.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: `self` proves the ISA; masked lanes are not read, the caller vouches for the first `n`.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 writable elements.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: __m512) {
        // SAFETY: `self` proves the ISA; masked lanes are not written, the caller vouches for the first `n`.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }

    #[inline(always)]
    fn zero_part(self) -> __m512 {
        token!(_mm512_setzero_ps())
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: guaranteed by the caller.
        unsafe { if n >= LANES { self.load(p) } else { self.load_first(p, n) } }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, v: __m512) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.store(p, v) }
    }
    #[inline(always)]
    fn mul_add_part(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.mul_add(a, b, c)
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        token!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        token!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        token!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        token!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        token!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        token!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        token!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn with_sign_of(self, a: __m512, sign: __m512) -> __m512 {
        token!(_mm512_or_ps(a, _mm512_and_ps(sign, _mm512_set1_ps(-0.0))))
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, then: __m512, otherwise: __m512) -> __m512 {
        token!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        token!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn exp2_int(self, n: __m512) -> __m512 {
        token!({
            let biased_i32x16 = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased_i32x16))
        })
    }
    #[inline(always)]
    fn scale_exp2(self, v: __m512, magic: __m512) -> __m512 {
        token!({
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(magic));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), exponent))
        })
    }
    #[inline(always)]
    fn reduce4(self, v: [__m512; 4]) -> [f32; 4] {
        reduce4!(v, _mm512_add_ps)
    }
    #[inline(always)]
    fn reduce_max4(self, v: [__m512; 4]) -> [f32; 4] {
        reduce4!(v, _mm512_max_ps)
    }
    #[inline(always)]
    fn max_magnitude(self, a: __m512, b: __m512) -> __m512 {
        token!(max_of_bits(a, b))
    }
    #[inline(always)]
    fn reduce_magnitude4(self, v: [__m512; 4]) -> [f32; 4] {
        reduce4!(v, max_of_bits)
    }
    #[inline(always)]
    fn reduce_max(self, v: __m512) -> f32 {
        token!({
            let halves = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let quarters = _mm_max_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let pairs = _mm_max_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
        })
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write(self, p: *mut u8) {
        // SAFETY: as above; every CPU with AVX-512 has the instruction, which writes nothing.
        unsafe { std::arch::asm!("prefetchw [{}]", in(reg) p, options(nostack, preserves_flags, readonly)) }
    }
    #[inline(always)]
    fn prefetch_far(self, p: *const u8) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}
