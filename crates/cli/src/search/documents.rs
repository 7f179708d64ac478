//! `trivec get`, `delete` and `export`: documents of an index by key or filter.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::json;
use trivec::escape::Escaped;
use trivec_search::export::Target;
use trivec_search::{Error, Filter, Index};

use super::common::{documents_and_entries, parse_filter, print, print_json};
use crate::exit::{Failure, Result};
use crate::style::{bytes, counted, grouped};

#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("which").args(["keys", "filter"]).required(true).multiple(true),
    after_help = "Examples:\n  trivec get notes/ doc-1 doc-2\n  trivec get notes/ --filter 'year < 2000'\n\nPrints what is under each key as a line of JSON: the document; or, of one that was cut into chunks, its key and its `chunks`. With a filter each entry, a document or a chunk, is a line. Keys that no document has are told, the others are printed: the exit code is 3 then."
)]
pub(crate) struct GetArgs {
    /// Directory of the index
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Keys of the documents
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Documents that match this filter instead
    #[arg(long, value_name = "FILTER", env = "TRIVEC_GET_FILTER", value_parser = parse_filter)]
    pub filter: Option<Filter>,
    /// Print JSON, as without it: documents are always printed so
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

/// Prints documents by key or filter. Keys that no document has are an error at the end.
pub(crate) fn get(args: &GetArgs) -> Result<()> {
    let reader = Index::open(&args.directory)?.reader()?;
    let mut missing = Vec::new();
    for key in &args.keys {
        match reader.get(key) {
            Ok(kept) => print_json(&kept)?,
            Err(e @ Error::NoDocument { .. }) => missing.push(e),
            Err(e) => return Err(e.into()),
        }
    }
    // For a single key, the error that is returned says the same.
    if args.keys.len() > 1 {
        missing.iter().for_each(|error| say!("trivec: {error}"));
    }
    match missing.len() {
        0 => {}
        1 if args.keys.len() == 1 => return Err(missing.remove(0).into()),
        keys => {
            let what = format!("{} of {} keys are not in the index", keys, args.keys.len());
            return Err(Failure::input(what));
        }
    }
    if args.keys.is_empty() {
        // Where a line cannot be printed, as into a closed pipe, nothing more is read: any error of the closure ends the call.
        let mut failed = None;
        let read = reader.for_each(args.filter.as_ref(), |document| {
            print_json(&document).map_err(|failure| {
                failed = Some(failure);
                Error::Engine(trivec::Error::Cancelled)
            })
        });
        return failed.map_or(read.map_err(Failure::from), Err);
    }
    Ok(())
}

#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("which").args(["keys", "filter"]).required(true).multiple(true),
    after_help = "Examples:\n  trivec delete notes/ doc-1 doc-2\n  trivec delete notes/ --filter 'tag = \"draft\"'\n\nA key that is not there is no error. `trivec index DIR --compact` gives the room back."
)]
pub(crate) struct DeleteArgs {
    /// Directory of the index
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Keys of the documents
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Documents that match this filter instead
    #[arg(long, value_name = "FILTER", env = "TRIVEC_DELETE_FILTER", value_parser = parse_filter)]
    pub filter: Option<Filter>,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

/// Deletes documents by key or filter, and says how many entries are gone.
pub(crate) fn delete(args: &DeleteArgs) -> Result<()> {
    let index = Index::open(&args.directory)?;
    let before = index.reader()?.len();
    let mut writer = index.writer()?;
    for key in &args.keys {
        writer.delete(key)?;
    }
    if let Some(filter) = args.filter.as_ref().filter(|_| args.keys.is_empty()) {
        writer.delete_where(filter)?;
    }
    writer.commit()?;
    let deleted = before.saturating_sub(index.reader()?.len());
    if args.json {
        print_json(&json!({"deleted": deleted}))
    } else {
        print(&format!("{} deleted", counted(deleted, "entry")))
    }
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  trivec export notes/ --to qdrant --output out/\n  trivec export notes/ --to npy --output out/ --filter 'lang = \"en\"'\n  python out/load.py                           # says what it wants\n\nWrites files that the engine loads, a Python script that loads them and compares what the engine finds, and manifest.json with counts, hashes and queries with what they must find."
)]
pub(crate) struct ExportArgs {
    /// Directory of the index
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    #[arg(long, value_name = "ENGINE", env = "TRIVEC_TO", value_parser = parse_target, help = ENGINES)]
    pub to: Target,
    /// Directory to write to, which must not be there yet
    #[arg(long, short, value_name = "DIR", env = "TRIVEC_EXPORT_OUTPUT")]
    pub output: PathBuf,
    /// Only documents that match this filter
    #[arg(long, value_name = "FILTER", env = "TRIVEC_EXPORT_FILTER", value_parser = parse_filter)]
    pub filter: Option<Filter>,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

/// The help text of `--to`, with the engines that this build of the program can export to.
const ENGINES: &str = if cfg!(feature = "parquet") {
    "Engine: qdrant, milvus, pgvector, lancedb, elasticsearch, opensearch, vespa, faiss, parquet or npy (NumPy, DuckDB, sqlite-vec)"
} else {
    "Engine: qdrant, milvus, pgvector, lancedb, elasticsearch, opensearch, vespa, faiss or npy (NumPy, DuckDB, sqlite-vec)"
};

fn parse_target(text: &str) -> std::result::Result<Target, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

/// Writes the files for another engine, and lists them.
pub(crate) fn export(args: &ExportArgs) -> Result<()> {
    let reader = Index::open(&args.directory)?.reader()?;
    let manifest = trivec_search::export::export(&reader, &args.output, args.to, args.filter.as_ref())?;
    if args.json {
        return print_json(&manifest);
    }
    let mut text = format!(
        "{}, {} with lexical weights\n",
        documents_and_entries(manifest.documents, manifest.entries),
        grouped(manifest.with_sparse)
    );
    if manifest.cut_colbert > 0 {
        text.push_str(&format!(
            "{} had more ColBERT rows than the engine takes and were cut\n",
            grouped(manifest.cut_colbert)
        ));
    }
    if manifest.cut_texts > 0 {
        text.push_str(&format!(
            "{} had longer texts than the engine takes and were cut\n",
            grouped(manifest.cut_texts)
        ));
    }
    if manifest.replaced_characters > 0 {
        text.push_str(&format!(
            "{} had characters that the engine does not take: U+FFFD stands in their place\n",
            grouped(manifest.replaced_characters)
        ));
    }
    for file in &manifest.files {
        text.push_str(&format!("{:<28} {:>13}\n", Escaped(&file.name), bytes(file.bytes)));
    }
    print(&text)
}
