//! The operations on small numbers over one AVX-512 register.
//!
//! Safety in this file: every method takes `self`, an `Avx512<LEVEL>`, which exists only where the CPU has the features of its
//! level (`isa.rs`); "`self` proves the ISA" below cites that.

use super::int::{SimdInt, butterfly_signs};
use super::{Simd, amx};
use crate::isa::Avx512;
use crate::layout::{GroupSums, LANES, Operands, Sums, TileShape};
use std::arch::asm;
use std::arch::x86_64::*;

/// Wraps intrinsics that touch no memory: the token alone makes them safe to call.
macro_rules! token {
    ($e:expr) => {
        // SAFETY: `self` proves the ISA; the intrinsic works on registers alone.
        unsafe { $e }
    };
}

/// The lowest `LEVEL` that has dot products of bytes.
const VNNI: u8 = 1;
/// The lowest `LEVEL` that has dot products of bf16.
const BF16: u8 = 2;
/// The lowest `LEVEL` that has matrix registers.
const AMX: u8 = 3;

/// 64 weights, prepared for instructions that multiply unsigned by signed bytes.
#[derive(Clone, Copy)]
pub(crate) struct W8 {
    /// As stored (`w + 128`) with VNNI, else `|w|`.
    unsigned: __m512i,
    /// Which weights are negative. Not used with VNNI.
    negative: __mmask64,
}

impl<const LEVEL: u8> Avx512<LEVEL> {
    /// Prepares 64 weights that are stored as `w + 128`.
    #[inline(always)]
    fn weights(self, stored: __m512i) -> W8 {
        if LEVEL >= VNNI {
            return W8 { unsigned: stored, negative: 0 };
        }
        token!({
            let w = _mm512_xor_si512(stored, _mm512_set1_epi8(-128));
            W8 { unsigned: _mm512_abs_epi8(w), negative: _mm512_movepi8_mask(w) }
        })
    }
}

impl<const LEVEL: u8> SimdInt for Avx512<LEVEL> {
    type I = __m512i;
    type W8 = W8;
    type Q4Weights = __m512i;
    type A8 = __m512i;
    type Q4Sums = __m512i;
    /// `m` in 16-bit lanes and `128 - z · m` in bytes, repeated for the four weights of each output.
    type Grids = [__m512i; 2];
    type WB = [__m512i; 2];
    type AB = [__m512i; 2];

    // 12 x 2 accumulators, 2 weight vectors, 1 broadcast: 27 of 32 registers. A step of 4 along the depth has 14 loads for 24 dot
    // products, of which Zen 4 does one a cycle.
    const I8_TILE: TileShape = TileShape { rows: 12, vectors: 2 };
    // 8 x 2 accumulators, 4 weight vectors, 1 broadcast. The 8 x 2 scaled sums go through the stack once a block; 6 rows would not need the
    // stack, but are no faster.
    const Q4_0_TILE: TileShape = TileShape { rows: 8, vectors: 2 };
    // As for int8; a step of unpacking needs six registers besides the sums. Up to three such tiles (with matrix registers, up to two) are faster
    // than unpacking whole panels first (EXPERIMENTS.md).
    const FEW_I4_TILE: TileShape = TileShape { rows: 12, vectors: 2 };
    const FEW_I4_ROWS: usize = if LEVEL >= AMX { 24 } else { 36 };
    const UNPACKS_BETWEEN: bool = true;
    // 12 x 2 accumulators, 2 weight vectors (4 without bf16 instructions), 1 or 2 broadcasts.
    const F16_TILE: TileShape = TileShape { rows: 12, vectors: 2 };
    const BF16_TILE: TileShape = TileShape { rows: 12, vectors: 2 };
    // 6 x 4 accumulators, 4 vectors of keys or values, 1 broadcast: 29 registers.
    const SCORE_TILE: TileShape = TileShape { rows: 6, vectors: 4 };
    // More than the latency of a product in cycles times the products that start in a cycle.
    const PROBE_CHAINS: usize = 12;
    const MATRICES: bool = LEVEL >= AMX;

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        token!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn to_f32(self, x: __m512i) -> Self::V {
        token!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> __m512i {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable elements.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        token!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn sums_in_order(self, sums: __m512i) -> __m512i {
        // Without VNNI a product needs more registers, and keeping the order would take even more (EXPERIMENTS.md).
        if LEVEL >= VNNI { token!(in_order(sums)) } else { sums }
    }

    #[inline(always)]
    fn begin_matrices(self, rows: usize, depth_bytes: usize) {
        if LEVEL >= AMX {
            // SAFETY: the token of this level exists only after `permitted` has returned true.
            unsafe { amx::configure(rows, depth_bytes) }
        }
    }
    #[inline(always)]
    fn end_matrices(self) {
        if LEVEL >= AMX {
            // SAFETY: `self` proves the ISA, as above.
            unsafe { amx::release() }
        }
    }
    #[inline(always)]
    unsafe fn matrix_sums<const INT8: bool, const PAIR: bool>(self, operands: Operands, sums: &mut Sums) {
        // SAFETY: `self` proves the ISA, as above: kernels call this only if `MATRICES`, which no lower level has; the caller vouches for the operands.
        unsafe { amx::sums::<INT8, PAIR>(operands, sums) }
    }
    #[inline(always)]
    unsafe fn matrix_halves<const PAIR: bool>(self, operands: Operands, sums: &mut Sums) {
        // SAFETY: as above.
        unsafe { amx::halves::<PAIR>(operands, sums) }
    }
    #[inline(always)]
    unsafe fn matrix_q4_0(self, x: *const i8, ldx: usize, w: *const i8, sums: &mut GroupSums) {
        // SAFETY: `self` proves the ISA, as above; the caller vouches for the operands.
        unsafe { amx::q4_0(x, ldx, w, sums) }
    }
    #[inline(always)]
    unsafe fn matrix_scores(self, q: *const i8, stride: usize, keys: *const u8, steps: usize, sums: *mut i32) {
        // SAFETY: `self` proves the ISA, as above; the caller vouches for the operands.
        unsafe { amx::scores(q, stride, keys, steps, sums) }
    }
    #[inline(always)]
    unsafe fn unpack_q4_0(self, nibbles: *const u8, vector: usize, to: *mut i8) {
        for quad in 0..4 {
            // SAFETY: `self` proves the ISA; the caller vouches for 512 bytes to read and 1,024 to write.
            unsafe {
                let eights = _mm512_set1_epi8(8);
                let [low, high] = self.load_q4_0(nibbles.add(quad * 128 + vector * 64));
                let to = to.add(quad * 128 + vector * 64);
                _mm512_storeu_si512(to.cast(), _mm512_sub_epi8(low, eights));
                _mm512_storeu_si512(to.add(512).cast(), _mm512_sub_epi8(high, eights));
            }
        }
    }
    fn probe_matrices(self, int8: bool, rounds: usize) -> Option<usize> {
        // SAFETY: `self` proves the ISA, as above.
        (LEVEL >= AMX).then(|| unsafe { if int8 { amx::probe::<true>(rounds) } else { amx::probe::<false>(rounds) } })
    }

    #[inline(always)]
    unsafe fn load_w8(self, p: *const u8) -> W8 {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
        self.weights(unsafe { _mm512_loadu_si512(p.cast()) })
    }
    #[inline(always)]
    fn start8(self, minus_128_sum: i32) -> __m512i {
        self.splat_i32(if LEVEL >= VNNI { minus_128_sum } else { 0 })
    }
    #[inline(always)]
    fn dot8(self, acc: __m512i, w: W8, a: __m512i) -> __m512i {
        if LEVEL >= VNNI {
            return token!(_mm512_dpbusd_epi32(acc, w.unsigned, a));
        }
        token!({
            // |w| <= 128 and |a| <= 127: two products are at most 32,512, which 16 bits hold.
            let signed = _mm512_mask_sub_epi8(a, w.negative, _mm512_setzero_si512(), a);
            let pairs_i16 = _mm512_maddubs_epi16(w.unsigned, signed);
            _mm512_add_epi32(acc, _mm512_madd_epi16(pairs_i16, _mm512_set1_epi16(1)))
        })
    }

    #[inline(always)]
    unsafe fn load_q4_0(self, p: *const u8) -> [__m512i; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
        unsafe {
            let bytes = _mm512_loadu_si512(p.cast());
            let low = _mm512_set1_epi8(15);
            [_mm512_and_si512(bytes, low), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low)]
        }
    }
    #[inline(always)]
    fn start_q4_0(self, minus_8_sum: i32) -> __m512i {
        self.splat_i32(minus_8_sum)
    }
    #[inline(always)]
    fn dot_q4_0(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
        if LEVEL >= VNNI {
            return token!(in_order(_mm512_dpbusd_epi32(acc, w, a)));
        }
        token!({
            let pairs_i16 = _mm512_maddubs_epi16(w, a);
            _mm512_add_epi32(acc, _mm512_madd_epi16(pairs_i16, _mm512_set1_epi16(1)))
        })
    }

    #[inline(always)]
    fn sum_q4_0(self, acc: __m512i, _minus_8_sum: i32) -> __m512i {
        acc
    }

    #[inline(always)]
    unsafe fn load_grids(self, p: *const u8) -> [__m512i; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable bytes.
        unsafe {
            let grids = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let (m, z) = (_mm512_and_si512(grids, _mm512_set1_epi8(15)), _mm512_srli_epi32::<4>(grids));
            let m = _mm512_or_si512(m, _mm512_slli_epi32::<16>(m));
            let z = _mm512_or_si512(z, _mm512_slli_epi32::<16>(z));
            let z = _mm512_or_si512(z, _mm512_slli_epi16::<8>(z));
            // The product of a nibble and `m` fits a byte, so one 16-bit multiplication does two of them.
            [m, _mm512_sub_epi8(_mm512_set1_epi8(-128), _mm512_mullo_epi16(z, m))]
        }
    }
    #[inline(always)]
    unsafe fn unpack_step(self, [m, begin]: [__m512i; 2], nibbles: *const u8, to: *mut u8) {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 bytes to read and twice 64 to write.
        unsafe {
            let [low, high] = self.load_q4_0(nibbles);
            _mm512_storeu_si512(to.cast(), _mm512_add_epi8(_mm512_mullo_epi16(low, m), begin));
            _mm512_storeu_si512(to.add(512).cast(), _mm512_add_epi8(_mm512_mullo_epi16(high, m), begin));
        }
    }

    #[inline(always)]
    unsafe fn unpacked_step(self, [m, begin]: [__m512i; 2], nibbles: *const u8) -> [W8; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
        let [low, high] = unsafe { self.load_q4_0(nibbles) };
        token!([
            self.weights(_mm512_add_epi8(_mm512_mullo_epi16(low, m), begin)),
            self.weights(_mm512_add_epi8(_mm512_mullo_epi16(high, m), begin)),
        ])
    }

    #[inline(always)]
    unsafe fn broadcast_a8(self, p: *const i8) -> __m512i {
        // SAFETY: `self` proves the ISA; the caller vouches for 4 readable bytes.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::V {
        // SAFETY: `self` proves the ISA; the caller vouches for 32 readable bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_wb(self, p: *const u16) -> [__m512i; 2] {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
        let pairs = unsafe { _mm512_loadu_si512(p.cast()) };
        if LEVEL >= BF16 {
            return [pairs; 2];
        }
        token!([_mm512_slli_epi32::<16>(pairs), _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32))])
    }
    #[inline(always)]
    unsafe fn broadcast_ab(self, p: *const u16) -> [__m512i; 2] {
        // SAFETY: the caller vouches for 2 readable elements.
        let pair = unsafe { p.cast::<u32>().read_unaligned() };
        if LEVEL >= BF16 {
            return [self.splat_i32(pair as i32); 2];
        }
        [self.splat_i32((pair << 16) as i32), self.splat_i32((pair & 0xffff_0000) as i32)]
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Self::V, w: [__m512i; 2], a: [__m512i; 2]) -> Self::V {
        if LEVEL >= BF16 {
            // SAFETY: `self` proves the ISA; both types are 64 bytes of plain bits.
            return unsafe {
                _mm512_dpbf16_ps(
                    acc,
                    std::mem::transmute::<__m512i, __m512bh>(w[0]),
                    std::mem::transmute::<__m512i, __m512bh>(a[0]),
                )
            };
        }
        token!({
            let first = _mm512_fmadd_ps(_mm512_castsi512_ps(w[0]), _mm512_castsi512_ps(a[0]), acc);
            _mm512_fmadd_ps(_mm512_castsi512_ps(w[1]), _mm512_castsi512_ps(a[1]), first)
        })
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Self::V) {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 writable bytes.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
    #[inline(always)]
    unsafe fn store_i8x64(self, p: *mut i8, v: [Self::V; 4]) -> Self::V {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 writable bytes.
        unsafe {
            // The instructions pack each quarter of a register by itself: quarter j of `bytes` gets lanes 4j .. 4j+4 of each of the four vectors.
            let ab = _mm512_packs_epi32(_mm512_cvtps_epi32(v[0]), _mm512_cvtps_epi32(v[1]));
            let cd = _mm512_packs_epi32(_mm512_cvtps_epi32(v[2]), _mm512_cvtps_epi32(v[3]));
            let bytes = _mm512_packs_epi16(ab, cd);
            let in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_storeu_si512(p.cast(), _mm512_permutexvar_epi32(in_order, bytes));
            let ones = _mm512_set1_epi8(1);
            let sums = match LEVEL >= VNNI {
                true => _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, bytes),
                false => _mm512_madd_epi16(_mm512_maddubs_epi16(ones, bytes), _mm512_set1_epi16(1)),
            };
            _mm512_cvtepi32_ps(sums)
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V) {
        // Rounds with integer instructions, so that the bits are those of other ISAs: the bf16 instruction flushes subnormals to zero.
        // SAFETY: `self` proves the ISA; the caller vouches for 32 writable bytes.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            // Rounding could turn a NaN into an infinity, so every NaN becomes a quiet NaN first.
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x40_0000));
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)))
        }
    }

    #[inline(always)]
    fn butterfly<const STEP: usize>(self, v: Self::V) -> Self::V {
        const SIGNS: [[f32; LANES]; 4] =
            [butterfly_signs(1), butterfly_signs(2), butterfly_signs(4), butterfly_signs(8)];
        // SAFETY: `self` proves the ISA; the signs are sixteen elements.
        unsafe {
            let swapped = match STEP {
                1 => _mm512_permute_ps::<0b10_11_00_01>(v),
                2 => _mm512_permute_ps::<0b01_00_11_10>(v),
                4 => _mm512_shuffle_f32x4::<0b10_11_00_01>(v, v),
                _ => _mm512_shuffle_f32x4::<0b01_00_11_10>(v, v),
            };
            self.mul_add(v, self.load(SIGNS[STEP.trailing_zeros() as usize].as_ptr()), swapped)
        }
    }
}

/// Returns the register unchanged, but keeps the compiler from moving code across this point: see [`SimdInt::sums_in_order`].
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn in_order(register: __m512i) -> __m512i {
    let mut register = register;
    // SAFETY: the assembly is a comment, no instruction. The compiler must assume that it reads memory, so that loads stay in order too.
    unsafe { asm!("/* {0} */", inout(zmm_reg) register, options(nostack, preserves_flags)) };
    register
}
