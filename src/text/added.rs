//! Added tokens: strings that are one token wherever they stand in a text, whatever surrounds them.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use super::normalizer::Normalizer;
use super::spec::AddedTokenSpec;
use super::types::SpecialTokens;

/// A part of a text.
pub(super) enum Part {
    /// An added token.
    Token(u32),
    /// Ordinary text, by its bytes.
    Text(Range<usize>),
}

#[derive(Debug)]
struct AddedToken {
    id: u32,
    content: String,
    /// White space before (after) the token belongs to it.
    lstrip: bool,
    rstrip: bool,
    special: bool,
}

/// Tokens that are looked for together, longest first.
#[derive(Debug, Default)]
struct Matcher {
    tokens: Vec<AddedToken>,
    /// By first byte: where a token can begin.
    begins: Vec<bool>,
}

/// The added tokens of a tokenizer: those found in the text as it is, and those found after normalisation.
#[derive(Debug)]
pub(super) struct AddedTokens {
    raw: Matcher,
    normalized: Matcher,
    /// Ids of the special ones, ascending.
    special_ids: Vec<u32>,
}

impl AddedTokens {
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

    pub(super) fn content(&self, id: u32) -> Option<&str> {
        let mut tokens = self.raw.tokens.iter().chain(&self.normalized.tokens);
        tokens.find(|token| token.id == id).map(|token| token.content.as_str())
    }

    /// Cuts the tokens out of the text as it is.
    pub(super) fn split_raw(
        &self,
        text: &str,
        special: SpecialTokens,
        f: impl FnMut(Part) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.raw.split(text, special, f)
    }

    /// Cuts the tokens out of normalised text.
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

    /// Leftmost-longest matches; what lies between them is text. Empty parts are left out.
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
