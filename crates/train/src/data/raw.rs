//! Pairs as they were read from files, before they are checked and grouped.

use sha2::{Digest, Sha256};

/// A query and a passage as they were read, with what the data says about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawPair {
    /// The query.
    pub query: String,
    /// The passage that answers it.
    pub passage: String,
    /// Passages that do not answer it.
    pub negatives: Vec<String>,
    /// A name that pairs about the same thing share.
    pub group: Option<String>,
    /// The score that another model gives the passage.
    pub score: Option<f32>,
    /// The scores that the other model gives the negatives; empty, or one for each.
    pub negative_scores: Vec<f32>,
}

/// The pairs of one or more files, as they were read.
#[derive(Debug, Clone, Default)]
pub struct RawPairs {
    /// The pairs.
    pub pairs: Vec<RawPair>,
    /// Passages that belong to no pair, as a BEIR corpus has them: they are ranked in evaluations, and can be mined as hard negatives.
    pub others: Vec<String>,
    /// SHA-256 of what was read, in hexadecimal digits.
    pub digest: String,
    /// How many of the pairs were made from documents without labels.
    pub unlabelled: usize,
}

impl RawPairs {
    /// Adds the pairs of another file, and makes one digest of both digests.
    pub fn extend(&mut self, other: RawPairs) {
        self.digest = match self.digest.is_empty() {
            true => other.digest,
            false => hex(&Sha256::digest(format!("{} {}", self.digest, other.digest))),
        };
        self.pairs.extend(other.pairs);
        self.others.extend(other.others);
        self.unlabelled += other.unlabelled;
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
