//! Where sentences begin and end, and where the tokens of a text stand in it.

use std::ops::Range;

use trivec::Token;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// How many characters ahead in the text a character of a piece is looked for.
const LOOK_AHEAD: usize = 16;

/// The byte ranges of a text's sentences (UAX #29), without the white space around them. A line break always ends a sentence.
pub(crate) fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (at, sentence) in text.split_sentence_bound_indices() {
        let start = at + sentence.len() - sentence.trim_start().len();
        let end = start + sentence.trim().len();
        if start < end {
            ranges.push(start..end);
        }
    }
    ranges
}

/// Where each token stands in the text it was made of: byte ranges, empty for special tokens. The characters of the pieces are looked for,
/// one after another, in the text after NFKC. One that is not among the next [`LOOK_AHEAD`] characters (because the model's own rules have
/// replaced it) is held to be the next character of the text.
pub(crate) fn token_spans(text: &str, tokens: &[Token]) -> Vec<Range<usize>> {
    let mut normal: Vec<(char, Range<usize>)> = Vec::new();
    for (at, grapheme) in text.grapheme_indices(true) {
        let visible = grapheme.nfkc().filter(|c| !c.is_whitespace());
        normal.extend(visible.map(|c| (c, at..at + grapheme.len())));
    }
    let mut next = 0;
    let mut spans = Vec::with_capacity(tokens.len());
    for token in tokens {
        let here = normal.get(next).map_or(text.len(), |(_, range)| range.start);
        let mut span = here..here;
        if !token.special {
            let mut first = true;
            for c in token.piece.chars().filter(|c| *c != '▁' && !c.is_whitespace()) {
                let ahead = normal[next.min(normal.len())..].iter().take(LOOK_AHEAD).position(|(own, _)| *own == c);
                let at = next + ahead.unwrap_or(0);
                let Some((_, range)) = normal.get(at) else { break };
                if first {
                    span.start = range.start;
                    first = false;
                }
                span.end = range.end;
                next = at + 1;
            }
            span.end = span.end.max(span.start);
        }
        spans.push(span);
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_several_scripts() {
        let cut = |text: &str| sentences(text).into_iter().map(|range| text[range].to_owned()).collect::<Vec<_>>();
        assert_eq!(
            cut("One is here. Two!  And 3.5 is a number?\nA line"),
            ["One is here.", "Two!", "And 3.5 is a number?", "A line"]
        );
        assert_eq!(cut("苹果发布新手机。价格不变！"), ["苹果发布新手机。", "价格不变！"]);
        assert_eq!(cut(" \n\t "), Vec::<String>::new());
    }

    #[test]
    fn tokens_are_found_in_their_text() {
        let token = |piece: &str, special: bool| Token { id: 0, piece: piece.to_owned(), special };
        let text = "  Ｈello, e\u{301}t\u{e9} 世界 end";
        let tokens = [
            token("<s>", true),
            token("▁Hel", false),
            token("lo", false),
            token(",", false),
            token("▁été", false),
            token("▁", false),
            token("<unk>", true),
            token("界", false),
            token("▁end", false),
            token("</s>", true),
        ];
        let spans = token_spans(text, &tokens);
        let found: Vec<&str> = spans.iter().map(|span| &text[span.clone()]).collect();
        assert_eq!(found, ["", "Ｈel", "lo", ",", "e\u{301}t\u{e9}", "", "", "界", "end", ""]);
        assert!(token_spans("", &tokens).iter().all(|span| span.is_empty()));
    }
}
