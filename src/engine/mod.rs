//! The library's front door: [`Model`] turns texts into [`Embedding`]s, or pairs of texts into scores (`rerank`).

mod batch;
mod inside;
pub use inside::{HeadMap, HeadMaps, Work};
mod options;
mod packing;
mod prompt;
pub(crate) mod read;
mod rerank;
mod tuning;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use trivec_kernels::{Isa, Kernels};

use crate::compute::Compute;
use crate::config::{DensePipeline, ModelConfig, ModelKind, Prompts};
use crate::embedding::{Embedding, Inspection, Modes, Token, Tokens};
use crate::error::{Error, Result};
use crate::model::{Encoder, Workspace};
use crate::parallel::Team;
use crate::text::{TokenIds, Tokenizer};
use crate::weights::packed::{self, MetaParts, PackedModel};
use crate::weights::{Checkpoint, EncoderWeights, HeadWeights, Source};
pub use options::{Cancel, EncodeOptions, LoadOptions, Progress};
use packing::Packed;
pub use prompt::Prompt;
use read::{Settings, read_packed_tokenizer, read_settings, read_tokenizer};
pub use rerank::RerankOptions;
pub use tuning::Tune;

/// Most threads that can be asked for.
const MAX_THREADS: usize = 1024;

/// What a loaded model is.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Where it came from: the directory, or `starter`.
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
    /// Weights of the encoder and its heads.
    pub parameters: usize,
    /// Longest input in tokens.
    pub max_length: usize,
    /// The field that sets it, and its file: `max_seq_length of sentence_bert_config.json`; or `the packed file`.
    pub max_length_from: String,
    /// The model's prompts by name: what is put before texts of a kind, as queries and documents.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that every text gets unless another is asked for ([`EncodeOptions::prompt`]).
    pub default_prompt: Option<String>,
    /// How sentence-transformers compares the model's vectors (`cosine`, `dot`, …), if its files say; nothing here depends on it.
    pub similarity: Option<String>,
    /// Which modes the model has: none, if it is a reranker.
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
    /// Types of the stored weights (`F32`, `F16`, `BF16`, `Q4_0`), comma-separated.
    pub weights: String,
    /// Instruction set the kernels use.
    pub isa: &'static str,
    /// Worker threads.
    pub threads: usize,
    /// In how many streams this CPU reads the weights, and why ([`LoadOptions::tune`]).
    pub reading: String,
}

/// What a model is assembled from.
struct Parts {
    config: ModelConfig,
    settings: Settings,
    tokenizer: Option<Tokenizer>,
    checkpoint: Checkpoint,
    packed: Option<Packed>,
}

/// A loaded model. Shared between threads freely; each call works on its own buffers.
#[derive(Debug)]
pub struct Model {
    encoder: Encoder,
    heads: HeadWeights,
    pipeline: DensePipeline,
    prompts: Prompts,
    /// Absent if the directory has neither `tokenizer.json` nor `sentencepiece.bpe.model`: then only token ids can be encoded.
    tokenizer: Option<Tokenizer>,
    kernels: &'static Kernels,
    team: Team,
    info: ModelInfo,
    /// `None` for a checkpoint.
    packed: Option<Packed>,
    /// What it was read from.
    source: Source,
    /// Workspaces between calls.
    idle: Mutex<Vec<Workspace>>,
}

/// Names of the instruction sets this CPU runs, slowest first.
pub fn instruction_sets() -> Vec<&'static str> {
    Isa::ALL.into_iter().filter(|isa| isa.is_supported()).map(Isa::name).collect()
}

impl Model {
    /// Loads a directory in Hugging Face layout, or a packed file, with default options.
    ///
    /// Read are `config.json`, `model.safetensors` (or the shards of `model.safetensors.index.json`) or without it PyTorch's own
    /// `pytorch_model.bin` (or its shards), `tokenizer.json` or without it `sentencepiece.bpe.model`, the heads `colbert_linear` and
    /// `sparse_linear` (in the main file or in `.safetensors` or `.pt` files of their own) and sentence-transformers' `modules.json` with
    /// the folders it names. Of PyTorch's files only numbers are taken: no code in them runs. Weights are mapped: keep the files in place
    /// and unchanged while the model lives.
    ///
    /// # Errors
    /// [`ErrorKind::Model`](crate::ErrorKind::Model) names the file, the tensor, what was found and what was expected.
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
        // The file is a part of this program, whose tests compare every byte of it: a scan would find what it found then.
        let options = LoadOptions { check_finite: false, ..options.clone() };
        Self::from_packed(crate::starter::source(), "starter".to_owned(), &options)
    }

    /// Loads a packed file's content, of which it keeps a copy: for a model that comes from elsewhere than a file.
    ///
    /// # Errors
    /// As [`Model::load_with`].
    pub fn from_packed_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Model> {
        Self::from_packed(Source::packed_bytes(bytes, "packed bytes"), "packed bytes".to_owned(), options)
    }

    fn from_source(source: Source, name: String, options: &LoadOptions) -> Result<Model> {
        let mut config = ModelConfig::from_json(&source.require("config.json")?, &source.path("config.json"))?;
        let (settings, beside) = read_settings(&source, &mut config)?;
        let tokenizer = read_tokenizer(&source, &beside, &config)?;
        let checkpoint = Checkpoint::open(source, options.check_finite)?;
        Self::assemble(name, Parts { config, settings, tokenizer, checkpoint, packed: None }, options)
    }

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
                // Computed exactly, it is what the checkpoint is.
                packed: (!options.exact).then_some(Packed { format, layers, source: packed_from }),
            },
            options,
        )
    }

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

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// One embedding a text, in the order of `texts`; an empty list gives an empty list.
    ///
    /// A text's result has the same bits whatever its neighbours, their order and the number of threads. An empty text is `<s></s>`,
    /// as for the reference.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// use trivec::{EncodeOptions, Model, Modes};
    ///
    /// let model = Model::starter()?;
    /// let options = EncodeOptions { modes: Modes::DENSE | Modes::SPARSE, dimensions: Some(128), ..Default::default() };
    /// let embeddings = model.encode(&["a text", "another text"], &options)?;
    /// assert_eq!(embeddings[1].dense.as_ref().map(Vec::len), Some(128));
    /// assert!(embeddings[1].lexical.is_some() && embeddings[1].colbert.is_none());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::ModeUnavailable`](crate::ErrorKind::ModeUnavailable) if a mode's head is missing, or the model is a reranker;
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range; [`Error::NotFinite`] names the first text of which the model
    /// computes NaN or infinity.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S], options: &EncodeOptions) -> Result<Vec<Embedding>> {
        let max_length = self.check(options)?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let applied = self.applied(options, max_length)?;
        let ids = self.team.map(texts, |text| applied.encode(text.as_ref()));
        self.encode_checked(&ids, options, applied.skipped)
    }

    /// One embedding a sequence of token ids, each complete with `<s>`, `</s>` and its prompt: for texts that were tokenised elsewhere.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// let model = trivec::Model::starter()?;
    /// let options = trivec::EncodeOptions::default();
    /// let (ids, truncated) = model.token_ids("a text", &options)?;
    /// assert!(!truncated && ids[0] == 0); // `<s>` is 0
    /// assert_eq!(model.encode_ids(&[ids], &options)?, model.encode(&["a text"], &options)?);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Model::encode`]; [`ErrorKind::Input`](crate::ErrorKind::Input) if a sequence is empty, longer than the maximum length, or
    /// has an id outside the vocabulary.
    pub fn encode_ids<S: AsRef<[u32]> + Sync>(&self, ids: &[S], options: &EncodeOptions) -> Result<Vec<Embedding>> {
        let max_length = self.check(options)?;
        let ids = self.checked_ids(ids, max_length)?;
        self.encode_checked(&ids, options, self.skipped(options))
    }

    /// Of sequences of ids, the tokens that the dense vector leaves out.
    fn skipped(&self, options: &EncodeOptions) -> usize {
        if self.pipeline.pooling.include_prompt { 0 } else { options.prompt_tokens }
    }

    /// Token ids that were made elsewhere, checked.
    fn checked_ids<S: AsRef<[u32]>>(&self, ids: &[S], max_length: usize) -> Result<Vec<TokenIds>> {
        let vocabulary = self.info.vocabulary;
        let check = |(index, ids): (usize, &S)| {
            let ids = ids.as_ref();
            let what = if ids.is_empty() {
                "no token ids: expected at least one".to_owned()
            } else if ids.len() > max_length {
                format!("{} token ids, expected at most {max_length}", ids.len())
            } else if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                format!("token id {id}, expected one below {vocabulary}")
            } else {
                return Ok(TokenIds { ids: ids.to_vec(), truncated: false });
            };
            Err(Error::Input { index, what })
        };
        ids.iter().enumerate().map(check).collect()
    }

    /// A text's tokens, as [`Model::encode`] cuts them.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// let model = trivec::Model::starter()?;
    /// let text = model.tokenize("green tea", &trivec::EncodeOptions::default())?;
    /// let pieces: Vec<&str> = text.tokens.iter().map(|token| token.piece.as_str()).collect();
    /// assert_eq!((pieces[0], pieces[1], *pieces.last().unwrap()), ("<s>", "▁green", "</s>"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Model`](crate::ErrorKind::Model) if the model has no tokenizer; [`ErrorKind::Usage`](crate::ErrorKind::Usage) for
    /// options out of range.
    pub fn tokenize(&self, text: &str, options: &EncodeOptions) -> Result<Tokens> {
        let max_length = self.check_ranges(options)?;
        let applied = self.applied(options, max_length)?;
        let TokenIds { ids, truncated } = applied.encode(text);
        Ok(Tokens { tokens: self.pieces(&ids), truncated })
    }

    /// A text's token ids, as [`Model::encode`] cuts them, and whether it was cut.
    ///
    /// # Errors
    /// As [`Model::tokenize`].
    pub fn token_ids(&self, text: &str, options: &EncodeOptions) -> Result<(Vec<u32>, bool)> {
        let max_length = self.check_ranges(options)?;
        let TokenIds { ids, truncated } = self.applied(options, max_length)?.encode(text);
        Ok((ids, truncated))
    }

    /// A token's piece of the vocabulary; `None` for an id that has none, or without a tokenizer.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.tokenizer.as_ref()?.piece(id)
    }

    /// The tokens of ids, with their pieces.
    fn pieces(&self, ids: &[u32]) -> Vec<Token> {
        let token = |&id: &u32| Token {
            id,
            piece: self.piece(id).unwrap_or_default().to_owned(),
            special: self.is_special(id),
        };
        ids.iter().map(token).collect()
    }

    /// Whether a token is special: see [`Tokenizer::is_special`](crate::text::Tokenizer::is_special). Without a tokenizer, none is.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.is_special(id))
    }

    /// The text of tokens behind others: see [`Tokenizer::decode_part`](crate::text::Tokenizer::decode_part).
    ///
    /// # Errors
    /// The first id that there is no token of.
    #[doc(hidden)]
    pub fn decode_part(&self, ids: &[u32], skip_special: bool, first: &mut bool) -> std::result::Result<String, u32> {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.decode_part(ids, skip_special, first),
            None => ids.first().map_or(Ok(String::new()), |&id| Err(id)),
        }
    }

    /// A text's embedding with its tokens and their weights, in every mode the model has; `options.modes` is not read.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// let model = trivec::Model::starter()?;
    /// let text = model.inspect("a green tea", &trivec::EncodeOptions::default())?;
    /// // A lexical weight for every token; `<s>` and `</s>` count, although their weights are not kept.
    /// let weights = text.token_weights.unwrap();
    /// assert_eq!((weights.len(), text.tokens.len()), (text.embedding.tokens, text.embedding.tokens));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Model::tokenize`]; [`ErrorKind::ModeUnavailable`](crate::ErrorKind::ModeUnavailable) if the model is a reranker;
    /// [`Error::NotFinite`] if the model computes NaN or infinity of the text.
    pub fn inspect(&self, text: &str, options: &EncodeOptions) -> Result<Inspection> {
        let options = EncodeOptions { modes: self.info.modes, ..options.clone() };
        let max_length = self.check(&options)?;
        let applied = self.applied(&options, max_length)?;
        let tokens = applied.encode(text);
        match self.inspect_checked(vec![tokens], &options, applied.skipped)?.pop() {
            Some(inspection) => Ok(inspection),
            None => Err(Error::Input { index: 0, what: "no embedding".to_owned() }),
        }
    }

    /// [`Model::inspect`] of two texts, each with its own options, in one forward pass where the options differ in their prompts alone.
    ///
    /// # Errors
    /// As [`Model::inspect`]; an error of a text has its place, 0 or 1.
    pub fn inspect_pair(&self, a: &str, b: &str, options: [&EncodeOptions; 2]) -> Result<[Inspection; 2]> {
        let options = options.map(|options| EncodeOptions { modes: self.info.modes, ..options.clone() });
        let mut tokens = Vec::with_capacity(2);
        let mut skipped = [0; 2];
        for (at, text) in [a, b].into_iter().enumerate() {
            let max_length = self.check(&options[at])?;
            let applied = self.applied(&options[at], max_length)?;
            skipped[at] = applied.skipped;
            tokens.push(applied.encode(text));
        }
        let alike = skipped[0] == skipped[1]
            && (options[0].dimensions, options[0].normalize) == (options[1].dimensions, options[1].normalize)
            && (options[0].colbert_dimensions, options[0].colbert_raw)
                == (options[1].colbert_dimensions, options[1].colbert_raw);
        let mut inspections = Vec::with_capacity(2);
        if alike {
            inspections = self.inspect_checked(tokens, &options[0], skipped[0])?;
        } else {
            for (at, tokens) in tokens.into_iter().enumerate() {
                let own = self.inspect_checked(vec![tokens], &options[at], skipped[at]);
                inspections.extend(own.map_err(|error| error.at_input(|_| at))?);
            }
        }
        inspections.try_into().map_err(|_| Error::Input { index: 0, what: "no embedding".to_owned() })
    }

    /// Embeddings of token ids with what explains them, in every mode the model has, in the order of `ids`: [`Model::inspect`] of texts that
    /// were tokenised elsewhere, in shared forward passes.
    ///
    /// # Errors
    /// As [`Model::encode_ids`].
    pub fn inspect_ids<S: AsRef<[u32]>>(&self, ids: &[S], options: &EncodeOptions) -> Result<Vec<Inspection>> {
        let options = EncodeOptions { modes: self.info.modes, ..options.clone() };
        let max_length = self.check(&options)?;
        let ids = self.checked_ids(ids, max_length)?;
        self.inspect_checked(ids, &options, self.skipped(&options))
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing = || {
            Error::format(
                &Path::new(&self.info.name).join("tokenizer.json"),
                "the file is missing: only token ids can be encoded",
            )
        };
        self.tokenizer.as_ref().ok_or_else(missing)
    }

    /// Checks what a call asks against what the model has; returns the maximum length.
    fn check(&self, options: &EncodeOptions) -> Result<usize> {
        let info = &self.info;
        if info.rerank {
            return Err(Error::Reranker { mode: options.modes.names().next().unwrap_or("embedding") });
        }
        if options.modes.sparse && !info.modes.sparse {
            return Err(Error::ModeUnavailable { mode: "sparse", head: "sparse_linear" });
        }
        if options.modes.colbert && !info.modes.colbert {
            return Err(Error::ModeUnavailable { mode: "colbert", head: "colbert_linear" });
        }
        self.check_ranges(options)
    }

    /// Checks the options' numbers; returns the maximum length.
    fn check_ranges(&self, options: &EncodeOptions) -> Result<usize> {
        let info = &self.info;
        check_range("max_length", options.max_length, 2, info.max_length)?;
        check_range("dimensions", options.dimensions, 1, info.dense_dim)?;
        // Without the head, asking for the mode is the error.
        check_range("colbert_dimensions", options.colbert_dimensions, 1, info.colbert_dim.unwrap_or(usize::MAX))?;
        Ok(options.max_length.unwrap_or(info.max_length))
    }
}

/// Whether an option's value, if there is one, lies in `from ..= to`.
fn check_range(option: &'static str, value: Option<usize>, from: usize, to: usize) -> Result<()> {
    match value {
        Some(value) if !(from..=to).contains(&value) => {
            Err(Error::Option { option, what: format!("found {value}, expected {from} to {to}") })
        }
        _ => Ok(()),
    }
}
