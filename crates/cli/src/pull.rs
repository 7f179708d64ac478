//! `trivec pull`: from a name to a model in use: fetch, pack, verify, install. Every stage that is done is kept, so that the same command
//! goes on where an earlier one ended, however it ended.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::args::{ModelArgs, parse_weights};
use super::exit::{self, Failure, Result};
use super::pack::Bar;
use super::pull_progress::Show;
use super::stages;
use trivec::escape::Escaped;
use trivec::pack::PackOptions;
use trivec::pack::verify::{Promise, VerifyReport, bundled_texts, verify};
use trivec::{Model, WeightFormat};
use trivec_hub::names::{KNOWN, Spec, UNSUPPORTED};
use trivec_hub::{FetchOptions, Fetched, Hub, Patience, Progress, Record, Store, endpoint_is_loopback, fetch};

const EXAMPLES: &str = "\
Examples:
  trivec pull bge-m3
  trivec pull bge-m3 --weights int4
  trivec pull Snowflake/snowflake-arctic-embed-l-v2.0@main --keep-source
  trivec pull bge-m3 --from modelscope
  HF_ENDPOINT=https://hf-mirror.com trivec pull bge-m3
  trivec pull --list

Fetches the files that are needed, checks their hashes, packs them, compares the packed model with the source, and makes it the one \
that is used without --model. Run again after an interruption, it goes on where it was. The downloaded files are removed at the end, \
unless --keep-source. HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE count as for Hugging Face's own tools, and what is \
in their cache is not downloaded again; MODELSCOPE_ENDPOINT is ModelScope's address.

Exit codes: 0 done, 2 wrong use, 4 not what was promised (hash, fidelity, no such model), 5 network or disk, 6 another pull is at it.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct PullArgs {
    /// A short name (`--list` shows them) or ORG/REPO, with @REVISION for another than the usual one
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub name: Option<String>,
    /// Where from; auto is Hugging Face, and ModelScope where that cannot be reached
    #[arg(long, value_name = "HUB", env = "TRIVEC_FROM", default_value = "auto")]
    pub from: From,
    /// How to store the layers' weights: int8, int4, f16, bf16 or f32
    #[arg(long, short, value_name = "FORMAT", env = "TRIVEC_PACK_WEIGHTS", default_value = "int8", value_parser = parse_weights)]
    pub weights: WeightFormat,
    /// Fetch, pack and verify again what is installed
    #[arg(long, env = "TRIVEC_FORCE")]
    pub force: bool,
    /// Keep the downloaded files
    #[arg(long, env = "TRIVEC_KEEP_SOURCE")]
    pub keep_source: bool,
    /// Whether a known model has to be the revision, with the hashes, that this program knows; auto: unless the hub is on this machine
    #[arg(long, value_name = "WHEN", env = "TRIVEC_PIN", default_value = "auto")]
    pub pin: Pin,
    /// Wait for another pull of the same model instead of failing
    #[arg(long, env = "TRIVEC_WAIT")]
    pub wait: bool,
    /// Files fetched at a time
    #[arg(long, value_name = "N", env = "TRIVEC_PARALLEL", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub parallel: u8,
    /// Further attempts after one that brought nothing
    #[arg(long, value_name = "N", env = "TRIVEC_RETRIES", default_value = "5", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
    /// Seconds before the second attempt; doubled for each further one
    #[arg(long, value_name = "S", env = "TRIVEC_RETRY_DELAY", default_value = "1", value_parser = parse_seconds)]
    pub retry_delay: Duration,
    /// Seconds without a byte after which a server counts as hung
    #[arg(long, value_name = "S", env = "TRIVEC_STALL_TIMEOUT", default_value = "30", value_parser = parse_seconds)]
    pub stall_timeout: Duration,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    /// Show the known short names, and do nothing else
    #[arg(long, env = "TRIVEC_LIST")]
    pub list: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pin {
    Auto,
    Always,
    Never,
}

impl Pin {
    /// A hub on this machine is the user's own: what it says of its files counts.
    fn holds(self) -> bool {
        match self {
            Pin::Auto => !endpoint_is_loopback(),
            Pin::Always => true,
            Pin::Never => false,
        }
    }
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Hf,
    Modelscope,
    Auto,
}

fn parse_seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected seconds".to_owned())?;
    if !(0.001..=3600.0).contains(&seconds) {
        return Err("expected 0.001 to 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) fn run(args: &PullArgs, model_args: &ModelArgs) -> Result<()> {
    let Some(name) = args.name.as_deref().filter(|_| !args.list) else { return list(args.json) };
    let spec = Spec::parse(name)?;
    let store = Store::from_env()?;
    let show = Show::new(model_args.quiet);
    let _lock = store.lock(&spec.name, args.wait, &|text| show.note(text))?;
    // A damaged installation is no reason not to install.
    let installed = store.find(&spec.name).ok().flatten();
    let same = |record: &&Record| record.weights == args.weights.name() && !args.force;
    let wanted = spec.revision.as_deref().or(spec.known.filter(|_| args.pin.holds()).and_then(|known| known.revision));
    if let Some(record) = installed.as_ref().filter(same)
        && wanted == Some(record.revision.as_str())
    {
        if !record.keep_source && !args.keep_source {
            // What a run left that was killed when the model was in place already.
            remove_files(&store.source_directory(&record.hub, &record.repository).join(&record.revision));
        }
        return already(&store, record, args.json);
    }
    let fetched = fetch(&spec, &fetch_options(args), &store, &show)?;
    if let Some(record) = installed.as_ref().filter(same)
        && (record.hub.as_str(), &record.revision) == (fetched.hub.name(), &fetched.revision)
    {
        if !record.keep_source && !args.keep_source {
            remove_files(&fetched.directory);
        }
        return already(&store, record, args.json);
    }
    let packed = Packed::make(args, model_args, &spec, &store, installed.as_ref(), &fetched, &show)?;
    let record = Record {
        format: 0,
        name: spec.name.clone(),
        hub: fetched.hub.name().to_owned(),
        repository: fetched.repository.clone(),
        revision: fetched.revision.clone(),
        weights: args.weights.name().to_owned(),
        file: format!("{}/{}", directory_name(&store.model_directory(&spec.name)), directory_name(&packed.path)),
        bytes: fs::metadata(&packed.path).map_err(|e| Failure::io_path(&packed.path, &e))?.len(),
        fidelity: packed.verification.pointer("/dense/mean").and_then(Value::as_f64),
        verification: packed.verification.clone(),
        keep_source: args.keep_source,
        installed: 0,
        installed_nanos: 0,
    };
    let record = store.install(record)?;
    if !args.keep_source {
        remove_files(&fetched.directory);
    }
    if args.json {
        return print(&json_line(&store, &record, false));
    }
    show.note(&format!(
        "the model's files have {:.1} MB, packed to {} they have {:.1} MB",
        fetched.bytes as f64 / 1e6,
        record.weights,
        record.bytes as f64 / 1e6
    ));
    show.note(&if args.keep_source {
        format!("the downloaded files are in {}", fetched.directory.display())
    } else {
        format!("the downloaded files ({:.1} MB) are removed", fetched.bytes as f64 / 1e6)
    });
    print(&format!("fidelity to the source\n{}\n{}", packed.table, Escaped(summary(&record))))
}

fn directory_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn fetch_options(args: &PullArgs) -> FetchOptions {
    let hubs = match args.from {
        From::Hf => vec![Hub::HuggingFace],
        From::Modelscope => vec![Hub::ModelScope],
        From::Auto => vec![Hub::HuggingFace, Hub::ModelScope],
    };
    let packed_share = match args.weights {
        // Of f32 weights, as nearly all checkpoints have them, with the tokenizer.
        WeightFormat::Int8 | WeightFormat::Int4 => 0.3,
        WeightFormat::F16 | WeightFormat::Bf16 => 0.55,
        _ => 1.05,
    };
    let patience = Patience { stall: args.stall_timeout, retries: args.retries, delay: args.retry_delay };
    FetchOptions {
        hubs,
        pinned: args.pin.holds(),
        patience,
        parallel: args.parallel.into(),
        wait: args.wait,
        packed_share,
    }
}

/// A packed model that has passed.
struct Packed {
    path: PathBuf,
    verification: Value,
    /// The report for people.
    table: String,
}

impl Packed {
    /// Packs the fetched files, unless an earlier run has, and compares the result with them.
    fn make(
        args: &PullArgs,
        model_args: &ModelArgs,
        spec: &Spec,
        store: &Store,
        installed: Option<&Record>,
        fetched: &Fetched,
        show: &Show,
    ) -> Result<Packed> {
        let options = super::options(model_args);
        let source = Model::load_with(&fetched.directory, &options)?;
        let directory = store.model_directory(&spec.name);
        fs::create_dir_all(&directory).map_err(|e| Failure::io_path(&directory, &e))?;
        remove_temporary(&directory);
        let path = packed_path(&directory, args, fetched, installed.map(|record| store.path(record)).as_deref());
        // Without a record nobody uses the file yet: it may be what an interrupted run has packed.
        let earlier = if path.exists() && !args.force { Model::load_with(&path, &options).ok() } else { None };
        let candidate = match earlier {
            Some(candidate) => {
                show.note("packed already by an earlier run");
                candidate
            }
            None => {
                show.note(&format!("packing to {}", args.weights.name()));
                let watcher = Bar::new(model_args.quiet);
                let from = format!("{}:{}@{}", fetched.hub.name(), fetched.repository, fetched.revision);
                let options_of_pack = PackOptions { source: Some(from), ..PackOptions::new(args.weights) };
                let packed = stages::pack(&source, &options_of_pack, &path, &watcher);
                watcher.finish();
                packed?;
                Model::load_with(&path, &options)?
            }
        };
        let texts = bundled_texts();
        show.note(&format!("comparing with the source on {} texts", texts.len()));
        let bar = show.stage("comparing", texts.len() as u64);
        let report: VerifyReport = verify(&source, &candidate, &texts, &|done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        let promise = Promise::least(args.weights);
        let mut failures = report.failures(&promise);
        // What is called BGE-M3 has to be it; another model of its shape has other values.
        failures.extend(report.published_failure(&promise).filter(|_| spec.name == "bge-m3" && args.pin.holds()));
        let verification = serde_json::to_value(&report).map_err(Failure::usage)?;
        if !failures.is_empty() {
            let message = format!(
                "the packed model is not faithful enough and is not installed: {}. Kept are the packed model, {}, and the \
                 downloaded files, {}; `trivec models rm {}` removes them",
                failures.join("; "),
                path.display(),
                fetched.directory.display(),
                spec.name
            );
            return Err(Failure::Message { code: exit::MODEL, message });
        }
        Ok(Packed { path, verification, table: report.to_string() })
    }
}

/// Where the packed file goes: never over the one in use.
fn packed_path(directory: &Path, args: &PullArgs, fetched: &Fetched, in_use: Option<&Path>) -> PathBuf {
    let version = env!("CARGO_PKG_VERSION");
    let stem = format!("{:.12}-{}-{version}", fetched.revision, args.weights.name());
    let first = directory.join(format!("{stem}.safetensors"));
    if in_use == Some(first.as_path()) { directory.join(format!("{stem}-again.safetensors")) } else { first }
}

/// Removes what a killed run was writing. The model's lock is held: nobody else writes here.
fn remove_temporary(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(".trivec-") {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes downloaded files. The model is in place, whether they go or stay.
fn remove_files(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    if let Some(parent) = directory.parent() {
        // Only if nothing else is in it.
        let _ = fs::remove_dir(parent);
    }
}

fn already(store: &Store, record: &Record, json: bool) -> Result<()> {
    store.set_default(Some(&record.name))?;
    if json {
        return print(&json_line(store, record, true));
    }
    print(&format!("{} is installed already; --force fetches it again", Escaped(summary(record))))
}

fn summary(record: &Record) -> String {
    let megabytes = record.bytes as f64 / 1e6;
    let (name, weights) = (&record.name, &record.weights);
    format!("{name} ({}@{:.12}, {weights}, {megabytes:.1} MB) is in use", record.repository, record.revision)
}

fn json_line(store: &Store, record: &Record, already_installed: bool) -> String {
    json!({
        "name": record.name,
        "hub": record.hub,
        "repository": record.repository,
        "revision": record.revision,
        "weights": record.weights,
        "bytes": record.bytes,
        "path": store.path(record).display().to_string(),
        "fidelity": record.fidelity,
        "verification": record.verification,
        "already_installed": already_installed,
    })
    .to_string()
}

fn list(as_json: bool) -> Result<()> {
    if as_json {
        let models: Vec<Value> = KNOWN
            .iter()
            .map(|known| {
                json!({
                    "name": known.name,
                    "repository": known.repository,
                    "revision": known.revision,
                    "licence": known.licence,
                    "download_gb": known.download_gb,
                    "note": known.note,
                })
            })
            .collect();
        return print(&Value::from(models).to_string());
    }
    let mut text = format!("{:<22} {:<11} {:>9}  {}\n", "name", "licence", "download", "what it is");
    for known in &KNOWN {
        let note = known.note;
        text.push_str(&format!(
            "{:<22} {:<11} {:>6.1} GB  {} ({note})\n",
            known.name, known.licence, known.download_gb, known.repository
        ));
    }
    for (name, _, why) in UNSUPPORTED {
        text.push_str(&format!("\n{name} cannot be used: {why}\n"));
    }
    print(&text)
}

fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}
