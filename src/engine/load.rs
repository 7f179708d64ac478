//! Loads a [`Model`] from its files.

use std::path::Path;
use std::sync::Mutex;

use trivec_kernels::Kernels;

use super::model::{Model, ModelInfo};
use super::options::LoadOptions;
use super::packing::Packed;
use super::read::{Settings, read_packed_tokenizer, read_settings, read_tokenizer};
use super::tuning;
use crate::compute::Compute;
use crate::config::{ModelConfig, ModelKind};
use crate::embedding::Modes;
use crate::error::{Error, Result};
use crate::model::Encoder;
use crate::parallel::Team;
use crate::text::Tokenizer;
use crate::weights::packed::{self, MetaParts, PackedModel};
use crate::weights::{Checkpoint, EncoderWeights, HeadWeights, Source};

/// The most threads that can be asked for.
const MAX_THREADS: usize = 1024;

/// What was read of a model, from which it is assembled.
struct Parts {
    config: ModelConfig,
    settings: Settings,
    tokenizer: Option<Tokenizer>,
    checkpoint: Checkpoint,
    packed: Option<Packed>,
}

impl Model {
    /// Loads a directory in Hugging Face layout, or a packed file, with default options.
    ///
    /// In a directory it reads:
    ///
    /// * `config.json`;
    /// * the weights: `model.safetensors` or the shards that `model.safetensors.index.json` names, else PyTorch's `pytorch_model.bin` or its
    ///   shards. Only the numbers in PyTorch's files are read: no code in them runs;
    /// * the heads `colbert_linear` and `sparse_linear`, among the weights or in `.safetensors` or `.pt` files of their own;
    /// * the tokenizer: `tokenizer.json`, else `sentencepiece.bpe.model`;
    /// * the settings that are there: `modules.json` with the folders that it names, `config_sentence_transformers.json`,
    ///   `sentence_bert_config.json` (or the same file of another architecture), `tokenizer_config.json`, `special_tokens_map.json` and
    ///   `added_tokens.json`.
    ///
    /// A directory with `adapter_config.json` is refused. The weights are mapped: keep the files in place and unchanged while the model lives.
    ///
    /// # Errors
    /// [`ErrorKind::Model`](crate::ErrorKind::Model) names the file, the tensor, what was found and what was expected;
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the operating system refuses to read or map a file, or to start a thread.
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// Loads a directory or a packed file, see [`Model::load`].
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// use trivec::{LoadOptions, Model};
    ///
    /// # let path = "tests/data/models/f32-h64"; // a directory in Hugging Face layout
    /// let options = LoadOptions { threads: Some(2), ..Default::default() };
    /// let model = Model::load_with(path, &options)?;
    /// assert_eq!((model.info().threads, model.info().dense_dim), (2, 64));
    ///
    /// let error = Model::load_with(path, &LoadOptions { isa: Some("avx1".into()), ..Default::default() }).unwrap_err();
    /// assert!(error.to_string().contains("isa: "), "{error}");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Model::load`]; [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options that cannot be met.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Model> {
        let path = path.as_ref();
        let name = path.display().to_string();
        if path.is_file() {
            return Self::from_packed(Source::packed(path)?, name, options);
        }
        Self::from_source(Source::directory(path)?, name, options)
    }

    /// The model inside the binary: small, multilingual, trained; good for a first try, and not BGE-M3.
    ///
    /// # Errors
    /// As [`Model::load`].
    #[cfg(feature = "starter")]
    pub fn starter() -> Result<Model> {
        Self::starter_with(&LoadOptions::default())
    }

    /// The model inside the binary, see [`Model::starter`].
    ///
    /// # Errors
    /// As [`Model::load_with`].
    #[cfg(feature = "starter")]
    pub fn starter_with(options: &LoadOptions) -> Result<Model> {
        // The file is a part of this program, and tests have compared every byte of it. A scan could find nothing that they did not.
        let options = LoadOptions { check_finite: false, ..options.clone() };
        Self::from_packed(crate::starter::source(), "starter".to_owned(), &options)
    }

    /// Loads the content of a packed file from memory and keeps a copy of it: for a model that is not in a file.
    ///
    /// # Errors
    /// As [`Model::load_with`].
    pub fn from_packed_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Model> {
        Self::from_packed(Source::packed_bytes(bytes, "packed bytes"), "packed bytes".to_owned(), options)
    }

    /// Loads a directory in Hugging Face layout, which `source` stands for. The settings files also say something about the tokenizer.
    fn from_source(source: Source, name: String, options: &LoadOptions) -> Result<Model> {
        let mut config = ModelConfig::from_json(&source.require("config.json")?, &source.path("config.json"))?;
        let (settings, about_tokenizer) = read_settings(&source, &mut config)?;
        let tokenizer = read_tokenizer(&source, &about_tokenizer, &config)?;
        let checkpoint = Checkpoint::open(source, options.check_finite)?;
        Self::assemble(name, Parts { config, settings, tokenizer, checkpoint, packed: None }, options)
    }

    /// Loads a packed file, whose metadata holds all settings.
    fn from_packed(source: Source, name: String, options: &LoadOptions) -> Result<Model> {
        let PackedModel { parts, format, layers, packed_from, checkpoint } =
            packed::open(source, options.check_finite, options.exact)?;
        let MetaParts { config, pipeline, max_length, prompts, similarity } = parts;
        let max_length_from = "the packed file".to_owned();
        let settings = Settings { pipeline, max_length, max_length_from, prompts, similarity };
        if options.preload {
            checkpoint.preload();
        }
        let tokenizer = read_packed_tokenizer(&checkpoint, &config)?;
        Self::assemble(
            name,
            Parts {
                config,
                settings,
                tokenizer,
                checkpoint,
                // With `exact` the model computes what its checkpoint computes, so it is described as a checkpoint.
                packed: (!options.exact).then_some(Packed { format, layers, source: packed_from }),
            },
            options,
        )
    }

    /// Makes the model: chooses the kernels, starts the threads, finds the weights, and measures how to read them.
    fn assemble(name: String, parts: Parts, options: &LoadOptions) -> Result<Model> {
        let Parts { config, settings, tokenizer, checkpoint, packed } = parts;
        let Settings { pipeline, max_length, max_length_from, prompts, similarity } = settings;
        let kernels = match &options.isa {
            None => Kernels::best(),
            Some(isa) => Kernels::by_name(isa).map_err(|e| Error::Option { option: "isa", what: e.to_string() })?,
        };
        if let Some(threads) = options.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads)) {
            return Err(Error::Option {
                option: "threads",
                what: format!("found {threads}, expected 1 to {MAX_THREADS}"),
            });
        }
        let team = Team::new(options.threads).map_err(|e| Error::io(Path::new("threads"), e))?;
        let weights = EncoderWeights::read(&checkpoint, &config)?;
        let heads = HeadWeights::read(&checkpoint, &config, &pipeline)?;
        let rerank = config.kind == ModelKind::Reranker;
        let full_dim = heads.dense.last().map_or(pipeline.pooled(config.hidden), |last| last.outputs);
        let dense_dim = pipeline.truncate_dim.map_or(full_dim, |dim| dim.min(full_dim));
        let mut info = ModelInfo {
            name,
            layers: config.layers,
            hidden: config.hidden,
            heads: config.heads,
            ffn: config.ffn,
            vocabulary: config.vocabulary,
            parameters: weights.parameters() + heads.parameters(),
            max_length,
            max_length_from,
            prompts: prompts.named.clone(),
            default_prompt: prompts.default.clone(),
            similarity,
            modes: Modes { dense: !rerank, sparse: heads.sparse.is_some(), colbert: heads.colbert.is_some() },
            rerank,
            dense_dim: if rerank { 0 } else { dense_dim },
            dense_normalized: pipeline.normalize && dense_dim == full_dim,
            colbert_dim: heads.colbert.as_ref().map(|head| head.outputs),
            pooling: pipeline.pooling.name(),
            weights: match &packed {
                Some(packed) => packed.describe(),
                None => checkpoint.dtypes().join(","),
            },
            isa: kernels.isa().name(),
            threads: team.threads(),
            reading: String::new(),
        };
        let source = checkpoint.source().clone();
        let encoder = Encoder { config, weights };
        let compute = Compute { kernels, team: &team };
        info.reading = tuning::settle(options.tune, options.tuning.as_deref(), compute, &encoder);
        Ok(Model {
            encoder,
            heads,
            pipeline,
            prompts,
            tokenizer,
            kernels,
            team,
            info,
            packed,
            source,
            idle: Mutex::default(),
        })
    }
}
