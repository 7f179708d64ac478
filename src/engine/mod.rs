//! The library's front door: [`Model`] turns texts into [`Embedding`]s, or pairs of texts into scores (`rerank`).

mod inside;
pub use inside::Work;
mod options;
mod packing;
mod prompt;
pub(crate) mod read;
mod rerank;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use trivec_kernels::{Isa, Kernels};

use crate::compute::Compute;
use crate::config::{DensePipeline, ModelConfig, ModelKind, PoolingMode, Prompts};
use crate::embedding::{Embedding, Modes};
use crate::error::{Error, Result};
use crate::heads::{self, DenseHead, NotFinite};
use crate::model::{Encoder, TextBatch, Wanted, Workspace};
use crate::parallel::Team;
use crate::text::{TokenIds, Tokenizer};
use crate::weights::packed::{self, MetaParts, PackedModel};
use crate::weights::{Checkpoint, EncoderWeights, HeadWeights, Source};
pub use options::{EncodeOptions, LoadOptions};
use packing::Packed;
pub use prompt::Prompt;
use read::{Settings, read_packed_tokenizer, read_settings, read_tokenizer};
pub use rerank::RerankOptions;

/// Most threads that can be asked for.
const MAX_THREADS: usize = 1024;

/// Tokens of a batch, counted in whole key tiles; a longer text is a batch of its own. Enough rows for the matrix products to run
/// at full speed, little enough to keep the buffers of short texts small.
const BATCH_TOKENS: usize = 4096;

/// Largest workspace that is kept between calls: that of some 1,000 tokens of BGE-M3.
const IDLE_BYTES: usize = 64 << 20;

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its piece of the vocabulary (`▁` marks the start of a word).
    pub piece: String,
    /// Whether it is one of the model's special tokens (`<s>`, `<mask>` …).
    pub special: bool,
}

/// A text's tokens as the model sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens, `<s>` and `</s>` included.
    pub tokens: Vec<Token>,
    /// Whether the text was cut.
    pub truncated: bool,
}

/// An embedding with what explains it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The tokens, `<s>` and `</s>` included. Row `i` of the ColBERT vectors belongs to token `i + 1`.
    pub tokens: Vec<Token>,
    /// Each token's lexical weight before repeated ids are merged and special ids dropped; `None` without a sparse head.
    pub token_weights: Option<Vec<f32>>,
    /// The embedding, with every part the model can give.
    pub embedding: Embedding,
}

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
        let info = ModelInfo {
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
        };
        let source = checkpoint.source().clone();
        Ok(Model {
            encoder: Encoder { config, weights },
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
    /// # Errors
    /// As [`Model::encode`]; [`ErrorKind::Input`](crate::ErrorKind::Input) if a sequence is empty, longer than the maximum length, or
    /// has an id outside the vocabulary.
    pub fn encode_ids<S: AsRef<[u32]> + Sync>(&self, ids: &[S], options: &EncodeOptions) -> Result<Vec<Embedding>> {
        let max_length = self.check(options)?;
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
        let ids = ids.iter().enumerate().map(check).collect::<Result<Vec<_>>>()?;
        let skipped = if self.pipeline.pooling.include_prompt { 0 } else { options.prompt_tokens };
        self.encode_checked(&ids, options, skipped)
    }

    /// A text's tokens, as [`Model::encode`] cuts them.
    ///
    /// # Errors
    /// [`ErrorKind::Model`](crate::ErrorKind::Model) if the model has no tokenizer; [`ErrorKind::Usage`](crate::ErrorKind::Usage) for
    /// options out of range.
    pub fn tokenize(&self, text: &str, options: &EncodeOptions) -> Result<Tokens> {
        let max_length = self.check_ranges(options)?;
        let applied = self.applied(options, max_length)?;
        let TokenIds { ids, truncated } = applied.encode(text);
        Ok(Tokens { tokens: pieces(applied.tokenizer, &ids), truncated })
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
    /// # Errors
    /// As [`Model::tokenize`]; [`ErrorKind::ModeUnavailable`](crate::ErrorKind::ModeUnavailable) if the model is a reranker;
    /// [`Error::NotFinite`] if the model computes NaN or infinity of the text.
    pub fn inspect(&self, text: &str, options: &EncodeOptions) -> Result<Inspection> {
        let options = EncodeOptions { modes: self.info.modes, ..options.clone() };
        let max_length = self.check(&options)?;
        let applied = self.applied(&options, max_length)?;
        let tokens = applied.encode(text);
        let mut token_weights = None;
        let keep = |weights: Vec<Vec<f32>>| token_weights = weights.into_iter().next();
        let mut embeddings = self.run_batch(&[&tokens], &options, applied.skipped, keep);
        match embeddings.pop().transpose().map_err(|bad| bad.of_input(0))? {
            Some(embedding) => {
                Ok(Inspection { tokens: pieces(applied.tokenizer, &tokens.ids), token_weights, embedding })
            }
            None => Err(Error::Input { index: 0, what: "no embedding".to_owned() }),
        }
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
            let Modes { dense, sparse, colbert } = options.modes;
            let names = [(dense, "dense"), (sparse, "sparse"), (colbert, "colbert")];
            let mode = names.into_iter().find(|(asked, _)| *asked).map_or("embedding", |(_, name)| name);
            return Err(Error::Reranker { mode });
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
        Ok(options.max_length.unwrap_or(info.max_length))
    }

    fn encode_checked(&self, texts: &[TokenIds], options: &EncodeOptions, skipped: usize) -> Result<Vec<Embedding>> {
        let results = self.in_batches(texts, |batch| self.run_batch(batch, options, skipped, |_| ()));
        results.into_iter().enumerate().map(|(index, result)| result.map_err(|bad| bad.of_input(index))).collect()
    }

    /// Packs texts into batches, longest first, runs them, and puts the results, one a text, back in order.
    fn in_batches<R>(&self, texts: &[TokenIds], run: impl Fn(&[&TokenIds]) -> Vec<R>) -> Vec<R> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(texts[index].ids.len()));
        let mut results: Vec<Option<R>> = texts.iter().map(|_| None).collect();
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|&&index| {
                tokens += texts[index].ids.len().next_multiple_of(trivec_kernels::KEY_TILE);
                tokens <= BATCH_TOKENS
            });
            let (batch, others) = rest.split_at(fits.count().max(1));
            let members: Vec<&TokenIds> = batch.iter().map(|&index| &texts[index]).collect();
            for (&index, result) in batch.iter().zip(run(&members)) {
                results[index] = Some(result);
            }
            rest = others;
        }
        results.into_iter().flatten().collect()
    }

    /// One forward pass. The first `skipped` tokens of each text are left out of its dense vector. `weights` sees the lexical weight of
    /// every token of every text, if they were asked for and are finite.
    fn run_batch(
        &self,
        texts: &[&TokenIds],
        options: &EncodeOptions,
        skipped: usize,
        weights: impl FnOnce(Vec<Vec<f32>>),
    ) -> Vec<Result<Embedding, NotFinite>> {
        let compute = Compute { kernels: self.kernels, team: &self.team };
        let mut batch = TextBatch::default();
        texts.iter().for_each(|text| batch.push(&text.ids));
        let ranges: Vec<_> = batch.ranges().collect();
        let mut ws = self.take_workspace();
        // CLS pooling alone reads one state a text.
        let first_pooled = self.pipeline.pooling.modes == [PoolingMode::Cls] && skipped == 0;
        let first_only = !options.modes.sparse && !options.modes.colbert && first_pooled;
        let wanted = if first_only { Wanted::FirstTokens } else { Wanted::AllTokens };
        self.encoder.forward(compute, &batch, wanted, &mut ws);
        let ranges: Vec<_> = if first_only { (0..texts.len()).map(|text| text..text + 1).collect() } else { ranges };

        let head = DenseHead {
            pipeline: &self.pipeline,
            modules: &self.heads.dense,
            dimensions: options.dimensions,
            normalize: options.normalize,
            skipped,
        };
        let states_of = |range: &std::ops::Range<usize>| ws.states.view().rows_from(range.start, range.len());
        let dense = options
            .modes
            .dense
            .then(|| self.team.map(&ranges, |range| heads::dense(self.kernels, &head, states_of(range))));
        let sparse = self.heads.sparse.as_ref().filter(|_| options.modes.sparse);
        let token_weights = sparse
            .map(|head| self.team.map(&ranges, |range| heads::token_weights(self.kernels, head, states_of(range))));
        let colbert = self.heads.colbert.as_ref().filter(|_| options.modes.colbert);
        let colbert = colbert.map(|head| heads::colbert(compute, head, &ranges, &ws.states));
        self.put_back(ws);

        let mut dense = dense.into_iter().flatten();
        let lexical = |(text, weights): (&&TokenIds, &Result<Vec<f32>, NotFinite>)| match weights {
            Ok(weights) => Ok(heads::lexical(&text.ids, weights)),
            Err(bad) => Err(*bad),
        };
        let mut lexical = token_weights.iter().flat_map(|weights| texts.iter().zip(weights).map(lexical));
        let mut colbert = colbert.into_iter().flatten();
        let embedding = |text: &&TokenIds| {
            let (dense, lexical, colbert) = (dense.next(), lexical.next(), colbert.next());
            Ok(Embedding {
                dense: dense.transpose()?,
                lexical: lexical.transpose()?,
                colbert: colbert.transpose()?,
                tokens: text.ids.len(),
                truncated: text.truncated,
            })
        };
        let embeddings = texts.iter().map(embedding).collect();
        weights(token_weights.into_iter().flatten().flatten().collect());
        embeddings
    }

    fn take_workspace(&self) -> Workspace {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps a workspace for the next call, unless it is large: memory beyond what short texts need is given back.
    fn put_back(&self, ws: Workspace) {
        if ws.bytes() <= IDLE_BYTES {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(ws);
        }
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

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<Token> {
    let token = |&id: &u32| Token {
        id,
        piece: tokenizer.piece(id).unwrap_or_default().to_owned(),
        special: tokenizer.is_special(id),
    };
    ids.iter().map(token).collect()
}
