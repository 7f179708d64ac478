//! The formats that weights are stored in, and how long their panels are.

use trivec_kernels::{I4_BLOCK, I4_BLOCK_BYTES, I4_GROUP, I4_GROUP_BYTES, PANEL};

/// How weights are stored; the name in a packed file's metadata and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// 32-bit floats, as trained: the reference.
    F32,
    /// 16-bit floats (5 bits of exponent); products in f32.
    F16,
    /// bfloat16; products of bfloat16 with f32 sums.
    Bf16,
    /// Bytes with a scale for every output; activations in bytes with a scale for every token.
    Int8,
    /// 4 bits on a grid for every 32 weights and a scale for every output, or a source's own 4-bit blocks; activations in bytes.
    Int4,
}

impl WeightFormat {
    /// All formats.
    pub const ALL: [WeightFormat; 5] =
        [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4];

    /// The name users write.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::F16 => "f16",
            WeightFormat::Bf16 => "bf16",
            WeightFormat::Int8 => "int8",
            WeightFormat::Int4 => "int4",
        }
    }

    /// The format of that name.
    pub fn by_name(name: &str) -> Option<WeightFormat> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether weights are integers with scales, and activations are rounded to bytes.
    pub fn is_int(self) -> bool {
        matches!(self, WeightFormat::Int8 | WeightFormat::Int4)
    }

    /// Bytes that a layer streams for a weight, grids included (of a source's own 4-bit blocks some more).
    pub fn bytes_per_weight(self) -> f64 {
        match self {
            WeightFormat::F32 => 4.0,
            WeightFormat::F16 | WeightFormat::Bf16 => 2.0,
            WeightFormat::Int8 => 1.0,
            WeightFormat::Int4 => I4_GROUP_BYTES as f64 / (PANEL * I4_GROUP) as f64,
        }
    }
}

/// The panels' shape in a file, `[panels, bytes or elements of a panel]`, for a format; of int4, for the source's own `blocks` or not.
pub(crate) fn panel_shape(format: WeightFormat, blocks: bool, outputs: usize, inputs: usize) -> [usize; 2] {
    let panel = match format {
        WeightFormat::F32 => inputs * PANEL,
        WeightFormat::F16 => inputs * PANEL,
        WeightFormat::Bf16 => inputs.next_multiple_of(2) * PANEL,
        WeightFormat::Int8 => inputs.next_multiple_of(4) * PANEL,
        WeightFormat::Int4 if blocks => inputs.div_ceil(I4_BLOCK) * I4_BLOCK_BYTES,
        WeightFormat::Int4 => inputs.div_ceil(I4_GROUP) * I4_GROUP_BYTES,
    };
    [outputs.div_ceil(PANEL), panel]
}
