//! Measures how close one model's outputs are to another's: a packed file's to those of its source, or those of any two models.
//!
//! Texts are encoded by both models, each with its own tokenizer, and compared part by part; a small retrieval set tells whether the
//! differences matter to a ranking; for BGE-M3 the published values are compared as well.

use std::fmt;

use serde::Serialize;

use super::encode::embeddings;
use super::published::{self, Published};
use super::rankings::{self, Ranking};
use super::statistics::{self, Cosines};
use crate::embedding::{Embedding, LexicalWeights, Modes};
use crate::engine::{EncodeOptions, Model};
use crate::error::{Error, Result};
use crate::escape::Escaped;
use crate::weights::WeightFormat;

/// The texts on which models are compared unless others are given: 300 in some 80 languages, written for this project; nothing was fitted
/// to them.
const BUNDLED: &str = include_str!("verification.txt");

/// The most tokens of a text.
const MAX_TOKENS: usize = 512;

/// Texts encoded at a time, between two reports of progress.
const CHUNK: usize = 16;

/// The texts on which models are compared unless others are given.
pub fn bundled_texts() -> Vec<String> {
    BUNDLED.lines().map(str::to_owned).collect()
}

/// How much the lexical weights of the two models differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LexicalDifference {
    /// By what share the differences change the texts' lexical scores with themselves: `Σ max(a, b) |a - b| / Σ a²`, both sums over the token
    /// ids of either model and over all texts. A weight counts by its share of the score, so one near zero hardly counts.
    pub score_error: f64,
    /// The mean lexical score of a text with itself in the reference, `Σ a²`: how large the weights are.
    pub self_score: f64,
    /// Mean over the texts of `Σ |a - b| / Σ a` over the token ids of either.
    pub mean_relative_error: f64,
    /// Share of the texts whose five heaviest ids are the same.
    pub same_top5: f64,
    /// Share of the texts whose five heaviest ids are the same, if an id may take the place of another whose weight in the reference is within
    /// 2 %.
    pub same_top5_or_tied: f64,
}

/// What [`verify`] found. Serialises to JSON under these names.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The model whose outputs count as right.
    pub reference: String,
    /// The model that was compared with it.
    pub candidate: String,
    /// How the candidate's weights are stored.
    pub weights: String,
    /// The candidate's format, if it is packed.
    #[serde(skip)]
    pub format: Option<WeightFormat>,
    /// Texts that were compared.
    pub texts: usize,
    /// Cosines of the dense vectors.
    pub dense: Cosines,
    /// How the lexical weights differ; `None` if either model has no sparse head.
    pub lexical: Option<LexicalDifference>,
    /// Cosines of ColBERT rows; `None` if either model has no such head, or their rows have different lengths.
    pub colbert: Option<Cosines>,
    /// How the two rank a small retrieval set.
    pub rankings: Vec<Ranking>,
    /// For a candidate of BGE-M3's shape with all three outputs: how far its scores are from those that were published for BGE-M3.
    pub published: Option<Published>,
    /// The dense cosine of every text, in their order.
    #[serde(skip)]
    pub dense_cosines: Vec<f64>,
}

/// The fidelity that a packed file of a format must have. [`VerifyReport::failures`] compares all
/// but `published`, which [`VerifyReport::published_failure`] does.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Promise {
    /// Least mean cosine of the dense vectors.
    pub dense_mean: f64,
    /// Least cosine of any dense vector.
    pub dense_min: f64,
    /// Least 5th percentile of the cosines of ColBERT rows.
    pub colbert_p5: f64,
    /// Largest change of the lexical scores, [`LexicalDifference::score_error`]; up to ten times as much where the weights are near zero.
    pub lexical_error: f64,
    /// Largest distance from a published score.
    pub published: f64,
}

impl Promise {
    /// Returns the least fidelity that a packed file in `format` must have. The bounds for int4 are made for weights that trivec rounded to
    /// four bits. A checkpoint's own 4-bit blocks, which trivec copies unchanged, are `WeightFormat::Int4` too and get the same bounds,
    /// although the tests find them as close to their source as int8.
    pub fn of(format: WeightFormat) -> Promise {
        let promise = |dense_mean, dense_min, colbert_p5, lexical_error, published| Promise {
            dense_mean,
            dense_min,
            colbert_p5,
            lexical_error,
            published,
        };
        match format {
            WeightFormat::F32 => promise(0.999_999, 0.999_99, 0.999_99, 1e-4, 1e-4),
            WeightFormat::F16 => promise(0.9999, 0.9999, 0.9998, 0.003, 2e-3),
            WeightFormat::Bf16 => promise(0.9999, 0.9995, 0.9998, 0.0035, 4e-3),
            WeightFormat::Int8 => promise(0.999, 0.996, 0.998, 0.02, 0.02),
            WeightFormat::Int4 => promise(0.98, 0.95, 0.95, 0.12, 0.1),
        }
    }
}

impl Promise {
    /// The least fidelity with which a packed model is used at all: less than the promise, because other models' weights were not tested,
    /// and more than any damaged file reaches. Lexical scores of random heads change by up to 0.03 in int8 and 0.2 in int4; those of a head
    /// that is not the model's own change by 1 and more.
    pub fn least(format: WeightFormat) -> Promise {
        let (dense_mean, dense_min, colbert_p5, lexical_error) = match format {
            WeightFormat::F32 => return Promise::of(format),
            WeightFormat::F16 | WeightFormat::Bf16 => (0.999, 0.995, 0.99, 0.05),
            WeightFormat::Int8 => (0.995, 0.97, 0.98, 0.1),
            WeightFormat::Int4 => (0.95, 0.85, 0.85, 0.3),
        };
        Promise { dense_mean, dense_min, colbert_p5, lexical_error, ..Promise::of(format) }
    }

    /// How much the lexical scores may change. Weights near zero are small differences of large numbers, which rounding changes by a larger
    /// share, and they add next to nothing to a score. So below a mean score of [`SMALL_SCORE`] the limit grows as the score shrinks, up to ten
    /// times. A head that is not the model's own is found whatever its weights are: it changes scores by more than [`MOST_CHANGE`].
    fn lexical_limit(&self, self_score: f64) -> f64 {
        let wider = (SMALL_SCORE / self_score).clamp(1.0, 10.0);
        (self.lexical_error * wider).min(MOST_CHANGE.max(self.lexical_error))
    }
}

/// The lexical score of a text with itself below which its weights count as near zero: a hundredth of its dense score.
const SMALL_SCORE: f64 = 0.01;

/// The change of lexical scores that is never allowed, however small the weights are.
const MOST_CHANGE: f64 = 0.4;

/// Whether one part of a promise is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// `dense vectors`, `ColBERT rows` or `lexical weights`.
    pub part: &'static str,
    /// The bounds that are not kept, one line each with what was found and expected; empty if all are kept.
    pub broken: Vec<String>,
}

/// Compares the outputs of `candidate` and `reference` for `texts` and a small retrieval set. `progress` is called with the number of texts that
/// are done and the number of all texts, those of the retrieval set included.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if there are no texts, or the models cannot be compared (dense vectors of different
/// lengths, texts cut into different tokens); [`ErrorKind::Model`](crate::ErrorKind::Model) if one has no tokenizer.
pub fn verify(
    reference: &Model,
    candidate: &Model,
    texts: &[String],
    progress: &dyn Fn(usize, usize),
) -> Result<VerifyReport> {
    if texts.is_empty() {
        return Err(Error::Option { option: "texts", what: "no text to compare the models on".to_owned() });
    }
    let (a, b) = (reference.info(), candidate.info());
    if a.dense_dim != b.dense_dim {
        let what = format!("dense vectors of {} and {} values cannot be compared", a.dense_dim, b.dense_dim);
        return Err(Error::Option { option: "model", what });
    }
    let modes = Modes {
        dense: true,
        sparse: a.modes.sparse && b.modes.sparse,
        colbert: a.modes.colbert && b.modes.colbert && a.colbert_dim == b.colbert_dim,
    };
    let options = EncodeOptions {
        modes,
        max_length: Some(a.max_length.min(b.max_length).min(MAX_TOKENS)),
        ..EncodeOptions::default()
    };

    let (total_texts, total) = (texts.len(), texts.len() + rankings::texts());
    let (mut dense_cosines, mut colbert, mut lexical) = (Vec::new(), Vec::new(), LexicalSums::default());
    for (chunk, texts) in texts.chunks(CHUNK).enumerate() {
        progress(chunk * CHUNK, total);
        let name = |index: usize| format!("text {} of {}", chunk * CHUNK + index + 1, total_texts);
        let expected = embeddings(reference, texts, &options, name)?;
        let found = embeddings(candidate, texts, &options, name)?;
        for (index, (a, b)) in expected.iter().zip(&found).enumerate() {
            let index = chunk * CHUNK + index;
            if a.tokens != b.tokens {
                let what = format!("text {index} has {} tokens in one model and {} in the other", a.tokens, b.tokens);
                return Err(Error::Option { option: "model", what });
            }
            dense_cosines.extend(dense_cosine(a, b));
            if let (Some(a), Some(b)) = (&a.colbert, &b.colbert) {
                colbert.extend(a.iter().zip(b.iter()).map(|(a, b)| statistics::cosine(a, b)));
            }
            if let (Some(a), Some(b)) = (&a.lexical, &b.lexical) {
                lexical.add(a, b);
            }
        }
    }
    let done = |more: usize| progress(total_texts + more, total);
    let rankings = rankings::compare(reference, candidate, &options, &done)?;
    progress(total, total);
    Ok(VerifyReport {
        reference: a.name.clone(),
        candidate: b.name.clone(),
        weights: b.weights.clone(),
        format: candidate.packed_format(),
        texts: total_texts,
        dense: Cosines::of(&dense_cosines),
        lexical: modes.sparse.then(|| lexical.mean()),
        colbert: modes.colbert.then(|| Cosines::of(&colbert)),
        rankings,
        published: published::compare(candidate)?,
        dense_cosines,
    })
}

fn dense_cosine(a: &Embedding, b: &Embedding) -> Option<f64> {
    Some(statistics::cosine(a.dense.as_ref()?, b.dense.as_ref()?))
}

/// Sums over texts, from which a [`LexicalDifference`] is computed.
#[derive(Default)]
struct LexicalSums {
    texts: usize,
    /// Texts with any weight: the others have no relative error.
    weighted: usize,
    error: f64,
    /// `Σ a²`, and `Σ max(a, b) |a - b|`.
    score: f64,
    change: f64,
    /// Texts whose five heaviest ids are the same, and those for which that is so up to ties.
    same: usize,
    tied: usize,
}

impl LexicalSums {
    /// Adds a text that has the weights `a` in the reference and `b` in the candidate.
    fn add(&mut self, a: &LexicalWeights, b: &LexicalWeights) {
        self.texts += 1;
        let size: f64 = a.weights().iter().map(|&w| f64::from(w)).sum();
        let of_a: f64 = a.iter().map(|(id, weight)| f64::from((weight - b.weight(id)).abs())).sum();
        let of_b_alone: f64 =
            b.iter().filter(|&(id, _)| a.weight(id) == 0.0).map(|(_, weight)| f64::from(weight)).sum();
        let product = |x: f32, y: f32| f64::from(x) * f64::from(y);
        self.score += a.weights().iter().map(|&w| product(w, w)).sum::<f64>();
        let of_both = a.iter().map(|(id, weight)| (weight, b.weight(id)));
        self.change += of_both.map(|(a, b)| product(a.max(b), (a - b).abs())).sum::<f64>();
        self.change +=
            b.iter().filter(|&(id, _)| a.weight(id) == 0.0).map(|(_, weight)| product(weight, weight)).sum::<f64>();
        if size > 0.0 {
            self.weighted += 1;
            self.error += (of_a + of_b_alone) / size;
        }
        let (top, found) = (top5(a), top5(b));
        let least = top.iter().map(|&id| a.weight(id)).fold(f32::INFINITY, f32::min);
        self.same += usize::from(top == found);
        let tied = top.len() == found.len() && found.iter().all(|&id| a.weight(id) >= 0.98 * least);
        self.tied += usize::from(tied);
    }

    fn mean(&self) -> LexicalDifference {
        let share = |count: usize| count as f64 / self.texts as f64;
        LexicalDifference {
            // The error is at most 1,000: that of a candidate with weights where the reference has none.
            score_error: if self.change == 0.0 { 0.0 } else { self.change / self.score.max(self.change * 1e-3) },
            self_score: self.score / self.texts as f64,
            mean_relative_error: if self.weighted == 0 { 0.0 } else { self.error / self.weighted as f64 },
            same_top5: share(self.same),
            same_top5_or_tied: share(self.tied),
        }
    }
}

/// The five heaviest ids (the lower id first where two weigh the same), ascending.
fn top5(weights: &LexicalWeights) -> Vec<u32> {
    let mut pairs: Vec<(u32, f32)> = weights.iter().collect();
    pairs.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut ids: Vec<u32> = pairs.into_iter().take(5).map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

impl VerifyReport {
    /// The bounds of `promise` that are not kept, one line each, which begins with the part of the outputs that it is about; empty if all are
    /// kept. Only [`VerifyReport::published_failure`] judges the published values, because a model may have BGE-M3's shape and not be BGE-M3.
    pub fn failures(&self, promise: &Promise) -> Vec<String> {
        let lines = |kept: Kept| kept.broken.into_iter().map(move |what| format!("{}: {what}", kept.part));
        self.judge(promise).into_iter().flat_map(lines).collect()
    }

    /// Says of each part of `promise` whether it is kept.
    pub fn judge(&self, promise: &Promise) -> Vec<Kept> {
        let kept = |part, broken: Vec<Option<String>>| Kept { part, broken: broken.into_iter().flatten().collect() };
        let mut all = vec![kept(
            "dense vectors",
            vec![
                at_least("the mean cosine", self.dense.mean, promise.dense_mean),
                at_least("the least cosine", self.dense.min, promise.dense_min),
            ],
        )];
        if let Some(colbert) = &self.colbert {
            let broken = at_least("the 5th percentile of the cosines", colbert.p5, promise.colbert_p5);
            all.push(kept("ColBERT rows", vec![broken]));
        }
        if let Some(LexicalDifference { score_error, self_score, .. }) = self.lexical {
            let limit = promise.lexical_limit(self_score);
            all.push(kept("lexical weights", vec![at_most("the change of the scores they make", score_error, limit)]));
        }
        all
    }

    /// Says by how much a model that should be BGE-M3 misses the published score that it misses most. `None` if it meets all of them within
    /// `promise`, and for a model that was not compared: one of another shape, or without all three outputs.
    pub fn published_failure(&self, promise: &Promise) -> Option<String> {
        let published = self.published.as_ref()?;
        let failure = at_most("the distance from a published score", published.largest_difference, promise.published)?;
        Some(format!("{failure} ({})", published.worst))
    }
}

/// A line that says that `found` is below `least` or NaN; `None` if it is neither.
fn at_least(what: &str, found: f64, least: f64) -> Option<String> {
    (found.is_nan() || found < least).then(|| format!("{what} is {found:.6}, expected at least {least}"))
}

/// A line that says that `found` is above `most` or NaN; `None` if it is neither.
fn at_most(what: &str, found: f64, most: f64) -> Option<String> {
    (found.is_nan() || found > most).then(|| format!("{what} is {found:.6}, expected at most {most}"))
}

/// A table for people.
impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = if self.texts == 1 { "text" } else { "texts" };
        let (candidate, reference) = (Escaped(&self.candidate), Escaped(&self.reference));
        writeln!(f, "{candidate} ({}) against {reference}, {} {texts}", self.weights, self.texts)?;
        writeln!(f, "  {:<24}{:>10}{:>10}{:>10}", "cosine", "mean", "p5", "min")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, c: &Cosines| {
            writeln!(f, "  {name:<24}{:>10.6}{:>10.6}{:>10.6}", c.mean, c.p5, c.min)
        };
        row(f, "dense", &self.dense)?;
        if let Some(colbert) = &self.colbert {
            row(f, "ColBERT rows", colbert)?;
        }
        if let Some(lexical) = &self.lexical {
            writeln!(
                f,
                "  lexical weights: scores change by {:.2} %, mean relative error {:.2} %, same five heaviest {:.1} % (ties within \
                 2 % aside {:.1} %)",
                100.0 * lexical.score_error,
                100.0 * lexical.mean_relative_error,
                100.0 * lexical.same_top5,
                100.0 * lexical.same_top5_or_tied
            )?;
        }
        writeln!(f, "  {:<24}{:>10}{:>10}{:>10}{:>10}", "ranking", "nDCG@10", "reference", "change", "Kendall τ")?;
        for r in &self.rankings {
            let change = r.ndcg10 - r.ndcg10_reference;
            writeln!(
                f,
                "  {:<24}{:>10.4}{:>10.4}{change:>+10.4}{:>10.4}",
                r.by, r.ndcg10, r.ndcg10_reference, r.kendall_tau
            )?;
        }
        if let Some(published) = &self.published {
            writeln!(
                f,
                "  published values of BGE-M3: {} compared, largest difference {:.2e} ({})",
                published.values, published.largest_difference, published.worst
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(pairs: &[(u32, f32)]) -> LexicalWeights {
        LexicalWeights::from_pairs(pairs.to_vec())
    }

    #[test]
    fn lexical_differences_are_counted_over_the_ids_of_either() {
        let mut sums = LexicalSums::default();
        let a = weights(&[(5, 1.0), (6, 0.5), (7, 0.5)]);
        sums.add(&a, &a);
        sums.add(&a, &weights(&[(5, 1.0), (6, 0.25), (8, 0.25)]));
        // A text without weights in both models has no relative error, and its five heaviest ids are the same: none.
        sums.add(&weights(&[]), &weights(&[]));
        let found = sums.mean();
        // 0.25 of id 6, 0.5 of id 7, 0.25 of id 8, over 2.
        assert!((found.mean_relative_error - 0.25).abs() < 1e-9, "{found:?}");
        assert!((found.same_top5 - 2.0 / 3.0).abs() < 1e-9);
        // 0.5 · 0.25 of id 6, 0.5 · 0.5 of id 7, 0.25 · 0.25 of id 8, over twice 1 + 0.25 + 0.25.
        assert!((found.score_error - 0.4375 / 3.0).abs() < 1e-9 && (found.self_score - 1.0).abs() < 1e-9, "{found:?}");

        let of_six = |last: f32| weights(&[(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0), (5, 5.0), (6, last)]);
        let swapped = |fifth: f32| weights(&[(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0), (5, fifth), (6, 5.0)]);
        let mut sums = LexicalSums::default();
        sums.add(&of_six(4.95), &swapped(4.9));
        sums.add(&of_six(4.5), &swapped(4.9));
        assert_eq!((sums.same, sums.tied), (0, 1), "only 4.95 is within 2 % of 5");
    }

    fn lexical(score_error: f64, self_score: f64) -> LexicalDifference {
        LexicalDifference { score_error, self_score, mean_relative_error: 0.3, same_top5: 1.0, same_top5_or_tied: 1.0 }
    }

    #[test]
    fn lexical_weights_count_by_the_score_they_make() {
        let change = |a: &LexicalWeights, b: &LexicalWeights| {
            let mut sums = LexicalSums::default();
            sums.add(a, b);
            sums.mean().score_error
        };
        // One weight that matters, and many near zero that rounding doubles or drops.
        let pairs = |small: f32| -> Vec<(u32, f32)> { (5..25).map(|id| (id, small)).chain([(4, 0.3)]).collect() };
        let (a, doubled) = (weights(&pairs(0.001)), weights(&pairs(0.002)));
        assert!(change(&a, &doubled) < 5e-4 && change(&a, &weights(&[(4, 0.3)])) < 3e-4);
        // The scale of all weights does not matter.
        let scaled =
            |pairs: &[(u32, f32)], by: f32| weights(&pairs.iter().map(|&(id, w)| (id, w * by)).collect::<Vec<_>>());
        let (of_a, of_b) = (pairs(0.1), pairs(0.11));
        for by in [1e-6, 1e-3, 1.0, 1e3] {
            let found = change(&scaled(&of_a, by), &scaled(&of_b, by));
            assert!((found / change(&weights(&of_a), &weights(&of_b)) - 1.0).abs() < 1e-3, "{by}: {found}");
        }
        // Weights that are not the model's own: other ids, all weights halved, none, or some where there were none.
        assert!(change(&a, &weights(&[(40, 0.3)])) > 1.9);
        assert!((change(&weights(&of_a), &scaled(&of_a, 0.5)) - 0.5).abs() < 1e-3);
        assert!((change(&a, &weights(&[])) - 1.0).abs() < 1e-9);
        assert!(change(&weights(&[]), &a) > 100.0);
        assert_eq!(change(&weights(&[]), &weights(&[])), 0.0);
    }

    #[test]
    fn weights_near_zero_may_change_by_more_but_not_become_anothers() {
        for (promise, most) in [
            (Promise::of(WeightFormat::Int8), 0.2),
            (Promise::of(WeightFormat::Int4), 0.4),
            (Promise::least(WeightFormat::Int8), 0.4),
            (Promise::least(WeightFormat::Int4), 0.4),
        ] {
            assert_eq!(promise.lexical_limit(0.3), promise.lexical_error);
            assert_eq!(promise.lexical_limit(SMALL_SCORE), promise.lexical_error);
            for small in [1e-3, 1e-9, 0.0] {
                assert!(
                    (promise.lexical_limit(small) - most).abs() < 1e-9,
                    "{small}: {}",
                    promise.lexical_limit(small)
                );
            }
            let good = report(Cosines { mean: 0.9995, p5: 0.999, min: 0.998 });
            let with = |lexical| VerifyReport { lexical: Some(lexical), ..good.clone() };
            assert!(with(lexical(1.0, 1e-9)).failures(&promise)[0].starts_with("lexical weights: "));
            assert_eq!(with(lexical(promise.lexical_error * 0.9, 0.3)).failures(&promise), Vec::<String>::new());
            assert_eq!(with(lexical(promise.lexical_error * 1.1, 0.3)).failures(&promise).len(), 1);
            assert_eq!(with(lexical(f64::NAN, 0.3)).failures(&promise).len(), 1);
        }
    }

    fn report(dense: Cosines) -> VerifyReport {
        VerifyReport {
            reference: "a".to_owned(),
            candidate: "b".to_owned(),
            weights: "int8".to_owned(),
            format: Some(WeightFormat::Int8),
            texts: 2,
            dense,
            lexical: Some(lexical(0.01, 0.3)),
            colbert: Some(Cosines { mean: 1.0, p5: 1.0, min: 1.0 }),
            rankings: Vec::new(),
            published: Some(Published { values: 12, largest_difference: 0.3, worst: "there".to_owned() }),
            dense_cosines: Vec::new(),
        }
    }

    #[test]
    fn a_broken_promise_is_named() {
        let promise = Promise::of(WeightFormat::Int8);
        let good = report(Cosines { mean: 0.9995, p5: 0.999, min: 0.998 });
        assert_eq!(good.failures(&promise), Vec::<String>::new());
        assert!(good.published_failure(&promise).unwrap().contains("there"));
        let bad = report(Cosines { mean: 0.9985, p5: 0.99, min: f64::NAN });
        assert_eq!(bad.failures(&promise).len(), 2, "{:?}", bad.failures(&promise));
        let parts: Vec<(&str, bool)> =
            bad.judge(&promise).iter().map(|kept| (kept.part, kept.broken.is_empty())).collect();
        assert_eq!(parts, [("dense vectors", false), ("ColBERT rows", true), ("lexical weights", true)]);
        let tight = Promise { lexical_error: 0.005, colbert_p5: 1.5, ..promise };
        assert_eq!(good.failures(&tight).len(), 2);
    }
}
