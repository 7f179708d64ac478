//! The encoder of XLM-RoBERTa: token ids in, token states out.
//!
//! Start at [`layer`], which reads beside the paper; [`encoder`] stacks layers on [`embeddings`]; [`attention`] and
//! [`feed_forward`] are the two halves of a layer; [`workspace`] has every buffer with its shape.

mod activations;
mod attention;
mod batch;
mod embeddings;
mod encoder;
mod feed_forward;
mod layer;
mod observe;
mod reading;
mod workspace;

pub(crate) use batch::{TextBatch, Wanted};
pub(crate) use encoder::Encoder;
pub(crate) use observe::{Channel, Observe, Observer, Seen};
pub(crate) use workspace::Workspace;
