//! The formats that a layer's weights are stored in, and how long their panels are.

use trivec_kernels::{I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, PANEL, Q4_0_BLOCK_BYTES};

/// How the weights of the linear layers are stored. Packed files' metadata and the command line name a format by its [`name`](Self::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// 32-bit floats, as trained: the reference.
    F32,
    /// 16-bit floats (5 bits of exponent), widened to f32 before they are multiplied.
    F16,
    /// bfloat16; activations are rounded to bfloat16 too, and the products are summed in f32.
    Bf16,
    /// Bytes with a scale for every output; activations are rounded to bytes with a scale for every token.
    Int8,
    /// 4 bits on a grid for every 32 weights and a scale for every output, or a checkpoint's own q4_0 blocks; activations are rounded to
    /// bytes.
    Int4,
}

/// The facts about one format. [`ROWS`] has one for each, in the order of the enum.
struct Row {
    format: WeightFormat,
    name: &'static str,
    bits: usize,
    /// See [`WeightFormat::activations`].
    activations: WeightFormat,
    /// See [`WeightFormat::element`].
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
            // `row` finds a format's row by the format's discriminant.
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

    /// The format called `name`, if there is one.
    pub fn by_name(name: &str) -> Option<WeightFormat> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Bits of one weight, without scales and grids.
    pub fn bits(self) -> usize {
        self.row().bits
    }

    /// The format in which activations take part in products with such weights: f32, bf16 or int8.
    pub fn activations(self) -> WeightFormat {
        self.row().activations
    }

    /// Whether the products are integer products, for which activations are rounded to bytes.
    pub fn is_int(self) -> bool {
        self.activations() == WeightFormat::Int8
    }

    /// The safetensors dtype of a panel's elements, and the bytes of one element.
    pub(crate) fn element(self) -> (&'static str, usize) {
        self.row().element
    }

    /// Bytes that a product reads for each weight, with int4's grids and without the scales of outputs. (A checkpoint's own q4_0 blocks,
    /// which hold their scales, take a little more than this value for int4.)
    pub fn bytes_per_weight(self) -> f64 {
        match self {
            WeightFormat::F32 => 4.0,
            WeightFormat::F16 | WeightFormat::Bf16 => 2.0,
            WeightFormat::Int8 => 1.0,
            WeightFormat::Int4 => I4_GROUP_BYTES as f64 / (PANEL * I4_GROUP) as f64,
        }
    }
}

/// The shape of a layer's panels in a packed file: `[panels, elements of a panel]`. Elements are floats for the float formats and bytes for
/// int8 and int4. `blocks` says that int4 weights are the checkpoint's own q4_0 blocks.
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
