//! Progress on stderr: a bar on a terminal, and lines about completed parts.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trivec::escape::Escaped;
use trivec_train::{ARMS, CurvePoint, DataReport, EpochPoint, Event, FEW_JUDGED, StatesReport, WAYS};

use super::table::few_judged;
use crate::style::{counted, grouped};

/// Shows the events of a training run.
pub(super) struct Progress {
    quiet: bool,
    state: RefCell<State>,
    /// Where bars are drawn; `None` if they are not.
    target: Box<dyn Fn() -> Option<ProgressDrawTarget>>,
}

struct State {
    bar: ProgressBar,
    begin: Instant,
    /// Whether the header of the lines with losses was printed.
    headed: bool,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Progress {
        let state = State { bar: ProgressBar::hidden(), begin: Instant::now(), headed: false };
        Progress { quiet, state: RefCell::new(state), target: Box::new(on_terminal) }
    }

    /// Shows an event, unless `quiet`, and lets the run continue.
    pub(super) fn event(&self, event: Event<'_>) -> ControlFlow<()> {
        if !self.quiet {
            self.tell(event);
        }
        ControlFlow::Continue(())
    }

    pub(super) fn finish(&self) {
        self.state.borrow().bar.finish_and_clear();
    }

    /// Shows an event: as a line, or as progress of the bar.
    fn tell(&self, event: Event<'_>) {
        match event {
            Event::Data(data) => self.lines(&of_data(data)),
            Event::States(done, total) if total > 0 => {
                self.bar(done, total, "states    {bar:30} {human_pos}/{human_len} tokens · {eta} left{msg}")
            }
            Event::StatesDone(states) => self.lines(&of_states(states)),
            Event::Negatives(None) => self.lines(
                "negatives ranks 4 to 30 of other groups by the model's own dense scores, after those of the data",
            ),
            Event::Negatives(Some(why)) => {
                self.lines(&format!("negatives those of the data and the other passages of a batch: {why}"))
            }
            Event::Evaluating(name) => self.between(&format!("measuring {}", Escaped(name))),
            Event::Resumed(step) => self.lines(&format!("going on after step {step}")),
            Event::Step(done, total, point) => {
                self.bar(done, total, "training  {bar:30} step {pos}/{len} · {eta} left{msg}");
                if let Some(point) = point {
                    self.losses(point, total);
                }
            }
            Event::Epoch(point) => self.lines(&of_epoch(point)),
            Event::Ablation(done, total) => {
                self.bar(done, total, "ablation  {bar:30} step {pos}/{len} · {eta} left{msg}")
            }
            _ => {}
        }
    }

    /// Prints lines above the bar.
    fn lines(&self, text: &str) {
        self.state.borrow().bar.suspend(|| text.lines().for_each(|line| say!("{line}")));
    }

    /// Prints the losses of a step in a line.
    fn losses(&self, point: &CurvePoint, total: usize) {
        let seconds = self.state.borrow().begin.elapsed().as_secs_f64();
        let headed = std::mem::replace(&mut self.state.borrow_mut().headed, true);
        if !headed {
            self.lines(&format!(
                "{:>9} {:>8} {:>8} {:>8} {:>8} {:>8}",
                "step", "loss", "ensemble", ARMS[0], ARMS[1], ARMS[2]
            ));
        }
        let losses = &point.losses;
        let arms: String = losses.arms.iter().map(|loss| format!(" {loss:>8.3}")).collect();
        self.lines(&format!(
            "{:>4}/{total:<4} {:>8.3} {:>8.3}{arms} {seconds:>6.0} s",
            point.step, losses.total, losses.ensemble
        ));
    }

    /// Moves the bar, if stderr is a terminal. Another total begins a new bar.
    fn bar(&self, done: usize, total: usize, template: &str) {
        let mut state = self.state.borrow_mut();
        let Some(target) = (self.target)() else { return };
        if state.bar.length() != Some(total as u64) {
            state.begin_bar(Some(total as u64), target, template);
        }
        if !state.bar.message().is_empty() {
            state.bar.set_message("");
        }
        state.bar.set_position(done as u64);
    }

    /// Says what is being done in between: beside a bar that goes on later, else in the place of the bar.
    fn between(&self, what: &str) {
        let mut state = self.state.borrow_mut();
        let Some(target) = (self.target)() else { return };
        let goes_on = state.bar.length().is_some_and(|length| state.bar.position() < length);
        if goes_on {
            state.bar.set_message(format!(" · {what}"));
        } else {
            state.begin_bar(None, target, "{msg}");
            state.bar.set_message(what.to_owned());
        }
    }
}

impl State {
    /// Clears the bar, and begins another one.
    fn begin_bar(&mut self, length: Option<u64>, target: ProgressDrawTarget, template: &str) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::with_draw_target(length, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }
}

/// Where bars are drawn: on stderr, if that is a terminal.
fn on_terminal() -> Option<ProgressDrawTarget> {
    std::io::stderr().is_terminal().then(|| ProgressDrawTarget::stderr_with_hz(8))
}

/// The lines about the data of a run.
fn of_data(data: &DataReport) -> String {
    let mut text = format!(
        "data      {}, {}, {}; {}, {} after those with a common query or passage were joined\n          {:.0} % of \
         the pairs share a piece: the sparse head's own losses are of those",
        counted(data.pairs, "pair"),
        counted(data.queries, "query"),
        counted(data.passages, "passage"),
        counted(data.groups.0, "group"),
        grouped(data.groups.1),
        data.sharing * 100.0
    );
    let left_out = &data.left_out;
    for (count, what, why) in [
        (left_out.duplicates, "pair", "there before"),
        (left_out.empty, "pair", "with a side without text"),
        (left_out.contradictions, "negative", "among the right answers by another line"),
    ] {
        if count > 0 {
            text.push_str(&format!("\n          left out: {} {why}", counted(count, what)));
        }
    }
    if data.cut > 0 {
        text.push_str(&format!("\n          {} cut to the maximum length", counted(data.cut, "text")));
    }
    if data.unlabelled > 0 {
        text.push_str(&format!(
            "\n          {} of documents without labels: such pairs teach less than questions that people asked",
            counted(data.unlabelled, "pair")
        ));
    }
    let from = if data.dev_split { ", put aside from the pairs" } else { "" };
    text.push_str(&format!("\ndev       {}{from}", counted(data.dev_pairs, "pair")));
    if data.dev_groups < FEW_JUDGED {
        text.push_str(&format!("\n          {}", few_judged(data)));
    }
    text
}

/// The line about the encoder's states.
fn of_states(states: &StatesReport) -> String {
    let rate = states.computed.1 as f64 / states.seconds.max(1e-9);
    let computed = match states.computed.0 {
        0 => "all were there".to_owned(),
        texts => {
            format!("{} computed in {:.1} s, {:.1} k tokens/s", counted(texts, "text"), states.seconds, rate / 1e3)
        }
    };
    format!(
        "states    {}, {}, {:.0} MB; {computed}",
        counted(states.texts, "text"),
        counted(states.tokens, "token"),
        states.bytes as f64 / 1e6
    )
}

/// The line about the dev set after an epoch, or at the start.
fn of_epoch(point: &EpochPoint) -> String {
    let ways = WAYS.iter().zip(point.ndcg10);
    let figures: Vec<String> = ways.filter_map(|(way, x)| Some(format!("{way} {:.1}", x? * 100.0))).collect();
    let when = if point.epoch == 0 { "start".to_owned() } else { format!("epoch {}", point.epoch) };
    format!("dev       {when}: nDCG@10 {}", figures.join("  "))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that remembers what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<String>>);

    impl TermLike for Written {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> std::io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_measured_is_shown_before_beside_and_after_every_bar() {
        let (written, mut progress) = (Written::default(), Progress::new(false));
        let terminal = written.clone();
        progress.target = Box::new(move || Some(ProgressDrawTarget::term_like(Box::new(terminal.clone()))));
        let shown = |event: Event<'_>| {
            written.0.lock().unwrap().clear();
            let _ = progress.event(event);
            std::mem::take(&mut *written.0.lock().unwrap())
        };
        let measured = |name: &str| shown(Event::Evaluating(name));
        assert_eq!(measured("before").trim(), "measuring before");
        type Make = fn(usize, usize) -> Event<'static>;
        let bars: [(&str, Make); 3] = [
            ("states ", |done, total| Event::States(done, total)),
            ("training ", |done, total| Event::Step(done, total, None)),
            ("ablation ", |done, total| Event::Ablation(done, total)),
        ];
        for (bar, event) in bars {
            let begun = shown(event(1, 4));
            assert!(begun.contains(bar) && !begun.contains("measuring"), "{begun}");
            let beside = measured("d\u{1b}v");
            assert!(beside.contains(bar) && beside.contains("left · measuring d\\u{1b}v"), "{beside:?}");
            let gone_on = shown(event(2, 4));
            assert!(gone_on.contains(bar) && gone_on.trim_end().ends_with("left"), "{gone_on}");
            shown(event(4, 4));
            assert_eq!(measured("after").trim(), "measuring after");
        }
    }
}
