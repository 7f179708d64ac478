//! The errors of the crate, with the facts that a caller needs: the file, the place in it, what was found and what was expected.

use std::io;
use std::path::{Path, PathBuf};

use tantivy::TantivyError;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of errors, by which a program decides how to react. (The command line has an exit code for each.)
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An option, a query or a filter cannot be used, or something is already at the path where something new was to be made.
    Usage,
    /// A document, a line of an input file, or a whole input cannot be used.
    Input,
    /// There is no index at the path, or another index than the one that was opened; or no document has the key.
    NotFound,
    /// A file of the index is damaged, or of another format.
    Damaged,
    /// The index was built by another model, precision, analyzer or format.
    Mismatch,
    /// Another writer has locked the index, or changed it during every attempt to open or copy it.
    Locked,
    /// The operating system failed to read, map or write; or an earlier failure has ended the writer.
    Io,
    /// The model failed, or cannot do what was asked.
    Model,
    /// The caller ended the call early ([`Query::cancel`](crate::Query::cancel)).
    Cancelled,
}

/// An error of the index. [`Error::kind`] sorts it; the fields carry the facts.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading, mapping or writing `path` failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory holds no index.
    #[error("{}: there is no index: {what}", path.display())]
    NotAnIndex {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// Another index is now at the path of the index that was opened.
    #[error("{}: another index is in the place of the one that was opened: open it anew", path.display())]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// Something is already at the path where a new index, a copy or an export was to be made.
    #[error("{}: {what}", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// A file's content is not what the index wrote.
    #[error("{}: the index is damaged: {what} (`--check` looks at every file)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        what: String,
    },
    /// The index has another model, format or analyzer than it was opened with.
    #[error("{}: the index has the {what} {index}, but it was opened with {found}", path.display())]
    Mismatch {
        /// The index.
        path: PathBuf,
        /// `model`, `format`, `analyzer` …
        what: &'static str,
        /// What the index records.
        index: String,
        /// What it was opened with.
        found: String,
    },
    /// The index changed again and again while it was read or copied.
    #[error("{}: the index was changed each of {attempts} times that it was {what}: try again", path.display())]
    Changing {
        /// The index.
        path: PathBuf,
        /// `opened` or `copied`.
        what: &'static str,
        /// How often it was tried.
        attempts: usize,
    },
    /// Another writer, of this process or another, has locked the index.
    #[error("{}: another writer has the index: there can be one at a time", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A document cannot be accepted.
    #[error("document `{}`: {what}", shown(key))]
    Document {
        /// Its key.
        key: String,
        /// What was found and what is allowed.
        what: String,
    },
    /// A line of an input file cannot be used.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on; in a Parquet file the row, or 0 for the whole file.
        line: u64,
        /// What was found and what is allowed.
        what: String,
    },
    /// An input lacks a column, or a field, that was named; or has a column twice.
    #[error("{}: {what}", path.display())]
    Columns {
        /// The file or directory.
        path: PathBuf,
        /// Which column is missing, and which are there; or which is there twice.
        what: String,
    },
    /// A directory has no file of a kind that is read, a file has no query, or no document is to be exported.
    #[error("{}: {what}", path.display())]
    NothingToRead {
        /// The directory.
        path: PathBuf,
        /// Which files would be read.
        what: String,
    },
    /// A filter cannot be parsed.
    #[error("filter, at character {at}: {what}")]
    Filter {
        /// The character, from 1 on.
        at: usize,
        /// What was found and expected.
        what: String,
    },
    /// A filter compares a field that no document has.
    #[error("filter: no document has a field `{}`, only {}{}", shown(name), all_shown(fields), suggested(name, fields))]
    NoField {
        /// The field.
        name: String,
        /// The fields that documents have in their metadata.
        fields: Vec<String>,
    },
    /// A filter compares a field with a value of a type that the field has in no document.
    #[error("filter: the field `{}` has {has}, and was compared with {value}", shown(name))]
    FieldType {
        /// The field.
        name: String,
        /// The types of its values: `text`, `numbers`, `true and false`, or several of them.
        has: String,
        /// The value that it was compared with, after its type: `the text "x"`, `the number 5`.
        value: String,
    },
    /// An option's value cannot be used.
    #[error("{option}: {what}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was found and what is allowed.
        what: String,
    },
    /// No document has the key.
    #[error("no document has the key `{}`", shown(key))]
    NoDocument {
        /// The key.
        key: String,
    },
    /// An earlier call of the writer failed half way. Its uncommitted changes are lost, and it accepts no more.
    #[error("the writer failed before ({what}): open another one")]
    WriterFailed {
        /// What failed.
        what: String,
    },
    /// The model failed.
    #[error(transparent)]
    Engine(#[from] trivec::Error),
}

/// A string as a message shows it: its first 80 characters, escaped so that they stand on one line.
pub(crate) fn shown(key: &str) -> String {
    let short: String = key.chars().take(80).collect();
    let dots = if short.len() < key.len() { "…" } else { "" };
    format!("{}{dots}", short.escape_debug())
}

/// The largest number of field names that a message lists.
const MOST_SHOWN: usize = 20;

/// The list, for a message, of the fields that a filter can compare: `fields` of the metadata, and the document's own.
fn all_shown(fields: &[String]) -> String {
    let own = ["key", "document", "lang"].map(String::from);
    let more = if fields.len() > MOST_SHOWN { " …" } else { "" };
    let names = fields.iter().take(MOST_SHOWN).chain(&own).map(|name| shown(name));
    names.collect::<Vec<_>>().join(", ") + more
}

/// Longest name, in bytes, for which a similar one is looked for. A part of a name in the metadata has at most 256.
const LONGEST_COMPARED: usize = 512;

/// The end of a message that asks whether the most similar of the names was meant: empty if none is similar enough.
fn suggested(name: &str, fields: &[String]) -> String {
    if name.len() > LONGEST_COMPARED {
        return String::new();
    }
    let near = |field: &&String| {
        let distance = distance(&name.to_lowercase(), &field.trim_matches('`').to_lowercase());
        // In a short name one letter may be wrong, in a longer one a third of them.
        (distance <= (name.chars().count() / 3).max(1)).then_some(distance)
    };
    let own = ["key", "document", "lang"].map(String::from);
    let nearest = fields.iter().chain(&own).filter_map(|field| Some((near(&field)?, field))).min_by_key(|own| own.0);
    nearest.map_or(String::new(), |(_, field)| format!(": did you mean `{}`?", shown(field.trim_matches('`'))))
}

/// The edit distance of two texts: how many characters must be inserted, deleted, replaced, or exchanged with the next one to make `b` of
/// `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // The rows of the table of distances for the character of `a` two before this one, and for the one before.
    let (mut second, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(second[j - 1] + 1);
            }
            row.push(least);
        }
        second = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

impl Error {
    /// Sorts the error by what a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } | Error::WriterFailed { .. } => ErrorKind::Io,
            Error::NotAnIndex { .. } | Error::Replaced { .. } | Error::NoDocument { .. } => ErrorKind::NotFound,
            Error::Exists { .. }
            | Error::Filter { .. }
            | Error::NoField { .. }
            | Error::FieldType { .. }
            | Error::Option { .. } => ErrorKind::Usage,
            Error::Damaged { .. } => ErrorKind::Damaged,
            Error::Mismatch { .. } => ErrorKind::Mismatch,
            Error::Locked { .. } | Error::Changing { .. } => ErrorKind::Locked,
            Error::Document { .. } | Error::Line { .. } | Error::Columns { .. } | Error::NothingToRead { .. } => {
                ErrorKind::Input
            }
            Error::Engine(error) => match error.kind() {
                trivec::ErrorKind::Usage => ErrorKind::Usage,
                trivec::ErrorKind::Input => ErrorKind::Input,
                trivec::ErrorKind::Io => ErrorKind::Io,
                trivec::ErrorKind::Cancelled => ErrorKind::Cancelled,
                _ => ErrorKind::Model,
            },
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Error {
        Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn document(key: &str, what: impl Into<String>) -> Error {
        Error::Document { key: key.to_owned(), what: what.into() }
    }

    pub(crate) fn option(option: &'static str, what: impl Into<String>) -> Error {
        Error::Option { option, what: what.into() }
    }

    /// An error that tantivy reports for the text index in `path`.
    pub(crate) fn text(path: &Path, error: TantivyError) -> Error {
        match error {
            TantivyError::LockFailure(..) => Error::Locked { path: path.join(".tantivy-writer.lock") },
            TantivyError::IoError(source) => Error::io(path, io::Error::new(source.kind(), source.to_string())),
            other => Error::damaged(path, other.to_string()),
        }
    }
}

/// Calls a function that may panic on damaged files, as tantivy's readers do, and turns a panic into [`Error::Damaged`].
pub(crate) fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T>) -> Result<T> {
    // After a panic the values that the call used are dropped, or they were only read.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Error::damaged(
            path,
            format!("reading it failed: {}", text.unwrap_or_else(|| "no reason given".to_owned())),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_place() {
        let error = guarded(Path::new("index/text"), || -> Result<()> { panic!("bad {}", "block") }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(
            error.to_string().starts_with("index/text: the index is damaged: reading it failed: bad block"),
            "{error}"
        );
        assert_eq!(guarded(Path::new("x"), || Ok(3)).unwrap(), 3);
    }

    #[test]
    fn the_message_for_a_misspelt_field_suggests_the_most_similar_name_if_one_is_similar_enough() {
        let many: Vec<String> = (0..100).map(|n| format!("field-{n:02}")).chain(["year".to_owned()]).collect();
        let said = |name: &str, fields: &[String]| {
            Error::NoField { name: name.to_owned(), fields: fields.to_vec() }.to_string()
        };
        for (name, nearest) in [
            ("yaer", "year"),
            ("Year", "year"),
            ("yeear", "year"),
            ("yer", "year"),
            ("field-100", "field-00"),
            ("lnag", "lang"),
            ("kye", "key"),
        ] {
            assert!(
                said(name, &many).ends_with(&format!(", lang …: did you mean `{nearest}`?")),
                "{}",
                said(name, &many)
            );
        }
        for far in ["when", "y", "published", "日", &"x".repeat(10_000)] {
            assert!(said(far, &many).ends_with(", lang …"), "{}", said(far, &many));
        }
        let dotted = ["`a.b`".to_owned(), "author.name".to_owned()];
        assert!(said("author.nmae", &dotted).ends_with("did you mean `author.name`?"));
        assert!(said("a-b", &dotted).ends_with("did you mean `a.b`?"));
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1), ("ä", "a", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn long_keys_are_shortened_and_escaped() {
        let error = Error::document(&"ä\n".repeat(500), "too long");
        let text = error.to_string();
        assert!(text.chars().count() < 200 && !text.contains('\n') && text.contains('…'), "{text}");
    }
}
