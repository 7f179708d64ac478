//! The operations of [`Simd`] over two AVX2 registers: lanes 0..8 and 8..16.
//!
//! Safety in this file: every method takes `self`, an `Avx2`, which exists only where the CPU has the features (`isa.rs`);
//! "`self` proves the ISA" below cites that.

use super::Simd;
use crate::isa::Avx2;
use crate::layout::DotTile;
use std::arch::x86_64::*;

/// Wraps intrinsics that touch no memory: the token alone makes them safe to call.
macro_rules! token {
    ($e:expr) => {
        // SAFETY: `self` proves the ISA; the intrinsic works on registers alone.
        unsafe { $e }
    };
}

type V = [__m256; 2];

/// A mask with all bits set in the first `n` of eight lanes, or in all eight if `n` is larger.
#[inline(always)]
fn first<const VNNI: bool>(_token: Avx2<VNNI>, n: usize) -> __m256i {
    let lanes = i32::try_from(n).unwrap_or(8);
    token!(_mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
}

/// Applies an intrinsic to both registers. It is a macro because a closure would be compiled without the CPU features.
macro_rules! both {
    ($f:expr, $a:expr) => {
        token!([$f($a[0]), $f($a[1])])
    };
    ($f:expr, $a:expr, $b:expr) => {
        token!([$f($a[0], $b[0]), $f($a[1], $b[1])])
    };
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type V = V;
    type P = __m256;
    const PART_LANES: usize = 8;

    // 3 x 4 registers accumulate one half of the lanes, 3 hold the rows, 1 a weight: 7 loads for 12 multiply-adds, two of each a cycle.
    const DOT_TILE: DotTile = DotTile { rows: 3, outputs: 4 };
    // 6 rows x 1 vector of two registers = 12 accumulators, 2 for the shared operand, 1 for the broadcast.
    const PANEL_VECTORS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        token!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable elements.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> V {
        // SAFETY: `self` proves the ISA; masked lanes are not read, the caller vouches for the first `n`. The second pointer may lie beyond
        // the allocation when all its lanes are masked, so it is computed with `wrapping_add`.
        unsafe {
            [
                _mm256_maskload_ps(p, first(self, n)),
                _mm256_maskload_ps(p.wrapping_add(8), first(self, n.saturating_sub(8))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 writable elements.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: V) {
        // SAFETY: `self` proves the ISA; masked lanes are not written, the caller vouches for the first `n`; `wrapping_add` as in
        // `load_first`.
        unsafe {
            _mm256_maskstore_ps(p, first(self, n), v[0]);
            _mm256_maskstore_ps(p.wrapping_add(8), first(self, n.saturating_sub(8)), v[1]);
        }
    }

    #[inline(always)]
    fn zero_part(self) -> __m256 {
        token!(_mm256_setzero_ps())
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> __m256 {
        // SAFETY: `self` proves the ISA; the caller vouches for eight elements, or for the first `n`: masked lanes are not read.
        unsafe { if n >= 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, first(self, n)) } }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, v: __m256) {
        // SAFETY: `self` proves the ISA; the caller vouches for eight writable elements.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn mul_add_part(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        token!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        token!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        let sign = token!(_mm256_set1_ps(-0.0));
        token!([_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])])
    }
    #[inline(always)]
    fn with_sign_of(self, a: V, sign: V) -> V {
        let bit = token!(_mm256_set1_ps(-0.0));
        token!([_mm256_or_ps(a[0], _mm256_and_ps(sign[0], bit)), _mm256_or_ps(a[1], _mm256_and_ps(sign[1], bit))])
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, then: V, otherwise: V) -> V {
        let less: V = both!(_mm256_cmp_ps::<_CMP_LT_OQ>, a, b);
        token!([_mm256_blendv_ps(otherwise[0], then[0], less[0]), _mm256_blendv_ps(otherwise[1], then[1], less[1])])
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        both!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>, a)
    }
    #[inline(always)]
    fn exp2_int(self, n: V) -> V {
        token!({
            let bias = _mm256_set1_epi32(127);
            let biased_i32: [__m256i; 2] =
                [_mm256_add_epi32(_mm256_cvtps_epi32(n[0]), bias), _mm256_add_epi32(_mm256_cvtps_epi32(n[1]), bias)];
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased_i32[0])),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased_i32[1])),
            ]
        })
    }
    #[inline(always)]
    fn scale_exp2(self, v: V, magic: V) -> V {
        token!({
            let exponents: [__m256i; 2] = [
                _mm256_slli_epi32::<23>(_mm256_castps_si256(magic[0])),
                _mm256_slli_epi32::<23>(_mm256_castps_si256(magic[1])),
            ];
            [
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v[0]), exponents[0])),
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v[1]), exponents[1])),
            ]
        })
    }
    #[inline(always)]
    fn reduce4(self, v: [V; 4]) -> [f32; 4] {
        token!({
            let mut quarters = [_mm_setzero_ps(); 4];
            for (quarter, v) in quarters.iter_mut().zip(v) {
                let halves = _mm256_add_ps(v[0], v[1]);
                *quarter = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            }
            let [a, b, c, d] = quarters;
            // [a0+a2, a1+a3, b0+b2, b1+b3], and the same for c and d; then the two sums of each are added.
            let ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
            let cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
            let sums = _mm_add_ps(_mm_shuffle_ps::<0b10_00_10_00>(ab, cd), _mm_shuffle_ps::<0b11_01_11_01>(ab, cd));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        })
    }
    #[inline(always)]
    fn max_magnitude(self, a: V, b: V) -> V {
        token!({
            let larger = [
                _mm256_max_epi32(_mm256_castps_si256(a[0]), _mm256_castps_si256(b[0])),
                _mm256_max_epi32(_mm256_castps_si256(a[1]), _mm256_castps_si256(b[1])),
            ];
            [_mm256_castsi256_ps(larger[0]), _mm256_castsi256_ps(larger[1])]
        })
    }
    #[inline(always)]
    fn reduce_max(self, v: V) -> f32 {
        token!({
            let halves = _mm256_max_ps(v[0], v[1]);
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
    fn prefetch_far(self, p: *const u8) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}
