//! The source of each option's value: the command line, an environment variable, or a file. Messages name the source.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What gave an option its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    /// An environment variable, by its name.
    Variable(String),
    /// A file, by its path as it is shown.
    #[cfg(feature = "serve")]
    File(String),
}

/// The source of every option that was given, by the option's long name. A flag that a variable turns off does not count as given.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Finds where the options of the chosen subcommand have their values from. `command` is the definition that made `matches`.
    pub(super) fn of(matches: &ArgMatches, command: &Command) -> Sources {
        let Some((name, matches)) = matches.subcommand() else { return Sources::default() };
        let args = command.find_subcommand(name).into_iter().flat_map(Command::get_arguments);
        let ids: BTreeSet<&str> = matches.ids().map(clap::Id::as_str).collect();
        let source = |arg: &Arg| {
            let id = arg.get_id().as_str();
            let is_off = || matches!(arg.get_action(), ArgAction::SetTrue) && !matches.get_flag(id);
            if !ids.contains(id) || is_off() {
                return None;
            }
            let source = match matches.value_source(id)? {
                ValueSource::CommandLine => Source::CommandLine,
                ValueSource::EnvVariable => Source::Variable(arg.get_env()?.to_string_lossy().into_owned()),
                _ => return None,
            };
            Some((id.replace('_', "-"), source))
        };
        Sources(args.filter_map(source).collect())
    }

    /// Adds the options that a file gives, except those that the command line or a variable gives too.
    #[cfg(feature = "serve")]
    pub(super) fn add_file<'a>(&mut self, path: &std::path::Path, keys: impl Iterator<Item = &'a str>) {
        for key in keys {
            let source = || Source::File(path.display().to_string());
            self.0.entry(key.replace('_', "-")).or_insert_with(source);
        }
    }

    /// Whether an option was given, by any source.
    pub(super) fn has(&self, option: &str) -> bool {
        self.0.contains_key(option)
    }

    pub(super) fn is_on_command_line(&self, option: &str) -> bool {
        self.0.get(option) == Some(&Source::CommandLine)
    }

    pub(super) fn is_variable(&self, option: &str) -> bool {
        matches!(self.0.get(option), Some(Source::Variable(_)))
    }

    /// The option as its source writes it: `--port`, `TRIVEC_PORT (--port)` or `trivec.toml: port`.
    pub(super) fn name(&self, option: &str) -> String {
        match self.0.get(option) {
            Some(Source::Variable(name)) => format!("{name} (--{option})"),
            #[cfg(feature = "serve")]
            Some(Source::File(path)) => format!("{path}: {}", option.replace('-', "_")),
            Some(Source::CommandLine) | None => format!("--{option}"),
        }
    }
}

/// Whether a variable's value is what container platforms set: for a service NAME, Kubernetes gives every pod of the namespace
/// `NAME_PORT=tcp://10.0.0.1:8737`, and a service may well be named `trivec`.
pub(super) fn is_of_platform(value: &OsStr) -> bool {
    let value = value.to_string_lossy().to_ascii_lowercase();
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

/// The name of an option's variable if a container platform has set it. Options that take URLs have no such variable.
pub(super) fn platform_variable(arg: &Arg) -> Option<&str> {
    let name = arg.get_env().filter(|_| !matches!(arg.get_id().as_str(), "otlp_endpoint" | "cors_origin"))?;
    std::env::var_os(name).is_some_and(|value| is_of_platform(&value)).then(|| name.to_str()).flatten()
}

/// Notes for the user on variables of the chosen subcommand that are ignored because a container platform has set them. Options that are
/// given otherwise get none.
pub(super) fn notes(command: &Command, chosen: Option<&str>, sources: &Sources) -> Vec<String> {
    let args = chosen.and_then(|name| command.find_subcommand(name)).into_iter().flat_map(Command::get_arguments);
    let args = args.chain(command.get_arguments());
    let note = |arg: &Arg| {
        let (variable, option) = (platform_variable(arg)?, arg.get_long()?);
        if sources.has(option) {
            return None;
        }
        let value = std::env::var_os(variable)?;
        Some(format!(
            "{variable}={} is passed over: Kubernetes and its like set it, for a service of that name; --{option} is not given by it",
            value.to_string_lossy().escape_debug()
        ))
    };
    let notes: BTreeSet<String> = args.filter_map(note).collect();
    notes.into_iter().collect()
}
