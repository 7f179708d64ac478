//! [`Reader::search`] and its steps: making the arms' lists, fusing them, reordering the best, and reading the hits' documents.

use std::time::Instant;

use trivec::Embedding;

use super::answer::{ArmScores, Hit, Hits, Timings, WordInfo};
use super::ask::Query;
use super::bm25::{self, Found};
use super::fusion::{self, Candidate, Fusion, Lists, Ranked};
use super::stop::Stop;
use super::topk::Scored;
use super::{Arms, dense, lexical};
use crate::analyze;
use crate::bits::Bits;
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::explain;
use crate::reader::Reader;

/// The largest number of queries that are multiplied with the dense vectors in one pass over these.
const TOGETHER: usize = 8;

/// The largest number of languages, and of characters of a code, that an error shows.
const MOST_SHOWN: usize = 20;

/// The milliseconds since an instant.
fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The milliseconds since an instant for each of `count` queries that shared them.
fn share_ms(since: Instant, count: usize) -> f64 {
    ms(since) / count.max(1) as f64
}

/// The entries that a search found, in their final order, before their documents are read ([`Reader::best`]).
#[derive(Debug)]
pub struct Best<'a> {
    reader: &'a Reader,
    query: &'a Query,
    embedding: &'a Embedding,
    ranking: Ranking,
}

impl Best<'_> {
    /// How many documents will be read.
    pub fn len(&self) -> usize {
        self.ranking.candidates.len().min(self.query.top)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the documents that will be read have as they are stored: all together, and the largest one.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Io`].
    pub fn bytes(&self) -> Result<(u64, u64)> {
        let (mut sum, mut largest) = (0u64, 0);
        for candidate in &self.ranking.candidates[..self.len()] {
            let (segment, local) = self.reader.place(candidate.row)?;
            let bytes = segment.documents.row(local)?.len() as u64;
            sum = sum.saturating_add(bytes);
            largest = bytes.max(largest);
        }
        Ok((sum, largest))
    }

    /// Reads the documents, and explains them if the query asks for it.
    ///
    /// # Errors
    /// As [`Reader::search`].
    pub fn hits(self, encoder: &Encoder<'_>) -> Result<Hits> {
        self.reader.hits(Some(encoder), self.query, self.embedding, self.ranking)
    }
}

/// What a search found, in its final order, before documents are read.
#[derive(Debug)]
pub(crate) struct Ranking {
    pub candidates: Vec<Candidate>,
    /// For each candidate, the score that it is shown with.
    pub shown: Vec<f32>,
    /// What the BM25 arm found.
    pub found: Found,
    /// How many entries the filter let through.
    pub searched: usize,
    pub best_share: f32,
    pub languages: Vec<String>,
    pub timings: Timings,
    /// The lists of the other two arms.
    pub dense: Vec<Scored>,
    pub sparse: Vec<Scored>,
}

impl Reader {
    /// Embeds the query, finds documents by the arms that it names, and reads the best ones.
    ///
    /// # Errors
    /// [`Error::Option`] for a query without a visible character, numbers out of range, a `lang` that is neither a language's code nor the
    /// language of a document of the index, or lexical weights alone if the index has none;
    /// [`Error::NoField`] and [`Error::FieldType`] for a filter that compares a field which no document has, or a field with a value of a
    /// type that it has in no document; [`Error::Engine`], for example because [`Query::cancel`] was set; [`Error::Damaged`] if a file that
    /// is read is not what it should be; [`Error::Io`].
    pub fn search(&self, encoder: &Encoder<'_>, query: &Query) -> Result<Hits> {
        query.check()?;
        self.check_query(query)?;
        let query = &on_threads_of(encoder, query);
        let begin = Instant::now();
        let embedding = encoder.query_until(&query.text, query.cancel.clone())?;
        let encode_ms = ms(begin);
        let mut hits = self.search_embedded(encoder, query, &embedding)?;
        hits.timings.encode_ms = encode_ms;
        hits.timings.total_ms += encode_ms;
        Ok(hits)
    }

    /// Searches for several queries. They are embedded together, and the queries without a filter are multiplied with the dense vectors
    /// together. Each gets the hits that [`search`](Self::search) would give it.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_all(&self, encoder: &Encoder<'_>, queries: &[Query]) -> Result<Vec<Hits>> {
        queries.iter().try_for_each(|query| query.check().and_then(|()| self.check_query(query)))?;
        let queries: &[Query] = &queries.iter().map(|query| on_threads_of(encoder, query)).collect::<Vec<_>>();
        let texts: Vec<&str> = queries.iter().map(|query| query.text.as_str()).collect();
        let begin = Instant::now();
        let embeddings = encoder.queries_until(&texts, Stop::of(queries).flag())?;
        let encode_ms = share_ms(begin, queries.len());
        let rankings = self.rank_all(queries, &embeddings)?;
        let with = queries.iter().zip(&embeddings).zip(rankings);
        let hits = with.map(|((query, embedding), ranking)| {
            let mut hits = self.hits(Some(encoder), query, embedding, ranking)?;
            hits.timings.encode_ms = encode_ms;
            hits.timings.total_ms += encode_ms;
            Ok(hits)
        });
        hits.collect()
    }

    /// As [`search`](Self::search), for a query that was embedded before, by [`Encoder::query`] or with [`Encoder::query_options`].
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_embedded(&self, encoder: &Encoder<'_>, query: &Query, embedding: &Embedding) -> Result<Hits> {
        self.best(&on_threads_of(encoder, query), embedding)?.hits(encoder)
    }

    /// The first half of [`search_embedded`](Self::search_embedded): finds the hits and their order, but does not read their documents.
    /// [`Best::bytes`] says how many bytes reading them takes, and [`Best::hits`] reads them.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn best<'a>(&'a self, query: &'a Query, embedding: &'a Embedding) -> Result<Best<'a>> {
        query.check()?;
        self.check_query(query)?;
        let ranking = self.rank(query, embedding, None)?;
        Ok(Best { reader: self, query, embedding, ranking })
    }

    /// Searches with a query's vectors and without a model, so that hits cannot be explained. Without the BM25 arm the query needs no text.
    ///
    /// # Errors
    /// As [`search`](Self::search); [`Error::Option`] if an explanation is asked for, or the vectors do not fit the index.
    pub fn search_vectors(&self, query: &Query, embedding: &Embedding) -> Result<Hits> {
        query.check_with_vectors()?;
        self.check_query(query)?;
        if query.explains() {
            return Err(Error::option("explain", "without a model, hits cannot be explained"));
        }
        let ranking = self.rank(query, embedding, None)?;
        self.hits(None, query, embedding, ranking)
    }

    /// As [`search_vectors`](Self::search_vectors), for several queries: those without a filter are multiplied with the dense vectors
    /// together.
    ///
    /// # Errors
    /// As [`search_vectors`](Self::search_vectors).
    pub fn search_all_vectors(&self, queries: &[Query], embeddings: &[Embedding]) -> Result<Vec<Hits>> {
        queries.iter().try_for_each(|query| query.check_with_vectors().and_then(|()| self.check_query(query)))?;
        if queries.len() != embeddings.len() {
            let what = format!("{} for {} queries", embeddings.len(), queries.len());
            return Err(Error::option("embeddings", what));
        }
        let with = queries.iter().zip(embeddings).zip(self.rank_all(queries, embeddings)?);
        with.map(|((query, embedding), ranking)| self.hits(None, query, embedding, ranking)).collect()
    }

    /// The rankings of several queries, in their order. Queries without a filter are multiplied with the dense vectors in groups.
    pub(crate) fn rank_all(&self, queries: &[Query], embeddings: &[Embedding]) -> Result<Vec<Ranking>> {
        let together: Vec<usize> =
            (0..queries.len()).filter(|&index| queries[index].filter.is_none() && queries[index].arms.dense).collect();
        let mut dense_lists: Vec<Option<(Vec<Scored>, f64)>> = vec![None; queries.len()];
        let alive = self.selected(None)?;
        for group in together.chunks(TOGETHER) {
            let begin = Instant::now();
            let vectors = group.iter().map(|&index| dense_of(&embeddings[index])).collect::<Result<Vec<&[f32]>>>()?;
            let most = group.iter().map(|&index| depth(&queries[index])).max().unwrap_or(0);
            let threads = group.iter().map(|&index| queries[index].threads()).max().unwrap_or(1);
            let stop = Stop::of(group.iter().map(|&index| &queries[index]));
            let lists = dense::search(self, &vectors, &alive, most, threads, &stop)?;
            let took = share_ms(begin, group.len());
            for (&index, mut list) in group.iter().zip(lists) {
                list.truncate(depth(&queries[index]));
                dense_lists[index] = Some((list, took));
            }
        }
        let with = queries.iter().zip(embeddings).zip(dense_lists);
        with.map(|((query, embedding), list)| self.rank(query, embedding, list)).collect()
    }

    /// Finds the candidates of a query and their final order. `dense_list` is the list of the dense arm, if it was made before, and the
    /// milliseconds that this took.
    pub(crate) fn rank(
        &self,
        query: &Query,
        embedding: &Embedding,
        dense_list: Option<(Vec<Scored>, f64)>,
    ) -> Result<Ranking> {
        let mut timings = Timings::default();
        let whole = Instant::now();
        let (dense_list, dense_ms) = dense_list.map_or((None, 0.0), |(list, took)| (Some(list), took));
        let begin = Instant::now();
        let stop = Stop::of([query]);
        let selected = self.selected_until(query.filter.as_ref(), &stop)?;
        let searched = selected.count();
        timings.filter_ms = ms(begin);
        let languages = self.query_languages(query);
        let words = if query.arms.bm25 {
            analyze::query_words(&query.text, &self.with_unknown(&languages))
        } else {
            Vec::new()
        };
        let sure = if let [lang] = languages.as_slice() { Some(lang.as_str()) } else { None };
        let want_sparse = query.arms.sparse
            && self.index.settings.lexical
            && (query.explain || query.fusion.uses_sparse() || !query.arms.dense);
        let (dense, (found, sparse)) =
            self.lists(query, embedding, &selected, (words, sure, want_sparse), dense_list, &mut timings, &stop)?;
        stop.check()?;

        let begin = Instant::now();
        let best_share = found.list.first().map_or(0.0, |best| found.share(best.0));
        let lists = Lists {
            dense: query.arms.dense.then_some(&dense),
            bm25: query.arms.bm25.then_some(&found.list),
            sparse: want_sparse.then_some(&sparse),
            best_share,
        };
        let mut candidates = fusion::union(&lists, |score| found.share(score));
        self.fuse(query, embedding, &lists, &mut candidates)?;
        timings.fusion_ms = ms(begin);

        let begin = Instant::now();
        let rows = if query.rerank > 0 { super::query_rows(self, embedding.colbert.as_ref())? } else { None };
        let shown = super::rerank(self, query, rows.as_ref(), &mut candidates)?;
        timings.rerank_ms = ms(begin);
        timings.dense_ms += dense_ms;
        timings.total_ms = ms(whole) + dense_ms;
        Ok(Ranking { candidates, shown, found, searched, best_share, languages, timings, dense, sparse })
    }

    /// Makes the lists of the arms: the dense arm's on this thread, and on another thread, if the query may use one, the BM25 and the
    /// lexical arm's.
    #[allow(clippy::type_complexity, clippy::too_many_arguments)] // dense; words and lexical
    fn lists(
        &self,
        query: &Query,
        embedding: &Embedding,
        selected: &Bits,
        (words, sure, want_sparse): (Vec<analyze::QueryWord>, Option<&str>, bool),
        dense_list: Option<Vec<Scored>>,
        timings: &mut Timings,
        stop: &Stop<'_>,
    ) -> Result<(Vec<Scored>, (Found, Vec<Scored>))> {
        let depth = depth(query);
        let other_arms = || -> Result<(Found, f64, Vec<Scored>, f64)> {
            let begin = Instant::now();
            let found = match query.arms.bm25 {
                true => bm25::search(self, words.clone(), sure, selected, depth, stop)?,
                false => Found::default(),
            };
            let bm25_ms = ms(begin);
            let begin = Instant::now();
            let sparse = match (&embedding.lexical, want_sparse) {
                (Some(weights), true) => lexical::search(self, weights, selected, depth, query.threads(), stop)?,
                _ => Vec::new(),
            };
            Ok((found, bm25_ms, sparse, ms(begin)))
        };
        let (dense, others) = std::thread::scope(|scope| -> Result<_> {
            // If the query may use only one thread, or the system cannot create one, the arms run one after the other.
            let beside = match query.threads() {
                0 | 1 => None,
                _ => std::thread::Builder::new().spawn_scoped(scope, other_arms).ok(),
            };
            let begin = Instant::now();
            let dense = match dense_list {
                Some(list) => Ok(list),
                None if query.arms.dense => dense_of(embedding)
                    .and_then(|vector| dense::search(self, &[vector], selected, depth, query.threads(), stop))
                    .map(|mut lists| lists.pop().unwrap_or_default()),
                None => Ok(Vec::new()),
            };
            timings.dense_ms = if query.arms.dense { ms(begin) } else { 0.0 };
            let others = match beside {
                Some(beside) => beside
                    .join()
                    .unwrap_or_else(|_| Err(Error::damaged(&self.index.directory, "a search's thread panicked"))),
                None => other_arms(),
            };
            Ok((dense?, others?))
        })?;
        let (found, bm25_ms, sparse, sparse_ms) = others;
        (timings.bm25_ms, timings.sparse_ms) = (bm25_ms, sparse_ms);
        Ok((dense, (found, sparse)))
    }

    /// Gives candidates their fused scores and sorts them by these.
    pub(crate) fn fuse(
        &self,
        query: &Query,
        embedding: &Embedding,
        lists: &Lists<'_>,
        candidates: &mut [Candidate],
    ) -> Result<()> {
        if let Fusion::Weighted { .. } = query.fusion {
            self.complete(query, embedding, candidates)?;
        }
        fusion::fuse(query.fusion, lists, candidates);
        Ok(())
    }

    /// Gives candidates their dense and lexical scores where they are not in that arm's list.
    fn complete(&self, query: &Query, embedding: &Embedding, candidates: &mut [Candidate]) -> Result<()> {
        let mut scratch = vec![0.0; self.index.settings.dense_dim];
        let stop = Stop::of([query]);
        for candidate in candidates {
            stop.check()?;
            if candidate.dense.is_none() && query.arms.dense {
                let score = dense::score(self, dense_of(embedding)?, candidate.row, &mut scratch)?;
                candidate.dense = Some(Ranked { rank: None, score });
            }
            if let (None, true, Some(weights)) = (candidate.sparse, query.arms.sparse, &embedding.lexical) {
                let score = lexical::score(self, weights, candidate.row)?;
                candidate.sparse = Some(Ranked { rank: None, score });
            }
        }
        Ok(())
    }

    /// Checks that the index has the language, the arm and the fields of the filter that a query asks for.
    pub(crate) fn check_query(&self, query: &Query) -> Result<()> {
        if let Some(code) = &query.lang {
            self.check_lang(code)?;
        }
        if !self.index.settings.lexical && query.arms == (Arms { dense: false, bm25: false, sparse: true }) {
            return Err(Error::option("arms", "found sparse alone, but the index has no lexical weights"));
        }
        query.filter.as_ref().map_or(Ok(()), |filter| self.check_filter(filter))
    }

    /// Checks that a code names a language, or is the language of documents of the index.
    ///
    /// # Errors
    /// [`Error::Option`] names the code, and the languages that the index has.
    pub fn check_lang(&self, code: &str) -> Result<()> {
        let kept = analyze::normalize_code(code);
        let own: Vec<&str> = self.languages().filter(|own| *own != analyze::UNKNOWN).collect();
        if analyze::is_language(&kept) || own.contains(&kept.as_str()) {
            return Ok(());
        }
        let shown: String = code.chars().take(MOST_SHOWN).collect();
        let mut what = format!("found `{}`, expected the code of a language, as de, en or zh", shown.escape_debug());
        if !own.is_empty() {
            what += "; the index has ";
            what += &own.iter().take(MOST_SHOWN).copied().collect::<Vec<_>>().join(", ");
        }
        Err(Error::option("lang", what))
    }

    /// The languages that a query may be in: the one that it names, else the one that is detected with certainty, else all of the index.
    fn query_languages(&self, query: &Query) -> Vec<String> {
        if let Some(lang) = &query.lang {
            return vec![analyze::normalize_code(lang)];
        }
        let all: Vec<String> = self.languages().map(str::to_owned).collect();
        match analyze::detect(&query.text, &all) {
            Some((code, true)) => vec![code],
            _ => all,
        }
    }

    /// The languages by whose rules a query's words are stemmed and looked up: `languages`, and [`UNKNOWN`](analyze::UNKNOWN) if the index
    /// has documents of unknown language, whose words are not stemmed. Such a document, as a short one, may be in any language.
    fn with_unknown(&self, languages: &[String]) -> Vec<String> {
        let mut all = languages.to_vec();
        if self.languages().any(|own| own == analyze::UNKNOWN) && !all.iter().any(|own| own == analyze::UNKNOWN) {
            all.push(analyze::UNKNOWN.to_owned());
        }
        all
    }

    /// Reads the documents of the first `query.top` candidates, and explains them if the query asks for it and there is an encoder.
    fn hits(
        &self,
        encoder: Option<&Encoder<'_>>,
        query: &Query,
        embedding: &Embedding,
        ranking: Ranking,
    ) -> Result<Hits> {
        let Ranking { candidates, shown, found, searched, best_share, languages, mut timings, .. } = ranking;
        let begin = Instant::now();
        let mut hits = Vec::new();
        let stop = Stop::of([query]);
        for (place, (candidate, &score)) in candidates.iter().zip(&shown).take(query.top).enumerate() {
            stop.check()?;
            let stored = self.stored(candidate.row)?;
            let explanation = match encoder.filter(|_| query.explains()) {
                Some(encoder) => {
                    let all = explain::explain(self, encoder, &query.text, embedding, &found, candidate, &stored)?;
                    Some(if query.explain { all } else { all.snippet_alone() })
                }
                None => None,
            };
            let arms = ArmScores {
                dense: candidate.dense,
                bm25: candidate.bm25,
                sparse: candidate.sparse,
                colbert: candidate.colbert,
                reranker: None,
                share: candidate.share,
                fused: candidate.fused,
                fused_rank: candidate.fused_rank,
            };
            let (document, lang) = (stored.document, stored.analyzed);
            hits.push(Hit { rank: place as u32 + 1, score, document, lang, arms, explanation });
        }
        timings.documents_ms = ms(begin);
        let in_chunks = self.has_chunks()?;
        timings.total_ms += ms(begin);
        let info = |word: &bm25::Weighed| WordInfo {
            word: word.word.word.clone(),
            documents: word.documents,
            found: word.found,
            idf: word.idf,
        };
        Ok(Hits {
            hits,
            searched,
            in_chunks,
            candidates: candidates.len(),
            query_truncated: embedding.truncated,
            best_share,
            words: found.words.iter().map(info).collect(),
            words_dropped: found.dropped,
            languages,
            timings,
        })
    }
}

/// A copy of the query with the model's number of threads if its own is 0.
fn on_threads_of(encoder: &Encoder<'_>, query: &Query) -> Query {
    let threads = if query.threads == 0 { encoder.model().info().threads } else { query.threads };
    Query { threads, ..query.clone() }
}

fn dense_of(embedding: &Embedding) -> Result<&[f32]> {
    embedding.dense.as_deref().ok_or_else(|| Error::option("query", "its embedding has no dense vector"))
}

/// How many candidates each arm gives at most.
fn depth(query: &Query) -> usize {
    query.candidates.max(query.top).max(query.rerank)
}
