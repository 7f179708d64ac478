//! `trivec rerank`: sorts documents by how well they answer a query.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::args::{InputArgs, ModelArgs, Special, WeightsArgs};
use super::copies;
use super::embed::{Progress, read_chunk};
use super::exit::{Failure, MODEL, Result};
use super::input::{self, Content, Records};
use super::prompt;
use super::style::{self, excerpt};
use trivec::{ErrorKind, Model, RerankOptions, Reranked};

/// Documents that are read and scored at a time.
const CHUNK: usize = 64;

/// Terminal columns of a document's text in the table.
const EXCERPT: usize = 72;

const EXAMPLES: &str = "\
Examples:
  export TRIVEC_MODEL=path/to/bge-reranker-v2-m3
  trivec rerank \"what is a panda?\" \"hi\" \"The giant panda is a bear.\"
  trivec rerank \"what is a panda?\" --input candidates.txt --top 5
  cat hits.jsonl | trivec rerank \"what is a panda?\" --json | jq -r .id

Input is lines (each a document, empty ones too), JSONL or JSON ({\"id\": …, \"text\": …}), CSV or TSV with a header. The output is sorted, best first; an index counts \
documents from 0. The model is a reranker: a directory or packed file of XLMRobertaForSequenceClassification with one label.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct RerankArgs {
    /// The query
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// Documents to sort, instead of --input
    #[arg(value_name = "DOC")]
    pub documents: Vec<String>,
    /// File of documents, - for standard input [default: standard input]
    #[arg(long, short, value_name = "FILE", env = "TRIVEC_RERANK_INPUT")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub form: InputArgs,
    /// How many of the best to print [default: all]
    #[arg(long, value_name = "N", env = "TRIVEC_RERANK_TOP", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Show the model's raw output instead of the score, its sigmoid for most models (--json has both)
    #[arg(long, env = "TRIVEC_RAW")]
    pub raw: bool,
    /// Print JSON, a document a line
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    /// Tokens kept of each pair, special ones included, 17 or more; three quarters of them at most for the query [default: 512, or the
    /// model's maximum if that is less]
    #[arg(long, value_name = "N", env = "TRIVEC_RERANK_MAX_LENGTH")]
    pub max_length: Option<usize>,
    /// Whether `<s>`, `</s>`, `<mask>` … in a text are special tokens (as the reference does) or plain text
    #[arg(long, value_name = "HOW", env = "TRIVEC_SPECIAL_TOKENS", default_value = "parse")]
    pub special_tokens: Special,
    /// What is put before the query: the name of one of the model's prompts, or a text; "" for none [default: the model's default prompt,
    /// if it has one]
    #[arg(long, value_name = "NAME|TEXT", env = "TRIVEC_RERANK_PROMPT")]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub packed: WeightsArgs,
}

/// A document with its scores.
struct Scored {
    id: Option<Box<RawValue>>,
    text: String,
    result: Reranked,
}

pub(super) fn run(args: &RerankArgs, model_args: &ModelArgs) -> Result<()> {
    let path = input_path(args)?;
    // The input is opened before the model is loaded, so that a wrong name is reported at once.
    let opened = path.map(input::open).transpose()?;
    let model = copies::load_as(args.packed.weights, model_args)?;
    let prompt = args.prompt.as_ref().map(|given| prompt::parse(given, "--prompt", &model)).transpose()?;
    let options = RerankOptions {
        max_length: args.max_length,
        special_tokens: args.special_tokens.into(),
        prompt: prompt.unwrap_or_default(),
        ..RerankOptions::default()
    };
    // Options are checked before input is read.
    model.rerank::<&str>("", &[], &options).map_err(|error| match error.kind() {
        ErrorKind::ModeUnavailable => Failure::Message {
            code: MODEL,
            message: format!("{error}: give a reranker with --model, such as bge-reranker-v2-m3"),
        },
        _ => error.into(),
    })?;
    let mut scored = match opened {
        None => {
            let results = model.rerank(&args.query, &args.documents, &options);
            let results = results.map_err(|e| Failure::of_input(e, |index| format!("document {}", index + 1)))?;
            let of = |(text, result): (&String, Reranked)| Scored { id: None, text: text.clone(), result };
            args.documents.iter().zip(results).map(of).collect()
        }
        Some(opened) => score_input(&model, args, &options, opened, model_args.quiet)?,
    };
    // The sort is stable: documents with equal scores stay in the order of the input.
    scored.sort_by(|a, b| b.result.logit.total_cmp(&a.result.logit));
    scored.truncate(args.top.map_or(usize::MAX, |top| top as usize));
    let mut out = anstream::stdout().lock();
    write(&mut out, &scored, args).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// Returns the path to read documents from, with `-` for standard input, or `None` if the documents are on the command line. Fails if both are
/// given, or if neither is and standard input is a terminal.
fn input_path(args: &RerankArgs) -> Result<Option<&Path>> {
    match (&args.input, args.documents.is_empty()) {
        (Some(_), false) => Err(Failure::usage("give documents or --input, not both")),
        (Some(path), true) => Ok(Some(path)),
        (None, false) => Ok(None),
        (None, true) if io::stdin().is_terminal() => Err(Failure::usage(
            "nothing to rerank: give documents, --input FILE, or pipe lines in (see trivec rerank --help)",
        )),
        (None, true) => Ok(Some(Path::new("-"))),
    }
}

/// Scores the documents of a stream, some at a time.
fn score_input(
    model: &Model,
    args: &RerankArgs,
    options: &RerankOptions,
    opened: input::Opened,
    quiet: bool,
) -> Result<Vec<Scored>> {
    let mut progress = Progress::new(&opened, quiet);
    let mut records = Records::new(opened.reader, opened.name, args.form.reading(args.input.as_deref()))?;
    let mut all = Vec::new();
    loop {
        let chunk = read_chunk(&mut records, CHUNK)?;
        if chunk.is_empty() {
            progress.bar.finish_and_clear();
            return Ok(all);
        }
        let name = records.name();
        let (mut documents, mut lines) = (Vec::new(), Vec::new());
        for record in chunk {
            lines.push(record.line);
            match record.content {
                Content::Text(text) => documents.push((record.id, text)),
                Content::Ids(_) => {
                    let line = record.line;
                    return Err(Failure::input(format!("{name}: line {line}: `input_ids`, expected `text`")));
                }
            }
        }
        let texts: Vec<&str> = documents.iter().map(|(_, text)| text.as_str()).collect();
        let results = model.rerank(&args.query, &texts, options);
        let results = results.map_err(|e| Failure::of_input(e, |index| format!("{name}: line {}", lines[index])))?;
        for ((id, text), mut result) in documents.into_iter().zip(results) {
            progress.add(result.tokens);
            result.index = all.len();
            all.push(Scored { id, text, result });
        }
        progress.tick();
    }
}

/// A document as `--json` prints it.
#[derive(Serialize)]
struct JsonScored<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    score: f32,
    logit: f32,
    tokens: usize,
    truncated: bool,
    text: &'a str,
}

/// Writes the documents as a table, or as JSON, one a line.
fn write(out: &mut impl Write, scored: &[Scored], args: &RerankArgs) -> io::Result<()> {
    for (rank, Scored { id, text, result }) in scored.iter().enumerate() {
        let &Reranked { index, score, logit, tokens, truncated, .. } = result;
        if args.json {
            let json = JsonScored { index, id: id.as_deref(), score, logit, tokens, truncated, text };
            writeln!(out, "{}", style::json(&json)?)?;
            continue;
        }
        if rank == 0 {
            let name = if args.raw { "logit" } else { "score" };
            writeln!(out, "{dim}{:>6}{name:>10}  document{dim:#}", "index", dim = style::DIM)?;
        }
        let number = if args.raw { logit } else { score };
        writeln!(out, "{index:>6}{bold}{number:>10.4}{bold:#}  {}", excerpt(text, EXCERPT), bold = style::BOLD)?;
    }
    Ok(())
}
