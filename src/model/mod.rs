//! The encoder of XLM-RoBERTa: token ids in, token states out.
//!
//! Start at [`layer`], whose steps are those of the paper; [`encoder`] stacks layers on [`embeddings`]; [`attention`], [`norm`] and
//! [`feed_forward`] are the parts of a layer; [`schedule`] decides which threads compute which rows; [`workspace`] has every buffer with
//! its shape. [`observe`] records the inputs of linear layers for calibration, and [`reading`] times products.

mod attention;
mod batch;
mod embeddings;
mod encoder;
mod feed_forward;
mod layer;
mod norm;
mod observe;
mod reading;
mod schedule;
mod workspace;

pub(crate) use batch::{TextBatch, Wanted};
pub(crate) use encoder::Encoder;
pub(crate) use observe::{Channel, Observe, Observer, Seen};
pub(crate) use workspace::Workspace;
