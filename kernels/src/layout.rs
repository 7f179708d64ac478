//! How numbers lie in memory and in registers: constants and types that kernels, instruction sets and callers share. This file imports nothing.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Outputs whose weights lie together in a panel: two vectors of outputs.
pub const PANEL: usize = 32;

/// Depth of a block: 32 weights of 4 bits of one output, which share a scale (a checkpoint's own blocks, q4_0) or a grid (int4). A grid is one
/// byte: the step `m` in its low four bits, the zero point `z` in its high four; a nibble `u` stands for the integer `(u - z) · m`.
pub const I4_BLOCK: usize = 32;

/// Bytes of one panel's block of a checkpoint's own 4-bit weights (q4_0): 32 scales in f16, then 512 bytes of nibbles.
pub const Q4_0_BLOCK_BYTES: usize = PANEL * 2 + PANEL * I4_BLOCK / 2;

/// Depth of a group of int4 weights: two blocks, because the grids of two blocks of a panel's 32 outputs fill a cache line.
pub const I4_GROUP: usize = 2 * I4_BLOCK;

/// Bytes of one panel's group of int4 weights: 32 grids for each of its two blocks, then 512 bytes of nibbles for each. Seventeen cache
/// lines.
pub const I4_GROUP_BYTES: usize = PANEL * (2 + I4_GROUP / 2);

/// Bytes of one panel's group of int4 weights after it has been unpacked to int8.
pub(crate) const I4_GROUP_UNPACKED: usize = PANEL * I4_GROUP;

/// Largest depth of an integer product. A sum of that many products of a stored weight byte (at most 255) and an activation (of magnitude
/// at most 127) stays below 2^31, so an i32 accumulator cannot overflow. The kernels panic on deeper rows.
pub const MAX_INT_DEPTH: usize = 1 << 16;

/// The register tile of a product: the rows, and the vectors of outputs (in attention, of keys or of dimensions), whose sums stay in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileShape {
    /// Rows, 1 ..= 12.
    pub rows: usize,
    /// Vectors of sixteen outputs: 1 or 2, because a panel has two; in integer attention also 4.
    pub vectors: usize,
}

/// The register tile of the f32 product (`gemm::f32`), whose lanes run along the depth of `X` and of `W`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DotTile {
    /// Rows of `X`, 1 ..= 6.
    pub rows: usize,
    /// Outputs, 2 or 4.
    pub outputs: usize,
}

/// Rows of a matrix register (AMX), and outputs of the sums in one.
pub(crate) const MATRIX_TILE: usize = 16;

/// Bytes of depth that one product of matrix registers covers: a step.
pub(crate) const MATRIX_STEP: usize = 64;

/// The operands of one or two matrix registers of rows by one panel. Only AMX, of x86-64, reads them.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands {
    /// Where the rows of each of the two registers begin; the second is not read if there is only one register of rows.
    pub rows: [*const u8; 2],
    /// Bytes between rows.
    pub row_stride: usize,
    /// Where the weights begin in the panel: lines of 128 bytes, 32 outputs by 4 bytes of depth.
    pub weights: *const u8,
    /// Number of steps; each covers 64 bytes of every row and 16 lines of the weights.
    pub steps: usize,
    /// Where the prefetch begins; any address is allowed.
    pub ahead: *const u8,
    /// Cache lines to prefetch with every step, at least one.
    pub lines: usize,
}

/// The memory that matrix registers store their sums to: 32 rows by 32 outputs, integers or the bits of f32.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub [[i32; PANEL]; 2 * MATRIX_TILE]);

impl Default for Sums {
    fn default() -> Self {
        Sums([[0; PANEL]; 2 * MATRIX_TILE])
    }
}

/// How many q4_0 blocks matrix registers multiply at once.
pub(crate) const BLOCK_GROUP: usize = 4;

/// The memory that matrix registers store the sums of each of these blocks to: 16 rows by 16 outputs.
#[repr(C, align(64))]
pub(crate) struct GroupSums(pub [[i32; MATRIX_TILE * LANES]; BLOCK_GROUP]);

/// What `gemm::int8_split` has subtracted from the four activations of a quad, to multiply it separately. `quad` is the index of the quad in
/// its row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rest {
    pub quad: u32,
    pub bytes: [i8; 4],
}
