//! The texts of a forward pass, and for which of their tokens the last states are wanted.

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

    /// The ids of all texts.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The number of tokens in all texts.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Where each text's tokens are in the batch, text by text.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// The ids of each text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u32]> + '_ {
        self.ranges().map(|range| &self.ids[range])
    }
}

/// For which tokens the last hidden states are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    AllTokens,
    /// Each text's first token, which is all that CLS pooling reads. The layers before the last need all tokens; the last computes only
    /// keys and values for the others. The states of the first tokens are the same, to the bit.
    FirstTokens,
}
