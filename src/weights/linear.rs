//! A linear layer, `y = W x + b`, in whatever form its weights are stored, read in place from the map.

use std::sync::Arc;

use trivec_kernels::{
    Finish, I4_BLOCK, I4_BLOCK_BYTES, I4_GROUP, I4_GROUP_BYTES, Kernels, MAX_INT_DEPTH, MatMut, MatRef, PANEL, Panels,
    Prepare, Rows8, Rows8Kind, rotation_for,
};

use super::checkpoint::StoredTensor;
use super::format::{WeightFormat, panel_shape};
use super::mmap::as_numbers;
use super::store::{FloatTensor, Floats, refuse_not_finite};
use crate::error::Result;

/// A linear layer's weights.
#[derive(Debug)]
enum Weight {
    /// `[outputs, inputs]`, row-major.
    F32(Floats),
    /// Panels of 16-bit numbers (`trivec_kernels`, "Matrix products").
    F16(StoredTensor),
    Bf16(StoredTensor),
    /// Panels of bytes, and `[outputs]` scales.
    Int8 {
        panels: StoredTensor,
        scales: Floats,
    },
    Int4 {
        panels: StoredTensor,
        scales: Floats,
    },
    /// Panels of a source's own 4-bit blocks.
    Blocks4(StoredTensor),
}

/// `y = W x + b`, `W` `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Floats>,
    pub outputs: usize,
    pub inputs: usize,
    input: InputForm,
}

/// The form in which a linear layer takes its input rows.
#[derive(Debug, Clone)]
pub(crate) enum InputForm {
    F32,
    Bf16 {
        /// As of `Rows8`.
        centre: Option<Arc<Vec<f32>>>,
    },
    Rows8 {
        kind: Rows8Kind,
        /// `[inputs]`: what is taken from each value first.
        centre: Option<Arc<Vec<f32>>>,
        /// `[inputs]`: what each value is multiplied by before it is rotated and rounded.
        inverse_smoothing: Option<Arc<Vec<f32>>>,
        rotation: usize,
    },
}

impl InputForm {
    /// How rows are prepared before they are rounded.
    pub(crate) fn prepare(&self) -> Prepare<'_> {
        match self {
            InputForm::Rows8 { centre, inverse_smoothing, rotation, .. } => Prepare {
                centre: centre.as_ref().map(|values| values.as_slice()),
                inverse_smoothing: inverse_smoothing.as_ref().map(|values| values.as_slice()),
                rotation: *rotation,
            },
            InputForm::Bf16 { centre } => Prepare {
                centre: centre.as_ref().map(|values| values.as_slice()),
                inverse_smoothing: None,
                rotation: 1,
            },
            InputForm::F32 => Prepare { centre: None, inverse_smoothing: None, rotation: 1 },
        }
    }
}

/// Rows in the form a linear layer takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    F32(MatRef<'a>),
    /// `[rows, depth]`, `depth` even.
    Bf16 {
        data: &'a [u16],
        depth: usize,
    },
    Rows8(Rows8<'a>),
}

impl<'a> Input<'a> {
    /// Bytes of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        match self {
            Input::F32(x) => x.cols() * size_of::<f32>(),
            Input::Bf16 { depth, .. } => depth * size_of::<u16>(),
            Input::Rows8(x) => x.depth(),
        }
    }

    pub(crate) fn rows_from(&self, first: usize, rows: usize) -> Input<'a> {
        match self {
            Input::F32(x) => Input::F32(x.rows_from(first, rows)),
            Input::Bf16 { data, depth } => Input::Bf16 { data: &data[first * depth..][..rows * depth], depth: *depth },
            Input::Rows8(x) => Input::Rows8(x.rows_from(first, rows)),
        }
    }
}

/// How a packed file's integer layers take their inputs.
#[derive(Debug, Clone)]
pub(crate) struct PackedInput {
    /// Whether the weights carry the rotation.
    pub rotated: bool,
    /// Whether int4 weights are 4-bit blocks with a scale each, and activations have one for every 32.
    pub grouped: bool,
    pub centre: Option<Arc<Vec<f32>>>,
    pub inverse_smoothing: Option<Arc<Vec<f32>>>,
}

impl Linear {
    /// Reads `weight` `[outputs, inputs]` of floats and, if there is one, `bias` `[outputs]`.
    pub(crate) fn read(
        weight: StoredTensor,
        bias: Option<StoredTensor>,
        outputs: usize,
        inputs: usize,
    ) -> Result<Linear> {
        let weight = Weight::F32(Floats::new(FloatTensor::check(weight, &[outputs, inputs])?));
        let bias = bias.map(|bias| FloatTensor::check(bias, &[outputs])).transpose()?.map(Floats::new);
        Ok(Linear { weight, bias, outputs, inputs, input: InputForm::F32 })
    }

    /// Reads panels in `format` (not f32) as a packed file holds them, with their `scales` `[outputs]` (int8 and int4).
    pub(crate) fn read_packed(
        format: WeightFormat,
        panels: StoredTensor,
        scales: Option<StoredTensor>,
        bias: Option<StoredTensor>,
        [outputs, inputs]: [usize; 2],
        input: &PackedInput,
    ) -> Result<Linear> {
        let shape = panel_shape(format, input.grouped, outputs, inputs);
        let dtype = match format {
            WeightFormat::F16 => "F16",
            WeightFormat::Bf16 => "BF16",
            _ => "U8",
        };
        if panels.entry.dtype != dtype || panels.entry.shape != shape {
            let (found, found_shape) = (&panels.entry.dtype, &panels.entry.shape);
            return Err(panels.refuse(format!("it is {found} {found_shape:?}, expected {dtype} {shape:?}")));
        }
        if !panels.bytes().as_ptr().addr().is_multiple_of(64) {
            return Err(panels.refuse("its data is not aligned to 64 bytes, as a packed file's is"));
        }
        refuse_not_finite(&panels, format, input.grouped)?;
        let is_int = matches!(format, WeightFormat::Int8 | WeightFormat::Int4);
        if is_int && inputs > MAX_INT_DEPTH {
            return Err(panels.refuse(format!("{inputs} inputs, expected at most {MAX_INT_DEPTH}")));
        }
        let bias = bias.map(|bias| FloatTensor::check(bias, &[outputs])).transpose()?.map(Floats::new);
        let rotation = if input.rotated { rotation_for(inputs) } else { 1 };
        let rows8 = |kind| InputForm::Rows8 {
            kind,
            centre: input.centre.clone(),
            inverse_smoothing: input.inverse_smoothing.clone(),
            rotation,
        };
        let (weight, form) = match format {
            WeightFormat::F32 => return Err(panels.refuse("f32 weights have no panels")),
            WeightFormat::F16 => (Weight::F16(panels), InputForm::F32),
            WeightFormat::Bf16 => (Weight::Bf16(panels), InputForm::Bf16 { centre: input.centre.clone() }),
            WeightFormat::Int4 if input.grouped => {
                // At some depths both forms of int4 have the same length, so the scales tell them apart.
                if scales.is_some() {
                    return Err(panels.refuse("it has scales for outputs, but is told to be of 4-bit blocks"));
                }
                (Weight::Blocks4(panels), rows8(Rows8Kind::Int4Grouped))
            }
            WeightFormat::Int8 | WeightFormat::Int4 => {
                let scales = scales.ok_or_else(|| panels.refuse("its scales are missing"))?;
                let scales = Floats::new(FloatTensor::check(scales, &[outputs])?);
                let weight = match format {
                    WeightFormat::Int8 => Weight::Int8 { panels, scales },
                    _ => Weight::Int4 { panels, scales },
                };
                (weight, rows8(Rows8Kind::Int8))
            }
        };
        Ok(Linear { weight, bias, outputs, inputs, input: form })
    }

    /// What the layer wants its input rows to be.
    pub(crate) fn input(&self) -> &InputForm {
        &self.input
    }

    /// How the weights are stored.
    pub(crate) fn format(&self) -> WeightFormat {
        match self.weight {
            Weight::F32(_) => WeightFormat::F32,
            Weight::F16(_) => WeightFormat::F16,
            Weight::Bf16(_) => WeightFormat::Bf16,
            Weight::Int8 { .. } => WeightFormat::Int8,
            Weight::Int4 { .. } | Weight::Blocks4(_) => WeightFormat::Int4,
        }
    }

    /// Bytes that the layer streams for a weight.
    pub(crate) fn bytes_per_weight(&self) -> f64 {
        match self.weight {
            Weight::Blocks4(_) => I4_BLOCK_BYTES as f64 / (PANEL * I4_BLOCK) as f64,
            _ => self.format().bytes_per_weight(),
        }
    }

    /// The f32 weights `[outputs, inputs]`; none of another format.
    pub(crate) fn weight(&self) -> MatRef<'_> {
        match &self.weight {
            Weight::F32(values) => MatRef::new(values.as_slice(), self.outputs, self.inputs, self.inputs),
            _ => MatRef::new(&[], 0, self.inputs, self.inputs),
        }
    }

    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(Floats::as_slice)
    }

    /// `out = x Wᵀ + b`, or its GELU, for outputs `first ..`, as many as `out` has columns. `first` begins a panel.
    pub(crate) fn product(&self, kernels: &Kernels, x: Input<'_>, first: usize, gelu: bool, mut out: MatMut<'_>) {
        let outputs = out.cols();
        let bias = self.bias().map(|bias| &bias[first..first + outputs]);
        match (&self.weight, x) {
            (Weight::F32(_), Input::F32(x)) => {
                kernels.linear(x, self.weight().rows_from(first, outputs), bias, out.reborrow());
            }
            (Weight::F16(panels), Input::F32(x)) => {
                let data = as_numbers::<u16>(panels.bytes()).unwrap_or_default();
                let panels = Panels::new(data, self.outputs, self.inputs * PANEL);
                kernels.linear_f16(
                    x,
                    panels.outputs_from(first, outputs),
                    Finish { bias, ..Finish::default() },
                    out.reborrow(),
                );
            }
            (Weight::Bf16(panels), Input::Bf16 { data: x, depth }) => {
                let data = as_numbers::<u16>(panels.bytes()).unwrap_or_default();
                let panels = Panels::new(data, self.outputs, depth * PANEL);
                kernels.linear_bf16(
                    x,
                    depth,
                    panels.outputs_from(first, outputs),
                    Finish { bias, ..Finish::default() },
                    out.reborrow(),
                );
            }
            (Weight::Int8 { panels, scales }, Input::Rows8(x)) => {
                let panels = Panels::new(panels.bytes(), self.outputs, x.depth() * PANEL);
                let scales = scales.as_slice();
                let finish = Finish { scales: Some(&scales[first..first + outputs]), bias, gelu };
                return kernels.linear_i8(x, panels.outputs_from(first, outputs), finish, out);
            }
            (Weight::Int4 { panels, scales }, Input::Rows8(x)) => {
                let panels = Panels::new(panels.bytes(), self.outputs, x.depth().div_ceil(I4_GROUP) * I4_GROUP_BYTES);
                let scales = scales.as_slice();
                let finish = Finish { scales: Some(&scales[first..first + outputs]), bias, gelu };
                return kernels.linear_i4(x, panels.outputs_from(first, outputs), finish, out);
            }
            (Weight::Blocks4(panels), Input::Rows8(x)) => {
                let panels = Panels::new(panels.bytes(), self.outputs, x.depth() / I4_BLOCK * I4_BLOCK_BYTES);
                let finish = Finish { scales: None, bias, gelu };
                return kernels.linear_blocks4(x, panels.outputs_from(first, outputs), finish, out);
            }
            // The workspace makes inputs in the form that `input` names.
            (_, x) => debug_assert!(false, "an input of the wrong form: {x:?}"),
        }
        if gelu {
            // The integer products apply GELU in registers, by a polynomial whose error is below that of their rounding.
            (0..out.rows()).for_each(|row| kernels.gelu(out.row_mut(row)));
        }
    }

    /// The source's 4-bit blocks, if the weights are stored so: `[outputs, inputs/32]` blocks of 18 bytes.
    pub(crate) fn q4_bytes(&self) -> Option<&[u8]> {
        match &self.weight {
            Weight::F32(values) => values.q4_bytes(),
            _ => None,
        }
    }

    pub(crate) fn parameters(&self) -> usize {
        self.outputs * self.inputs + self.bias().map_or(0, <[f32]>::len)
    }
}
