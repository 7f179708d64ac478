//! The three heads: token states in, one representation out. One formula a file.

mod colbert;
mod dense;
mod lexical;

pub(crate) use colbert::colbert;
pub(crate) use dense::{DenseHead, dense};
pub(crate) use lexical::{lexical, token_weights};
