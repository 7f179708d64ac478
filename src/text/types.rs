//! The types that several files of the tokenizer share.

/// An array that is read in place: in a mapped file, in the binary, or in memory.
pub(crate) type Numbers<T> = std::sync::Arc<dyn AsRef<[T]> + Send + Sync>;

/// What `<s>`, `</s>`, `<mask>` … mean when they are written out in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpecialTokens {
    /// Text such as `<mask>` becomes the special token, as in the reference.
    #[default]
    Parse,
    /// Text such as `<mask>` is plain text, cut into ordinary pieces.
    Literal,
}

/// The smallest limit on the tokens of a pair: see [`Tokenizer::encode_pair`](super::Tokenizer::encode_pair).
pub(crate) const MIN_PAIR_TOKENS: usize = 17;

/// A text's token ids, or a pair's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    /// `<s>`, the text's tokens, `</s>`; of a pair `<s>`, the query's, `</s></s>`, the document's, `</s>`.
    pub ids: Vec<u32>,
    /// Whether the text, or one of the pair, had more tokens than are in `ids`.
    pub truncated: bool,
}

/// The arrays of a compiled tokenizer, which are used in place.
#[derive(Clone)]
pub(crate) struct CompiledArrays {
    /// The trie of the pieces.
    pub units: Numbers<u32>,
    /// `[pieces]`: log-probabilities.
    pub scores: Numbers<f64>,
    /// The pieces' text, one piece after another, UTF-8.
    pub text: Numbers<u8>,
    /// `[pieces]`: where each ends in `text`.
    pub ends: Numbers<u32>,
    /// The trie of the normaliser's character map, and its replacements; both empty if there is no map.
    pub charsmap_units: Numbers<u32>,
    pub charsmap_text: Numbers<u8>,
}
