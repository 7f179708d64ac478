//! The output types: an [`Embedding`] for each text, with the parts that were asked for, and a [`Reranked`] for each pair that a reranker
//! scored.

use std::fmt;
use std::str::FromStr;

/// Which of the three representations to compute.
///
/// ```
/// use trivec::Modes;
///
/// let modes: Modes = "dense,sparse".parse()?;
/// assert_eq!(modes, Modes::DENSE | Modes::SPARSE);
/// assert!(Modes::ALL.contains(modes) && !modes.contains(Modes::COLBERT));
/// assert_eq!(modes.to_string(), "dense,sparse");
/// # Ok::<(), trivec::ParseModesError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Modes {
    /// One vector per text, pooled and normalised.
    pub dense: bool,
    /// One weight per distinct token id (FlagEmbedding's `lexical_weights`).
    pub sparse: bool,
    /// One normalised vector per token after `<s>`.
    pub colbert: bool,
}

impl Modes {
    /// The dense vector alone.
    pub const DENSE: Modes = Modes { dense: true, sparse: false, colbert: false };
    /// The lexical weights alone.
    pub const SPARSE: Modes = Modes { dense: false, sparse: true, colbert: false };
    /// The ColBERT vectors alone.
    pub const COLBERT: Modes = Modes { dense: false, sparse: false, colbert: true };
    /// All three, from one forward pass.
    pub const ALL: Modes = Modes { dense: true, sparse: true, colbert: true };
}

impl Modes {
    /// No representation.
    pub const NONE: Modes = Modes { dense: false, sparse: false, colbert: false };

    /// Each mode alone, with its name, in the order of [`Modes::iter`].
    const SINGLE: [(Modes, &'static str); 3] =
        [(Modes::DENSE, "dense"), (Modes::SPARSE, "sparse"), (Modes::COLBERT, "colbert")];

    /// Whether every mode of `other` is set in `self`.
    pub fn contains(self, other: Modes) -> bool {
        self | other == self
    }

    /// Whether no mode is set.
    pub fn is_empty(self) -> bool {
        self == Modes::NONE
    }

    /// The modes that are set, each alone, in the order dense, sparse, ColBERT.
    pub fn iter(self) -> impl Iterator<Item = Modes> {
        Self::SINGLE.into_iter().map(|(mode, _)| mode).filter(move |&mode| self.contains(mode))
    }

    /// The names of the modes that are set, in the order of [`Modes::iter`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::SINGLE.into_iter().filter(move |&(mode, _)| self.contains(mode)).map(|(_, name)| name)
    }
}

/// The modes that are set in either of the two.
impl std::ops::BitOr for Modes {
    type Output = Modes;

    fn bitor(self, other: Modes) -> Modes {
        Modes {
            dense: self.dense | other.dense,
            sparse: self.sparse | other.sparse,
            colbert: self.colbert | other.colbert,
        }
    }
}

impl std::ops::BitOrAssign for Modes {
    fn bitor_assign(&mut self, other: Modes) {
        *self = *self | other;
    }
}

impl Default for Modes {
    /// FlagEmbedding's default: dense only.
    fn default() -> Self {
        Modes::DENSE
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        Ok(())
    }
}

/// The error for a list of modes that names an unknown mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseModesError(String);

impl fmt::Display for ParseModesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown mode `{}`: expected a comma-separated list of dense, sparse, colbert, or all", self.0)
    }
}

impl std::error::Error for ParseModesError {}

impl FromStr for Modes {
    type Err = ParseModesError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut modes = Modes::NONE;
        for name in s.split(',').map(str::trim) {
            modes |= match name {
                "dense" => Modes::DENSE,
                "sparse" | "lexical" => Modes::SPARSE,
                "colbert" => Modes::COLBERT,
                "all" => Modes::ALL,
                other => return Err(ParseModesError(other.to_owned())),
            };
        }
        Ok(modes)
    }
}

/// Everything computed for one text. A part that was not asked for is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `[dim]`: the pooled vector, cut to its first `dimensions` values if asked, then L2-normalised unless the options or the model's files
    /// say otherwise.
    pub dense: Option<Vec<f32>>,
    /// The weight of each token id that has one above zero.
    pub lexical: Option<LexicalWeights>,
    /// `[tokens - 1, dim]`: one row for every token after `<s>`, `</s>` included, L2-normalised unless `colbert_raw` was asked for.
    pub colbert: Option<TokenVectors>,
    /// Tokens that went through the model, `<s>` and `</s>` included.
    pub tokens: usize,
    /// Whether the text was longer and was cut to the maximum length.
    pub truncated: bool,
}

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its piece of the vocabulary (`▁` marks the start of a word).
    pub piece: String,
    /// Whether it is one of the model's special tokens (`<s>`, `<mask>` …).
    pub special: bool,
}

/// A text's tokens as the model sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens, `<s>` and `</s>` included.
    pub tokens: Vec<Token>,
    /// Whether the text was cut.
    pub truncated: bool,
}

/// An embedding with the tokens and the token weights that explain it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The tokens, `<s>` and `</s>` included. Row `i` of the ColBERT vectors belongs to token `i + 1`.
    pub tokens: Vec<Token>,
    /// Each token's lexical weight before repeated ids are merged and special ids dropped; `None` without a sparse head.
    pub token_weights: Option<Vec<f32>>,
    /// The embedding, with every part the model can give.
    pub embedding: Embedding,
}

/// How well one document answers the query.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reranked {
    /// Place of the document (or pair) in the call, from 0 on.
    pub index: usize,
    /// The model's raw output: any number, the larger the better. Its scale is the model's own.
    pub logit: f32,
    /// The logit's sigmoid, from 0 to 1, which ranks documents as the logit does; or the logit itself, where the model's files say so
    /// (`activation_fn`).
    pub score: f32,
    /// Tokens of the pair that went through the model, the four special ones included.
    pub tokens: usize,
    /// Whether query or document were longer and were cut.
    pub truncated: bool,
}

/// Lexical (sparse) weights: token ids in ascending order, each once, each with a weight above zero (or NaN).
///
/// ```
/// use trivec::LexicalWeights;
///
/// let weights = LexicalWeights::from_pairs(vec![(9, 0.5), (7, 0.25), (9, 0.125), (8, 0.0)]);
/// assert_eq!((weights.ids(), weights.weights()), (&[7, 9][..], &[0.25, 0.5][..]));
/// assert_eq!((weights.weight(9), weights.weight(8)), (0.5, 0.0));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LexicalWeights {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl LexicalWeights {
    /// Builds the weights from `(id, weight)` pairs in any order: repeated ids keep their largest weight
    /// (the reference's `scatter_reduce(amax)`), weights that are not above zero are dropped. A NaN is kept and counts as the largest
    /// weight, so that the fault that caused it shows.
    pub fn from_pairs(mut pairs: Vec<(u32, f32)>) -> Self {
        pairs.retain(|&(_, weight)| weight > 0.0 || weight.is_nan());
        pairs.iter_mut().filter(|(_, weight)| weight.is_nan()).for_each(|(_, weight)| *weight = f32::NAN);
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        pairs.dedup_by_key(|&mut (id, _)| id);
        let (ids, weights) = pairs.into_iter().unzip();
        LexicalWeights { ids, weights }
    }

    /// Token ids, ascending and unique.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Weights, in the order of [`LexicalWeights::ids`].
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// How many ids have a weight.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no id has a weight, as for an empty text.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The weight of `id`, or 0 where it has none.
    pub fn weight(&self, id: u32) -> f32 {
        self.ids.binary_search(&id).map_or(0.0, |at| self.weights[at])
    }

    /// `(id, weight)` pairs, ids ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, f32)> + '_ {
        self.ids.iter().copied().zip(self.weights.iter().copied())
    }
}

/// ColBERT vectors of one text: `[rows, dim]`, row-major.
///
/// ```
/// use trivec::TokenVectors;
///
/// let rows = TokenVectors::new(vec![1.0, 0.0, 0.6, 0.8], 2);
/// assert_eq!((rows.rows(), rows.dim(), rows.row(1)), (2, 2, &[0.6, 0.8][..]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TokenVectors {
    data: Vec<f32>,
    dim: usize,
}

impl TokenVectors {
    /// Wraps `data` as rows of `dim` values.
    ///
    /// # Panics
    /// If `dim` is 0 or `data` is not a whole number of rows.
    pub fn new(data: Vec<f32>, dim: usize) -> Self {
        assert!(dim > 0 && data.len().is_multiple_of(dim), "{} values are no rows of {dim}", data.len());
        TokenVectors { data, dim }
    }

    /// Number of vectors: one for each token of the text but `<s>`.
    pub fn rows(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Length of each vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Vector `index`, which belongs to token `index + 1` of the text.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.dim..][..self.dim]
    }

    /// The vectors in token order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> + '_ {
        self.data.chunks_exact(self.dim)
    }

    /// All values, `[rows, dim]` row-major.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// Returns all values, row by row, without copying them.
    pub fn into_values(self) -> Vec<f32> {
        self.data
    }
}
