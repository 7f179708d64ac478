//! How numbers lie in memory and in registers: the words that kernels, instruction sets and callers share. This file imports nothing.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Outputs of a panel: two vectors.
pub const PANEL: usize = 32;

/// Depth of a block of 4-bit weights that share a scale (a checkpoint's own blocks, q4_0) or a grid (int4). A grid is one byte: the step `m`
/// in its low four bits, the zero point `z` in its high four; a nibble `u` stands for the integer `(u - z) · m`.
pub const I4_BLOCK: usize = 32;

/// Bytes of one panel's block of a checkpoint's own 4-bit weights (q4_0): 32 scales in f16, then 512 bytes of nibbles.
pub const Q4_0_BLOCK_BYTES: usize = PANEL * 2 + PANEL * I4_BLOCK / 2;

/// Depth of a group of int4 weights: two blocks, because one panel's grids of two blocks fill a cache line.
pub const I4_GROUP: usize = 2 * I4_BLOCK;

/// Bytes of one panel's group of int4 weights: 32 grids for each of its two blocks, then 512 bytes of nibbles for each. Seventeen cache
/// lines.
pub const I4_GROUP_BYTES: usize = PANEL * (2 + I4_GROUP / 2);

/// Bytes of the int8 weights that a group of int4 weights of one panel is unpacked to.
pub(crate) const I4_GROUP_UNPACKED: usize = PANEL * I4_GROUP;

/// Largest depth of an integer product. A sum of so many products of a stored weight byte (at most 255) and an activation (of magnitude at
/// most 127) stays below 2^31, so an i32 accumulator cannot overflow. The kernels panic on deeper rows.
pub const MAX_INT_DEPTH: usize = 1 << 16;

/// The register tile of a product: so many rows by so many vectors of outputs (or keys, or dimensions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileShape {
    /// 1 ..= 12.
    pub rows: usize,
    /// Of weights in panels: one of a panel's two, or both.
    pub vectors: usize,
}

/// The register tile of the product whose both sides run along the depth: so many rows of `X` by so many outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DotTile {
    /// 1 ..= 6.
    pub rows: usize,
    /// 2 or 4.
    pub outputs: usize,
}

/// Rows of a matrix register, and outputs of one.
pub(crate) const MATRIX_TILE: usize = 16;

/// Bytes of a row that one product of matrix registers takes: a step of the depth.
pub(crate) const MATRIX_STEP: usize = 64;

/// The operands of a block of sums in matrix registers. Only AMX, of x86-64, reads them.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands {
    /// The first row of each register of rows; the second is not read if there is but one.
    pub rows: [*const u8; 2],
    /// Bytes between rows.
    pub row_stride: usize,
    /// The panel from here on: lines of 128 bytes, 32 outputs by 4 bytes of depth.
    pub weights: *const u8,
    /// Steps of 64 bytes of a row and 16 lines.
    pub steps: usize,
    /// Where to prefetch: any address is allowed.
    pub ahead: *const u8,
    /// Cache lines to prefetch with every step, at least one.
    pub lines: usize,
}

/// Sums of 32 rows by 32 outputs in matrix registers: integers, or the bits of f32.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub [[i32; PANEL]; 2 * MATRIX_TILE]);

impl Default for Sums {
    fn default() -> Self {
        Sums([[0; PANEL]; 2 * MATRIX_TILE])
    }
}

/// Blocks of 4-bit weights whose products matrix registers compute at once.
pub(crate) const BLOCK_GROUP: usize = 4;

/// Sums of each block of a group: 16 rows by 16 outputs.
#[repr(C, align(64))]
pub(crate) struct GroupSums(pub [[i32; MATRIX_TILE * LANES]; BLOCK_GROUP]);

/// What `gemm::int8_split` has taken from the four activations of a quad, the `quad`-th of its row, to multiply it apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rest {
    pub quad: u32,
    pub bytes: [i8; 4],
}
