//! A loaded model, and the facts about it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use trivec_kernels::Kernels;

use super::packing::Packed;
use crate::config::{DensePipeline, Prompts};
use crate::embedding::Modes;
use crate::model::{Encoder, Workspace};
use crate::parallel::Team;
use crate::text::Tokenizer;
use crate::weights::{HeadWeights, Source};

/// Facts about a loaded model.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Where the model came from: the path of the directory or packed file, `starter`, or `packed bytes`.
    pub name: String,
    /// Encoder layers.
    pub layers: usize,
    /// Width of the token states.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward layers.
    pub ffn: usize,
    /// Rows of the token table.
    pub vocabulary: usize,
    /// Number of weights of the encoder and its heads.
    pub parameters: usize,
    /// Longest input in tokens.
    pub max_length: usize,
    /// The field that sets it, and its file: `max_seq_length of sentence_bert_config.json`; or `the packed file`.
    pub max_length_from: String,
    /// The model's prompts by name: what is put before texts of a kind, as queries and documents.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that every text gets unless another is asked for ([`EncodeOptions::prompt`](crate::EncodeOptions::prompt)).
    pub default_prompt: Option<String>,
    /// How sentence-transformers compares the model's vectors (`cosine`, `dot`, …), if its files say; nothing here depends on it.
    pub similarity: Option<String>,
    /// Which modes the model has; none if it is a reranker.
    pub modes: Modes,
    /// Whether the model is a reranker: it scores pairs of texts ([`Model::rerank`]) and embeds nothing.
    pub rerank: bool,
    /// Length of the dense vector; 0 for a reranker.
    pub dense_dim: usize,
    /// Whether dense vectors are L2-normalised (a `modules.json` without `Normalize` says no, as does a `truncate_dim` that cuts them after).
    pub dense_normalized: bool,
    /// Length of the ColBERT vectors.
    pub colbert_dim: Option<usize>,
    /// `cls`, `mean`, or another of sentence-transformers' modes; several are joined by `+`.
    pub pooling: String,
    /// For a checkpoint, the types of the stored weights (`F32`, `F16`, `BF16`, `Q4_0`), comma-separated. For a packed model, the format of its
    /// layers (`int8`), or each of several formats with its number of layers.
    pub weights: String,
    /// Instruction set the kernels use.
    pub isa: &'static str,
    /// Worker threads.
    pub threads: usize,
    /// In how many streams this CPU reads the weights, and why ([`LoadOptions::tune`](crate::LoadOptions::tune)).
    pub reading: String,
}

/// A loaded model. Threads can share it freely, because each call works on its own buffers.
#[derive(Debug)]
pub struct Model {
    pub(super) encoder: Encoder,
    pub(super) heads: HeadWeights,
    pub(super) pipeline: DensePipeline,
    pub(super) prompts: Prompts,
    /// Absent if the directory has neither `tokenizer.json` nor `sentencepiece.bpe.model`: then only token ids can be encoded.
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) kernels: &'static Kernels,
    pub(super) team: Team,
    pub(super) info: ModelInfo,
    /// `None` for a checkpoint, and for a packed file that is computed exactly.
    pub(super) packed: Option<Packed>,
    /// The files that the model was read from.
    pub(super) source: Source,
    /// Workspaces that no call is using.
    pub(super) idle: Mutex<Vec<Workspace>>,
}
