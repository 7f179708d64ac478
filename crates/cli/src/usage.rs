//! Prints clap's output: help, the version and usage errors. Arguments and variables that it repeats are escaped for the terminal.

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

use super::exit;
use trivec::escape::{Escaped, is_needed};

/// Stands for a space where a help text must not be broken into lines: in the examples, which people copy.
const UNBROKEN: char = '\u{e000}';

/// A help text whose examples, the lines that are indented, stay on one line however narrow the terminal is.
pub(super) fn with_whole_examples(help: &str) -> String {
    let mut text = String::new();
    for line in help.split_inclusive('\n') {
        match line.strip_prefix("  ") {
            Some(example) => text.extend(["  ", &example.replace(' ', UNBROKEN.encode_utf8(&mut [0; 4]))]),
            None => text.push_str(line),
        }
    }
    text
}

/// Prints help and the version to stdout, and an error to stderr. Returns the exit code.
pub(super) fn print(error: clap::Error, command: &mut clap::Command) -> io::Result<ExitCode> {
    if !error.use_stderr() {
        let mut out = anstream::stdout().lock();
        out.write_all(error.render().ansi().to_string().replace(UNBROKEN, " ").as_bytes())?;
        return out.flush().map(|()| ExitCode::SUCCESS);
    }
    // A write error is ignored; the exit code still reports the failure.
    let _ = anstream::stderr().write_all(message(error, command).as_bytes());
    Ok(ExitCode::from(exit::USAGE))
}

/// An error's text: clap's colours stay, and control characters that came from the user are escaped.
fn message(mut error: clap::Error, command: &mut clap::Command) -> String {
    // clap's usage line names every option that was given, also those set by environment variables, as if they were required.
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        let plain = plain_usage(command, &usage.to_string());
        error.insert(ContextKind::Usage, ContextValue::StyledStr(plain));
    }
    let untrusted: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if is_needed(text) => Some((kind, ContextValue::String(escaped(text)))),
            ContextValue::Strings(texts) if texts.iter().any(|text| is_needed(text)) => {
                Some((kind, ContextValue::Strings(texts.iter().map(|text| escaped(text)).collect())))
            }
            _ => None,
        })
        .collect();
    if !untrusted.is_empty() {
        // clap's suggestions repeat the argument between colours, where it cannot be escaped; they are left out.
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(Vec::new()));
    }
    for (kind, value) in untrusted {
        error.insert(kind, value);
    }
    // The message of our own value parsers is not part of clap's context, so it is escaped here.
    let reason = error.source().map(ToString::to_string).filter(|reason| is_needed(reason));
    let text = error.render().ansi().to_string();
    let text = match reason {
        Some(reason) => text.replace(&reason, &escaped(&reason)),
        None => text,
    };
    text.replace(UNBROKEN, " ")
}

/// The usage line in the help of the subcommand that the usage line `usage` (`Usage: trivec pack …`) names.
fn plain_usage(command: &mut clap::Command, usage: &str) -> StyledStr {
    command.build();
    let mut current: &clap::Command = command;
    for word in usage.split_whitespace().skip(2) {
        match current.find_subcommand(word) {
            Some(subcommand) => current = subcommand,
            None => break,
        }
    }
    current.clone().render_usage()
}

fn escaped(text: &str) -> String {
    Escaped(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::command;

    fn refused(args: &[&str]) -> String {
        message(command().try_get_matches_from([&["trivec"][..], args].concat()).unwrap_err(), &mut command())
    }

    /// The text without the sequences that clap writes for its colours.
    fn without_colours(text: &str) -> String {
        let mut bytes = Vec::new();
        let _ = anstream::StripStream::new(&mut bytes).write_all(text.as_bytes());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn arguments_are_repeated_escaped() {
        const HOSTILE: &str = "\u{1b}]0;title\u{7}\nforged\u{202e}\u{9b}8m\u{1b}[8m";
        let shown = Escaped(HOSTILE).to_string();
        for args in [
            &[HOSTILE][..],
            &["embed", "--format", HOSTILE],
            &["embed", "--modes", HOSTILE],
            &["embed", "--cache-size", HOSTILE],
            &["embed", "--batch-size", HOSTILE],
            &["pack", "--weights", HOSTILE, "-o", "x"],
            &["info", HOSTILE],
            &["models", HOSTILE],
            &["score", "--weights", HOSTILE],
            &["info", &format!("--{HOSTILE}")],
            &["info", &format!("--json={HOSTILE}")],
            &["pull", "x", "--retry-delay", HOSTILE],
        ] {
            let text = refused(args);
            let plain = without_colours(&text);
            assert!(plain.contains(&shown), "{args:?}: {text:?}");
            // Colours are the only escape sequences that are left, and none of them hides text (`\x1b[8m`).
            assert!(plain.chars().all(|c| c == '\n' || !trivec::escape::is_active(c)), "{args:?}: {plain:?}");
            assert!(!text.contains("\u{1b}[8m") && !plain.contains("\nforged"), "{args:?}: {text:?}");
        }
    }

    #[test]
    fn the_usage_line_names_only_required_arguments() {
        for (args, usage) in [
            (&["--threads", "2", "pack"][..], "Usage: trivec pack [OPTIONS] --output <FILE> [MODEL]"),
            (&["explain", "--json", "a"], "Usage: trivec explain [OPTIONS] <A> <B>"),
            (&["models", "use"], "Usage: trivec models use [OPTIONS] <NAME>"),
            (&["--json"], "Usage: trivec [OPTIONS] <COMMAND>"),
        ] {
            let text = without_colours(&refused(args));
            assert!(text.lines().any(|line| line == usage), "{args:?}: {text}");
        }
    }

    #[test]
    fn examples_are_whole() {
        let help = with_whole_examples("Examples:\n  trivec a b\n\nWords of prose.");
        assert_eq!(help, format!("Examples:\n  trivec{UNBROKEN}a{UNBROKEN}b\n\nWords of prose."));
        for command in command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let narrow = command.clone().term_width(40).render_help().to_string().replace(UNBROKEN, " ");
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default().replace(UNBROKEN, " ");
            for example in after.lines().filter(|line| line.starts_with("  ")) {
                assert!(narrow.lines().any(|line| line == example), "{name}: {example}");
            }
        }
    }
}
