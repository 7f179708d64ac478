//! The product of a linear layer with rows in the form that its weights take.

use trivec_kernels::{Epilogue, I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, Kernels, PANEL, Panels, Q4_0_BLOCK_BYTES, Rows8};

use crate::tensor::{MatMut, MatRef};
use crate::weights::{FloatLinear, Linear, WeightsRef};

/// Rows, `[rows, inputs]`, and the weights that are multiplied with them: only forms that fit each other.
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
    /// `x` is `[rows, depth]`, `depth` even.
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

/// `x Wᵀ + b`, to be computed in any parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product<'a> {
    operands: Operands<'a>,
    bias: Option<&'a [f32]>,
    outputs: usize,
}

impl<'a> Product<'a> {
    /// The product of a layer with the rows that `with` finds for its weights.
    pub(super) fn new(linear: &'a Linear, with: impl FnOnce(WeightsRef<'a>) -> Operands<'a>) -> Product<'a> {
        Product { operands: with(linear.weights()), bias: linear.bias(), outputs: linear.outputs }
    }

    /// The product of a head with rows `x`, `[rows, inputs]`.
    pub(crate) fn of_head(linear: &'a FloatLinear, x: MatRef<'a>) -> Product<'a> {
        let operands = Operands::F32 { x, weight: linear.weight() };
        Product { operands, bias: linear.bias(), outputs: linear.outputs }
    }

    /// Rows `first .. first + rows` of the product.
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

    /// Bytes of a row of `x`.
    pub(super) fn row_bytes(&self) -> usize {
        match &self.operands {
            Operands::F32 { x, .. } | Operands::F16 { x, .. } => x.cols() * size_of::<f32>(),
            Operands::Bf16 { depth, .. } => depth * size_of::<u16>(),
            Operands::Int8 { x, .. } | Operands::Int4 { x, .. } | Operands::Q4_0 { x, .. } => x.depth(),
        }
    }

    /// Computes outputs `first ..`, as many as `out` has columns, or their GELU. `first` begins a panel.
    pub(super) fn compute(&self, kernels: &Kernels, first: usize, gelu: bool, mut out: MatMut<'_>) {
        let outputs = out.cols();
        let part = |values: &'a [f32]| &values[first..first + outputs];
        let bias = self.bias.map(part);
        // The integer products apply GELU in registers, by a polynomial whose error is below that of their rounding.
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
