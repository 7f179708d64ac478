//! `trivec pack`: a checkpoint in, one packed file out.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Chosen;
use super::args::{ModelArgs, PackArgs};
use super::exit::{Failure, Result};
use super::output::{create_beside, move_into_place, same_file};
use crate::pack::{Calibration, PackOptions, PackReport, pack};
use crate::{Model, WeightFormat};

pub(super) fn run(args: &PackArgs, model_args: &ModelArgs) -> Result<()> {
    let chosen = args.source.as_ref().or(model_args.model.as_ref()).map(|source| super::named(source)).transpose()?;
    let (asked, source) = match &chosen {
        Some(Chosen::Path(path)) => (true, Some(path)),
        other => (other.is_some(), None),
    };
    let calibration = match args.calibration.as_str() {
        "bundled" => Calibration::Bundled,
        "none" => Calibration::None,
        file => Calibration::Texts(read_texts(Path::new(file))?),
    };
    if let Some(source) = source
        && same_file(source, &args.output)
    {
        return Err(Failure::usage(format!("--output: {} is the model itself", args.output.display())));
    }
    let options = super::options(model_args);
    let model = match source {
        Some(path) => Model::load_with(path, &options)?,
        None if asked => super::starter(&options)?,
        None => super::load_starter(model_args, &options)?,
    };
    let options = PackOptions { weights: args.weights, calibration, source: Some(digest(source)?) };
    let report = write(&model, &options, &args.output)?;
    if !model_args.quiet {
        let texts = match report.calibration_texts {
            0 if report.own_blocks => "the model's own 4-bit blocks".to_owned(),
            0 => "not calibrated".to_owned(),
            n => format!("calibrated on {n} texts"),
        };
        let calibrated = if is_int(args.weights) { format!(", {texts}") } else { String::new() };
        anstream::eprintln!(
            "{}: {:.1} MB, {}{calibrated}",
            args.output.display(),
            report.bytes as f64 / 1e6,
            args.weights.name()
        );
    }
    Ok(())
}

fn is_int(format: WeightFormat) -> bool {
    matches!(format, WeightFormat::Int8 | WeightFormat::Int4)
}

/// Writes the packed file beside its place and moves it there when it is whole.
pub(super) fn write(model: &Model, options: &PackOptions, path: &Path) -> Result<PackReport> {
    let (target, mut out) = create_beside(path)?;
    let report = pack(model, options, path, &mut out)?;
    move_into_place(&target, out)?;
    Ok(report)
}

fn read_texts(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read(path).map_err(|e| Failure::io_path(path, &e))?;
    let text = String::from_utf8(text).map_err(|e| {
        Failure::input(format!("{}: not UTF-8 at byte {}", path.display(), e.utf8_error().valid_up_to()))
    })?;
    let texts: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if texts.is_empty() {
        return Err(Failure::input(format!("{}: no text to calibrate on", path.display())));
    }
    Ok(texts)
}

/// SHA-256 over the model's weight files in the order of their names.
fn digest(source: Option<&PathBuf>) -> Result<String> {
    let Some(directory) = source else { return Ok("starter".to_owned()) };
    if directory.is_file() {
        // A packed file, which `pack` refuses by name.
        return Ok("unknown".to_owned());
    }
    let failed = |e: std::io::Error| Failure::io_path(directory, &e);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
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
