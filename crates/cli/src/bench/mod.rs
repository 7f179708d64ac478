//! `trivec bench`: measures how fast a model is, and compares that with the limits of this machine.
//!
//! The machine's limits, the cold start and the peak memory are measured in child processes, because they must not share this process.

mod child;
mod machine;
mod shapes;
mod worker;

use std::cell::OnceCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use tempfile::TempDir;

use self::machine::Machine;
pub(super) use self::machine::cpu_name;
use self::shapes::{Measured, Shape};
use super::args::{BenchArgs, DEFAULT_SHAPES, ModelArgs};
use super::exit::{Failure, Result};
use super::loading;
use super::pending::{check_directory, create_beside, move_into_place, move_model_into_place, of_system};
use super::style::{counted, grouped};
use trivec::escape::Escaped;
use trivec::pack::{PackOptions, synthetic};
use trivec::parallel::Team;
use trivec::{Model, WeightFormat};

/// What a run has measured. `--json` prints it as it is, otherwise [`Report::table`] does.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    weights: String,
    results: Vec<Measured>,
    /// Milliseconds from the start of a process to its first vector (of one text of 8 tokens), with the model in the page cache.
    cold_start_ms: f64,
    /// Milliseconds that loading the model takes in a running process.
    load_ms: f64,
    /// Peak memory of a process that loads the model and embeds one text of 128 tokens.
    peak_rss_mb: f64,
}

/// Runs `trivec bench`: one of the tasks that print or write something else, if an option asks for it, else the measurement.
pub(super) fn run(args: &BenchArgs, model_args: &ModelArgs) -> Result<()> {
    if args.lengths {
        return print(&serde_json::to_string(&shapes::mixed_lengths()).map_err(Failure::usage)?);
    }
    if args.probe {
        let machine = machine::measure(model_args)?;
        return print(&serde_json::to_string(&machine).map_err(Failure::usage)?);
    }
    let team = || Team::new(model_args.threads).map_err(|e| Failure::io("threads", &e));
    if let Some(directory) = &args.export {
        return export(directory, &team()?, model_args.quiet);
    }
    let none = args.shapes == ["none"];
    let shapes = if none { &[][..] } else { &args.shapes[..] };
    let shapes = shapes.iter().map(|shape| shape.parse()).collect::<std::result::Result<Vec<Shape>, String>>();
    let shapes = shapes.map_err(|e| Failure::option("shapes", e))?;
    check_seconds(args.seconds)?;
    let scratch = Scratch::default();
    let mut shapes = shapes;
    let made = make_model(args, model_args, &team()?, &scratch, &mut |model| fit(&mut shapes, args, model))?;
    let asked = match made {
        None if model_args.model.is_none() => loading::installed(model_args)?,
        None => asked_path(model_args)?,
        made => made,
    };
    // Without a path the model is the starter that is built into this program.
    let path = asked.unwrap_or_else(|| PathBuf::from("starter"));
    let own = ModelArgs { model: Some(path.clone()), ..model_args.clone() };
    let load = || loading::load(&own);
    if none && !args.worker {
        return Ok(());
    }
    if args.worker {
        return worker::run(&load()?);
    }

    let note = |what: &str| {
        if !model_args.quiet {
            say!("trivec bench: {what}");
        }
    };
    fit(&mut shapes, args, &load()?)?;
    note("measuring this machine");
    let mut machine = child::probe(model_args)?;
    note("measuring start and memory");
    let start = child::start(&path, model_args)?;
    let begin = Instant::now();
    let model = load()?;
    let load_ms = begin.elapsed().as_secs_f64() * 1e3;
    let mut measured = Vec::new();
    for shape in &shapes {
        note(&format!("measuring {shape}"));
        measured.push((shape, shapes::measure(&model, shape, args.seconds)?));
    }
    // Again at the end: a shared machine's speed changes, and its limit is the best it showed.
    machine.take_best(child::probe(model_args)?);
    let results =
        measured.into_iter().map(|(shape, times)| Measured::new(&model, shape, times, &machine)).collect::<Vec<_>>();
    let report = Report {
        machine,
        weights: model.info().weights.clone(),
        results,
        cold_start_ms: start.cold_start_ms,
        load_ms,
        peak_rss_mb: start.peak_rss_mb,
    };
    if args.json {
        return print(&serde_json::to_string(&report).map_err(Failure::usage)?);
    }
    print(&report.table())
}

/// The token count of each text of a shape, which is given by its name (`8x128`, `mixed`).
pub(super) fn lengths(shape: &str) -> std::result::Result<Vec<usize>, String> {
    Ok(shape.parse::<Shape>()?.lengths())
}

/// Refuses a value of `--seconds` that is not in 0 to 3,600.
pub(super) fn check_seconds(seconds: f64) -> Result<()> {
    match (0.0..=3600.0).contains(&seconds) {
        true => Ok(()),
        false => Err(Failure::option("seconds", format!("found {seconds}, expected 0 to 3,600"))),
    }
}

/// Seconds that a batch of this shape takes on this machine: the median of runs that are timed for about `span` seconds.
pub(super) fn seconds(model: &Model, shape: &str, span: f64) -> Result<f64> {
    let shape: Shape = shape.parse().map_err(Failure::usage)?;
    let mut times = shapes::measure(model, &shape, span)?;
    times.sort_by(f64::total_cmp);
    Ok(shapes::percentile(&times, 0.5) / 1e3)
}

/// Removes default shapes whose texts are longer than the model allows; fails if the user asked for such a shape. Called before anything is
/// measured.
fn fit(shapes: &mut Vec<Shape>, args: &BenchArgs, model: &Model) -> Result<()> {
    let most = model.info().max_length;
    let longest = |shape: &Shape| shape.lengths().into_iter().max().unwrap_or(0);
    if args.shapes.join(",") == DEFAULT_SHAPES {
        shapes.retain(|shape| longest(shape) <= most);
    }
    match shapes.iter().map(longest).find(|&longest| longest > most) {
        Some(longest) => Err(Failure::option(
            "shapes",
            format!("{} tokens, but the model takes at most {}", grouped(longest), grouped(most)),
        )),
        None => Ok(()),
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// The path of the model that `--model` names; `None` without the option, and for the starter.
fn asked_path(model_args: &ModelArgs) -> Result<Option<PathBuf>> {
    Ok(match model_args.model.as_deref().map(trivec_hub::locate).transpose()? {
        Some(trivec_hub::Located::Path(path)) => Some(path),
        _ => None,
    })
}

/// A temporary directory for a model that is packed for this run. The model is a file, so that it is mapped like any other and its untouched
/// parts take no memory. The directory is created on first use and removed at the end.
#[derive(Default)]
struct Scratch(OnceCell<TempDir>);

impl Scratch {
    /// The path of a file of this name in the directory.
    fn file(&self, name: &str) -> Result<PathBuf> {
        if let Some(directory) = self.0.get() {
            return Ok(directory.path().join(name));
        }
        let made = tempfile::Builder::new().prefix("trivec-bench-").tempdir();
        let made = made.map_err(|e| {
            let e = of_system(e);
            let what = "a directory for the model that is made for this run";
            let advice = std::io::Error::new(e.kind(), format!("{e}; set TMPDIR to a directory with room for it"));
            Failure::io(format!("{}: {what}", std::env::temp_dir().display()), &advice)
        })?;
        Ok(self.0.get_or_init(|| made).path().join(name))
    }
}

/// Makes the packed file that the options ask for: the synthetic model, or `--model` or the starter in the format of `--weights`. Returns its
/// path, or `None` if the model is measured as it is. A model that is loaded to be packed is passed to `check` first.
fn make_model(
    args: &BenchArgs,
    model_args: &ModelArgs,
    team: &Team,
    scratch: &Scratch,
    check: &mut dyn FnMut(&Model) -> Result<()>,
) -> Result<Option<PathBuf>> {
    let note = |what: String| {
        if !model_args.quiet {
            say!("trivec bench: {what}");
        }
    };
    if args.synthetic.is_some() {
        let format = args.weights.unwrap_or(WeightFormat::Int8);
        let path = match &args.path {
            Some(path) => path.clone(),
            None => scratch.file("synthetic.safetensors")?,
        };
        if path.is_file() {
            let model = Model::load_with(&path, &loading::options(model_args))?;
            let is_wanted = model.packed_source() == Some(synthetic::SOURCE)
                && args.weights.is_none_or(|w| model.packed_format() == Some(w));
            if !is_wanted {
                let found = model.packed_format().map_or("no packed", WeightFormat::name);
                let what = format!(
                    "--path: {} is there and holds {found} weights of `{}`, expected {} ones of `{}`",
                    path.display(),
                    model.packed_source().unwrap_or("unknown"),
                    format.name(),
                    synthetic::SOURCE
                );
                return Err(Failure::usage(what));
            }
            return Ok(Some(path));
        }
        note(format!("making a synthetic model of BGE-M3's shape in {}", format.name()));
        let (target, mut out) = create_beside(&path, "--path")?;
        synthetic::write_packed(format, team, &path, &mut out)?;
        move_model_into_place(&target, out)?;
        return Ok(Some(path));
    }
    let asked = asked_path(model_args)?;
    let from_file = asked.as_ref().is_some_and(|path| path.is_file());
    match args.weights {
        Some(format) if !from_file => {
            let options = loading::options(model_args);
            let model = match &asked {
                Some(path) => Model::load_with(path, &options)?,
                None => {
                    loading::note_starter(model_args);
                    loading::exact_starter(model_args)?
                }
            };
            check(&model)?;
            let path = scratch.file("packed.safetensors")?;
            note(format!("packing {} in {}", model.info().name, format.name()));
            trivec_hub::staged::pack(&model, &PackOptions::new(format), &path, &super::progress::Silent)?;
            Ok(Some(path))
        }
        Some(_) => Err(Failure::option("weights", "the model is a packed file, whose weights are what they are")),
        None => Ok(None),
    }
}

/// Writes the synthetic model to `directory`, as a checkpoint with f32 weights. Files of another model there are not replaced.
fn export(directory: &Path, team: &Team, quiet: bool) -> Result<()> {
    check_directory(directory)?;
    let [path, config] = ["model.safetensors", "config.json"].map(|name| directory.join(name));
    if let Some(there) = [&path, &config].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        let what = format!("{} is there already, expected a directory without a model", there.display());
        return Err(Failure::option("export", what));
    }
    std::fs::create_dir_all(directory).map_err(|e| Failure::io_path(directory, &e))?;
    let (target, mut out) = create_beside(&path, "--export")?;
    let bytes = synthetic::write_checkpoint(team, &path, &mut out)?;
    move_into_place(&target, out)?;
    std::fs::write(&config, synthetic::config_json()).map_err(|e| Failure::io_path(&config, &e))?;
    if !quiet {
        say!("{}: {:.0} MB of f32 weights", directory.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

impl Report {
    /// The report as lines for a terminal.
    fn table(&self) -> String {
        let m = &self.machine;
        let mut lines = vec![
            format!("{}, {}, {}, {} weights", Escaped(&m.cpu), m.isa, counted(m.threads, "thread"), self.weights),
            format!(
                "limits: memory {:.1} GB/s, int8 {:.0} GOP/s, bf16 {:.0} GFLOP/s, f32 {:.0} GFLOP/s",
                m.read_gb_s, m.int8_gop_s, m.bf16_gflop_s, m.f32_gflop_s
            ),
            "(arithmetic: what a product does for each row, on registers, without loads and without what rows share)"
                .to_owned(),
            String::new(),
            format!(
                "{:>9} {:>11} {:>11} {:>10} {:>10} {:>11} {:>7} {:>7}",
                "shape", "median ms", "p95 ms", "tokens/s", "MB read", "limit ms", "bound", "share"
            ),
        ];
        lines.extend(self.results.iter().map(|r| {
            format!(
                "{:>9} {:>11.3} {:>11.3} {:>10.0} {:>10.0} {:>11.3} {:>7} {:>6.0}%",
                r.shape,
                r.median_ms,
                r.p95_ms,
                r.tokens_s,
                r.weight_bytes as f64 / 1e6,
                r.limit_ms,
                r.bound,
                r.share * 100.0
            )
        }));
        lines.push(String::new());
        lines.push(format!(
            "cold start to first vector {:.1} ms, load {:.1} ms, peak memory at 1x128 {:.0} MB",
            self.cold_start_ms, self.load_ms, self.peak_rss_mb
        ));
        lines.join("\n")
    }
}
