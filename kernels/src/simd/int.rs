//! The portable vector operations on small numbers: dot products of bytes, f16 and bf16, and rounding to them.
//!
//! Integer results are exact, and so the same on every instruction set, as long as values keep to the ranges stated here.
//! Accumulators are sixteen `i32`, one in each lane; callers limit the depth so that they cannot overflow.
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
    /// 16 outputs x 2 weights in bf16, made ready to be multiplied by many rows.
    type WB: Copy;
    /// Two activations in bf16, for all lanes.
    type AB: Copy;

    /// Accumulators of the sums of a q4_0 block.
    type Q4Sums: Copy;
    /// The grids of an int4 block for sixteen outputs, made ready to unpack its weights.
    type Grids: Copy;

    /// Register tile of the int8 product.
    const I8_TILE: TileShape;
    /// Register tile of the int8 product with few rows (up to `FEW_I8_ROWS`), where that has another shape.
    const FEW_I8_TILE: TileShape = Self::I8_TILE;
    /// The largest number of rows for which that tile is used; 0 if there is none.
    const FEW_I8_ROWS: usize = 0;
    /// Whether [`add_quad8`](Self::add_quad8) holds the weights of one vector at a time, because the ISA has too few registers for more.
    const ONE_VECTOR_AT_A_TIME: bool = false;
    /// Whether int8 products of more than `FEW_I8_ROWS` rows are those of `gemm::int8_split`, because the ISA's products of bytes saturate.
    const SPLITS_ROWS: bool = false;
    /// Register tile of those products.
    const SPLIT_I8_TILE: TileShape = Self::I8_TILE;
    /// Register tile of the product with q4_0 blocks. It needs twice as many vectors: the integer sums of a block, and the scaled sums of all.
    const Q4_0_TILE: TileShape;
    /// Register tile of the int4 product with few rows: both vectors of a panel.
    const FEW_I4_TILE: TileShape;
    /// The largest number of rows for that product; with more, whole panels are unpacked and multiplied as int8.
    const FEW_I4_ROWS: usize;
    /// Whether int4 weights of few rows are unpacked between the dot products, on execution units that the dot products leave idle, instead
    /// of group by group before them. This needs registers for both.
    const UNPACKS_BETWEEN: bool = false;
    /// Register tile of the f16 product.
    const F16_TILE: TileShape;
    /// Register tile of the bf16 product.
    const BF16_TILE: TileShape;
    /// Register tile of both products of integer attention, 1, 2 or 4 vectors wide.
    const SCORE_TILE: TileShape;

    /// Independent accumulators of [`crate::probe`]: enough to hide the latency of a product, few enough to stay in registers.
    const PROBE_CHAINS: usize;
    /// Independent accumulators of [`crate::probe`] for products of bytes.
    const INT8_PROBE_CHAINS: usize = Self::PROBE_CHAINS;
    /// Number of multiply-adds of one [`fastest8`](Self::fastest8).
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
    /// `a + b`; the caller knows that no lane overflows.
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// Converts each lane to f32.
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
    /// What an accumulator of [`dot8`](Self::dot8) begins with, given `-128 · Σ a` over all activations of its row. ISAs that multiply
    /// the stored `w + 128` begin with this number, the others with 0.
    fn start8(self, minus_128_sum: i32) -> Self::I;
    /// `acc[o] + Σᵢ w[o][i] · a[i]`, for accumulators that began with [`start8`](Self::start8).
    fn dot8(self, acc: Self::I, w: Self::W8, a: Self::A8) -> Self::I;

    /// 128 weights of 0 ..= 15: the low nibbles, then the high nibbles of 64 bytes.
    ///
    /// # Safety
    /// 64 bytes at `p` are readable.
    unsafe fn load_q4_0(self, p: *const u8) -> [Self::Q4Weights; 2];
    /// What the accumulators of a q4_0 block begin with, given `-8 · Σ a` over the block's 32 activations.
    fn start_q4_0(self, minus_8_sum: i32) -> Self::Q4Sums;
    /// `acc[o] + Σᵢ w[o][i] · a[i]`, at most eight times after [`start_q4_0`](Self::start_q4_0).
    fn dot_q4_0(self, acc: Self::Q4Sums, w: Self::Q4Weights, a: Self::A8) -> Self::Q4Sums;
    /// The sums of a block. `minus_8_sum` is the number that [`start_q4_0`](Self::start_q4_0) got; whether it was added there or is added here,
    /// each sum contains it once.
    fn sum_q4_0(self, acc: Self::Q4Sums, minus_8_sum: i32) -> Self::I;

    /// Loads the grids of int4 weights, a byte `m | z << 4` for each of sixteen outputs.
    ///
    /// # Safety
    /// 16 bytes at `p` are readable.
    unsafe fn load_grids(self, p: *const u8) -> Self::Grids;
    /// Unpacks int4 weights of sixteen outputs. `nibbles` is `[16 outputs][4]` bytes: the low nibbles `u` belong to four depths, the high ones
    /// to the four depths that are 16 further on. Writes the bytes `u · m + 128 - z · m` modulo 256, those of the low nibbles to `to` and those
    /// of the high nibbles to `to + 512` (four steps of 32 outputs further on).
    ///
    /// # Safety
    /// 64 bytes at `nibbles` are readable. 64 bytes at `to` and at `to + 512` are writable; they may be uninitialised.
    unsafe fn unpack_step(self, grids: Self::Grids, nibbles: *const u8, to: *mut u8);
    /// The two runs of weights that [`unpack_step`](Self::unpack_step) writes, as [`load_w8`](Self::load_w8) would load them.
    ///
    /// # Safety
    /// 64 bytes at `nibbles` are readable.
    #[inline(always)]
    unsafe fn unpacked_step(self, grids: Self::Grids, nibbles: *const u8) -> [Self::W8; 2] {
        let mut to = [0u8; 512 + 64];
        // SAFETY: guaranteed by the caller; `to` has room for both runs.
        unsafe {
            self.unpack_step(grids, nibbles, to.as_mut_ptr());
            [self.load_w8(to.as_ptr()), self.load_w8(to.as_ptr().add(512))]
        }
    }
    /// Unpacks a group of int4 weights, which lies as `gemm::int4` says, to int8 weights `[16 quads][32 outputs][4]`.
    ///
    /// # Safety
    /// 1,088 bytes at `group` are readable, 2,048 at `to` writable.
    #[inline(always)]
    unsafe fn unpack4(self, group: *const u8, to: *mut u8) {
        for (block, vector) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            // SAFETY: guaranteed by the caller: both blocks' grids, and four steps of both vectors.
            unsafe {
                let grids = self.load_grids(group.add(block * PANEL + vector * LANES));
                for step in 0..4 {
                    let nibbles = group.add(2 * PANEL + block * 512 + step * 128 + vector * 64);
                    self.unpack_step(grids, nibbles, to.add(block * 1024 + step * 128 + vector * 64));
                }
            }
        }
    }

    /// Loads four activations for all lanes.
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
        // SAFETY: guaranteed by the caller.
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

    /// [`add_quad8`](Self::add_quad8), but with the weights as they are stored, `w + 128`, and for activations that do not saturate: in each of
    /// the two pairs of the four, positive ones sum to at most 128 and negative ones to at least -128. For ISAs with
    /// [`SPLITS_ROWS`](Self::SPLITS_ROWS).
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
    /// Splits a row for [`add_split_quad8`](Self::add_split_quad8): writes each quad to `to` as it is if its activations do not saturate. Else
    /// it writes half of each activation, and appends the other half to `rests`.
    ///
    /// # Safety
    /// `4 · quads` activations, rounded up to 32, are readable at `row`, and as many bytes writable at `to`.
    #[inline(always)]
    unsafe fn split_row8(self, row: *const i8, quads: usize, to: *mut i8, rests: &mut Vec<Rest>) {
        let _ = (row, quads, to, rests);
        unreachable!("only ISAs that split rows");
    }

    /// Computes the whole sums of a tile with instructions that multiply small matrices of bytes:
    /// `sums[r][n][o] = start[r] + Σ_d stored(n, o, d) · x[r][d]` over `4 · quads` depths, weights stored as `w + 128` in
    /// `[quads][N][16 outputs][4]`, `start[r]` is `-128 Σ a`. `None` if the ISA has no such instructions or `R` rows are too few to
    /// gain by them: then the caller computes the sums with [`dot8`](Self::dot8).
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
    /// As [`matrix8`](Self::matrix8), over the 32 depths of a q4_0 block and the 32 outputs of a panel. `nibbles` is `[4][2][64]` bytes, of which
    /// [`load_q4_0`](Self::load_q4_0) reads 64 at a time; `start[r]` is `-8 Σ a`. `None` also if `N` is not a panel's two vectors.
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
    /// Releases the matrix registers that [`begin_matrices`](Self::begin_matrices) has prepared.
    #[inline(always)]
    fn end_matrices(self) {}
    /// `sums[r][o] = Σ stored(o, d) · x[r][d]` over the operands' steps, for the rows of one register or of a `PAIR`. With `INT8`,
    /// weights are multiplied as they are stored, `w + 128`, and the sums are exact. Else rows and weights are bf16, and the order of additions
    /// depends on the number of steps alone. Only for ISAs with [`MATRICES`](Self::MATRICES).
    ///
    /// # Safety
    /// [`begin_matrices`](Self::begin_matrices) has prepared registers for 64 bytes and as many rows as begin at each of `operands.rows` that is read.
    /// `64 · steps` bytes of each row are readable, and `16 · steps` lines of the weights. `operands.steps` and `operands.lines` are at
    /// least 1.
    #[inline(always)]
    unsafe fn matrix_sums<const INT8: bool, const PAIR: bool>(self, operands: Operands, sums: &mut Sums) {
        let _ = (operands, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// The int8 sums of [`matrix_sums`](Self::matrix_sums), with weights read in two streams: the two halves of the steps in turn. It
    /// prefetches ahead of both streams, and ignores `operands.ahead` and `operands.lines`.
    ///
    /// # Safety
    /// As there; the number of steps is even.
    #[inline(always)]
    unsafe fn matrix_halves<const PAIR: bool>(self, operands: Operands, sums: &mut Sums) {
        let _ = (operands, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// `sums[b][r][o] = Σ w[b][o][d] · x[r][32 b + d]`, exact, over the 32 depths `d` of each of four q4_0 blocks `b`, for 16 rows and one
    /// vector of outputs, whose weights [`unpack_q4_0`](Self::unpack_q4_0) has unpacked. Only for ISAs with [`MATRICES`](Self::MATRICES).
    ///
    /// # Safety
    /// [`begin_matrices`](Self::begin_matrices) has prepared registers for 16 rows and 32 bytes; 128 bytes of each row are readable, `ldx` apart;
    /// 32 lines of 64 bytes at `w`, 128 apart.
    #[inline(always)]
    unsafe fn matrix_q4_0(self, x: *const i8, ldx: usize, w: *const i8, sums: &mut GroupSums) {
        let _ = (x, ldx, w, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// Both products of attention: multiplies 16 rows `q` of `64 · steps` bytes with `keys`, which are `[quads][64][4]` signed bytes, and
    /// writes `sums[16][64]`. The rows are queries and `keys` the 64 keys of a tile, or the rows are weights and `keys` 64 dimensions of its
    /// values. Only for ISAs with [`MATRICES`](Self::MATRICES).
    ///
    /// # Safety
    /// [`begin_matrices`](Self::begin_matrices) has prepared registers for 16 rows and 64 bytes. `64 · steps` bytes of 16 rows, `stride` apart,
    /// and `4,096 · steps` bytes at `keys` are readable, 1,024 elements at `sums` writable. `steps` is at least 1.
    #[inline(always)]
    unsafe fn matrix_scores(self, q: *const i8, stride: usize, keys: *const u8, steps: usize, sums: *mut i32) {
        let _ = (q, stride, keys, steps, sums);
        unreachable!("an ISA without matrix registers")
    }
    /// Unpacks the nibbles of one of the two vectors of outputs of a q4_0 block to signed bytes `w`: writes its part of
    /// `to[8 quads][2 vectors][16 outputs][4]`. Only for ISAs with [`MATRICES`](Self::MATRICES).
    ///
    /// # Safety
    /// 512 bytes at `nibbles` are readable, 1,024 at `to` writable; `vector` is 0 or 1.
    #[inline(always)]
    unsafe fn unpack_q4_0(self, nibbles: *const u8, vector: usize, to: *mut i8) {
        let _ = (nibbles, vector, to);
        unreachable!("an ISA without matrix registers")
    }
    /// For [`crate::probe`]: runs `rounds` of the fastest products of matrix registers, of bytes (`int8`) or of bf16, and returns how many
    /// multiply-adds they were. `None` if the ISA has no matrix registers.
    fn probe_matrices(self, int8: bool, rounds: usize) -> Option<usize> {
        let _ = (int8, rounds);
        None
    }

    /// For [`crate::probe`]: one step of the instructions that multiply bytes when there are many rows. Its result has no meaning.
    #[inline(always)]
    fn fastest8(self, acc: Self::I, w: Self::W8, a: Self::A8) -> Self::I {
        self.dot8(acc, w, a)
    }

    /// Sixteen half-precision numbers.
    ///
    /// # Safety
    /// 16 elements at `p` are readable.
    unsafe fn load_f16(self, p: *const u16) -> Self::V;
    /// Loads 16 outputs x 2 weights in bf16.
    ///
    /// # Safety
    /// 32 elements at `p` are readable.
    unsafe fn load_wb(self, p: *const u16) -> Self::WB;
    /// Loads two activations in bf16 for all lanes.
    ///
    /// # Safety
    /// 2 elements at `p` are readable.
    unsafe fn broadcast_ab(self, p: *const u16) -> Self::AB;
    /// `acc[o] + w[o][0]·a[0] + w[o][1]·a[1]`: fused, or (with bf16 instructions) rounded as those do.
    fn dot_bf16(self, acc: Self::V, w: Self::WB, a: Self::AB) -> Self::V;

    /// Rounds to the nearest integer, halves to even, and writes sixteen `i8`. Callers pass no values beyond the
    /// range of `i8`, which would saturate, and no NaN, which would give any value.
    ///
    /// # Safety
    /// 16 bytes at `p` are writable.
    unsafe fn store_i8(self, p: *mut i8, v: Self::V);
    /// [`store_i8`](Self::store_i8) of four vectors, 64 bytes. The lanes of the result add up to the sum of these bytes. Which bytes each lane sums
    /// differs from ISA to ISA; all sums are exact if the values are in the range of `i8`.
    ///
    /// # Safety
    /// 64 bytes at `p` are writable.
    #[inline(always)]
    unsafe fn store_i8x64(self, p: *mut i8, v: [Self::V; 4]) -> Self::V {
        let mut sum = self.splat(0.0);
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: guaranteed by the caller.
            unsafe { self.store_i8(p.add(i * LANES), v) };
            sum = self.add(sum, self.round(v));
        }
        sum
    }
    /// Rounds to bf16, halves to even, and writes sixteen elements.
    ///
    /// # Safety
    /// 16 elements at `p` are writable.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V);

    /// Lane `i` becomes `v[i ^ STEP] ± v[i]`, plus where bit `STEP` of `i` is 0, minus where it is 1; `STEP` is 1, 2, 4 or 8: one
    /// stage of a Walsh-Hadamard transform inside a vector.
    fn butterfly<const STEP: usize>(self, v: Self::V) -> Self::V;
}

/// The sign of each lane in a butterfly: -1 where bit `step` of the lane's number is 1.
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
