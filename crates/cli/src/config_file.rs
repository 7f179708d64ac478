//! `trivec serve --config` and `--print-config`: options as TOML. Errors never quote the file, because any line of it may hold an API key.

use std::ops::Range;
use std::path::Path;

use clap::Command;
use toml::de::DeTable;

use super::exit::{Failure, Result};
use super::serve_args::ServeArgs;
use trivec::escape::{is_active, is_needed};

/// Reads the options of a file. Also returns the names of those that it sets, as the file writes them.
pub(super) fn read(path: &Path) -> Result<(ServeArgs, Vec<String>)> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io_path(path, &e))?;
    parse(&text).map_err(|what| Failure::usage(format!("{}: {what}", path.display())))
}

/// Parses the options of a file. Also returns the names of those that it sets.
fn parse(text: &str) -> std::result::Result<(ServeArgs, Vec<String>), String> {
    // What the parser says of wrong syntax does not quote the text.
    let table = DeTable::parse(text).map_err(|e| format!("{}: {}", place(text, e.span()), e.message()))?;
    let table = table.get_ref();
    let options = toml::from_str(text).map_err(|e| wrong_value(text, table, &e))?;
    Ok((options, table.keys().map(|key| key.get_ref().to_string()).collect()))
}

/// The message for a value or a name that is wrong: where it is, and what is expected there.
fn wrong_value(text: &str, table: &DeTable<'_>, error: &toml::de::Error) -> String {
    let at = error.span().unwrap_or_default();
    let is_here = |range: Range<usize>| range.start <= at.start && at.start < range.end.max(range.start + 1);
    let expected = error.message().rsplit_once("expected ").map_or("another value", |(_, expected)| expected);
    let place = place(text, Some(at.clone()));
    if let Some((key, value)) = table.iter().find(|(_, value)| is_here(value.span())) {
        let expected = match (key.get_ref().as_ref(), expected) {
            ("host", _) => "an IP address",
            (_, "u16") => "a whole number from 0 to 65535",
            (_, "usize" | "u64") => "a whole number",
            (_, "f64") => "a number",
            (_, "path string") => "a path",
            (_, "another value") => "a size as 512MB, 2GiB or a number of bytes",
            (_, expected) => expected,
        };
        let kind = value.get_ref().type_str();
        return format!("{place}: {}: found a value of type {kind}, expected {expected}", key.get_ref());
    }
    format!("{place}: unknown name, expected {expected}")
}

/// The line and the column, both from 1, at which `span` begins in `text`.
fn place(text: &str, span: Option<Range<usize>>) -> String {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

/// The options as a file for `--config`. Options that are not set are comments with their defaults, and API keys are left out.
pub(super) fn print(all: &ServeArgs, command: &Command) -> Result<String> {
    let mut text = escaped(&toml::to_string(all).map_err(|e| Failure::usage(e.to_string()))?)?;
    if !all.api_key.is_empty() {
        text.push_str(&format!("# api_key: {} given, not shown\n", all.api_key.len()));
    }
    let names: Vec<String> = text.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect();
    let serve = command.find_subcommand("serve").into_iter().flat_map(Command::get_arguments);
    let own = ["model", "threads", "isa"];
    let all_args = command.get_arguments().filter(|arg| own.contains(&arg.get_id().as_str())).chain(serve);
    let mut unset = Vec::new();
    for arg in all_args.filter(|arg| !arg.is_hide_set()) {
        let name = arg.get_id().as_str();
        let is_no_setting = matches!(name, "config" | "print_config" | "healthcheck" | "help" | "version");
        let is_said = names.iter().any(|known| known == name) || (name == "api_key" && !all.api_key.is_empty());
        if is_no_setting || is_said || unset.iter().any(|(known, _)| known == name) {
            continue;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = help.rsplit_once("[default: ").and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or("none");
        unset.push((name.to_owned(), default.to_owned()));
    }
    for (name, default) in unset {
        text.push_str(&format!("# {name}: not set [default: {default}]\n"));
    }
    Ok(text)
}

/// Makes TOML text harmless to a terminal. If a line has characters that would act on one, all options are written anew, one a line, with
/// TOML's own escapes for such characters.
fn escaped(text: &str) -> Result<String> {
    if text.lines().all(|line| !is_needed(line)) {
        return Ok(text.to_owned());
    }
    let table: toml::Table = toml::from_str(text).map_err(|e| Failure::usage(e.message()))?;
    Ok(table.iter().map(|(name, value)| format!("{name} = {}\n", escaped_value(value))).collect())
}

/// A value as TOML, with escapes in place of characters that would act on a terminal.
fn escaped_value(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => {
            let mut quoted = String::from('"');
            for c in text.chars() {
                match c {
                    '"' | '\\' => quoted.extend(['\\', c]),
                    c if is_active(c) || c.is_control() => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
                    c => quoted.push(c),
                }
            }
            quoted.push('"');
            quoted
        }
        toml::Value::Array(values) => {
            format!("[{}]", values.iter().map(escaped_value).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_does_not_act_on_a_terminal_and_can_be_read_again() {
        let name = "a\"b\\\u{1b}]0;x\u{7}\u{9b}\u{202e}\u{200d}\u{ad}\n苹果";
        let given = ServeArgs {
            served_model_name: vec![name.to_owned(), "plain".to_owned()],
            isa: Some(name.to_owned()),
            port: Some(7),
            ..ServeArgs::default()
        };
        let text = print(&given, &crate::command::command()).unwrap();
        assert!(text.lines().all(|line| !is_needed(line)), "{text}");
        let (read, _) = parse(&text).unwrap();
        assert_eq!((read.served_model_name, read.isa, read.port), (given.served_model_name, given.isa, Some(7)));
    }

    fn said(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn errors_have_a_place_and_no_text_of_the_file() {
        for (text, place, expected) in [
            (
                "port = 1\napi_key = 7\n",
                "line 2, column 11",
                "api_key: found a value of type integer, expected a string or a list",
            ),
            ("api_key = [\"sk-secret\", 5]", "line 1, column 25", "api_key"),
            ("api_key = \"sk-secret", "line 1", ""),
            ("api_key = sk-secret", "line 1", ""),
            ("api_key \"sk-secret\"", "line 1", ""),
            ("sk-secret", "line 1", ""),
            ("api_key = [\"sk-secret\"", "line 1", ""),
            ("api_key = \"\\sk-secret\"", "line 1", ""),
            ("api_key = \"sk-secret\" x", "line 1", ""),
            ("api_key = \"a\"\napi_key = \"sk-secret\"", "line 2", ""),
            ("apikey = \"sk-secret\"", "line 1, column 1", "unknown name, expected one of"),
            ("\"sk-secret\" = 1", "line 1, column 1", "unknown name"),
            ("[api_key]\nx = \"sk-secret\"", "line", ""),
            (
                "port = \"sk-secret\"",
                "line 1, column 8",
                "port: found a value of type string, expected a whole number from 0 to 65535",
            ),
            ("port = 70000", "line 1", "65535"),
            ("max_texts = -1", "line 1", "a whole number"),
            ("idle_timeout = \"sk-secret\"", "line 1", "a number"),
            ("log_texts = \"sk-secret\"", "line 1", "a boolean"),
            ("log_format = \"sk-secret\"", "line 1", "`text`"),
            ("host = \"sk-secret\"", "line 1", "an IP address"),
            ("cache_size = \"sk-secret\"", "line 1", "a size as 512MB"),
            ("cache_size = [\"sk-secret\"]", "line 1", "a size as 512MB"),
            ("unix_socket = 5", "line 1", "a path"),
            ("# é\nport = 'sk-secret'", "line 2, column 8", "port"),
        ] {
            let said = said(text);
            assert!(said.contains(place) && said.contains(expected), "{text}: {said}");
            assert!(!said.contains("secret") && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn one_string_is_read_as_a_list() {
        let (options, names) = parse("api_key = \"a\"\ncors_origin = [\"b\", \"c\"]\nallowed_host = \"d\"").unwrap();
        assert_eq!((options.api_key.len(), options.cors_origin.len(), options.allowed_host.len()), (1, 2, 1));
        assert_eq!(names.len(), 3);
    }
}
