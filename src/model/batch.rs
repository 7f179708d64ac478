//! The texts of a forward pass, and whose states are wanted of it.

use std::ops::Range;

/// The token ids of several texts, one after another: no padding anywhere.
#[derive(Debug, Default)]
pub(crate) struct TextBatch {
    ids: Vec<u32>,
    /// Where each text ends in `ids`.
    ends: Vec<usize>,
}

impl TextBatch {
    /// Appends a text of at least one token.
    pub(crate) fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
    }

    /// All ids.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Tokens of all texts.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Each text's tokens in the batch, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// Each text's ids.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u32]> + '_ {
        self.ranges().map(|range| &self.ids[range])
    }
}

/// Whose last hidden states are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    AllTokens,
    /// Each text's first token: what CLS pooling reads. Everything before the last layer needs all tokens; in it, the others' queries,
    /// attention outputs and feed-forward are left out. The bits of what is computed are the same.
    FirstTokens,
}
