//! The scores between two embeddings, their explanation, and the verdict in a word.
//!
//! Formulas and names are FlagEmbedding's (`BGEM3FlagModel.compute_score`): see [`dense`], [`lexical`],
//! [`colbert`] and [`score`].

mod colbert;
mod dense;
mod explain;
mod hybrid;
mod lexical;
mod verdict;

pub use colbert::{Alignment, align, score as colbert, similarities};
pub use dense::{cosine, score as dense};
pub use explain::{
    ExplainedText, ExplainedToken, Explanation, MOST_CELLS, RowAlignment, SharedPiece, explain, row_alignment,
    shared_pieces,
};
pub use hybrid::{MOST_WEIGHT, ScoreWeights, Scores, WeightsError, score};
pub use lexical::{SharedToken, score as lexical, shared};
pub use verdict::{Thresholds, ThresholdsError, Verdict};
