//! The tensors of a packed file, and how each is made from the checkpoint's.

use std::sync::Arc;

use half::{bf16, f16};
use trivec_kernels::{I4_BLOCK, Kernels, PANEL, Prepare, Q4_0_BLOCK_BYTES, rotation_for};

use super::file::{Fill, PackedWriter};
use super::int4::{self, Grids};
use super::moments::{Rounding, Roundings};
use super::plan::Plan;
use crate::engine::Model;
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use crate::weights::{Classifier, HeadWeights, Linear, Norm, Site, Table, WeightFormat, panel_shape};

/// Bytes of a checkpoint's own 4-bit block: an f16 scale and 32 nibbles.
const STORED_BLOCK_BYTES: usize = 18;

fn f32_bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Adds all tensors of `model`.
pub(super) fn add_tensors<'a>(
    writer: &mut PackedWriter<'a>,
    model: &'a Model,
    format: WeightFormat,
    plan: &'a Plan,
    rounding: Option<&Roundings>,
) -> Result<()> {
    let q4_0 = plan.q4_0;
    let kernels = model.kernels();
    let (encoder, heads) = (model.encoder(), model.heads());
    let weights = &encoder.weights;
    // The layers come first in the file, in the order in which a pass reads them.
    add_norm(writer, "embeddings.LayerNorm", &weights.embedding_norm);
    for (index, layer) in weights.layers.iter().enumerate() {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        add_norm(writer, &name("attention.output.LayerNorm"), &layer.attention_norm);
        add_norm(writer, &name("output.LayerNorm"), &layer.ffn_norm);
        for (part, linears, site) in [
            (
                "attention.self",
                vec![
                    ("attention.self.query", &layer.query),
                    ("attention.self.key", &layer.key),
                    ("attention.self.value", &layer.value),
                ],
                Site::Attention,
            ),
            (
                "attention.output.dense",
                vec![("attention.output.dense", &layer.attention_output)],
                Site::AttentionOutput,
            ),
            ("intermediate.dense", vec![("intermediate.dense", &layer.ffn_in)], Site::FfnIn),
            ("output.dense", vec![("output.dense", &layer.ffn_out)], Site::FfnOut),
        ] {
            let format = plan.layers[index];
            let is_int = format.is_int();
            let centre = plan.inputs.centre(index, site).filter(|_| is_int || format == WeightFormat::Bf16);
            if let Some(centre) = centre {
                add_floats(writer, format!("{}.input_centre", name(part)), vec![centre.len()], centre);
            }
            let factors = plan.inputs.at(index, site).filter(|_| is_int);
            if let Some(factors) = factors {
                let inverse = f32_bytes(factors.iter().map(|factor| 1.0 / factor));
                let fill: Fill<'a> = Box::new(move || Ok(inverse.clone()));
                let inputs = factors.len();
                writer.add(format!("{}.input_scale", name(part)), "F32", vec![inputs], inputs * 4, fill);
            }
            for (part, linear) in linears {
                let rounding = rounding.and_then(|layers| layers.get(index)).map(|sites| sites[site as usize].clone());
                let layer = Layer { kernels, name: name(part), rows: linear, centre, factors, rounding, q4_0 };
                layer.add(writer, format);
            }
        }
    }
    add_heads(writer, heads);
    if let Some(tokenizer) = model.text_tokenizer() {
        add_tokenizer(writer, tokenizer)?;
    }
    let half = match format {
        WeightFormat::F32 => WeightFormat::F32,
        WeightFormat::Bf16 => WeightFormat::Bf16,
        _ => WeightFormat::F16,
    };
    add_table(writer, "embeddings.token_type_embeddings", &weights.token_types, half);
    add_table(writer, "embeddings.position_embeddings", &weights.positions, half);
    let words = if format == WeightFormat::Int4 { WeightFormat::Int8 } else { format };
    add_table(writer, "embeddings.word_embeddings", &weights.words, words);
    if [&weights.words, &weights.positions, &weights.token_types].iter().any(|table| table.q4_0_bytes().is_some()) {
        writer.meta(crate::weights::packed::keys::Q4_0, "1".to_owned());
    }
    Ok(())
}

fn add_floats<'a>(writer: &mut PackedWriter<'a>, name: String, shape: Vec<usize>, values: &'a [f32]) {
    let fill: Fill<'a> = Box::new(move || Ok(f32_bytes(values.iter().copied())));
    writer.add(name, "F32", shape, values.len() * 4, fill);
}

fn add_norm<'a>(writer: &mut PackedWriter<'a>, name: &str, norm: &'a Norm) {
    add_floats(writer, format!("{name}.weight"), vec![norm.gain().len()], norm.gain());
    add_floats(writer, format!("{name}.bias"), vec![norm.bias().len()], norm.bias());
}

/// Adds the arrays of the compiled tokenizer.
fn add_tokenizer<'a>(writer: &mut PackedWriter<'a>, tokenizer: &'a Tokenizer) -> Result<()> {
    let parts = tokenizer.compile().map_err(|what| Error::Option { option: "model", what })?;
    let mut add = |name: &str, dtype, len: usize, bytes: usize, fill: Fill<'a>| {
        writer.add(format!("tokenizer.{name}"), dtype, vec![len], bytes, fill);
    };
    let spec = parts.spec.into_bytes();
    add("spec", "U8", spec.len(), spec.len(), Box::new(move || Ok(spec.clone())));
    for (name, values) in [("units", parts.units), ("ends", parts.ends), ("charsmap_units", parts.charsmap_units)] {
        let fill: Fill<'a> = Box::new(move || Ok(values.iter().flat_map(|x| x.to_le_bytes()).collect()));
        add(name, "U32", values.len(), values.len() * 4, fill);
    }
    for (name, bytes) in [("text", parts.text), ("charsmap_text", parts.charsmap_text)] {
        add(name, "U8", bytes.len(), bytes.len(), Box::new(move || Ok(bytes.to_vec())));
    }
    let scores = parts.scores;
    let fill: Fill<'a> = Box::new(move || Ok(scores.iter().flat_map(|x| x.to_le_bytes()).collect()));
    add("scores", "F64", scores.len(), scores.len() * 8, fill);
    Ok(())
}

/// Adds the heads in f32: they are a thousandth of the work, and their rounding error would show in every result.
fn add_heads<'a>(writer: &mut PackedWriter<'a>, heads: &'a HeadWeights) {
    let dense = heads.dense.iter().enumerate().map(|(index, linear)| (format!("dense.{index}"), linear));
    let sparse = heads.sparse.iter().map(|linear| ("sparse_linear".to_owned(), linear));
    let colbert = heads.colbert.iter().map(|linear| ("colbert_linear".to_owned(), linear));
    let classifier =
        heads.classifier.iter().flat_map(Classifier::named).map(|(name, linear)| (name.to_owned(), linear));
    for (name, linear) in dense.chain(sparse).chain(colbert).chain(classifier) {
        let fill: Fill<'a> = Box::new(move || {
            let rows = (0..linear.outputs).flat_map(|output| linear.weight().row(output));
            Ok(f32_bytes(rows.copied()))
        });
        let (outputs, inputs) = (linear.outputs, linear.inputs);
        writer.add(format!("{name}.weight"), "F32", vec![outputs, inputs], outputs * inputs * 4, fill);
        if let Some(bias) = linear.bias() {
            add_floats(writer, format!("{name}.bias"), vec![bias.len()], bias);
        }
    }
}

impl RowSource for Table {
    fn shape(&self) -> [usize; 2] {
        [self.len, self.cols()]
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        self.copy_row(row, out);
    }

    fn bias(&self) -> Option<&[f32]> {
        None
    }

    fn q4_0_bytes(&self) -> Option<&[u8]> {
        self.q4_0_bytes()
    }
}

/// Adds a table whose rows are stored in `format`; a table of 4-bit blocks is copied unchanged.
pub(super) fn add_table<'a, R: RowSource + ?Sized>(
    writer: &mut PackedWriter<'a>,
    name: &str,
    table: &'a R,
    format: WeightFormat,
) {
    let [rows, cols] = table.shape();
    if let Some(blocks) = table.q4_0_bytes() {
        let shape = vec![rows, cols / 32, STORED_BLOCK_BYTES];
        let fill: Fill<'a> = Box::new(move || Ok(blocks.to_vec()));
        writer.add(format!("{name}.weight"), "U8", shape, blocks.len(), fill);
        return;
    }
    if format == WeightFormat::Int8 {
        let scales: Fill<'a> = Box::new(move || {
            let mut row = vec![0.0; cols];
            Ok(f32_bytes((0..rows).map(|index| {
                table.row(index, &mut row);
                widest(&row) / 127.0
            })))
        });
        writer.add(format!("{name}.weight_scale"), "F32", vec![rows], rows * 4, scales);
    }
    // Rows of a table are signed bytes where panels have unsigned ones.
    let (dtype, size) = if format.is_int() { ("I8", 1) } else { format.element() };
    let full_name = format!("{name}.weight");
    let for_errors = full_name.clone();
    let fill: Fill<'a> = Box::new(move || {
        let mut row = vec![0.0; cols];
        let mut bytes = Vec::with_capacity(rows * cols * size);
        for index in 0..rows {
            table.row(index, &mut row);
            match format {
                WeightFormat::F32 => bytes.extend(row.iter().flat_map(|x| x.to_le_bytes())),
                WeightFormat::F16 => {
                    for &x in &row {
                        bytes.extend(to_f16(x, &for_errors)?.to_le_bytes());
                    }
                }
                WeightFormat::Bf16 => bytes.extend(row.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
                WeightFormat::Int8 | WeightFormat::Int4 => {
                    let inverse = inverse_scale(widest(&row));
                    bytes.extend(row.iter().map(|x| to_i8(*x, inverse) as u8));
                }
            }
        }
        Ok(bytes)
    });
    writer.add(full_name, dtype, vec![rows, cols], rows * cols * size, fill);
}

/// The largest magnitude in a row.
fn widest(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |widest, x| x.abs().max(widest))
}

/// `127 / widest`, 0 for a row of zeros.
fn inverse_scale(widest: f32) -> f32 {
    if widest > 1e-35 { 127.0 / widest } else { 0.0 }
}

fn to_i8(x: f32, inverse: f32) -> i8 {
    (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8
}

/// Rounds to f16, and refuses a value that is too large for it.
fn to_f16(x: f32, tensor: &str) -> Result<f16> {
    let half = f16::from_f32(x);
    if half.is_finite() {
        return Ok(half);
    }
    Err(Error::Option {
        option: "weights",
        what: format!("`{tensor}` has the value {x}, which f16 cannot hold: use bf16"),
    })
}

/// A matrix whose rows can be read one at a time: the weights of a layer to be packed, or a table.
pub(super) trait RowSource: Sync {
    /// `[outputs, inputs]`
    fn shape(&self) -> [usize; 2];
    /// Copies the weights of one output (or a row of a table) to `out`.
    fn row(&self, output: usize, out: &mut [f32]);
    fn bias(&self) -> Option<&[f32]>;
    /// The matrix's own 4-bit blocks, if it has any.
    fn q4_0_bytes(&self) -> Option<&[u8]> {
        None
    }
}

impl RowSource for Linear {
    fn shape(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    fn row(&self, output: usize, out: &mut [f32]) {
        // Only models of floats are packed: see `refuse_packed`.
        if let Some(weight) = self.floats() {
            out.copy_from_slice(weight.row(output));
        }
    }

    fn bias(&self) -> Option<&[f32]> {
        self.bias()
    }

    fn q4_0_bytes(&self) -> Option<&[u8]> {
        self.q4_0_bytes()
    }
}

/// A linear layer to be packed.
pub(super) struct Layer<'a, R: ?Sized> {
    pub kernels: &'static Kernels,
    pub name: String,
    pub rows: &'a R,
    /// `[inputs]`: what is subtracted from the inputs; the bias compensates for it.
    pub centre: Option<&'a [f32]>,
    /// `[inputs]`: what the weights' columns are multiplied by.
    pub factors: Option<&'a [f32]>,
    /// How int8 and int4 weights are rounded; `None` rounds each by itself.
    pub rounding: Option<Arc<Rounding>>,
    /// Whether the checkpoint's own q4_0 blocks are copied unchanged if the format is int4.
    pub q4_0: bool,
}

impl<R: ?Sized> Clone for Layer<'_, R> {
    fn clone(&self) -> Self {
        Layer { name: self.name.clone(), rounding: self.rounding.clone(), ..*self }
    }
}

impl<'a, R: RowSource + ?Sized> Layer<'a, R> {
    /// Adds the layer's bias, scales and weights to the file.
    pub(super) fn add(self, writer: &mut PackedWriter<'a>, format: WeightFormat) {
        let [outputs, inputs] = self.rows.shape();
        self.add_bias(writer);
        let weight_name = format!("{}.weight", self.name);
        if format == WeightFormat::F32 {
            let fill: Fill<'a> = Box::new(move || {
                let (mut row, mut bytes) = (vec![0.0; inputs], Vec::with_capacity(outputs * inputs * 4));
                for output in 0..outputs {
                    self.rows.row(output, &mut row);
                    bytes.extend(row.iter().flat_map(|w| w.to_le_bytes()));
                }
                Ok(bytes)
            });
            writer.add(weight_name, "F32", vec![outputs, inputs], outputs * inputs * 4, fill);
            return;
        }
        let blocks = format == WeightFormat::Int4 && self.q4_0().is_some();
        if format == WeightFormat::Int8 || (format == WeightFormat::Int4 && !blocks) {
            let layer = self.clone();
            let scale = if format == WeightFormat::Int8 { |widest| widest / 127.0 } else { int4::scale };
            let fill: Fill<'a> = Box::new(move || {
                let (mut row, mut scratch) = (vec![0.0; inputs], vec![0.0; inputs]);
                Ok(f32_bytes((0..outputs).map(|output| {
                    layer.row(output, &mut row, &mut scratch);
                    scale(widest(&row))
                })))
            });
            writer.add(format!("{}.weight_scale", self.name), "F32", vec![outputs], outputs * 4, fill);
        }
        let shape = panel_shape(format, blocks, outputs, inputs);
        // The byte that stands for the weight 0, for the padding beyond the last weights.
        let no_weights = match format {
            WeightFormat::Int8 => 128,
            WeightFormat::Int4 if !blocks => int4::NO_WEIGHTS,
            _ => 0,
        };
        let (dtype, size) = format.element();
        let fill: Fill<'a> = Box::new(move || {
            let mut bytes = vec![no_weights; shape[0] * shape[1] * size];
            let (mut row, mut scratch) = (vec![0.0; inputs], vec![0.0; inputs]);
            for output in 0..outputs {
                let panel = &mut bytes[output / PANEL * shape[1] * size..][..shape[1] * size];
                self.fill_output(format, output, panel, &mut row, &mut scratch)?;
            }
            Ok(bytes)
        });
        writer.add(weight_name, dtype, shape.to_vec(), shape[0] * shape[1] * size, fill);
    }

    /// Adds the bias `b + W c`, with `W` not yet rounded; without a centre `c`, the layer's own bias, if it has one.
    fn add_bias(&self, writer: &mut PackedWriter<'a>) {
        let [outputs, inputs] = self.rows.shape();
        let name = format!("{}.bias", self.name);
        let (Some(centre), rows) = (self.centre, self.rows) else {
            if let Some(bias) = self.rows.bias() {
                add_floats(writer, name, vec![outputs], bias);
            }
            return;
        };
        let fill: Fill<'a> = Box::new(move || {
            let mut row = vec![0.0; inputs];
            Ok(f32_bytes((0..outputs).map(|output| {
                rows.row(output, &mut row);
                let product: f64 = row.iter().zip(centre).map(|(&w, &c)| f64::from(w) * f64::from(c)).sum();
                (f64::from(rows.bias().map_or(0.0, |bias| bias[output])) + product) as f32
            })))
        });
        writer.add(name, "F32", vec![outputs], outputs * 4, fill);
    }

    /// An output's weights, smoothed and rotated: `H (w ∘ s) / rotation`.
    fn row(&self, output: usize, row: &mut [f32], scratch: &mut [f32]) {
        let prepare = Prepare { centre: None, inverse_smoothing: self.factors, rotation: rotation_for(row.len()) };
        self.rows.row(output, scratch);
        self.kernels.prepare_row(prepare, scratch, row);
        let rotation = prepare.rotation as f32;
        row.iter_mut().for_each(|w| *w /= rotation);
    }

    /// The source's 4-bit blocks, if they are to be copied unchanged.
    fn q4_0(&self) -> Option<&[u8]> {
        self.rows.q4_0_bytes().filter(|_| self.q4_0)
    }

    /// Calls `round(d, target)` for every weight of an output, as [`Rounding::each`] does. Without a rounding each weight is its own target.
    fn round_each(&self, row: &[f32], errors: &mut [f32], mut round: impl FnMut(usize, f32) -> f32) {
        match &self.rounding {
            Some(rounding) => rounding.each(self.kernels, row, errors, round),
            None => row.iter().enumerate().for_each(|(d, &w)| {
                round(d, w);
            }),
        }
    }

    /// Rounds one output's weights to `format` and writes them to their places in its panel.
    fn fill_output(
        &self,
        format: WeightFormat,
        output: usize,
        panel: &mut [u8],
        row: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<()> {
        let inputs = row.len();
        let lane = output % PANEL;
        match format {
            WeightFormat::F32 => {}
            WeightFormat::F16 => {
                self.rows.row(output, row);
                for (d, &w) in row.iter().enumerate() {
                    panel[(d * PANEL + lane) * 2..][..2].copy_from_slice(&to_f16(w, &self.name)?.to_le_bytes());
                }
            }
            WeightFormat::Bf16 => {
                self.rows.row(output, row);
                for (d, &w) in row.iter().enumerate() {
                    let at = (d / 2 * PANEL + lane) * 4 + d % 2 * 2;
                    panel[at..at + 2].copy_from_slice(&bf16::from_f32(w).to_le_bytes());
                }
            }
            WeightFormat::Int8 => {
                self.row(output, row, scratch);
                let (scale, inverse) = (widest(row) / 127.0, inverse_scale(widest(row)));
                self.round_each(row, scratch, |d, target| {
                    let w = to_i8(target, inverse);
                    panel[(d / 4 * PANEL + lane) * 4 + d % 4] = w as u8 ^ 0x80;
                    f32::from(w) * scale
                });
            }
            WeightFormat::Int4 => match self.q4_0() {
                Some(blocks) => {
                    let row_bytes = inputs / I4_BLOCK * STORED_BLOCK_BYTES;
                    let row = &blocks[output * row_bytes..][..row_bytes];
                    for (block, source) in row.chunks_exact(STORED_BLOCK_BYTES).enumerate() {
                        let to = &mut panel[block * Q4_0_BLOCK_BYTES..][..Q4_0_BLOCK_BYTES];
                        to[lane * 2..][..2].copy_from_slice(&source[..2]);
                        for (j, &pair) in source[2..].iter().enumerate() {
                            to[PANEL * 2 + (j / 4 * PANEL + lane) * 4 + j % 4] = pair;
                        }
                    }
                }
                None => {
                    self.row(output, row, scratch);
                    let grids = Grids::of(row, widest(row));
                    grids.begin(panel, lane);
                    self.round_each(row, scratch, |d, target| grids.put(panel, lane, d, target));
                }
            },
        }
        Ok(())
    }
}
