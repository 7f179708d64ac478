//! The dot product of two vectors of f32.

use crate::layout::LANES;
use crate::simd::Simd;

/// `Σ a[i]·b[i]`. Lane `i mod 16` sums its products in ascending order; then the upper half of the lanes is added to the lower half, until one
/// lane is left. Panics if the slices have different lengths.
#[inline(always)]
pub(crate) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot product of unequal lengths");
    let mut acc = s.splat(0.0);
    let mut i = 0;
    while i + LANES <= a.len() {
        // SAFETY: `i + 16 <= len` of both slices.
        acc = unsafe { s.mul_add(s.load(a.as_ptr().add(i)), s.load(b.as_ptr().add(i)), acc) };
        i += LANES;
    }
    if i < a.len() {
        // SAFETY: `len - i < 16` elements are left in both slices.
        acc = unsafe {
            let left = a.len() - i;
            s.mul_add(s.load_first(a.as_ptr().add(i), left), s.load_first(b.as_ptr().add(i), left), acc)
        };
    }
    s.reduce(acc)
}
