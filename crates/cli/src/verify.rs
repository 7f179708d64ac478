//! `trivec verify`: measures how close a packed file is to its source, or any model to another.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::args::ModelArgs;
use super::exit::{Failure, Result};
use super::input::read_texts;
use super::loading;
use super::pending::{Pending, create_beside, move_into_place, refuse_input, refuse_model_file};
use super::plot;
use super::progress::bar;
use super::style::harmless;
use trivec::WeightFormat;
use trivec::escape::Escaped;
use trivec::pack::verify::{Kept, Promise, VerifyReport, bundled_texts, verify};
use trivec_hub::Located;

const EXAMPLES: &str = "\
Examples:
  trivec verify bge-m3-int8.safetensors path/to/bge-m3
  trivec verify bge-m3-int8.safetensors path/to/bge-m3 --json
  trivec verify a.safetensors b.safetensors --texts mine.txt --plot cos.svg
  trivec verify starter-int8.safetensors    # against the built-in starter

Texts are encoded by both models and compared: cosines of dense vectors and ColBERT rows, lexical weights, the order in which a small \
retrieval set is ranked and, for BGE-M3, the values that were published of it. Where MODEL is packed and does not keep the promise of its \
format beside REFERENCE, the report is printed and the exit code is 4.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// The model to judge: a packed file, a directory, or an installed model's name
    #[arg(value_name = "MODEL")]
    pub candidate: PathBuf,
    /// The reference model [default: the built-in starter, if MODEL was packed from it]
    #[arg(value_name = "REFERENCE")]
    pub reference: Option<PathBuf>,
    /// File of texts to compare on: lines, JSONL, JSON, CSV or TSV, as for embed [default: 300 that come with trivec, in some 80 languages]
    #[arg(long, value_name = "FILE", env = "TRIVEC_TEXTS")]
    pub texts: Option<PathBuf>,
    /// Write a histogram of the dense cosines as SVG
    #[arg(long, value_name = "FILE", env = "TRIVEC_PLOT")]
    pub plot: Option<PathBuf>,
    /// What is done without it too; scripts may have it
    #[arg(long, env = "TRIVEC_VERIFY_CHECK", hide = true)]
    pub check: bool,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

pub(super) fn run(args: &VerifyArgs, model_args: &ModelArgs) -> Result<()> {
    // Checked before anything is loaded, so that an output that cannot be written is refused at once.
    if let Some(plot) = &args.plot {
        check_plot(plot)?;
        refuse_input(plot, "plot", args.texts.as_deref().map(|texts| (texts, "the file of --texts")))?;
    }
    let plot = args.plot.as_deref().map(|path| create_beside(path, "--plot")).transpose()?;
    let texts = match &args.texts {
        Some(path) => read_texts(path)?,
        None => bundled_texts(),
    };
    let load = |path: &Path| loading::load_located(trivec_hub::locate(path)?, model_args);
    let candidate = load(&args.candidate)?;
    let reference = match &args.reference {
        // `starter` means the same as no name: the starter computed in f32, not with activations that are rounded to bytes.
        Some(path) if matches!(trivec_hub::locate(path)?, Located::Starter) => loading::exact_starter(model_args)?,
        Some(path) => load(path)?,
        None if candidate.packed_source() == Some("starter") => loading::exact_starter(model_args)?,
        None => {
            let what = "nothing to compare with: name the model that it was packed from (see trivec verify --help)";
            return Err(Failure::usage(what));
        }
    };
    if let Some(plot) = &args.plot {
        refuse_model_file(plot, "plot", &candidate)?;
        refuse_model_file(plot, "plot", &reference)?;
    }
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
    let judged = report.format.map(|format| (format, report.judge(&Promise::of(format))));
    let mut out = anstream::stdout().lock();
    let written = match (&judged, args.json) {
        (_, true) => {
            let json = json(&report, judged.as_ref().map_or(&[], |(_, kept)| kept));
            json.and_then(|json| writeln!(out, "{}", harmless(json.to_string())))
        }
        (None, false) => write!(out, "{report}"),
        (Some((format, kept)), false) => write!(out, "{report}").and_then(|()| write_judged(&mut out, *format, kept)),
    };
    written.and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))?;
    match judged.and_then(|(format, kept)| Some((format, broken(&kept).next()?.clone()))) {
        Some((format, Kept { part, broken })) => Err(Failure::model(format!(
            "{}: the promise of {} is not kept for {part}: {}",
            args.candidate.display(),
            format.name(),
            broken.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Refuses standard output for the histogram, and a file whose name ends in something else than .svg.
fn check_plot(path: &Path) -> Result<()> {
    if path.as_os_str() == "-" {
        return Err(Failure::option("plot", "a histogram is a file, not standard output"));
    }
    match path.extension() {
        Some(extension) if !extension.eq_ignore_ascii_case("svg") => {
            let what = format!("found `{}`, expected a name that ends in .svg, which the histogram is", path.display());
            Err(Failure::option("plot", what))
        }
        _ => Ok(()),
    }
}

/// The parts of the promise that are not kept.
fn broken(kept: &[Kept]) -> impl Iterator<Item = &Kept> {
    kept.iter().filter(|kept| !kept.broken.is_empty())
}

/// The report, with the broken parts of the format's promise and a flag for each part.
fn json(report: &VerifyReport, kept: &[Kept]) -> std::io::Result<Value> {
    let mut json = serde_json::to_value(report)?;
    let lines = |kept: &Kept| kept.broken.iter().map(|what| format!("{}: {what}", kept.part)).collect::<Vec<_>>();
    json["failures"] = broken(kept).flat_map(lines).collect::<Vec<String>>().into();
    json["promise_kept"] =
        kept.iter().map(|kept| (kept.part.to_owned(), Value::from(kept.broken.is_empty()))).collect();
    Ok(json)
}

/// Says which parts of a format's promise are kept.
fn write_judged(out: &mut impl Write, format: WeightFormat, kept: &[Kept]) -> std::io::Result<()> {
    let parts = |is_kept: bool| {
        let parts: Vec<&str> = kept.iter().filter(|k| k.broken.is_empty() == is_kept).map(|k| k.part).collect();
        match parts.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
            _ => parts.concat(),
        }
    };
    let (name, good, bad) = (format.name(), parts(true), parts(false));
    if bad.is_empty() {
        return writeln!(out, "  the promise of {name} is kept");
    }
    let for_others = if good.is_empty() { String::new() } else { format!("; it is kept for {good}") };
    writeln!(out, "  the promise of {name} is not kept for {bad}{for_others}")?;
    for Kept { part, broken } in broken(kept) {
        broken.iter().try_for_each(|what| writeln!(out, "    {part}: {what}"))?;
    }
    Ok(())
}

/// Writes the histogram of the dense cosines, and gives its file its name.
fn write_plot(path: &Path, target: PathBuf, mut file: BufWriter<Pending>, report: &VerifyReport) -> Result<()> {
    let (candidate, reference) = (Escaped(&report.candidate), Escaped(&report.reference));
    let title = format!("{candidate} against {reference}: cosines of {} dense vectors", report.texts);
    let svg = plot::histogram(&title, &report.dense_cosines)
        .map_err(|what| Failure::io(path.display(), &std::io::Error::other(what)))?;
    file.write_all(svg.as_bytes()).map_err(|e| Failure::io_path(path, &e))?;
    move_into_place(&target, file)
}
