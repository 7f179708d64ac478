//! Exports an index's documents and vectors as files that other engines load.
//!
//! | target | files | limits and rules that the files obey |
//! |---|---|---|
//! | `qdrant` | points, one JSON object per line | ids are UUIDs made of the keys, at most 1,023 ColBERT rows, no sparse vector without values |
//! | `milvus` | rows, one JSON object per line | texts of at most 65,535 bytes, no sparse vector without values |
//! | `pgvector` | rows for `COPY … FROM` (tabs), `schema.sql` | sparse ids begin at 1, keys of any length, no NUL |
//! | `elasticsearch` | lines for `_bulk`, `mapping.json` | ids of at most 512 bytes, token ids are strings, weights above 0 |
//! | `vespa` | a JSON feed, one operation per line, `entry.sd` | no characters that Vespa refuses, no empty tensors |
//! | `parquet` (a feature) | one row per document, vectors as lists | |
//! | `npy`, `faiss`, `lancedb` | arrays of all three representations, `documents.jsonl` | ids are indices into the arrays |
//!
//! Documents are sorted by their keys. Where a target is sent the files as requests, each file has at most 1,000 documents and about 30 MB.
//! Dense vectors are those of the f16 file, not the int8 ones, normalised to length 1; sparse ids ascend, and their weights are above 0 and
//! finite. `manifest.json` has the model's digest, counts, a SHA-256 of every file, and twenty queries with the documents that each must
//! find. With the files come Python scripts: `load.py` loads them into the engine and compares what it finds with the manifest; others do
//! so for further engines that read the same files, and `trivec_export.py` is what the scripts share.

mod arrays;
mod expected;
mod files;
mod manifest;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod scripts;
mod source;
mod target;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

pub use expected::Expected;
pub use files::ExportedFile;
pub use manifest::Manifest;
pub use target::Target;

use self::files::Files;
use self::source::Source;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::reader::Reader;
use crate::text::{GROUP, KEY};

/// Writes an export to a new directory. The manifest is written last; a directory without it is incomplete.
///
/// # Errors
/// [`Error::NothingToRead`] if no document is to be exported; [`Error::Exists`] if something is at `to`; [`Error::Document`] if two entries
/// have the same key and the target keeps only one of them; [`Error::Option`] for Parquet if this program was built without it; as
/// [`Reader::check_filter`]; [`Error::Io`]; [`Error::Damaged`].
pub fn export(reader: &Reader, to: &Path, target: Target, filter: Option<&Filter>) -> Result<Manifest> {
    if target == Target::Parquet && cfg!(not(feature = "parquet")) {
        return Err(Error::option("to", "this program was built without Parquet (the feature `parquet`)"));
    }
    let keys = reader.strings(KEY)?;
    let selected = reader.selected(filter)?;
    let mut order: Vec<usize> = selected.iter().collect();
    if order.is_empty() {
        let what = match filter {
            Some(_) if !reader.is_empty() => "no document matches the filter",
            _ => "the index has no documents",
        };
        let path = reader.index.directory.clone();
        return Err(Error::NothingToRead { path, what: format!("{what}, so there is nothing to export") });
    }
    order.sort_by(|&a, &b| keys[a].cmp(&keys[b]));
    if target.has_ids()
        && let Some(pair) = order.windows(2).find(|pair| keys[pair[0]] == keys[pair[1]])
    {
        let what = "a document and a chunk, or chunks of two documents, have this key, of which the engine keeps one entry: \
                    leave one out by a filter, or give the document another key";
        return Err(Error::document(&keys[pair[0]], what));
    }
    if to.exists() {
        return Err(Error::Exists { path: to.to_path_buf(), what: "there is something already".to_owned() });
    }
    fs::create_dir_all(to).map_err(|e| Error::io(to, e))?;
    let groups = reader.strings(GROUP)?;
    let documents = order.iter().map(|&row| groups[row].as_str()).collect::<BTreeSet<&str>>().len();
    drop(groups);
    let source = Source { reader, target };
    let mut manifest = Manifest {
        target,
        model: reader.index.model().clone(),
        dense_dim: reader.index.settings.dense_dim,
        colbert_dim: source.takes_colbert().then_some(reader.index.settings.colbert_dim).flatten(),
        documents: documents as u64,
        entries: order.len() as u64,
        with_sparse: 0,
        cut_colbert: 0,
        cut_texts: 0,
        replaced_characters: 0,
        files: Vec::new(),
        queries: Vec::new(),
    };
    let mut files = Files::new(to);
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
