//! The rerank by ColBERT vectors: MaxSim of the query's token vectors with the stored ones of the best candidates.

use std::sync::atomic::{AtomicUsize, Ordering};

use trivec::TokenVectors;

use super::ask::Query;
use super::dense::on_threads;
use super::fusion::{Candidate, Fusion, Ranked, mix};
use super::stop::Stop;
use super::topk;
use crate::error::Result;
use crate::reader::Reader;
use crate::segment::colbert::Scratch;
use crate::segment::panels::QueryRows;

/// The rerank uses at most one thread per this many documents, because starting a thread takes time too.
const DOCUMENTS_OF_A_THREAD: usize = 16;

/// The query's token vectors, rounded as products with the stored ones need them; `None` if the index stores none or `vectors` is `None`.
pub(crate) fn query_rows(reader: &Reader, vectors: Option<&TokenVectors>) -> Result<Option<QueryRows>> {
    let settings = &reader.index.settings;
    let (Some(dim), Some(vectors)) = (settings.colbert_dim, vectors) else { return Ok(None) };
    match settings.colbert_bits {
        crate::settings::ColbertBits::Off => Ok(None),
        bits => QueryRows::new(bits, dim, vectors.iter()).map(Some),
    }
}

/// The ColBERT score of each of `rows`, on up to `threads` threads.
pub(crate) fn scores(
    reader: &Reader,
    query: &QueryRows,
    rows: &[usize],
    threads: usize,
    stop: &Stop<'_>,
) -> Result<Vec<f32>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, f32)>> {
        let (mut scratch, mut scored) = (Scratch::default(), Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&row) = rows.get(at) else { return Ok(scored) };
            stop.check()?;
            let (segment, local) = reader.place(row)?;
            if let Some(colbert) = &segment.colbert {
                scored.push((at, colbert.score(query, local, &mut scratch)?));
            }
        }
    };
    let threads = threads.min(rows.len().div_ceil(DOCUMENTS_OF_A_THREAD)).max(1);
    let mut scores = vec![0.0; rows.len()];
    for (at, score) in on_threads(threads, work)?.into_iter().flatten() {
        scores[at] = score;
    }
    Ok(scores)
}

/// Scores the first `query.rerank` candidates by ColBERT vectors, sorts them by a mix of this score with the share (or by the mix of the
/// fusion `weighted`), and returns the score that each candidate is shown with. Without `rows` the order stays, and the fused scores are
/// shown.
pub(crate) fn rerank(
    reader: &Reader,
    query: &Query,
    rows: Option<&QueryRows>,
    candidates: &mut [Candidate],
) -> Result<Vec<f32>> {
    let count = if rows.is_some() { query.rerank.min(candidates.len()) } else { 0 };
    let (first, _) = candidates.split_at_mut(count);
    if let (Some(rows), false) = (rows, first.is_empty()) {
        let places: Vec<usize> = first.iter().map(|candidate| candidate.row).collect();
        let scores = scores(reader, rows, &places, query.threads(), &Stop::of([query]))?;
        let mut order: Vec<topk::Scored> = scores.iter().copied().zip(0..).collect();
        order.sort_unstable_by(topk::order);
        for (rank, (score, at)) in order.into_iter().enumerate() {
            first[at].colbert = Some(Ranked { rank: Some(rank as u32 + 1), score });
        }
    }
    let shown = |candidate: &Candidate| match (candidate.colbert, query.fusion) {
        (None, _) => candidate.fused,
        (Some(_), Fusion::Weighted { dense, sparse, colbert }) => {
            mix([(dense, candidate.dense), (sparse, candidate.sparse), (colbert, candidate.colbert)])
        }
        (Some(own), _) => (own.score.max(0.0) + query.rerank_share * candidate.share) / (1.0 + query.rerank_share),
    };
    let shown_of_one = |candidate: &Candidate| match candidate.colbert {
        // Where the dense arm stands alone, its cosine may be below 0.
        None if query.arms.is_dense_alone() => candidate.fused,
        _ => shown(candidate).clamp(0.0, 1.0),
    };
    first.sort_by(|a, b| shown(b).total_cmp(&shown(a)).then(a.row.cmp(&b.row)));
    Ok(candidates.iter().map(shown_of_one).collect())
}
