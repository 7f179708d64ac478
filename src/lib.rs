//! A from-scratch CPU engine for BGE-M3.
#![deny(unsafe_code)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod compute;
mod config;
mod embedding;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod heads;
mod model;
mod parallel;
pub mod similarity;
#[cfg(feature = "starter")]
mod starter;
mod tensor;
pub mod text;
mod weights;

pub use embedding::{Embedding, LexicalWeights, Modes, ParseModesError, TokenVectors};
pub use engine::{EncodeOptions, Inspection, LoadOptions, Model, ModelInfo, Token, Tokens, instruction_sets};
pub use error::{Error, ErrorKind, Result};
pub use text::SpecialTokens;
