//! Reorders the best hits with a cross-encoder, which reads the query together with each document.

use std::time::{Duration, Instant};

use trivec::{Model, RerankOptions, Reranked};

use super::answer::Hits;
use super::fusion::Ranked;
use crate::error::{Error, Result};

impl Hits {
    /// Sorts the first `count` hits by the scores that `reranker`, a cross-encoder such as bge-reranker-v2-m3, gives them for `query`, and
    /// sets their scores to these. The other hits follow in their old order.
    ///
    /// # Errors
    /// [`Error::Engine`] if the model is no reranker or fails, or if the options' flag ended the call.
    pub fn rerank_with(&mut self, reranker: &Model, query: &str, count: usize, options: &RerankOptions) -> Result<()> {
        let begin = Instant::now();
        let scores = reranker.rerank(query, &self.texts(count), options)?;
        self.rerank_by(&scores, begin.elapsed())
    }

    /// The texts of the first `count` hits, as a cross-encoder reads them.
    pub fn texts(&self, count: usize) -> Vec<String> {
        self.hits.iter().take(count).map(|hit| hit.document.searched_text()).collect()
    }

    /// As [`rerank_with`](Self::rerank_with), but with scores that the caller has computed, in the time `took`: `scores` are those of the
    /// first hits' [`texts`](Self::texts), in order.
    ///
    /// # Errors
    /// [`Error::Option`] if there are more scores than hits.
    pub fn rerank_by(&mut self, scores: &[Reranked], took: Duration) -> Result<()> {
        let count = scores.len();
        if count > self.hits.len() {
            return Err(Error::option("reranker", format!("{count} scores for {} documents", self.hits.len())));
        }
        for (hit, reranked) in self.hits.iter_mut().zip(scores) {
            hit.score = reranked.score.clamp(0.0, 1.0);
            hit.arms.reranker = Some(Ranked { rank: None, score: reranked.score });
        }
        // Sorted by the logits, because scores close to 0 or 1 round to the same number.
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| scores[b].logit.total_cmp(&scores[a].logit).then(a.cmp(&b)));
        let rest = self.hits.split_off(count);
        let mut first: Vec<_> = std::mem::take(&mut self.hits).into_iter().map(Some).collect();
        self.hits = order.iter().filter_map(|&place| first[place].take()).chain(rest).collect();
        for (place, hit) in self.hits.iter_mut().enumerate() {
            hit.rank = place as u32 + 1;
            if let Some(ranked) = &mut hit.arms.reranker {
                ranked.rank = Some(hit.rank);
            }
        }
        let ms = took.as_secs_f64() * 1e3;
        self.timings.rerank_ms += ms;
        self.timings.total_ms += ms;
        Ok(())
    }
}
