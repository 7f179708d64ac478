//! `trivec index`: adds documents to an index; statistics, check, compaction and snapshots.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use trivec::escape::Escaped;
use trivec::{Model, Prompt};
use trivec_search::analyze::normalize_code;
use trivec_search::ingest::{Chunking, Columns, Format, IngestOptions, Ingested, STANDARD_INPUT, ingest, open};
use trivec_search::{Checked, ColbertBits, Error, Index, IndexOptions, ModelId};

use super::common::{bar, documents_and_entries, language_name, print, print_json};
use super::interrupt::Interrupt;
use crate::args::ModelArgs;
use crate::cache::{CacheArgs, Kept};
use crate::exit::{self, Failure, Result, refuse_idle};
use crate::sources::Sources;
use crate::style::{bytes, counted, grouped};

const EXAMPLES: &str = "\
Examples:
  trivec index notes/ --input docs.jsonl
  trivec index notes/ --input rows.csv --key sku --text description --fields brand,price
  trivec index notes/ --input articles/ --chunk 256/32
  zcat docs.jsonl.gz | trivec index notes/ --input -
  trivec index notes/ --input docs.jsonl --cache embeddings.cache --cache-size 4GiB
  trivec index notes/ --stats
  trivec index notes/ --check
  trivec index notes/ --compact
  trivec index notes/ --snapshot backup/

Documents are JSONL or a JSON list, CSV, TSV or what else --format takes, with a name for each column (`id`, `text`, and if they are there `title` and `lang`; every other column can be \
filtered by; in CSV with semicolons, `1,5` is a number), or text files, each a document whose key is its path. A document whose key is there already replaces it; one with the same \
content is passed over, so that a run that was interrupted goes on where it was. A document that cannot be taken is refused by its line, and \
the others are indexed: the exit code is 3 then. The first Ctrl-C ends the run after what was read is committed, with the exit code 130. An index belongs to the model that made it, and keeps what it was made with: --colbert, \
--max-length, --language, --languages and the prompts are of the first run that indexed something; another one may repeat them, not change \
them.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IndexArgs {
    /// Directory of the index; it is created if it does not exist
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// File to read, a directory of files, or - for standard input (JSONL, or a table that begins with its columns' names); may be given
    /// several times
    #[arg(long, short, value_name = "PATH", env = "TRIVEC_INDEX_INPUT")]
    pub input: Vec<PathBuf>,
    #[arg(long, value_name = "FORM", env = "TRIVEC_INDEX_FORMAT", value_parser = parse_format, help = FORMATS)]
    pub format: Option<Format>,
    /// Field or column of the key
    #[arg(long, value_name = "NAME", env = "TRIVEC_KEY", default_value = "id")]
    pub key: String,
    /// Field or column of the text
    #[arg(long, value_name = "NAME", env = "TRIVEC_TEXT", default_value = "text")]
    pub text: String,
    /// Field or column of the title [default: title, if there is one]
    #[arg(long, value_name = "NAME", env = "TRIVEC_TITLE")]
    pub title: Option<String>,
    /// Field or column of the language [default: lang, if there is one]
    #[arg(long, value_name = "NAME", env = "TRIVEC_LANG_FIELD")]
    pub lang_field: Option<String>,
    /// Fields or columns to keep for filters [default: all others]
    #[arg(long, value_name = "A,B", env = "TRIVEC_FIELDS", value_delimiter = ',')]
    pub fields: Option<Vec<String>>,
    /// Cut documents at sentences into chunks of at most TOKENS tokens, each of which repeats up to OVERLAP tokens of the one before; their keys
    /// are KEY#0, KEY#1 …
    #[arg(long, value_name = "TOKENS/OVERLAP", env = "TRIVEC_CHUNK", value_parser = parse_chunk)]
    pub chunk: Option<Chunking>,
    /// Language of documents without one, such as `de` [default: detected from each text]
    #[arg(long, value_name = "CODE", env = "TRIVEC_LANGUAGE")]
    pub language: Option<String>,
    /// The languages that detection chooses from
    #[arg(long, value_name = "A,B", env = "TRIVEC_LANGUAGES", value_delimiter = ',')]
    pub languages: Vec<String>,
    /// Bits of each value of stored ColBERT vectors: 8, 4, 2, 1 or off [default: 4, or off where the model has none]
    #[arg(long, value_name = "BITS", env = "TRIVEC_COLBERT", value_parser = parse_colbert)]
    pub colbert: Option<ColbertBits>,
    /// Tokens kept of each text [default: the model's maximum]
    #[arg(long, value_name = "N", env = "TRIVEC_INDEX_MAX_LENGTH")]
    pub max_length: Option<usize>,
    /// What is put before documents when they are embedded [default: the model's default prompt]
    #[arg(long, value_name = "TEXT", env = "TRIVEC_INDEX_DOCUMENT_PROMPT")]
    pub document_prompt: Option<String>,
    /// What is put before queries when they are embedded [default: the model's default prompt]
    #[arg(long, value_name = "TEXT", env = "TRIVEC_INDEX_QUERY_PROMPT")]
    pub query_prompt: Option<String>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Show what the index has, and do nothing else
    #[arg(long, env = "TRIVEC_STATS")]
    pub stats: bool,
    /// Read every byte of every file and compare it with its checksum, the lists with each other and documents with vectors, and do nothing else
    #[arg(long, env = "TRIVEC_CHECK")]
    pub check: bool,
    /// Rewrite the segments that hold deleted documents, leaving those out, merge small ones, and do nothing else
    #[arg(long, env = "TRIVEC_COMPACT")]
    pub compact: bool,
    /// Copy the last commit to a new directory, and do nothing else
    #[arg(long, value_name = "DIR", env = "TRIVEC_SNAPSHOT")]
    pub snapshot: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

/// The help text of `--format`, with the formats that this build of the program can read.
const FORMATS: &str = if cfg!(feature = "parquet") {
    "How files are read: jsonl, csv, tsv, parquet or txt [default: by their names, or how they begin]"
} else {
    "How files are read: jsonl, csv, tsv or txt [default: by their names, or how they begin]"
};

fn parse_format(text: &str) -> std::result::Result<Format, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

fn parse_colbert(text: &str) -> std::result::Result<ColbertBits, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

fn parse_chunk(text: &str) -> std::result::Result<Chunking, String> {
    let (tokens, overlap) = text.split_once('/').unwrap_or((text, "0"));
    let number =
        |text: &str| text.trim().parse().map_err(|_| "expected TOKENS or TOKENS/OVERLAP, as 256/32".to_owned());
    Ok(Chunking { tokens: number(tokens)?, overlap: number(overlap)? })
}

pub(crate) fn run(args: &IndexArgs, model_args: &ModelArgs, sources: &Sources) -> Result<()> {
    if args.stats {
        return stats(args);
    }
    if args.check {
        let checked = Index::open(&args.directory)?.check()?;
        return if args.json {
            let Checked { documents, entries, files, bytes, .. } = checked;
            let sound =
                json!({"sound": true, "documents": documents, "entries": entries, "files": files, "bytes": bytes});
            print_json(&sound)
        } else {
            print(&format!(
                "{} in {}, {}: every byte was read and is as it was written",
                documents_and_entries(checked.documents, checked.entries),
                counted(checked.files, "file"),
                bytes(checked.bytes)
            ))
        };
    }
    if args.compact {
        let mut writer = Index::open(&args.directory)?.writer()?;
        let rewritten = writer.compact(true)?;
        return if args.json {
            print_json(&json!({"rewritten_segments": rewritten}))
        } else {
            print(&format!("{} written anew", counted(rewritten, "segment")))
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
    if args.directory.is_file() {
        let place = args.directory.display();
        let what =
            format!("{place}: it is a file, expected the directory of the index; --input takes what is to be read");
        return Err(Failure::usage(what));
    }
    if args.input.is_empty() {
        return Err(Failure::usage("nothing to do: give --input, --stats, --check, --compact or --snapshot"));
    }
    add_documents(args, model_args, sources)
}

/// Prints what `--stats` shows of an index.
fn stats(args: &IndexArgs) -> Result<()> {
    let stats = Index::open(&args.directory)?.stats()?;
    if args.json {
        return print_json(&stats);
    }
    let mut text = format!(
        "{}, {} deleted still in {}\nmodel {} ({:.12}), ColBERT in {}\nlanguages {}\n",
        documents_and_entries(stats.documents, stats.entries),
        grouped(stats.deleted),
        counted(stats.segments, "segment"),
        Escaped(&stats.model.name),
        stats.model.digest,
        counted(stats.colbert.number(), "bit"),
        stats.languages.iter().map(|code| language_name(code)).collect::<Vec<_>>().join(", "),
    );
    for (part, size) in &stats.bytes {
        text.push_str(&format!("{part:<12} {:>13}\n", bytes(*size)));
    }
    print(&text)
}

/// The options that these arguments give to a new index. Fails if they do not suit the model.
fn options(args: &IndexArgs, model: &Model) -> Result<IndexOptions> {
    let options = IndexOptions {
        colbert: args.colbert.unwrap_or_default(),
        language: args.language.as_deref().map(normalize_code),
        languages: args.languages.iter().map(|code| normalize_code(code)).collect(),
        max_length: args.max_length,
        document_prompt: args.document_prompt.clone(),
        query_prompt: args.query_prompt.clone(),
    };
    // Checked before anything is created.
    options.check(model)?;
    if let Some(chunking) = &args.chunk {
        chunking.check(model)?;
        if let Some(most) = args.max_length.filter(|most| chunking.tokens + 2 > *most) {
            let what = format!(
                "found {} tokens, of which --max-length {most} has room for {}",
                chunking.tokens,
                most.saturating_sub(2)
            );
            return Err(Failure::option("chunk", what));
        }
    }
    Ok(options)
}

/// Refuses options of the command line that differ from those an existing index was created with.
fn check_recorded(
    args: &IndexArgs,
    sources: &Sources,
    index: &Index,
    model: &Model,
    asked: &IndexOptions,
) -> Result<()> {
    let recorded = index.options();
    let bits = |bits: ColbertBits| match bits {
        ColbertBits::Off => "off".to_owned(),
        bits => bits.number().to_string(),
    };
    let length = |length: Option<usize>| length.unwrap_or(model.info().max_length).to_string();
    let code = |code: &Option<String>| code.clone().unwrap_or_else(|| "none".to_owned());
    let codes = |codes: &[String]| {
        let sorted: BTreeSet<&str> = codes.iter().map(String::as_str).collect();
        if sorted.is_empty() { "any".to_owned() } else { sorted.into_iter().collect::<Vec<_>>().join(",") }
    };
    let prompt = |prompt: &Option<String>| -> Result<String> {
        let prompt = prompt.clone().map_or(Prompt::Default, Prompt::Text);
        Ok(format!("`{}`", model.prompt_text(&prompt)?))
    };
    let compared = [
        ("colbert", args.colbert.is_some(), bits(asked.colbert), bits(recorded.colbert)),
        ("max-length", args.max_length.is_some(), length(asked.max_length), length(recorded.max_length)),
        ("language", args.language.is_some(), code(&asked.language), code(&recorded.language)),
        ("languages", !args.languages.is_empty(), codes(&asked.languages), codes(&recorded.languages)),
        (
            "document-prompt",
            args.document_prompt.is_some(),
            prompt(&asked.document_prompt)?,
            prompt(&recorded.document_prompt)?,
        ),
        ("query-prompt", args.query_prompt.is_some(), prompt(&asked.query_prompt)?, prompt(&recorded.query_prompt)?),
    ];
    // An environment variable may be meant for other indexes, so it is ignored.
    for (option, is_given, found, kept) in compared {
        if is_given && found != kept && sources.is_on_command_line(option) {
            let place = index.directory().display();
            let what = format!(
                "found {found}, but the index {place} was made with {kept}, and stays so: leave the option out, or make another index"
            );
            return Err(Failure::option(option, what));
        }
    }
    Ok(())
}

/// Whether an index is of this model, and has the options that are on the command line.
fn fits(
    args: &IndexArgs,
    sources: &Sources,
    index: &Index,
    (model, id): (&Model, &ModelId),
    asked: &IndexOptions,
) -> bool {
    index.model().digest == id.digest && check_recorded(args, sources, index, model, asked).is_ok()
}

/// Adds the documents of the inputs to the index, which is created if there is none.
fn add_documents(args: &IndexArgs, model_args: &ModelArgs, given: &Sources) -> Result<()> {
    let columns = Columns {
        key: args.key.clone(),
        text: args.text.clone(),
        title: args.title.clone(),
        lang: args.lang_field.clone(),
        fields: args.fields.clone(),
    };
    if args.input.iter().filter(|path| path.as_os_str() == STANDARD_INPUT).count() > 1 {
        return Err(Failure::option("input", "standard input (-) is given twice, and can be read once"));
    }
    // All inputs are opened first, so that an unreadable one is reported before anything is created.
    let sources = args.input.iter().map(|path| open(path, args.format, &columns)).collect::<Result<Vec<_>, _>>()?;
    let model = crate::loading::load(model_args)?;
    let id = ModelId::of(&model)?;
    let options = options(args, &model)?;
    if id.colbert_dim.is_none() && options.colbert != ColbertBits::Off {
        refuse_idle(given, "colbert", "with a model that has no ColBERT vectors")?;
    }
    let index = match Index::open(&args.directory) {
        Err(Error::NotAnIndex { .. }) => Index::create(&args.directory, &id, &options)?,
        // A run that indexed nothing does not decide what the index is.
        Ok(index) if index.is_unused()? && !fits(args, given, &index, (&model, &id), &options) => {
            index.remake(&id, &options)?
        }
        other => other?,
    };
    let kept = Kept::open(&args.cache, &model);
    // Entries of the cache for each text: dense vector, lexical weights, and ColBERT vectors if the index stores them.
    let kinds = if options.colbert == ColbertBits::Off { 2 } else { 3 };
    let mut encoder = index.encoder(&model, &id)?;
    check_recorded(args, given, &index, &model, &options)?;
    if let Some(kept) = &kept {
        encoder = encoder.with_embed(|texts, options| kept.texts(&model, texts, options));
    }
    let mut writer = index.writer()?;
    let total = sources.iter().map(|source| source.total_bytes()).sum();
    let counters: Vec<_> = sources.iter().map(|source| source.counter()).collect();
    let bar = bar(model_args.quiet, total, "{bar:30} {bytes}/{total_bytes} · {msg} · {eta} left");
    let begin = Instant::now();
    let interrupt = Interrupt::listen();
    let mut refused: Vec<String> = Vec::new();
    let progress = |done: &Ingested| {
        refused.clone_from(&done.errors);
        bar.set_position(counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum());
        let rate = done.read as f64 / begin.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!("{}, {}/s", counted(done.read, "document"), grouped(rate as u64)));
        if interrupt.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = IngestOptions { chunk: args.chunk, ..IngestOptions::default() };
    // Documents that the index has already come without progress.
    let documents = sources.into_iter().flatten().take_while(|_| !interrupt.is_asked());
    let done = ingest(&mut writer, &encoder, documents, &options, progress);
    let is_interrupted = interrupt.is_asked();
    bar.finish_and_clear();
    if let Some(kept) = &kept {
        kept.close(kinds);
    }
    // Printed with `--quiet` too, because a refused document is an error and no note.
    let tell = |errors: &[String]| errors.iter().for_each(|error| say!("trivec: refused: {error}"));
    let done = done.inspect_err(|_| tell(&refused))?;
    let seconds = begin.elapsed().as_secs_f64();
    tell(&done.errors);
    let told = done.errors.len() as u64;
    if done.refused > told {
        say!("trivec: {} more were refused", done.refused - told);
    }
    if args.json {
        print_json(&done)?;
    } else {
        print(&summary(&done, seconds, args.chunk.is_some()))?;
    }
    match done.refused {
        _ if is_interrupted => {
            let message =
                "interrupted: what is added is in the index, and the same command goes on from there".to_owned();
            Err(Failure::Message { code: exit::INTERRUPTED, message })
        }
        0 => Ok(()),
        _ => Err(Failure::input(refusal(&done))),
    }
}

/// Says how many documents were refused, and how many others are indexed.
fn refusal(done: &Ingested) -> String {
    let were = |n: u64| format!("{} {}", counted(n as usize, "document"), if n == 1 { "was" } else { "were" });
    let others = match done.read.saturating_sub(done.refused) {
        0 => "none is indexed".to_owned(),
        1 => "the other one is indexed".to_owned(),
        others => format!("the {} others are indexed", grouped(others)),
    };
    format!("{} refused; {others}", were(done.refused))
}

/// Says in a line what became of the documents that were read.
fn summary(done: &Ingested, seconds: f64, chunked: bool) -> String {
    let mut text = format!(
        "{} read, {} added as {}, {} unchanged, {} refused, in {seconds:.1} s",
        counted(done.read, "document"),
        grouped(done.added),
        counted(done.entries, "entry"),
        grouped(done.unchanged),
        grouped(done.refused)
    );
    if done.truncated > 0 {
        text.push_str(&format!(
            "; {} cut to the maximum length ({})",
            counted(done.truncated, "entry"),
            if chunked {
                "with their titles chunks are longer than that: make them smaller"
            } else {
                "--chunk keeps all of a text"
            }
        ));
    }
    if done.duplicates > 0 {
        text.push_str(&format!("; {} came again under the same key, the last one holds", done.duplicates));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_count_refused_and_indexed_documents() {
        let said = |read, refused| refusal(&Ingested { read, refused, ..Ingested::default() });
        let one = summary(&Ingested { read: 1, added: 1, entries: 1, truncated: 1, ..Ingested::default() }, 0.0, false);
        let expected = "1 document read, 1 added as 1 entry, 0 unchanged, 0 refused, in 0.0 s; 1 entry cut to";
        assert!(one.starts_with(expected), "{one}");
        assert_eq!(said(8, 8), "8 documents were refused; none is indexed");
        assert_eq!(said(2, 1), "1 document was refused; the other one is indexed");
        assert_eq!(said(9, 2), "2 documents were refused; the 7 others are indexed");
    }
}
