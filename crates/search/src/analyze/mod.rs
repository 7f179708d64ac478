//! Cuts a text into the terms that BM25 counts.
//!
//! ```text
//! text ─▶ NFKC, lower case ─▶ runs of characters that are cut alike
//!   Han, kana, Thai, Lao, Khmer, Burmese   each character, and each pair of neighbours
//!   Hangul                                 each pair of neighbours (the character, if the run has only one)
//!   all others                             words (UAX #29), stemmed (Snowball) by the text's language
//! ```
//! If the language of a query is not certain, each of its words is stemmed by all languages of the index that use the word's script. Of
//! these stems only the one that scores best counts.

mod blank;
mod language;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use frostem::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

pub use blank::is_blank;
pub use language::{detect, is_detected, is_language, normalize_code};
use script::Kind;

/// The version of the analyzer. An index that was made by another version is refused.
pub const ANALYZER_VERSION: &str = "trivec-words-1";

/// The language of texts whose language is not known.
pub const UNKNOWN: &str = "und";

/// Longest term, in bytes. Longer words are cut before they are stemmed.
const MAX_TERM_BYTES: usize = 200;

/// The largest number of languages by which a word of unknown language is stemmed.
const MAX_GUESSES: usize = 12;

/// A word of a query (or one or two characters, where words are not separated), and the terms that are looked up for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryWord {
    /// The word in lower case, as it is displayed.
    pub word: String,
    /// The terms; a document's score for the word is that of the best of them.
    pub terms: Vec<String>,
}

/// The terms of a document in order, with repetitions. `lang` is the code of its language.
pub fn document_terms(text: &str, lang: &str) -> Vec<String> {
    let stemmer = stemmer_of(lang);
    let mut terms = Vec::new();
    for_each_unit(text, &mut |unit| match unit {
        Unit::Word(word) => terms.push(stem(stemmer, &word)),
        Unit::Gram(gram) => terms.push(gram),
    });
    terms
}

/// The distinct words of a query in the order of their first occurrences. `langs` are the languages that it may be in: one, if that is
/// certain.
pub fn query_words(text: &str, langs: &[String]) -> Vec<QueryWord> {
    let stemmers: Vec<(&str, Option<Stemmer>)> =
        langs.iter().map(|lang| (lang.as_str(), stemmer_of(lang))).take(MAX_GUESSES).collect();
    let mut words: Vec<QueryWord> = Vec::new();
    let mut seen = BTreeSet::new();
    for_each_unit(text, &mut |unit| {
        let (word, terms) = match unit {
            Unit::Gram(gram) => (gram.clone(), vec![gram]),
            Unit::Word(word) => {
                let own = |&&(lang, _): &&(&str, Option<Stemmer>)| stemmers.len() == 1 || language::writes(lang, &word);
                let mut terms: Vec<String> = stemmers.iter().filter(own).map(|(_, s)| stem(*s, &word)).collect();
                if terms.is_empty() {
                    terms.push(stem(None, &word));
                }
                terms.sort();
                terms.dedup();
                (word, terms)
            }
        };
        if seen.insert(terms.clone()) {
            words.push(QueryWord { word, terms });
        }
    });
    words
}

/// Where the words of a query stand in a text, for highlighting: byte ranges, ascending, that neither overlap nor touch. `lang` is the code
/// of the text's language.
pub fn find_words(text: &str, lang: &str, words: &[QueryWord]) -> Vec<Range<usize>> {
    joined(&occurrences(text, lang, words))
}

/// The ranges of occurrences, which are sorted by their starts. Ranges that touch or overlap become one.
pub(crate) fn joined(occurrences: &[Occurrence]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for Occurrence { range, .. } in occurrences {
        match found.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => found.push(range.clone()),
        }
    }
    found
}

/// A place in a text where words of a query stand.
pub(crate) struct Occurrence {
    /// Whole grapheme clusters, in bytes.
    pub range: Range<usize>,
    /// Which words of the query stand there, by their indices in the list of words.
    pub words: Vec<usize>,
}

/// The places in a text where words of a query stand, sorted by their starts.
pub(crate) fn occurrences(text: &str, lang: &str, words: &[QueryWord]) -> Vec<Occurrence> {
    let mut wanted: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let letters = letters_of_pairs(words);
    let is_letter_alone = |term: &str| {
        let mut characters = term.chars();
        characters.next().is_some_and(|letter| letters.contains(&letter)) && characters.next().is_none()
    };
    for (place, word) in words.iter().enumerate() {
        for term in word.terms.iter().filter(|term| !is_letter_alone(term)) {
            wanted.entry(term.as_str()).or_default().push(place);
        }
    }
    let stemmer = stemmer_of(lang);
    let mut found = Vec::new();
    // If the previous piece ends with a character of a script without spaces: that character after NFKC, and where it begins in the text.
    let mut before: Option<(char, usize)> = None;
    // Word by word, because positions in the normalised text differ from positions in the text.
    for (at, piece) in text.split_word_bound_indices() {
        let end = at + piece.len();
        let mut here = Vec::new();
        for_each_unit(piece, &mut |unit| {
            let places = match unit {
                Unit::Word(word) => wanted.get(stem(stemmer, &word).as_str()),
                Unit::Gram(gram) => wanted.get(gram.as_str()),
            };
            here.extend(places.into_iter().flatten());
        });
        // A pair whose first character ends the previous piece and whose second begins this one.
        let normal = || piece.nfkc().flat_map(char::to_lowercase);
        let is_unspaced = |c: &char| script::kind(*c) == Kind::Unspaced;
        if let (Some((last, start)), Some(first)) = (before, normal().next().filter(is_unspaced))
            && let Some(places) = wanted.get([last, first].iter().collect::<String>().as_str())
        {
            let end = at + piece.chars().next().map_or(0, char::len_utf8);
            found.push(Occurrence { range: whole_characters(text, start..end), words: places.clone() });
        }
        let last = piece.char_indices().last().map_or(at, |(start, _)| at + start);
        before = normal().last().filter(is_unspaced).map(|c| (c, last));
        if !here.is_empty() {
            found.push(Occurrence { range: whole_characters(text, at..end), words: here });
        }
    }
    found.sort_by_key(|occurrence| occurrence.range.start);
    found
}

/// The letters in a query's pairs of characters that are Thai, Lao, Khmer or Burmese: scripts with so few letters that almost every text
/// has each of them. A single one of these letters is not an occurrence of the query: only pairs are.
fn letters_of_pairs(words: &[QueryWord]) -> BTreeSet<char> {
    let pairs = words.iter().flat_map(|word| &word.terms).filter(|term| term.chars().nth(1).is_some());
    pairs.flat_map(|term| term.chars()).filter(|letter| script::is_southeast_asian(*letter)).collect()
}

/// The range, extended at both ends to whole grapheme clusters.
fn whole_characters(text: &str, range: Range<usize>) -> Range<usize> {
    let next = |at: usize| match GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0) {
        Ok(false) => GraphemeCursor::new(at, text.len(), true).next_boundary(text, 0).ok().flatten().unwrap_or(at),
        _ => at,
    };
    character_start(text, range.start)..next(range.end)
}

/// The start of the grapheme cluster that byte `at` is inside of; `at` itself if one begins there.
pub(crate) fn character_start(text: &str, at: usize) -> usize {
    match GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0) {
        Ok(false) => GraphemeCursor::new(at, text.len(), true).prev_boundary(text, 0).ok().flatten().unwrap_or(at),
        _ => at,
    }
}

/// A part of a normalised text that becomes a term.
enum Unit {
    /// A word, which is to be stemmed.
    Word(String),
    /// One or two characters of a script that does not separate words; a term as it is.
    Gram(String),
}

/// Normalises a text, cuts it, and calls `each` with every unit.
fn for_each_unit(text: &str, each: &mut dyn FnMut(Unit)) {
    let normal: String = text.nfkc().flat_map(char::to_lowercase).collect();
    let mut rest = normal.as_str();
    while let Some(first) = rest.chars().next() {
        let kind = script::kind(first);
        let end = rest
            .char_indices()
            .find(|&(_, c)| script::kind(c) != kind && !script::joins(c, kind))
            .map_or(rest.len(), |(at, _)| at);
        let (run, after) = rest.split_at(end);
        match kind {
            Kind::Words => run.unicode_words().for_each(|word| each(Unit::Word(word.to_owned()))),
            Kind::Hangul => grams(run, false, each),
            Kind::Unspaced => grams(run, true, each),
        }
        rest = after;
    }
}

/// Calls `each` with every pair of neighbouring characters of a run; with `singles`, or if the run has only one character, also with every
/// single character, before the pairs.
fn grams(run: &str, singles: bool, each: &mut dyn FnMut(Unit)) {
    let mut places: Vec<usize> = run.char_indices().map(|(at, _)| at).collect();
    places.push(run.len());
    if singles || places.len() == 2 {
        places.windows(2).for_each(|pair| each(Unit::Gram(run[pair[0]..pair[1]].to_owned())));
    }
    places.windows(3).for_each(|three| each(Unit::Gram(run[three[0]..three[2]].to_owned())));
}

/// The stemmer of a language, if there is one.
fn stemmer_of(lang: &str) -> Option<Stemmer> {
    let code = normalize_code(lang);
    // Codes of languages have two or three letters. Longer names may be those of algorithms (`porter`, `lovins`), which are no languages.
    (code.len() <= 3).then(|| Algorithm::from_name(&code).ok().map(Stemmer::new)).flatten()
}

/// The term of a word: its stem, or without a stemmer the word itself, cut to [`MAX_TERM_BYTES`].
fn stem(stemmer: Option<Stemmer>, word: &str) -> String {
    let mut end = word.len().min(MAX_TERM_BYTES);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    let word = &word[..end];
    let stem = stemmer.map_or(std::borrow::Cow::Borrowed(word), |stemmer| stemmer.stem(word));
    // If a stemmer leaves nothing of a word, the word itself is used.
    if stem.is_empty() { word.to_owned() } else { stem.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str, lang: &str) -> String {
        document_terms(text, lang).join(" ")
    }

    #[test]
    fn words_are_stemmed_by_their_language() {
        assert_eq!(terms("The RUNNING dogs' connections", "en"), "the run dog connect");
        assert_eq!(terms("Häuser und Automaten", "de"), "haus und automat");
        assert_eq!(terms("новые телефоны", "ru"), terms("новый телефон", "ru"));
        assert_eq!(terms("evlerimizden", "tr"), terms("ev", "tr"));
        assert_eq!(terms("الكتاب", "ar"), terms("كتاب", "ar"));
        assert_eq!(terms("running dogs", "und"), "running dogs");
        assert_eq!(terms("running dogs", "porter"), "running dogs", "an algorithm is no language");
    }

    #[test]
    fn compatibility_forms_and_case_do_not_matter() {
        assert_eq!(terms("ＡＢＣ ﬁle №5", "und"), "abc file no5");
        assert_eq!(terms("ｶﾞ", "ja"), terms("ガ", "ja"));
        assert_eq!(terms("e\u{301}te\u{301}", "und"), "été");
    }

    #[test]
    fn han_and_kana_are_characters_and_pairs() {
        assert_eq!(terms("苹果公司", "zh"), "苹 果 公 司 苹果 果公 公司");
        assert_eq!(terms("データ", "ja"), "デ ー タ デー ータ");
        assert_eq!(terms("我", "zh"), "我");
        assert_eq!(terms("iPhone手机2024年", "zh"), "iphone 手 机 手机 2024 年");
        assert_eq!(terms("人々", "ja"), "人 々 人々");
    }

    #[test]
    fn hangul_is_pairs_and_thai_lao_khmer_burmese_are_both() {
        assert_eq!(terms("안녕하세요", "ko"), "안녕 녕하 하세 세요");
        assert_eq!(terms("물", "ko"), "물");
        assert_eq!(terms("กาแฟ", "th"), "ก า แ ฟ กา าแ แฟ");
        assert_eq!(terms("ລາວ", "lo"), "ລ າ ວ ລາ າວ");
        assert_eq!(terms("ខ្មែរ", "km").split(' ').count(), 5 + 4);
        assert_eq!(terms("မြန်မာ", "my").split(' ').count(), 6 + 5);
    }

    #[test]
    fn odd_texts_give_no_terms_or_short_ones() {
        assert_eq!(terms("", "en"), "");
        assert_eq!(terms(" \u{0}\r\n… — !?", "en"), "");
        let long = "ä".repeat(50_000);
        assert!(document_terms(&long, "de").iter().all(|term| term.len() <= MAX_TERM_BYTES));
        assert!(document_terms("a\u{300}\u{301}\u{302}\u{feff}b \u{1F600}", "en").len() <= 3);
    }

    #[test]
    fn a_query_of_unknown_language_has_the_stems_of_all_languages_that_use_its_script() {
        let langs = ["de", "en", "ru"].map(str::to_owned);
        let words = query_words("running running телефоны", &langs);
        assert_eq!(words.len(), 2);
        assert!(words[0].terms.contains(&"run".to_owned()), "{words:?}");
        assert_eq!(words[1].terms, [document_terms("телефоны", "ru")[0].clone()]);
        let sure = query_words("running", &["en".to_owned()]);
        assert_eq!(sure[0].terms, ["run"]);
        assert_eq!(query_words("running", &[])[0].terms, ["running"]);
    }

    #[test]
    fn words_are_found_where_they_stand() {
        let text = "Ein Haus, zwei HÄUSER.";
        let words = query_words("häuser", &["de".to_owned()]);
        let found: Vec<&str> = find_words(text, "de", &words).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["Haus", "HÄUSER"]);
        let text = "苹果公司发布";
        let words = query_words("公司", &["zh".to_owned()]);
        let found: Vec<&str> = find_words(text, "zh", &words).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["公司"]);
        // Single letters of the query are in the other words of the text too, but only its pairs are marked.
        let text = "กินมากทุกเช้า ดื่มกาแฟเช้านี้";
        let found = |query: &str| {
            let ranges = find_words(text, "th", &query_words(query, &["th".to_owned()]));
            ranges.into_iter().map(|range| &text[range]).collect::<Vec<_>>()
        };
        assert_eq!(found("กาแฟ"), ["กาแฟ"]);
        assert_eq!(found("เช้า"), ["เช้า", "เช้า"]);
        assert_eq!(found("ฟ"), ["ฟ"], "alone it is the whole query");
    }

    #[test]
    fn what_is_found_has_whole_characters() {
        for (text, query, lang) in [
            ("ดื่มน้ำเย็น", "น้ำ", "th"),
            ("ดื่มน้ำเย็น", "ำ", "th"),
            ("ນ້ຳເຢັນ", "ນ້ຳ", "lo"),
            ("ខ្មែរនិងខ្ញុំ", "ខ្ញុំ", "km"),
            ("မြန်မာဘာသာ", "မြန်", "my"),
            ("か\u{3099}っこうとガラス", "がっこう", "ja"),
            ("한국어 문법", "문법", "ko"),
            ("हिन्दी में किताब", "किताब", "hi"),
            ("cafe\u{301} noir", "café", "fr"),
        ] {
            let borders: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect();
            let found = find_words(text, lang, &query_words(query, &[lang.to_owned()]));
            assert!(!found.is_empty(), "{query} in {text}");
            for range in found {
                assert!(borders.contains(&range.start) && borders.contains(&range.end), "{query} in {text}: {range:?}");
            }
        }
    }
}
