//! Hand-over: an index's documents and vectors as files that other engines load.
//!
//! | target | files | limits that are kept |
//! |---|---|---|
//! | `qdrant` | points, a JSON object a line | ids are UUIDs of the keys, 1,023 ColBERT rows, no sparse vector without values |
//! | `milvus` | rows, a JSON object a line | no sparse field without values |
//! | `pgvector` | rows for `COPY … FROM` (tabs), `schema.sql` | sparse ids begin at 1 |
//! | `elasticsearch` | lines for `_bulk` | sparse tokens are strings, weights above 0 |
//! | `vespa` | a JSON feed, an operation a line | |
//! | `npy` | `dense.npy` (f32), `keys.txt`, `documents.jsonl` | what FAISS, NumPy and others read |
//!
//! Documents come in the order of their keys, files are cut at 30 MB or 1,000 documents where the target takes requests. Dense vectors are
//! those of the f16 file, not of the scan's bytes. `manifest.json` has the model's digest, counts, a SHA-256 of every file, and twenty
//! queries with the documents that the index itself finds, so that a load can be compared.

mod npy;
mod rows;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::query::{dense, lexical};
use crate::reader::Reader;
use crate::settings::ModelId;
use crate::text::KEY;

/// Queries that the manifest has.
const QUERIES: usize = 20;
/// Documents that each of them names.
const EXPECTED: usize = 10;
/// A file that becomes a request ends at so many documents or bytes.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 30_000_000;

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
    /// Arrays for NumPy, FAISS and others.
    Npy,
}

impl std::str::FromStr for Target {
    type Err = Error;

    fn from_str(name: &str) -> Result<Target> {
        Ok(match name {
            "qdrant" => Target::Qdrant,
            "milvus" => Target::Milvus,
            "pgvector" => Target::Pgvector,
            "elasticsearch" | "opensearch" => Target::Elasticsearch,
            "vespa" => Target::Vespa,
            "npy" | "faiss" => Target::Npy,
            _ => {
                let what = format!(
                    "found `{}`, expected qdrant, milvus, pgvector, elasticsearch, vespa or npy",
                    name.escape_debug()
                );
                return Err(Error::option("to", what));
            }
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
    /// Documents (chunks count each).
    pub documents: u64,
    /// Of them, with lexical weights.
    pub with_sparse: u64,
    /// Of them, with fewer ColBERT rows than the index has, because the target takes no more.
    pub cut_colbert: u64,
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

/// A query: the vectors of a document, and what is nearest to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The document whose vectors ask.
    pub key: String,
    /// Keys by the product of dense vectors, the nearest first.
    pub dense: Vec<String>,
    /// Their products.
    pub dense_scores: Vec<f32>,
    /// Keys by the product of lexical weights.
    pub sparse: Vec<String>,
    /// Their products.
    pub sparse_scores: Vec<f32>,
}

/// Writes an export to a new directory.
///
/// # Errors
/// [`Error::Exists`] if something is at `to`; [`Error::Io`]; [`Error::Damaged`].
pub fn export(reader: &Reader, to: &Path, target: Target, filter: Option<&Filter>) -> Result<Manifest> {
    if to.exists() {
        return Err(Error::Exists { path: to.to_path_buf(), what: "there is something already".to_owned() });
    }
    fs::create_dir_all(to).map_err(|e| Error::io(to, e))?;
    let keys = reader.strings(KEY)?;
    let selected = reader.selected(filter)?;
    let mut order: Vec<usize> = selected.iter().collect();
    order.sort_by(|&a, &b| keys[a].cmp(&keys[b]));
    let mut manifest = Manifest {
        target,
        model: reader.index.model().clone(),
        documents: order.len() as u64,
        with_sparse: 0,
        cut_colbert: 0,
        files: Vec::new(),
        queries: Vec::new(),
    };
    let mut files = Files { directory: to.to_path_buf(), open: None, done: Vec::new() };
    match target {
        Target::Npy => npy::write(reader, &order, &keys, &mut files)?,
        _ => rows::write(reader, &order, target, &mut files, &mut manifest)?,
    }
    manifest.queries = expected(reader, &order, &keys, &selected)?;
    manifest.files = files.finish()?;
    let path = to.join("manifest.json");
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::io(&path, e.into()))?;
    fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
    Ok(manifest)
}

/// What the index finds for the vectors of documents that lie evenly among all.
fn expected(reader: &Reader, order: &[usize], keys: &[String], selected: &crate::bits::Bits) -> Result<Vec<Expected>> {
    let count = QUERIES.min(order.len());
    let named = |list: &[(f32, usize)]| {
        let rows = list.iter().map(|&(_, row)| keys.get(row).cloned().unwrap_or_default()).collect();
        (rows, list.iter().map(|&(score, _)| score).collect())
    };
    let mut queries = Vec::new();
    for index in 0..count {
        let row = order[index * order.len() / count];
        let mut vector = vec![0.0; reader.index.settings.dense_dim];
        let (segment, local) = reader.place(row)?;
        segment.dense16.read(local, &mut vector)?;
        let found = dense::search(reader, &[&vector], selected, EXPECTED, 1)?.pop().unwrap_or_default();
        let (dense, dense_scores) = named(&found);
        let weights = trivec::LexicalWeights::from_pairs(sparse(reader, row)?);
        let (sparse, sparse_scores) = named(&lexical::search(reader, &weights, selected, EXPECTED)?);
        queries.push(Expected { key: keys[row].clone(), dense, dense_scores, sparse, sparse_scores });
    }
    Ok(queries)
}

/// A row's lexical weights, ids ascending.
fn sparse(reader: &Reader, row: usize) -> Result<Vec<(u32, f32)>> {
    let (segment, local) = reader.place(row)?;
    let Some(lexical) = &segment.lexical else { return Ok(Vec::new()) };
    let (ids, weights) = lexical.document(local)?;
    Ok(ids.iter().zip(weights).map(|(&id, &weight)| (id, half::f16::from_bits(weight).to_f32())).collect())
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
    fn begin(&mut self, name: String) -> Result<()> {
        self.end()?;
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
