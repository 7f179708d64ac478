//! A from-scratch CPU engine for BGE-M3 and other XLM-RoBERTa embedders: one forward pass gives a dense vector, lexical token weights
//! and ColBERT token vectors, in fp32 or from packed files of int8, int4, f16 or bf16 weights ([`pack`]). XLM-RoBERTa rerankers score
//! a query's documents ([`Model::rerank`]).
//!
//! ```
//! # #[cfg(feature = "starter")]
//! # fn main() -> trivec::Result<()> {
//! use trivec::{EncodeOptions, Model, Modes, similarity};
//!
//! let model = Model::starter()?; // or Model::load("path/to/bge-m3")?
//! let options = EncodeOptions { modes: Modes::ALL, ..Default::default() };
//! let texts = model.encode(&["我喜欢阅读书籍", "I enjoy reading books", ""], &options)?;
//!
//! // [dim], L2-normalised
//! let dense = texts[0].dense.as_ref().unwrap();
//! assert_eq!(dense.len(), model.info().dense_dim);
//! // token id -> weight, ids ascending
//! let lexical = texts[0].lexical.as_ref().unwrap();
//! assert!(lexical.iter().all(|(id, weight)| id > 3 && weight > 0.0));
//! // [tokens - 1, dim]: one row for every token after <s>
//! let colbert = texts[0].colbert.as_ref().unwrap();
//! assert_eq!((colbert.rows(), colbert.dim()), (texts[0].tokens - 1, model.info().colbert_dim.unwrap()));
//! // An empty text is <s></s>, as for the reference.
//! assert_eq!((texts[2].tokens, texts[2].lexical.as_ref().unwrap().len()), (2, 0));
//!
//! let scores = similarity::score(&texts[0], &texts[1], &similarity::ScoreWeights::default());
//! assert!(scores.dense.unwrap() > 0.5);
//! assert_eq!(similarity::Thresholds::default().verdict(scores.dense.unwrap()), similarity::Verdict::Related);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "starter"))]
//! # fn main() {}
//! ```
//!
//! # The way the data goes
//! ```text
//! text ─▶ tokens ─▶ embeddings ─▶ encoder layers ─▶ heads ─▶ Embedding{dense, lexical, colbert}
//! text              model          model             heads     embedding
//! ```
//!
//! # Errors
//! Every fallible call returns [`Error`], whose [`kind`](Error::kind) says what a caller can do about it and whose text names the file,
//! the tensor, what was found and what was expected. Bad input never panics.
//!
//! # Source
//! Formulas and names follow FlagEmbedding's `BGEM3FlagModel`; each head and score cites the function it reproduces.
#![deny(unsafe_code)]

#[doc(hidden)]
pub mod bootstrap;
mod compute;
mod config;
pub mod corpus;
#[doc(hidden)]
pub mod decode;
mod embedding;
mod engine;
mod error;
#[doc(hidden)]
pub mod escape;
#[doc(hidden)]
pub mod fuzzing;
mod heads;
#[doc(hidden)]
pub mod json;
mod linear;
#[doc(hidden)]
pub mod lock_file;
#[doc(hidden)]
pub mod magic;
mod model;
#[doc(hidden)]
pub mod numbers;
#[doc(hidden)]
pub mod output_path;
pub mod pack;
#[doc(hidden)]
pub mod parallel;
#[doc(hidden)]
pub mod records;
pub mod similarity;
#[cfg(feature = "starter")]
mod starter;
mod tensor;
pub mod text;
mod weights;

/// Items of the engine for the other crates of this workspace. Nobody else should build on them, because they change without notice.
#[doc(hidden)]
pub mod internal {
    pub use crate::config::{MIN_PAIR_TOKENS, check_config, is_plain_relative};
    pub use crate::engine::{HeadMap, HeadMaps, Work};
    pub use crate::weights::{Content, MappedFile, Stamp, read_through};
}

pub use embedding::{
    Embedding, Inspection, LexicalWeights, Modes, ParseModesError, Reranked, Token, TokenVectors, Tokens,
};
pub use engine::{
    Cancel, EncodeOptions, LoadOptions, Model, ModelInfo, Progress, Prompt, RerankOptions, Tune, instruction_sets,
};
pub use error::{Error, ErrorKind, Result};
pub use text::SpecialTokens;
pub use weights::WeightFormat;

/// The Rust of the README is a doctest.
#[cfg(all(doctest, feature = "starter"))]
#[doc = include_str!("../README.md")]
mod readme {}
