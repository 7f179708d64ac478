//! `trivec pull`: the options of [`trivec_hub::pull`], and the display of its progress.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::args::{ModelArgs, parse_weights};
use super::exit::{Failure, Result};
use super::loading;
use super::progress::Bar;
use super::pull_progress::Show;
use super::style::harmless;
use trivec::WeightFormat;
use trivec::escape::Escaped;
use trivec::pack::Stage;
use trivec_hub::names::{KNOWN, Spec, UNSUPPORTED};
use trivec_hub::staged::Watcher;
use trivec_hub::{
    FetchOptions, Hub, HubErrorKind, Patience, Progress, PullOptions, PullProgress, Pulled, Record, Store,
    endpoint_is_loopback, pull,
};

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
    /// Further attempts after one that transferred nothing
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
    /// Whether a known model must have the revision and the hashes that this program knows. With `auto` it need not if the hub is on this
    /// machine, and so the user's own.
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
        return Err("expected 0.001 to 3,600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) fn run(args: &PullArgs, model_args: &ModelArgs) -> Result<()> {
    let Some(name) = args.name.as_deref().filter(|_| !args.list) else { return list(args.json) };
    let spec = Spec::parse(name)?;
    let store = Store::from_env()?;
    let options = PullOptions {
        fetch: fetch_options(args),
        weights: args.weights,
        force: args.force,
        keep_source: args.keep_source,
        load: loading::options(model_args),
    };
    let show = Stages::new(model_args.quiet);
    let pulled = pull(&spec, &options, &store, &show);
    show.finish();
    let Pulled { record, made } = pulled.map_err(|mut error| {
        if error.kind == HubErrorKind::Busy && !args.wait {
            error.message.push_str("; --wait waits for it");
        }
        error
    })?;
    if args.json {
        return print(&json_line(&store, &record, made.is_none()));
    }
    let Some(made) = made else {
        return print(&format!("{} is installed already; --force fetches it again", Escaped(summary(&record))));
    };
    let megabytes = made.source_bytes as f64 / 1e6;
    show.note(&format!(
        "the model's files have {megabytes:.1} MB, packed to {} they have {:.1} MB",
        record.weights,
        record.bytes as f64 / 1e6
    ));
    show.note(&match &made.source {
        Some(directory) => format!("the downloaded files are in {}", directory.display()),
        None => format!("the downloaded files ({megabytes:.1} MB) are removed"),
    });
    print(&format!("fidelity to the source\n{}\n{}", made.report, Escaped(summary(&record))))
}

/// Shows all stages of a pull.
struct Stages {
    fetching: Show,
    packing: Bar,
    comparing: OnceLock<ProgressBar>,
}

impl Stages {
    fn new(quiet: bool) -> Stages {
        Stages { fetching: Show::new(quiet), packing: Bar::new(quiet), comparing: OnceLock::new() }
    }

    /// Clears the bars that are left on the terminal.
    fn finish(&self) {
        self.packing.finish();
        if let Some(bar) = self.comparing.get() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Stages {
    fn begin(&self, files: usize, bytes: u64) {
        self.fetching.begin(files, bytes);
    }
    fn start(&self, path: &str, bytes: u64, at: u64) {
        self.fetching.start(path, bytes, at);
    }
    fn advance(&self, path: &str, bytes: u64) {
        self.fetching.advance(path, bytes);
    }
    fn done(&self, path: &str) {
        self.fetching.done(path);
    }
    fn end(&self) {
        self.fetching.end();
    }
    fn note(&self, text: &str) {
        self.fetching.note(text);
    }
}

impl Watcher for Stages {
    fn measuring(&self, stage: Stage, done: usize, total: usize) {
        self.packing.measuring(stage, done, total);
    }
    fn writing(&self, done: u64, total: u64) {
        self.packing.writing(done, total);
    }
    fn resumed(&self, what: &str) {
        self.packing.resumed(what);
    }
}

impl PullProgress for Stages {
    fn comparing(&self, done: usize, total: usize) {
        self.packing.finish();
        let bar = self.comparing.get_or_init(|| self.fetching.stage("comparing", total as u64));
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    }
}

/// The options of fetching that the command line gives.
fn fetch_options(args: &PullArgs) -> FetchOptions {
    let hubs = match args.from {
        From::Hf => vec![Hub::HuggingFace],
        From::Modelscope => vec![Hub::ModelScope],
        From::Auto => vec![Hub::HuggingFace, Hub::ModelScope],
    };
    let patience = Patience { stall: args.stall_timeout, retries: args.retries, delay: args.retry_delay };
    FetchOptions {
        endpoint: None,
        hubs,
        pinned: args.pin.holds(),
        patience,
        parallel: args.parallel.into(),
        wait: args.wait,
    }
}

/// Says in a line which model is in use now.
fn summary(record: &Record) -> String {
    let megabytes = record.bytes as f64 / 1e6;
    let (name, weights) = (&record.name, &record.weights);
    format!("{name} ({}@{:.12}, {weights}, {megabytes:.1} MB) is in use", record.repository, record.revision)
}

fn json_line(store: &Store, record: &Record, already_installed: bool) -> String {
    let json = json!({
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
    });
    harmless(json.to_string())
}

/// Prints the models that have a short name, and those that cannot be used.
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
