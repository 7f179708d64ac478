//! Converts rows of states to the form in which a linear layer's weights are multiplied with them.

use trivec_kernels::{Buffer, Rows8, Rows8Kind, row8_stride};

use super::product::{Operands, Product};
use crate::compute::{Compute, rows_of_a_task};
use crate::tensor::MatRef;
use crate::weights::{InputForm, Linear, WeightsRef};

/// Buffers for converted input rows, used by one linear layer after another. They grow to the largest input and keep that size.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    /// The three parts of rows rounded to bytes (`Rows8`).
    bytes: Buffer<i8>,
    scales: Buffer<f32>,
    offsets: Buffer<i32>,
    /// Rows rounded to bfloat16.
    halves: Buffer<u16>,
}

/// The block of converted rows that one task writes.
#[derive(Debug)]
pub(crate) enum InputRows<'a> {
    /// Nothing is written: the product reads the f32 states.
    F32,
    Bf16 {
        data: &'a mut [u16],
        depth: usize,
    },
    Rows8 {
        kind: Rows8Kind,
        data: &'a mut [i8],
        scales: &'a mut [f32],
        offsets: &'a mut [i32],
    },
}

impl InputRows<'_> {
    /// Converts `values` to `form` as row `row` of this block. `scratch` must be as long as `values`.
    pub(crate) fn write(
        &mut self,
        compute: Compute<'_>,
        form: &InputForm,
        row: usize,
        values: &[f32],
        scratch: &mut [f32],
    ) {
        match self {
            InputRows::F32 => {}
            InputRows::Bf16 { data, depth } => {
                let out = &mut data[row * *depth..][..*depth];
                let prepare = form.prepare();
                let values = match prepare.centre {
                    None => values,
                    Some(_) => {
                        compute.kernels.prepare_row(prepare, values, scratch);
                        &*scratch
                    }
                };
                compute.kernels.round_bf16(values, out);
                out[values.len()..].fill(0);
            }
            InputRows::Rows8 { kind, data, scales, offsets } => {
                let depth = values.len();
                let (stride, n, m) = (row8_stride(depth), kind.scales(depth), kind.offsets(depth));
                let (data, scales) = (&mut data[row * stride..][..stride], &mut scales[row * n..][..n]);
                let offsets = &mut offsets[row * m..][..m];
                compute.kernels.quantize_row(*kind, form.prepare(), values, scratch, data, scales, offsets);
            }
        }
    }
}

impl Activations {
    /// Makes room for input rows `[rows, depth]` in `form`, and returns it as blocks of `block` rows to be written.
    pub(crate) fn blocks_mut(
        &mut self,
        form: &InputForm,
        rows: usize,
        depth: usize,
        block: usize,
    ) -> Vec<InputRows<'_>> {
        let blocks = rows.div_ceil(block);
        match form {
            InputForm::F32 => (0..blocks).map(|_| InputRows::F32).collect(),
            InputForm::Bf16 { .. } => {
                let depth = depth.next_multiple_of(2);
                self.halves.grow(rows * depth);
                let data = self.halves[..rows * depth].chunks_mut(block * depth);
                data.map(|data| InputRows::Bf16 { data, depth }).collect()
            }
            &InputForm::Rows8 { kind, .. } => {
                let (stride, n, m) = (row8_stride(depth), kind.scales(depth), kind.offsets(depth));
                self.bytes.grow(rows * stride);
                self.scales.grow(rows * n);
                self.offsets.grow(rows * m);
                let data = self.bytes[..rows * stride].chunks_mut(block * stride);
                let scales = self.scales[..rows * n].chunks_mut(block * n);
                let offsets = self.offsets[..rows * m].chunks_mut(block * m);
                let parts = data.zip(scales).zip(offsets);
                parts.map(|((data, scales), offsets)| InputRows::Rows8 { kind, data, scales, offsets }).collect()
            }
        }
    }

    /// The product of `linear` with the rows that were written last, which must be `states` `[rows, depth]` in the layer's form. With f32
    /// and f16 weights it is the product with `states` themselves.
    pub(crate) fn product<'a>(&'a self, linear: &'a Linear, states: MatRef<'a>) -> Product<'a> {
        let (rows, depth) = (states.rows(), states.cols());
        let even = depth.next_multiple_of(2);
        Product::new(linear, |weights| match weights {
            WeightsRef::F32(weight) => Operands::F32 { x: states, weight },
            WeightsRef::F16(panels) => Operands::F16 { x: states, panels },
            WeightsRef::Bf16(panels) => Operands::Bf16 { x: &self.halves[..rows * even], depth: even, panels },
            WeightsRef::Int8 { panels, scales } => {
                Operands::Int8 { x: self.rows8(Rows8Kind::Int8, rows, depth), panels, scales }
            }
            WeightsRef::Int4 { panels, scales } => {
                Operands::Int4 { x: self.rows8(Rows8Kind::Int8, rows, depth), panels, scales }
            }
            WeightsRef::Q4_0(panels) => Operands::Q4_0 { x: self.rows8(Rows8Kind::Q4_0, rows, depth), panels },
        })
    }

    /// The rows that were written last, `[rows, depth]` rounded to bytes.
    fn rows8(&self, kind: Rows8Kind, rows: usize, depth: usize) -> Rows8<'_> {
        Rows8::new(
            kind,
            rows,
            depth,
            &self.bytes[..rows * row8_stride(depth)],
            &self.scales[..rows * kind.scales(depth)],
            &self.offsets[..rows * kind.offsets(depth)],
        )
    }

    /// Converts all rows of `states` to `form`, on all threads.
    pub(crate) fn fill(&mut self, compute: Compute<'_>, form: &InputForm, states: MatRef<'_>) {
        if matches!(form, InputForm::F32) {
            return;
        }
        let (rows, depth) = (states.rows(), states.cols());
        let block = rows_of_a_task(compute, rows);
        let tasks = self.blocks_mut(form, rows, depth, block).into_iter().enumerate().collect();
        compute.team.for_each(
            tasks,
            |_| vec![0.0; depth],
            |scratch, (index, mut out): (usize, InputRows<'_>)| {
                for (row, at) in (index * block..rows.min((index + 1) * block)).enumerate() {
                    out.write(compute, form, row, states.row(at), scratch);
                }
            },
        );
    }
}
