//! Makes pairs from documents without labels: a document's title or first sentence becomes the query, and the rest its passage.

use std::path::Path;

use super::raw::{RawPair, RawPairs, hex};
use super::read::{object, records, text, title};
use crate::error::{Error, Result};

/// The fewest characters of a passage: a document with a shorter one, or of one sentence alone, gives no pair.
const LEAST_REST: usize = 20;
/// The longest first sentence, in characters: a longer one ends at its last space, or at this length if it has no space.
const LONGEST_FIRST: usize = 200;

/// Reads documents and makes a pair from each. The file has JSON objects with `text` and perhaps `title`, or plain lines, each of which is a
/// document's text. The query is the title, or without one the first sentence. Documents of which too little text would be left are skipped.
///
/// Such pairs teach less than questions that people asked; reports say how many pairs were made in this way.
///
/// # Errors
/// [`Error::Line`] names a line that is an object without `text`; [`Error::Io`].
pub fn read_documents(path: &Path) -> Result<RawPairs> {
    let mut pairs = Vec::new();
    let digest = records(path, |number, line| {
        let (heading, body) = if line.starts_with('{') {
            let wrong = |what: String| Error::line(path, number, what);
            let object = object(line).map_err(wrong)?;
            let body = text(&object, "text").map_err(wrong)?.ok_or_else(|| wrong("it has no `text`".to_owned()))?;
            let title = title(&object).map_err(wrong)?;
            (title.map(|title| title.trim().to_owned()), body.trim().to_owned())
        } else {
            (None, line.to_owned())
        };
        pairs.extend(pair(heading, &body));
        Ok(())
    })?;
    Ok(RawPairs { unlabelled: pairs.len(), pairs, digest: hex(&digest), ..RawPairs::default() })
}

/// The pair of one document; `None` if its passage has fewer than [`LEAST_REST`] characters, or if there is no title and no first sentence can be
/// split off.
fn pair(title: Option<String>, text: &str) -> Option<RawPair> {
    let (query, rest) = match title {
        Some(title) => (title, text.to_owned()),
        None => {
            let end = first_sentence(text)?;
            (text[..end].trim().to_owned(), text[end..].trim().to_owned())
        }
    };
    (rest.chars().count() >= LEAST_REST && !query.is_empty()).then(|| RawPair {
        query,
        passage: rest,
        ..RawPair::default()
    })
}

/// The byte at which the first sentence ends; `None` if no sentence ends within a text of at most [`LONGEST_FIRST`] characters.
fn first_sentence(text: &str) -> Option<usize> {
    let mut last_space = None;
    for (count, (at, c)) in text.char_indices().enumerate() {
        if count == LONGEST_FIRST {
            return if c.is_whitespace() { Some(at) } else { last_space.or(Some(at)) };
        }
        let end = at + c.len_utf8();
        let next_is_space = text[end..].chars().next().is_none_or(char::is_whitespace);
        if matches!(c, '。' | '！' | '？' | '।') || (matches!(c, '.' | '!' | '?' | '؟' | '…') && next_is_space)
        {
            return Some(end);
        }
        if c.is_whitespace() {
            last_space = Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_the_title_or_the_first_sentence_and_the_passage_is_the_rest() {
        let found = pair(None, "Version 1.2 came out. It has many new things in it.").unwrap();
        assert_eq!(
            (found.query.as_str(), found.passage.as_str()),
            ("Version 1.2 came out.", "It has many new things in it.")
        );
        let found = pair(None, "今天天气很好。我们去公园散步，看到了很多花，还喂了鸽子，玩得高兴。").unwrap();
        assert_eq!(found.query, "今天天气很好。");
        assert!(pair(None, "One sentence alone, without an end").is_none());
        assert!(pair(None, "Short. Rest.").is_none());
        let titled = pair(Some("Title".into()), "A text that is long enough.").unwrap();
        assert_eq!((titled.query.as_str(), titled.passage.as_str()), ("Title", "A text that is long enough."));
    }
}
