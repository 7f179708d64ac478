//! Self-knowledge distillation of a model's three heads, as BGE-M3 was trained: dense, lexical and ColBERT learn from pairs of queries and
//! passages, and from the sum of their own scores. The encoder stays as it is, so that its states are computed once, and a run takes
//! minutes on a CPU.
//!
//! # The way the data goes
//! ```text
//! files ─▶ pairs, groups ─▶ tokens ─▶ engine ─▶ states (f16, on disk, mapped)
//! data     data            corpus    states       │
//!                                                 ▼
//!    heads ◀─ AdamW ◀─ gradients ◀─ losses ◀─ scores of a batch     curves, epochs, checkpoints
//!    heads            arms          loss      arms, batch           run, checkpoint
//!      │
//!      └▶ eval, report, export (sentence-transformers, BAAI's pair of .pt files, packed files)
//! ```
//!
//! Gradients are written by hand, in f32, and compared with PyTorch's. The same data, options and model give the same bytes, with any number
//! of threads and after any interruption.
//!
//! # What it must not know
//! The network, an index, the command line. Nothing here prints, panics on bad input or ends the process.
#![deny(unsafe_code)]

mod ablation;
mod arms;
mod batch;
mod checkpoint;
mod corpus;
mod data;
mod error;
mod eval;
mod export;
#[cfg(test)]
mod gradients;
mod heads;
mod loss;
mod math;
mod negatives;
mod options;
mod random;
mod report;
mod run;
mod session;
mod states;

pub use ablation::AblationRow;
pub use data::{FEW_JUDGED, LeftOut, Pair, PairSet, RawPair, RawPairs, Split, parse_pairs, read_documents, read_pairs};
pub use error::{Error, ErrorKind, Result};
pub use eval::{Change, Compared, Evaluation, PerQuery, WAYS};
pub use export::{ExportOptions, METADATA_KEY, check_output};
pub use heads::Start;
pub use loss::{ARMS, LossOptions, Losses};
pub use options::TrainOptions;
pub use report::{CurvePoint, DataReport, EpochPoint, Report, Sample, SparseScale, StatesReport};
pub use run::Trained;
pub use session::{Event, Inputs, Observer, Session};
pub use trivec::bootstrap::Interval;
