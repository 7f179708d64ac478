//! What an index has under a key.

use serde::{Deserialize, Serialize};

use crate::document::Document;

/// What an index has under a key ([`Reader::get`](crate::Reader::get)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kept {
    /// A document as it was given, or a chunk.
    Document(Document),
    /// A document that is there as chunks. The index does not have its text in one piece: chunks may repeat sentences of each other, and
    /// the white space between them is not kept.
    Chunks {
        /// The document's key.
        key: String,
        /// Its chunks in the order of their text.
        chunks: Vec<Document>,
    },
}

impl Kept {
    /// A document in chunks, which are in the order that they were added in. One that was replaced alone came later than the others: the
    /// numbers that end their keys say where each belongs.
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

/// The number of a chunk by its key, `KEY#NUMBER`; those with other keys come last.
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
