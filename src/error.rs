//! What can go wrong, with the facts a caller needs: file, tensor, found, expected.

use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong. A program can decide by it how to react; the command line's exit code depends on it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An option or argument makes no sense (`dimensions` of 0, unknown instruction set).
    Usage,
    /// A text or token sequence cannot be processed.
    Input,
    /// The caller ended the call early.
    Cancelled,
    /// A model file is damaged, incomplete, or of a kind this engine does not run; or the model's results are not finite numbers.
    Model,
    /// The model is sound but has no head for the mode that was asked for.
    ModeUnavailable,
    /// The operating system refused to read, map or write.
    Io,
}

/// An error of the engine. [`Error::kind`] sorts it; the fields carry the facts.
///
/// ```
/// use trivec::{ErrorKind, Model};
///
/// let error = Model::load("no/such/directory").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Model);
/// assert!(error.to_string().contains("no/such/directory"), "{error}");
/// ```
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading, mapping or writing `path` failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is shorter (or longer) than its own header says.
    #[error("{}: the file has {actual} bytes, its header describes {expected}", path.display())]
    FileLength {
        /// The file.
        path: PathBuf,
        /// Bytes that the header describes.
        expected: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// A file's content is not what its format demands.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was wrong, with what was found and expected.
        what: String,
    },
    /// A tensor is missing, or has a wrong shape, type, extent or value.
    #[error("{}: tensor `{tensor}`: {what}", path.display())]
    Tensor {
        /// The file (or directory, where no file holds the tensor).
        path: PathBuf,
        /// The tensor's name as the file (or the model family) spells it.
        tensor: String,
        /// What was wrong, with what was found and expected.
        what: String,
    },
    /// The mode's head is not part of the loaded model.
    #[error("mode unavailable: {mode} was asked, but the model has no `{head}` head")]
    ModeUnavailable {
        /// `sparse`, `colbert` or `rerank`.
        mode: &'static str,
        /// The head's tensor prefix.
        head: &'static str,
    },
    /// An embedding was asked of a reranker, which only scores pairs of texts.
    #[error(
        "mode unavailable: {mode} was asked, but the model is a reranker: it scores a query's documents (`trivec rerank`)"
    )]
    Reranker {
        /// `dense`, `sparse`, `colbert` or, where no mode was named, `embedding`.
        mode: &'static str,
    },
    /// An option's value cannot be used.
    #[error("{option}: {what}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was found and what is allowed.
        what: String,
    },
    /// One input of a call cannot be processed.
    #[error("input {index}: {what}")]
    Input {
        /// Position in the list that was passed.
        index: usize,
        /// What was found and what is allowed.
        what: String,
    },
    /// The call was ended by its [`Cancel`](crate::Cancel).
    #[error("the call was cancelled")]
    Cancelled,
    /// The model's result for one input is NaN or infinite: the weights are damaged (finite, but so large that a layer overflows), or they were
    /// loaded without a check.
    #[error("input {index}: {}", not_finite(mode, *at))]
    NotFinite {
        /// Position in the list that was passed.
        index: usize,
        /// `dense`, `sparse`, `colbert` or `rerank`; `state` for the token states of a text on which a model is measured before it is packed.
        mode: &'static str,
        /// The place of the first value of a dense vector that is not finite; the first such token for the other results; 0 for a logit.
        at: usize,
    },
}

/// Says which result is not finite, for [`Error::NotFinite`].
fn not_finite(mode: &str, at: usize) -> String {
    let what = match mode {
        "dense" => format!("value {at} of the dense vector"),
        "sparse" => format!("the lexical weight of token {at}"),
        "colbert" => format!("the ColBERT vector of token {at}"),
        "state" => format!("the state of token {at}"),
        _ => "the logit".to_owned(),
    };
    format!("{what} is not a finite number: the model's weights are damaged, or too large for its layers on this text")
}

impl Error {
    /// Sorts the error by what a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } => ErrorKind::Io,
            Error::FileLength { .. } | Error::Format { .. } | Error::Tensor { .. } | Error::NotFinite { .. } => {
                ErrorKind::Model
            }
            Error::ModeUnavailable { .. } | Error::Reranker { .. } => ErrorKind::ModeUnavailable,
            Error::Option { .. } => ErrorKind::Usage,
            Error::Input { .. } => ErrorKind::Input,
            Error::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// If the error is about one input of a call: the position of the input, and what is wrong with it.
    #[doc(hidden)]
    pub fn of_input(&self) -> Option<(usize, String)> {
        match self {
            Error::Input { index, what } => Some((*index, what.clone())),
            Error::NotFinite { index, mode, at } => Some((*index, not_finite(mode, *at))),
            _ => None,
        }
    }

    /// Changes the position of the error's input, for a caller that passed a part of a longer list to the call: `place` maps a position in
    /// the part to the position in the list.
    #[doc(hidden)]
    pub fn at_input(mut self, place: impl Fn(usize) -> usize) -> Error {
        if let Error::Input { index, .. } | Error::NotFinite { index, .. } = &mut self {
            *index = place(*index);
        }
        self
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
        Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn format(path: &Path, what: impl Into<String>) -> Error {
        Error::Format { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, what: impl Into<String>) -> Error {
        Error::Tensor { path: path.to_path_buf(), tensor: tensor.to_owned(), what: what.into() }
    }
}
