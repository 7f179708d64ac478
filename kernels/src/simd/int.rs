//! The vocabulary of small numbers: dot products of bytes and 16-bit integers, half precision, and rounding to them.
//!
//! Integer results are exact, so equal on every instruction set, as long as the values keep the ranges stated here. The
//! accumulators are sixteen `i32`, one a lane; overflow is excluded by the callers' bounds on the depth.
//!
//! # Safety of loads and stores
//! As for [`Simd`]: the bytes that a pointer operation touches are readable (writable); no alignment is needed.

use super::Simd;
use crate::layout::{GroupSums, LANES, Operands, PANEL, Rest, Sums, TileShape};

/// Operations on vectors of small numbers.
pub(crate) trait SimdInt: Simd {
    /// Sixteen `i32`.
    type I: Copy;
    /// 16 outputs x 4 weights of -128 ..= 127, made ready to be multiplied by many rows.
    type W8: Copy;
    /// 16 outputs x 4 weights of 0 ..= 15.
    type Q4Weights: Copy;
    /// Four activations of -127 ..= 127, for all lanes.
    type A8: Copy;
    /// 16 outputs x 2 weights in bf16, made ready.
    type WB: Copy;
    /// Two activations in bf16, for all lanes.
    type AB: Copy;

    /// Accumulators of a block of 4-bit weights.
    type Q4Sums: Copy;
    /// The grids of a block of int4 weights, of sixteen outputs.
    type Grids: Copy;

    /// Register tile of the int8 product.
    const I8_TILE: TileShape;
    /// Register tile of the int8 product with few rows (up to `FEW_I8_ROWS`), where that has another shape.
    const FEW_I8_TILE: TileShape = Self::I8_TILE;
    const FEW_I8_ROWS: usize = 0;
    /// Whether [`add_quad8`](Self::add_quad8) holds the weights of one vector at a time, because the ISA has too few registers for more.
    const ONE_VECTOR_AT_A_TIME: bool = false;
    /// Whether int8 products of more than `FEW_I8_ROWS` rows are those of `gemm::int8_split`, because the ISA's products of bytes saturate.
    const SPLITS_ROWS: bool = false;
    /// Register tile of those products.
    const SPLIT_I8_TILE: TileShape = Self::I8_TILE;
    /// Register tile of the product with 4-bit blocks (of accumulators; there are as many sums).
    const Q4_0_TILE: TileShape;
    /// Register tile of the int4 product with few rows: both vectors of a panel.
    const FEW_I4_TILE: TileShape;
    /// How many rows are few: more are multiplied as int8 is.
    const FEW_I4_ROWS: usize;
    /// Whether int4 weights of few rows are unpacked between the dot products, on execution units that the dot products leave idle, instead
    /// of group by group before them. It needs registers for both.
    const UNPACKS_BETWEEN: bool = false;
    /// Register tile of the f16 product.
    const F16_TILE: TileShape;
    /// Register tile of the bf16 product.
    const BF16_TILE: TileShape;
    /// Register tile of both products of integer attention: 1, 2 or 4 vectors.
    const SCORE_TILE: TileShape;

    /// Independent accumulators of [`crate::probe`]: enough to hide the latency of a product, few enough to stay in registers.
    const PROBE_CHAINS: usize;
    /// Independent accumulators of [`crate::probe`] for products of bytes.
    const INT8_PROBE_CHAINS: usize = Self::PROBE_CHAINS;
    /// Products of a [`fastest8`](Self::fastest8).
    const FASTEST8: usize = 64;

    /// Whether the ISA has registers that hold matrices: then the int8 and bf16 products are those of `gemm::matrix`.
    const MATRICES: bool = false;

    /// All lanes `x`.
    fn splat_i32(self, x: i32) -> Self::I;
    /// Sixteen integers.
    ///
    /// # Safety
    /// 16 elements at `p` are readable.
    unsafe fn load_i32(self, p: *const i32) -> Self::I;
    /// `a + b`, which do not overflow.
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// Lane by lane.
    fn to_f32(self, x: Self::I) -> Self::V;

    /// Returns the sums unchanged, but keeps the compiler from moving later loads and computations before this point. Where a tile takes
    /// almost all registers, moving them would spill the sums to the stack.
    #[inline(always)]
    fn sums_in_order(self, sums: Self::I) -> Self::I {
        sums
    }

    /// 64 weights, each stored as `w + 128`: byte `4 o + i` is weight `i` of output `o`.
    ///
    /// # Safety
    /// 64 bytes at `p` are readable.
    unsafe fn load_w8(self, p: *const u8) -> Self::W8;
    /// What an accumulator of [`dot8`](Self::dot8) begins with, given `-128 · Σ a` over the activations it will see: ISAs whose
    /// products take the stored `w + 128` begin with that, the others with 0.
    fn start8(self, minus_128_sum: i32) -> Self::I;
    /// `acc[o] + Σᵢ w[o][i] · a[i]`, after [`start8`](Self::start8).
    fn dot8(self, acc: Self::I, w: Self::W8, a: Self::A8) -> Self::I;

    /// 128 weights of 0 ..= 15: the low nibbles, then the high nibbles of 64 bytes.
    ///
    /// # Safety
    /// 64 bytes at `p` are readable.
    unsafe fn load_q4_0(self, p: *const u8) -> [Self::Q4Weights; 2];
    /// The accumulators of a block of 32 weights, of which `minus_8_sum` is `-8 · Σ a`.
    fn start_q4_0(self, minus_8_sum: i32) -> Self::Q4Sums;
    /// `acc[o] + Σᵢ w[o][i] · a[i]`, at most eight times after [`start_q4_0`](Self::start_q4_0).
    fn dot_q4_0(self, acc: Self::Q4Sums, w: Self::Q4Weights, a: Self::A8) -> Self::Q4Sums;
    /// The sums of a block, `minus_8_sum` (the same as at its start) in them once.
    fn sum_q4_0(self, acc: Self::Q4Sums, minus_8_sum: i32) -> Self::I;

    /// Grids of int4 weights, `m | z << 4` of sixteen outputs.
    ///
    /// # Safety
    /// 16 bytes at `p` are readable.
    unsafe fn load_grids(self, p: *const u8) -> Self::Grids;
    /// Unpacks int4 weights of sixteen outputs: of the nibbles `u` of four depths, low and high, to `[2 halves][16 outputs][4]` bytes
    /// `u · m + 128 - z · m` modulo 256. The halves lie 512 bytes apart: four steps of 32 outputs.
    ///
    /// # Safety
    /// 64 bytes at `nibbles` are readable, 64 at `to` and at `to + 512` writable, which nothing need have been written to.
    unsafe fn unpack_step(self, grids: Self::Grids, nibbles: *const u8, to: *mut u8);
    /// What [`unpack_step`](Self::unpack_step) writes, low and high, as [`load_w8`](Self::load_w8) would read it.
    ///
    /// # Safety
    /// 64 bytes at `nibbles` are readable.
    #[inline(always)]
    unsafe fn unpacked_step(self, grids: Self::Grids, nibbles: *const u8) -> [Self::W8; 2] {
        let mut to = [0u8; 512 + 64];
        // SAFETY: by the caller's word; both halves are there.
        unsafe {
            self.unpack_step(grids, nibbles, to.as_mut_ptr());
            [self.load_w8(to.as_ptr()), self.load_w8(to.as_ptr().add(512))]
        }
    }
    /// Unpacks a group of int4 weights as `gemm::int4` lays it out: byte `4 o + i` of quad `q` becomes the weight of output `o` at depth `4 q + i`.
    ///
    /// # Safety
    /// 1,088 bytes at `group` are readable, 2,048 at `to` writable.
    #[inline(always)]
    unsafe fn unpack4(self, group: *const u8, to: *mut u8) {
        for (block, vector) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            // SAFETY: by the caller's word: both blocks' grids, and four steps of both vectors.
            unsafe {
                let grids = self.load_grids(group.add(block * PANEL + vector * LANES));
                for step in 0..4 {
                    let nibbles = group.add(2 * PANEL + block * 512 + step * 128 + vector * 64);
                    self.unpack_step(grids, nibbles, to.add(block * 1024 + step * 128 + vector * 64));
                }
            }
        }
    }

    /// Four activations.
    ///
    /// # Safety
    /// 4 bytes at `p` are readable.
    unsafe fn broadcast_a8(self, p: *const i8) -> Self::A8;

    /// A step of a tile's dot products: `acc[r][n][o] += Σᵢ w[n][o][i] · x[r][i]` over four activations of each row.
    ///
    /// # Safety
    /// 4 activations are readable at `x + r · ldx` for `r < R`, `64 N` bytes at `w`.
    #[inline(always)]
    unsafe fn add_quad8<const R: usize, const N: usize>(
        self,
        acc: &mut [[Self::I; N]; R],
        x: *const i8,
        ldx: usize,
        w: *const u8,
    ) {
        // SAFETY: by the caller's word.
        unsafe {
            let mut wv = [self.load_w8(w); N];
            for (n, wv) in wv.iter_mut().enumerate().skip(1) {
                *wv = self.load_w8(w.add(64 * n));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = self.broadcast_a8(x.add(r * ldx));
                for n in 0..N {
                    acc[n] = self.dot8(acc[n], wv[n], a);
                }
            }
        }
    }

    /// [`add_quad8`](Self::add_quad8) with the stored weights, `w + 128`, and activations whose products fit: in each of the two pairs of four
    /// the positive ones sum to at most 128, and the negative ones too. For ISAs with [`SPLITS_ROWS`](Self::SPLITS_ROWS).
    ///
    /// # Safety
    /// As for [`add_quad8`](Self::add_quad8).
    #[inline(always)]
    unsafe fn add_split_quad8<const R: usize, const N: usize>(
        self,
        acc: &mut [[Self::I; N]; R],
        x: *const i8,
        ldx: usize,
        w: *const u8,
    ) {
        let _ = (acc, x, ldx, w);
        unreachable!("only ISAs that split rows");
    }
    /// Splits a row for [`add_split_quad8`](Self::add_split_quad8): writes its quads to `to`, and half of those whose products may not fit,
    /// whose other half is added to `rests`, in their order.
    ///
    /// # Safety
    /// `4 · quads` activations, rounded up to 32, are readable at `row`, and as many bytes writable at `to`.
    #[inline(always)]
    unsafe fn split_row8(self, row: *const i8, quads: usize, to: *mut i8, rests: &mut Vec<Rest>) {
        let _ = (row, quads, to, rests);
        unreachable!("only ISAs that split rows");
    }

    /// Whole sums of a tile by instructions that multiply matrices of bytes, which take weights and rows in shapes of their own:
    /// `sums[r][n][o] = start[r] + Σ_d stored(n, o, d) · x[r][d]` over `4 · quads` depths, weights stored as `w + 128` in
    /// `[quads][N][16 outputs][4]`, `start[r]` as for [`start8`](Self::start8). `None` where the ISA has no such instructions or `R` is too
    /// few rows to gain by them: then the loop over [`dot8`](Self::dot8) does it.
    ///
    /// # Safety
    /// `4 · quads` activations are readable at `x + r · ldx` for `r < R`, `64 · N · quads` bytes at `w`.
    #[inline(always)]
    unsafe fn matrix8<const R: usize, const N: usize>(
        self,
        x: *const i8,
        ldx: usize,
        w: *const u8,
        quads: usize,
        start: &[i32],
    ) -> Option<[[Self::I; N]; R]> {
        let _ = (x, ldx, w, quads, start);
        None
    }
    /// As [`matrix8`](Self::matrix8), over the 32 depths of a 4-bit block and the 32 outputs of a panel: `nibbles` as
    /// [`load_q4_0`](Self::load_q4_0) reads them, `[4][2][64]`, `start[r]` is `-8 Σ a`. `None` too where `N` is not a panel's two vectors.
    ///
    /// # Safety
    /// 32 activations are readable at `x + r · ldx` for `r < R`, 512 bytes at `nibbles`.
    #[inline(always)]
    unsafe fn block_q4_0<const R: usize, const N: usize>(
        self,
        x: *const i8,
        ldx: usize,
        nibbles: *const u8,
        start: [i32; R],
    ) -> Option<[[Self::I; N]; R]> {
        let _ = (x, ldx, nibbles, start);
        None
    }

    /// Prepares this thread's matrix registers for sums of `rows` rows each, 1 ..= 16, and steps of 4 ..= 64 bytes of depth, a multiple of 4,
    /// until [`end_matrices`](Self::end_matrices).
    #[inline(always)]
    fn begin_matrices(self, rows: usize, depth_bytes: usize) {
        let _ = (rows, depth_bytes);
    }
    /// Gives the matrix registers back.
    #[inline(always)]
    fn end_matrices(self) {}
    /// `sums[r][o] = Σ stored(o, d) · x[r][d]` over the operands' steps, for the rows of one register or of a `PAIR`. `INT8`: exact, weights
    /// stored as `w + 128` and multiplied so. Else bf16, in an order that depends on the steps alone. ISAs with [`MATRICES`](Self::MATRICES)
    /// only.
    ///
    /// # Safety
    /// [`begin_matrices`](Self::begin_matrices) has prepared registers for 64 bytes and as many rows as begin at each of `operands.rows` that is read.
    /// `64 · steps` bytes of each row are readable, and `16 · steps` lines of the weights. There is a step, and a line to ask for.
    #[inline(always)]
    unsafe fn matrix_sums<const INT8: bool, const PAIR: bool>(self, operands: Operands, sums: &mut Sums) {
        let _ = (operands, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// The int8 sums of [`matrix_sums`](Self::matrix_sums), by streams: the two halves of an even number of steps in turn, with requests ahead of both,
    /// and not by `operands.ahead`.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn matrix_halves<const PAIR: bool>(self, operands: Operands, sums: &mut Sums) {
        let _ = (operands, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// `sums[b][r][o] = Σ w[b][o][d] · x[r][32 b + d]` over the 32 depths of each of four 4-bit blocks, for 16 rows and one vector of weights as
    /// [`unpack_q4_0`](Self::unpack_q4_0) leaves them. Exact. ISAs with [`MATRICES`](Self::MATRICES) only.
    ///
    /// # Safety
    /// [`begin_matrices`](Self::begin_matrices) has prepared registers for 16 rows and 32 bytes; 128 bytes of each row are readable, `ldx` apart;
    /// 32 lines of 64 bytes at `w`, 128 apart.
    #[inline(always)]
    unsafe fn matrix_q4_0(self, x: *const i8, ldx: usize, w: *const i8, sums: &mut GroupSums) {
        let _ = (x, ldx, w, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// The products of 16 rows of bytes with what lies as `[quads][64][4]`, over `64 · steps` bytes: `sums[16][64]`. In attention, of queries with the
    /// 64 keys of a tile, and of weights with 64 dimensions of its values. ISAs with [`MATRICES`](Self::MATRICES) only, as
    /// [`unpack_q4_0`](Self::unpack_q4_0).
    ///
    /// # Safety
    /// [`begin_matrices`](Self::begin_matrices) has prepared registers for 16 rows and 64 bytes. `64 · steps` bytes of 16 rows, `stride` apart,
    /// and `4,096 · steps` of the other are readable, 1,024 elements at `sums` writable. There is a step.
    #[inline(always)]
    unsafe fn matrix_scores(self, q: *const i8, stride: usize, keys: *const u8, steps: usize, sums: *mut i32) {
        let _ = (q, stride, keys, steps, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// The weights of one of the two vectors of a 4-bit block, as `w`: `to[8 quads][2 vectors][16 outputs][4]` from nibbles as
    /// [`load_q4_0`](Self::load_q4_0) reads them. ISAs with [`MATRICES`](Self::MATRICES) only.
    ///
    /// # Safety
    /// 512 bytes at `nibbles` are readable, 1,024 at `to` writable; `vector` is 0 or 1.
    #[inline(always)]
    unsafe fn unpack_q4_0(self, nibbles: *const u8, vector: usize, to: *mut i8) {
        let _ = (nibbles, vector, to);
        unreachable!("an ISA without matrix registers")
    }
    /// `rounds` times the fastest products of matrices, for [`crate::probe`]: how many multiply-adds they were, of bytes or of bf16. `None`
    /// where there are none.
    fn probe_matrices(self, int8: bool, rounds: usize) -> Option<usize> {
        let _ = (int8, rounds);
        None
    }

    /// One step of the instruction that multiplies many rows, whatever its result, for [`crate::probe`].
    #[inline(always)]
    fn fastest8(self, acc: Self::I, w: Self::W8, a: Self::A8) -> Self::I {
        self.dot8(acc, w, a)
    }

    /// Sixteen half-precision numbers.
    ///
    /// # Safety
    /// 16 elements at `p` are readable.
    unsafe fn load_f16(self, p: *const u16) -> Self::V;
    /// 16 outputs x 2 weights in bf16.
    ///
    /// # Safety
    /// 32 elements at `p` are readable.
    unsafe fn load_wb(self, p: *const u16) -> Self::WB;
    /// Two activations in bf16.
    ///
    /// # Safety
    /// 2 elements at `p` are readable.
    unsafe fn broadcast_ab(self, p: *const u16) -> Self::AB;
    /// `acc[o] + w[o][0]·a[0] + w[o][1]·a[1]`: fused, or (with bf16 instructions) rounded as those do.
    fn dot_bf16(self, acc: Self::V, w: Self::WB, a: Self::AB) -> Self::V;

    /// Rounds to the nearest integer, halves to even, and writes sixteen `i8`. Values beyond its range are a caller's error: they
    /// saturate, NaN gives any value.
    ///
    /// # Safety
    /// 16 bytes at `p` are writable.
    unsafe fn store_i8(self, p: *mut i8, v: Self::V);
    /// [`store_i8`](Self::store_i8) of four vectors, 64 bytes; what is returned are sixteen parts of their sum (which parts, differs from ISA to
    /// ISA), exact if the values are in the range of `i8`.
    ///
    /// # Safety
    /// 64 bytes at `p` are writable.
    #[inline(always)]
    unsafe fn store_i8x64(self, p: *mut i8, v: [Self::V; 4]) -> Self::V {
        let mut sum = self.splat(0.0);
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: by the caller's word.
            unsafe { self.store_i8(p.add(i * LANES), v) };
            sum = self.add(sum, self.round(v));
        }
        sum
    }
    /// Rounds to bf16, halves to even.
    ///
    /// # Safety
    /// 16 elements at `p` are writable.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V);

    /// Lane `i` becomes `v[i ^ STEP] ± v[i]`, plus where bit `STEP` of `i` is 0, minus where it is 1; `STEP` is 1, 2, 4 or 8: one
    /// stage of a Walsh-Hadamard transform inside a vector.
    fn butterfly<const STEP: usize>(self, v: Self::V) -> Self::V;
}

/// Lane signs of a butterfly.
pub(super) const fn butterfly_signs(step: usize) -> [f32; LANES] {
    let mut signs = [1.0; LANES];
    let mut lane = 0;
    while lane < LANES {
        if lane & step != 0 {
            signs[lane] = -1.0;
        }
        lane += 1;
    }
    signs
}
