//! A random model with the outliers of a real XLM-RoBERTa: six channels of every layer norm but the last are 20 to 60 times wider than the
//! rest, and three rows of each first feed-forward product give values 15 times as large.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};

const LAYERS: usize = 12;
const HIDDEN: usize = 512;
const HEADS: usize = 8;
const FFN: usize = 2048;
const VOCABULARY: usize = 2000;
const POSITIONS: usize = 130;

/// xorshift64*, which gives the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number of at least 0 and below 1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number of the standard normal distribution, by the method of Box and Muller.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (self.uniform() + 1e-7).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Writes the model's `config.json` and `model.safetensors` to `directory`.
pub fn write(directory: &Path, seed: u64) {
    let config = serde_json::json!({
        "model_type": "xlm-roberta", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
        "intermediate_size": FFN, "vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "pad_token_id": 1
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    let mut add = |name: String, shape: Vec<usize>, values: Vec<f32>| {
        tensors.insert(name, (shape, values));
    };
    let normal = |random: &mut Random, n: usize, deviation: f32| -> Vec<f32> {
        (0..n).map(|_| random.normal() * deviation).collect()
    };
    for (name, rows) in [("word", VOCABULARY), ("position", POSITIONS), ("token_type", 1)] {
        let name = format!("embeddings.{name}_embeddings.weight");
        add(name, vec![rows, HIDDEN], normal(&mut random, rows * HIDDEN, 0.05));
    }
    // The same channels are wide in every layer, as in trained models.
    let wide: Vec<usize> = (0..6).map(|_| random.below(HIDDEN)).collect();
    let gains = |random: &mut Random, is_wide: bool| -> Vec<f32> {
        let mut gains: Vec<f32> = (0..HIDDEN).map(|_| 1.0 + 0.1 * random.normal()).collect();
        if is_wide {
            wide.iter().for_each(|&channel| gains[channel] *= 20.0 + 40.0 * random.uniform());
        }
        gains
    };
    let narrow_columns = |weights: &mut [f32]| {
        for row in weights.chunks_exact_mut(HIDDEN) {
            wide.iter().for_each(|&channel| row[channel] *= 0.1);
        }
    };
    add("embeddings.LayerNorm.weight".into(), vec![HIDDEN], gains(&mut random, true));
    add("embeddings.LayerNorm.bias".into(), vec![HIDDEN], normal(&mut random, HIDDEN, 0.05));
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for (part, outputs, inputs) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", FFN, HIDDEN),
            ("output.dense", HIDDEN, FFN),
        ] {
            let mut weights = normal(&mut random, outputs * inputs, 0.04);
            if matches!(
                part,
                "attention.self.query" | "attention.self.key" | "attention.self.value" | "intermediate.dense"
            ) {
                narrow_columns(&mut weights);
            }
            if part == "intermediate.dense" {
                for _ in 0..3 {
                    let row = random.below(FFN);
                    weights[row * inputs..][..inputs].iter_mut().for_each(|w| *w *= 15.0);
                }
            }
            add(format!("{}.weight", name(part)), vec![outputs, inputs], weights);
            add(format!("{}.bias", name(part)), vec![outputs], normal(&mut random, outputs, 0.02));
        }
        let last = layer == LAYERS - 1;
        for (part, is_wide) in [("attention.output.LayerNorm", true), ("output.LayerNorm", !last)] {
            add(format!("{}.weight", name(part)), vec![HIDDEN], gains(&mut random, is_wide));
            add(format!("{}.bias", name(part)), vec![HIDDEN], normal(&mut random, HIDDEN, 0.05));
        }
    }
    // A head for lexical weights as BGE-M3 has it. About half of the tokens get a weight above 0.
    add("sparse_linear.weight".into(), vec![1, HIDDEN], normal(&mut random, HIDDEN, 0.1));
    add("sparse_linear.bias".into(), vec![1], vec![0.0]);
    let bytes: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, (shape.clone(), values.iter().flat_map(|x| x.to_le_bytes()).collect())))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, (shape, bytes))| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, &directory.join("model.safetensors")).unwrap();
}

/// Token ids of 40 texts of 4 to 64 tokens.
pub fn ids(seed: u64) -> Vec<Vec<u32>> {
    let mut random = Random(seed | 1);
    let text = |random: &mut Random| {
        let middle = 2 + random.below(61);
        let mut ids = vec![0];
        ids.extend((0..middle).map(|_| 4 + random.below(VOCABULARY - 4) as u32));
        ids.push(2);
        ids
    };
    (0..40).map(|_| text(&mut random)).collect()
}
