//! The BM25 arm: scores documents by stems and pairs of characters with tantivy's postings, and tells which share of the query's
//! information a document has.

use tantivy::query::{BooleanQuery, DisjunctionMaxQuery, EnableScoring, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocSet, Searcher, TERMINATED, Term};

use super::stop::Stop;
use super::topk::{Scored, TopK};
use crate::analyze::QueryWord;
use crate::bits::Bits;
use crate::error::{Error, Result, guarded};
use crate::reader::Reader;
use crate::text::{DOCNO, LANG};

/// The largest number of words that are looked up: of a longer query, its rarest ones.
const MAX_WORDS: usize = 256;

/// BM25's constant k1, as tantivy has it.
const K1: f32 = 1.2;

/// A word is common in a language if at least this share of the documents in that language have it.
const COMMON: f64 = 0.25;

/// A language needs this many documents before its word frequencies are used.
const ENOUGH: u64 = 50;

/// A common word is ignored if its inverse document frequency in the whole index is larger by more than this than among the documents in
/// the query's language.
const OVERRATED: f32 = 0.5;

/// How many documents are scored between two looks at the flag that ends a search.
const BETWEEN_LOOKS: usize = 1 << 12;

/// A word of the query with its frequency in the index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weighed {
    pub word: QueryWord,
    /// The word's inverse document frequency: that of the rarest of its terms that the index has, or that of a term without documents if it
    /// has none; 0 for a word that is ignored because it is common in the query's language.
    pub idf: f32,
    /// How many documents have the rarest of its terms that the index has; deleted documents count until a merge removes them.
    pub documents: u64,
    /// Whether a document has it that is neither deleted nor left out by the filter.
    pub found: bool,
}

/// What the BM25 arm found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// BM25 scores and rows, the best first.
    pub list: Vec<Scored>,
    pub words: Vec<Weighed>,
    /// The largest possible score, `Σ idf · (k1 + 1)` over all words of the query, including words that no document has.
    pub most: f32,
    /// How many words were not looked up because the query has too many.
    pub dropped: usize,
}

impl Found {
    /// A BM25 score divided by the largest possible one, 0 to 1. Unlike the score, it is comparable between queries.
    pub fn share(&self, score: f32) -> f32 {
        if self.most > 0.0 { (score / self.most).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// BM25's inverse document frequency, as tantivy computes it, of a term that `with` of `all` documents have.
fn idf(with: u64, all: u64) -> f32 {
    let x = (all.saturating_sub(with) as f32 + 0.5) / (with as f32 + 0.5);
    (1.0 + x).ln()
}

/// Sets the inverse document frequency of common words of the query's language `lang` to 0 if documents in other languages make them look
/// rare. In an index with a few Spanish documents, `de` and `la` would otherwise seem to be what a Spanish question asks for, and every
/// Spanish document would match.
fn pass_over_common(reader: &Reader, lang: &str, words: &mut [Weighed], all: u64) -> tantivy::Result<()> {
    let (searcher, fields) = (reader.searcher(), &reader.index.text.fields);
    let own = searcher.doc_freq(&Term::from_field_text(fields.lang, lang))?;
    if own < ENOUGH || own * 2 >= all {
        return Ok(());
    }
    let many = (own as f64 * COMMON).ceil() as u64;
    for word in words.iter_mut().filter(|word| word.documents >= many && word.idf > OVERRATED) {
        let mut with = 0;
        for text in &word.word.terms {
            with = with.max(reader.remembered(lang, text, || {
                let term = Term::from_field_text(fields.words, text);
                in_language(searcher, &term, lang)
            })?);
        }
        if with >= many && word.idf > idf(with, own) + OVERRATED {
            word.idf = 0.0;
        }
    }
    Ok(())
}

/// How many documents in a language have a term.
fn in_language(searcher: &Searcher, term: &Term, lang: &str) -> tantivy::Result<u64> {
    let mut count = 0;
    for segment in searcher.segment_readers() {
        let Some(column) = segment.fast_fields().str(LANG)? else { continue };
        let Some(own) = column.dictionary().term_ord(lang.as_bytes())? else { continue };
        let index = segment.inverted_index(term.field())?;
        let Some(mut postings) = index.read_postings(term, IndexRecordOption::Basic)? else { continue };
        let mut doc = postings.doc();
        while doc != TERMINATED {
            count += u64::from(column.ords().first(doc) == Some(own));
            doc = postings.advance();
        }
    }
    Ok(count)
}

/// Looks up the frequencies of a query's words in an index of `all` documents.
fn weigh(
    searcher: &Searcher,
    words: Vec<QueryWord>,
    term: impl Fn(&str) -> Term,
    all: u64,
) -> tantivy::Result<Vec<Weighed>> {
    let weigh = |word: QueryWord| {
        let mut least: Option<u64> = None;
        for text in &word.terms {
            let with = searcher.doc_freq(&term(text))?;
            if with > 0 {
                least = Some(least.map_or(with, |least| least.min(with)));
            }
        }
        let documents = least.unwrap_or(0);
        Ok(Weighed { word, idf: idf(documents, all), documents, found: documents > 0 })
    };
    words.into_iter().map(weigh).collect()
}

/// Corrects `found` of each word to whether a selected document has it. Only where documents are deleted or filtered out can this differ
/// from whether the index has the word.
fn mark_found(reader: &Reader, words: &mut [Weighed], selected: &Bits, stop: &Stop<'_>) -> Result<()> {
    let text = &reader.index.text;
    let segments = reader.searcher().segment_readers();
    let is_filtered = selected.count() < reader.len();
    if !is_filtered && !segments.iter().any(|segment| segment.has_deletes()) {
        return Ok(());
    }
    let fail = |e: tantivy::TantivyError| Error::text(&text.path, e);
    let has = |term: &str| -> Result<bool> {
        let term = Term::from_field_text(text.fields.words, term);
        for segment in segments {
            stop.check()?;
            let index = segment.inverted_index(term.field()).map_err(fail)?;
            let postings = index.read_postings(&term, IndexRecordOption::Basic).map_err(|e| fail(e.into()))?;
            let Some(mut postings) = postings else { continue };
            let docnos = segment.fast_fields().u64(DOCNO).map_err(fail)?;
            let mut doc = postings.doc();
            while doc != TERMINATED {
                if !segment.is_deleted(doc) {
                    let row = || docnos.first(doc).map(|docno| reader.row_of(docno)).transpose();
                    if !is_filtered || row()?.flatten().is_some_and(|row| selected.get(row)) {
                        return Ok(true);
                    }
                }
                doc = postings.advance();
            }
        }
        Ok(false)
    };
    for word in words.iter_mut().filter(|word| word.found) {
        let mut found = false;
        for term in &word.word.terms {
            found = found || has(term)?;
        }
        word.found = found;
    }
    Ok(())
}

/// The `k` best of the selected rows that have a word of the query, by BM25. `lang` is the query's language if that is certain.
pub(crate) fn search(
    reader: &Reader,
    words: Vec<QueryWord>,
    lang: Option<&str>,
    selected: &Bits,
    k: usize,
    stop: &Stop<'_>,
) -> Result<Found> {
    let text = &reader.index.text;
    let searcher = reader.searcher();
    guarded(&text.path, || {
        let fail = |e| Error::text(&text.path, e);
        let all: u64 = searcher.segment_readers().iter().map(|segment| u64::from(segment.max_doc())).sum();
        let term = |word: &str| Term::from_field_text(text.fields.words, word);
        let mut words = weigh(searcher, words, term, all).map_err(fail)?;
        if let Some(lang) = lang {
            pass_over_common(reader, lang, &mut words, all).map_err(fail)?;
        }
        mark_found(reader, &mut words, selected, stop)?;
        let most = words.iter().map(|word| word.idf).sum::<f32>() * (K1 + 1.0);
        let mut wanted: Vec<&Weighed> = words.iter().filter(|word| word.documents > 0 && word.idf > 0.0).collect();
        wanted.sort_by(|a, b| b.idf.total_cmp(&a.idf));
        let dropped = wanted.len().saturating_sub(MAX_WORDS);
        wanted.truncate(MAX_WORDS);
        if wanted.is_empty() {
            return Ok(Found { list: Vec::new(), words, most, dropped });
        }
        let of_term =
            |word: &String| -> Box<dyn Query> { Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs)) };
        let clauses = wanted.iter().map(|word| {
            let mut terms: Vec<Box<dyn Query>> = word.word.terms.iter().map(of_term).collect();
            let query = if terms.len() == 1 { terms.remove(0) } else { Box::new(DisjunctionMaxQuery::new(terms)) };
            (Occur::Should, query)
        });
        let query = BooleanQuery::new(clauses.collect());
        let weight = query.weight(EnableScoring::enabled_from_searcher(searcher)).map_err(fail)?;
        let mut best = TopK::new(k);
        let mut failed = None;
        let mut scored = 0_usize;
        for segment in searcher.segment_readers() {
            stop.check()?;
            let docnos = segment.fast_fields().u64(DOCNO).map_err(fail)?;
            // tantivy skips documents whose score is not above the number that this function returns: `f32::MIN` until the list is full.
            // The filter is applied before a score is pushed, so that documents it leaves out take no places in the list.
            let mut each = |doc: u32, score: f32| {
                match docnos.first(doc).map(|docno| reader.row_of(docno)).transpose() {
                    Ok(row) => {
                        if let Some(row) = row.flatten().filter(|&row| selected.get(row)) {
                            best.push((score, row));
                        }
                    }
                    Err(e) => failed = Some(e),
                }
                scored += 1;
                if scored.is_multiple_of(BETWEEN_LOOKS) && failed.is_none() {
                    failed = stop.check().err();
                }
                // After a failure the largest number is returned, so that tantivy skips the rest of the segment.
                if failed.is_some() { f32::MAX } else { best.threshold().max(f32::MIN) }
            };
            weight.for_each_pruning(f32::MIN, segment, &mut each).map_err(fail)?;
            if let Some(e) = failed.take() {
                return Err(e);
            }
        }
        Ok(Found { list: best.into_sorted(), words, most, dropped })
    })
}
