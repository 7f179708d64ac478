//! The heads: token states in, one representation (or a reranker's score) out. One formula a file.

mod colbert;
mod dense;
mod lexical;
mod rerank;

pub(crate) use colbert::colbert;
pub(crate) use dense::{DenseHead, dense};
pub(crate) use lexical::{lexical, token_weights};
pub(crate) use rerank::{logit, sigmoid};
