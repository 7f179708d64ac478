//! Compares every operation of every ISA with its definition in `scalar.rs`, on values that kernels meet rarely: NaN, infinities,
//! zeros of both signs, halves, the ends of the range. Prints the ISAs that this CPU lacks; `tests/all_isas.rs` can require one.

use super::Simd;
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
use crate::isa::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512};
use crate::layout::LANES;

const SPECIAL: [f32; 20] = [
    0.0,
    -0.0,
    f32::NAN,
    -f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.49999997,
    8_388_609.0,
    3e9,
    f32::MAX,
    f32::MIN_POSITIVE,
    1e-45,
    std::f32::consts::PI,
];

/// The lanes of a vector as an array.
pub(super) fn lanes<S: Simd>(s: S, v: S::V) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    // SAFETY: sixteen elements.
    unsafe { s.store(out.as_mut_ptr(), v) };
    out
}

/// The vector with these lanes.
pub(super) fn vector<S: Simd>(s: S, lanes: [f32; LANES]) -> S::V {
    // SAFETY: sixteen elements.
    unsafe { s.load(lanes.as_ptr()) }
}

/// Compares bits. Without `nan_bits`, any NaN counts as equal to any other: the CPU chooses the payload of a NaN that it computes, and no kernel
/// looks at it.
pub(super) fn assert_same(what: &str, found: &[f32], expected: &[f32], nan_bits: bool) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (lane, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits() || (!nan_bits && found.is_nan() && expected.is_nan());
        assert!(
            same,
            "{what}, lane {lane}: {found} ({:08x}), not {expected} ({:08x})",
            found.to_bits(),
            expected.to_bits()
        );
    }
}

#[test]
fn log2_is_close_to_its_definition() {
    // Numbers of every size, and more closely those from 2^-40 to 1, of which integer attention usually takes the logarithm.
    let sizes = (8..2040).map(|eighths| f32::from_bits(eighths << 20));
    let parts = (0..400_000).map(|step| f32::from_bits(0x2b80_0000 + step * 839));
    for x in sizes.chain(parts) {
        let (found, exact) = (super::math::log2(x), f64::from(x).log2());
        let error = (f64::from(found) - exact).abs();
        assert!(error <= 1.3e-7 + exact.abs() * 6e-8, "log2 {x:e} = {found}, {error:e} from {exact}");
    }
    assert_eq!(super::math::log2(1.0), 0.0);
}

/// Sixteen values whose sum depends on the order of addition.
fn uneven(seed: u32) -> [f32; LANES] {
    std::array::from_fn(|i| {
        let bits = (seed * 16 + i as u32 + 1).wrapping_mul(0x9E37_79B1);
        (bits >> 8) as f32 / 65_536.0 * if bits & 1 == 0 { 1.0 } else { -1e-3 }
    })
}

/// Fails if an operation of the ISA gives other bits than the scalar one.
fn has_the_meaning_of_scalar<S: Simd>(s: S) {
    // Every pair of special values: each turn pairs the first operand with values further on in the list.
    for turn in 0..SPECIAL.len() {
        for from in [0, SPECIAL.len() - LANES] {
            let a: [f32; LANES] = std::array::from_fn(|i| SPECIAL[from + i]);
            let b: [f32; LANES] = std::array::from_fn(|i| SPECIAL[(from + i + turn) % SPECIAL.len()]);
            let c: [f32; LANES] = std::array::from_fn(|i| SPECIAL[(i + 7 * turn) % SPECIAL.len()]);
            let (va, vb, vc) = (vector(s, a), vector(s, b), vector(s, c));
            let check = |what, v, expected: [f32; LANES], nan_bits| {
                assert_same(&format!("{what} of {a:?}, {b:?}, {c:?}"), &lanes(s, v), &expected, nan_bits)
            };
            check("add", s.add(va, vb), Scalar.add(a, b), false);
            check("sub", s.sub(va, vb), Scalar.sub(a, b), false);
            check("mul", s.mul(va, vb), Scalar.mul(a, b), false);
            check("mul_add", s.mul_add(va, vb, vc), Scalar.mul_add(a, b, c), false);
            check("round", s.round(va), Scalar.round(a), false);
            check("max", s.max(va, vb), Scalar.max(a, b), true);
            check("min", s.min(va, vb), Scalar.min(a, b), true);
            check("abs", s.abs(va), Scalar.abs(a), true);
            check("with_sign_of", s.with_sign_of(s.abs(va), vb), Scalar.with_sign_of(Scalar.abs(a), b), true);
            check("select_lt", s.select_lt(va, vb, vc, va), Scalar.select_lt(a, b, c, a), true);
            // Magnitudes have no sign bits. NaN is the largest, and keeps its bits.
            let (ma, mb) = (Scalar.abs(a), Scalar.abs(b));
            check("max_magnitude", s.max_magnitude(s.abs(va), s.abs(vb)), Scalar.max_magnitude(ma, mb), true);
            let largest = s.reduce_magnitude4([s.abs(va), s.abs(vb), s.abs(vc), s.splat(0.0)]);
            let expected = Scalar.reduce_magnitude4([ma, mb, Scalar.abs(c), [0.0; LANES]]);
            assert_same(&format!("reduce_magnitude4 of {a:?}, {b:?}, {c:?}"), &largest, &expected, true);
            assert_same(&format!("reduce_max of {a:?}"), &[s.reduce_max(va)], &[Scalar.reduce_max(a)], true);
            let sums = s.reduce4([va, vb, vc, va]);
            assert_same(&format!("reduce4 of {a:?}, {b:?}, {c:?}"), &sums, &Scalar.reduce4([a, b, c, a]), false);
        }
    }
    for seed in 0..200 {
        let (a, b, c, d) = (uneven(seed), uneven(seed + 1000), uneven(seed + 2000), uneven(seed + 3000));
        let vectors = [vector(s, a), vector(s, b), vector(s, c), vector(s, d)];
        assert_same("reduce4", &s.reduce4(vectors), &Scalar.reduce4([a, b, c, d]), true);
        assert_same("reduce", &[s.reduce(vectors[0])], &[Scalar.reduce(a)], true);
        assert_same("reduce_max", &[s.reduce_max(vectors[0])], &[Scalar.reduce_max(a)], true);
        // Rounded once: a rounded product and then a sum would give other bits in most of these lanes.
        let fused = s.mul_add(vectors[0], vectors[1], vectors[2]);
        assert_same("mul_add", &lanes(s, fused), &Scalar.mul_add(a, b, c), true);
    }
    for n in -126..=127 {
        let two_to_n = s.exp2_int(s.splat(n as f32));
        assert_same("exp2_int", &lanes(s, two_to_n), &[2f32.powi(n); LANES], true);
    }
    for step in 0..40_000 {
        let x = -(step as f32) * 0.0033;
        let found = lanes(s, super::math::exp2_fast(s, s.splat(x)));
        assert_same("exp2_fast", &found, &super::math::exp2_fast(Scalar, [x; LANES]), true);
        let [_, each] = super::math::exp2_fast_each(s, [s.splat(-1.5), s.splat(x)]);
        assert_same("exp2_fast_each", &lanes(s, each), &found, true);
        let exact = f64::from(x.max(-125.0)).exp2();
        let relative = (f64::from(found[0]) - exact).abs() / exact;
        assert!(relative <= 5e-6, "2^{x} = {}, {relative:e} from {exact}", found[0]);
    }
    assert!(lanes(s, super::math::exp2_fast(s, s.splat(f32::NAN)))[0].is_nan());
    assert!(lanes(s, super::math::exp2_fast(s, s.splat(f32::NEG_INFINITY)))[0] <= 2f32.powi(-125));
    let whole: [f32; LANES] = std::array::from_fn(|i| i as f32 + 1.0);
    for n in 0..=LANES {
        // The array goes on after the `n` elements: hardware does not touch masked lanes, but qemu 7.2 does (`vmaskmovps`), and
        // would fault on memory that is not there.
        let source = whole.map(|x| if x <= n as f32 { x } else { f32::NAN });
        let expected: [f32; LANES] = std::array::from_fn(|i| if i < n { whole[i] } else { 0.0 });
        // SAFETY: `n` elements.
        let loaded = unsafe { s.load_first(source.as_ptr(), n) };
        assert_same("load_first", &lanes(s, loaded), &expected, true);
        let mut stored = [-7.0; LANES];
        // SAFETY: sixteen elements, `n` of which are written.
        unsafe { s.store_first(stored.as_mut_ptr(), n, vector(s, whole)) };
        let expected: [f32; LANES] = std::array::from_fn(|i| if i < n { whole[i] } else { -7.0 });
        assert_same("store_first", &stored, &expected, true);
    }
}

#[test]
fn scalar_has_the_documented_meaning() {
    let at = |v: [f32; LANES]| v[0];
    let of = |x: f32| [x; LANES];
    // `max` and `min` give the second operand if either is NaN, and if both are equal.
    assert_eq!(at(Scalar.max(of(f32::NAN), of(1.0))), 1.0);
    assert!(at(Scalar.max(of(1.0), of(f32::NAN))).is_nan());
    assert!(at(Scalar.min(of(0.0), of(-0.0))).is_sign_negative());
    assert_eq!((at(Scalar.round(of(2.5))), at(Scalar.round(of(-1.5)))), (2.0, -2.0));
    has_the_meaning_of_scalar(Scalar);
}

/// Runs the check on an ISA, if this CPU has it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! check_set {
    ($table:ident, $isa:ident, $token:ty, $features:tt $(, $and:path)?) => {
        match <$token>::detect() {
            Some(token) => has_the_meaning_of_scalar(token),
            None => println!("SKIPPED: this CPU has no {}", crate::Isa::$isa.name()),
        }
    };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn every_isa_has_the_meaning_of_scalar() {
    crate::isa::for_each_simd!(check_set);
}
