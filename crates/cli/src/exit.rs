//! Exit codes, and the line on stderr that says why the program ends early.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::sources::Sources;
use trivec::escape::Escaped;
use trivec::{Error, ErrorKind};
use trivec_hub::{HubError, HubErrorKind};

/// Exit code: the command line makes no sense.
pub(super) const USAGE: u8 = 2;
/// Exit code: the input is not what it should be.
pub(super) const INPUT: u8 = 3;
/// Exit code: the model is damaged, is not there, or cannot do what was asked.
pub(super) const MODEL: u8 = 4;
/// Exit code: reading or writing a file, the network or standard output failed.
pub(super) const IO: u8 = 5;
/// Exit code: another process has locked what is needed.
pub(super) const BUSY: u8 = 6;
/// The run was interrupted, and has kept what it had done.
#[cfg(feature = "search")]
pub(super) const INTERRUPTED: u8 = 130;

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why the program ends early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Standard output was closed (`trivec … | head`). This is not an error.
    ClosedPipe,
    Message {
        code: u8,
        message: String,
    },
    /// The value of an option, by its long name, makes no sense.
    Option {
        option: String,
        what: String,
    },
}

impl Failure {
    pub(super) fn usage(message: impl fmt::Display) -> Failure {
        Failure::Message { code: USAGE, message: message.to_string() }
    }

    /// The value of an option (by its long name) makes no sense. The message names the environment variable or the file that gave the
    /// value, if one did.
    pub(super) fn option(option: &str, what: impl fmt::Display) -> Failure {
        Failure::Option { option: option.to_owned(), what: what.to_string() }
    }

    pub(super) fn input(message: impl fmt::Display) -> Failure {
        Failure::Message { code: INPUT, message: message.to_string() }
    }

    pub(super) fn model(message: impl fmt::Display) -> Failure {
        Failure::Message { code: MODEL, message: message.to_string() }
    }

    /// An I/O error whose message says by itself what it is about.
    #[cfg(feature = "serve")]
    pub(super) fn io_text(message: &str) -> Failure {
        Failure::Message { code: IO, message: message.to_owned() }
    }

    /// An I/O error on `name`.
    pub(super) fn io(name: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::Message { code: IO, message: format!("{name}: {error}") }
    }

    pub(super) fn io_path(path: &Path, error: &io::Error) -> Failure {
        Failure::io(path.display(), error)
    }

    /// An error of writing to standard output. A pipe that its reader has closed is [`Failure::ClosedPipe`].
    pub(super) fn stdout(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::io("standard output", error),
        }
    }

    /// Converts the error of a library call. If it is about one of the inputs of the call, the message begins with what `place` makes of that
    /// input's index: where the input came from.
    pub(super) fn of_input(error: Error, place: impl FnOnce(usize) -> String) -> Failure {
        match error.of_input() {
            Some((index, what)) => {
                Failure::Message { code: code(error.kind()), message: format!("{}: {what}", place(index)) }
            }
            None => error.into(),
        }
    }

    /// Prints the error to stderr and returns the exit code. `sources` tell which variable or file gave an option its value.
    pub(super) fn report(self, sources: &Sources) -> ExitCode {
        let (code, message) = match self {
            Failure::ClosedPipe => return ExitCode::SUCCESS,
            Failure::Message { code, message } => (code, message),
            // Without `--model`, the model is an argument or the one in use, so the message does not name the option.
            Failure::Option { option, what } if option == "model" && !sources.has("model") => {
                (USAGE, format!("the model: {what}"))
            }
            Failure::Option { option, what } => (USAGE, format!("{}: {what}", sources.name(&option))),
        };
        use io::Write;
        let error = super::style::ERROR;
        // As `say!` does it, but with a colour. A write error is ignored.
        let _ = writeln!(anstream::stderr(), "trivec: {error}error:{error:#} {}", Escaped(message));
        ExitCode::from(code)
    }
}

/// Fails if the command line has the option, which has no effect for the reason `because`.
pub(super) fn refuse_idle(sources: &Sources, option: &str, because: &str) -> Result<()> {
    match sources.is_on_command_line(option) {
        true => Err(Failure::usage(format!("--{option} has no effect {because}"))),
        false => Ok(()),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::ClosedPipe => f.write_str("standard output is closed"),
            Failure::Message { message, .. } => f.write_str(message),
            Failure::Option { option, what } => write!(f, "--{option}: {what}"),
        }
    }
}

/// The exit code of each kind of library error.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => USAGE,
        ErrorKind::Input => INPUT,
        ErrorKind::Io => IO,
        // `Model` and `ModeUnavailable`; `Cancelled` does not occur, because no command cancels a call.
        _ => MODEL,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The library's errors name parameters, which are translated to options.
        if let Error::Option { option, what } = &error {
            return Failure::option(&option.replace('_', "-"), what);
        }
        let message = error.to_string();
        let busy = matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::ResourceBusy);
        Failure::Message { code: if busy { BUSY } else { code(error.kind()) }, message }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        // The library's errors name parameters, which are translated to options.
        if let Some(Error::Option { option, what }) = error.cause.as_deref() {
            return Failure::option(&option.replace('_', "-"), what);
        }
        let code = match error.kind {
            HubErrorKind::Usage => USAGE,
            HubErrorKind::Model | HubErrorKind::NotFound => MODEL,
            HubErrorKind::Io | HubErrorKind::Network => IO,
            HubErrorKind::Busy => BUSY,
        };
        Failure::Message { code, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_library_error_has_its_exit_code() {
        let kinds = [
            (ErrorKind::Usage, 2),
            (ErrorKind::Input, 3),
            (ErrorKind::Model, 4),
            (ErrorKind::ModeUnavailable, 4),
            (ErrorKind::Io, 5),
        ];
        for (kind, expected) in kinds {
            assert_eq!(code(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert!(matches!(Failure::stdout(&io::ErrorKind::BrokenPipe.into()), Failure::ClosedPipe));
        assert!(matches!(Failure::stdout(&io::ErrorKind::StorageFull.into()), Failure::Message { code: IO, .. }));
    }
}
