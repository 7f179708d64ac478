//! Explains why a hit was found. The library, the command line, the service and its page all show the [`Explanation`] that is made here.

use std::collections::BTreeSet;
use std::ops::Range;

use trivec::{Embedding, Token};

use crate::analyze;
use crate::document::Stored;
use crate::encode::Encoder;
use crate::error::Result;
use crate::explanation::{AlignedToken, Explanation, Mark, PieceMatch, SnippetPart, WordMatch};
use crate::query::bm25::Found;
use crate::query::fusion::Candidate;
use crate::query::lexical;
use crate::reader::Reader;
use crate::segment::colbert::Scratch;
use crate::sentences::{sentences, token_spans};

/// Longest snippet, in characters.
const SNIPPET_CHARS: usize = 320;

/// The largest number of shared pieces, and of aligned tokens, that an explanation lists.
const MOST: usize = 512;

/// The token of the document that is nearest to a token of the query: where it stands in the document's text, and how similar it is.
struct Nearest {
    span: Range<usize>,
    similarity: f32,
}

/// Explains a candidate of a ranking.
pub(crate) fn explain(
    reader: &Reader,
    encoder: &Encoder<'_>,
    query_text: &str,
    query: &Embedding,
    found: &Found,
    candidate: &Candidate,
    stored: &Stored,
) -> Result<Explanation> {
    let text = stored.document.searched_text();
    let own: BTreeSet<String> = analyze::document_terms(&text, &stored.analyzed).into_iter().collect();
    let word = |word: &crate::query::bm25::Weighed| WordMatch {
        word: word.word.word.clone(),
        found: word.word.terms.iter().any(|term| own.contains(term)),
        idf: word.idf,
    };
    let words = found.words.iter().map(word).collect();
    let pieces = match &query.lexical {
        Some(weights) => pieces(reader, encoder, weights, candidate.row)?,
        None => Vec::new(),
    };
    let borders = sentences(&text);
    let Aligned { alignment, nearest, is_cut } =
        alignment(reader, encoder, query_text, query, candidate.row, &text, &borders)?;
    let query_words: Vec<analyze::QueryWord> = found.words.iter().map(|word| word.word.clone()).collect();
    let idf: Vec<f32> = found.words.iter().map(|word| word.idf).collect();
    let occurrences = analyze::occurrences(&text, &stored.analyzed, &query_words);
    let best = best_sentence(&borders, &nearest, &information(&borders, &occurrences, &idf), is_cut);
    let mut explanation = Explanation { words, pieces, alignment, ..Explanation::default() };
    let rarest = rarest_word(&text, &best, &occurrences, &idf);
    mark(&mut explanation, &text, best, &analyze::joined(&occurrences), &rarest, &nearest);
    Ok(explanation)
}

/// The pieces of the vocabulary for which both the query and the document in `row` have a lexical weight: the [`MOST`] largest products.
fn pieces(
    reader: &Reader,
    encoder: &Encoder<'_>,
    weights: &trivec::LexicalWeights,
    row: usize,
) -> Result<Vec<PieceMatch>> {
    let shared = lexical::shared(reader, weights, row)?;
    let piece = |(id, query, document): (u32, f32, f32)| PieceMatch {
        piece: encoder.model().piece(id).unwrap_or_default().to_owned(),
        query,
        document,
        product: query * document,
    };
    let mut pieces: Vec<PieceMatch> = shared.into_iter().map(piece).collect();
    pieces.sort_by(|a, b| b.product.total_cmp(&a.product));
    pieces.truncate(MOST);
    Ok(pieces)
}

/// What the ColBERT vectors tell about a hit; empty if none are stored.
#[derive(Default)]
struct Aligned {
    alignment: Vec<AlignedToken>,
    nearest: Vec<Nearest>,
    /// Whether the model has read only the beginning of the document, so that no vector is of its end.
    is_cut: bool,
}

/// Finds the nearest token of the document in `row` for each of the query's first [`MOST`] tokens.
fn alignment(
    reader: &Reader,
    encoder: &Encoder<'_>,
    query_text: &str,
    query: &Embedding,
    row: usize,
    text: &str,
    borders: &[Range<usize>],
) -> Result<Aligned> {
    let rows = crate::query::query_rows(reader, query.colbert.as_ref())?;
    let (segment, local) = reader.place(row)?;
    let (Some(rows), Some(colbert)) = (rows, &segment.colbert) else { return Ok(Default::default()) };
    let best = colbert.align(&rows, local, &mut Scratch::default())?;
    let asked = tokens_of(encoder, query_text, &encoder.query_options())?.tokens;
    let Read { tokens, spans, is_cut } = tokens_of(encoder, text, &encoder.document_options())?;
    let (mut aligned, mut nearest) = (Vec::new(), Vec::new());
    // The first token, `<s>`, has no ColBERT vector: vector `i` is that of token `i + 1`.
    for (asked, best) in asked.iter().skip(1).zip(best).take(MOST) {
        let Some((token, span)) = tokens.get(best.row + 1).zip(spans.get(best.row + 1)) else { continue };
        let sentence = (!span.is_empty()).then(|| sentence_of(borders, span.start)).flatten();
        if !asked.special && sentence.is_some() {
            nearest.push(Nearest { span: span.clone(), similarity: best.similarity });
        }
        let (query, document) = (asked.piece.clone(), token.piece.clone());
        aligned.push(AlignedToken { query, document, similarity: best.similarity, sentence });
    }
    Ok(Aligned { alignment: aligned, nearest, is_cut })
}

/// The tokens of a text as the model reads it.
struct Read {
    tokens: Vec<Token>,
    /// Where each token stands in the text: byte ranges, empty for special tokens and for tokens of the prompt.
    spans: Vec<Range<usize>>,
    /// Whether the model reads only the beginning of the text.
    is_cut: bool,
}

/// Tokenizes a text with its prompt, as the model does before it embeds it with these options.
fn tokens_of(encoder: &Encoder<'_>, text: &str, options: &trivec::EncodeOptions) -> Result<Read> {
    let model = encoder.model();
    let trivec::Tokens { tokens, truncated } = model.tokenize(text, options)?;
    let prompt = model.prompt_text(&options.prompt)?;
    let spans = token_spans(&format!("{prompt}{text}"), &tokens);
    let in_text = |span: Range<usize>| span.start.saturating_sub(prompt.len())..span.end.saturating_sub(prompt.len());
    let spans = spans.into_iter().map(in_text).collect();
    Ok(Read { tokens, spans, is_cut: truncated })
}

/// The number of the sentence that byte `at` is in; `None` if it is between sentences.
fn sentence_of(borders: &[Range<usize>], at: usize) -> Option<usize> {
    let index = borders.partition_point(|range| range.end <= at);
    borders.get(index).filter(|range| range.start <= at).map(|_| index)
}

/// For every sentence, the sum of the inverse document frequencies of the query's words that it has, each word counted once.
fn information(borders: &[Range<usize>], occurrences: &[analyze::Occurrence], idf: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; borders.len()];
    let mut seen = BTreeSet::new();
    for occurrence in occurrences {
        let Some(sentence) = sentence_of(borders, occurrence.range.start) else { continue };
        for &word in &occurrence.words {
            if seen.insert((sentence, word)) {
                sums[sentence] += idf.get(word).copied().unwrap_or(0.0);
            }
        }
    }
    sums
}

/// The sentence that is shown for a hit: the one with the largest sum of similarities over `nearest`, the tokens nearest to the query's;
/// without ColBERT vectors, the one with the largest number in `words`, which [`information`] gives. If the model has not read the end of
/// the text (`is_cut`), no vector is of the end; so the sentence with the largest number is shown instead of the nearest one if its number
/// is more than twice as large.
fn best_sentence(borders: &[Range<usize>], nearest: &[Nearest], words: &[f32], is_cut: bool) -> Range<usize> {
    let mut meaning = vec![0.0; borders.len()];
    for token in nearest {
        if let Some(index) = sentence_of(borders, token.span.start) {
            meaning[index] += token.similarity.max(0.0);
        }
    }
    let by_words = first_of_largest(words);
    let best = match nearest.is_empty() {
        true => by_words,
        false => first_of_largest(&meaning),
    };
    let of = |index: usize| words.get(index).copied().unwrap_or(0.0);
    let best = if is_cut && of(best) * 2.0 < of(by_words) { by_words } else { best };
    borders.get(best).cloned().unwrap_or(0..0)
}

/// The index of the largest number; of equal ones the first.
fn first_of_largest(numbers: &[f32]) -> usize {
    let largest =
        |best: (usize, f32), (place, &number): (usize, &f32)| if number > best.1 { (place, number) } else { best };
    numbers.iter().enumerate().fold((0, f32::NEG_INFINITY), largest).0
}

/// Where the rarest of the query's words in a sentence stands in it: byte positions, first the one around which a snippet has the largest
/// sum of inverse document frequencies. Empty if the sentence is so short that it is shown whole.
fn rarest_word(text: &str, sentence: &Range<usize>, occurrences: &[analyze::Occurrence], idf: &[f32]) -> Vec<usize> {
    if text[sentence.clone()].chars().count() <= SNIPPET_CHARS {
        return Vec::new();
    }
    let of = |word: usize| idf.get(word).copied().unwrap_or(0.0);
    let inside: Vec<&analyze::Occurrence> =
        occurrences.iter().filter(|occurrence| sentence.contains(&occurrence.range.start)).collect();
    let words: BTreeSet<usize> = inside.iter().flat_map(|occurrence| occurrence.words.iter().copied()).collect();
    let Some(rarest) = words.into_iter().max_by(|&a, &b| of(a).total_cmp(&of(b)).then(b.cmp(&a))) else {
        return Vec::new();
    };
    let own = inside.iter().filter(|occurrence| occurrence.words.contains(&rarest));
    let mut places: Vec<usize> = own.map(|occurrence| occurrence.range.start).take(MOST_PLACES).collect();
    let around = |at: usize| -> f32 {
        let shown = window(text, sentence.clone(), std::iter::once(at));
        let seen = inside.iter().filter(|occurrence| shown.contains(&occurrence.range.start));
        let words: BTreeSet<usize> = seen.flat_map(|occurrence| occurrence.words.iter().copied()).collect();
        words.into_iter().map(of).sum()
    };
    let best = first_of_largest(&places.iter().map(|&at| around(at)).collect::<Vec<f32>>());
    if best < places.len() {
        places[..=best].rotate_right(1);
    }
    places
}

/// The largest number of a word's positions that are compared.
const MOST_PLACES: usize = 100;

/// Cuts the snippet out of the sentence and marks in it the query's words, and the tokens whose similarity is not below the mean of
/// `nearest`. `rarest` is what [`rarest_word`] gives.
fn mark(
    explanation: &mut Explanation,
    text: &str,
    sentence: Range<usize>,
    words: &[Range<usize>],
    rarest: &[usize],
    nearest: &[Nearest],
) {
    let mean = nearest.iter().map(|token| token.similarity).sum::<f32>() / nearest.len().max(1) as f32;
    let mut marks: Vec<(Range<usize>, Mark)> = words.iter().map(|range| (range.clone(), Mark::Word)).collect();
    let near = nearest.iter().filter(|token| token.similarity >= mean);
    marks.extend(near.map(|token| (token.span.clone(), Mark::Meaning)));
    // At the same position, marks of words come before marks of meaning.
    marks.sort_by_key(|(range, mark)| (range.start, *mark == Mark::Meaning));
    let starts = |wanted: Option<Mark>| {
        let own = marks.iter().filter(move |(_, mark)| wanted.is_none_or(|wanted| *mark == wanted));
        own.map(|(range, _)| range.start)
    };
    let mut window = window(text, sentence.clone(), starts(None));
    // If the sentence is cut and has words of the query, the part with the rarest of them is shown.
    if let Some(&first) = rarest.first()
        && !rarest.iter().any(|at| window.contains(at))
    {
        window = self::window(text, sentence, std::iter::once(first));
    }
    let mut at = window.start;
    let mut push = |range: Range<usize>, mark: Option<Mark>| {
        if !range.is_empty() {
            explanation.snippet.push(SnippetPart { text: text[range].to_owned(), mark });
        }
    };
    for (range, mark) in marks {
        let (start, end) = (range.start.max(at), range.end.min(window.end));
        if start < end {
            push(at..start, None);
            push(start..end, Some(mark));
            at = end;
        }
    }
    push(at..window.end, None);
    explanation.more_before = !text[..window.start].trim().is_empty();
    explanation.more_after = !text[window.end..].trim().is_empty();
}

/// The part of a sentence that is shown: all of it, or [`SNIPPET_CHARS`] characters, of which a quarter stand before its first mark.
fn window(text: &str, sentence: Range<usize>, mut marks: impl Iterator<Item = usize>) -> Range<usize> {
    let within = &text[sentence.clone()];
    if within.chars().count() <= SNIPPET_CHARS {
        return sentence;
    }
    let first = marks.find(|at| sentence.contains(at)).unwrap_or(sentence.start);
    // The part begins at a border of grapheme clusters, so that no accent is cut off its letter.
    let before = text[sentence.start..first].char_indices().rev().nth(SNIPPET_CHARS / 4);
    let start = before.map_or(sentence.start, |(at, _)| analyze::character_start(text, sentence.start + at));
    let end = text[start..sentence.end].char_indices().nth(SNIPPET_CHARS).map_or(sentence.end, |(at, _)| start + at);
    // A grapheme cluster that is longer than a snippet is cut.
    let whole = analyze::character_start(text, end);
    start..if whole > start { whole } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_are_the_text_with_marks() {
        let text = "First sentence. The red shoes are here. Last.";
        let sentence = 16..39;
        let mut explanation = Explanation::default();
        let nearest = [Nearest { span: 24..29, similarity: 0.9 }, Nearest { span: 20..23, similarity: 0.1 }];
        mark(&mut explanation, text, sentence.clone(), std::slice::from_ref(&(20..23)), &[], &nearest);
        let parts: Vec<(&str, Option<Mark>)> =
            explanation.snippet.iter().map(|part| (part.text.as_str(), part.mark)).collect();
        assert_eq!(
            parts,
            [
                ("The ", None),
                ("red", Some(Mark::Word)),
                (" ", None),
                ("shoes", Some(Mark::Meaning)),
                (" are here.", None)
            ]
        );
        assert!(explanation.more_before && explanation.more_after);
        let whole: String = explanation.snippet.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(whole, text[sentence]);
    }

    #[test]
    fn a_sentence_with_far_more_of_the_words_is_shown_if_the_model_has_not_read_the_end() {
        let borders = [0..10, 10..20, 20..30];
        let nearest = [Nearest { span: 2..4, similarity: 0.9 }, Nearest { span: 12..14, similarity: 0.8 }];
        let best = |words: [f32; 3], is_cut| best_sentence(&borders, &nearest, &words, is_cut);
        assert_eq!(best([0.0, 0.0, 3.0], true), borders[2]);
        assert_eq!(best([0.0, 0.0, 3.0], false), borders[0], "the model has read all of it");
        assert_eq!(best([1.0, 0.0, 3.0], true), borders[2], "a common word is there as well");
        assert_eq!(best([2.0, 0.0, 3.0], true), borders[0]);
        assert_eq!(best([0.0; 3], true), borders[0], "in another language");
        assert_eq!(best_sentence(&borders, &[], &[0.0, 1.0, 1.0], false), borders[1]);
        assert_eq!(best_sentence(&[], &[], &[], true), 0..0);
    }

    #[test]
    fn a_long_sentence_is_cut_around_its_word_and_not_around_its_nearest_token() {
        let text = format!("near {}word", "x ".repeat(1_000));
        let (near, word) = (0..4, text.len() - 4..text.len());
        let rarest = [word.start];
        let mut explanation = Explanation::default();
        let nearest = [Nearest { span: near, similarity: 0.9 }];
        mark(&mut explanation, &text, 0..text.len(), std::slice::from_ref(&word), &rarest, &nearest);
        assert!(explanation.snippet.iter().any(|part| part.mark == Some(Mark::Word)), "{explanation:?}");
        assert!(explanation.more_before && !explanation.more_after);
    }

    #[test]
    fn a_long_sentence_is_cut_around_the_rarest_word() {
        let text = format!("the cat {}the quarantine {}the worker quarantine", "x ".repeat(1_000), "y ".repeat(1_000));
        let mut found: Vec<(Range<usize>, usize)> = Vec::new();
        for (word, of) in ["the", "worker", "quarantine"].into_iter().enumerate() {
            found.extend(text.match_indices(of).map(|(at, of)| (at..at + of.len(), word)));
        }
        found.sort_by_key(|(range, _)| range.start);
        let occurrences: Vec<analyze::Occurrence> =
            found.into_iter().map(|(range, word)| analyze::Occurrence { range, words: vec![word] }).collect();
        let places = |idf: [f32; 3]| rarest_word(&text, &(0..text.len()), &occurrences, &idf);
        let all: Vec<usize> = text.match_indices("quarantine").map(|(at, _)| at).collect();
        assert_eq!(places([0.1, 2.0, 5.0]), [all[1], all[0]], "beside another word first");
        assert_eq!(places([0.1, 0.0, 5.0]), all);
        assert!(rarest_word(&text, &(0..7), &occurrences, &[1.0; 3]).is_empty(), "shown whole");
        assert!(rarest_word(&text, &(0..text.len()), &[], &[]).is_empty());
    }

    #[test]
    fn long_sentences_are_cut_around_what_is_marked() {
        let text = format!("{}ж{}", "ä".repeat(1_000), "語".repeat(1_000));
        let at = text.find('ж').unwrap();
        let window = window(&text, 0..text.len(), [at].into_iter());
        assert!(text[window.clone()].contains('ж') && text[window].chars().count() <= SNIPPET_CHARS);
        // The part begins and ends between grapheme clusters, of whatever characters they are; a cluster that is too long is cut at the
        // limit.
        for character in
            ["น้ำ", "e\u{301}\u{302}", "\u{1F469}\u{200D}\u{1F680}", "한", "क्षि", &format!("x{}", "\u{301}".repeat(900))]
        {
            let text = format!("{}ж{}", character.repeat(700), character.repeat(700));
            let at = text.find('ж').unwrap();
            let window = self::window(&text, 0..text.len(), [at].into_iter());
            let whole = |at: usize| analyze::character_start(&text, at) == at;
            assert!(!window.is_empty() && text[window.clone()].chars().count() <= SNIPPET_CHARS, "{character}");
            if character.chars().count() < 100 {
                assert!(text[window.clone()].contains('ж') && whole(window.start) && whole(window.end), "{character}");
            }
        }
    }
}
