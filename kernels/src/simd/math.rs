//! Functions of one variable over vectors. Coefficients were fitted for this project: weighted least squares on Chebyshev
//! nodes, reweighted until the error is equal everywhere, then rounded to f32. Tests compare `exp2_fast`, `log2` and
//! GELU (which uses `erf`) with f64 over dense sweeps, and `gelu_fast` with GELU.

use super::Simd;

/// `e^x` for `x <= 88`; 0 below -87.33 (where the result would be subnormal), also for minus infinity. NaN gives NaN.
///
/// `x = n ln 2 + r`, `|r| <= ln 2 / 2`, `e^r` by a polynomial of degree 6 (relative error 3.1e-9 before rounding), scaled by
/// `2^n`. Relative error at most 1.5e-7.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LOWEST: f32 = -87.33;
    // ln 2 in two parts, the first with 15 significant bits so that its product with n is exact.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN_2_HIGH), x);
    let r = s.mul_add(n, s.splat(-LN_2_LOW), r);
    let mut p = s.splat(1.381_459_6e-3);
    for c in [8.368_717_5e-3, 4.166_839e-2, 1.666_652_1e-1, 4.999_999_4e-1] {
        p = s.mul_add(p, r, s.splat(c));
    }
    let e_r = s.add(s.mul_add(s.mul(r, r), p, r), s.splat(1.0));
    // Lanes below LOWEST hold garbage from an out-of-range n; the selection replaces them.
    s.select_lt(x, s.splat(LOWEST), s.splat(0.0), s.mul(e_r, s.exp2_int(n)))
}

/// `2^x` for `x <= 0`, to the precision of 16 bits: relative error at most 5e-6; below -125 it stays at about `2^-125`. NaN gives NaN.
///
/// `x = n + r`, `|r| <= ½`, `2^r` by a polynomial of degree 4, scaled by `2^n`.
#[inline(always)]
pub(crate) fn exp2_fast<S: Simd>(s: S, x: S::V) -> S::V {
    // NaN must stay NaN: `max` returns its second operand for NaN.
    let x = s.max(s.splat(-125.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(EXP2_FAST[0]);
    for c in &EXP2_FAST[1..] {
        p = s.mul_add(p, r, s.splat(*c));
    }
    s.mul(p, s.exp2_int(n))
}

/// [`exp2_fast`] of each vector, with the same bits by fewer operations: the sum that rounds `x` to an integer also supplies the exponent bits.
/// A NaN must have its low nine bits clear.
///
/// Each step is done for all vectors before the next step, because the steps of one vector fill a CPU's out-of-order window with operations that
/// wait for each other.
#[inline(always)]
pub(crate) fn exp2_fast_each<S: Simd, const N: usize>(s: S, mut x: [S::V; N]) -> [S::V; N] {
    let magic = s.splat((3 << 22) as f32);
    let (mut rounded, mut p) = (x, [s.splat(EXP2_FAST[0]); N]);
    for x in &mut x {
        *x = s.max(s.splat(-125.0), *x);
    }
    for i in 0..N {
        rounded[i] = s.add(x[i], magic);
    }
    for i in 0..N {
        x[i] = s.sub(x[i], s.sub(rounded[i], magic));
    }
    for c in &EXP2_FAST[1..] {
        for i in 0..N {
            p[i] = s.mul_add(p[i], x[i], s.splat(*c));
        }
    }
    for i in 0..N {
        p[i] = s.scale_exp2(p[i], rounded[i]);
    }
    p
}

/// `log₂ x` of a normal number; its absolute error is at most 1e-7 plus the rounding of the result. `x = 2^e m` with `m` in `1/√2 .. √2`, and
/// `log₂ m = 2 / ln 2 · artanh((m - 1) / (m + 1))` by four terms of its series. It uses plain operations only, so it has the same bits everywhere.
#[inline(always)]
pub(crate) fn log2(x: f32) -> f32 {
    let bits = x.to_bits();
    // How many whole powers of two `x` is above 1/√2.
    let exponent = bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32 >> 23;
    let m = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let t = (m - 1.0) / (m + 1.0);
    let t2 = t * t;
    let series = 2.885_39 + t2 * (0.961_796_7 + t2 * (0.577_078_04 + t2 * 0.412_198_6));
    exponent as f32 + t * series
}

/// Coefficients of `2^r`, highest first.
const EXP2_FAST: [f32; 5] = [9.570_1e-3, 5.591_786e-2, 2.402_474_4e-1, 6.931_218e-1, 9.999_993e-1];

/// The error function. Relative error at most 2.5e-7.
///
/// `|x| < 0.9277`: `x + x P(x²)`; beyond: `1 - e^Q(|x|)` with `Q ≈ ln erfc`, constant from 4 on, where `erf` is 1 in f32.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let magnitude = s.abs(x);

    let x2 = s.mul(x, x);
    let mut p = s.splat(8.329_542e-5);
    for c in [-8.133_056e-4, 5.200_176_5e-3, -2.685_905e-2, 1.128_368_9e-1, -3.761_263_2e-1, 1.283_791_7e-1] {
        p = s.mul_add(p, x2, s.splat(c));
    }
    let near = s.mul_add(p, x, x);

    // NaN must stay NaN: `min` returns its second operand for NaN.
    let z = s.min(s.splat(4.0), magnitude);
    let mut q = s.splat(-2.116_956_2e-5);
    for c in
        [4.353_245e-4, -4.175_241_6e-3, 2.513_043_8e-2, -1.082_971_3e-1, -6.333_314e-1, -1.129_522_6, 1.762_819_4e-4]
    {
        q = s.mul_add(q, z, s.splat(c));
    }
    let far = s.with_sign_of(s.sub(s.splat(1.0), exp(s, q)), x);

    s.select_lt(magnitude, s.splat(0.9277), near, far)
}

/// Coefficients of `P`, highest first: least squares on Chebyshev nodes, reweighted until the error of `x · Φ(x)` is equal everywhere, with
/// `P(4.25²) · 4.25 = ½`.
const GELU_FAST: [f32; 9] = [
    6.703_146e-11,
    -6.286_479e-9,
    2.593_169_5e-7,
    -6.270_781e-6,
    1.006_155_4e-4,
    -1.155_967_1e-3,
    9.991_542e-3,
    -6.666_619e-2,
    3.991_108e-1,
];

/// GELU by one polynomial, error at most `8e-5 + 1e-5·max(x, 0)`: `x · Φ(x)` with `Φ(x) ≈ ½ + x P(x²)` on `|x| <= 4.25`, 0 or `x` beyond.
#[inline(always)]
pub(crate) fn gelu_fast<S: Simd>(s: S, x: S::V) -> S::V {
    const LIMIT: f32 = 4.25;
    let z = s.max(s.splat(-LIMIT), s.min(s.splat(LIMIT), x));
    let z2 = s.mul(z, z);
    let mut p = s.splat(GELU_FAST[0]);
    for c in &GELU_FAST[1..] {
        p = s.mul_add(p, z2, s.splat(*c));
    }
    // Far below, Φ is a rounding error away from 0, which must not be multiplied by a large x.
    s.mul(s.max(s.splat(-LIMIT), x), s.mul_add(p, z, s.splat(0.5)))
}
