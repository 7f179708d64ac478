//! Reorders the best hits with a cross-encoder, which reads the query together with each document.

use std::time::Instant;

use trivec::{Model, RerankOptions};

use super::answer::Hits;
use super::fusion::Ranked;
use crate::error::{Error, Result};

impl Hits {
    /// Orders the first `count` hits by the scores that `reranker`, a cross-encoder such as bge-reranker-v2-m3, gives them for `query`, and
    /// shows these scores. The other hits follow in their old order.
    ///
    /// # Errors
    /// [`Error::Engine`]: the model is no reranker, or fails, or the call was ended by the options' flag.
    pub fn rerank_with(&mut self, reranker: &Model, query: &str, count: usize, options: &RerankOptions) -> Result<()> {
        let begin = Instant::now();
        let count = count.min(self.hits.len());
        let texts: Vec<String> = self.hits[..count].iter().map(|hit| hit.document.searched_text()).collect();
        let scores = reranker.rerank(query, &texts, options)?;
        if scores.len() != count {
            return Err(Error::option("reranker", format!("{} scores for {count} documents", scores.len())));
        }
        for (hit, reranked) in self.hits.iter_mut().zip(&scores) {
            hit.score = reranked.score.clamp(0.0, 1.0);
            hit.arms.reranker = Some(Ranked { rank: None, score: reranked.score });
        }
        // Ordered by the logit, because scores close to 0 or 1 round to the same number.
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
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        self.timings.rerank_ms += ms;
        self.timings.total_ms += ms;
        Ok(())
    }
}
