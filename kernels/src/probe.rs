//! Loops that measure a machine's limits: products on registers alone, and reads of memory.

use std::hint::black_box;

use crate::cpu::Streams;
use crate::gemm::ONE_STREAM_BYTES;
use crate::layout::LANES;
use crate::simd::int::SimdInt;

/// The kind of arithmetic whose peak is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Products of bytes, as the int8 product of many rows uses them.
    Int8,
    /// Dot products of bf16, or the instructions that replace them.
    Bf16,
    /// Fused multiply-adds of f32.
    F32,
}

/// The largest number of independent accumulators that any ISA uses here.
const MAX_CHAINS: usize = 12;

/// See [`crate::Kernels::probe`].
///
/// The loops do all the work that a product does for each row, and leave out the work that it does once for many rows (loading and preparing
/// weights). The weights of bytes are hidden from the compiler: with known weights it could drop instructions that every real product needs,
/// and the measured peak would be higher than any product can reach.
#[inline(always)]
pub(crate) fn run<S: SimdInt>(s: S, probe: Probe, rounds: usize) -> f64 {
    if matches!(probe, Probe::Int8 | Probe::Bf16)
        && let Some(products) = s.probe_matrices(probe == Probe::Int8, rounds)
    {
        return 2.0 * products as f64;
    }
    match probe {
        Probe::Int8 => int8(s, rounds),
        Probe::Bf16 => floats::<S, true>(s, rounds),
        Probe::F32 => floats::<S, false>(s, rounds),
    }
}

/// Runs products of bytes. Each loads its activations from memory whose content is hidden from the compiler, which otherwise would compute equal
/// products once and move constant ones out of the loop.
#[inline(always)]
fn int8<S: SimdInt>(s: S, rounds: usize) -> f64 {
    const { assert!(S::INT8_PROBE_CHAINS <= MAX_CHAINS) };
    let (weights, bytes) = (black_box([129u8; 64]), [1i8; 4 * MAX_CHAINS]);
    // SAFETY: 64 bytes.
    let w = unsafe { s.load_w8(weights.as_ptr()) };
    let mut sums = [s.splat_i32(0); MAX_CHAINS];
    for _ in 0..rounds {
        let bytes = black_box(&bytes);
        for (chain, sum) in sums.iter_mut().enumerate() {
            // The limit is a constant of the ISA, so the compiler unrolls the loop and keeps the accumulators in registers.
            if chain >= S::INT8_PROBE_CHAINS {
                break;
            }
            // SAFETY: four bytes of the chain.
            *sum = s.fastest8(*sum, w, unsafe { s.broadcast_a8(bytes.as_ptr().add(4 * chain)) });
        }
    }
    // The sums are used, so that the compiler does not remove the loop.
    let mut total = s.splat(0.0);
    for sum in sums {
        total = s.add(total, s.to_f32(sum));
    }
    black_box(s.reduce(total));
    (rounds * S::INT8_PROBE_CHAINS * S::FASTEST8 * 2) as f64
}

/// Runs dot products of bf16 (`BF16`), or else multiply-adds of f32, in the manner of [`int8`].
#[inline(always)]
fn floats<S: SimdInt, const BF16: bool>(s: S, rounds: usize) -> f64 {
    const { assert!(S::PROBE_CHAINS <= MAX_CHAINS) };
    let (halves, words, ones) = ([1i16; 32], [1i16; 2 * MAX_CHAINS], [1.0f32; MAX_CHAINS]);
    // SAFETY: 64 bytes.
    let w = unsafe { s.load_wb(halves.as_ptr().cast()) };
    let mut sums = [s.splat(0.0); MAX_CHAINS];
    for _ in 0..rounds {
        let (words, ones) = (black_box(&words), black_box(&ones));
        for (chain, sum) in sums.iter_mut().enumerate() {
            if chain >= S::PROBE_CHAINS {
                break;
            }
            if BF16 {
                // SAFETY: two elements of the chain.
                *sum = s.dot_bf16(*sum, w, unsafe { s.broadcast_ab(words.as_ptr().add(2 * chain).cast()) });
            } else {
                let a = s.splat(ones[chain]);
                *sum = s.mul_add(a, a, *sum);
            }
        }
    }
    let mut total = s.splat(0.0);
    for sum in sums {
        total = s.add(total, sum);
    }
    black_box(s.reduce(total));
    (rounds * S::PROBE_CHAINS * if BF16 { 32 } else { 16 } * 2) as f64
}

/// See [`crate::Kernels::read_memory`]. One stream reads the bytes from front to back, two streams read their two halves in turn.
#[inline(always)]
pub(crate) fn read_memory<S: SimdInt>(s: S, bytes: &[u8], streams: Streams) -> u64 {
    const AHEAD: usize = 4096;
    let mut max = [s.splat(0.0); 4];
    // SAFETY: any bits are an f32.
    let (_, floats, _) = unsafe { bytes.align_to::<f32>() };
    // The second half begins at a cache line if the first half does.
    let (first, second) = floats.split_at(floats.len() / 2 / LANES * LANES);
    if streams == Streams::One {
        for four in floats.chunks_exact(4 * LANES) {
            for (line, max) in four.chunks_exact(LANES).zip(&mut max) {
                s.prefetch_far(line.as_ptr().cast::<u8>().wrapping_add(ONE_STREAM_BYTES));
                // SAFETY: sixteen elements of the chunk.
                *max = s.max(*max, unsafe { s.load(line.as_ptr()) });
            }
        }
        let [a, b, c, d] = max;
        return u64::from(s.reduce_max(s.max(s.max(a, b), s.max(c, d))).to_bits());
    }
    for (first, second) in first.chunks_exact(2 * LANES).zip(second.chunks_exact(2 * LANES)) {
        let lines = [first, second, &first[LANES..], &second[LANES..]];
        for (line, max) in lines.into_iter().zip(&mut max) {
            s.prefetch(line.as_ptr().cast::<u8>().wrapping_add(AHEAD));
            // SAFETY: sixteen elements of the chunk.
            *max = s.max(*max, unsafe { s.load(line.as_ptr()) });
        }
    }
    let [a, b, c, d] = max;
    u64::from(s.reduce_max(s.max(s.max(a, b), s.max(c, d))).to_bits())
}
