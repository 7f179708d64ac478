//! The type of what an index has under a key: a whole document, or chunks.

use serde::{Deserialize, Serialize};

use crate::document::Document;

/// What an index has under a key ([`Reader::get`](crate::Reader::get)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kept {
    /// A whole document as it was given, or one chunk, whose own key was asked for.
    Document(Document),
    /// A document that was cut into chunks. The index does not have its text in one piece: chunks may repeat sentences of each other, and
    /// the white space between them is not stored.
    Chunks {
        /// The document's key.
        key: String,
        /// Its chunks in the order of their text.
        chunks: Vec<Document>,
    },
}

impl Kept {
    /// Puts the chunks of the document `key` in the order of their text. They come in the order in which they were added, in which a chunk
    /// that was replaced by itself comes last; so they are sorted by the numbers at the end of their keys.
    pub(crate) fn chunks(key: &str, mut chunks: Vec<Document>) -> Kept {
        chunks.sort_by_key(|chunk| number_of(&chunk.key, key));
        Kept::Chunks { key: key.to_owned(), chunks }
    }

    /// The document, or its chunks.
    pub fn entries(&self) -> &[Document] {
        match self {
            Kept::Document(document) => std::slice::from_ref(document),
            Kept::Chunks { chunks, .. } => chunks,
        }
    }
}

/// The number in a chunk's key, `KEY#NUMBER`; for other keys the largest number, so that they come last.
fn number_of(chunk: &str, key: &str) -> u64 {
    let number = chunk.strip_prefix(key).and_then(|rest| rest.strip_prefix('#')).map(str::parse);
    number.and_then(Result::ok).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_in_the_order_of_their_numbers() {
        let chunk = |key: &str| Document { document: Some("d".to_owned()), ..Document::new(key, "text") };
        let kept = Kept::chunks("d", ["d#10", "mine", "d#2", "other", "d#0"].map(chunk).to_vec());
        let keys: Vec<&str> = kept.entries().iter().map(|chunk| chunk.key.as_str()).collect();
        assert_eq!(keys, ["d#0", "d#2", "d#10", "mine", "other"]);
        let json = serde_json::to_string(&kept).unwrap();
        assert!(json.starts_with(r#"{"key":"d","chunks":[{"key":"d#0","text":"text","document":"d"}"#), "{json}");
        assert_eq!(serde_json::from_str::<Kept>(&json).unwrap(), kept);
        let whole = Kept::Document(Document::new("d", "text"));
        assert_eq!(serde_json::from_str::<Kept>(r#"{"key": "d", "text": "text"}"#).unwrap(), whole);
    }
}
