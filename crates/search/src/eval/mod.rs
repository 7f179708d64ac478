//! Evaluates an index on queries with judgements: every arm and fusion, with and without the rerank.
//!
//! Every query is embedded and searched once; all fusions are made of the same lists. If documents are cut into chunks, a document has the
//! rank of its best chunk, because judgements name documents.

mod judgements;
mod metrics;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::query::fusion::{self, Candidate, Lists};

use crate::query::{Arms, Fusion, Query, Ranking};
use crate::reader::Reader;
use crate::text::GROUP;
pub use judgements::{Judgements, Question, read_judgements, read_queries, run_line};
pub use metrics::{Metrics, measure};
pub use trivec::bootstrap::{Interval, difference, interval};

/// The number of queries that are searched together.
const TOGETHER: usize = 32;

/// The largest number of documents of a list that the metrics see.
const MEASURED: usize = 1_000;

/// The weights of the share that are tried.
const WEIGHTS: [f32; 11] = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0];

/// The options of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalOptions {
    /// How many candidates each arm gives; fewer than 100 count as 100, which Recall@100 needs.
    pub candidates: usize,
    /// How many of the best are reranked; 0: no ranking with a rerank is evaluated.
    pub rerank: usize,
    /// The number of resamples of the bootstrap, which gives the intervals.
    pub resamples: usize,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Default for EvalOptions {
    fn default() -> Self {
        EvalOptions { candidates: 1_000, rerank: 200, resamples: 1_000, seed: 1 }
    }
}

/// A way of ranking and its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// `dense`, `bm25`, `sparse`, `share`, `rrf`, `rrf-textbook`, `weighted`; with `+colbert` after it if it was reranked.
    pub name: String,
    /// The mean nDCG@10 of the queries, with its interval of 95 %.
    pub ndcg10: Interval,
    /// The mean recall@10 of the queries, with its interval of 95 %.
    pub recall10: Interval,
    /// The mean recall@100 of the queries, with its interval of 95 %.
    pub recall100: Interval,
    /// The mean reciprocal rank of the first document that is judged relevant, with its interval of 95 %.
    pub mrr: Interval,
    /// The metrics of each query, in the order of [`EvalReport::queries`].
    pub per_query: Vec<Metrics>,
}

/// The difference between two ways of ranking on the same queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The name of the first way of ranking.
    pub name: String,
    /// The name of the second one, with which the first is compared.
    pub with: String,
    /// The mean nDCG@10 of `name` minus that of `with`, with its interval of 95 % over resampled queries.
    pub ndcg10: Interval,
}

/// The weight of the fusion `share` that was best on one half of the queries, and its result on the other half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// The weight.
    pub weight: f32,
    /// How many queries it was chosen on.
    pub tuned_on: usize,
    /// How many queries are in the other half, on which the figures below were measured.
    pub reported_on: usize,
    /// The mean nDCG@10 of this weight on the other half.
    pub ndcg10: f64,
    /// The mean nDCG@10 of the default weight on the other half.
    pub ndcg10_default: f64,
    /// The first minus the second, with its interval of 95 %.
    pub difference: Interval,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// The queries with a relevant document; only these are counted.
    pub queries: Vec<String>,
    /// How many queries have no relevant document and were left out.
    pub unjudged: usize,
    /// How many relevant documents all queries have together.
    pub relevant: usize,
    /// How many relevant documents are not in the index, so that they cannot be found.
    pub missing: usize,
    /// The metrics of every arm, every fusion, and the fusions with a rerank.
    pub rankings: Vec<Ranked>,
    /// Every fusion, with a rerank and without, compared with the best arm.
    pub paired: Vec<Paired>,
    /// The best weight of the fusion `share`; `None` with fewer than 20 queries.
    pub tuned: Option<Tuned>,
}

/// Evaluates an index on the questions that have a relevant document. `progress` is called after every batch with the number of questions
/// that are done and the number of all.
///
/// # Errors
/// [`Error::Option`] if no question has a relevant document; as [`Reader::search`].
pub fn evaluate(
    reader: &Reader,
    encoder: &Encoder<'_>,
    questions: &[Question],
    judgements: &Judgements,
    options: &EvalOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<EvalReport> {
    let judged: Vec<&Question> =
        questions.iter().filter(|question| judgements.relevant(&question.id).next().is_some()).collect();
    if judged.is_empty() {
        return Err(Error::option("judgements", "no query has a document that is judged relevant"));
    }
    let keys = reader.strings(GROUP)?;
    let there: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let relevant: Vec<&str> = judged.iter().flat_map(|question| judgements.relevant(&question.id)).collect();
    let missing = relevant.iter().filter(|key| !there.contains(*key)).count();

    let ways = ways(reader, options);
    let mut measured: Vec<Vec<Metrics>> = vec![Vec::new(); ways.len()];
    let mut by_weight: Vec<Vec<f64>> = vec![Vec::new(); WEIGHTS.len()];
    for batch in judged.chunks(TOGETHER) {
        let query = |question: &&Question| Query {
            lang: question.lang.clone(),
            candidates: options.candidates.max(100),
            rerank: 0,
            explain: true,
            arms: Arms::ALL,
            ..Query::new(question.text.clone())
        };
        let queries: Vec<Query> = batch.iter().map(query).collect();
        queries.iter().try_for_each(|query| query.check().and_then(|()| reader.check_query(query)))?;
        let texts: Vec<&str> = queries.iter().map(|query| query.text.as_str()).collect();
        let embeddings = encoder.queries(&texts)?;
        let rankings = reader.rank_all(&queries, &embeddings)?;
        for ((question, embedding), ranking) in batch.iter().zip(&embeddings).zip(&rankings) {
            for (way, measured) in ways.iter().zip(&mut measured) {
                let candidates = way.rank(reader, embedding, ranking)?;
                measured.push(measure(&documents(&candidates, &keys), judgements, &question.id));
            }
            for (weight, measured) in WEIGHTS.iter().zip(&mut by_weight) {
                let way =
                    Way { name: String::new(), arms: Arms::ALL, fusion: Fusion::Share { weight: *weight }, rerank: 0 };
                let candidates = way.rank(reader, embedding, ranking)?;
                measured.push(measure(&documents(&candidates, &keys), judgements, &question.id).ndcg10);
            }
        }
        progress(measured[0].len(), judged.len());
    }

    let rankings: Vec<Ranked> =
        ways.iter().zip(measured).map(|(way, per_query)| ranked(way, per_query, options)).collect();
    let arms = rankings.iter().take(3).filter(|ranked| ["dense", "bm25", "sparse"].contains(&ranked.name.as_str()));
    let best = arms.max_by(|a, b| a.ndcg10.mean.total_cmp(&b.ndcg10.mean));
    let ndcg = |ranked: &Ranked| ranked.per_query.iter().map(|metrics| metrics.ndcg10).collect::<Vec<f64>>();
    let paired = best.map(|best| {
        let others = rankings.iter().filter(|ranked| !["dense", "bm25", "sparse"].contains(&ranked.name.as_str()));
        let pair = |ranked: &Ranked| Paired {
            name: ranked.name.clone(),
            with: best.name.clone(),
            ndcg10: difference(&ndcg(ranked), &ndcg(best), options.resamples, options.seed),
        };
        others.map(pair).collect()
    });
    Ok(EvalReport {
        queries: judged.iter().map(|question| question.id.clone()).collect(),
        unjudged: questions.len() - judged.len(),
        relevant: relevant.len(),
        missing,
        rankings,
        paired: paired.unwrap_or_default(),
        tuned: tuned(&by_weight, options),
    })
}

/// A way of ranking: the arms whose lists are fused, how they are fused, and how many of the best are reranked.
struct Way {
    name: String,
    arms: Arms,
    fusion: Fusion,
    rerank: usize,
}

/// The ways of ranking that an index is evaluated with.
fn ways(reader: &Reader, options: &EvalOptions) -> Vec<Way> {
    let only = |dense, bm25, sparse| Arms { dense, bm25, sparse };
    let textbook = Fusion::Rrf { k: 60.0, weights: [1.0, 1.0, 0.0], gate: 0.0 };
    let gated = Fusion::Rrf { k: 60.0, weights: [1.0, 1.0, 0.0], gate: 0.2 };
    let mut ways = vec![
        ("dense", only(true, false, false), Fusion::default()),
        ("bm25", only(false, true, false), Fusion::default()),
        ("sparse", only(false, false, true), Fusion::default()),
        ("share", only(true, true, false), Fusion::default()),
        ("rrf", only(true, true, false), gated),
        ("rrf-textbook", only(true, true, false), textbook),
        ("weighted", only(true, false, true), Fusion::WEIGHTED),
    ];
    if !reader.index.settings.lexical {
        ways.retain(|(_, arms, _)| !arms.sparse);
    }
    let way = |(name, arms, fusion): (&str, Arms, Fusion)| Way { name: name.to_owned(), arms, fusion, rerank: 0 };
    let mut ways: Vec<Way> = ways.into_iter().map(way).collect();
    if options.rerank > 0 && reader.index.settings.modes().colbert {
        for (name, fusion) in [("share", Fusion::default()), ("weighted", Fusion::WEIGHTED)] {
            let with = ways.iter().find(|way| way.name == name).map(|way| way.arms);
            ways.extend(with.map(|arms| Way { name: format!("{name}+colbert"), arms, fusion, rerank: options.rerank }));
        }
    }
    ways
}

impl Way {
    /// Ranks the candidates of one query in this way, from the arms' lists in `ranking`.
    fn rank(&self, reader: &Reader, embedding: &trivec::Embedding, ranking: &Ranking) -> Result<Vec<Candidate>> {
        let lists = Lists {
            dense: self.arms.dense.then_some(ranking.dense.as_slice()),
            bm25: self.arms.bm25.then_some(ranking.found.list.as_slice()),
            sparse: self.arms.sparse.then_some(ranking.sparse.as_slice()),
            best_share: ranking.best_share,
        };
        let query = Query { arms: self.arms, fusion: self.fusion, rerank: self.rerank, ..Query::new("") };
        let mut candidates = fusion::union(&lists, |score| ranking.found.share(score));
        reader.finish(&query, embedding, &lists, &mut candidates)?;
        Ok(candidates)
    }
}

/// The keys of the candidates' documents in order, each once. `keys` has the document's key for every row.
fn documents<'k>(candidates: &[Candidate], keys: &'k [String]) -> Vec<&'k str> {
    let mut seen = BTreeSet::new();
    let keys = candidates.iter().filter_map(|candidate| keys.get(candidate.row).map(String::as_str));
    keys.filter(|key| seen.insert(*key)).take(MEASURED).collect()
}

/// Computes the means and intervals of a way's metrics.
fn ranked(way: &Way, per_query: Vec<Metrics>, options: &EvalOptions) -> Ranked {
    let mean = |of: fn(&Metrics) -> f64| {
        interval(&per_query.iter().map(of).collect::<Vec<f64>>(), options.resamples, options.seed)
    };
    Ranked {
        name: way.name.clone(),
        ndcg10: mean(|metrics| metrics.ndcg10),
        recall10: mean(|metrics| metrics.recall10),
        recall100: mean(|metrics| metrics.recall100),
        mrr: mean(|metrics| metrics.mrr),
        per_query,
    }
}

/// Chooses the weight with the best mean nDCG@10 on every other query, and measures it on the rest. `by_weight` has, for each of
/// [`WEIGHTS`], the nDCG@10 of every query.
fn tuned(by_weight: &[Vec<f64>], options: &EvalOptions) -> Option<Tuned> {
    let count = by_weight.first()?.len();
    if count < 20 {
        return None;
    }
    let half = |list: &[f64], odd: usize| list.iter().skip(odd).step_by(2).copied().collect::<Vec<f64>>();
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    // Of equally good weights, the one nearest to the default.
    let (best, _) = by_weight.iter().enumerate().map(|(at, list)| (at, mean(&half(list, 0)))).max_by(|a, b| {
        let far = |at: usize| (WEIGHTS[at] - 1.0).abs();
        a.1.total_cmp(&b.1).then(far(b.0).total_cmp(&far(a.0)))
    })?;
    let default = WEIGHTS.iter().position(|weight| *weight == 1.0)?;
    let (own, usual) = (half(&by_weight[best], 1), half(&by_weight[default], 1));
    Some(Tuned {
        weight: WEIGHTS[best],
        tuned_on: count - own.len(),
        reported_on: own.len(),
        ndcg10: mean(&own),
        ndcg10_default: mean(&usual),
        difference: difference(&own, &usual, options.resamples, options.seed),
    })
}

impl Reader {
    /// Fuses and reranks candidates as a search does.
    fn finish(
        &self,
        query: &Query,
        embedding: &trivec::Embedding,
        lists: &Lists<'_>,
        candidates: &mut [Candidate],
    ) -> Result<()> {
        self.fuse(query, embedding, lists, candidates)?;
        let rows = if query.rerank > 0 { crate::query::query_rows(self, embedding.colbert.as_ref())? } else { None };
        crate::query::rerank(self, query, rows.as_ref(), candidates).map(drop)
    }
}
