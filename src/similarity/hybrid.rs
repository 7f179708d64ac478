//! The five scores of two embeddings: one for each representation, and two weighted means of them.

use std::fmt;

use super::{colbert, cosine, lexical};
use crate::embedding::Embedding;

/// The weights of the three scores in a mix, FlagEmbedding's `weights_for_different_modes`.
///
/// ```
/// use trivec::similarity::ScoreWeights;
///
/// assert!(ScoreWeights::new(1.0, 0.3, 1.0).is_ok());
/// let error = ScoreWeights::new(1.0, -0.3, 1.0).unwrap_err();
/// assert_eq!(error.to_string(), "the weight of sparse is -0.3: expected a number from 0 to 1e30");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreWeights {
    dense: f32,
    sparse: f32,
    colbert: f32,
}

/// Why three numbers cannot be weights.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightsError {
    /// This many weights were given; there must be three: dense, sparse, ColBERT.
    Count(usize),
    /// A weight is not a number from 0 to [`MOST_WEIGHT`].
    Value {
        /// `dense`, `sparse` or `colbert`.
        mode: &'static str,
        /// The number that was given.
        found: f32,
    },
    /// All three are 0.
    AllZero,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightsError::Count(found) => write!(f, "expected three weights (dense, sparse, colbert), found {found}"),
            WeightsError::Value { mode, found } => {
                // Far from 1, digits and zeros would be counted.
                let is_plain = !found.is_finite() || *found == 0.0 || (1e-6..1e9).contains(&found.abs());
                let found = if is_plain { found.to_string() } else { format!("{found:e}") };
                write!(f, "the weight of {mode} is {found}: expected a number from 0 to {MOST_WEIGHT:e}")
            }
            WeightsError::AllZero => write!(f, "all three weights are 0: at least one must be above"),
        }
    }
}

impl std::error::Error for WeightsError {}

/// The largest weight that is allowed. With it, the weighted sum of three scores of up to 1e8 is still finite in f32.
pub const MOST_WEIGHT: f64 = 1e30;

impl ScoreWeights {
    /// Checks weights that are given in FlagEmbedding's order: dense, sparse, ColBERT.
    ///
    /// # Errors
    /// [`WeightsError::Value`] for a weight that is not a number from 0 to [`MOST_WEIGHT`]; [`WeightsError::AllZero`] if all three are 0.
    pub fn new(dense: f32, sparse: f32, colbert: f32) -> Result<Self, WeightsError> {
        for (mode, found) in [("dense", dense), ("sparse", sparse), ("colbert", colbert)] {
            // As f32, which has a number a little above 1e30 for it.
            if !(0.0..=MOST_WEIGHT as f32).contains(&found) {
                return Err(WeightsError::Value { mode, found });
            }
        }
        if dense == 0.0 && sparse == 0.0 && colbert == 0.0 {
            return Err(WeightsError::AllZero);
        }
        Ok(ScoreWeights { dense, sparse, colbert })
    }

    /// Checks a list of exactly three weights, in the order of [`ScoreWeights::new`].
    ///
    /// # Errors
    /// [`WeightsError::Count`] for a list of another length; otherwise as [`ScoreWeights::new`].
    pub fn from_slice(weights: &[f32]) -> Result<Self, WeightsError> {
        match *weights {
            [dense, sparse, colbert] => Self::new(dense, sparse, colbert),
            _ => Err(WeightsError::Count(weights.len())),
        }
    }
}

impl Default for ScoreWeights {
    /// FlagEmbedding's default: 1, 1, 1.
    fn default() -> Self {
        ScoreWeights { dense: 1.0, sparse: 1.0, colbert: 1.0 }
    }
}

/// The five scores of FlagEmbedding's `compute_score`. A score is `None` if an embedding lacks a part that it needs, or if it is a mix and the
/// weights of its parts add up to 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// ColBERT MaxSim.
    pub colbert: Option<f32>,
    /// Lexical matching.
    pub sparse: Option<f32>,
    /// Dense cosine: FlagEmbedding's dot product of normalised vectors, and the same scale for models that do not normalise.
    pub dense: Option<f32>,
    /// `(w_s·sparse + w_d·dense) / (w_s + w_d)`.
    pub sparse_dense: Option<f32>,
    /// `(w_c·colbert + w_s·sparse + w_d·dense) / (w_c + w_s + w_d)`.
    pub colbert_sparse_dense: Option<f32>,
}

impl Scores {
    /// The scores under FlagEmbedding's names, in its order.
    pub fn named(&self) -> [(&'static str, Option<f32>); 5] {
        [
            ("colbert", self.colbert),
            ("sparse", self.sparse),
            ("dense", self.dense),
            ("sparse+dense", self.sparse_dense),
            ("colbert+sparse+dense", self.colbert_sparse_dense),
        ]
    }

    /// The dense cosine in percent.
    pub fn percent(&self) -> Option<f64> {
        self.dense.map(|cosine| f64::from(cosine) * 100.0)
    }

    /// The name of the first score that is NaN or infinite. Embeddings that hold such values, sums that overflow, and vectors of different
    /// lengths give such scores. `None` if all scores that are defined are finite.
    pub fn not_finite(&self) -> Option<&'static str> {
        self.named().into_iter().find(|(_, score)| score.is_some_and(|score| !score.is_finite())).map(|(name, _)| name)
    }
}

/// All scores that the parts of `query` and `document` allow. Where an embedding holds NaN or infinity, its scores are NaN or infinite:
/// [`Scores::not_finite`] finds them. ([`Model::encode`](crate::Model::encode) never returns such an embedding.)
///
/// ```
/// # #[cfg(feature = "starter")]
/// # fn main() -> trivec::Result<()> {
/// use trivec::similarity::{ScoreWeights, score};
///
/// let model = trivec::Model::starter()?;
/// let options = trivec::EncodeOptions { modes: trivec::Modes::ALL, ..Default::default() };
/// let texts = model.encode(&["a green tea", "ein grüner Tee"], &options)?;
/// let scores = score(&texts[0], &texts[1], &ScoreWeights::new(1.0, 0.3, 1.0).unwrap());
/// for (name, value) in scores.named() {
///     println!("{name}: {value:?}");
/// }
/// assert!(scores.dense.unwrap() > 0.5 && scores.colbert_sparse_dense.is_some());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "starter"))]
/// # fn main() {}
/// ```
pub fn score(query: &Embedding, document: &Embedding, weights: &ScoreWeights) -> Scores {
    let of = |x: Option<f32>, weight: f32| x.map(|x| (f64::from(x), f64::from(weight)));
    let dense = query.dense.as_deref().zip(document.dense.as_deref()).map(|(q, d)| cosine(q, d));
    let sparse = query.lexical.as_ref().zip(document.lexical.as_ref()).map(|(q, d)| lexical(q, d));
    let colbert = query.colbert.as_ref().zip(document.colbert.as_ref()).map(|(q, d)| colbert(q, d));
    let (d, s, c) = (of(dense, weights.dense), of(sparse, weights.sparse), of(colbert, weights.colbert));
    Scores { colbert, sparse, dense, sparse_dense: mix(&[s, d]), colbert_sparse_dense: mix(&[c, s, d]) }
}

/// Weighted mean of `(value, weight)` parts; undefined if a part is missing or the weights add up to 0.
fn mix(parts: &[Option<(f64, f64)>]) -> Option<f32> {
    let parts: Vec<(f64, f64)> = parts.iter().copied().collect::<Option<_>>()?;
    let total: f64 = parts.iter().map(|(_, weight)| weight).sum();
    (total > 0.0).then(|| (parts.iter().map(|(value, weight)| value * weight).sum::<f64>() / total) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{LexicalWeights, TokenVectors};

    fn embedding(dense: [f32; 2], sparse: &[(u32, f32)], colbert: &[f32]) -> Embedding {
        Embedding {
            dense: Some(dense.to_vec()),
            lexical: Some(LexicalWeights::from_pairs(sparse.to_vec())),
            colbert: Some(TokenVectors::new(colbert.to_vec(), 2)),
            tokens: 2,
            truncated: false,
        }
    }

    #[test]
    fn mixes_like_the_reference() {
        let q = embedding([1.0, 0.0], &[(7, 0.5)], &[1.0, 0.0]);
        let d = embedding([0.6, 0.8], &[(7, 0.4)], &[0.8, 0.6]);
        let weights = ScoreWeights::new(0.4, 0.2, 0.4).unwrap();
        let scores = score(&q, &d, &weights);
        let close = |x: Option<f32>, y: f32| assert!((x.unwrap() - y).abs() < 1e-6, "{x:?} is not {y}");
        close(scores.dense, 0.6);
        close(scores.sparse, 0.2);
        close(scores.colbert, 0.8);
        close(scores.sparse_dense, (0.2 * 0.2 + 0.4 * 0.6) / 0.6);
        close(scores.colbert_sparse_dense, 0.4 * 0.8 + 0.2 * 0.2 + 0.4 * 0.6);
    }

    #[test]
    fn the_first_score_that_is_not_finite_is_named() {
        let good = embedding([1.0, 0.0], &[(7, 0.5)], &[1.0, 0.0]);
        let zero_weights = [ScoreWeights::default(), ScoreWeights::new(1.0, 0.0, 0.0).unwrap()];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            // A lexical weight of minus infinity would be dropped, because weights are above zero.
            let sparse = if bad == f32::NEG_INFINITY { f32::INFINITY } else { bad };
            for (name, broken) in [
                ("dense", embedding([bad, 0.0], &[(7, 0.5)], &[1.0, 0.0])),
                ("dense", embedding([0.0, bad], &[(7, 0.5)], &[1.0, 0.0])),
                ("sparse", embedding([1.0, 0.0], &[(7, sparse)], &[1.0, 0.0])),
                ("sparse", embedding([1.0, 0.0], &[(8, sparse)], &[1.0, 0.0])),
                ("colbert", embedding([1.0, 0.0], &[(7, 0.5)], &[bad, 0.0])),
            ] {
                for weights in &zero_weights {
                    for scores in [score(&good, &broken, weights), score(&broken, &good, weights)] {
                        let found = scores.not_finite();
                        assert_eq!(found, Some(name), "{bad}: {scores:?}");
                    }
                }
            }
        }
        let large = embedding([1.0, 0.0], &[(7, 1e30)], &[1.0, 0.0]);
        assert_eq!(score(&large, &large, &ScoreWeights::default()).not_finite(), Some("sparse"));
        assert_eq!(score(&good, &good, &ScoreWeights::default()).not_finite(), None);
    }

    #[test]
    fn undefined_mix_is_none_and_weights_are_checked() {
        let e = embedding([1.0, 0.0], &[(7, 0.5)], &[1.0, 0.0]);
        let scores = score(&e, &e, &ScoreWeights::new(0.0, 0.0, 1.0).unwrap());
        assert_eq!(scores.sparse_dense, None);
        assert!(scores.colbert_sparse_dense.is_some());
        let no_colbert = Embedding { colbert: None, ..e.clone() };
        let scores = score(&e, &no_colbert, &ScoreWeights::default());
        assert!(scores.sparse_dense.is_some() && scores.colbert_sparse_dense.is_none() && scores.colbert.is_none());

        assert_eq!(ScoreWeights::new(0.0, 0.0, 0.0), Err(WeightsError::AllZero));
        assert_eq!(ScoreWeights::from_slice(&[1.0, 1.0]), Err(WeightsError::Count(2)));
        let next = f32::from_bits((MOST_WEIGHT as f32).to_bits() + 1);
        for (bad, shown) in [
            (-1.0, "is -1:"),
            (f32::NAN, "is NaN:"),
            (f32::INFINITY, "is inf:"),
            (1e31, "is 1e31:"),
            (-1e20, "is -1e20:"),
            (next, "is 1.0000001e30:"),
            (f32::MAX, "is 3.4028235e38:"),
            (-f32::MIN_POSITIVE, "is -1.1754944e-38:"),
        ] {
            let error = ScoreWeights::new(1.0, bad, 1.0).unwrap_err();
            assert!(matches!(error, WeightsError::Value { mode: "sparse", .. }));
            assert!(error.to_string().contains(&format!("sparse {shown} expected a number from 0 to 1e30")), "{error}");
        }
        // The limit itself and everything below can be computed with.
        for fine in [MOST_WEIGHT as f32, 1e29, 0.0, -0.0, f32::MIN_POSITIVE, 1e-45] {
            for weights in [[fine, 1.0, 1.0], [1.0, fine, 1.0], [1.0, 1.0, fine], [1.0, fine, fine]] {
                assert_eq!(
                    score(&e, &e, &ScoreWeights::from_slice(&weights).unwrap()).not_finite(),
                    None,
                    "{weights:?}"
                );
            }
        }
        let most = ScoreWeights::from_slice(&[MOST_WEIGHT as f32; 3]).unwrap();
        assert_eq!(score(&e, &e, &most).not_finite(), None);
    }
}
