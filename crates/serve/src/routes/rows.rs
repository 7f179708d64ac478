//! Writes vectors into answers, as JSON, bytes or base64, a few ColBERT vectors at a time.

use std::ops::Range;

use base64::Engine;

use crate::answer::{self, Step, json};
use trivec::Embedding;

/// About how many values of ColBERT vectors are written at a time: some tens of kilobytes of JSON.
const VALUES_OF_A_PIECE: usize = 4096;

/// The steps that write texts with their ColBERT vectors (rows). Each step but a text's last has a multiple of three rows, and so of three
/// bytes, which base64 encodes without padding.
pub(super) fn steps(embeddings: &[Embedding]) -> impl Iterator<Item = Step> + Send + 'static {
    let rows = |e: &Embedding| e.colbert.as_ref().map_or(0, |rows| rows.rows());
    let dim = embeddings.iter().find_map(|e| e.colbert.as_ref()).map_or(1, |rows| rows.dim());
    let together = (VALUES_OF_A_PIECE / dim / 3 * 3).max(3);
    answer::steps(embeddings.iter().map(rows).collect(), together)
}

/// The values of a range of a text's ColBERT vectors.
fn values(embedding: &Embedding, range: Range<usize>) -> &[f32] {
    let of = |rows: &trivec::TokenVectors| (range.start * rows.dim(), range.end * rows.dim());
    embedding.colbert.as_ref().map_or(&[], |rows| {
        let (start, end) = of(rows);
        &rows.as_slice()[start..end]
    })
}

/// Appends a range of a text's ColBERT vectors as elements of a JSON list, each but the text's first after a comma.
pub(super) fn append_json(embedding: &Embedding, range: Range<usize>, out: &mut Vec<u8>) {
    let Some(rows) = &embedding.colbert else { return };
    for row in range {
        if row > 0 {
            out.push(b',');
        }
        json(out, &rows.row(row));
    }
}

/// Appends a range of a text's ColBERT vectors as little-endian f32.
pub(super) fn append_bytes(embedding: &Embedding, range: Range<usize>, out: &mut Vec<u8>) {
    append_f32(values(embedding, range), out);
}

/// Appends values as little-endian f32.
pub(super) fn append_f32(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|x| x.to_le_bytes()));
}

/// Appends a range of a text's ColBERT vectors as a part of one base64 text. Only the last part may have padding, which the ranges of
/// [`steps`] ensure.
pub(super) fn append_base64(embedding: &Embedding, range: Range<usize>, out: &mut Vec<u8>) {
    out.extend_from_slice(base64_of(values(embedding, range)).as_bytes());
}

/// Values as little-endian f32 in base64, as OpenAI's clients read them.
pub(super) fn base64_of(values: &[f32]) -> String {
    let mut bytes = Vec::with_capacity(4 * values.len());
    append_f32(values, &mut bytes);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
