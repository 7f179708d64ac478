//! Cuts long documents into chunks between sentences.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use trivec::numbers::grouped;
use trivec::{EncodeOptions, Model, Prompt, Token};
use unicode_segmentation::UnicodeSegmentation;

use crate::document::Document;
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::sentences::{sentences, token_spans};

/// The smallest [`Chunking::tokens`].
const LEAST_TOKENS: usize = 8;

/// Sentences of more bytes than this are cut before their tokens are counted.
const LONG_SENTENCE: usize = 4 << 10;

/// How documents are cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    /// The largest number of tokens of a chunk's text. `<s>`, `</s>` and the tokens of the title, which each chunk has too, are not
    /// counted.
    pub tokens: usize,
    /// The largest number of tokens that a chunk repeats from the end of the chunk before, in whole sentences or parts of long ones.
    pub overlap: usize,
}

impl Chunking {
    /// Refuses a size below 8 tokens or above what the model reads, and an overlap of more than half of the size.
    ///
    /// # Errors
    /// [`Error::Option`] says what was found, and what is allowed.
    pub fn check(&self, model: &Model) -> Result<()> {
        let most = model.info().max_length - 2;
        if !(LEAST_TOKENS..=most).contains(&self.tokens) {
            return Err(Error::option(
                "chunk",
                format!("found {} tokens, expected {LEAST_TOKENS} to {}", grouped(self.tokens), grouped(most)),
            ));
        }
        if self.overlap * 2 > self.tokens {
            let what = format!(
                "found an overlap of {}, expected at most half of {} tokens",
                grouped(self.overlap),
                grouped(self.tokens)
            );
            return Err(Error::option("chunk", what));
        }
        Ok(())
    }
}

impl std::str::FromStr for Chunking {
    type Err = Error;

    /// Parses `512/64` as tokens and overlap, and `512` as tokens without overlap. [`check`](Self::check) is not called.
    fn from_str(text: &str) -> Result<Chunking> {
        let (tokens, overlap) = text.split_once('/').unwrap_or((text, "0"));
        match (tokens.trim().parse(), overlap.trim().parse()) {
            (Ok(tokens), Ok(overlap)) => Ok(Chunking { tokens, overlap }),
            _ => Err(Error::option(
                "chunk",
                format!("found `{}`, expected TOKENS/OVERLAP, as 512/64", text.escape_debug()),
            )),
        }
    }
}

/// The key of the chunk with this number, from 0 on, of the document `key`.
pub(super) fn chunk_key(key: &str, index: usize) -> String {
    format!("{key}#{index}")
}

/// Cuts a document into chunks. Each has the document's title, language and metadata, and the document's key in [`Document::document`]. A
/// document that fits into one chunk is one chunk.
///
/// # Errors
/// [`Error::Engine`] if the model cannot tokenise.
pub fn chunks(encoder: &Encoder<'_>, document: &Document, chunking: &Chunking) -> Result<Vec<Document>> {
    let text = &document.text;
    let parts = parts(encoder, text, chunking.tokens)?;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    // The chunk that is being made has the parts from `first` on.
    let (mut first, mut tokens) = (0, 0);
    for (index, (range, count)) in parts.iter().enumerate() {
        if tokens + count > chunking.tokens && index > first {
            ranges.push(parts[first].0.start..parts[index - 1].0.end);
            // Goes back over whole parts as far as the overlap allows, and leaves room for the next part.
            let (mut back, mut repeated) = (index, 0);
            while back > first + 1
                && repeated + parts[back - 1].1 <= chunking.overlap
                && repeated + parts[back - 1].1 + count <= chunking.tokens
            {
                back -= 1;
                repeated += parts[back].1;
            }
            (first, tokens) = (back, repeated);
        }
        tokens += count;
        if index + 1 == parts.len() {
            ranges.push(parts[first].0.start..range.end);
        }
    }
    if ranges.is_empty() {
        ranges.push(0..text.len());
    }
    let chunk = |(index, range): (usize, Range<usize>)| Document {
        key: chunk_key(&document.key, index),
        text: text[range].to_owned(),
        document: Some(document.key.clone()),
        ..document.clone()
    };
    Ok(ranges.into_iter().enumerate().map(chunk).collect())
}

/// The sentences of a text, and the parts of those that have more than `most` tokens, each with the number of its tokens.
fn parts(encoder: &Encoder<'_>, text: &str, most: usize) -> Result<Vec<(Range<usize>, usize)>> {
    let options = EncodeOptions { prompt: Prompt::Text(String::new()), max_length: None, ..encoder.document_options() };
    let tokens = |range: Range<usize>| -> Result<Vec<Token>> {
        let mut tokens = encoder.model().tokenize(&text[range], &options)?.tokens;
        // Without `<s>` and `</s>`.
        tokens.pop();
        tokens.drain(..tokens.len().min(1));
        Ok(tokens)
    };
    let mut parts = Vec::new();
    for sentence in sentences(text) {
        for piece in pieces(text, sentence) {
            let mut from = piece.start;
            while from < piece.end {
                let own = tokens(from..piece.end)?;
                if own.len() <= most {
                    parts.push((from..piece.end, own.len()));
                    break;
                }
                // Finds a beginning that has at most `most` tokens by itself: without the text after it, it may be cut into other tokens.
                let spans = token_spans(&text[from..piece.end], &own);
                let mut count = most;
                loop {
                    let at = from + spans[count].start;
                    // A word is kept whole, unless it is longer than a chunk.
                    let at = last_word_start(text, from..piece.end, at).unwrap_or(at);
                    if at <= from {
                        // No beginning fits: one character is split off, so that the loop makes progress.
                        let end = text[from..].chars().next().map_or(piece.end, |c| from + c.len_utf8());
                        parts.push((from..end, most));
                        from = end;
                        break;
                    }
                    let alone = tokens(from..at)?.len();
                    if alone <= most {
                        parts.push((from..at, alone));
                        from = at;
                        break;
                    }
                    count = count.saturating_sub(alone - most);
                }
            }
        }
    }
    Ok(parts)
}

/// The last byte position in a part of a text, after its beginning and not after `most`, at which a word begins.
fn last_word_start(text: &str, part: Range<usize>, most: usize) -> Option<usize> {
    let words = text[part.clone()].split_word_bound_indices();
    let starts = words.filter(|(_, word)| word.starts_with(char::is_alphanumeric)).map(|(at, _)| part.start + at);
    starts.take_while(|at| *at <= most).filter(|at| *at > part.start).last()
}

/// Cuts a sentence into pieces of at most [`LONG_SENTENCE`] bytes, at words if possible, so that counting the tokens of very long sentences
/// does not take too much time.
fn pieces(text: &str, sentence: Range<usize>) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut from = sentence.start;
    for (at, word) in text[sentence.clone()].split_word_bound_indices() {
        let end = sentence.start + at + word.len();
        if end - from > LONG_SENTENCE && sentence.start + at > from {
            pieces.push(from..sentence.start + at);
            from = sentence.start + at;
        }
        // A word alone that is too long is cut at characters.
        while end - from > LONG_SENTENCE {
            let mut cut = from + LONG_SENTENCE;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            pieces.push(from..cut);
            from = cut;
        }
    }
    if from < sentence.end {
        pieces.push(from..sentence.end);
    }
    pieces
}
