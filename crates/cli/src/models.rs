//! `trivec models`: lists the installed models, chooses the one in use, removes one.

use std::io::Write;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::args::ModelArgs;
use super::exit::{Failure, Result};
use super::style;
use trivec::escape::Escaped;
use trivec_hub::names::{STARTER, Spec, check_name};
use trivec_hub::{Choice, Copies, PackedCopy, Record, Store};

const EXAMPLES: &str = "\
Examples:
  trivec models
  trivec models use bge-m3
  trivec models use starter
  trivec models rm bge-m3
  trivec models rm path/to/bge-m3    # the packed copies that --weights made of a checkpoint; --packed removes those of all

Models live in TRIVEC_HOME [default: trivec in XDG_DATA_HOME, else ~/.local/share/trivec].";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct ModelsArgs {
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
}

#[derive(Subcommand, Debug)]
pub(super) enum ModelsCommand {
    /// Make an installed model, or `starter`, the one that is used without --model
    Use(NameArgs),
    /// Remove a model and what was downloaded for it, or packed copies of a checkpoint
    Rm(RmArgs),
}

#[derive(Args, Debug)]
pub(super) struct RmArgs {
    /// The model's name, as `trivec models` lists it, or the directory of a checkpoint whose packed copies are to go
    #[arg(value_name = "NAME|PATH", required_unless_present = "packed")]
    pub name: Option<String>,
    /// Remove the packed copies of all checkpoints
    #[arg(long, env = "TRIVEC_PACKED", conflicts_with = "name")]
    pub packed: bool,
}

#[derive(Args, Debug)]
pub(super) struct NameArgs {
    /// The model's name, as `trivec models` lists it
    #[arg(value_name = "NAME")]
    pub name: String,
}

pub(super) fn run(args: &ModelsArgs, model_args: &ModelArgs) -> Result<()> {
    let store = Store::from_env()?;
    match &args.command {
        None => list(&store, args.json),
        Some(ModelsCommand::Use(args)) => choose(&store, &installed_name(&args.name), model_args.quiet),
        Some(ModelsCommand::Rm(RmArgs { name: Some(name), .. })) => remove(&store, name, model_args.quiet),
        Some(ModelsCommand::Rm(_)) => remove_copies(&store, model_args.quiet),
    }
}

/// The name under which a model is installed: `BAAI/bge-m3` is `bge-m3`.
fn installed_name(name: &str) -> String {
    Spec::parse(name).map_or_else(|_| name.to_owned(), |spec| spec.name)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    home: String,
    /// The name of the model that is used without `--model`; `None` if the file with the choice, or the chosen model, is damaged or missing.
    in_use: Option<&'a str>,
    models: Vec<JsonModel<'a>>,
    damaged: Vec<JsonDamaged<'a>>,
    packed: Vec<JsonPacked<'a>>,
}

/// A packed copy, with the directories of the checkpoints that it was made from.
#[derive(Serialize)]
struct JsonPacked<'a> {
    sources: Vec<String>,
    weights: &'a str,
    bytes: u64,
    path: String,
    fidelity: Option<f64>,
}

#[derive(Serialize)]
struct JsonModel<'a> {
    name: &'a str,
    hub: &'a str,
    repository: &'a str,
    revision: &'a str,
    weights: &'a str,
    bytes: u64,
    path: String,
    fidelity: Option<f64>,
    verification: &'a serde_json::Value,
    in_use: bool,
}

#[derive(Serialize)]
struct JsonDamaged<'a> {
    name: &'a str,
    error: &'a str,
}

/// Prints the installed models and the packed copies of checkpoints. Damaged models are named on stderr.
fn list(store: &Store, json: bool) -> Result<()> {
    let (records, damaged) = store.list()?;
    let copies = Copies::of(store);
    let packed = copies.list();
    let default = store.default_model();
    let in_use = match &default {
        Ok(Choice::Starter) => Some(STARTER),
        Ok(Choice::Installed(record)) => Some(record.name.as_str()),
        Err(_) => None,
    };
    let mut out = anstream::stdout().lock();
    let written = if json {
        let model = |record| json_model(store, record, in_use);
        let damaged = damaged.iter().map(|model| JsonDamaged { name: &model.name, error: &model.what }).collect();
        let home = store.home().display().to_string();
        let packed = packed.iter().map(|copy| json_packed(&copies, copy)).collect();
        let json = Json { home, in_use, models: records.iter().map(model).collect(), damaged, packed };
        let text = style::json(&json).map_err(Failure::usage)?;
        writeln!(out, "{text}")
    } else {
        for model in &damaged {
            say!("trivec: {} is damaged and cannot be used: {}", model.name, model.what);
        }
        if let Err(error) = &default
            && damaged.is_empty()
        {
            say!("trivec: {error}");
        }
        out.write_all((table(&records, in_use) + &table_of_copies(&packed)).as_bytes())
    };
    written.and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

fn json_model<'a>(store: &Store, record: &'a Record, in_use: Option<&str>) -> JsonModel<'a> {
    JsonModel {
        name: &record.name,
        hub: &record.hub,
        repository: &record.repository,
        revision: &record.revision,
        weights: &record.weights,
        bytes: record.bytes,
        path: store.path(record).display().to_string(),
        fidelity: record.fidelity,
        verification: &record.verification,
        in_use: in_use == Some(&record.name),
    }
}

fn json_packed<'a>(copies: &Copies, copy: &'a PackedCopy) -> JsonPacked<'a> {
    JsonPacked {
        sources: copy.sources.iter().map(|source| source.display().to_string()).collect(),
        weights: &copy.weights,
        bytes: copy.bytes,
        path: copies.path(&copy.key).display().to_string(),
        fidelity: copy.fidelity,
    }
}

/// The packed copies that `--weights` has made, as lines for a terminal; an empty text if there are none.
fn table_of_copies(copies: &[PackedCopy]) -> String {
    if copies.is_empty() {
        return String::new();
    }
    let mut text = "\npacked copies of checkpoints, made by --weights:\n".to_owned();
    for copy in copies {
        let sources: Vec<String> = copy.sources.iter().map(|s| style::readable(&s.display().to_string())).collect();
        let fidelity = copy.fidelity.map_or("-".to_owned(), |mean| format!("{mean:.5}"));
        let (weights, size) = (&copy.weights, format!("{:.1} MB", copy.bytes as f64 / 1e6));
        text.push_str(&format!("  {weights:<5} {size:>10}  {fidelity:<7}  {}\n", sources.join(", ")));
    }
    text
}

/// The installed models and the starter as a table, the model in use with a star.
fn table(records: &[Record], in_use: Option<&str>) -> String {
    let marked = |name: &str| format!("{} {name}", if in_use == Some(name) { "*" } else { " " });
    let header = ["  name", "weights", "size", "fidelity", "from"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    rows.extend(records.iter().map(|record| {
        [
            marked(&record.name),
            record.weights.clone(),
            format!("{:.1} MB", record.bytes as f64 / 1e6),
            record.fidelity.map_or("-".to_owned(), |mean| format!("{mean:.5}")),
            format!("{}@{:.12} ({})", record.repository, record.revision, record.hub),
        ]
        .map(|cell| Escaped(cell).to_string())
        .to_vec()
    }));
    if cfg!(feature = "starter") {
        let built_in = ["int4", "built in", "-", "a small model for first tries, not BGE-M3"].map(str::to_owned);
        rows.push([vec![marked(STARTER)], built_in.to_vec()].concat());
    }
    let columns = rows[0].len();
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().map(|row| style::width(&row[c])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| style::pad(cell, width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str("\n* is used without --model; fidelity is the mean cosine to the source\n");
    text
}

/// Makes an installed model, or the starter, the one that is used without `--model`.
fn choose(store: &Store, name: &str, quiet: bool) -> Result<()> {
    if name != STARTER && store.find(name)?.is_none() {
        return Err(not_installed(name));
    }
    store.set_default(Some(name))?;
    if !quiet {
        say!("trivec: {name} is in use now");
    }
    Ok(())
}

fn not_installed(name: &str) -> Failure {
    Failure::Message {
        code: super::exit::MODEL,
        message: format!("the model `{name}` is not installed: `trivec models` lists those that are"),
    }
}

/// Removes all packed copies of checkpoints.
fn remove_copies(store: &Store, quiet: bool) -> Result<()> {
    let freed = Copies::of(store).remove_all()?;
    if !quiet {
        say!("trivec: removed the packed copies of checkpoints ({:.1} MB)", freed as f64 / 1e6);
    }
    Ok(())
}

/// Removes the packed copies of the checkpoint in a directory. Returns whether there were any.
fn remove_copies_of(store: &Store, directory: &str, quiet: bool) -> Result<bool> {
    let asked = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
    let source = std::fs::canonicalize(directory).unwrap_or(asked);
    let copies = Copies::of(store);
    let of_source: Vec<PackedCopy> = copies.list().into_iter().filter(|copy| copy.sources.contains(&source)).collect();
    of_source.iter().try_for_each(|copy| copies.remove(copy))?;
    let freed: u64 = of_source.iter().map(|copy| copy.bytes).sum();
    if !quiet && !of_source.is_empty() {
        say!("trivec: removed the packed copies of {} ({:.1} MB)", source.display(), freed as f64 / 1e6);
    }
    Ok(!of_source.is_empty())
}

/// Removes the packed copies of the checkpoint in the directory `asked`, or, if it has none, the installed model of this name and what was
/// downloaded for it.
fn remove(store: &Store, asked: &str, quiet: bool) -> Result<()> {
    if remove_copies_of(store, asked, quiet)? {
        return Ok(());
    }
    let spec = Spec::parse(asked).ok();
    let name = installed_name(asked);
    if name == STARTER {
        return Err(Failure::usage("the starter is inside the program and cannot be removed"));
    }
    check_name(&name)?;
    // Without a home directory nothing is installed, and the lock below would create it.
    if !store.home().exists() {
        return Err(not_installed(&name));
    }
    let note = |_: &str| {};
    let repository = spec.as_ref().map(|spec| spec.repository.as_str());
    let _model = store.lock_model(&name, false, &note)?;
    let _source = repository.map(|repository| store.lock_source(repository, false, &note)).transpose()?;
    let Some(freed) = store.remove(&name, repository)? else { return Err(not_installed(&name)) };
    if !quiet {
        let now = match store.default_model() {
            Ok(Choice::Installed(record)) => record.name,
            _ => STARTER.to_owned(),
        };
        say!("trivec: removed {name} ({:.1} MB); {now} is in use now", freed as f64 / 1e6);
    }
    Ok(())
}
