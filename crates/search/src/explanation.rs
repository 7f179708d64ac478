//! The types that explain a hit: `explain.rs` makes them.

use serde::{Deserialize, Serialize};

/// What explains a hit, in addition to its ranks and scores ([`ArmScores`](crate::ArmScores)).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The query's words, and whether the document has each. The largest possible BM25 score, of which the
    /// [share](crate::ArmScores::share) is a part, is made of their `idf`s.
    pub words: Vec<WordMatch>,
    /// Pieces of the vocabulary that both have, the largest product first, at most 512: the products of all of them add up to the lexical
    /// score.
    pub pieces: Vec<PieceMatch>,
    /// For each token of the query (of the first 512) the token of the document that is nearest: the mean of the similarities of all tokens
    /// is the ColBERT score. Empty without stored ColBERT vectors.
    pub alignment: Vec<AlignedToken>,
    /// The sentence of the document that matches the query best, with what matched in it marked: the one with the tokens nearest to the
    /// query's by ColBERT vectors, or without these the one with most of the query's words. In a text that is longer than the index's
    /// maximum length, a sentence that has far more of the words is shown instead, if there is one.
    pub snippet: Vec<SnippetPart>,
    /// Whether text was left out before the snippet.
    pub more_before: bool,
    /// Whether the snippet ends before the text's end.
    pub more_after: bool,
}

impl Explanation {
    /// Only the snippet, without words, pieces and alignment.
    pub(crate) fn snippet_alone(self) -> Explanation {
        Explanation { words: Vec::new(), pieces: Vec::new(), alignment: Vec::new(), ..self }
    }
}

/// A word of the query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WordMatch {
    /// The word in lower case.
    pub word: String,
    /// Whether the document has it, in one of its forms.
    pub found: bool,
    /// Its inverse document frequency.
    pub idf: f32,
}

/// A piece of the vocabulary that query and document share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PieceMatch {
    /// The piece, `▁` marking a word's start.
    pub piece: String,
    /// Its weight in the query.
    pub query: f32,
    /// Its weight in the document.
    pub document: f32,
    /// The product: what it adds to the lexical score.
    pub product: f32,
}

/// A token of the query with the nearest one of the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlignedToken {
    /// The query's piece.
    pub query: String,
    /// The document's piece.
    pub document: String,
    /// The product of their vectors.
    pub similarity: f32,
    /// The number of the document's sentence that the document's piece stands in, from 0 on; `None` if it is in no sentence, as a special
    /// token.
    pub sentence: Option<usize>,
}

/// Why a part of a snippet is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// The part is a word of the query, in one of the word's forms.
    Word,
    /// The part's meaning is near to that of a token of the query.
    Meaning,
}

/// A part of a snippet. The parts, one after another, are the snippet's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnippetPart {
    /// The text.
    pub text: String,
    /// Why it is marked, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}
