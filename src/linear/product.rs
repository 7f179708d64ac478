//! The product of a linear layer's weights with input rows that have been converted to the form that these weights need.

use trivec_kernels::{Epilogue, I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, Kernels, PANEL, Panels, Q4_0_BLOCK_BYTES, Rows8};

use crate::tensor::{MatMut, MatRef};
use crate::weights::{FloatLinear, Linear, WeightsRef};

/// The two operands of a product: input rows `x`, `[rows, inputs]`, and the weights. Each variant pairs a form of weights with the form of
/// rows that it needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operands<'a> {
    F32 {
        x: MatRef<'a>,
        weight: MatRef<'a>,
    },
    F16 {
        x: MatRef<'a>,
        panels: &'a [u16],
    },
    /// `x` is `[rows, depth]`: `depth` is `inputs` rounded up to an even number.
    Bf16 {
        x: &'a [u16],
        depth: usize,
        panels: &'a [u16],
    },
    Int8 {
        x: Rows8<'a>,
        panels: &'a [u8],
        scales: &'a [f32],
    },
    Int4 {
        x: Rows8<'a>,
        panels: &'a [u8],
        scales: &'a [f32],
    },
    Q4_0 {
        x: Rows8<'a>,
        panels: &'a [u8],
    },
}

/// A product `x Wᵀ + b` that is still to be computed, by rows and outputs in any order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product<'a> {
    operands: Operands<'a>,
    bias: Option<&'a [f32]>,
    outputs: usize,
}

impl<'a> Product<'a> {
    /// The product of `linear`; `with` adds the rows to the layer's weights.
    pub(super) fn new(linear: &'a Linear, with: impl FnOnce(WeightsRef<'a>) -> Operands<'a>) -> Product<'a> {
        Product { operands: with(linear.weights()), bias: linear.bias(), outputs: linear.outputs }
    }

    /// The product of a head's linear layer with rows `x`, `[rows, inputs]`.
    pub(crate) fn of_head(linear: &'a FloatLinear, x: MatRef<'a>) -> Product<'a> {
        let operands = Operands::F32 { x, weight: linear.weight() };
        Product { operands, bias: linear.bias(), outputs: linear.outputs }
    }

    /// The part of the product for the rows `first .. first + rows`.
    pub(crate) fn rows_from(&self, first: usize, rows: usize) -> Product<'a> {
        let mut part = *self;
        match &mut part.operands {
            Operands::F32 { x, .. } | Operands::F16 { x, .. } => *x = x.rows_from(first, rows),
            Operands::Bf16 { x, depth, .. } => *x = &x[first * *depth..][..rows * *depth],
            Operands::Int8 { x, .. } | Operands::Int4 { x, .. } | Operands::Q4_0 { x, .. } => {
                *x = x.rows_from(first, rows);
            }
        }
        part
    }

    /// Bytes of the values of one row of `x`, without scales.
    pub(super) fn row_bytes(&self) -> usize {
        match &self.operands {
            Operands::F32 { x, .. } | Operands::F16 { x, .. } => x.cols() * size_of::<f32>(),
            Operands::Bf16 { depth, .. } => depth * size_of::<u16>(),
            Operands::Int8 { x, .. } | Operands::Int4 { x, .. } | Operands::Q4_0 { x, .. } => x.depth(),
        }
    }

    /// Computes the outputs `first .. first + out.cols()` of all rows into `out`, with `gelu` their GELU. `first` must be the first output
    /// of a panel.
    pub(super) fn compute(&self, kernels: &Kernels, first: usize, gelu: bool, mut out: MatMut<'_>) {
        let outputs = out.cols();
        let part = |values: &'a [f32]| &values[first..first + outputs];
        let bias = self.bias.map(part);
        // The kernels of integer products apply GELU themselves while sums are in registers, by a polynomial whose error is below that of
        // their rounding. For the others it is applied below.
        match self.operands {
            Operands::F32 { x, weight } => {
                kernels.linear(x, weight.rows_from(first, outputs), bias, out.reborrow());
            }
            Operands::F16 { x, panels } => {
                let panels = Panels::new(panels, self.outputs, x.cols() * PANEL).outputs_from(first, outputs);
                kernels.linear_f16(x, panels, Epilogue { bias, ..Epilogue::default() }, out.reborrow());
            }
            Operands::Bf16 { x, depth, panels } => {
                let panels = Panels::new(panels, self.outputs, depth * PANEL).outputs_from(first, outputs);
                kernels.linear_bf16(x, depth, panels, Epilogue { bias, ..Epilogue::default() }, out.reborrow());
            }
            Operands::Int8 { x, panels, scales } => {
                let panels = Panels::new(panels, self.outputs, x.depth() * PANEL).outputs_from(first, outputs);
                return kernels.linear_i8(x, panels, Epilogue { scales: Some(part(scales)), bias, gelu }, out);
            }
            Operands::Int4 { x, panels, scales } => {
                let bytes = x.depth().div_ceil(I4_GROUP) * I4_GROUP_BYTES;
                let panels = Panels::new(panels, self.outputs, bytes).outputs_from(first, outputs);
                return kernels.linear_i4(x, panels, Epilogue { scales: Some(part(scales)), bias, gelu }, out);
            }
            Operands::Q4_0 { x, panels } => {
                let bytes = x.depth() / I4_BLOCK * Q4_0_BLOCK_BYTES;
                let panels = Panels::new(panels, self.outputs, bytes).outputs_from(first, outputs);
                return kernels.linear_q4_0(x, panels, Epilogue { scales: None, bias, gelu }, out);
            }
        }
        if gelu {
            (0..out.rows()).for_each(|row| kernels.gelu(out.row_mut(row)));
        }
    }
}
