//! Lexical: every token has a weight, and a piece has the largest weight of its tokens. The score of two texts is the sum of the products of the
//! weights over the pieces that they share.

use rayon::prelude::*;

use super::{Effective, Gradient, Tokens};
use crate::math::add_scaled;

/// Pieces that carry no weight: `<s>`, `<pad>`, `</s>`, `<unk>` of XLM-RoBERTa.
pub(crate) const UNUSED: std::ops::RangeInclusive<u32> = 0..=3;

/// A piece of a text: its id, its weight, and the token that gave it this weight (the first of equals).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    pub id: u32,
    pub weight: f32,
    /// The token's place in [`Tokens`], among the tokens of all texts.
    pub token: u32,
}

/// For every text, its pieces that have a weight above 0, ids ascending.
pub(crate) type Pieces = Vec<Vec<Entry>>;

/// The pieces of every text; a piece's weight is the largest `max(0, w·h + b)` of its tokens.
pub(crate) fn pieces(map: &Effective, tokens: &Tokens) -> Pieces {
    let weights = map.apply(&tokens.states);
    let of = |text: usize| {
        let range = tokens.range(text);
        let entry = |token: usize| Entry { id: tokens.ids[token], weight: weights[token], token: token as u32 };
        let mut all: Vec<Entry> =
            range.map(entry).filter(|entry| !UNUSED.contains(&entry.id) && has_weight(entry.weight)).collect();
        // Of equal weights, the first token is kept.
        all.sort_by(|a, b| a.id.cmp(&b.id).then(b.weight.total_cmp(&a.weight)).then(a.token.cmp(&b.token)));
        all.dedup_by_key(|entry| entry.id);
        all
    };
    (0..tokens.texts()).into_par_iter().map(of).collect()
}

/// Whether a weight counts. NaN does, so that broken inputs give a NaN score.
fn has_weight(weight: f32) -> bool {
    weight > 0.0 || weight.is_nan()
}

/// Calls `each` for every piece that two texts share, with its index in `a` and in `b`.
fn shared(a: &[Entry], b: &[Entry], mut each: impl FnMut(usize, usize)) {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].id.cmp(&b[j].id) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                each(i, j);
                (i, j) = (i + 1, j + 1);
            }
        }
    }
}

/// Scores `[queries, passages]`.
pub(crate) fn scores(queries: &Pieces, passages: &Pieces) -> Vec<f32> {
    let row = |query: &Vec<Entry>| {
        let score = |passage: &Vec<Entry>| {
            let mut sum = 0.0;
            shared(query, passage, |i, j| sum += query[i].weight * passage[j].weight);
            sum
        };
        passages.iter().map(score).collect::<Vec<f32>>()
    };
    queries.par_iter().flat_map_iter(row).collect()
}

/// The gradient of the map from `G` = ∂L/∂S, with the weights `X` of the pieces: `∂X_q = G X_p` and `∂X_p = Gᵀ X_q`; then, with the state `h`
/// of the token that gave the piece its weight, `∂w += ∂X h` and `∂b += ∂X`.
pub(crate) fn backward(g: &[f32], [queries, passages]: [&Pieces; 2], [q_tokens, p_tokens]: [&Tokens; 2]) -> Gradient {
    let count = passages.len();
    let of_query = |(at, query): (usize, &Vec<Entry>)| {
        let mut sums = vec![0.0; query.len()];
        for (passage, &g) in passages.iter().zip(&g[at * count..]) {
            shared(query, passage, |i, j| sums[i] += g * passage[j].weight);
        }
        sums
    };
    let of_passage = |(at, passage): (usize, &Vec<Entry>)| {
        let mut sums = vec![0.0; passage.len()];
        for (row, query) in queries.iter().enumerate() {
            let g = g[row * count + at];
            shared(query, passage, |i, j| sums[j] += g * query[i].weight);
        }
        sums
    };
    let parts = [
        (queries, q_tokens, queries.par_iter().enumerate().map(of_query).collect::<Vec<_>>()),
        (passages, p_tokens, passages.par_iter().enumerate().map(of_passage).collect::<Vec<_>>()),
    ];
    let hidden = q_tokens.hidden;
    let mut gradient = Gradient { weight: vec![0.0; hidden], bias: vec![0.0] };
    for (pieces, tokens, sums) in &parts {
        // Each text is summed by itself and the texts are added in order: the same bits for any number of threads.
        let of_text = |(entries, sums): (&Vec<Entry>, &Vec<f32>)| {
            let mut weight = vec![0.0; hidden];
            for (entry, &sum) in entries.iter().zip(sums) {
                add_scaled(&mut weight, sum, &tokens.states[entry.token as usize * hidden..][..hidden]);
            }
            (weight, sums.iter().sum::<f32>())
        };
        let texts: Vec<(Vec<f32>, f32)> = pieces.par_iter().zip(sums.par_iter()).map(of_text).collect();
        for (weight, bias) in &texts {
            add_scaled(&mut gradient.weight, 1.0, weight);
            gradient.bias[0] += bias;
        }
    }
    gradient
}

/// Whether two texts share a piece that can carry a weight.
pub(crate) fn share_a_piece(a: &[u32], b: &[u32]) -> bool {
    a.iter().any(|id| !UNUSED.contains(id) && b.contains(id))
}
