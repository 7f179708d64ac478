//! Compares every operation on small numbers of every ISA with its definition in `scalar_int.rs`, or with plain sums: on all grids, all f16,
//! the ends of the ranges, and tiles of one to six rows.

use super::int::SimdInt;
use super::tests::{assert_same, lanes, vector};
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
use crate::isa::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512};
use crate::layout::{I4_GROUP, I4_GROUP_BYTES, LANES, PANEL};

/// Pseudo-random bytes, among which 0 and 255 are more frequent than the others.
fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let byte = |i: u32| {
        let bits =
            (seed.wrapping_mul(7919) + i + 1).wrapping_mul(0x9E37_79B1).rotate_left(13).wrapping_mul(0x85EB_CA6B);
        match bits >> 29 {
            0 => 0,
            1 => 255,
            _ => (bits >> 8) as u8,
        }
    };
    (0..len as u32).map(byte).collect()
}

/// Pseudo-random activations, -127 ..= 127.
fn activations(seed: u32, len: usize) -> Vec<i8> {
    bytes(seed, len).into_iter().map(|byte| (byte as i8).max(-127)).collect()
}

/// Sixteen sums as f32, which is exact for the small inputs of these tests.
fn sums<S: SimdInt>(s: S, x: S::I) -> [f32; LANES] {
    lanes(s, s.to_f32(x))
}

/// Compares dot products of random weights with those of the scalar ISA.
fn dot_products<S: SimdInt>(s: S) {
    for seed in 0..200 {
        let (w, a) = (bytes(seed, 64), activations(seed + 500, 4));
        let total: i32 = a.iter().map(|&a| i32::from(a)).sum();
        // SAFETY: 64 bytes of weights, four of activations.
        unsafe {
            let expected =
                Scalar.dot8(Scalar.splat_i32(0), Scalar.load_w8(w.as_ptr()), Scalar.broadcast_a8(a.as_ptr()));
            let found = s.dot8(s.start8(-128 * total), s.load_w8(w.as_ptr()), s.broadcast_a8(a.as_ptr()));
            assert_same("dot8", &sums(s, found), &sums(Scalar, expected), true);
            let (expected, found) = (Scalar.load_q4_0(w.as_ptr()), s.load_q4_0(w.as_ptr()));
            for (expected, found) in expected.into_iter().zip(found) {
                let expected = Scalar.dot_q4_0(Scalar.start_q4_0(-9), expected, Scalar.broadcast_a8(a.as_ptr()));
                let expected = Scalar.sum_q4_0(expected, -9);
                let found = s.sum_q4_0(s.dot_q4_0(s.start_q4_0(-9), found, s.broadcast_a8(a.as_ptr())), -9);
                assert_same("dot_q4_0", &sums(s, found), &sums(Scalar, expected), true);
            }
        }
    }
}

/// Compares the sums of whole tiles by products of matrices, if the ISA has them for `R` rows, with sums that are computed one by one.
fn tiles<S: SimdInt, const R: usize, const N: usize>(s: S) {
    for quads in [0, 1, 2, 3, 4, 7, 16] {
        // Rows lie further apart than needed, and the memory ends with the last one.
        let (depth, ldx) = (4 * quads, 4 * quads + 3);
        let x = activations(quads as u32, (R - 1) * ldx + depth);
        let w = bytes(quads as u32 + 900, 64 * N * quads);
        let start: [i32; R] = std::array::from_fn(|r| r as i32 * 1000 - 500);
        // SAFETY: as many activations and weights.
        let Some(found) = (unsafe { s.matrix8::<R, N>(x.as_ptr(), ldx, w.as_ptr(), quads, &start) }) else { return };
        for (r, found) in found.into_iter().enumerate() {
            for (n, found) in found.into_iter().enumerate() {
                let product =
                    |o: usize, d: usize| i32::from(w[(d / 4 * N + n) * 64 + 4 * o + d % 4]) * i32::from(x[r * ldx + d]);
                let expected: [f32; LANES] =
                    std::array::from_fn(|o| (start[r] + (0..depth).map(|d| product(o, d)).sum::<i32>()) as f32);
                assert_same(&format!("matrix8 {R} {quads} {n}"), &sums(s, found), &expected, true);
            }
        }
    }
    let ldx = 35;
    let (x, nibbles) = (activations(77, (R - 1) * ldx + 32), bytes(78, 512));
    let start: [i32; R] = std::array::from_fn(|r| 7 - 1000 * r as i32);
    // SAFETY: 32 activations a row, 512 bytes.
    let Some(found) = (unsafe { s.block_q4_0::<R, 2>(x.as_ptr(), ldx, nibbles.as_ptr(), start) }) else { return };
    for (r, found) in found.into_iter().enumerate() {
        for (n, found) in found.into_iter().enumerate() {
            let product = |o: usize, d: usize| {
                let byte = nibbles[(d % 16 / 4 * 2 + n) * 64 + 4 * o + d % 4];
                i32::from(if d < 16 { byte & 15 } else { byte >> 4 }) * i32::from(x[r * ldx + d])
            };
            let expected: [f32; LANES] =
                std::array::from_fn(|o| (start[r] + (0..32).map(|d| product(o, d)).sum::<i32>()) as f32);
            assert_same(&format!("matrix_q4_0 {R} {n}"), &sums(s, found), &expected, true);
        }
    }
}

/// Unpacks every byte of a grid with every nibble, from and to unaligned memory.
fn unpacking<S: SimdInt>(s: S) {
    for first in (0..=255u8).step_by(2 * PANEL) {
        let mut group = bytes(u32::from(first) + 40, I4_GROUP_BYTES + 1);
        let group = &mut group[1..];
        (0..2 * PANEL).for_each(|i| group[i] = first + i as u8);
        // Sixteen consecutive depths of an output have all sixteen nibbles; in each block and output they begin with another one.
        let u = |o: usize, d: usize| ((d + o + d / 32 * 5) % 16) as u8;
        for o in 0..PANEL {
            for d in (0..I4_GROUP).filter(|d| d % 32 < 16) {
                let at = 2 * PANEL + d / 32 * 512 + (d % 16 / 4 * PANEL + o) * 4 + d % 4;
                group[at] = u(o, d) | u(o, d + 16) << 4;
            }
        }
        let mut to = vec![0xeeu8; PANEL * I4_GROUP + 2];
        // SAFETY: a group, and room for its weights.
        unsafe { s.unpack4(group.as_ptr(), to.as_mut_ptr().add(1)) };
        assert!(to[0] == 0xee && to[PANEL * I4_GROUP + 1] == 0xee, "written beside the weights");
        in_registers(s, group, &to[1..]);
        for o in 0..PANEL {
            for d in 0..I4_GROUP {
                let grid = i32::from(first) + (d / 32 * PANEL + o) as i32;
                let expected = (i32::from(u(o, d)) - grid / 16) * (grid % 16) + 128;
                let found = to[1 + (d / 4 * PANEL + o) * 4 + d % 4];
                assert_eq!(i32::from(found), expected.rem_euclid(256), "grid {grid:x}, output {o}, depth {d}");
            }
        }
    }
}

/// Asserts that steps unpacked to registers are the weights that were unpacked to memory.
fn in_registers<S: SimdInt>(s: S, group: &[u8], unpacked: &[u8]) {
    for (block, vector) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for step in 0..4 {
            // SAFETY: sixteen grids and four depths of as many outputs.
            let halves = unsafe {
                let grids = s.load_grids(group[block * PANEL + vector * LANES..].as_ptr());
                s.unpacked_step(grids, group[2 * PANEL + block * 512 + step * 128 + vector * 64..].as_ptr())
            };
            for (half, w) in halves.into_iter().enumerate() {
                for depth in 0..4 {
                    // An activation of 1 at one depth alone picks the weights of this depth.
                    let mut one = [0i8; 4];
                    one[depth] = 1;
                    // SAFETY: four activations.
                    let a = unsafe { s.broadcast_a8(one.as_ptr()) };
                    let found = sums(s, s.dot8(s.start8(-128), w, a));
                    let quad = block * 8 + half * 4 + step;
                    let stored = |o: usize| unpacked[(quad * PANEL + vector * LANES + o) * 4 + depth];
                    let expected: [f32; LANES] = std::array::from_fn(|o| f32::from(stored(o)) - 128.0);
                    assert_eq!(found, expected, "quad {quad}, vector {vector}, depth {depth}");
                }
            }
        }
    }
}

/// Compares the widening of f16 with the crate `half`, and rounding to bf16 with the scalar ISA.
fn halves<S: SimdInt>(s: S) {
    // All 65,536 f16, from unaligned memory.
    let mut stored = [0u8; 2 * LANES + 1];
    for first in (0..=u16::MAX).step_by(LANES) {
        let bits: [u16; LANES] = std::array::from_fn(|i| first + i as u16);
        for (to, bits) in stored[1..].as_chunks_mut::<2>().0.iter_mut().zip(bits) {
            *to = bits.to_ne_bytes();
        }
        // SAFETY: sixteen elements, for which the operation asks no alignment.
        let found = unsafe { s.load_f16(stored.as_ptr().add(1).cast()) };
        let expected = bits.map(|bits| half::f16::from_bits(bits).to_f32());
        assert_same("load_f16", &lanes(s, found), &expected, false);
    }
    for seed in 0..200 {
        // Numbers of every size; no NaN, which rounding in integers may turn into another NaN or an infinity.
        let values: [f32; LANES] = std::array::from_fn(|i| {
            let word = bytes(seed, 4 * LANES).as_chunks::<4>().0[i];
            let value = f32::from_le_bytes(word);
            if value.is_nan() { f32::from_bits(0x3f80_8000 + i as u32) } else { value }
        });
        let (mut found, mut expected) = ([0u16; LANES], [0u16; LANES]);
        // SAFETY: sixteen elements each.
        unsafe {
            s.store_bf16(found.as_mut_ptr(), vector(s, values));
            Scalar.store_bf16(expected.as_mut_ptr(), values);
        }
        assert_eq!(found, expected, "bf16 of {values:?}");
    }
}

/// Compares rounding to bytes, the sums that it returns, and butterflies with the scalar ISA.
fn rounding<S: SimdInt>(s: S) {
    let ends =
        [-127.0, 127.0, 126.5, -126.5, 0.5, -0.5, 1.5, 2.5, -0.0, 0.49999997, 3.0, -3.0, 63.5, 64.5, 1e-40, -1.0];
    for turn in 0..LANES {
        let v: [f32; LANES] = std::array::from_fn(|i| ends[(i + turn) % LANES]);
        let mut i8s = [[0i8; LANES]; 2];
        // SAFETY: sixteen elements.
        unsafe {
            s.store_i8(i8s[0].as_mut_ptr(), vector(s, v));
            Scalar.store_i8(i8s[1].as_mut_ptr(), v);
        }
        assert_eq!(i8s[0], i8s[1]);
        let four: [[f32; LANES]; 4] =
            std::array::from_fn(|i| std::array::from_fn(|lane| ends[(lane * 3 + 5 * i + turn) % LANES]));
        let mut bytes = [[0i8; 4 * LANES]; 2];
        // SAFETY: 64 elements.
        let (found, expected) = unsafe {
            let vectors = [vector(s, four[0]), vector(s, four[1]), vector(s, four[2]), vector(s, four[3])];
            (s.store_i8x64(bytes[0].as_mut_ptr(), vectors), Scalar.store_i8x64(bytes[1].as_mut_ptr(), four))
        };
        assert_eq!(bytes[0], bytes[1]);
        let total: i32 = bytes[0].iter().map(|&byte| i32::from(byte)).sum();
        let sums = [lanes(s, found).iter().sum::<f32>(), expected.iter().sum()];
        assert_eq!(sums, [total as f32; 2], "sum of {four:?}");
        let butterflies = [s.butterfly::<1>(vector(s, v)), s.butterfly::<2>(vector(s, v))];
        assert_same("butterfly 1", &lanes(s, butterflies[0]), &Scalar.butterfly::<1>(v), true);
        assert_same("butterfly 2", &lanes(s, butterflies[1]), &Scalar.butterfly::<2>(v), true);
        let butterflies = [s.butterfly::<4>(vector(s, v)), s.butterfly::<8>(vector(s, v))];
        assert_same("butterfly 4", &lanes(s, butterflies[0]), &Scalar.butterfly::<4>(v), true);
        assert_same("butterfly 8", &lanes(s, butterflies[1]), &Scalar.butterfly::<8>(v), true);
    }
}

/// Runs all checks of this file on one ISA.
fn has_the_meaning_of_scalar<S: SimdInt>(s: S) {
    dot_products(s);
    unpacking(s);
    halves(s);
    rounding(s);
    tiles::<S, 1, 2>(s);
    tiles::<S, 2, 2>(s);
    tiles::<S, 3, 2>(s);
    tiles::<S, 4, 2>(s);
    tiles::<S, 5, 2>(s);
    tiles::<S, 6, 2>(s);
    tiles::<S, 2, 4>(s);
    tiles::<S, 5, 4>(s);
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

#[test]
fn every_isa_has_the_meaning_of_scalar() {
    has_the_meaning_of_scalar(Scalar);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    crate::isa::for_each_simd!(check_set);
}

/// Of the levels of NEON, only the one with i8mm multiplies matrices. That this one does shows that `tiles` did not return before it compared.
#[cfg(target_arch = "aarch64")]
#[test]
fn neon_with_i8mm_has_products_of_matrices() {
    fn has<S: SimdInt, const R: usize>(s: S) -> bool {
        // SAFETY: the depth is 0, so no memory is touched.
        unsafe { s.matrix8::<R, 2>([].as_ptr(), 0, [].as_ptr(), 0, &[0; R]).is_some() }
    }
    if let Some(token) = Neon::<2>::detect() {
        assert!(!has::<_, 1>(token) && has::<_, 2>(token) && has::<_, 6>(token));
    }
    if let Some(token) = Neon::<1>::detect() {
        assert!(!has::<_, 6>(token));
    }
}
