//! Scores many pairs, with the embeddings of only a part of them in memory at a time.
//!
//! ```text
//! pairs ─▶ parts of a batch's size ─▶ embeddings of one part ─▶ its scores, while the next part is computed
//! ```
//! ColBERT vectors are many times the size of the tokens that they are computed from: those of all pairs could be more than the memory of a
//! service, those of two parts are a few megabytes. A text that later pairs need too, such as the query of many documents, is computed once
//! and kept.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::app::{App, Tokenized};
use crate::error::{ApiError, Result};
use crate::memory::{self, Part};
use crate::scheduler::{BATCH_TOKENS, Timing, cost};
use trivec::similarity::{ScoreWeights, Scores, score};
use trivec::{Embedding, Model};

/// Bytes of a pair's indices and scores.
const SCORED: u64 = 128;

/// The scores of pairs, in their order. A pair is two indices into `texts`. An error that a text is to blame for has the text's index in `texts`.
pub(super) async fn score_all(
    app: &App,
    model: &Arc<Model>,
    texts: &[Tokenized],
    pairs: &[(usize, usize)],
    weights: ScoreWeights,
) -> Result<(Vec<Scores>, Timing)> {
    let total = texts.iter().map(|text| cost(text.ids.len())).sum();
    app.check_cost(total)?;
    let parts = parts_of(pairs, |text| texts[text].ids.len());
    let bytes = |text: usize| memory::embedding(model.info(), model.info().modes, texts[text].ids.len());
    app.held().set(Part::Results, most_held(&parts, bytes) + SCORED * pairs.len() as u64)?;
    // A request of a single part needs no reservation.
    let room = if parts.len() > 1 { Some(app.scheduler.reserve(total)?) } else { None };
    let mut embeddings: Vec<Option<Arc<Embedding>>> = texts.iter().map(|_| None).collect();
    let (mut scores, mut timing) = (Vec::with_capacity(pairs.len()), Timing::default());
    let mut before = None;
    for part in &parts {
        let new: Vec<&Tokenized> = part.new.iter().map(|&text| &texts[text]).collect();
        let compute = app.encode_part(model, &new, model.info().modes.into(), room.as_ref());
        // Scoring ColBERT vectors of long texts takes time, so the part before is scored on a blocking thread while the engine computes this one.
        let (computed, scored) = tokio::join!(compute, score_part(app, before.take()));
        scores.extend(scored?);
        let (computed, took) = computed.map_err(|e| e.at_text(|index| part.new[index]))?;
        timing.then(took);
        for (&text, embedding) in part.new.iter().zip(computed) {
            embeddings[text] = Some(Arc::new(embedding));
        }
        let both = |&(a, b): &(usize, usize)| Some((embeddings[a].clone()?, embeddings[b].clone()?));
        let both: Option<Vec<_>> = pairs[part.pairs.clone()].iter().map(both).collect();
        let both = both.ok_or_else(ApiError::internal)?;
        part.last.iter().for_each(|&text| embeddings[text] = None);
        before = Some(move || both.into_iter().map(|(a, b)| score(&a, &b, &weights)).collect());
    }
    scores.extend(score_part(app, before).await?);
    app.held().set(Part::Results, SCORED * pairs.len() as u64)?;
    Ok((scores, timing))
}

/// Runs the job that scores a part, if there is one.
async fn score_part(app: &App, job: Option<impl FnOnce() -> Vec<Scores> + Send + 'static>) -> Result<Vec<Scores>> {
    match job {
        Some(job) => app.beside(job).await,
        None => Ok(Vec::new()),
    }
}

/// Pairs that are computed together.
#[derive(Debug, PartialEq)]
struct PartOfPairs {
    pairs: Range<usize>,
    /// Texts that no earlier part has.
    new: Vec<usize>,
    /// Texts that no later part has.
    last: Vec<usize>,
}

/// Cuts a list of pairs into parts. The new texts of a part have at most [`BATCH_TOKENS`] tokens together, or are those of a single pair.
fn parts_of(pairs: &[(usize, usize)], tokens: impl Fn(usize) -> usize) -> Vec<PartOfPairs> {
    let mut parts: Vec<PartOfPairs> = Vec::new();
    let (mut seen, mut sum) = (HashSet::new(), 0);
    for (at, &(a, b)) in pairs.iter().enumerate() {
        let new: Vec<usize> = [a, b].into_iter().filter(|&text| seen.insert(text)).collect();
        let more: usize = new.iter().map(|&text| tokens(text)).sum();
        match parts.last_mut() {
            Some(part) if more == 0 || sum + more <= BATCH_TOKENS => {
                sum += more;
                part.pairs.end = at + 1;
                part.new.extend(new);
            }
            _ => {
                sum = more;
                parts.push(PartOfPairs { pairs: at..at + 1, new, last: Vec::new() });
            }
        }
    }
    let mut seen = HashSet::new();
    for part in parts.iter_mut().rev() {
        let texts = pairs[part.pairs.clone()].iter().flat_map(|&(a, b)| [a, b]);
        part.last = texts.filter(|&text| seen.insert(text)).collect();
    }
    parts
}

/// The most bytes of embeddings that are in memory at a time: those of one part and of the next, and of texts that later parts need.
fn most_held(parts: &[PartOfPairs], bytes: impl Fn(usize) -> u64) -> u64 {
    let (mut before, mut kept, mut most) = (0, 0, 0);
    for part in parts {
        let new: u64 = part.new.iter().map(|&text| bytes(text)).sum();
        most = most.max(before + kept + new);
        let last: u64 = part.last.iter().map(|&text| bytes(text)).sum();
        // Texts that end with this part are held until its scores are computed.
        kept = kept + new - last;
        before = last;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_a_batch_and_what_others_need() {
        // A query of 4,000 tokens: the first two documents fit into a batch with it, the third is longer than a batch, the last three fill a
        // batch.
        let tokens = [4000, 50, 46, 4097, 3000, 1000, 96];
        let pairs: Vec<(usize, usize)> = (1..7).map(|document| (0, document)).collect();
        let part = |pairs, new: &[usize], last: &[usize]| PartOfPairs { pairs, new: new.into(), last: last.into() };
        let parts = parts_of(&pairs, |text| tokens[text]);
        let expected = [part(0..2, &[0, 1, 2], &[1, 2]), part(2..3, &[3], &[3]), part(3..6, &[4, 5, 6], &[0, 4, 5, 6])];
        assert_eq!(parts, expected);
        // The most is held with the query, the long document, and the three after it.
        assert_eq!(most_held(&parts, |text| tokens[text] as u64), 4000 + 4097 + 4096);
        // A pair of a text with itself, and texts that later pairs have again.
        let parts = parts_of(&[(0, 0), (1, 2), (0, 2)], |_| 3000);
        assert_eq!(parts, [part(0..1, &[0], &[]), part(1..3, &[1, 2], &[1, 2, 0])]);
        assert_eq!(most_held(&parts, |_| 1), 3);
        assert_eq!(parts_of(&[], |_| 1), []);
        assert_eq!(most_held(&[], |_| 1), 0);
    }
}
