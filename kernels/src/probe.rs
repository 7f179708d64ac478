//! Loops that reach a machine's limits: products on registers alone, and reads of memory.

use crate::LANES;
use crate::simd::int::SimdInt;

/// A kind of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Products of bytes, as the int8 product of many rows uses them.
    Int8,
    /// Dot products of 16-bit integers.
    Int16,
    /// Dot products of bf16, or what stands for them.
    Bf16,
    /// Fused multiply-adds of f32.
    F32,
}

/// Most independent accumulators of a set.
const MAX_CHAINS: usize = 12;

/// See [`crate::Kernels::probe`].
#[inline(always)]
pub(crate) fn run<S: SimdInt>(s: S, probe: Probe, rounds: usize) -> f64 {
    let (bytes, words) = ([129u8; 64], [1i16; 32]);
    // SAFETY: 64 bytes each.
    let (w, pairs, halves) =
        unsafe { (s.load_w8(bytes.as_ptr()), s.load_pairs(words.as_ptr()), s.load_wb(words.as_ptr().cast())) };
    let activations = [1i8; 4];
    // SAFETY: four bytes each.
    let (a, pair, half) = unsafe {
        (s.broadcast_a8(activations.as_ptr()), s.broadcast_pair(words.as_ptr()), s.broadcast_ab(words.as_ptr().cast()))
    };
    let one = s.splat(1.0);
    const { assert!(S::PROBE_CHAINS <= MAX_CHAINS) };
    let mut ints = [s.splat_i32(0); MAX_CHAINS];
    let mut floats = [s.splat(0.0); MAX_CHAINS];
    match probe {
        Probe::Int8 => {
            for _ in 0..rounds {
                for acc in &mut ints[..S::PROBE_CHAINS] {
                    *acc = s.fastest8(*acc, w, a);
                }
            }
        }
        Probe::Int16 => {
            for _ in 0..rounds {
                for acc in &mut ints[..S::PROBE_CHAINS] {
                    *acc = s.dot16(*acc, pairs, pair);
                }
            }
        }
        Probe::Bf16 => {
            for _ in 0..rounds {
                for acc in &mut floats[..S::PROBE_CHAINS] {
                    *acc = s.dot_bf16(*acc, halves, half);
                }
            }
        }
        Probe::F32 => {
            for _ in 0..rounds {
                for acc in &mut floats[..S::PROBE_CHAINS] {
                    *acc = s.mul_add(one, one, *acc);
                }
            }
        }
    }
    // The accumulators are used, so that the loop stays.
    let mut total = s.splat(0.0);
    for (int, float) in ints.into_iter().zip(floats) {
        total = s.add(total, s.add(s.to_f32(int), float));
    }
    std::hint::black_box(s.reduce(total));
    let products = match probe {
        Probe::Int8 => S::FASTEST8,
        Probe::Int16 | Probe::Bf16 => 32,
        Probe::F32 => 16,
    };
    (rounds * S::PROBE_CHAINS * products * 2) as f64
}

/// See [`crate::Kernels::read_memory`].
#[inline(always)]
pub(crate) fn read_memory<S: SimdInt>(s: S, bytes: &[u8]) -> u64 {
    // SAFETY: any bits are an f32.
    let (_, floats, _) = unsafe { bytes.align_to::<f32>() };
    let mut max = [s.splat(0.0); 4];
    for chunk in floats.chunks_exact(4 * LANES) {
        for line in 0..4 {
            s.prefetch(chunk.as_ptr().cast::<u8>().wrapping_add(2048 + 64 * line));
        }
        for (i, max) in max.iter_mut().enumerate() {
            // SAFETY: sixteen elements of the chunk.
            *max = s.max(*max, unsafe { s.load(chunk.as_ptr().add(i * LANES)) });
        }
    }
    let [a, b, c, d] = max;
    u64::from(s.reduce_max(s.max(s.max(a, b), s.max(c, d))).to_bits())
}
