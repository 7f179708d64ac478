//! `trivec verify`: how close a packed file is to its source, or any model to another.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::ModelArgs;
use super::exit::{Failure, Result};
use super::input::read_texts;
use super::pending::{Pending, create_beside, move_into_place};
use super::plot;
use crate::escape::Escaped;
use crate::pack::verify::{Promise, VerifyReport, bundled_texts, verify};

const EXAMPLES: &str = "\
Examples:
  trivec verify bge-m3-int8.safetensors path/to/bge-m3
  trivec verify bge-m3-int8.safetensors path/to/bge-m3 --json
  trivec verify a.safetensors b.safetensors --texts mine.txt --plot cos.svg
  trivec verify starter-int8.safetensors    # against the built-in starter

Texts are encoded by both models and compared: cosines of dense vectors and ColBERT rows, lexical weights, the order in which a small \
retrieval set is ranked and, for BGE-M3, the values that were published of it.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// The model to judge: a packed file, a directory, or an installed model's name
    #[arg(value_name = "MODEL")]
    pub candidate: PathBuf,
    /// The model that is taken for right [default: the built-in starter, if MODEL was packed from it]
    #[arg(value_name = "REFERENCE")]
    pub reference: Option<PathBuf>,
    /// Texts to compare on, one a line [default: 300 that come with trivec, in some 80 languages]
    #[arg(long, value_name = "FILE", env = "TRIVEC_TEXTS")]
    pub texts: Option<PathBuf>,
    /// Write a histogram of the dense cosines as SVG
    #[arg(long, value_name = "FILE", env = "TRIVEC_PLOT")]
    pub plot: Option<PathBuf>,
    /// Exit with 4 if MODEL does not keep the promise of its format
    #[arg(long, env = "TRIVEC_CHECK")]
    pub check: bool,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

pub(super) fn run(args: &VerifyArgs, model_args: &ModelArgs) -> Result<()> {
    // Before anything is loaded: a place that cannot be written to is told at once.
    let plot = args.plot.as_deref().map(|path| create_beside(path, "--plot")).transpose()?;
    let texts = match &args.texts {
        Some(path) => read_texts(path)?,
        None => bundled_texts(),
    };
    let load = |path: &Path| super::load_chosen(super::named(path)?, model_args);
    let candidate = load(&args.candidate)?;
    let reference = match &args.reference {
        Some(path) => load(path)?,
        None if candidate.packed_source() == Some("starter") => super::exact_starter(model_args)?,
        None => {
            let what = "nothing to compare with: name the model that it was packed from (see trivec verify --help)";
            return Err(Failure::usage(what));
        }
    };
    let bar = bar(model_args.quiet);
    let report = verify(&reference, &candidate, &texts, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    if let (Some(path), Some((target, file))) = (&args.plot, plot) {
        write_plot(path, target, file, &report)?;
    }
    let failures = failures(&report);
    let mut out = anstream::stdout().lock();
    let written = if args.json {
        let mut json = serde_json::to_value(&report).map_err(|e| Failure::io("JSON", &e.into()))?;
        json["failures"] = failures.clone().into();
        writeln!(out, "{json}")
    } else {
        write!(out, "{report}").and_then(|()| match (report.format, failures.is_empty()) {
            (None, _) => Ok(()),
            (Some(format), true) => writeln!(out, "  the promise of {} is kept", format.name()),
            (Some(format), false) => {
                writeln!(out, "  the promise of {} is not kept:", format.name())?;
                failures.iter().try_for_each(|failure| writeln!(out, "    {failure}"))
            }
        })
    };
    written.and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))?;
    match (args.check, failures.first()) {
        (true, Some(first)) => Err(Failure::model(format!("{}: {first}", args.candidate.display()))),
        _ => Ok(()),
    }
}

/// What the candidate, if it is packed, does not keep of its format's promise.
fn failures(report: &VerifyReport) -> Vec<String> {
    report.format.map_or_else(Vec::new, |format| report.failures(&Promise::of(format)))
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn bar(quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_draw_target(if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} texts · {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn write_plot(path: &Path, target: PathBuf, mut file: BufWriter<Pending>, report: &VerifyReport) -> Result<()> {
    let (candidate, reference) = (Escaped(&report.candidate), Escaped(&report.reference));
    let title = format!("{candidate} against {reference}: cosines of {} dense vectors", report.texts);
    let svg = plot::histogram(&title, &report.dense_cosines)
        .map_err(|what| Failure::io(path.display(), &std::io::Error::other(what)))?;
    file.write_all(svg.as_bytes()).map_err(|e| Failure::io_path(path, &e))?;
    move_into_place(&target, file)
}
