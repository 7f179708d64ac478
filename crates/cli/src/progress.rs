//! Progress bars on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trivec::pack::Stage;
use trivec_hub::staged::Watcher;

/// A bar on stderr that counts texts. It is not drawn if `quiet`, or if stderr is no terminal.
pub(super) fn bar(quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_draw_target(if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} texts · {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// A bar on stderr for one stage of packing after the other. A line says what is reused of a run that was interrupted.
pub(super) struct Bar {
    bar: ProgressBar,
    quiet: bool,
}

impl Bar {
    pub(super) fn new(quiet: bool) -> Bar {
        let bar = bar(quiet);
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {percent} % · {eta} left") {
            bar.set_style(style);
        }
        Bar { bar, quiet }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows that `done` of `total` of the stage `what` are done. A stage begins with 0.
    pub(super) fn set(&self, what: &'static str, done: u64, total: u64) {
        if done == 0 {
            self.bar.reset();
        }
        self.bar.set_message(what);
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Watcher for Bar {
    fn measuring(&self, stage: Stage, done: usize, total: usize) {
        let what = match stage {
            Stage::Layers => "measuring",
            _ => "calibrating",
        };
        self.set(what, done as u64, total as u64);
    }

    fn writing(&self, done: u64, total: u64) {
        self.set("writing", done, total);
    }

    fn resumed(&self, what: &str) {
        if !self.quiet {
            self.bar.suspend(|| say!("trivec pack: going on with {what} of an interrupted run"));
        }
    }
}

/// Ignores all progress.
pub(super) struct Silent;

impl Watcher for Silent {
    fn measuring(&self, _: Stage, _: usize, _: usize) {}
    fn writing(&self, _: u64, _: u64) {}
    fn resumed(&self, _: &str) {}
}
