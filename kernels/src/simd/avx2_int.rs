//! The operations on small numbers over pairs of AVX2 registers: lanes 0..8 and 8..16.
//!
//! Safety in this file: every method takes `self`, an `Avx2<VNNI>`, which exists only where the CPU has the features
//! (`isa.rs`); "`self` proves the ISA" below cites that.

use super::Simd;
use super::int::{SimdInt, butterfly_signs};
use crate::isa::Avx2;
use crate::layout::{LANES, Rest, TileShape};
use std::arch::asm;
use std::arch::x86_64::*;

/// Wraps intrinsics that touch no memory: the token alone makes them safe to call.
macro_rules! token {
    ($e:expr) => {
        // SAFETY: `self` proves the ISA; the intrinsic works on registers alone.
        unsafe { $e }
    };
}

type I = [__m256i; 2];

/// 64 weights, prepared for instructions that multiply unsigned by signed bytes.
#[derive(Clone, Copy)]
pub(crate) struct W8 {
    /// As stored (`w + 128`) with VNNI, else `|w|`.
    unsigned: I,
    /// `w`. Not used with VNNI.
    signed: I,
}

/// Applies an intrinsic to both registers. It is a macro because a closure would be compiled without the CPU features.
macro_rules! both {
    ($f:expr, $a:expr) => {
        [$f($a[0]), $f($a[1])]
    };
    ($f:expr, $a:expr, $b:expr) => {
        [$f($a[0], $b[0]), $f($a[1], $b[1])]
    };
}

/// `acc + Σ u·s` over four unsigned bytes `u` and signed bytes `s`. The sum of two products must fit into 16 bits.
macro_rules! dot_bytes {
    ($acc:expr, $unsigned:expr, $signed:expr) => {
        _mm256_add_epi32($acc, _mm256_madd_epi16(_mm256_maddubs_epi16($unsigned, $signed), _mm256_set1_epi16(1)))
    };
}

impl<const VNNI: bool> SimdInt for Avx2<VNNI> {
    type I = I;
    type W8 = W8;
    type Q4Weights = I;
    type A8 = __m256i;
    type Q4Sums = I;
    /// For each eight outputs: `m` in 16-bit lanes and `128 - z · m` in bytes, repeated for the four weights of each output.
    type Grids = [[__m256i; 2]; 2];
    type WB = [[__m256; 2]; 2];
    type AB = [__m256; 2];

    // One vector is two registers. With VNNI: 6 x 1 vectors are 12 accumulators, 2 for a vector's weights, 1 broadcast. Without: 5 x 1 are 10, 2 for
    // a register's weights (|w| and w), 1 broadcast, 1 of ones.
    const I8_TILE: TileShape = TileShape { rows: if VNNI { 6 } else { 5 }, vectors: 1 };
    // With two vectors, a panel is read front to back. With VNNI, 3 x 2 are 12 accumulators; fewer than ten would wait for each other (latency
    // 5, two a cycle on Golden Cove). So 8 rows as tiles of 3 + 3 + 2 rows of two vectors take 17 cycles for a step of the depth, and as tiles
    // of 4 + 4 rows of one vector, done twice, 20. Without VNNI: 2 x 2 vectors are 8 accumulators.
    const FEW_I8_TILE: TileShape = TileShape { rows: if VNNI { 3 } else { 2 }, vectors: 2 };
    const FEW_I8_ROWS: usize = if VNNI { 9 } else { 2 };
    const ONE_VECTOR_AT_A_TIME: bool = true;
    const SPLITS_ROWS: bool = !VNNI;
    // 5 x 1 vectors are 10 accumulators, 2 for a vector's weights, 1 broadcast, 1 for products, 1 of ones.
    const SPLIT_I8_TILE: TileShape = TileShape { rows: 5, vectors: 1 };
    // 4 x 1 accumulators: 8 registers, 4 for weights, 1 broadcast. The scaled sums go through the stack once a block.
    const Q4_0_TILE: TileShape = TileShape { rows: 4, vectors: 1 };
    // Each row has 2 x 2 registers of sums; the weights take 8 registers without VNNI, 4 with it.
    const FEW_I4_TILE: TileShape = TileShape { rows: if VNNI { 3 } else { 1 }, vectors: 2 };
    const FEW_I4_ROWS: usize = Self::FEW_I4_TILE.rows;
    // 2 x 2 accumulators: 8 registers, as many as multiply-adds can be in flight (latency 4, two a cycle); even one row alone has half of that.
    // 2 for a vector's weights, 1 broadcast.
    const F16_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    // 4 x 1 accumulators: 8 registers, 4 for weights (even and odd depths), 2 broadcasts.
    const BF16_TILE: TileShape = TileShape { rows: 4, vectors: 1 };
    // 4 x 1 accumulators: 8 registers, 4 for keys or values, 1 broadcast.
    const SCORE_TILE: TileShape = TileShape { rows: 4, vectors: 1 };
    // 4 vectors are 8 registers, because a multiply-add has a latency of 4 and a core starts two a cycle; the others are for operands and
    // intermediate values. Dot products of bytes with VNNI have a latency of 5, so 6 vectors; two registers of weights and one of activations
    // still fit in.
    const PROBE_CHAINS: usize = 4;
    const INT8_PROBE_CHAINS: usize = if VNNI { 6 } else { 4 };

    #[inline(always)]
    fn splat_i32(self, x: i32) -> I {
        token!([_mm256_set1_epi32(x); 2])
    }
    #[inline(always)]
    fn to_f32(self, x: I) -> Self::V {
        token!(both!(_mm256_cvtepi32_ps, x))
    }
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> I {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable elements.
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())] }
    }
    #[inline(always)]
    fn add_i32(self, a: I, b: I) -> I {
        token!(both!(_mm256_add_epi32, a, b))
    }

    #[inline(always)]
    fn sums_in_order(self, sums: I) -> I {
        token!(both!(in_order, sums))
    }

    #[inline(always)]
    unsafe fn load_w8(self, p: *const u8) -> W8 {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
        unsafe {
            let stored = [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())];
            if VNNI {
                return W8 { unsigned: stored, signed: stored };
            }
            let bias = [_mm256_set1_epi8(-128); 2];
            let signed: I = both!(_mm256_xor_si256, stored, bias);
            W8 { unsigned: both!(_mm256_abs_epi8, signed), signed }
        }
    }
    #[inline(always)]
    fn start8(self, minus_128_sum: i32) -> I {
        self.splat_i32(if VNNI { minus_128_sum } else { 0 })
    }
    #[inline(always)]
    fn dot8(self, acc: I, w: W8, a: __m256i) -> I {
        token!({
            if VNNI {
                return [
                    _mm256_dpbusd_avx_epi32(acc[0], w.unsigned[0], a),
                    _mm256_dpbusd_avx_epi32(acc[1], w.unsigned[1], a),
                ];
            }
            // |w| <= 128 and |a| <= 127: two products are at most 32,512, which 16 bits hold.
            [
                dot_bytes!(acc[0], w.unsigned[0], _mm256_sign_epi8(a, w.signed[0])),
                dot_bytes!(acc[1], w.unsigned[1], _mm256_sign_epi8(a, w.signed[1])),
            ]
        })
    }

    #[inline(always)]
    unsafe fn load_q4_0(self, p: *const u8) -> [I; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
        unsafe {
            let bytes = [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())];
            let low = [_mm256_set1_epi8(15); 2];
            let shifted = both!(_mm256_srli_epi16::<4>, bytes);
            [both!(_mm256_and_si256, bytes, low), both!(_mm256_and_si256, shifted, low)]
        }
    }
    #[inline(always)]
    fn start_q4_0(self, minus_8_sum: i32) -> I {
        self.splat_i32(if VNNI { minus_8_sum } else { 0 })
    }
    #[inline(always)]
    fn dot_q4_0(self, acc: I, w: I, a: __m256i) -> I {
        token!({
            if VNNI {
                let sums = [_mm256_dpbusd_avx_epi32(acc[0], w[0], a), _mm256_dpbusd_avx_epi32(acc[1], w[1], a)];
                return self.sums_in_order(sums);
            }
            // The sums stay in 16 bits, one for each pair: two products are at most 2 · 15 · 127, and eight times that is 30,480.
            [
                _mm256_add_epi16(acc[0], _mm256_maddubs_epi16(w[0], a)),
                _mm256_add_epi16(acc[1], _mm256_maddubs_epi16(w[1], a)),
            ]
        })
    }
    #[inline(always)]
    fn sum_q4_0(self, acc: I, minus_8_sum: i32) -> I {
        if VNNI {
            return acc;
        }
        token!({
            let one = _mm256_set1_epi16(1);
            let start = _mm256_set1_epi32(minus_8_sum);
            [
                _mm256_add_epi32(_mm256_madd_epi16(acc[0], one), start),
                _mm256_add_epi32(_mm256_madd_epi16(acc[1], one), start),
            ]
        })
    }

    #[inline(always)]
    unsafe fn load_grids(self, p: *const u8) -> [[__m256i; 2]; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable bytes.
        unsafe {
            let zero = _mm256_setzero_si256();
            let mut halves = [[zero; 2]; 2];
            for (part, half) in halves.iter_mut().enumerate() {
                let grids = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(part * 8).cast()));
                let (m, z) = (_mm256_and_si256(grids, _mm256_set1_epi8(15)), _mm256_srli_epi32::<4>(grids));
                let m = _mm256_or_si256(m, _mm256_slli_epi32::<16>(m));
                let z = _mm256_or_si256(z, _mm256_slli_epi32::<16>(z));
                let z = _mm256_or_si256(z, _mm256_slli_epi16::<8>(z));
                // The product of a nibble and `m` fits a byte, so one 16-bit multiplication does two of them.
                *half = [m, _mm256_sub_epi8(_mm256_set1_epi8(-128), _mm256_mullo_epi16(z, m))];
            }
            halves
        }
    }
    #[inline(always)]
    unsafe fn unpack_step(self, grids: [[__m256i; 2]; 2], nibbles: *const u8, to: *mut u8) {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 bytes to read and twice 64 to write.
        unsafe {
            let nibble = _mm256_set1_epi8(15);
            for (part, [m, begin]) in grids.into_iter().enumerate() {
                let bytes = _mm256_loadu_si256(nibbles.add(part * 32).cast());
                let (low, high) = (_mm256_and_si256(bytes, nibble), _mm256_srli_epi16::<4>(bytes));
                let high = _mm256_and_si256(high, nibble);
                let to = to.add(part * 32);
                _mm256_storeu_si256(to.cast(), _mm256_add_epi8(_mm256_mullo_epi16(low, m), begin));
                _mm256_storeu_si256(to.add(512).cast(), _mm256_add_epi8(_mm256_mullo_epi16(high, m), begin));
            }
        }
    }

    #[inline(always)]
    unsafe fn broadcast_a8(self, p: *const i8) -> __m256i {
        // SAFETY: `self` proves the ISA; the caller vouches for 4 readable bytes.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    /// Sixteen registers do not hold a tile's sums and all of its weights. So this loads the weights of one vector at a time (without VNNI, of one
    /// register, for whose weights it needs two, `|w|` and `w`), and broadcasts the activations again for each.
    #[inline(always)]
    unsafe fn add_quad8<const R: usize, const N: usize>(
        self,
        acc: &mut [[I; N]; R],
        x: *const i8,
        ldx: usize,
        w: *const u8,
    ) {
        for n in 0..N {
            if VNNI {
                // SAFETY: `self` proves the ISA; guaranteed by the caller.
                unsafe {
                    let wv = self.load_w8(w.add(64 * n));
                    for (r, acc) in acc.iter_mut().enumerate() {
                        acc[n] = self.sums_in_order(self.dot8(acc[n], wv, self.broadcast_a8(x.add(r * ldx))));
                    }
                }
                continue;
            }
            for half in 0..2 {
                // SAFETY: `self` proves the ISA; guaranteed by the caller.
                unsafe {
                    let stored = _mm256_loadu_si256(w.add(64 * n + 32 * half).cast());
                    let signed = _mm256_xor_si256(stored, _mm256_set1_epi8(-128));
                    let unsigned = _mm256_abs_epi8(signed);
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let a = self.broadcast_a8(x.add(r * ldx));
                        // As in `dot8`.
                        let sum = dot_bytes!(acc[n][half], unsigned, _mm256_sign_epi8(a, signed));
                        acc[n][half] = in_order(sum);
                    }
                }
            }
        }
    }

    /// Without VNNI: the instructions of [`add_split_quad8`](SimdInt::add_split_quad8).
    #[inline(always)]
    fn fastest8(self, acc: I, w: W8, a: __m256i) -> I {
        if VNNI {
            return self.dot8(acc, w, a);
        }
        token!([dot_bytes!(acc[0], w.unsigned[0], a), dot_bytes!(acc[1], w.unsigned[1], a)])
    }
    #[inline(always)]
    unsafe fn add_split_quad8<const R: usize, const N: usize>(
        self,
        acc: &mut [[I; N]; R],
        x: *const i8,
        ldx: usize,
        w: *const u8,
    ) {
        for n in 0..N {
            // SAFETY: `self` proves the ISA; guaranteed by the caller.
            unsafe {
                let stored = [_mm256_loadu_si256(w.add(64 * n).cast()), _mm256_loadu_si256(w.add(64 * n + 32).cast())];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = self.broadcast_a8(x.add(r * ldx));
                    // 0 <= w + 128 <= 255: two products are from -32,640 to 32,640, which 16 bits hold.
                    let sums = [dot_bytes!(acc[n][0], stored[0], a), dot_bytes!(acc[n][1], stored[1], a)];
                    acc[n] = self.sums_in_order(sums);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn split_row8(self, row: *const i8, quads: usize, to: *mut i8, rests: &mut Vec<Rest>) {
        let mut from = 0;
        while from < quads {
            // SAFETY: `self` proves the ISA; the caller vouches for 32 bytes at a time.
            unsafe {
                let a = _mm256_loadu_si256(row.add(4 * from).cast());
                let (zero, one, most) = (_mm256_setzero_si256(), _mm256_set1_epi8(1), _mm256_set1_epi16(128));
                let magnitudes = _mm256_abs_epi8(a);
                let all = _mm256_maddubs_epi16(magnitudes, one);
                let positive = _mm256_maddubs_epi16(_mm256_max_epi8(a, zero), one);
                let negative = _mm256_sub_epi16(all, positive);
                let too_large = _mm256_cmpgt_epi16(_mm256_max_epi16(positive, negative), most);
                let fits = _mm256_cmpeq_epi32(too_large, zero);
                // Half of the magnitudes, rounded down, with the sign of `a`: at most 63 of 127, and the other half at most 64.
                let halves = _mm256_and_si256(_mm256_srli_epi16::<1>(magnitudes), _mm256_set1_epi8(0x7f));
                let kept = _mm256_blendv_epi8(_mm256_sign_epi8(halves, a), a, fits);
                _mm256_storeu_si256(to.add(4 * from).cast(), kept);
                // The last 32 bytes may reach beyond the row's quads: only those before its end count.
                let own = (1u32 << (quads - from).min(8)) - 1;
                let mut left = !_mm256_movemask_ps(_mm256_castsi256_ps(fits)) as u32 & own;
                while left != 0 {
                    let quad = from + left.trailing_zeros() as usize;
                    let rest = |i| (*row.add(4 * quad + i)).wrapping_sub(*to.add(4 * quad + i));
                    rests.push(Rest { quad: quad as u32, bytes: [rest(0), rest(1), rest(2), rest(3)] });
                    left &= left - 1;
                }
            }
            from += 8;
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::V {
        // SAFETY: `self` proves the ISA; the caller vouches for 32 readable bytes.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))] }
    }
    #[inline(always)]
    unsafe fn load_wb(self, p: *const u16) -> [[__m256; 2]; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
        unsafe {
            let pairs = [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(16).cast())];
            let even: I = both!(_mm256_slli_epi32::<16>, pairs);
            let high = [_mm256_set1_epi32(0xffff_0000_u32 as i32); 2];
            let odd: I = both!(_mm256_and_si256, pairs, high);
            [both!(_mm256_castsi256_ps, even), both!(_mm256_castsi256_ps, odd)]
        }
    }
    #[inline(always)]
    unsafe fn broadcast_ab(self, p: *const u16) -> [__m256; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 2 readable elements.
        unsafe {
            // The pair is broadcast by a load, because a scalar would have to be moved from an integer register.
            let pairs = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
            let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(_mm256_and_si256(pairs, high))]
        }
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Self::V, w: [[__m256; 2]; 2], a: [__m256; 2]) -> Self::V {
        token!([
            _mm256_fmadd_ps(w[1][0], a[1], _mm256_fmadd_ps(w[0][0], a[0], acc[0])),
            _mm256_fmadd_ps(w[1][1], a[1], _mm256_fmadd_ps(w[0][1], a[0], acc[1])),
        ])
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Self::V) {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 writable bytes.
        unsafe {
            let halves_i16 = pack_i16(v);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(halves_i16), _mm256_extracti128_si256::<1>(halves_i16));
            _mm_storeu_si128(p.cast(), bytes)
        }
    }
    #[inline(always)]
    unsafe fn store_i8x64(self, p: *mut i8, v: [Self::V; 4]) -> Self::V {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 writable bytes.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 2];
            for (half, sums) in sums.iter_mut().enumerate() {
                let [a, b] = [v[2 * half], v[2 * half + 1]];
                // The instructions pack each half of a register by itself: half j of `bytes` gets lanes 4j .. 4j+4 of each of the four registers.
                let a = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
                let b = _mm256_packs_epi32(_mm256_cvtps_epi32(b[0]), _mm256_cvtps_epi32(b[1]));
                let bytes = _mm256_packs_epi16(a, b);
                let in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                _mm256_storeu_si256(p.add(32 * half).cast(), _mm256_permutevar8x32_epi32(bytes, in_order));
                *sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
            }
            both!(_mm256_cvtepi32_ps, sums)
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V) {
        // SAFETY: `self` proves the ISA; the caller vouches for 32 writable bytes.
        unsafe {
            let mut rounded = [_mm256_setzero_si256(); 2];
            for (rounded, v) in rounded.iter_mut().zip(v) {
                let bits = _mm256_castps_si256(v);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
                // Rounding could turn a NaN into an infinity, so every NaN becomes a quiet NaN first.
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
                let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                *rounded = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(sum, quiet, is_nan));
            }
            // The instruction packs each 128-bit half by itself, so the quarters of the result must be put in order.
            let packed = _mm256_packus_epi32(rounded[0], rounded[1]);
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
        }
    }

    #[inline(always)]
    fn butterfly<const STEP: usize>(self, v: Self::V) -> Self::V {
        const SIGNS: [[f32; LANES]; 4] =
            [butterfly_signs(1), butterfly_signs(2), butterfly_signs(4), butterfly_signs(8)];
        // SAFETY: `self` proves the ISA; the signs are sixteen elements.
        unsafe {
            let swapped = match STEP {
                1 => both!(_mm256_permute_ps::<0b10_11_00_01>, v),
                2 => both!(_mm256_permute_ps::<0b01_00_11_10>, v),
                4 => [_mm256_permute2f128_ps::<1>(v[0], v[0]), _mm256_permute2f128_ps::<1>(v[1], v[1])],
                _ => [v[1], v[0]],
            };
            self.mul_add(v, self.load(SIGNS[STEP.trailing_zeros() as usize].as_ptr()), swapped)
        }
    }
}

/// Returns the register unchanged, but keeps the compiler from moving code across this point: see [`SimdInt::sums_in_order`].
///
/// # Safety
/// The CPU has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn in_order(register: __m256i) -> __m256i {
    let mut register = register;
    // SAFETY: the assembly is a comment, no instruction. The compiler must assume that it reads memory, so that loads stay in order too.
    unsafe { asm!("/* {0} */", inout(ymm_reg) register, options(nostack, preserves_flags)) };
    register
}

/// Sixteen values rounded to `i16`, in the order of their lanes.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn pack_i16(v: [__m256; 2]) -> __m256i {
    // SAFETY: guaranteed by the caller; registers alone.
    unsafe {
        let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
        // The instruction packs each 128-bit half by itself, so the quarters of the result must be put in order.
        _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
    }
}
