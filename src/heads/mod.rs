//! The heads: token states in, one representation (or a reranker's score) out. One formula a file.
//!
//! A result that is not finite becomes [`NotFinite`], an error of its text.

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
