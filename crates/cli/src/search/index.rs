//! `trivec index`: adds documents to an index; statistics, check, compaction and snapshots.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use trivec::escape::Escaped;
use trivec_search::ingest::{Chunking, Columns, Format, IngestOptions, Ingested, ingest, open};
use trivec_search::{ColbertBits, Index, IndexOptions, ModelId};

use super::{bar, print, print_json};
use crate::args::ModelArgs;
use crate::cache::{CacheArgs, Kept};
use crate::exit::{self, Failure, Result};

const EXAMPLES: &str = "\
Examples:
  trivec index notes/ --input docs.jsonl
  trivec index notes/ --input rows.csv --key sku --text description --fields brand,price
  trivec index notes/ --input articles/ --chunk 256/32
  trivec index notes/ --input docs.jsonl --cache embeddings.cache --cache-size 4GiB
  trivec index notes/ --stats
  trivec index notes/ --check
  trivec index notes/ --compact
  trivec index notes/ --snapshot backup/

Documents are JSONL, CSV, TSV or Parquet with a name for each column (`id`, `text`, and if they are there `title` and `lang`; every other column can be \
filtered by), or text files, each a document whose key is its path. A document whose key is there already replaces it; one with the same \
content is passed over, so that a run that was interrupted goes on where it was. A document that cannot be taken is refused by its line, and \
the others are indexed: the exit code is 3 then. An index belongs to the model that made it.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IndexArgs {
    /// Directory of the index; it is created if it does not exist
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// File to read, or a directory of files; may be given several times
    #[arg(long, short, value_name = "PATH", env = "TRIVEC_INPUT")]
    pub input: Vec<PathBuf>,
    /// How files are read: jsonl, csv, tsv, parquet or txt [default: by their names]
    #[arg(long, value_name = "FORM", env = "TRIVEC_FORMAT", value_parser = parse_format)]
    pub format: Option<Format>,
    /// Field or column of the key
    #[arg(long, value_name = "NAME", env = "TRIVEC_KEY", default_value = "id")]
    pub key: String,
    /// Field or column of the text
    #[arg(long, value_name = "NAME", env = "TRIVEC_TEXT", default_value = "text")]
    pub text: String,
    /// Field or column of the title, if documents have one
    #[arg(long, value_name = "NAME", env = "TRIVEC_TITLE", default_value = "title")]
    pub title: String,
    /// Field or column of the language, if documents have one
    #[arg(long, value_name = "NAME", env = "TRIVEC_LANG_FIELD", default_value = "lang")]
    pub lang_field: String,
    /// Fields or columns to keep for filters [default: all others]
    #[arg(long, value_name = "A,B", env = "TRIVEC_FIELDS", value_delimiter = ',')]
    pub fields: Option<Vec<String>>,
    /// Cut documents at sentences into chunks of so many tokens, which share so many with the one before
    #[arg(long, value_name = "TOKENS/OVERLAP", env = "TRIVEC_CHUNK", value_parser = parse_chunk)]
    pub chunk: Option<Chunking>,
    /// Language of documents without one, such as `de` [default: detected from each text]
    #[arg(long, value_name = "CODE", env = "TRIVEC_LANGUAGE")]
    pub language: Option<String>,
    /// The languages that detection chooses from
    #[arg(long, value_name = "A,B", env = "TRIVEC_LANGUAGES", value_delimiter = ',')]
    pub languages: Vec<String>,
    /// Bits of each value of stored ColBERT vectors: 8, 4, 2, 1 or off
    #[arg(long, value_name = "BITS", env = "TRIVEC_COLBERT", default_value = "4", value_parser = parse_colbert)]
    pub colbert: ColbertBits,
    /// Tokens kept of each text [default: the model's maximum]
    #[arg(long, value_name = "N", env = "TRIVEC_MAX_LENGTH")]
    pub max_length: Option<usize>,
    /// What is put before documents when they are embedded [default: the model's default prompt]
    #[arg(long, value_name = "TEXT", env = "TRIVEC_DOCUMENT_PROMPT")]
    pub document_prompt: Option<String>,
    /// What is put before queries when they are embedded [default: the model's default prompt]
    #[arg(long, value_name = "TEXT", env = "TRIVEC_QUERY_PROMPT")]
    pub query_prompt: Option<String>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Show what the index has, and do nothing else
    #[arg(long, env = "TRIVEC_STATS", conflicts_with_all = ["input", "check", "compact", "snapshot"])]
    pub stats: bool,
    /// Read every byte of every file and compare it with its checksum, the lists with each other and documents with vectors, and do nothing else
    #[arg(long, env = "TRIVEC_CHECK", conflicts_with_all = ["input", "compact", "snapshot"])]
    pub check: bool,
    /// Rewrite segments without deleted documents, and do nothing else
    #[arg(long, env = "TRIVEC_COMPACT", conflicts_with_all = ["input", "snapshot"])]
    pub compact: bool,
    /// Copy the last commit to a new directory, and do nothing else
    #[arg(long, value_name = "DIR", env = "TRIVEC_SNAPSHOT", conflicts_with = "input")]
    pub snapshot: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

fn parse_format(text: &str) -> std::result::Result<Format, String> {
    text.parse().map_err(|e: trivec_search::Error| e.to_string())
}

fn parse_colbert(text: &str) -> std::result::Result<ColbertBits, String> {
    text.parse().map_err(|e: trivec_search::Error| e.to_string())
}

fn parse_chunk(text: &str) -> std::result::Result<Chunking, String> {
    let (tokens, overlap) = text.split_once('/').unwrap_or((text, "0"));
    let number =
        |text: &str| text.trim().parse().map_err(|_| "expected TOKENS or TOKENS/OVERLAP, as 256/32".to_owned());
    Ok(Chunking { tokens: number(tokens)?, overlap: number(overlap)? })
}

pub(crate) fn run(args: &IndexArgs, model_args: &ModelArgs) -> Result<()> {
    if args.stats {
        return stats(args);
    }
    if args.check {
        let checked = Index::open(&args.directory)?.check()?;
        return if args.json {
            let (documents, files, bytes) = (checked.documents, checked.files, checked.bytes);
            print_json(&json!({"sound": true, "documents": documents, "files": files, "bytes": bytes}))
        } else {
            print(&format!(
                "{} documents in {} files, {:.1} MB: every byte was read and is as it was written",
                checked.documents,
                checked.files,
                checked.bytes as f64 / 1e6
            ))
        };
    }
    if args.compact {
        let mut writer = Index::open(&args.directory)?.writer()?;
        let rewritten = writer.compact(true)?;
        return if args.json {
            print_json(&json!({"rewritten_segments": rewritten}))
        } else {
            print(&format!("{rewritten} segments written anew"))
        };
    }
    if let Some(to) = &args.snapshot {
        Index::open(&args.directory)?.snapshot(to)?;
        return if args.json {
            print_json(&json!({"snapshot": to.display().to_string()}))
        } else {
            print(&format!("copied to {}", Escaped(to.display())))
        };
    }
    if args.input.is_empty() {
        return Err(Failure::usage("nothing to do: give --input, --stats, --check, --compact or --snapshot"));
    }
    take_in(args, model_args)
}

fn stats(args: &IndexArgs) -> Result<()> {
    let stats = Index::open(&args.directory)?.stats()?;
    if args.json {
        return print_json(&stats);
    }
    let mut text = format!(
        "{} documents, {} deleted ones still in {} segments\nmodel {} ({:.12}), ColBERT in {} bits\nlanguages {}\n",
        stats.documents,
        stats.deleted,
        stats.segments,
        Escaped(&stats.model.name),
        stats.model.digest,
        stats.colbert.number(),
        stats.languages.join(", "),
    );
    for (part, bytes) in &stats.bytes {
        text.push_str(&format!("{part:<12} {:>10.1} MB\n", *bytes as f64 / 1e6));
    }
    print(&text)
}

fn take_in(args: &IndexArgs, model_args: &ModelArgs) -> Result<()> {
    let columns = Columns {
        key: args.key.clone(),
        text: args.text.clone(),
        title: args.title.clone(),
        lang: args.lang_field.clone(),
        fields: args.fields.clone(),
    };
    // All inputs are opened first, so that an unreadable one is reported before anything is created.
    let sources = args.input.iter().map(|path| open(path, args.format, &columns)).collect::<Result<Vec<_>, _>>()?;
    let model = crate::load(model_args)?;
    let id = ModelId::of(&model)?;
    let options = IndexOptions {
        colbert: args.colbert,
        language: args.language.clone(),
        languages: args.languages.clone(),
        max_length: args.max_length,
        document_prompt: args.document_prompt.clone(),
        query_prompt: args.query_prompt.clone(),
    };
    let index = Index::open_or_create(&args.directory, &id, &options)?;
    let kept = Kept::open(&args.cache, &model);
    let mut encoder = index.encoder(&model, &id)?;
    if let Some(kept) = &kept {
        encoder = encoder.with_embed(|texts, options| kept.texts(&model, texts, options));
    }
    let mut writer = index.writer()?;
    let total = sources.iter().map(|source| source.total_bytes()).sum();
    let counters: Vec<_> = sources.iter().map(|source| source.counter()).collect();
    let bar = bar(model_args.quiet, total, "{bar:30} {bytes}/{total_bytes} · {msg} · {eta} left");
    let begin = Instant::now();
    let progress = |done: &Ingested| {
        bar.set_position(counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum());
        let rate = done.read as f64 / begin.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!("{} documents, {rate:.0}/s", done.read));
        ControlFlow::Continue(())
    };
    let options = IngestOptions { chunk: args.chunk, ..IngestOptions::default() };
    let done = ingest(&mut writer, &encoder, sources.into_iter().flatten(), &options, progress);
    bar.finish_and_clear();
    let done = done?;
    let seconds = begin.elapsed().as_secs_f64();
    if !model_args.quiet {
        done.errors.iter().for_each(|error| say!("trivec: refused: {error}"));
        let told = done.errors.len() as u64;
        if done.refused > told {
            say!("trivec: {} more were refused", done.refused - told);
        }
    }
    if args.json {
        print_json(&done)?;
    } else {
        print(&summary(&done, seconds))?;
    }
    match done.refused {
        0 => Ok(()),
        n => Err(Failure::Message {
            code: exit::INPUT,
            message: format!("{n} documents were refused; the others are indexed"),
        }),
    }
}

fn summary(done: &Ingested, seconds: f64) -> String {
    let mut text = format!(
        "{} documents read, {} added as {} entries, {} unchanged, {} refused, in {seconds:.1} s",
        done.read, done.added, done.entries, done.unchanged, done.refused
    );
    if done.truncated > 0 {
        text.push_str(&format!(
            "; {} entries were cut to the maximum length (--chunk keeps all of a text)",
            done.truncated
        ));
    }
    if done.duplicates > 0 {
        text.push_str(&format!("; {} came again under the same key, the last one holds", done.duplicates));
    }
    text
}
