//! Search over trivec's three representations: an index on disk of texts, their words, dense vectors, lexical weights and ColBERT vectors,
//! and queries that find across languages and say why.
//!
//! ```
//! use trivec::Model;
//! use trivec_search::{Document, Index, IndexOptions, ModelId, Query};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::starter()?; // or Model::load("path/to/bge-m3")?
//! let id = ModelId::of(&model)?; // once a model: the index refuses any other
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("notes");
//! let index = Index::create(&path, &id, &IndexOptions::default())?;
//! let encoder = index.encoder(&model, &id)?;
//!
//! let mut writer = index.writer()?; // one at a time, of all processes
//! writer.upsert(
//!     &encoder,
//!     &[
//!         Document::new("phone", "Apple has presented a new phone.").with_field("year", 2024),
//!         Document::new("soup", "The soup is cooked with carrots and leek.").with_field("year", 2020),
//!     ],
//! )?;
//! writer.commit()?; // now it is visible, and safe
//!
//! let reader = index.reader()?; // a view of this commit; as many as you like
//! let hits = reader.search(&encoder, &Query { explain: true, ..Query::new("苹果公司发布新手机") })?;
//! assert_eq!(hits.hits[0].document.key, "phone");
//! assert!(hits.best_share < 0.2, "the words are in another language");
//! let explanation = hits.hits[0].explanation.as_ref().unwrap();
//! assert!(!explanation.alignment.is_empty() && !explanation.snippet.is_empty());
//!
//! let filtered = Query { filter: Some("year < 2022".parse()?), ..Query::new("phone") };
//! assert_eq!(reader.search(&encoder, &filtered)?.hits[0].document.key, "soup");
//! # Ok(())
//! # }
//! ```
//!
//! # The way the data goes
//! ```text
//! documents ─▶ analyze ─▶ words ──────────┐
//!          └─▶ model ─▶ three vectors ─┐  │
//!                                 segments text (tantivy)      one commit names both
//!                                      │  │
//! query ─▶ dense ∥ words ∥ lexical ─▶ fusion ─▶ ColBERT rerank ─▶ documents, explained
//! ```
//!
//! # On disk
//! `trivec-index.json` (what the index is), `lock` (held by the writer), `text/` (tantivy: words, fields for filters, which documents live),
//! `seg/` (immutable files of documents and vectors). The list of segments travels in tantivy's commit: text, filters, deletes and vectors
//! become visible together or not at all, and a crash leaves the last commit.
//!
//! Every byte of every file is covered by a checksum, and the files that name others (the commit's list of segments, tantivy's `meta.json`)
//! carry the checksums of those they name: a flipped bit, a cut, or an intact file in the place of another is an error, found before
//! tantivy or a search works with it. What is not noticed: a whole index, or all files of its last commit together, put back to an older
//! state.
//!
//! # What it must not know
//! The network, threads beyond those of a call, the command line. Nothing here prints, panics on bad input or ends the process.
#![deny(unsafe_code)]

pub mod analyze;
mod bits;
mod commit;
mod directory;
mod disk;
mod document;
mod encode;
mod error;
pub mod eval;
mod explain;
mod explanation;
pub mod export;
#[cfg(test)]
mod faults;
mod filter;
#[doc(hidden)]
pub mod fuzzing;
mod index;
pub mod ingest;
mod kept;
mod keys;
mod query;
mod reader;
mod sealed;
mod segment;
mod sentences;
mod settings;
mod snapshot;
mod text;
mod writer;

pub use directory::Index;
pub use document::{
    Document, MAX_KEY_BYTES, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_METADATA_STRING, MAX_METADATA_VALUES,
    MAX_TEXT_BYTES, MAX_TITLE_BYTES, RESERVED_NAMES,
};
pub use encode::Encoder;
pub use error::{Error, ErrorKind, Result};
pub use explanation::{AlignedToken, Explanation, Mark, PieceMatch, SnippetPart, WordMatch};
pub use filter::Filter;
pub use index::{Checked, Stats};
pub use kept::Kept;
pub use query::{ArmScores, Arms, Best, Fusion, Hit, Hits, MAX_QUERY_BYTES, MAX_TOP, Query, Ranked, Timings, WordInfo};
pub use reader::Reader;
pub use settings::{ColbertBits, IndexOptions, ModelId};
pub use writer::{Committed, Writer};
