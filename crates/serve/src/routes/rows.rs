//! Embeddings as text and bytes, a few rows at a time: what every answer with vectors is written by.

use std::ops::Range;

use base64::Engine;

use crate::answer::{self, Step, json};
use trivec::Embedding;

/// Values of the rows that are written at a time: some tens of kilobytes of JSON.
const VALUES_OF_A_PIECE: usize = 4096;

/// The steps that write the embeddings of texts with their ColBERT rows. Whole threes of rows: base64 takes three bytes at a time.
pub(super) fn steps(embeddings: &[Embedding]) -> impl Iterator<Item = Step> + Send + 'static {
    let rows = |e: &Embedding| e.colbert.as_ref().map_or(0, |rows| rows.rows());
    let dim = embeddings.iter().find_map(|e| e.colbert.as_ref()).map_or(1, |rows| rows.dim());
    let together = (VALUES_OF_A_PIECE / dim / 3 * 3).max(3);
    answer::steps(embeddings.iter().map(rows).collect(), together)
}

/// The values of a range of a text's ColBERT rows.
fn values(embedding: &Embedding, range: Range<usize>) -> &[f32] {
    let of = |rows: &trivec::TokenVectors| (range.start * rows.dim(), range.end * rows.dim());
    embedding.colbert.as_ref().map_or(&[], |rows| {
        let (start, end) = of(rows);
        &rows.as_slice()[start..end]
    })
}

/// ColBERT rows as elements of a JSON list, with the comma before each but the first.
pub(super) fn append_json(embedding: &Embedding, range: Range<usize>, out: &mut Vec<u8>) {
    let Some(rows) = &embedding.colbert else { return };
    for row in range {
        if row > 0 {
            out.push(b',');
        }
        json(out, &rows.row(row));
    }
}

/// ColBERT rows as little-endian f32.
pub(super) fn append_bytes(embedding: &Embedding, range: Range<usize>, out: &mut Vec<u8>) {
    append_f32(values(embedding, range), out);
}

/// Values as little-endian f32.
pub(super) fn append_f32(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|x| x.to_le_bytes()));
}

/// ColBERT rows as part of one base64 text: with the steps above, all but the last part have whole threes of bytes.
pub(super) fn append_base64(embedding: &Embedding, range: Range<usize>, out: &mut Vec<u8>) {
    out.extend_from_slice(base64_of(values(embedding, range)).as_bytes());
}

/// Little-endian f32 in base64, as OpenAI's clients read it.
pub(super) fn base64_of(values: &[f32]) -> String {
    let mut bytes = Vec::with_capacity(4 * values.len());
    append_f32(values, &mut bytes);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
