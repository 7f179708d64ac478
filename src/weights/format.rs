//! The formats that weights are stored in, and how long their panels are.

use trivec_kernels::{I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, PANEL, Q4_0_BLOCK_BYTES};

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

/// What is said of a format: one row each, in the order of the formats.
struct Row {
    format: WeightFormat,
    name: &'static str,
    bits: usize,
    /// See [`WeightFormat::activations`].
    activations: WeightFormat,
    /// How a file spells the type of a panel's elements, and their bytes.
    element: (&'static str, usize),
}

const ROWS: &[Row; 5] = {
    use WeightFormat::{Bf16, F16, F32, Int4, Int8};
    &[
        Row { format: F32, name: "f32", bits: 32, activations: F32, element: ("F32", 4) },
        Row { format: F16, name: "f16", bits: 16, activations: F32, element: ("F16", 2) },
        Row { format: Bf16, name: "bf16", bits: 16, activations: Bf16, element: ("BF16", 2) },
        Row { format: Int8, name: "int8", bits: 8, activations: Int8, element: ("U8", 1) },
        Row { format: Int4, name: "int4", bits: 4, activations: Int8, element: ("U8", 1) },
    ]
};

impl WeightFormat {
    /// All formats.
    pub const ALL: [WeightFormat; ROWS.len()] = {
        let mut all = [WeightFormat::F32; ROWS.len()];
        let mut index = 0;
        while index < all.len() {
            // A format's row is found by its place.
            assert!(ROWS[index].format as usize == index, "rows in the order of the formats");
            all[index] = ROWS[index].format;
            index += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The name users write.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The format of that name.
    pub fn by_name(name: &str) -> Option<WeightFormat> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Bits of a weight, without scales and grids.
    pub fn bits(self) -> usize {
        self.row().bits
    }

    /// The format in which activations take part in products with such weights: f32, bf16 or int8.
    pub fn activations(self) -> WeightFormat {
        self.row().activations
    }

    /// Whether products are those of integers: activations are rounded to bytes.
    pub fn is_int(self) -> bool {
        self.activations() == WeightFormat::Int8
    }

    /// How a file spells the type of a panel's elements, and their bytes.
    pub(crate) fn element(self) -> (&'static str, usize) {
        self.row().element
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
        WeightFormat::Int4 if blocks => inputs.div_ceil(I4_BLOCK) * Q4_0_BLOCK_BYTES,
        WeightFormat::Int4 => inputs.div_ceil(I4_GROUP) * I4_GROUP_BYTES,
    };
    [outputs.div_ceil(PANEL), panel]
}
