//! Displays the progress of a pull: bars with speed and remaining time on a terminal, else occasional lines.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use trivec::escape::Escaped;
use trivec_hub::Progress;

/// Without a terminal, a line is printed each time this much more of a file has arrived.
const STEP_PERCENT: u64 = 20;

/// Files of fewer bytes get only the line that says they are complete.
const SMALL: u64 = 1 << 20;

/// How far the download of a file is.
struct FileState {
    /// Bytes of the whole file.
    bytes: u64,
    /// Bytes that have arrived.
    have: u64,
    /// Bytes that had arrived when the last line was printed.
    told: u64,
    bar: Option<ProgressBar>,
}

/// Shows on stderr how far the downloads of a pull are.
pub(super) struct Show {
    bars: Option<MultiProgress>,
    quiet: bool,
    files: Mutex<BTreeMap<String, FileState>>,
}

impl Show {
    pub(super) fn new(quiet: bool) -> Show {
        let terminal = !quiet && std::io::stderr().is_terminal();
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        Show { bars, quiet, files: Mutex::default() }
    }

    /// Prints a line above the bars, unless `quiet`.
    fn say(&self, text: &str) {
        match &self.bars {
            _ if self.quiet => {}
            Some(bars) => bars.suspend(|| say!("trivec: {text}")),
            None => say!("trivec: {text}"),
        }
    }

    /// A bar for a stage that is counted in steps.
    pub(super) fn stage(&self, what: &str, steps: u64) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.add(ProgressBar::new(steps));
        let template = if steps == 0 { "{spinner} {msg} {elapsed}" } else { "{msg} [{bar:30}] {pos}/{len} {eta}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// Calls `act` with the state of a file whose download has begun.
    fn with(&self, path: &str, act: impl FnOnce(&mut FileState)) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = files.get_mut(path) {
            act(state);
        }
    }
}

impl Progress for Show {
    fn begin(&self, files: usize, bytes: u64) {
        let what = if files == 1 { "file" } else { "files" };
        self.say(&format!("fetching {files} {what}, {:.1} MB", bytes as f64 / 1e6));
    }

    fn start(&self, path: &str, bytes: u64, at: u64) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.remove(path);
        let again = known.is_some();
        let bar = known.and_then(|state| state.bar).or_else(|| {
            let bar = self.bars.as_ref()?.add(ProgressBar::new(bytes));
            let template = "{msg:32!} [{bar:24}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(Escaped(path).to_string());
            Some(bar)
        });
        if let Some(bar) = &bar {
            bar.set_position(at);
            bar.reset_eta();
        }
        files.insert(path.to_owned(), FileState { bytes, have: at, told: at, bar });
        drop(files);
        if at > 0 && !again {
            self.say(&format!("{path}: going on at {:.1} of {:.1} MB", at as f64 / 1e6, bytes as f64 / 1e6));
        }
    }

    fn advance(&self, path: &str, bytes: u64) {
        let mut line = None;
        self.with(path, |state| {
            state.have += bytes;
            if let Some(bar) = &state.bar {
                bar.inc(bytes);
            } else if state.bytes >= SMALL && (state.have - state.told) * 100 >= state.bytes * STEP_PERCENT {
                state.told = state.have;
                line = Some(format!("{path}: {} %", state.have * 100 / state.bytes));
            }
        });
        if let Some(line) = line {
            self.say(&line);
        }
    }

    fn done(&self, path: &str) {
        let mut line = None;
        self.with(path, |state| match &state.bar {
            Some(bar) => bar.finish_and_clear(),
            None => line = Some(format!("{path}: {:.1} kB, verified", state.bytes as f64 / 1e3)),
        });
        if let Some(line) = line {
            self.say(&line);
        }
    }

    fn end(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in files.values().filter_map(|state| state.bar.as_ref()) {
            bar.finish_and_clear();
        }
        files.clear();
    }

    fn note(&self, text: &str) {
        self.say(text);
    }
}
