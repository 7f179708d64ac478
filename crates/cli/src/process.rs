//! Process-wide settings of `trivec serve`: signals, file descriptors, the log on stderr.

use std::io::IsTerminal;

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::serve_args::LogFormat;
use trivec::escape::Escaped;
use trivec_serve::Signal;

/// Returns a channel with what the process's signals ask of the service: to end, or (SIGHUP) to load the model again. A second signal to end
/// stops the process at once.
pub(super) fn signals() -> std::io::Result<tokio::sync::mpsc::Receiver<Signal>> {
    let (told, signals) = tokio::sync::mpsc::channel(4);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            let mut ending = false;
            loop {
                let code = tokio::select! {
                    _ = terminate.recv() => 143,
                    _ = interrupt.recv() => 130,
                    _ = hang_up.recv() => {
                        let _ = told.send(Signal::Reload).await;
                        continue;
                    }
                };
                if ending {
                    std::process::exit(code);
                }
                ending = true;
                let _ = told.send(Signal::End).await;
            }
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        let _ = told.send(Signal::End).await;
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(130);
    });
    Ok(signals)
}

/// Raises the limit of open files to the highest that the process may set (on Linux). Each connection is a file descriptor, and the usual
/// limit of 1,024 has no room for `--max-connections` (1,024 by default) beside the model's own files.
pub(super) fn raise_descriptor_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // If this fails, the limit stays as it is, and the accept loop waits while there is no free descriptor.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Starts the log on stderr.
pub(super) fn log(format: LogFormat, level: tracing::Level) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        // The subscriber would print its own errors to stderr, and panic if stderr cannot be written.
        .log_internal_errors(false);
    // A process has one log; a second call (in a test) keeps the first.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let fields = debug_fn(write_field).delimited(" ");
            builder.with_ansi(std::io::stderr().is_terminal()).fmt_fields(fields).try_init()
        }
    };
}

/// Writes a field of a log line in text form. The value may come from a request, a file or a hub, so it is escaped for the terminal.
fn write_field(
    writer: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    let value = Escaped(format_args!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        name => write!(writer, "{name}={value}"),
    }
}
