//! The operations on small numbers over four NEON registers: lanes 0..4, 4..8, 8..12 and 12..16.
//!
//! Safety in this file: every method takes `self`, a `Neon<LEVEL>`, which exists only where the CPU has the features (`isa.rs`); "token"
//! below cites that.

use super::int::{SimdInt, butterfly_signs};
use super::{Simd, neon_matrix};
use crate::isa::Neon;
use crate::layout::{LANES, TileShape};
use std::arch::aarch64::*;
use std::arch::asm;

/// Wraps intrinsics that touch no memory: the token alone makes them safe to call.
macro_rules! token {
    ($e:expr) => {
        // SAFETY: `self` proves the ISA; the intrinsic works on registers alone.
        unsafe { $e }
    };
}

/// The lowest `LEVEL` that has `SDOT`.
const DOT: u8 = 1;
/// The lowest `LEVEL` that has `USDOT` and products of matrices of bytes.
const I8MM: u8 = 2;

type I = [int32x4_t; 4];
type Bytes = [int8x16_t; 4];

/// `acc[o] + Σ a[4 o + i] · b[4 o + i]` over four bytes.
///
/// `SDOT`'s intrinsic is not stable in this crate's minimum Rust version, hence the assembly; `.arch_extension` makes the assembler accept it
/// whatever features the function around it is compiled for. Without `SDOT` the sum is exact too: a product of bytes of at most 128 and 127 fits
/// into 16 bits, and products are added in 32 bits.
#[inline(always)]
fn dot_bytes<const LEVEL: u8>(_token: Neon<LEVEL>, acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    if LEVEL >= DOT {
        let mut acc = acc;
        // SAFETY: the token of this level proves `dotprod`; the instruction reads and writes its three registers alone.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
                acc = inout(vreg) acc,
                a = in(vreg) a,
                b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        return acc;
    }
    token!({
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        let high = vpaddlq_s16(vmull_high_s8(a, b));
        vaddq_s32(acc, vpaddq_s32(low, high))
    })
}

/// `acc[o] + Σ w[4 o + i] · a[4 o + i]` over four bytes, `w` unsigned: `USDOT`, by assembly for the same reason as in [`dot_bytes`].
///
/// # Safety
/// The CPU has i8mm.
#[inline(always)]
unsafe fn dot_stored(acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: guaranteed by the caller; the instruction reads and writes its three registers alone.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "usdot {acc:v}.4s, {w:v}.16b, {a:v}.16b",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Sixteen values rounded to the nearest `i16`, halves to even.
#[inline(always)]
fn round_i16<const LEVEL: u8>(_token: Neon<LEVEL>, v: [float32x4_t; 4]) -> [int16x8_t; 2] {
    token!([
        vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v[0])), vqmovn_s32(vcvtnq_s32_f32(v[1]))),
        vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v[2])), vqmovn_s32(vcvtnq_s32_f32(v[3]))),
    ])
}

impl<const LEVEL: u8> SimdInt for Neon<LEVEL> {
    type I = I;
    type W8 = Bytes;
    type Q4Weights = Bytes;
    type A8 = int8x16_t;
    type Q4Sums = I;
    /// For each four outputs: `m` and `128 - z · m` in bytes, repeated for the four weights of each output.
    type Grids = [[uint8x16_t; 2]; 4];
    type WB = [[float32x4_t; 4]; 2];
    type AB = [float32x4_t; 2];

    // By dot products: 2 x 2 vectors of four registers: 16 accumulators, 8 for the weights, 1 for the broadcast: 25 of 32. By products of
    // matrices: see `neon_matrix.rs`.
    const I8_TILE: TileShape = TileShape { rows: if LEVEL >= I8MM { neon_matrix::ROWS } else { 2 }, vectors: 2 };
    // By dot products: 1 x 2 vectors of accumulators and as many of scaled sums are 16 registers; the four vectors of weights of a step take the
    // other 16. By products of matrices, the scaled sums go through the stack once a block, as with AVX-512.
    const Q4_0_TILE: TileShape = TileShape { rows: if LEVEL >= I8MM { neon_matrix::ROWS } else { 1 }, vectors: 2 };
    // By dot products as for int8; with products of matrices only a single row, because these take more than one.
    const FEW_I4_TILE: TileShape = TileShape { rows: if LEVEL >= I8MM { 1 } else { 2 }, vectors: 2 };
    const FEW_I4_ROWS: usize = Self::FEW_I4_TILE.rows;
    // 2 x 2 vectors of accumulators are 16 registers; then there are the weights.
    const F16_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    const BF16_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    // By dot products: 1 x 4 vectors are 16 accumulators.
    const SCORE_TILE: TileShape = TileShape { rows: if LEVEL >= I8MM { neon_matrix::ROWS } else { 1 }, vectors: 4 };
    // 5 vectors are 20 registers, because a multiply-add has a latency of 4 and up to four start in a cycle; 12 registers are left for operands.
    const PROBE_CHAINS: usize = 5;
    const FASTEST8: usize = if LEVEL >= I8MM { 128 } else { 64 };

    #[inline(always)]
    fn splat_i32(self, x: i32) -> I {
        token!([vdupq_n_s32(x); 4])
    }
    #[inline(always)]
    fn to_f32(self, x: I) -> Self::V {
        token!([vcvtq_f32_s32(x[0]), vcvtq_f32_s32(x[1]), vcvtq_f32_s32(x[2]), vcvtq_f32_s32(x[3])])
    }
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> I {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable elements.
        unsafe { [vld1q_s32(p), vld1q_s32(p.add(4)), vld1q_s32(p.add(8)), vld1q_s32(p.add(12))] }
    }
    #[inline(always)]
    fn add_i32(self, a: I, b: I) -> I {
        token!([vaddq_s32(a[0], b[0]), vaddq_s32(a[1], b[1]), vaddq_s32(a[2], b[2]), vaddq_s32(a[3], b[3])])
    }

    #[inline(always)]
    unsafe fn load_w8(self, p: *const u8) -> Bytes {
        let mut w = [token!(vdupq_n_s8(0)); 4];
        for (i, w) in w.iter_mut().enumerate() {
            // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
            let stored = unsafe { vld1q_u8(p.add(16 * i)) };
            // `USDOT` takes the stored bytes, `SDOT` the weights: adding 128 to a byte flips its highest bit.
            let flip = if LEVEL >= I8MM { 0 } else { 128 };
            *w = token!(vreinterpretq_s8_u8(veorq_u8(stored, vdupq_n_u8(flip))));
        }
        w
    }
    #[inline(always)]
    fn start8(self, minus_128_sum: i32) -> I {
        self.splat_i32(if LEVEL >= I8MM { minus_128_sum } else { 0 })
    }
    #[inline(always)]
    fn dot8(self, acc: I, w: Bytes, a: int8x16_t) -> I {
        if LEVEL >= I8MM {
            // SAFETY: the token of this level proves i8mm.
            return unsafe {
                [
                    dot_stored(acc[0], w[0], a),
                    dot_stored(acc[1], w[1], a),
                    dot_stored(acc[2], w[2], a),
                    dot_stored(acc[3], w[3], a),
                ]
            };
        }
        self.dot_q4_0(acc, w, a)
    }

    #[inline(always)]
    fn start_q4_0(self, minus_8_sum: i32) -> I {
        self.splat_i32(minus_8_sum)
    }
    #[inline(always)]
    fn dot_q4_0(self, acc: I, w: Bytes, a: int8x16_t) -> I {
        [
            dot_bytes(self, acc[0], w[0], a),
            dot_bytes(self, acc[1], w[1], a),
            dot_bytes(self, acc[2], w[2], a),
            dot_bytes(self, acc[3], w[3], a),
        ]
    }

    #[inline(always)]
    unsafe fn load_q4_0(self, p: *const u8) -> [Bytes; 2] {
        let zero = token!(vdupq_n_s8(0));
        let mut w = [[zero; 4]; 2];
        for i in 0..4 {
            // SAFETY: `self` proves the ISA; the caller vouches for 64 readable bytes.
            unsafe {
                let bytes = vld1q_u8(p.add(16 * i));
                w[0][i] = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
                w[1][i] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
            }
        }
        w
    }
    #[inline(always)]
    fn sum_q4_0(self, acc: I, _minus_8_sum: i32) -> I {
        acc
    }
    #[inline(always)]
    unsafe fn load_grids(self, p: *const u8) -> [[uint8x16_t; 2]; 4] {
        // Repeats each of four grids for the four weights of its output.
        const FOUR_EACH: [u8; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable bytes.
        unsafe {
            let (all, four_each) = (vld1q_u8(p), vld1q_u8(FOUR_EACH.as_ptr()));
            let mut parts = [[all; 2]; 4];
            for (part, of_part) in parts.iter_mut().enumerate() {
                let grids = vqtbl1q_u8(all, vaddq_u8(four_each, vdupq_n_u8(part as u8 * 4)));
                let m = vandq_u8(grids, vdupq_n_u8(15));
                *of_part = [m, vmlsq_u8(vdupq_n_u8(128), vshrq_n_u8::<4>(grids), m)];
            }
            parts
        }
    }
    #[inline(always)]
    unsafe fn unpack_step(self, grids: [[uint8x16_t; 2]; 4], nibbles: *const u8, to: *mut u8) {
        // SAFETY: `self` proves the ISA; the caller vouches for 64 bytes to read and twice 64 to write.
        unsafe {
            for (part, [m, begin]) in grids.into_iter().enumerate() {
                let bytes = vld1q_u8(nibbles.add(part * 16));
                let to = to.add(part * 16);
                vst1q_u8(to, vmlaq_u8(begin, vandq_u8(bytes, vdupq_n_u8(15)), m));
                vst1q_u8(to.add(512), vmlaq_u8(begin, vshrq_n_u8::<4>(bytes), m));
            }
        }
    }
    #[inline(always)]
    unsafe fn broadcast_a8(self, p: *const i8) -> int8x16_t {
        // SAFETY: `self` proves the ISA; the caller vouches for 4 readable bytes.
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(p.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn matrix8<const R: usize, const N: usize>(
        self,
        x: *const i8,
        ldx: usize,
        w: *const u8,
        quads: usize,
        start: &[i32],
    ) -> Option<[[I; N]; R]> {
        if LEVEL < I8MM || !(2..=neon_matrix::ROWS).contains(&R) {
            return None;
        }
        // SAFETY: the token of this level proves i8mm; the caller vouches for the memory.
        Some(unsafe { neon_matrix::sums8(x, ldx, w, quads, start) })
    }
    #[inline(always)]
    unsafe fn block_q4_0<const R: usize, const N: usize>(
        self,
        x: *const i8,
        ldx: usize,
        nibbles: *const u8,
        start: [i32; R],
    ) -> Option<[[I; N]; R]> {
        if LEVEL < I8MM || !(2..=neon_matrix::ROWS).contains(&R) || N != 2 {
            return None;
        }
        // SAFETY: as above.
        let sums: [[I; 2]; R] = unsafe { neon_matrix::sums4(x, ldx, nibbles, start) };
        let mut of_tile = [[self.splat_i32(0); N]; R];
        for (to, from) in of_tile.iter_mut().zip(sums) {
            to.copy_from_slice(&from);
        }
        Some(of_tile)
    }
    #[inline(always)]
    fn fastest8(self, acc: I, w: Bytes, a: int8x16_t) -> I {
        if LEVEL < I8MM {
            return self.dot8(acc, w, a);
        }
        let mut out = acc;
        for (out, w) in out.iter_mut().zip(w) {
            // SAFETY: the token of this level proves i8mm.
            *out = unsafe { neon_matrix::multiply(*out, vreinterpretq_u8_s8(w), a) };
        }
        out
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::V {
        let mut values = self.splat(0.0);
        for (i, value) in values.iter_mut().enumerate() {
            // Every CPU with NEON has `FCVTL`; its intrinsic is not stable in this crate's minimum Rust version, hence the assembly.
            // SAFETY: `self` proves the ISA; the caller vouches for 16 readable elements; the instruction reads and writes its two registers alone.
            unsafe {
                let halves = vld1_u16(p.add(4 * i));
                asm!(
                    "fcvtl {value:v}.4s, {halves:v}.4h",
                    value = lateout(vreg) *value,
                    halves = in(vreg) halves,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
        }
        values
    }
    #[inline(always)]
    unsafe fn load_wb(self, p: *const u16) -> [[float32x4_t; 4]; 2] {
        let mut w = [self.splat(0.0); 2];
        for i in 0..4 {
            // SAFETY: `self` proves the ISA; the caller vouches for 32 readable elements.
            unsafe {
                let pairs = vreinterpretq_u32_u16(vld1q_u16(p.add(8 * i)));
                w[0][i] = vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs));
                w[1][i] = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff_0000)));
            }
        }
        w
    }
    #[inline(always)]
    unsafe fn broadcast_ab(self, p: *const u16) -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for 2 readable elements.
        let pair = unsafe { p.cast::<u32>().read_unaligned() };
        token!([vdupq_n_f32(f32::from_bits(pair << 16)), vdupq_n_f32(f32::from_bits(pair & 0xffff_0000))])
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Self::V, w: [[float32x4_t; 4]; 2], a: [float32x4_t; 2]) -> Self::V {
        let mut out = acc;
        for i in 0..4 {
            out[i] = token!(vfmaq_f32(vfmaq_f32(acc[i], w[0][i], a[0]), w[1][i], a[1]));
        }
        out
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Self::V) {
        let [low, high] = round_i16(self, v);
        // SAFETY: `self` proves the ISA; the caller vouches for 16 writable bytes.
        unsafe { vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V) {
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: `self` proves the ISA; the caller vouches for 16 writable elements.
            unsafe {
                let bits = vreinterpretq_u32_f32(v);
                let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
                let rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
                // Rounding could turn a NaN into an infinity, so every NaN becomes a quiet NaN first.
                let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
                let rounded = vbslq_u32(vceqq_f32(v, v), rounded, quiet);
                vst1_u16(p.add(4 * i), vshrn_n_u32::<16>(rounded));
            }
        }
    }

    #[inline(always)]
    fn butterfly<const STEP: usize>(self, v: Self::V) -> Self::V {
        const SIGNS: [[f32; LANES]; 4] =
            [butterfly_signs(1), butterfly_signs(2), butterfly_signs(4), butterfly_signs(8)];
        let swapped = token!(match STEP {
            1 => [vrev64q_f32(v[0]), vrev64q_f32(v[1]), vrev64q_f32(v[2]), vrev64q_f32(v[3])],
            2 => [
                vextq_f32::<2>(v[0], v[0]),
                vextq_f32::<2>(v[1], v[1]),
                vextq_f32::<2>(v[2], v[2]),
                vextq_f32::<2>(v[3], v[3]),
            ],
            4 => [v[1], v[0], v[3], v[2]],
            _ => [v[2], v[3], v[0], v[1]],
        });
        // SAFETY: the signs are sixteen elements.
        let signs = unsafe { self.load(SIGNS[STEP.trailing_zeros() as usize].as_ptr()) };
        self.mul_add(v, signs, swapped)
    }
}
