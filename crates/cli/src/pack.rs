//! `trivec pack`: packs a checkpoint into one file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::args::{ModelArgs, PackArgs};
use super::exit::{Failure, Result};
use super::input::read_texts;
use super::loading;
use super::pending::{check_directory, is_special, refuse_input, refuse_model_file, resolve_output, same_file};
use super::progress::Bar;
use super::style::counted;
use trivec::pack::{Calibration, PackOptions, PackReport, is_packed};
use trivec::{Model, WeightFormat};
use trivec_hub::Located;
use trivec_hub::staged;

pub(super) fn run(args: &PackArgs, model_args: &ModelArgs) -> Result<()> {
    let chosen =
        args.source.as_ref().or(model_args.model.as_ref()).map(|source| trivec_hub::locate(source)).transpose()?;
    let (asked, source) = match &chosen {
        Some(Located::Path(path)) => (true, Some(path)),
        other => (other.is_some(), None),
    };
    let calibration = match args.calibration.as_str() {
        "bundled" => Calibration::Bundled,
        "none" => Calibration::None,
        "" => return Err(Failure::option("calibration", "found no name, expected a file, bundled or none")),
        file => Calibration::Texts(read_texts(Path::new(file))?),
    };
    if let Some(source) = source
        && same_file(source, &args.output)
    {
        return Err(Failure::option("output", format!("{} is the model itself", args.output.display())));
    }
    if args.output.as_os_str() == "-" {
        return Err(Failure::option("output", "a packed model is a file, not standard output"));
    }
    if let Calibration::Texts(_) = calibration {
        let file = Path::new(&args.calibration);
        refuse_input(&args.output, "output", [(file, "the file of --calibration")])?;
    }
    check_directory(&args.output)?;
    let options = loading::options(model_args);
    let model = match source {
        Some(path) => Model::load_with(path, &options)?,
        None => {
            if !asked {
                loading::note_starter(model_args);
            }
            loading::exact_starter(model_args)?
        }
    };
    refuse_model_file(&args.output, "output", &model)?;
    refuse_other_file(args)?;
    let options = PackOptions {
        calibration,
        source: Some(digest(source)?),
        mixed_budget: args.budget_mb.map(budget).transpose()?,
        ..PackOptions::new(args.weights)
    };
    let output = resolve_output(&args.output, "--output")?;
    if is_special(&output) {
        let what = format!("{} is not a file, and a packed model is one", output.display());
        return Err(Failure::option("output", what));
    }
    let watcher = Bar::new(model_args.quiet);
    let report = staged::pack(&model, &options, &output, &watcher);
    watcher.finish();
    let report = report?;
    if !model_args.quiet {
        say!(
            "{}: {:.1} MB, {}{}",
            args.output.display(),
            report.bytes as f64 / 1e6,
            formats(&report),
            calibrated(args.weights, &report)
        );
    }
    Ok(())
}

/// Refuses an output that would replace what is no packed model, such as a file of texts whose name was mistyped. An empty file is no loss.
fn refuse_other_file(args: &PackArgs) -> Result<()> {
    let there = std::fs::metadata(&args.output).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
    if !there || args.force || is_packed(&args.output).map_err(|e| Failure::io_path(&args.output, &e))? {
        return Ok(());
    }
    let what = format!(
        "{} is there already and is no packed model: give another name, or --force to replace it",
        args.output.display()
    );
    Err(Failure::option("output", what))
}

/// The format of all layers (`int8`), or how many layers have which format, for a message.
fn formats(report: &PackReport) -> String {
    let count = |format: WeightFormat| (format, report.layers.iter().filter(|other| **other == format).count());
    let counts: Vec<_> = WeightFormat::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect();
    match counts[..] {
        [(format, _)] => format.name().to_owned(),
        _ => counts
            .iter()
            .map(|(format, n)| format!("{} in {}", counted(*n, "layer"), format.name()))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// How the weights were calibrated, for a message; nothing for formats that never are.
fn calibrated(weights: WeightFormat, report: &PackReport) -> String {
    match report.calibration_texts {
        _ if matches!(weights, WeightFormat::F16 | WeightFormat::F32) => String::new(),
        0 if report.q4_0 => ", the model's own 4-bit blocks".to_owned(),
        0 => ", not calibrated".to_owned(),
        n => format!(", calibrated on {}", counted(n, "text")),
    }
}

/// The budget of `--budget-mb` in bytes.
fn budget(mb: f64) -> Result<u64> {
    if mb.is_finite() && mb > 0.0 {
        Ok((mb * 1e6) as u64)
    } else {
        Err(Failure::option("budget-mb", format!("found {mb}, expected a number above 0")))
    }
}

/// What the packed file records as its source: the SHA-256 over the weight files of the checkpoint, PyTorch's included, in the order of their
/// paths. `starter` without a checkpoint.
fn digest(source: Option<&PathBuf>) -> Result<String> {
    let Some(directory) = source else { return Ok("starter".to_owned()) };
    if directory.is_file() {
        // A packed file: `staged::pack` refuses it later.
        return Ok("unknown".to_owned());
    }
    let failed = |e: std::io::Error| Failure::io_path(directory, &e);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("safetensors" | "bin" | "pt"))
        })
        .collect();
    files.sort();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let failed = |e: std::io::Error| Failure::io_path(&path, &e);
        let mut file = File::open(&path).map_err(failed)?;
        loop {
            let read = file.read(&mut buffer).map_err(failed)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}
