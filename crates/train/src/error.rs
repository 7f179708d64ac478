//! The errors of training, with the facts that a caller needs: file, line, what was found and what was expected.

use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, by which a program decides how to react; the command line takes its exit code from it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An option's value makes no sense, or the model cannot be trained.
    Usage,
    /// The data cannot be trained on.
    Input,
    /// A file could not be read, mapped or written, or is damaged; or the caller stopped the run.
    Io,
    /// Another process is training in the working directory, or writes to the same output.
    Locked,
    /// The engine failed, or a loss or a score became NaN or infinite.
    Model,
}

/// An error of training. [`Error::kind`] sorts it; the fields carry the facts.
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
    /// A line of a data file is not of the expected form, or has values that cannot be used.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: u64,
        /// What was found and what is allowed.
        what: String,
    },
    /// The data as a whole cannot be trained on.
    #[error("{what}")]
    Data {
        /// What was found and what is needed.
        what: String,
    },
    /// The dev set, by which the best epoch is chosen, has texts that are also trained on.
    #[error(
        "the dev set overlaps the training data: {count} of its pairs have a query or a passage that is trained on (the first: `{}`)",
        shown(example)
    )]
    Overlap {
        /// How many pairs of the dev set have such a text.
        count: usize,
        /// The query of the first such pair.
        example: String,
    },
    /// An option's value cannot be used; `model` and `output` count as options too.
    #[error("{option}: {what}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was found and what is allowed.
        what: String,
    },
    /// A file of the working directory is not what this crate wrote, or a file of the model cannot be read as what it should be.
    #[error("{}: it is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        what: String,
    },
    /// Another process is training in the directory, or writes to the same output.
    #[error("{}: another process is training there", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The loss became NaN or infinite.
    #[error(
        "step {step}: the loss of the {arm} arm is {found}, in a batch with the query `{}` and the passage `{}`",
        shown(query),
        shown(passage)
    )]
    Diverged {
        /// The step, from 1 on.
        step: usize,
        /// The arm whose loss or score is not finite.
        arm: &'static str,
        /// The loss.
        found: f64,
        /// The query of the first score that is not finite, or the batch's first query.
        query: String,
        /// The passage of this score, or the batch's first passage.
        passage: String,
    },
    /// A score is NaN or infinite, so the texts of the set that is evaluated cannot be ranked.
    #[error(
        "the set `{}`: the score of the {arm} arm is {found} for the query `{}` and the passage `{}`",
        shown(set),
        shown(query),
        shown(passage)
    )]
    NotFinite {
        /// The set's name.
        set: String,
        /// The arm that gave the score.
        arm: &'static str,
        /// The score.
        found: f64,
        /// The query.
        query: String,
        /// The passage.
        passage: String,
    },
    /// The caller stopped the run; its state is in the working directory.
    #[error("stopped; the same call goes on from what is in {}", path.display())]
    Stopped {
        /// The working directory.
        path: PathBuf,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] trivec::Error),
}

/// A text as messages show it: its first 80 characters, escaped so that they stay on one line.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", short.escape_debug())
}

impl Error {
    /// Sorts the error by what a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } | Error::Stopped { .. } => ErrorKind::Io,
            Error::Line { .. } | Error::Data { .. } | Error::Overlap { .. } => ErrorKind::Input,
            Error::Option { .. } => ErrorKind::Usage,
            Error::Damaged { .. } => ErrorKind::Io,
            Error::Locked { .. } => ErrorKind::Locked,
            Error::Diverged { .. } | Error::NotFinite { .. } => ErrorKind::Model,
            Error::Engine(error) => match error.kind() {
                trivec::ErrorKind::Usage => ErrorKind::Usage,
                trivec::ErrorKind::Input => ErrorKind::Input,
                trivec::ErrorKind::Io => ErrorKind::Io,
                _ => ErrorKind::Model,
            },
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Error {
        Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn line(path: &Path, line: u64, what: impl Into<String>) -> Error {
        Error::Line { path: path.to_path_buf(), line, what: what.into() }
    }

    pub(crate) fn data(what: impl Into<String>) -> Error {
        Error::Data { what: what.into() }
    }

    pub(crate) fn option(option: &'static str, what: impl Into<String>) -> Error {
        Error::Option { option, what: what.into() }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_path_buf(), what: what.into() }
    }
}
