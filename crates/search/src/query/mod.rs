//! Searching: the query is embedded once; the dense arm runs in parallel with the BM25 and lexical arms; their lists are fused; the best
//! are reordered by ColBERT vectors; then their documents are read.

mod answer;
mod arms;
mod ask;
pub(crate) mod bm25;
mod cross;
pub(crate) mod dense;
pub(crate) mod fusion;
pub(crate) mod lexical;
mod rerank;
mod search;
mod stop;
pub(crate) mod topk;

pub use answer::{ArmScores, Hit, Hits, Timings, WordInfo};
pub use arms::Arms;
pub use ask::{MAX_QUERY_BYTES, MAX_TOP, Query};
pub use fusion::{Fusion, Ranked};
pub(crate) use rerank::{query_rows, rerank};
pub use search::Best;
pub(crate) use search::Ranking;
pub(crate) use stop::Stop;
