//! The pre-tokenizer: spaces become `▁`, and each word begins at its `▁`.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::spec::{PreTokenizerSpec, PrependScheme};

/// `Metaspace`, alone or after `WhitespaceSplit`.
#[derive(Debug)]
pub(super) struct WordSplitter {
    /// Whether white space of any kind ends a word and is dropped first.
    whitespace_split: bool,
    replacement: char,
    prepend: PrependScheme,
    /// Whether words are cut at the replacement.
    split: bool,
}

impl WordSplitter {
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

    /// Returns the words of `text` one by one; `first` says that it begins the whole text.
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
        // Lazily, so that a caller that stops early does not pay for the rest.
        let mut word = String::new();
        if prepend {
            word.push(mark);
        }
        let mut rest = text;
        while !rest.is_empty() {
            // The mark (or space) that begins this word, then everything up to the next.
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
