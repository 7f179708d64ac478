//! Added tokens: strings, such as `<mask>`, that are one token wherever they occur in a text.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use super::normalizer::Normalizer;
use super::spec::AddedTokenSpec;
use super::types::SpecialTokens;

/// A part of a text.
pub(super) enum Part {
    /// An added token, by its id.
    Token(u32),
    /// Ordinary text, by its byte range.
    Text(Range<usize>),
}

/// An added token, as it is looked for.
#[derive(Debug)]
struct AddedToken {
    id: u32,
    content: String,
    /// Whether white space before the token belongs to it, and (`rstrip`) white space after it.
    lstrip: bool,
    rstrip: bool,
    special: bool,
}

/// Finds any of several tokens in a text; `tokens` are sorted by length, the longest first.
#[derive(Debug, Default)]
struct Matcher {
    tokens: Vec<AddedToken>,
    /// For each of the 256 bytes, whether a token begins with it.
    begins: Vec<bool>,
}

/// The added tokens of a tokenizer: those that are looked for in the text as it is, and those that are looked for in the normalised text.
#[derive(Debug)]
pub(super) struct AddedTokens {
    raw: Matcher,
    normalized: Matcher,
    /// The ids of the special tokens among them, ascending.
    special_ids: Vec<u32>,
}

impl AddedTokens {
    /// The tokens that `specs` describe, which must have their ids. The contents of those that are looked for in normalised text are
    /// normalised. An error if one is empty, the same as another, or has `single_word`.
    pub(super) fn new(specs: &[AddedTokenSpec], normalizer: &Normalizer) -> Result<AddedTokens, String> {
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        for spec in specs {
            if spec.single_word {
                return Err(format!(
                    "added token `{}` has `single_word`, which is not supported: set it to false",
                    spec.content
                ));
            }
            let mut content = spec.content.clone();
            if spec.normalized {
                content.clear();
                normalizer.normalize(&spec.content, &mut content);
            }
            if content.is_empty() {
                return Err(format!("added token {} is empty", spec.id));
            }
            let token =
                AddedToken { id: spec.id, content, lstrip: spec.lstrip, rstrip: spec.rstrip, special: spec.special };
            if spec.normalized { normalized.push(token) } else { raw.push(token) }
        }
        for tokens in [&raw, &normalized] {
            let mut seen = HashSet::new();
            if let Some(token) = tokens.iter().find(|token: &&AddedToken| !seen.insert(token.content.as_str())) {
                return Err(format!("two added tokens are `{}` when normalised", token.content));
            }
        }
        let mut special_ids: Vec<u32> = specs.iter().filter(|spec| spec.special).map(|spec| spec.id).collect();
        special_ids.sort_unstable();
        Ok(AddedTokens { raw: Matcher::new(raw), normalized: Matcher::new(normalized), special_ids })
    }

    /// Whether `id` is a special token.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// The text of the token `id`, normalised if it is looked for in normalised text.
    pub(super) fn content(&self, id: u32) -> Option<&str> {
        let mut tokens = self.raw.tokens.iter().chain(&self.normalized.tokens);
        tokens.find(|token| token.id == id).map(|token| token.content.as_str())
    }

    /// Calls `f` with the parts of a text as it is, tokens and the text between them, until `f` breaks.
    pub(super) fn split_raw(
        &self,
        text: &str,
        special: SpecialTokens,
        f: impl FnMut(Part) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.raw.split(text, special, f)
    }

    /// Calls `f` with the parts of a normalised text, tokens and the text between them, until `f` breaks.
    pub(super) fn split_normalized(
        &self,
        text: &str,
        special: SpecialTokens,
        f: impl FnMut(Part) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.normalized.split(text, special, f)
    }
}

impl Matcher {
    fn new(mut tokens: Vec<AddedToken>) -> Matcher {
        tokens.sort_by_key(|token| std::cmp::Reverse(token.content.len()));
        let mut begins = vec![false; 256];
        for token in &tokens {
            begins[usize::from(token.content.as_bytes()[0])] = true;
        }
        Matcher { tokens, begins }
    }

    /// The longest token that begins at `at`.
    fn at(&self, text: &[u8], at: usize) -> Option<&AddedToken> {
        if !self.begins[usize::from(text[at])] {
            return None;
        }
        self.tokens.iter().find(|token| text[at..].starts_with(token.content.as_bytes()))
    }

    /// Calls `f` with the parts of `text` in order: the leftmost-longest matches of tokens, and the text between them if it is not empty.
    /// With [`SpecialTokens::Literal`] special tokens are text. Ends early if `f` breaks.
    fn split(&self, text: &str, special: SpecialTokens, mut f: impl FnMut(Part) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut from = 0;
        let mut at = 0;
        while at < text.len() && !self.tokens.is_empty() {
            let Some(token) = self.at(text.as_bytes(), at) else {
                at += 1;
                continue;
            };
            let (mut start, mut end) = (at, at + token.content.len());
            at = end;
            if token.special && special == SpecialTokens::Literal {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(from);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if from < start {
                f(Part::Text(from..start))?;
            }
            f(Part::Token(token.id))?;
            from = end;
        }
        if from < text.len() {
            f(Part::Text(from..text.len()))?;
        }
        ControlFlow::Continue(())
    }
}
