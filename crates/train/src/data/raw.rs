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
    /// SHA-256 of what was read, in hexadecimal digits. By it a run is found again that was interrupted. If it is empty, [`PairSet::new`] and
    /// [`extend`](Self::extend) compute one from the pairs.
    ///
    /// [`PairSet::new`]: crate::PairSet::new
    pub digest: String,
    /// How many of the pairs were made from documents without labels.
    pub unlabelled: usize,
}

impl RawPairs {
    /// Adds the pairs of another file, and makes one digest of both digests.
    pub fn extend(&mut self, mut other: RawPairs) {
        self.complete_digest();
        other.complete_digest();
        self.digest = match self.digest.is_empty() {
            true => other.digest,
            false if other.digest.is_empty() => std::mem::take(&mut self.digest),
            false => hex(&Sha256::digest(format!("{} {}", self.digest, other.digest))),
        };
        self.pairs.extend(other.pairs);
        self.others.extend(other.others);
        self.unlabelled += other.unlabelled;
    }

    /// Makes the digest from the pairs and the other passages, if there are some and it is empty.
    pub(super) fn complete_digest(&mut self) {
        if !self.digest.is_empty() || (self.pairs.is_empty() && self.others.is_empty()) {
            return;
        }
        let mut hash = Sha256::new();
        for pair in &self.pairs {
            add_texts(&mut hash, [&pair.query, &pair.passage]);
            add_texts(&mut hash, &pair.negatives);
            add_texts(&mut hash, &pair.group);
            add_scores(&mut hash, pair.score.as_slice());
            add_scores(&mut hash, &pair.negative_scores);
        }
        add_texts(&mut hash, &self.others);
        self.digest = hex(&hash.finalize());
    }
}

/// Hashes a list of texts. Each begins with its length and the list ends with a mark that is no length, so that different lists differ.
fn add_texts<'a>(hash: &mut Sha256, texts: impl IntoIterator<Item = &'a String>) {
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(u64::MAX.to_le_bytes());
}

/// Hashes a list of scores, with their number before them.
fn add_scores(hash: &mut Sha256, scores: &[f32]) {
    hash.update((scores.len() as u64).to_le_bytes());
    scores.iter().for_each(|score| hash.update(score.to_le_bytes()));
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
