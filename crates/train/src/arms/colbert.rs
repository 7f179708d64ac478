//! ColBERT: every token's state is mapped and normalised. Each token of the query finds its best match among the passage's tokens; the score is
//! the mean of the matches' dot products.

use rayon::prelude::*;

use super::{Effective, Gradient, Tokens};
use crate::math::{add_scaled, largest, normalize_backward, normalize_rows, outer_sums, product_into};

/// The ColBERT vectors of some texts: a row for every token but `<s>`.
pub(crate) struct Vectors {
    /// `[rows, k]`, normalised; `norms` has their lengths before.
    pub rows: Vec<f32>,
    norms: Vec<f32>,
    /// Where each text's rows begin, and where the last ends.
    pub starts: Vec<usize>,
    k: usize,
}

/// What the backward pass needs of the forward pass.
pub(crate) struct Forward {
    pub queries: Vectors,
    pub passages: Vectors,
    /// `[passages][query rows]`: the passage's row that matches the query's row best, counted from the passage's first row.
    best: Vec<Vec<u32>>,
}

impl Vectors {
    /// The ColBERT vectors of the texts' tokens by this map.
    pub(crate) fn of(map: &Effective, tokens: &Tokens) -> Vectors {
        let (k, hidden) = (map.outputs, tokens.hidden);
        // All tokens are mapped, and the rows of `<s>` dropped: what is left is one text after another without gaps.
        let mapped = map.apply(&tokens.states);
        let mut starts = vec![0];
        let mut rows = Vec::with_capacity(mapped.len());
        for text in 0..tokens.texts() {
            let range = tokens.range(text);
            rows.extend_from_slice(&mapped[(range.start + 1).min(range.end) * k..range.end * k]);
            starts.push(rows.len() / k);
        }
        debug_assert_eq!(map.inputs, hidden);
        let norms = normalize_rows(&mut rows, k);
        Vectors { rows, norms, starts, k }
    }

    pub(crate) fn texts(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of one text.
    fn of_text(&self, text: usize) -> &[f32] {
        &self.rows[self.starts[text] * self.k..self.starts[text + 1] * self.k]
    }
}

/// The states of all tokens but `<s>`, to go with [`Vectors::rows`].
fn states_without_first(tokens: &Tokens) -> Vec<f32> {
    let mut rows = Vec::with_capacity(tokens.states.len());
    for text in 0..tokens.texts() {
        let range = tokens.range(text);
        rows.extend_from_slice(
            &tokens.states[(range.start + 1).min(range.end) * tokens.hidden..range.end * tokens.hidden],
        );
    }
    rows
}

/// Query rows whose similarities one call computes: the block stays in the second-level cache.
const BLOCK_ROWS: usize = 256;

/// For every row of all queries, the largest dot product with a row of one passage, and which row of the passage has it.
fn best_of(queries: &Vectors, passage: &[f32], k: usize) -> (Vec<f32>, Vec<u32>) {
    let count = passage.len() / k;
    let rows = queries.rows.len() / k;
    let (mut values, mut places) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut block = vec![0.0; BLOCK_ROWS.min(rows) * count];
    for part in queries.rows.chunks(BLOCK_ROWS * k) {
        let block = &mut block[..part.len() / k * count];
        product_into(part, passage, k, block);
        for row in block.chunks_exact(count.max(1)) {
            let (value, place) = largest(row);
            values.push(value);
            places.push(place as u32);
        }
    }
    (values, places)
}

/// The scores `1/N_q Σ_i max_j V_i·V_j`, `[queries, passages]`, where `N_q` is the number of the query's rows; and the matches as in
/// [`Forward::best`].
fn match_all(queries: &Vectors, passages: &Vectors) -> (Vec<f32>, Vec<Vec<u32>>) {
    let of_passage = |passage: usize| {
        let (values, places) = best_of(queries, passages.of_text(passage), passages.k);
        let mean = |bounds: &[usize]| {
            let own = &values[bounds[0]..bounds[1]];
            own.iter().map(|&x| f64::from(x)).sum::<f64>() / own.len().max(1) as f64
        };
        (queries.starts.windows(2).map(|bounds| mean(bounds) as f32).collect::<Vec<f32>>(), places)
    };
    let columns: Vec<(Vec<f32>, Vec<u32>)> = (0..passages.texts()).into_par_iter().map(of_passage).collect();
    let mut scores = vec![0.0; queries.texts() * columns.len()];
    for (passage, (column, _)) in columns.iter().enumerate() {
        for (query, &score) in column.iter().enumerate() {
            scores[query * columns.len() + passage] = score;
        }
    }
    (scores, columns.into_iter().map(|(_, places)| places).collect())
}

/// Scores `[queries, passages]`, without what a backward pass needs.
pub(crate) fn scores(queries: &Vectors, passages: &Vectors) -> Vec<f32> {
    match_all(queries, passages).0
}

/// Scores `[queries, passages]`, and what the backward pass needs.
pub(crate) fn forward(map: &Effective, queries: &Tokens, passages: &Tokens) -> (Vec<f32>, Forward) {
    let (queries, passages) = (Vectors::of(map, queries), Vectors::of(map, passages));
    let (scores, best) = match_all(&queries, &passages);
    (scores, Forward { queries, passages, best })
}

/// The gradient of the map from `G` = ∂L/∂S. With `j*` the best match of row i: `∂V_i = Σ_p G/N_q V_j*` and `∂V_j* += G/N_q V_i`; back through
/// the normalisation to `∂r`; then `∂W = Σ ∂r hᵀ`, `∂b = Σ ∂r`.
pub(crate) fn backward(map: &Effective, forward: &Forward, g: &[f32], queries: &Tokens, passages: &Tokens) -> Gradient {
    let (q, p, k) = (&forward.queries, &forward.passages, map.outputs);
    let count = p.texts();
    let factor = |query: usize, passage: usize| {
        g[query * count + passage] / (q.starts[query + 1] - q.starts[query]).max(1) as f32
    };
    let mut dq = vec![0.0; q.rows.len()];
    let mut rest = dq.as_mut_slice();
    let mut parts = Vec::with_capacity(q.texts());
    for query in 0..q.texts() {
        let (part, others) = rest.split_at_mut((q.starts[query + 1] - q.starts[query]) * k);
        parts.push((query, part));
        rest = others;
    }
    parts.into_par_iter().for_each(|(query, part)| {
        for passage in 0..count {
            let (by, first) = (factor(query, passage), p.starts[passage]);
            if by != 0.0 && first != p.starts[passage + 1] {
                let places = &forward.best[passage][q.starts[query]..];
                for (out, &place) in part.chunks_exact_mut(k).zip(places) {
                    add_scaled(out, by, &p.rows[(first + place as usize) * k..][..k]);
                }
            }
        }
    });
    let mut dp = vec![0.0; p.rows.len()];
    let mut rest = dp.as_mut_slice();
    let mut parts = Vec::with_capacity(count);
    for passage in 0..count {
        let (part, others) = rest.split_at_mut((p.starts[passage + 1] - p.starts[passage]) * k);
        parts.push((passage, part));
        rest = others;
    }
    parts.into_par_iter().filter(|(_, part)| !part.is_empty()).for_each(|(passage, part)| {
        for query in 0..q.texts() {
            let by = factor(query, passage);
            if by != 0.0 {
                for row in q.starts[query]..q.starts[query + 1] {
                    let place = forward.best[passage][row] as usize;
                    add_scaled(&mut part[place * k..][..k], by, &q.rows[row * k..][..k]);
                }
            }
        }
    });
    normalize_backward(&mut dq, &q.rows, &q.norms, k);
    normalize_backward(&mut dp, &p.rows, &p.norms, k);
    let of_queries = outer_sums(&dq, &states_without_first(queries), [k, map.inputs], &q.starts);
    let mut gradient = outer_sums(&dp, &states_without_first(passages), [k, map.inputs], &p.starts);
    add_scaled(&mut gradient.0, 1.0, &of_queries.0);
    add_scaled(&mut gradient.1, 1.0, &of_queries.1);
    Gradient { weight: gradient.0, bias: gradient.1 }
}
