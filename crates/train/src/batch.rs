//! Chooses the texts of a batch (pairs, negatives, and what is masked), and computes the losses and gradients of a step over it.

use crate::arms::{Effective, Gradient, Tokens, colbert, dense, lexical};
use crate::corpus::{Corpus, Placed};
use crate::data::PairSet;
use crate::loss::{self, LossOptions, Losses, Teacher, teacher_row};
use crate::random::Random;

/// The texts of a batch: every query is scored against every passage.
#[derive(Debug)]
pub(crate) struct Assembled {
    /// Each query's place in the corpus.
    pub queries: Vec<usize>,
    /// Each passage's place in the corpus: first the right passage of every query, then the negatives.
    pub passages: Vec<usize>,
    /// The index in `passages` of each query's right passage.
    pub positives: Vec<usize>,
    /// `[queries, passages]`: whether the passage is another one of the query's own group, which must not count as a negative.
    pub masked: Vec<bool>,
    /// For each query, whether it shares a piece with its right passage.
    pub sharing: Vec<bool>,
    /// The judgements of another model, if the data has any for this batch.
    pub teacher: Option<Teacher>,
}

/// What batches are made from.
pub(crate) struct Source<'a> {
    pub set: &'a PairSet,
    pub corpus: &'a Corpus,
    pub placed: Placed,
    /// The mined hard negatives of each query of the set.
    pub mined: &'a [Vec<u32>],
    /// How many negatives a query brings into a batch: its own first, then mined ones.
    pub negatives: usize,
    pub batch: usize,
    pub seed: u64,
}

impl Source<'_> {
    /// How many steps an epoch has.
    pub(crate) fn steps(&self) -> usize {
        (self.set.pairs.len() / self.batch).max(1)
    }

    /// Batch `step` of an epoch. Pairs left over after the last whole batch are not used in this epoch.
    pub(crate) fn batch(&self, epoch: usize, step: usize) -> Assembled {
        let mut order: Vec<u32> = (0..self.set.pairs.len() as u32).collect();
        Random::new(self.seed, 1 + epoch as u64).shuffle(&mut order);
        let first = step * self.batch;
        let pairs = &order[first..(first + self.batch).min(order.len())];
        // Each step has a random generator of its own, so that a resumed run can begin at any step.
        let purpose = (1 << 32) + (epoch as u64) * (1 << 20) + step as u64;
        self.assemble(pairs, &mut Random::new(self.seed, purpose))
    }

    /// Puts together the batch of these pairs. Its passages are the positives in the order of the pairs, then each query's negatives.
    fn assemble(&self, pairs: &[u32], random: &mut Random) -> Assembled {
        let set = self.set;
        let of = |pair: &u32| &set.pairs[*pair as usize];
        let mut passages: Vec<u32> = pairs.iter().map(|pair| of(pair).passage).collect();
        let mut teacher: Teacher = Vec::with_capacity(pairs.len());
        for (row, pair) in pairs.iter().map(of).enumerate() {
            let mut judged: Vec<(usize, f32)> = pair.score.map(|score| (row, score)).into_iter().collect();
            let mut own: Vec<usize> = (0..pair.negatives.len()).collect();
            random.shuffle(&mut own);
            own.truncate(self.negatives);
            for &at in &own {
                if let Some(&score) = pair.negative_scores.get(at) {
                    judged.push((passages.len(), score));
                }
                passages.push(pair.negatives[at]);
            }
            let mined = &self.mined[pair.query as usize];
            for _ in own.len()..self.negatives {
                if !mined.is_empty() {
                    passages.push(mined[random.below(mined.len())]);
                }
            }
            // The softmax of a single judgement is always 1, and teaches nothing.
            teacher.push((judged.len() > 1 && pair.score.is_some()).then(|| teacher_row(&judged)));
        }
        let mut masked = vec![false; pairs.len() * passages.len()];
        for (row, pair) in pairs.iter().map(of).enumerate() {
            for (column, &passage) in passages.iter().enumerate() {
                let same = set.passage_groups[passage as usize] == Some(pair.group);
                masked[row * passages.len() + column] = same && column != row;
            }
        }
        let queries: Vec<usize> = pairs.iter().map(|pair| self.placed.query(of(pair).query)).collect();
        let passages: Vec<usize> = passages.into_iter().map(|place| self.placed.passage(place)).collect();
        let ids = |text: usize| self.corpus.ids[text].as_slice();
        Assembled {
            sharing: queries.iter().zip(&passages).map(|(&q, &p)| lexical::share_a_piece(ids(q), ids(p))).collect(),
            positives: (0..pairs.len()).collect(),
            teacher: teacher.iter().any(Option::is_some).then_some(teacher),
            queries,
            passages,
            masked,
        }
    }
}

/// The dense and ColBERT scores of a batch, and what the backward pass needs of them.
pub(crate) struct Scored {
    pub dense: Option<(Vec<f32>, dense::Forward)>,
    pub colbert: Option<(Vec<f32>, colbert::Forward)>,
    /// The token states of the queries, and of the passages.
    pub tokens: [Tokens; 2],
    /// The pooled states of the queries, and of the passages.
    pub pooled: [Vec<f32>; 2],
}

/// Computes the dense and ColBERT scores of a batch. The sparse ones are computed in [`step`], so that many sparse heads can share these.
pub(crate) fn score(corpus: &Corpus, batch: &Assembled, maps: &[Option<Effective>; 3]) -> Scored {
    let tokens = [&batch.queries, &batch.passages].map(|texts| Tokens::load(&corpus.states, &corpus.ids, texts));
    let pooled = [&batch.queries, &batch.passages].map(|texts| corpus.pooled(texts));
    Scored {
        dense: maps[0].as_ref().map(|map| dense::forward(map, &pooled[0], &pooled[1])),
        colbert: maps[2].as_ref().map(|map| colbert::forward(map, &tokens[0], &tokens[1])),
        tokens,
        pooled,
    }
}

/// Options of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepOptions {
    pub loss: LossOptions,
    pub distill: bool,
    /// Whether the sparse losses are only on pairs whose query and passage share a piece.
    pub only_sharing: bool,
}

/// What [`step`] computes: losses, gradients of the effective maps, scores of the arms.
pub(crate) struct Stepped {
    pub losses: Losses,
    pub gradients: [Option<Gradient>; 3],
    pub scores: [Option<Vec<f32>>; 3],
}

/// Computes the losses of a batch, and the gradients of the effective maps of the arms that are `trained`.
pub(crate) fn step(
    batch: &Assembled,
    scored: &Scored,
    maps: &[Option<Effective>; 3],
    trained: [bool; 3],
    options: &StepOptions,
) -> Stepped {
    let [q, p] = &scored.tokens;
    let pieces = maps[1].as_ref().map(|map| (lexical::pieces(map, q), lexical::pieces(map, p)));
    let sparse = pieces.as_ref().map(|(q, p)| lexical::scores(q, p));
    let dense_scores = scored.dense.as_ref().map(|(scores, _)| scores.as_slice());
    let colbert_scores = scored.colbert.as_ref().map(|(scores, _)| scores.as_slice());
    let (losses, g) = loss::losses(
        &loss::Batch {
            scores: [dense_scores, sparse.as_deref(), colbert_scores],
            queries: batch.queries.len(),
            passages: batch.passages.len(),
            positives: &batch.positives,
            masked: &batch.masked,
            sparse_rows: options.only_sharing.then_some(&batch.sharing),
            teacher: batch.teacher.as_ref(),
            distill: options.distill,
        },
        &options.loss,
    );
    let mut gradients: [Option<Gradient>; 3] = Default::default();
    if let (true, Some(map), Some((_, forward)), Some(g)) = (trained[0], &maps[0], &scored.dense, &g[0]) {
        gradients[0] = Some(dense::backward(map, forward, g, &scored.pooled[0], &scored.pooled[1]));
    }
    if let (true, Some((of_queries, of_passages)), Some(g)) = (trained[1], &pieces, &g[1]) {
        gradients[1] = Some(lexical::backward(g, [of_queries, of_passages], [q, p]));
    }
    if let (true, Some(map), Some((_, forward)), Some(g)) = (trained[2], &maps[2], &scored.colbert, &g[2]) {
        gradients[2] = Some(colbert::backward(map, forward, g, q, p));
    }
    let scores = [dense_scores.map(<[f32]>::to_vec), sparse, colbert_scores.map(<[f32]>::to_vec)];
    Stepped { losses, gradients, scores }
}
