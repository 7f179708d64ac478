//! Progress on stderr: a bar on a terminal, and lines about completed parts.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trivec_train::{ARMS, CurvePoint, DataReport, EpochPoint, Event, FEW_JUDGED, StatesReport, WAYS};

use super::table::few_judged;
use crate::style::{counted, grouped};

/// Shows the events of a training run.
pub(super) struct Progress {
    quiet: bool,
    state: RefCell<State>,
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
        Progress { quiet, state: RefCell::new(state) }
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
                self.bar(done, total, "states    {bar:30} {human_pos}/{human_len} tokens · {eta} left")
            }
            Event::StatesDone(states) => self.lines(&of_states(states)),
            Event::Negatives(None) => self.lines(
                "negatives ranks 4 to 30 of other groups by the model's own dense scores, after those of the data",
            ),
            Event::Negatives(Some(why)) => {
                self.lines(&format!("negatives those of the data and the other passages of a batch: {why}"))
            }
            Event::Evaluating(name) => self.spin(&format!("measuring {name}")),
            Event::Resumed(step) => self.lines(&format!("going on after step {step}")),
            Event::Step(done, total, point) => {
                self.bar(done, total, "training  {bar:30} step {pos}/{len} · {eta} left");
                if let Some(point) = point {
                    self.losses(point, total);
                }
            }
            Event::Epoch(point) => self.lines(&of_epoch(point)),
            Event::Ablation(done, total) => self.bar(done, total, "ablation  {bar:30} step {pos}/{len} · {eta} left"),
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
        if !std::io::stderr().is_terminal() {
            return;
        }
        if state.bar.length() != Some(total as u64) {
            state.bar.finish_and_clear();
            state.bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(8));
            if let Ok(style) = ProgressStyle::with_template(template) {
                state.bar.set_style(style);
            }
        }
        state.bar.set_position(done as u64);
    }

    /// Sets the bar's message.
    fn spin(&self, what: &str) {
        self.state.borrow().bar.set_message(what.to_owned());
    }
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
