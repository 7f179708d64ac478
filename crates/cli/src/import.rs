//! `trivec import`: reads a checkpoint in any form that can be loaded, and writes it in safetensors.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::ModelArgs;
use super::copies::{self, Advice};
use super::exit::{Failure, Result};
use super::loading;
use super::pending::check_directory;
use super::style::counted;
use trivec::pack::{ImportOptions, ImportReport, import};
use trivec::{LoadOptions, Model};

const EXAMPLES: &str = "\
Examples:
  trivec import path/to/bge-m3 -o bge-m3-safetensors
  trivec import path/to/bge-m3 -o models/bge-m3 --force --json

Reads what `--model` reads: BAAI's own layout (pytorch_model.bin, colbert_linear.pt, sparse_linear.pt, tokenizer.json or \
sentencepiece.bpe.model) as well as safetensors. No code in those files runs. Weights keep their values and types. The directory appears \
when it is whole; a run that was killed leaves nothing that the next one does not clean up.";

/// Arguments of `trivec import`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ImportArgs {
    /// Model directory in Hugging Face layout [default: --model]
    #[arg(value_name = "DIR")]
    pub source: Option<PathBuf>,
    /// Directory to write
    #[arg(long, short, value_name = "DIR", env = "TRIVEC_IMPORT_OUTPUT")]
    pub output: PathBuf,
    /// Replace a model directory that is there already
    #[arg(long, env = "TRIVEC_IMPORT_FORCE")]
    pub force: bool,
    /// Print JSON on standard output
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

pub(super) fn run(args: &ImportArgs, model: &ModelArgs) -> Result<()> {
    let Some(source) = args.source.as_ref().or(model.model.as_ref()) else {
        return Err(Failure::usage("no model: give its directory, as in `trivec import path/to/bge-m3 -o DIR`"));
    };
    check_directory(&args.output)?;
    let bar = (!model.quiet && std::io::stderr().is_terminal()).then(progress_bar);
    let mut progress = |done, total| {
        if let Some(bar) = &bar {
            bar.set_length(total);
            bar.set_position(done);
        }
    };
    let report = import(source, &args.output, &ImportOptions::default().force(args.force), &mut progress);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let report = report?;
    if args.json {
        print_json(args, &report)?;
    }
    if !model.quiet {
        say!(
            "{}: {:.1} MB in {}{}; {}",
            args.output.display(),
            report.bytes as f64 / 1e6,
            counted(report.tensors, "tensor"),
            if report.left_out > 0 {
                format!(" ({} without weights left out)", report.left_out)
            } else {
                String::new()
            },
            report.files.join(", ")
        );
        // The model is only loaded to say what packing would save, for which its weights need not be scanned for NaN.
        let options = LoadOptions { check_finite: false, ..loading::options(model) };
        if let Ok(imported) = Model::load_with(&args.output, &options) {
            copies::advise(&imported, &args.output, Advice::Command);
        }
    }
    Ok(())
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print_json(args: &ImportArgs, report: &ImportReport) -> Result<()> {
    let json = json!({
        "output": args.output.display().to_string(),
        "bytes": report.bytes,
        "tensors": report.tensors,
        "left_out": report.left_out,
        "files": report.files,
    });
    let mut out = anstream::stdout().lock();
    writeln!(out, "{json}").and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}
