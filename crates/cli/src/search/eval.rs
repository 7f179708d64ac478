//! `trivec eval`: measures an index on questions with judgements.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use trivec_search::eval::{EvalOptions, EvalReport, evaluate, read_judgements, read_queries};

use super::common::{Opened, bar, print, print_json};
use super::query::{check_fits, check_questions};
use crate::args::ModelArgs;
use crate::exit::{Failure, Result};
use crate::pending::{create_beside, move_into_place, refuse_input, resolve_output};
use crate::plot::{self, Bar};
use crate::sources::Sources;
use crate::style::{counted, grouped, percent, signed_percent};

const EXAMPLES: &str = "\
Examples:
  trivec eval notes/ --queries queries.jsonl --qrels qrels.tsv
  trivec eval notes/ --queries topics.tsv --qrels qrels.txt --json > report.json
  trivec eval notes/ --queries queries.jsonl --qrels qrels.tsv --svg report.svg

Queries are JSONL with `id` (or `_id`) and `text`, or a name, a tab and the text a line; judgements are TREC's (`query 0 document gain`) or \
BEIR's (`query document gain`). Every arm, every fusion and the rerank are measured; intervals are of 95 %, by resampling the queries. The \
weight of the words' share is chosen on one half of the queries and reported on the other.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvalArgs {
    /// Directory of the index
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// File of questions
    #[arg(long, value_name = "FILE", env = "TRIVEC_QUERIES")]
    pub queries: PathBuf,
    /// File of judgements
    #[arg(long, value_name = "FILE", env = "TRIVEC_QRELS")]
    pub qrels: PathBuf,
    /// How many of the best are reordered by their ColBERT scores; 0 for none
    #[arg(long, value_name = "N", env = "TRIVEC_RERANK", default_value = "200")]
    pub rerank: usize,
    /// Seed of the resampling
    #[arg(long, value_name = "N", env = "TRIVEC_EVAL_SEED", default_value = "1")]
    pub seed: u64,
    /// File to draw the table's nDCG@10 to, as SVG
    #[arg(long, value_name = "FILE", env = "TRIVEC_SVG")]
    pub svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

pub(crate) fn run(args: &EvalArgs, model_args: &ModelArgs, sources: &Sources) -> Result<()> {
    if let Some(svg) = &args.svg {
        if svg.as_os_str() == "-" {
            return Err(Failure::option("svg", "a picture is a file, not standard output"));
        }
        refuse_input(svg, "svg", [(&*args.queries, "the file of --queries"), (&*args.qrels, "the file of --qrels")])?;
        resolve_output(svg, "--svg")?;
    }
    let questions = read_queries(&args.queries)?;
    let judgements = read_judgements(&args.qrels, &questions)?;
    let opened = Opened::new(&args.directory, model_args)?;
    if let Some(svg) = &args.svg {
        opened.refuse_output(svg, "svg", &args.directory)?;
    }
    check_fits(&opened.index, args.rerank, sources)?;
    let (encoder, reader) = (opened.encoder()?, opened.index.reader()?);
    check_questions(&args.queries, &questions, &reader)?;
    let options = EvalOptions { rerank: args.rerank, seed: args.seed, ..EvalOptions::default() };
    let bar = bar(model_args.quiet, questions.len() as u64, "{bar:30} {human_pos}/{human_len} questions · {eta} left");
    let report = evaluate(&reader, &encoder, &questions, &judgements, &options, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    if let Some(path) = &args.svg {
        let (path, mut file) = create_beside(path, "--svg")?;
        let svg = chart(&report).map_err(|e| Failure::io_path(&path, &std::io::Error::other(e)))?;
        file.write_all(svg.as_bytes()).map_err(|e| Failure::io_path(&path, &e))?;
        move_into_place(&path, file)?;
    }
    if args.json { print_json(&report) } else { print(&table(&report)) }
}

/// Draws the nDCG@10 of each ranking as a bar, in the order of the table, as SVG.
fn chart(report: &EvalReport) -> std::result::Result<String, String> {
    let bars: Vec<Bar<'_>> = report
        .rankings
        .iter()
        .map(|ranked| {
            let ndcg = &ranked.ndcg10;
            (ranked.name.as_str(), ndcg.mean * 100.0, ndcg.low * 100.0, ndcg.high * 100.0)
        })
        .collect();
    plot::bars(&counted(report.queries.len(), "question"), "nDCG@10, intervals of 95 %", &bars)
}

/// The report as a table for a terminal.
fn table(report: &EvalReport) -> String {
    let mut text = format!(
        "{}{}; {}, {} of them not in the index\n\n{:<20} {:>8} {:>17} {:>8} {:>8} {:>8}\n",
        counted(report.queries.len(), "question"),
        match report.unjudged {
            0 => String::new(),
            unjudged => format!(" ({} more without a relevant document left out)", grouped(unjudged)),
        },
        counted(report.relevant, "relevant document"),
        grouped(report.missing),
        "",
        "nDCG@10",
        "95 %",
        "R@10",
        "R@100",
        "MRR"
    );
    for ranked in &report.rankings {
        let ndcg = &ranked.ndcg10;
        text.push_str(&format!(
            "{:<20} {:>8} {:>17} {:>8} {:>8} {:>8}\n",
            ranked.name,
            percent(ndcg.mean),
            format!("{} to {}", percent(ndcg.low), percent(ndcg.high)),
            percent(ranked.recall10.mean),
            percent(ranked.recall100.mean),
            percent(ranked.mrr.mean)
        ));
    }
    for pair in &report.paired {
        let difference = &pair.ndcg10;
        text.push_str(&format!(
            "{}{:<20} {:>8} nDCG@10 beside {} ({} to {})\n",
            if std::ptr::eq(pair, &report.paired[0]) { "\n" } else { "" },
            pair.name,
            signed_percent(difference.mean),
            pair.with,
            signed_percent(difference.low),
            signed_percent(difference.high)
        ));
    }
    if let Some(tuned) = &report.tuned {
        text.push_str(&format!(
            "\nweight of the words' share: {} was best on {}; on {} it has {} for {} with the usual weight ({} to {})\n",
            tuned.weight,
            counted(tuned.tuned_on, "question"),
            counted(tuned.reported_on, "other"),
            percent(tuned.ndcg10),
            percent(tuned.ndcg10_default),
            signed_percent(tuned.difference.low),
            signed_percent(tuned.difference.high)
        ));
    }
    text
}
