//! The heads: token states in, one representation (or a reranker's score) out. Each head has a file of its own.
//!
//! A result that is NaN or infinite becomes [`NotFinite`], an error for the text that it belongs to.

mod colbert;
mod dense;
mod finite;
mod lexical;
mod rerank;

pub(crate) use colbert::{ColbertHead, colbert};
pub(crate) use dense::{DenseHead, dense, pool};
pub(crate) use finite::NotFinite;
pub(crate) use lexical::{lexical, token_weights};
pub(crate) use rerank::{logit, score};
