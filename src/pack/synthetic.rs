//! A model of BGE-M3's shape, or of one of its layers, with deterministic random weights: for measuring speed and memory where the real
//! weights are not needed.
//!
//! Weights are roughly normal with a standard deviation of 0.03; biases are 0 and the gains of layer norms 1. Every row is a function of its
//! tensor's name and the row's number, so no matrix has to be stored, and the packed file and the exported checkpoint agree.

use std::io::Write;
use std::path::Path;

use trivec_kernels::Kernels;

use super::file::{Fill, PackedWriter};
use super::layout::{Layer, RowSource, add_table};
use crate::config::{DensePipeline, ModelConfig, ModelKind, Prompts, ScoreActivation};
use crate::error::{Error, Result};
use crate::parallel::Team;
use crate::weights::WeightFormat;
use crate::weights::packed::{FORMAT_VERSION, MetaModel, MetaParts, keys};

/// What a packed synthetic model says it was packed from.
pub const SOURCE: &str = "synthetic bge-m3";

/// BGE-M3's sizes.
pub(crate) fn bge_m3() -> ModelConfig {
    ModelConfig {
        kind: ModelKind::Embedder,
        layers: 24,
        hidden: 1024,
        heads: 16,
        ffn: 4096,
        vocabulary: 250_002,
        positions: 8194,
        token_types: 1,
        layer_norm_eps: 1e-5,
        pad_id: 1,
        activation: ScoreActivation::Sigmoid,
    }
}

/// One layer of BGE-M3's shape with a small vocabulary and few positions, to time the layer alone.
fn one_layer() -> ModelConfig {
    ModelConfig { layers: 1, vocabulary: 1000, positions: 514, ..bge_m3() }
}

/// A random matrix. Its name is the seed of its values.
struct RandomRows {
    name: String,
    shape: [usize; 2],
    bias: Option<Vec<f32>>,
}

/// The FNV-1a hash of a text.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl RowSource for RandomRows {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        // xorshift64*, seeded by the tensor and the row; a value is the sum of four uniform 16-bit numbers.
        let mut state = (hash(&self.name) ^ (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
        for value in out {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
            let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
            // The sum's mean is 2 · 65,535, its standard deviation 65,536 / √3.
            *value = (sum as f32 - 131_070.0) * (0.03 / 37_837.2);
        }
    }

    fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }
}

/// The matrices of a model, under a checkpoint's names. Layers and heads have a bias, tables have none.
struct Matrices {
    tables: Vec<RandomRows>,
    layers: Vec<RandomRows>,
    heads: Vec<RandomRows>,
    /// Names of the layer norms.
    norms: Vec<String>,
}

/// The matrices and layer norms of a model of these sizes.
fn matrices(config: &ModelConfig) -> Matrices {
    let hidden = config.hidden;
    let table = |part: &str, rows: usize| RandomRows {
        name: format!("embeddings.{part}_embeddings"),
        shape: [rows, hidden],
        bias: None,
    };
    let layer = |name: String, outputs: usize, inputs: usize| RandomRows {
        name,
        shape: [outputs, inputs],
        bias: Some(vec![0.0; outputs]),
    };
    let mut layers = Vec::new();
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for index in 0..config.layers {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            layers.push(layer(name(part), hidden, hidden));
        }
        layers.push(layer(name("intermediate.dense"), config.ffn, hidden));
        layers.push(layer(name("output.dense"), hidden, config.ffn));
        norms.push(name("attention.output.LayerNorm"));
        norms.push(name("output.LayerNorm"));
    }
    Matrices {
        tables: vec![
            table("token_type", config.token_types),
            table("position", config.positions),
            table("word", config.vocabulary),
        ],
        layers,
        heads: vec![layer("sparse_linear".into(), 1, hidden), layer("colbert_linear".into(), hidden, hidden)],
        norms,
    }
}

/// Writes the model as a packed file; `path` only names it in errors. Returns the file's length.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if `out` refuses.
pub fn write_packed(format: WeightFormat, team: &Team, path: &Path, out: &mut dyn Write) -> Result<u64> {
    write_packed_as(&bge_m3(), format, team, path, out)
}

/// A packed model of one layer of BGE-M3's shape, for `benches/`.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if no thread can be started.
pub fn packed_layer(format: WeightFormat) -> Result<Vec<u8>> {
    let path = Path::new("one layer");
    let team = Team::new(Some(1)).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    write_packed_as(&one_layer(), format, &team, path, &mut bytes)?;
    Ok(bytes)
}

/// Writes a packed file of a random model of these sizes.
fn write_packed_as(
    config: &ModelConfig,
    format: WeightFormat,
    team: &Team,
    path: &Path,
    out: &mut dyn Write,
) -> Result<u64> {
    let all = matrices(config);
    let is_int = format.is_int();
    let mut writer = PackedWriter::new();
    let meta = MetaModel::of(&MetaParts {
        config: config.clone(),
        pipeline: DensePipeline::of_bge_m3(),
        max_length: config.max_tokens(),
        prompts: Prompts::default(),
        similarity: None,
    });
    let meta = serde_json::to_string(&meta).map_err(|e| Error::Option { option: "synthetic", what: e.to_string() })?;
    for (key, value) in [
        (keys::VERSION, FORMAT_VERSION),
        (keys::WEIGHTS, format.name()),
        (keys::ROTATED, if is_int { "true" } else { "false" }),
        (keys::LAYERS_IN_Q4_0, "false"),
        (keys::CALIBRATION, "none"),
        (keys::SOURCE, SOURCE),
        (keys::MODEL, &meta),
    ] {
        writer.meta(key, value.to_owned());
    }
    add_norms(&mut writer, &all.norms, config.hidden);
    for rows in &all.layers {
        as_layer(rows).add(&mut writer, format);
    }
    add_plain(&mut writer, &all.heads);
    let half = match format {
        WeightFormat::F32 | WeightFormat::Bf16 => format,
        _ => WeightFormat::F16,
    };
    for table in &all.tables {
        let words = table.name.contains("word");
        let format = if !words {
            half
        } else if format == WeightFormat::Int4 {
            WeightFormat::Int8
        } else {
            format
        };
        add_table(&mut writer, &table.name, table, format);
    }
    writer.write(team, path, out, 0, &|_, _| ())
}

/// Writes the model's f32 weights as a checkpoint's `model.safetensors`; `path` only names it in errors. Returns the file's length.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if `out` refuses.
pub fn write_checkpoint(team: &Team, path: &Path, out: &mut dyn Write) -> Result<u64> {
    let config = bge_m3();
    let all = matrices(&config);
    let mut writer = PackedWriter::new();
    writer.meta("format", "pt".to_owned());
    add_norms(&mut writer, &all.norms, config.hidden);
    add_plain(&mut writer, &all.layers);
    add_plain(&mut writer, &all.heads);
    for table in &all.tables {
        add_table(&mut writer, &table.name, table, WeightFormat::F32);
    }
    writer.write(team, path, out, 0, &|_, _| ())
}

/// The checkpoint's `config.json`.
pub fn config_json() -> String {
    let config = bge_m3();
    let json = serde_json::json!({
        "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "num_hidden_layers": config.layers,
        "hidden_size": config.hidden, "num_attention_heads": config.heads, "intermediate_size": config.ffn,
        "vocab_size": config.vocabulary, "max_position_embeddings": config.positions,
        "type_vocab_size": config.token_types, "layer_norm_eps": 1e-5, "pad_token_id": config.pad_id,
        "bos_token_id": 0, "eos_token_id": 2, "hidden_act": "gelu", "position_embedding_type": "absolute"
    });
    format!("{json:#}\n")
}

/// Adds layer norms with gains of 1 and biases of 0.
fn add_norms(writer: &mut PackedWriter<'_>, names: &[String], hidden: usize) {
    for name in names {
        for (part, value) in [("weight", 1.0f32), ("bias", 0.0)] {
            let fill: Fill<'_> = Box::new(move || Ok(value.to_le_bytes().repeat(hidden)));
            writer.add(format!("{name}.{part}"), "F32", vec![hidden], hidden * 4, fill);
        }
    }
}

/// Wraps random rows as a layer that is packed without calibration: no centre, no smoothing, and each weight rounded by itself.
fn as_layer(rows: &RandomRows) -> Layer<'_, RandomRows> {
    Layer {
        kernels: Kernels::best(),
        name: rows.name.clone(),
        rows,
        centre: None,
        factors: None,
        rounding: None,
        q4_0: false,
    }
}

/// Adds matrices with their biases in f32.
fn add_plain<'a>(writer: &mut PackedWriter<'a>, all: &'a [RandomRows]) {
    for rows in all {
        as_layer(rows).add(writer, WeightFormat::F32);
    }
}
