//! A linear layer, `y = W x + b`, whose weights are read in place from the mapped file where their format allows it.

use std::sync::Arc;

use trivec_kernels::{I4_BLOCK, MAX_INT_DEPTH, MatRef, PANEL, Prepare, Q4_0_BLOCK_BYTES, Rows8Kind, rotation_for};

use super::checkpoint::StoredTensor;
use super::format::{WeightFormat, panel_shape};
use super::mmap::InPlace;
use super::store::{FloatTensor, Floats, refuse_not_finite};
use crate::error::Result;

/// A linear layer's weights as they are stored.
#[derive(Debug)]
enum Weight {
    F32(Floats),
    F16(InPlace<u16>),
    Bf16(InPlace<u16>),
    Int8 { panels: StoredTensor, scales: Floats },
    Int4 { panels: StoredTensor, scales: Floats },
    Q4_0(StoredTensor),
}

/// A linear layer's weights as a product reads them. `trivec_kernels` describes the layout of the panels (`kernels/src/gemm/mod.rs`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum WeightsRef<'a> {
    /// `[outputs, inputs]`, row-major.
    F32(MatRef<'a>),
    /// Panels of 16-bit floats, as their bits.
    F16(&'a [u16]),
    Bf16(&'a [u16]),
    /// Panels of bytes, and `[outputs]` scales.
    Int8 {
        panels: &'a [u8],
        scales: &'a [f32],
    },
    /// Panels of 4-bit weights with their grids, and `[outputs]` scales.
    Int4 {
        panels: &'a [u8],
        scales: &'a [f32],
    },
    /// Panels of a checkpoint's own q4_0 blocks, which hold their scales.
    Q4_0(&'a [u8]),
}

/// A linear layer `y = W x + b` of a head, `W` `[outputs, inputs]`. The weights of heads are floats in every model, packed ones included.
#[derive(Debug)]
pub(crate) struct FloatLinear {
    weight: Floats,
    bias: Option<Floats>,
    pub outputs: usize,
    pub inputs: usize,
}

impl FloatLinear {
    /// Reads `weight` `[outputs, inputs]` and, if there is one, `bias` `[outputs]`.
    pub(crate) fn read(
        weight: StoredTensor,
        bias: Option<StoredTensor>,
        outputs: usize,
        inputs: usize,
    ) -> Result<FloatLinear> {
        let weight = Floats::new(FloatTensor::check(weight, &[outputs, inputs])?);
        let bias = bias.map(|bias| FloatTensor::check(bias, &[outputs])).transpose()?.map(Floats::new);
        Ok(FloatLinear { weight, bias, outputs, inputs })
    }

    /// `[outputs, inputs]`
    pub(crate) fn weight(&self) -> MatRef<'_> {
        MatRef::new(self.weight.as_slice(), self.outputs, self.inputs, self.inputs)
    }

    /// `[outputs]`
    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(Floats::as_slice)
    }

    pub(crate) fn parameters(&self) -> usize {
        self.outputs * self.inputs + self.bias().map_or(0, <[f32]>::len)
    }
}

/// A linear layer `y = W x + b` of the encoder, `W` `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Floats>,
    pub outputs: usize,
    pub inputs: usize,
    input: InputForm,
}

/// The form to which a linear layer's input rows are converted before they are multiplied.
#[derive(Debug, Clone)]
pub(crate) enum InputForm {
    /// The f32 states themselves.
    F32,
    /// Rounded to bfloat16.
    Bf16 {
        /// `[inputs]`: what is subtracted from each value before it is rounded.
        centre: Option<Arc<Vec<f32>>>,
    },
    /// Rounded to bytes with scales.
    Rows8 {
        kind: Rows8Kind,
        /// `[inputs]`: what is subtracted from each value first.
        centre: Option<Arc<Vec<f32>>>,
        /// `[inputs]`: what each value is multiplied by next, before it is rotated and rounded.
        inverse_smoothing: Option<Arc<Vec<f32>>>,
        /// Length of the blocks that are rotated; 1 for no rotation.
        rotation: usize,
    },
}

impl InputForm {
    /// The steps that prepare a row before it is rounded.
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

/// How the inputs of a packed file's linear layers at one site are prepared and rounded.
#[derive(Debug, Clone)]
pub(crate) struct PackedInput {
    /// Whether the weights were rotated when they were packed, so that the inputs must be rotated too.
    pub rotated: bool,
    /// Whether int4 weights are the checkpoint's own q4_0 blocks; then activations get a scale for every 32 values instead of one a row.
    pub q4_0: bool,
    /// `[inputs]`, as in [`InputForm::Rows8`].
    pub centre: Option<Arc<Vec<f32>>>,
    /// `[inputs]`, as in [`InputForm::Rows8`].
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
        let FloatLinear { weight, bias, outputs, inputs } = FloatLinear::read(weight, bias, outputs, inputs)?;
        Ok(Linear { weight: Weight::F32(weight), bias, outputs, inputs, input: InputForm::F32 })
    }

    /// Reads panels in `format` (not f32) from a packed file, with their `scales` `[outputs]` (int8 and int4, but not q4_0 blocks).
    pub(crate) fn read_packed(
        format: WeightFormat,
        panels: StoredTensor,
        scales: Option<StoredTensor>,
        bias: Option<StoredTensor>,
        [outputs, inputs]: [usize; 2],
        input: &PackedInput,
    ) -> Result<Linear> {
        let shape = panel_shape(format, input.q4_0, outputs, inputs);
        let (dtype, _) = format.element();
        if panels.entry.dtype != dtype || panels.entry.shape != shape {
            let (found, found_shape) = (&panels.entry.dtype, &panels.entry.shape);
            return Err(panels.refuse(format!("it is {found} {found_shape:?}, expected {dtype} {shape:?}")));
        }
        if !panels.bytes().as_ptr().addr().is_multiple_of(64) {
            return Err(panels.refuse("its data is not aligned to 64 bytes, as a packed file's is"));
        }
        refuse_not_finite(&panels, format, input.q4_0)?;
        if format.is_int() && inputs > MAX_INT_DEPTH {
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
        let halves = || panels.in_place::<u16>().ok_or_else(|| panels.refuse("its data are no whole 16-bit numbers"));
        let (weight, form) = match format {
            WeightFormat::F32 => return Err(panels.refuse("f32 weights have no panels")),
            WeightFormat::F16 => (Weight::F16(halves()?), InputForm::F32),
            WeightFormat::Bf16 => (Weight::Bf16(halves()?), InputForm::Bf16 { centre: input.centre.clone() }),
            WeightFormat::Int4 if input.q4_0 => {
                // With some numbers of inputs both forms of int4 panels have the same length, so only the scales tell them apart.
                if scales.is_some() {
                    return Err(panels.refuse("it has scales for outputs, but is told to be of 4-bit blocks"));
                }
                (Weight::Q4_0(panels), rows8(Rows8Kind::Q4_0))
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

    /// The form to which the layer's input rows are converted.
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
            Weight::Int4 { .. } | Weight::Q4_0(_) => WeightFormat::Int4,
        }
    }

    /// Bytes that a product reads for each weight of the layer, without the scales of its outputs.
    pub(crate) fn bytes_per_weight(&self) -> f64 {
        match self.weight {
            Weight::Q4_0(_) => Q4_0_BLOCK_BYTES as f64 / (PANEL * I4_BLOCK) as f64,
            _ => self.format().bytes_per_weight(),
        }
    }

    /// The weights, as a product reads them.
    pub(crate) fn weights(&self) -> WeightsRef<'_> {
        match &self.weight {
            Weight::F32(values) => {
                WeightsRef::F32(MatRef::new(values.as_slice(), self.outputs, self.inputs, self.inputs))
            }
            Weight::F16(numbers) => WeightsRef::F16(numbers.as_slice()),
            Weight::Bf16(numbers) => WeightsRef::Bf16(numbers.as_slice()),
            Weight::Int8 { panels, scales } => WeightsRef::Int8 { panels: panels.bytes(), scales: scales.as_slice() },
            Weight::Int4 { panels, scales } => WeightsRef::Int4 { panels: panels.bytes(), scales: scales.as_slice() },
            Weight::Q4_0(panels) => WeightsRef::Q4_0(panels.bytes()),
        }
    }

    /// The weights `[outputs, inputs]`, if they are f32.
    pub(crate) fn floats(&self) -> Option<MatRef<'_>> {
        match self.weights() {
            WeightsRef::F32(weight) => Some(weight),
            _ => None,
        }
    }

    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(Floats::as_slice)
    }

    /// If the weights are f32 that were widened from a checkpoint's own q4_0 blocks, those blocks: `[outputs, inputs/32]` of 18 bytes each.
    /// `None` for all other weights, also for panels of such blocks.
    pub(crate) fn q4_0_bytes(&self) -> Option<&[u8]> {
        match &self.weight {
            Weight::F32(values) => values.q4_0_bytes(),
            _ => None,
        }
    }

    pub(crate) fn parameters(&self) -> usize {
        self.outputs * self.inputs + self.bias().map_or(0, <[f32]>::len)
    }
}
