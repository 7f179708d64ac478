//! Strings in, token ids out: the tokenizer of XLM-RoBERTa, read from Hugging Face's `tokenizer.json` or a SentencePiece model.
//!
//! ```text
//! text ─▶ added tokens (`<mask>` …) cut out ─▶ normaliser ─▶ words at ▁ ─▶ Unigram ─▶ <s> … </s>
//!         added.rs                             normalizer.rs  words.rs      unigram.rs
//! ```
//! The ids are those of the `tokenizers` library for the same file (`oracle/tests/tokenizer.rs` compares the two). The time is linear in
//! the length of the text, and the work ends early once all tokens that will be kept are certain.

mod added;
mod compiled;
mod extra;
mod normalizer;
mod numbering;
mod protobuf;
mod sentencepiece;
mod spec;
mod tokenizer;
mod trie;
mod types;
mod unigram;
mod words;

pub(crate) use extra::ExtraTokens;
pub(crate) use tokenizer::Beside;
pub use tokenizer::Tokenizer;
pub(crate) use types::{CompiledArrays, MIN_PAIR_TOKENS};
pub use types::{SpecialTokens, TokenIds};
