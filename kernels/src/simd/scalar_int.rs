//! The operations on small numbers over arrays. They define what each operation means.

use super::int::SimdInt;
use crate::isa::Scalar;
use crate::layout::{LANES, TileShape};

impl SimdInt for Scalar {
    type I = [i32; LANES];
    type W8 = [[i8; 4]; LANES];
    type Q4Weights = [[u8; 4]; LANES];
    type A8 = [i8; 4];
    type Q4Sums = Self::I;
    type Grids = [u8; LANES];
    type WB = [[f32; 2]; LANES];
    type AB = [f32; 2];

    // Small shapes: there are no registers to fill, and code is compiled for each number of rows. With AVX-512's shapes this ISA would have
    // more code than all others together. Results do not depend on the shape.
    const I8_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    const Q4_0_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    const FEW_I4_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    const FEW_I4_ROWS: usize = 24;
    const F16_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    const BF16_TILE: TileShape = TileShape { rows: 2, vectors: 2 };
    const SCORE_TILE: TileShape = TileShape { rows: 2, vectors: 4 };
    const PROBE_CHAINS: usize = 4;

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn to_f32(self, x: Self::I) -> Self::V {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> Self::I {
        // SAFETY: the caller vouches for 16 readable elements.
        unsafe { p.cast::<Self::I>().read_unaligned() }
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    unsafe fn load_w8(self, p: *const u8) -> Self::W8 {
        // SAFETY: the caller vouches for 64 readable bytes.
        let bytes = unsafe { p.cast::<[[u8; 4]; LANES]>().read() };
        bytes.map(|of_output| of_output.map(|byte| (byte ^ 0x80) as i8))
    }
    #[inline(always)]
    fn start8(self, _minus_128_sum: i32) -> Self::I {
        [0; LANES]
    }
    #[inline(always)]
    fn dot8(self, acc: Self::I, w: Self::W8, a: Self::A8) -> Self::I {
        std::array::from_fn(|o| acc[o] + (0..4).map(|i| i32::from(w[o][i]) * i32::from(a[i])).sum::<i32>())
    }

    #[inline(always)]
    unsafe fn load_q4_0(self, p: *const u8) -> [Self::Q4Weights; 2] {
        // SAFETY: the caller vouches for 64 readable bytes.
        let bytes = unsafe { p.cast::<[[u8; 4]; LANES]>().read() };
        [bytes.map(|of_output| of_output.map(|byte| byte & 15)), bytes.map(|of_output| of_output.map(|byte| byte >> 4))]
    }
    #[inline(always)]
    fn start_q4_0(self, minus_8_sum: i32) -> Self::I {
        [minus_8_sum; LANES]
    }
    #[inline(always)]
    fn dot_q4_0(self, acc: Self::I, w: Self::Q4Weights, a: Self::A8) -> Self::I {
        std::array::from_fn(|o| acc[o] + (0..4).map(|i| i32::from(w[o][i]) * i32::from(a[i])).sum::<i32>())
    }

    #[inline(always)]
    fn sum_q4_0(self, acc: Self::I, _minus_8_sum: i32) -> Self::I {
        acc
    }

    #[inline(always)]
    unsafe fn load_grids(self, p: *const u8) -> Self::Grids {
        // SAFETY: the caller vouches for 16 readable bytes.
        unsafe { p.cast::<Self::Grids>().read() }
    }
    #[inline(always)]
    unsafe fn unpack_step(self, grids: Self::Grids, nibbles: *const u8, to: *mut u8) {
        // SAFETY: the caller vouches for the nibbles of four depths to read, and twice their weights to write.
        unsafe {
            let nibbles = nibbles.cast::<[[u8; 4]; LANES]>().read();
            let to = to.cast::<[u8; 4]>();
            for (o, grid) in grids.into_iter().enumerate() {
                let (m, z) = (grid & 15, grid >> 4);
                let weight = |u: u8| (u * m).wrapping_add(128).wrapping_sub(z * m);
                to.add(o).write(nibbles[o].map(|pair| weight(pair & 15)));
                to.byte_add(512).add(o).write(nibbles[o].map(|pair| weight(pair >> 4)));
            }
        }
    }

    #[inline(always)]
    unsafe fn broadcast_a8(self, p: *const i8) -> Self::A8 {
        // SAFETY: the caller vouches for 4 readable bytes.
        unsafe { p.cast::<[i8; 4]>().read() }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::V {
        // SAFETY: the caller vouches for 16 readable elements.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| half::f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_wb(self, p: *const u16) -> Self::WB {
        // SAFETY: the caller vouches for 32 readable elements.
        let bits = unsafe { p.cast::<[[u16; 2]; LANES]>().read_unaligned() };
        bits.map(|pair| pair.map(widen_bf16))
    }
    #[inline(always)]
    unsafe fn broadcast_ab(self, p: *const u16) -> Self::AB {
        // SAFETY: the caller vouches for 2 readable elements.
        unsafe { p.cast::<[u16; 2]>().read_unaligned() }.map(widen_bf16)
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Self::V, w: Self::WB, a: Self::AB) -> Self::V {
        std::array::from_fn(|o| w[o][1].mul_add(a[1], w[o][0].mul_add(a[0], acc[o])))
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Self::V) {
        // SAFETY: the caller vouches for 16 writable bytes.
        unsafe { p.cast::<[i8; LANES]>().write(v.map(|x| x.round_ties_even() as i8)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V) {
        // SAFETY: the caller vouches for 16 writable elements.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(v.map(|x| half::bf16::from_f32(x).to_bits())) }
    }

    #[inline(always)]
    fn butterfly<const STEP: usize>(self, v: Self::V) -> Self::V {
        std::array::from_fn(|i| if i & STEP == 0 { v[i ^ STEP] + v[i] } else { v[i ^ STEP] - v[i] })
    }
}

fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
