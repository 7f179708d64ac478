//! The pre-tokenizer: it turns spaces into `▁` and cuts the text into words, each of which begins with its `▁`.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::spec::{PreTokenizerSpec, PrependScheme};

/// The pre-tokenizer `Metaspace`, alone or after `WhitespaceSplit`.
#[derive(Debug)]
pub(super) struct WordSplitter {
    /// Whether the text is first cut at white space of any kind, which is dropped.
    whitespace_split: bool,
    /// The character that spaces become: `▁`.
    replacement: char,
    prepend: PrependScheme,
    /// Whether the text is cut before each replacement character.
    split: bool,
}

impl WordSplitter {
    /// The pre-tokenizer of `spec`; an error if it is another than these two.
    pub(super) fn new(spec: &PreTokenizerSpec) -> Result<WordSplitter, String> {
        let metaspace = |spec: &PreTokenizerSpec, whitespace_split| match spec {
            PreTokenizerSpec::Metaspace { replacement, add_prefix_space, prepend_scheme, split } => {
                let prepend = match (add_prefix_space, prepend_scheme) {
                    (Some(false), None | Some(PrependScheme::Never)) => PrependScheme::Never,
                    (Some(false), Some(scheme)) => {
                        return Err(format!("`add_prefix_space` is false, but `prepend_scheme` is {scheme:?}"));
                    }
                    (_, scheme) => scheme.unwrap_or(PrependScheme::Always),
                };
                Ok(WordSplitter { whitespace_split, replacement: *replacement, prepend, split: split.unwrap_or(true) })
            }
            _ => Err("the pre-tokenizer is not Metaspace, nor WhitespaceSplit and Metaspace".to_owned()),
        };
        match spec {
            PreTokenizerSpec::Sequence { pretokenizers } => match &pretokenizers[..] {
                [one] => metaspace(one, false),
                [PreTokenizerSpec::WhitespaceSplit, two] => metaspace(two, true),
                _ => metaspace(spec, false),
            },
            _ => metaspace(spec, false),
        }
    }

    /// Calls `f` with the words of `text` one by one, until `f` breaks. `first` says whether `text` is the beginning of the whole text.
    pub(super) fn split(&self, text: &str, first: bool, mut f: impl FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
        if !self.whitespace_split {
            return self.metaspace(text, first, &mut f);
        }
        for word in text.split(char::is_whitespace).filter(|word| !word.is_empty()) {
            let begins = first && std::ptr::eq(word.as_ptr(), text.as_ptr());
            self.metaspace(word, begins, &mut f)?;
        }
        ControlFlow::Continue(())
    }

    /// Does what `Metaspace` does with `text`, and calls `f` with each word.
    fn metaspace(&self, text: &str, first: bool, f: &mut impl FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
        let mark = self.replacement;
        let mut buffer = [0; 4];
        let mark_str: &str = mark.encode_utf8(&mut buffer);
        let starts_marked = text.starts_with(' ') || text.starts_with(mark);
        let prepend = match self.prepend {
            PrependScheme::Always => !starts_marked,
            PrependScheme::First => !starts_marked && first,
            PrependScheme::Never => false,
        };
        if !self.split {
            let text = text.replace(' ', mark_str);
            return f(&if prepend { Cow::from(format!("{mark}{text}")) } else { text.into() });
        }
        // Words are cut one at a time, so that a caller that stops early does not pay for the rest.
        let mut word = String::new();
        if prepend {
            word.push(mark);
        }
        let mut rest = text;
        while !rest.is_empty() {
            // A word is the mark (or space) at its beginning, if there is one, and everything up to the next.
            let body_from = rest.chars().next().filter(|&c| c == ' ' || c == mark).map_or(0, char::len_utf8);
            if body_from > 0 {
                word.push(mark);
            }
            let body = &rest[body_from..];
            let end = body.find([' ', mark]).unwrap_or(body.len());
            word.push_str(&body[..end]);
            f(&word)?;
            word.clear();
            rest = &body[end..];
        }
        ControlFlow::Continue(())
    }
}
