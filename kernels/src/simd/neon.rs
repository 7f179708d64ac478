//! The operations of [`Simd`] over four NEON registers: lanes 0..4, 4..8, 8..12 and 12..16.
//!
//! Safety in this file: every method takes `self`, a `Neon`, which exists only where the CPU has the feature (`isa.rs`), and the free
//! functions take one as an argument. "`self` proves the ISA" below cites that.

use super::Simd;
use crate::isa::Neon;
use crate::layout::DotTile;
use std::arch::aarch64::*;

/// Number of lanes of a register.
const WIDTH: usize = 4;

type V = [float32x4_t; 4];

/// Wraps intrinsics that touch no memory: the token alone makes them safe to call.
macro_rules! token {
    ($e:expr) => {
        // SAFETY: `self` proves the ISA; the intrinsic works on registers alone.
        unsafe { $e }
    };
}

/// Applies an intrinsic to all four registers. It is a macro because a closure would be compiled without the CPU features.
macro_rules! each {
    ($f:expr, $a:expr) => {
        token!([$f($a[0]), $f($a[1]), $f($a[2]), $f($a[3])])
    };
    ($f:expr, $a:expr, $b:expr) => {
        token!([$f($a[0], $b[0]), $f($a[1], $b[1]), $f($a[2], $b[2]), $f($a[3], $b[3])])
    };
    ($f:expr, $a:expr, $b:expr, $c:expr) => {
        token!([$f($a[0], $b[0], $c[0]), $f($a[1], $b[1], $c[1]), $f($a[2], $b[2], $c[2]), $f($a[3], $b[3], $c[3])])
    };
}

/// Lanes `p[0..n]`, then zeros; all four lanes if `n` is larger. NEON has no masked load, so fewer lanes are read one or two at a time.
///
/// # Safety
/// The first `n` elements at `p` (four if `n` is larger) are readable.
#[inline(always)]
unsafe fn load_part<const LEVEL: u8>(_token: Neon<LEVEL>, p: *const f32, n: usize) -> float32x4_t {
    // SAFETY: `self` proves the ISA; each arm reads no lane beyond the first `n`, for which the caller vouches.
    unsafe {
        match n {
            0 => vdupq_n_f32(0.0),
            1 => vld1q_lane_f32::<0>(p, vdupq_n_f32(0.0)),
            2 => vcombine_f32(vld1_f32(p), vdup_n_f32(0.0)),
            3 => vld1q_lane_f32::<2>(p.add(2), vcombine_f32(vld1_f32(p), vdup_n_f32(0.0))),
            _ => vld1q_f32(p),
        }
    }
}

/// Writes the first `n` lanes, or all four if `n` is larger.
///
/// # Safety
/// The first `n` elements at `p` (four if `n` is larger) are writable.
#[inline(always)]
unsafe fn store_part<const LEVEL: u8>(_token: Neon<LEVEL>, p: *mut f32, n: usize, v: float32x4_t) {
    // SAFETY: `self` proves the ISA; each arm writes no lane beyond the first `n`, for which the caller vouches.
    unsafe {
        match n {
            0 => {}
            1 => vst1q_lane_f32::<0>(p, v),
            2 => vst1_f32(p, vget_low_f32(v)),
            3 => {
                vst1_f32(p, vget_low_f32(v));
                vst1q_lane_f32::<2>(p.add(2), v);
            }
            _ => vst1q_f32(p, v),
        }
    }
}

// `max` and `min` of `Simd` are defined by a comparison and a selection. `FMAX`, `FMIN` and their `NM` variants treat NaN and zeros of different
// signs in other ways.
/// In each lane `a` if it is greater than `b`, else `b`.
#[inline(always)]
fn greater<const LEVEL: u8>(_token: Neon<LEVEL>, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    token!(vbslq_f32(vcgtq_f32(a, b), a, b))
}
/// In each lane `a` if it is less than `b`, else `b`.
#[inline(always)]
fn less<const LEVEL: u8>(_token: Neon<LEVEL>, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    token!(vbslq_f32(vcltq_f32(a, b), a, b))
}

/// Lanes 0 and 1 of `a`, then those of `b`.
#[inline(always)]
fn low_pairs<const LEVEL: u8>(_token: Neon<LEVEL>, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    token!(vcombine_f32(vget_low_f32(a), vget_low_f32(b)))
}

/// Lanes 2 and 3 of `a`, then those of `b`.
#[inline(always)]
fn high_pairs<const LEVEL: u8>(_token: Neon<LEVEL>, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    token!(vcombine_f32(vget_high_f32(a), vget_high_f32(b)))
}

impl<const LEVEL: u8> Simd for Neon<LEVEL> {
    type V = V;
    type P = float32x4_t;
    const PART_LANES: usize = WIDTH;

    // 6 x 4 registers accumulate one quarter of the lanes, 4 hold weights, 1 a row: 29 of 32, and 10 loads for 24 multiply-adds.
    const DOT_TILE: DotTile = DotTile { rows: 6, outputs: 4 };
    // 6 rows x 1 vector of four registers = 24 accumulators, 4 for the shared operand, 1 for the broadcast: 29 of 32.
    const PANEL_VECTORS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        token!([vdupq_n_f32(x); 4])
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 readable elements.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(WIDTH)), vld1q_f32(p.add(2 * WIDTH)), vld1q_f32(p.add(3 * WIDTH))] }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> V {
        // SAFETY: `self` proves the ISA; the caller vouches for the first `n` elements. A register's pointer may lie beyond the allocation when none
        // of its lanes is below `n`, so it is computed with `wrapping_add`.
        unsafe {
            [
                load_part(self, p, n),
                load_part(self, p.wrapping_add(WIDTH), n.saturating_sub(WIDTH)),
                load_part(self, p.wrapping_add(2 * WIDTH), n.saturating_sub(2 * WIDTH)),
                load_part(self, p.wrapping_add(3 * WIDTH), n.saturating_sub(3 * WIDTH)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: `self` proves the ISA; the caller vouches for 16 writable elements.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(WIDTH), v[1]);
            vst1q_f32(p.add(2 * WIDTH), v[2]);
            vst1q_f32(p.add(3 * WIDTH), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: V) {
        // SAFETY: `self` proves the ISA; the caller vouches for the first `n` elements; `wrapping_add` as in `load_first`.
        unsafe {
            store_part(self, p, n, v[0]);
            store_part(self, p.wrapping_add(WIDTH), n.saturating_sub(WIDTH), v[1]);
            store_part(self, p.wrapping_add(2 * WIDTH), n.saturating_sub(2 * WIDTH), v[2]);
            store_part(self, p.wrapping_add(3 * WIDTH), n.saturating_sub(3 * WIDTH), v[3]);
        }
    }

    #[inline(always)]
    fn zero_part(self) -> float32x4_t {
        token!(vdupq_n_f32(0.0))
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> float32x4_t {
        // SAFETY: `self` proves the ISA; the caller vouches for a register's lanes, or for the first `n`.
        unsafe { load_part(self, p, n) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, v: float32x4_t) {
        // SAFETY: `self` proves the ISA; the caller vouches for a register's lanes.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    fn mul_add_part(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        token!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        each!(vaddq_f32, a, b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        each!(vsubq_f32, a, b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        each!(vmulq_f32, a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        // The intrinsic takes the addend first.
        each!(vfmaq_f32, c, a, b)
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        [greater(self, a[0], b[0]), greater(self, a[1], b[1]), greater(self, a[2], b[2]), greater(self, a[3], b[3])]
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        [less(self, a[0], b[0]), less(self, a[1], b[1]), less(self, a[2], b[2]), less(self, a[3], b[3])]
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        each!(vabsq_f32, a)
    }
    #[inline(always)]
    fn with_sign_of(self, a: V, sign: V) -> V {
        let bit = token!([vdupq_n_u32(1 << 31); 4]);
        each!(vbslq_f32, bit, sign, a)
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, then: V, otherwise: V) -> V {
        let less = each!(vcltq_f32, a, b);
        each!(vbslq_f32, less, then, otherwise)
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        each!(vrndnq_f32, a)
    }
    #[inline(always)]
    fn exp2_int(self, n: V) -> V {
        let bias = token!([vdupq_n_s32(127); 4]);
        // Integers convert exactly, so that this conversion truncates makes no difference.
        let n_i32 = each!(vcvtq_s32_f32, n);
        let biased_i32 = each!(vaddq_s32, n_i32, bias);
        let shifted = each!(vshlq_n_s32::<23>, biased_i32);
        each!(vreinterpretq_f32_s32, shifted)
    }
    #[inline(always)]
    fn scale_exp2(self, v: V, magic: V) -> V {
        let (v_i32, magic_i32) = (each!(vreinterpretq_s32_f32, v), each!(vreinterpretq_s32_f32, magic));
        let exponents = each!(vshlq_n_s32::<23>, magic_i32);
        let scaled = each!(vaddq_s32, v_i32, exponents);
        each!(vreinterpretq_f32_s32, scaled)
    }
    #[inline(always)]
    fn reduce4(self, v: [V; 4]) -> [f32; 4] {
        token!({
            let mut quarters = [vdupq_n_f32(0.0); 4];
            for (quarter, v) in quarters.iter_mut().zip(v) {
                *quarter = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            }
            let [a, b, c, d] = quarters;
            // [a0+a2, a1+a3, b0+b2, b1+b3], and the same for c and d; then neighbours are added.
            let ab = vaddq_f32(low_pairs(self, a, b), high_pairs(self, a, b));
            let cd = vaddq_f32(low_pairs(self, c, d), high_pairs(self, c, d));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), vpaddq_f32(ab, cd));
            out
        })
    }
    #[inline(always)]
    fn max_magnitude(self, a: V, b: V) -> V {
        let (a, b) = (each!(vreinterpretq_u32_f32, a), each!(vreinterpretq_u32_f32, b));
        let larger = each!(vmaxq_u32, a, b);
        each!(vreinterpretq_f32_u32, larger)
    }
    #[inline(always)]
    fn reduce_max(self, v: V) -> f32 {
        let quarters = greater(self, greater(self, v[0], v[2]), greater(self, v[1], v[3]));
        let pairs = greater(self, quarters, high_pairs(self, quarters, quarters));
        let (even, odd) = token!((vgetq_lane_f32::<0>(pairs), vgetq_lane_f32::<1>(pairs)));
        if even > odd { even } else { odd }
    }
}
