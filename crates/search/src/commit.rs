//! The list of vector segments, which is stored in the payload of tantivy's commit. So text, filters, deletes and vectors become visible
//! together or not at all.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::segment::SegmentRecord;

/// The largest number of segments that a valid commit has.
const MAX_SEGMENTS: usize = 1 << 16;

/// The payload of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    /// The index it belongs to.
    pub uuid: String,
    /// How many commits the index has had, this one included.
    pub generation: u64,
    /// The number that the next document gets. No number is used twice.
    pub next_docno: u64,
    /// The id that the next segment gets.
    pub next_segment: u32,
    /// The languages by whose rules the words of documents were stemmed. Deleted documents keep theirs in the list.
    pub languages: BTreeSet<String>,
    pub segments: Vec<SegmentRecord>,
}

impl Commit {
    /// Reads the payload of the index `uuid`; a new index has none.
    pub fn read(path: &Path, payload: Option<&str>, uuid: &str) -> Result<Commit> {
        let Some(payload) = payload else { return Ok(Commit { uuid: uuid.to_owned(), ..Commit::default() }) };
        let commit: Commit =
            serde_json::from_str(payload).map_err(|e| Error::damaged(path, format!("the list of segments: {e}")))?;
        if commit.uuid != uuid {
            return Err(Error::damaged(
                path,
                format!("its text belongs to index {}, its settings to {uuid}", commit.uuid),
            ));
        }
        // Segments follow each other without overlap, in the order of their documents.
        let ordered = commit.segments.windows(2).all(|pair| pair[0].last < pair[1].first);
        let bounded = commit.segments.last().is_none_or(|last| last.last < commit.next_docno)
            && commit.segments.iter().all(|segment| segment.id < commit.next_segment && segment.first <= segment.last);
        let rows: u64 = commit.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.rows));
        if !ordered || !bounded || commit.segments.len() > MAX_SEGMENTS || rows > u64::from(u32::MAX) {
            return Err(Error::damaged(path, "the list of segments contradicts itself"));
        }
        Ok(commit)
    }

    pub fn to_payload(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::option("commit", e.to_string()))
    }
}
