//! `trivec search DIR` on a terminal: a live search. Hits follow what is typed, arrow keys select one, and Enter explains it.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};

use console::{Key, Term};
use trivec_search::analyze::is_blank;
use trivec_search::{Hit, Hits, Query};

use super::query::{CUT, Search, arms, excerpt_of, word_of_entries, write_explanation};
use super::terminal::{Held, Rest};
use crate::exit::{Failure, Result};
use crate::style::{BOLD, DIM, ERROR, counted, readable};

/// What a key asks the program to do.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    Draw,
    Search,
    End,
}

/// The state of the screen.
#[derive(Default)]
struct View {
    question: String,
    found: Option<Hits>,
    problem: Option<String>,
    selected: usize,
    /// Whether the selected hit is explained.
    is_open: bool,
}

impl View {
    fn hits(&self) -> &[Hit] {
        self.found.as_ref().map_or(&[], |found| &found.hits)
    }

    /// Changes the state as the key says, and returns what is to be done.
    fn key(&mut self, key: Key) -> Wish {
        let last = self.hits().len().saturating_sub(1);
        match key {
            Key::CtrlC => return Wish::End,
            Key::Escape if self.question.is_empty() => return Wish::End,
            Key::Char('\u{4}') if self.question.is_empty() => return Wish::End,
            Key::Escape => self.question.clear(),
            Key::Char('\u{15}') => self.question.clear(),
            Key::Char(c) if !c.is_control() => self.question.push(c),
            Key::Backspace => {
                self.question.pop();
            }
            Key::Enter if !self.hits().is_empty() => {
                self.is_open = !self.is_open;
                // The same question is searched for again, with explanations or without.
                return Wish::Search;
            }
            Key::ArrowDown => {
                self.selected = (self.selected + 1).min(last);
                return Wish::Draw;
            }
            Key::ArrowUp => {
                self.selected = self.selected.saturating_sub(1);
                return Wish::Draw;
            }
            Key::PageDown | Key::End => {
                self.selected = last;
                return Wish::Draw;
            }
            Key::PageUp | Key::Home => {
                self.selected = 0;
                return Wish::Draw;
            }
            _ => return Wish::Nothing,
        }
        self.selected = 0;
        Wish::Search
    }

    /// Takes over the hits of a search, or its error.
    fn answered(&mut self, answer: Result<Hits>) {
        match answer {
            Ok(answer) => (self.found, self.problem) = (Some(answer), None),
            Err(e) => (self.found, self.problem) = (None, Some(e.to_string())),
        }
        self.selected = self.selected.min(self.hits().len().saturating_sub(1));
    }

    /// The lines to draw, `height` at most; those of the selected hit are among them.
    fn lines(&self, height: usize) -> io::Result<Vec<String>> {
        let mut lines = vec![format!("{DIM}search:{DIM:#} {}{DIM}▏{DIM:#}", readable(&self.question))];
        if let Some(problem) = &self.problem {
            lines.push(format!("{ERROR}{}{ERROR:#}", readable(problem)));
        }
        if self.found.as_ref().is_some_and(|found| found.query_truncated) {
            lines.push(format!("{DIM}{CUT}{DIM:#}"));
        }
        let room = height.saturating_sub(lines.len() + 1);
        let blocks: Vec<Vec<String>> =
            self.hits().iter().enumerate().map(|(at, hit)| self.block(at, hit)).collect::<io::Result<_>>()?;
        // The first hit that is shown: as far up as possible while the selected one is still whole on the screen.
        let mut first = self.selected.min(blocks.len());
        let mut used = blocks.get(first).map_or(0, Vec::len);
        while first > 0 && used + blocks[first - 1].len() <= room {
            first -= 1;
            used += blocks[first].len();
        }
        lines.extend(blocks.into_iter().skip(first).flatten().take(room));
        lines.push(match &self.found {
            Some(found) => format!(
                "{DIM}{} of {} in {:.1} ms · ↑↓ select · Enter why · Esc clear, end{DIM:#}",
                found.hits.len(),
                counted(found.searched, word_of_entries(found)),
                found.timings.total_ms
            ),
            None => format!("{DIM}type a question · Esc ends{DIM:#}"),
        });
        Ok(lines)
    }

    /// The lines of a hit.
    fn block(&self, at: usize, hit: &Hit) -> io::Result<Vec<String>> {
        let is_selected = at == self.selected;
        let mark = if is_selected { "›" } else { " " };
        let title = hit.document.title.as_deref().map(|title| format!("  {}", readable(title))).unwrap_or_default();
        let head = format!(
            "{mark}{:>3}  {BOLD}{}{BOLD:#}{title}  {DIM}{:.3}  {}{DIM:#}",
            hit.rank,
            readable(&hit.document.key),
            hit.score,
            arms(hit)
        );
        let mut block = vec![head];
        match &hit.explanation {
            Some(why) if is_selected => {
                let mut text = Vec::new();
                write_explanation(&mut text, why)?;
                block.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
            }
            _ => block.push(format!("      {}", excerpt_of(hit))),
        }
        Ok(block)
    }
}

/// Reads keys and sends them on. After a key that may end the program it waits for `go_on`, so that it is not reading from the terminal while
/// the program ends.
fn read_keys(keys: &Sender<io::Result<Key>>, go_on: &Receiver<()>) {
    let term = Term::stderr();
    loop {
        let key = term.read_key_raw();
        let may_end = !matches!(key, Ok(Key::Char(c)) if !c.is_control());
        if keys.send(key).is_err() || (may_end && go_on.recv().is_err()) {
            return;
        }
    }
}

/// Searches as a person types, until a key ends it.
pub(super) fn run(search: &Search<'_>) -> Result<()> {
    let term = Term::stderr();
    let failed = |e: io::Error| Failure::io("the terminal", &e);
    let _held = Held::new().map_err(failed)?;
    let (send, keys) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    std::thread::spawn(move || read_keys(&send, &wait));
    let (mut view, mut rest) = (View::default(), Rest::default());
    let mut drawn = 0;
    loop {
        let (rows, columns) = term.size();
        let lines = view.lines(usize::from(rows).max(4)).map_err(failed)?;
        drawn = draw(&term, &lines, usize::from(columns), drawn).map_err(failed)?;
        // All keys that were typed during the last search are handled before the next one.
        let mut wish = Wish::Nothing;
        let Ok(first) = keys.recv() else { return Ok(()) };
        let mut next = Some(first);
        while let Some(key) = next {
            let key = key.map_err(failed)?;
            let may_end = !matches!(key, Key::Char(c) if !c.is_control());
            match rest.take(key).map_or(Wish::Nothing, |key| view.key(key)) {
                Wish::End => return draw(&term, &[], usize::from(columns), drawn).map(drop).map_err(failed),
                Wish::Nothing => {}
                Wish::Draw if wish == Wish::Search => {}
                other => wish = other,
            }
            if may_end {
                // This fails only if the thread that reads keys has ended.
                let _ = go_on.send(());
            }
            next = keys.try_recv().ok();
        }
        if wish == Wish::Search {
            match view.question.trim() {
                blank if is_blank(blank) => (view.found, view.problem) = (None, None),
                question => {
                    let explain = view.is_open || search.args.explain;
                    let query = Query { explain, ..search.args.query(question, None) };
                    view.answered(search.ask(&query));
                }
            }
        }
    }
}

/// Draws lines over those that were drawn before. Returns how many there are.
fn draw(term: &Term, lines: &[String], columns: usize, drawn: usize) -> io::Result<usize> {
    use std::fmt::Write as _;
    let mut out = String::new();
    if drawn > 0 {
        // Writing to a string does not fail.
        let _ = write!(out, "\r\u{1b}[{drawn}A");
    }
    let has_colours = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    for line in lines {
        let line = console::truncate_str(line, columns.saturating_sub(1).max(1), "…");
        let line = if has_colours { line.into_owned() } else { anstream::adapter::strip_str(&line).to_string() };
        let _ = writeln!(out, "\r\u{1b}[K{line}\u{1b}[0m");
    }
    out.push_str("\u{1b}[J");
    let mut term = term;
    term.write_all(out.as_bytes())?;
    term.flush()?;
    Ok(lines.len())
}

#[cfg(test)]
mod tests {
    use trivec_search::Document;

    use super::*;

    fn hits(n: u32) -> Hits {
        let hit = |rank| Hit {
            rank,
            score: 0.5,
            document: Document::new(format!("key{rank}"), "some text\u{1b}[2J"),
            lang: "en".to_owned(),
            arms: Default::default(),
            explanation: None,
        };
        Hits { hits: (1..=n).map(hit).collect(), searched: 9, ..Hits::default() }
    }

    #[test]
    fn keys_change_the_question_and_the_selection() {
        let mut view = View::default();
        for c in "rëd".chars() {
            assert_eq!(view.key(Key::Char(c)), Wish::Search);
        }
        assert_eq!(view.key(Key::Backspace), Wish::Search);
        assert_eq!(view.question, "rë");
        assert_eq!(view.key(Key::Enter), Wish::Nothing, "there is nothing to explain");
        view.answered(Ok(hits(3)));
        for (key, selected) in
            [(Key::ArrowUp, 0), (Key::ArrowDown, 1), (Key::End, 2), (Key::ArrowDown, 2), (Key::Home, 0)]
        {
            assert_eq!(view.key(key), Wish::Draw);
            assert_eq!(view.selected, selected);
        }
        assert_eq!(view.key(Key::Enter), Wish::Search);
        assert!(view.is_open);
        view.selected = 2;
        view.answered(Ok(hits(1)));
        assert_eq!(view.selected, 0, "there is one hit now");
        assert_eq!(view.key(Key::Char('\u{7}')), Wish::Nothing);
        assert_eq!(view.key(Key::Escape), Wish::Search);
        assert_eq!(view.question, "");
        assert_eq!(view.key(Key::Escape), Wish::End);
        assert_eq!(view.key(Key::CtrlC), Wish::End);
    }

    #[test]
    fn a_screen_holds_the_selected_hit_and_no_more_lines_than_it_has() {
        let mut view = View { question: "a\u{1b}b".to_owned(), ..View::default() };
        assert!(view.lines(10).unwrap().len() <= 10);
        view.answered(Ok(hits(20)));
        for height in [4, 5, 12, 100] {
            for selected in [0, 7, 19] {
                view.selected = selected;
                let lines = view.lines(height).unwrap();
                assert!(lines.len() <= height, "{height}: {}", lines.len());
                let marked: Vec<&String> = lines.iter().filter(|line| line.starts_with('›')).collect();
                assert!(marked.len() == 1 && marked[0].contains(&format!("key{}", selected + 1)), "{lines:?}");
            }
        }
        let all = view.lines(100).unwrap().join("\n");
        let plain = anstream::adapter::strip_str(&all).to_string();
        assert!(plain.contains("\\u{1b}[2J") && !plain.contains('\u{1b}'), "{plain:?}");
        view.answered(Ok(Hits { query_truncated: true, ..hits(20) }));
        let lines = view.lines(12).unwrap();
        assert!(lines.len() <= 12 && lines[1].contains("maximum length"), "{lines:?}");
        view.answered(Err(Failure::option("top", "found 5")));
        assert!(view.lines(10).unwrap()[1].contains("found 5"));
    }
}
