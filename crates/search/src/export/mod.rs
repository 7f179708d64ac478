//! Exports an index's documents and vectors as files that other engines load.
//!
//! | target | files | limits that are kept |
//! |---|---|---|
//! | `qdrant` | points, a JSON object a line | ids are UUIDs of the keys, 1,023 ColBERT rows, no sparse vector without values |
//! | `milvus` | rows, a JSON object a line | texts of 65,535 bytes, no sparse vector without values |
//! | `pgvector` | rows for `COPY … FROM` (tabs), `schema.sql` | sparse ids begin at 1, keys of any length, no NUL |
//! | `elasticsearch` | lines for `_bulk`, `mapping.json` | ids of 512 bytes, sparse tokens are strings, weights above 0 |
//! | `vespa` | a JSON feed, an operation a line, `entry.sd` | no characters that Vespa refuses, no empty tensors |
//! | `parquet` (a feature) | a row a document, vectors as lists | |
//! | `npy`, `faiss`, `lancedb` | arrays of all three representations, `documents.jsonl` | ids are places in the arrays |
//!
//! Documents come in the order of their keys, files are cut at 30 MB or 1,000 documents where the target takes requests. Dense vectors are
//! those of the f16 file, not of the scan's bytes, at length 1; sparse ids ascend, their weights are above 0 and finite. `manifest.json` has
//! the model's digest, counts, a SHA-256 of every file, and twenty queries with what they must find. Beside it are a Python script for each
//! engine that reads the files (`load.py`), which loads them and compares what the engine finds, and what the scripts share.

mod arrays;
mod expected;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod scripts;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use expected::Expected;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::reader::Reader;
use crate::settings::ModelId;
use crate::text::KEY;

/// Limits of a file that is sent as one request: documents, and bytes.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 30_000_000;
/// Most ColBERT rows of a point in Qdrant.
const QDRANT_ROWS: usize = 1_023;

/// An engine, or a family of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Qdrant's points.
    Qdrant,
    /// Milvus' rows.
    Milvus,
    /// PostgreSQL with pgvector.
    Pgvector,
    /// Elasticsearch's and OpenSearch's bulk lines.
    Elasticsearch,
    /// Vespa's feed.
    Vespa,
    /// Arrays for NumPy, DuckDB, sqlite-vec and others.
    Npy,
    /// The same with a script for FAISS.
    Faiss,
    /// The same with a script for LanceDB.
    Lancedb,
    /// Parquet, if this program was built with it.
    Parquet,
}

/// Targets by their names on the command line.
const NAMES: [(&str, Target); 10] = [
    ("qdrant", Target::Qdrant),
    ("milvus", Target::Milvus),
    ("pgvector", Target::Pgvector),
    ("lancedb", Target::Lancedb),
    ("elasticsearch", Target::Elasticsearch),
    ("opensearch", Target::Elasticsearch),
    ("vespa", Target::Vespa),
    ("faiss", Target::Faiss),
    ("npy", Target::Npy),
    ("parquet", Target::Parquet),
];

impl std::str::FromStr for Target {
    type Err = Error;

    fn from_str(name: &str) -> Result<Target> {
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, target)| target).ok_or_else(|| {
            let is_built = |target: Target| target != Target::Parquet || cfg!(feature = "parquet");
            let known: Vec<&str> =
                NAMES.iter().filter(|&&(_, target)| is_built(target)).map(|&(name, _)| name).collect();
            Error::option("to", format!("found `{}`, expected one of {}", name.escape_debug(), known.join(", ")))
        })
    }
}

/// What is written to `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// For which engine.
    pub target: Target,
    /// The model that made the vectors.
    pub model: ModelId,
    /// Values of a dense vector.
    pub dense_dim: usize,
    /// Values of a ColBERT row, if the export has them.
    pub colbert_dim: Option<usize>,
    /// Documents (chunks count each).
    pub documents: u64,
    /// Documents with lexical weights.
    pub with_sparse: u64,
    /// Documents whose ColBERT rows were cut to the target's limit.
    pub cut_colbert: u64,
    /// Documents whose text or title was cut to the target's limit.
    pub cut_texts: u64,
    /// Documents in which characters that the target refuses were replaced by `U+FFFD`.
    pub replaced_characters: u64,
    /// The files.
    pub files: Vec<ExportedFile>,
    /// Queries to compare a load by.
    pub queries: Vec<Expected>,
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

/// Writes an export to a new directory. The manifest is written last; a directory without it is incomplete.
///
/// # Errors
/// [`Error::Exists`] if something is at `to`; [`Error::Io`]; [`Error::Damaged`].
pub fn export(reader: &Reader, to: &Path, target: Target, filter: Option<&Filter>) -> Result<Manifest> {
    if target == Target::Parquet && cfg!(not(feature = "parquet")) {
        return Err(Error::option("to", "this program was built without Parquet (the feature `parquet`)"));
    }
    if to.exists() {
        return Err(Error::Exists { path: to.to_path_buf(), what: "there is something already".to_owned() });
    }
    fs::create_dir_all(to).map_err(|e| Error::io(to, e))?;
    let keys = reader.strings(KEY)?;
    let selected = reader.selected(filter)?;
    let mut order: Vec<usize> = selected.iter().collect();
    order.sort_by(|&a, &b| keys[a].cmp(&keys[b]));
    let source = Source { reader, target };
    let mut manifest = Manifest {
        target,
        model: reader.index.model().clone(),
        dense_dim: reader.index.settings.dense_dim,
        colbert_dim: source.takes_colbert().then_some(reader.index.settings.colbert_dim).flatten(),
        documents: order.len() as u64,
        with_sparse: 0,
        cut_colbert: 0,
        cut_texts: 0,
        replaced_characters: 0,
        files: Vec::new(),
        queries: Vec::new(),
    };
    let mut files = Files { directory: to.to_path_buf(), open: None, done: Vec::new() };
    match target {
        #[cfg(feature = "parquet")]
        Target::Parquet => parquet::write(&source, &order, &mut files, &mut manifest)?,
        Target::Npy | Target::Faiss | Target::Lancedb => arrays::write(&source, &order, &mut files, &mut manifest)?,
        _ => rows::write(&source, &order, &mut files, &mut manifest)?,
    }
    scripts::write(target, &mut files)?;
    manifest.queries = expected::queries(&source, &order, &keys, &selected)?;
    manifest.files = files.finish()?;
    let path = to.join("manifest.json");
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::io(&path, e.into()))?;
    fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
    Ok(manifest)
}

/// The vectors of an index as an export has them.
struct Source<'a> {
    reader: &'a Reader,
    target: Target,
}

impl Source<'_> {
    /// Whether the target is given ColBERT rows that are stored.
    fn takes_colbert(&self) -> bool {
        let stored = self.reader.index.settings.modes().colbert;
        stored && !matches!(self.target, Target::Milvus | Target::Pgvector | Target::Elasticsearch)
    }

    /// A dense vector, normalised again, because rounding to f16 has changed its length a little.
    fn dense(&self, row: usize) -> Result<Vec<f32>> {
        let mut vector = vec![0.0f32; self.reader.index.settings.dense_dim];
        let (segment, local) = self.reader.place(row)?;
        segment.dense16.read(local, &mut vector)?;
        let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if norm > 0.0 {
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
        Ok(vector)
    }

    /// A document's lexical weights, ids ascending.
    fn sparse(&self, row: usize) -> Result<Vec<(u32, f32)>> {
        let (segment, local) = self.reader.place(row)?;
        let Some(lexical) = &segment.lexical else { return Ok(Vec::new()) };
        let (ids, weights) = lexical.document(local)?;
        let weights = weights.iter().map(|&weight| half::f16::from_bits(weight).to_f32());
        Ok(ids.iter().copied().zip(weights).filter(|&(_, weight)| weight > 0.0 && weight.is_finite()).collect())
    }

    /// A document's ColBERT rows, as many as the target takes, and whether there are more.
    fn colbert(&self, row: usize) -> Result<(Vec<Vec<f32>>, bool)> {
        let (segment, local) = self.reader.place(row)?;
        let Some(colbert) = segment.colbert.as_ref().filter(|_| self.takes_colbert()) else {
            return Ok((Vec::new(), false));
        };
        let mut rows = colbert.vectors(local)?;
        let more = self.target == Target::Qdrant && rows.len() > QDRANT_ROWS;
        if more {
            rows.truncate(QDRANT_ROWS);
        }
        Ok((rows, more))
    }
}

/// The files of an export, one open at a time.
struct Files {
    directory: PathBuf,
    open: Option<Open>,
    done: Vec<ExportedFile>,
}

struct Open {
    file: BufWriter<fs::File>,
    path: PathBuf,
    name: String,
    bytes: u64,
    hash: Sha256,
}

impl Files {
    /// Begins the next file.
    fn begin(&mut self, name: impl Into<String>) -> Result<()> {
        self.end()?;
        let name = name.into();
        let path = self.directory.join(&name);
        let file = BufWriter::new(fs::File::create(&path).map_err(|e| Error::io(&path, e))?);
        self.open = Some(Open { file, path, name, bytes: 0, hash: Sha256::new() });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.file.write_all(bytes).map_err(|e| Error::io(&open.path, e))?;
            open.hash.update(bytes);
            open.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.file.flush().and_then(|()| open.file.get_ref().sync_all()).map_err(|e| Error::io(&open.path, e))?;
        let sha256 = open.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.done.push(ExportedFile { name: open.name, bytes: open.bytes, sha256 });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<ExportedFile>> {
        self.end()?;
        Ok(self.done)
    }
}
