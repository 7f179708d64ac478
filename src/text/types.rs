//! The words that the tokenizer's files share.

/// An array that is read in place: in a mapped file, in the binary, or in memory.
pub(crate) type Numbers<T> = std::sync::Arc<dyn AsRef<[T]> + Send + Sync>;

/// How `<s>`, `</s>`, `<mask>` … written out in a text are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpecialTokens {
    /// Text such as `<mask>` becomes the special token, as in the reference.
    #[default]
    Parse,
    /// Text such as `<mask>` is plain text, cut into ordinary pieces.
    Literal,
}

/// Fewest tokens of a pair: see [`Tokenizer::encode_pair`](super::Tokenizer::encode_pair).
pub(crate) const MIN_PAIR_TOKENS: usize = 17;

/// A text's token ids, or a pair's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    /// `<s>`, the text's tokens, `</s>`; of a pair `<s>`, the query's, `</s></s>`, the document's, `</s>`.
    pub ids: Vec<u32>,
    /// Whether the text had more tokens.
    pub truncated: bool,
}

/// The arrays, wherever they lie.
#[derive(Clone)]
pub(crate) struct CompiledArrays {
    /// The trie of the pieces.
    pub units: Numbers<u32>,
    /// `[pieces]`: log-probabilities.
    pub scores: Numbers<f64>,
    /// The pieces one after another, UTF-8.
    pub text: Numbers<u8>,
    /// `[pieces]`: where each ends in `text`.
    pub ends: Numbers<u32>,
    /// The normaliser's character map; empty without one.
    pub charsmap_units: Numbers<u32>,
    pub charsmap_text: Numbers<u8>,
}
