//! The texts of all sets of a run: their tokens, their states, their pooled states.

use rayon::prelude::*;
use trivec::{EncodeOptions, Model, SpecialTokens};

use crate::data::PairSet;
use crate::error::Result;
use crate::states::{States, Store};

/// Where a set's texts are among those of all sets: the index of its first query, and of its first passage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    queries: usize,
    passages: usize,
}

impl Placed {
    /// The index, among the texts of all sets, of the set's query number `place`.
    pub(crate) fn query(&self, place: u32) -> usize {
        self.queries + place as usize
    }

    /// The index, among the texts of all sets, of the set's passage number `place`.
    pub(crate) fn passage(&self, place: u32) -> usize {
        self.passages + place as usize
    }
}

/// Token ids of the texts of all sets.
#[derive(Debug, Default)]
pub(crate) struct Tokenized {
    pub ids: Vec<Vec<u32>>,
    pub placed: Vec<Placed>,
    /// How many texts were cut to the maximum length.
    pub cut: usize,
    prompt_tokens: usize,
}

/// All texts with their states.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub ids: Vec<Vec<u32>>,
    pub placed: Vec<Placed>,
    pub states: States,
    /// `[texts, pooled_dim]`
    pooled: Vec<f32>,
    pub pooled_dim: usize,
}

/// Tokenises the texts of all sets: queries cut to `max_query` tokens, passages to `max_passage`.
pub(crate) fn tokenize(model: &Model, sets: &[&PairSet], max_query: usize, max_passage: usize) -> Result<Tokenized> {
    let options = |max_length| EncodeOptions {
        max_length: Some(max_length),
        // Text in the data that looks like a special token is ordinary text.
        special_tokens: SpecialTokens::Literal,
        ..EncodeOptions::default()
    };
    let mut all = Tokenized::default();
    let mut add = |texts: &[String], max_length: usize| -> Result<usize> {
        let first = all.ids.len();
        for (ids, cut) in model.token_ids_of(texts, &options(max_length))? {
            all.ids.push(ids);
            all.cut += usize::from(cut);
        }
        Ok(first)
    };
    let mut placed = Vec::new();
    for set in sets {
        placed.push(Placed { queries: add(&set.queries, max_query)?, passages: add(&set.passages, max_passage)? });
    }
    all.placed = placed;
    all.prompt_tokens = model.prompt_tokens(&options(max_query))?;
    Ok(all)
}

impl Corpus {
    /// Reads the token states of all texts from the store, which has them all, and pools each text's states.
    pub(crate) fn read(model: &Model, tokenized: Tokenized, store: Store) -> Result<Corpus> {
        let Tokenized { ids, placed, prompt_tokens, .. } = tokenized;
        let states = store.states(&ids)?;
        let hidden = states.hidden();
        let of = |text: usize| {
            let mut values = vec![0.0; states.tokens(text) * hidden];
            states.copy(text, &mut values);
            model.pooled(&values, prompt_tokens)
        };
        let rows: Vec<Vec<f32>> = (0..ids.len()).into_par_iter().map(of).collect();
        let pooled_dim = rows.first().map_or(hidden, Vec::len);
        Ok(Corpus { pooled: rows.concat(), pooled_dim, ids, placed, states })
    }

    /// Pooled states of texts, `[texts, pooled_dim]`.
    pub(crate) fn pooled(&self, texts: &[usize]) -> Vec<f32> {
        let row = |&text: &usize| &self.pooled[text * self.pooled_dim..][..self.pooled_dim];
        texts.iter().flat_map(row).copied().collect()
    }

    /// Returns about `most` token states, `[tokens, hidden]`, and the token id of each. They are all tokens but `<s>` of every n-th of `texts`,
    /// with n so large that texts of the average length give no more than `most`; longer ones may give more.
    pub(crate) fn sample(&self, texts: &[usize], most: usize) -> (Vec<f32>, Vec<u32>) {
        let total: usize = texts.iter().map(|&text| self.ids[text].len()).sum();
        let step = total.div_ceil(most.max(1)).max(1);
        let hidden = self.states.hidden();
        let (mut rows, mut ids) = (Vec::new(), Vec::new());
        for &text in texts.iter().step_by(step) {
            let mut values = vec![0.0; self.states.tokens(text) * hidden];
            self.states.copy(text, &mut values);
            rows.extend_from_slice(&values[hidden.min(values.len())..]);
            ids.extend_from_slice(&self.ids[text][1.min(self.ids[text].len())..]);
        }
        (rows, ids)
    }
}
