//! The explanation of a score: both texts with their tokens, the pieces that they share, and how their ColBERT rows match.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{ScoreWeights, Scores, Thresholds, Verdict, score, shared, similarities};
use crate::embedding::Inspection;

/// The most numbers of an alignment matrix: 1,024 × 1,024 pairs of tokens. Larger alignments are left out.
pub const MOST_CELLS: usize = 1 << 20;

/// What makes two texts similar. As JSON it has the fields of `/v1/explain`, of `trivec explain --json` and of the page.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation<'a> {
    /// The five scores under FlagEmbedding's names.
    pub scores: Scores,
    /// The dense cosine in percent.
    pub percent: Option<f64>,
    /// The verdict on the dense cosine, as a word in JSON; unclear if there is no dense score.
    #[serde(serialize_with = "as_word")]
    pub verdict: Verdict,
    /// The first text.
    pub a: ExplainedText<'a>,
    /// The second text.
    pub b: ExplainedText<'a>,
    /// The tokens that both texts have, those that add most to the lexical score first. Empty without a sparse head.
    pub shared: Vec<SharedPiece<'a>>,
    /// The alignment of the ColBERT rows. `None` without a ColBERT head, or if there are more than [`MOST_CELLS`] pairs of rows.
    pub alignment: Option<RowAlignment>,
}

/// A text's tokens with their lexical weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedText<'a> {
    /// All tokens, `<s>` and `</s>` included.
    pub tokens: Vec<ExplainedToken<'a>>,
    /// Whether the text was cut.
    pub truncated: bool,
}

/// A token with its lexical weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExplainedToken<'a> {
    /// Its id.
    pub id: u32,
    /// Its piece of the vocabulary (`▁` marks the start of a word).
    pub piece: &'a str,
    /// Whether it is one of the model's special tokens.
    pub special: bool,
    /// Its weight before repeated ids are merged; `None` without a sparse head.
    pub weight: Option<f32>,
}

/// A token that both texts have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SharedPiece<'a> {
    /// Its id.
    pub id: u32,
    /// Its piece of the vocabulary.
    pub piece: &'a str,
    /// Its lexical weight in the first text.
    pub weight_a: f32,
    /// Its lexical weight in the second text.
    pub weight_b: f32,
    /// What it adds to the lexical score.
    pub product: f32,
}

/// The alignment of two texts' ColBERT rows. Row `i` belongs to token `i + 1`, because `<s>` has no row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowAlignment {
    /// The dot product of each row of the first text with each row of the second: `[rows of the first][rows of the second]`.
    pub matrix: Vec<Vec<f32>>,
    /// For each row of the first text the row of the second with the largest dot product; the first one if several have it.
    pub best: Vec<usize>,
    /// The ColBERT score: the mean of the best similarities.
    pub score: Option<f32>,
}

/// Explains the similarity of two texts, each given as what [`Model::inspect`](crate::Model::inspect) returned.
///
/// ```
/// # #[cfg(feature = "starter")]
/// # fn main() -> trivec::Result<()> {
/// use trivec::similarity::{ScoreWeights, Thresholds, explain};
/// use trivec::{EncodeOptions, Model};
///
/// let model = Model::starter()?;
/// let options = EncodeOptions::default();
/// let [a, b] = model.inspect_pair("a green tea", "green trees", [&options, &options])?;
/// let why = explain(&a, &b, &ScoreWeights::default(), &Thresholds::default());
/// assert!(why.shared.iter().any(|token| token.piece == "▁green"));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "starter"))]
/// # fn main() {}
/// ```
pub fn explain<'a>(
    a: &'a Inspection,
    b: &'a Inspection,
    weights: &ScoreWeights,
    thresholds: &Thresholds,
) -> Explanation<'a> {
    let scores = score(&a.embedding, &b.embedding, weights);
    Explanation {
        scores,
        percent: scores.percent(),
        verdict: thresholds.verdict(scores.dense.unwrap_or(f32::NAN)),
        a: ExplainedText::of(a),
        b: ExplainedText::of(b),
        shared: shared_pieces(a, b),
        alignment: row_alignment(a, b, &scores),
    }
}

impl<'a> ExplainedText<'a> {
    /// The tokens of an inspected text with their lexical weights.
    pub fn of(text: &'a Inspection) -> ExplainedText<'a> {
        let weights = text.token_weights.as_ref();
        let token = |(at, token): (usize, &'a crate::embedding::Token)| ExplainedToken {
            id: token.id,
            piece: &token.piece,
            special: token.special,
            weight: weights.map(|weights| weights[at]),
        };
        ExplainedText {
            tokens: text.tokens.iter().enumerate().map(token).collect(),
            truncated: text.embedding.truncated,
        }
    }
}

/// The tokens that both texts have, those that add most to the lexical score first.
pub fn shared_pieces<'a>(a: &'a Inspection, b: &Inspection) -> Vec<SharedPiece<'a>> {
    let (Some(left), Some(right)) = (&a.embedding.lexical, &b.embedding.lexical) else { return Vec::new() };
    let pieces: std::collections::HashMap<u32, &str> =
        a.tokens.iter().map(|token| (token.id, token.piece.as_str())).collect();
    let piece = |id: u32| pieces.get(&id).copied().unwrap_or_default();
    let mut tokens: Vec<SharedPiece<'_>> = shared(left, right)
        .iter()
        .map(|s| SharedPiece {
            id: s.id,
            piece: piece(s.id),
            weight_a: s.left,
            weight_b: s.right,
            product: s.product(),
        })
        .collect();
    // A stable sort: equal products stay in the order of their ids.
    tokens.sort_by(|x, y| y.product.total_cmp(&x.product));
    tokens
}

/// The alignment of the texts' ColBERT rows, with the ColBERT score of `scores`. `None` if a text has no ColBERT rows, or if there are more
/// than [`MOST_CELLS`] pairs of rows.
pub fn row_alignment(a: &Inspection, b: &Inspection, scores: &Scores) -> Option<RowAlignment> {
    let (a, b) = (a.embedding.colbert.as_ref()?, b.embedding.colbert.as_ref()?);
    if a.rows().checked_mul(b.rows())? > MOST_CELLS {
        return None;
    }
    let matrix = similarities(a, b);
    let best = |row: &Vec<f32>| (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best });
    let best = matrix.iter().map(best).collect();
    Some(RowAlignment { matrix, best, score: scores.colbert })
}

/// Writes the scores under FlagEmbedding's names; a score that is `None` is written as `null`.
impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = self.named();
        let mut map = serializer.serialize_map(Some(named.len()))?;
        for (name, value) in named {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

fn as_word<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Embedding, LexicalWeights, Token, TokenVectors};

    /// An inspected text with these token ids, a lexical weight for each, and these ColBERT rows of two values.
    fn text(ids: &[u32], weights: &[f32], rows: Vec<f32>) -> Inspection {
        let tokens = ids.iter().map(|&id| Token { id, piece: format!("p{id}"), special: id < 3 }).collect();
        let pairs = ids.iter().copied().zip(weights.iter().copied()).collect();
        let embedding = Embedding {
            dense: Some(vec![1.0, 0.0]),
            lexical: Some(LexicalWeights::from_pairs(pairs)),
            colbert: Some(TokenVectors::new(rows, 2)),
            tokens: ids.len(),
            truncated: false,
        };
        Inspection { tokens, token_weights: Some(weights.to_vec()), embedding }
    }

    #[test]
    fn shared_tokens_are_ordered_by_what_they_add() {
        let a = text(&[0, 7, 9, 2], &[0.0, 0.25, 0.5, 0.0], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        let b = text(&[0, 9, 7, 2], &[0.0, 1.0, 0.25, 0.0], vec![0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        let why = explain(&a, &b, &ScoreWeights::default(), &Thresholds::default());
        let shared: Vec<(&str, f32)> = why.shared.iter().map(|token| (token.piece, token.product)).collect();
        assert_eq!(shared, [("p9", 0.5), ("p7", 0.0625)]);
        assert_eq!(why.alignment.as_ref().unwrap().best, [1, 0, 1]);
        assert_eq!(why.alignment.as_ref().unwrap().score, why.scores.colbert);
        let json = serde_json::to_value(&why).unwrap();
        assert_eq!(json["scores"]["sparse"], 0.5625);
        assert_eq!(json["verdict"], why.verdict.as_str());
        assert_eq!(json["a"]["tokens"][1]["weight"], 0.25);
    }

    #[test]
    fn what_a_model_does_not_have_is_left_out() {
        let mut a = text(&[0, 2], &[0.0, 0.0], vec![1.0, 0.0]);
        let b = a.clone();
        a.embedding.colbert = None;
        a.embedding.lexical = None;
        a.token_weights = None;
        let why = explain(&a, &b, &ScoreWeights::default(), &Thresholds::default());
        assert!(why.shared.is_empty() && why.alignment.is_none() && why.scores.colbert.is_none());
        assert!(why.a.tokens.iter().all(|token| token.weight.is_none()));
    }
}
