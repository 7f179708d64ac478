//! The terminal of a live search: this module reads its keys, and restores its settings however the search ends.

use console::Key;

/// Drops the rest of escape sequences of keys that have no meaning here. The `console` crate reads at most three characters of a sequence
/// that it does not know, and returns the others as if they were typed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// No sequence is open.
    #[default]
    Nothing,
    /// After `ESC [`: parameters, then a character from `@` to `~`.
    Parameters,
    /// After `ESC O`, or after `ESC [ [` of the Linux console: one letter.
    Letter,
    /// The remaining bytes of a character that was typed with Alt.
    Bytes(usize),
}

impl Rest {
    /// Returns the key, unless it belongs to such a sequence.
    pub fn take(&mut self, key: Key) -> Option<Key> {
        if let Key::UnknownEscSeq(sequence) = &key {
            *self = Rest::rest_after(sequence);
            return None;
        }
        let (is_part, next) = match (*self, &key) {
            (Rest::Parameters, Key::Char(' '..='?')) => (true, Rest::Parameters),
            (Rest::Parameters, Key::Char('@'..='~')) => (true, Rest::Nothing),
            (Rest::Letter, Key::Char('A'..='S')) => (true, Rest::Nothing),
            (Rest::Bytes(left @ 1..), Key::Char('\u{80}'..='\u{bf}')) => (true, Rest::Bytes(left - 1)),
            _ => (false, Rest::Nothing),
        };
        *self = next;
        (!is_part).then_some(key)
    }

    /// Returns what has to follow these characters of a sequence (without its Escape).
    fn rest_after(sequence: &[char]) -> Rest {
        match sequence {
            ['O'] | ['[', '['] => Rest::Letter,
            ['[', rest @ ..] if !rest.iter().any(|c| ('@'..='~').contains(c)) => Rest::Parameters,
            // The `console` crate returns each byte of a character that was typed with Alt as a `char` of its own. The first byte says how
            // many follow.
            ['\u{c2}'..='\u{df}'] => Rest::Bytes(1),
            ['\u{e0}'..='\u{ef}'] => Rest::Bytes(2),
            ['\u{f0}'..='\u{f4}'] => Rest::Bytes(3),
            _ => Rest::Nothing,
        }
    }
}

#[cfg(unix)]
pub(super) use unix::Held;

#[cfg(unix)]
mod unix {
    use std::io;
    use std::thread;

    use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::{Handle, Signals};
    use signal_hook::low_level::emulate_default_handler;

    /// Switches the terminal of standard input to return each key as it is typed, without echo. The settings are restored when this value
    /// is dropped, and when a signal ends the program.
    pub(in crate::search) struct Held {
        before: Termios,
        listening: Handle,
    }

    impl Held {
        pub fn new() -> io::Result<Held> {
            let before = tcgetattr(io::stdin())?;
            let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
            let (listening, own) = (signals.handle(), before.clone());
            thread::spawn(move || {
                for signal in signals.forever() {
                    put_back(&own);
                    // Ends the program by the signal, as if it had no handler.
                    let _ = emulate_default_handler(signal);
                }
            });
            let held = Held { before, listening };
            // `console` switches the terminal only while it reads a key; between keys the system would echo and edit what the user types.
            let mut raw = held.before.clone();
            raw.make_raw();
            raw.output_modes = held.before.output_modes;
            tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
            Ok(held)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            put_back(&self.before);
            self.listening.close();
        }
    }

    /// Restores the terminal's settings, unless the terminal belongs to another job by now: the system would stop the program for that.
    fn put_back(before: &Termios) {
        let is_own = tcgetpgrp(io::stdin()).map_or(true, |job| job == rustix::process::getpgrp());
        if is_own {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// On other systems `console` switches the terminal by itself.
#[cfg(not(unix))]
pub(super) struct Held;

#[cfg(not(unix))]
impl Held {
    pub fn new() -> std::io::Result<Held> {
        Ok(Held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text of the keys that remain.
    fn left(keys: impl IntoIterator<Item = Key>) -> String {
        let mut rest = Rest::default();
        let typed = keys.into_iter().filter_map(|key| rest.take(key));
        typed.map(|key| if let Key::Char(c) = key { c } else { '!' }).collect()
    }

    /// Types an unknown sequence inside a question, where the reader takes `taken` characters of it.
    fn around(sequence: &str, taken: usize) -> String {
        let part = Key::UnknownEscSeq(sequence.chars().take(taken).collect());
        let after = sequence.chars().skip(taken).map(Key::Char);
        left([Key::Char('a'), part].into_iter().chain(after).chain([Key::Char('~'), Key::Char('P'), Key::Enter]))
    }

    #[test]
    fn function_keys_and_unknown_sequences_are_no_text() {
        for (sequence, taken) in [
            ("OP", 1),           // F1
            ("[15~", 3),         // F5
            ("[24;2~", 3),       // Shift-F12
            ("[1;5A", 3),        // Ctrl-Up
            ("[[A", 3),          // F1 of Linux' own terminal
            ("[[A", 2),          // the same, where its last character came late
            ("[I", 2),           // the window has the focus
            ("[M", 2),           // part of an old mouse's report
            ("[<0;13;7M", 3),    // a mouse's report
            ("[?1;2c", 3),       // what the terminal is
            ("x", 1),            // Alt-x
            ("\u{c3}\u{a9}", 1), // Alt-é, byte by byte
            ("\u{e8}\u{8b}\u{b9}", 1),
        ] {
            assert_eq!(around(sequence, taken), "a~P!", "{sequence:?}");
        }
    }

    #[test]
    fn what_is_typed_behind_a_sequence_that_was_cut_is_text() {
        let cut = |first: &str| Key::UnknownEscSeq(first.chars().collect());
        assert_eq!(left([cut("[1"), Key::Char('é'), Key::Char('x')]), "éx");
        assert_eq!(left([cut("[1"), Key::Enter, Key::Char('x')]), "!x");
        assert_eq!(left([cut("O"), Key::Char('z'), Key::Char('P')]), "zP");
        assert_eq!(left([cut("\u{c3}"), Key::Char('x')]), "x");
    }
}
