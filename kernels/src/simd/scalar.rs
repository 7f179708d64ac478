//! The operations of [`Simd`] over an array. They define what each operation means, and are the code for CPUs without AVX2 or NEON.

use super::Simd;
use crate::isa::Scalar;
use crate::layout::{DotTile, LANES};

type V = [f32; LANES];

/// Combines two vectors lane by lane.
#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Combines the upper half of the lanes with the lower half until one lane is left.
#[inline(always)]
fn halve(mut v: V, f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = f(v[i], v[i + half]);
        }
    }
    v[0]
}

impl Simd for Scalar {
    type V = V;
    type P = V;
    const PART_LANES: usize = LANES;

    // Small shapes, for the reason that `scalar_int.rs` gives.
    const DOT_TILE: DotTile = DotTile { rows: 2, outputs: 4 };
    const PANEL_VECTORS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller vouches for 16 readable elements; an array of f32 needs no more alignment than f32.
        unsafe { p.cast::<V>().read() }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> V {
        // SAFETY: only lanes below `n` are read, for which the caller vouches.
        std::array::from_fn(|i| if i < n { unsafe { p.add(i).read() } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller vouches for 16 writable elements; an array of f32 needs no more alignment than f32.
        unsafe { p.cast::<V>().write(v) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: V) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: only lanes below `n` are written, for which the caller vouches.
            unsafe { p.add(i).write(x) }
        }
    }

    #[inline(always)]
    fn zero_part(self) -> V {
        [0.0; LANES]
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> V {
        // SAFETY: guaranteed by the caller.
        unsafe { if n >= LANES { self.load(p) } else { self.load_first(p, n) } }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, v: V) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.store(p, v) }
    }
    #[inline(always)]
    fn mul_add_part(self, a: V, b: V, c: V) -> V {
        self.mul_add(a, b, c)
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn with_sign_of(self, a: V, sign: V) -> V {
        zip(a, sign, f32::copysign)
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, then: V, otherwise: V) -> V {
        std::array::from_fn(|i| if a[i] < b[i] { then[i] } else { otherwise[i] })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn exp2_int(self, n: V) -> V {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn scale_exp2(self, v: V, magic: V) -> V {
        std::array::from_fn(|lane| f32::from_bits(v[lane].to_bits().wrapping_add(magic[lane].to_bits() << 23)))
    }
    #[inline(always)]
    fn reduce4(self, v: [V; 4]) -> [f32; 4] {
        v.map(|v| halve(v, |a, b| a + b))
    }
    #[inline(always)]
    fn max_magnitude(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a.to_bits() > b.to_bits() { a } else { b })
    }
    #[inline(always)]
    fn reduce_max(self, v: V) -> f32 {
        halve(v, |a, b| if a > b { a } else { b })
    }
}
