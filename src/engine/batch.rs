//! Forward passes over many texts: which texts share a pass, and how the states become results.

use std::sync::{MutexGuard, TryLockError};

use super::model::Model;
use super::options::{Cancel, EncodeOptions, Progress};
use crate::compute::Compute;
use crate::config::PoolingMode;
use crate::embedding::{Embedding, Inspection};
use crate::error::{Error, Result};
use crate::heads::{self, ColbertHead, DenseHead, NotFinite};
use crate::model::{TextBatch, Wanted, Workspace};
use crate::text::TokenIds;

/// The most tokens of a batch, each text's rounded up to whole key tiles; a longer text is a batch of its own. These are enough rows for the
/// matrix products to run at full speed, and few enough to keep the buffers for short texts small.
const BATCH_TOKENS: usize = 4096;

/// The size in bytes of the largest workspace that is kept between calls: that of some 1,000 tokens of BGE-M3.
const IDLE_BYTES: usize = 64 << 20;

impl Model {
    /// Embeds texts that were tokenised and checked. Their dense vectors leave out the first `skipped` tokens of each text.
    pub(super) fn encode_checked(
        &self,
        texts: &[TokenIds],
        options: &EncodeOptions,
        skipped: usize,
    ) -> Result<Vec<Embedding>> {
        let results = self
            .in_batches(texts, options.progress.as_ref(), |batch, _| self.run_batch(batch, options, skipped, |_| ()))?;
        results.into_iter().enumerate().map(|(index, result)| result.map_err(|bad| bad.of_input(index))).collect()
    }

    /// Divides texts into batches, longest first, calls `run` on each batch, and returns the results, one per text, in the order of `texts`.
    /// `run` gets the texts of a batch and their places in `texts`; `progress` is called after each batch.
    pub(super) fn in_batches<R>(
        &self,
        texts: &[TokenIds],
        progress: Option<&Progress>,
        mut run: impl FnMut(&[&TokenIds], &[usize]) -> Result<Vec<R>>,
    ) -> Result<Vec<R>> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(texts[index].ids.len()));
        let mut results: Vec<Option<R>> = texts.iter().map(|_| None).collect();
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|&&index| {
                tokens += texts[index].ids.len().next_multiple_of(trivec_kernels::KEY_TILE);
                tokens <= BATCH_TOKENS
            });
            let (batch, others) = rest.split_at(fits.count().max(1));
            let members: Vec<&TokenIds> = batch.iter().map(|&index| &texts[index]).collect();
            for (&index, result) in batch.iter().zip(run(&members, batch)?) {
                results[index] = Some(result);
            }
            rest = others;
            if let Some(progress) = progress {
                progress.tell(texts.len() - rest.len(), texts.len());
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Embeds one batch in one forward pass. The first `skipped` tokens of each text are left out of its dense vector. `weights` is given the
    /// lexical weight of every token of every text, or `None` if lexical weights were not asked for.
    fn run_batch(
        &self,
        texts: &[&TokenIds],
        options: &EncodeOptions,
        skipped: usize,
        weights: impl FnOnce(Option<Vec<Result<Vec<f32>, NotFinite>>>),
    ) -> Result<Vec<Result<Embedding, NotFinite>>> {
        let compute = Compute { kernels: self.kernels, team: &self.team };
        let mut batch = TextBatch::default();
        texts.iter().for_each(|text| batch.push(&text.ids));
        let ranges: Vec<_> = batch.ranges().collect();
        let mut ws = self.take_workspace();
        // CLS pooling reads one state per text. If nothing else is wanted, the last layer computes only these states.
        let first_pooled = self.pipeline.pooling.modes == [PoolingMode::Cls] && skipped == 0;
        let first_only = !options.modes.sparse && !options.modes.colbert && first_pooled;
        let wanted = if first_only { Wanted::FirstTokens } else { Wanted::AllTokens };
        self.forward(compute, &batch, wanted, options, &mut ws)?;
        let ranges: Vec<_> = if first_only { (0..texts.len()).map(|text| text..text + 1).collect() } else { ranges };

        let head = DenseHead {
            pipeline: &self.pipeline,
            modules: &self.heads.dense,
            dimensions: options.dimensions,
            normalize: options.normalize,
            skipped,
        };
        let states_of = |range: &std::ops::Range<usize>| ws.states.view().rows_from(range.start, range.len());
        let dense = options
            .modes
            .dense
            .then(|| self.team.map(&ranges, |range| heads::dense(self.kernels, &head, states_of(range))));
        let sparse = self.heads.sparse.as_ref().filter(|_| options.modes.sparse);
        let token_weights = sparse
            .map(|head| self.team.map(&ranges, |range| heads::token_weights(self.kernels, head, states_of(range))));
        let colbert = self.heads.colbert.as_ref().filter(|_| options.modes.colbert).map(|linear| ColbertHead {
            linear,
            dimensions: options.colbert_dimensions,
            raw: options.colbert_raw,
        });
        let colbert = colbert.map(|head| heads::colbert(compute, &head, &ranges, &ws.states));
        self.put_back(ws);

        let mut dense = dense.into_iter().flatten();
        let lexical = |(text, weights): (&&TokenIds, &Result<Vec<f32>, NotFinite>)| match weights {
            Ok(weights) => Ok(heads::lexical(&text.ids, weights)),
            Err(bad) => Err(*bad),
        };
        let mut lexical = token_weights.iter().flat_map(|weights| texts.iter().zip(weights).map(lexical));
        let mut colbert = colbert.into_iter().flatten();
        let embedding = |text: &&TokenIds| {
            let (dense, lexical, colbert) = (dense.next(), lexical.next(), colbert.next());
            Ok(Embedding {
                dense: dense.transpose()?,
                lexical: lexical.transpose()?,
                colbert: colbert.transpose()?,
                tokens: text.ids.len(),
                truncated: text.truncated,
            })
        };
        let embeddings = texts.iter().map(embedding).collect();
        weights(token_weights);
        Ok(embeddings)
    }

    /// A workspace that an earlier call has put back, or an empty one.
    pub(super) fn take_workspace(&self) -> Workspace {
        self.idle().and_then(|mut idle| idle.pop()).unwrap_or_default()
    }

    /// The idle workspaces, or `None` while another thread holds the lock. No thread waits for the lock, because in the child of a `fork`
    /// its holder may not exist.
    fn idle(&self) -> Option<MutexGuard<'_, Vec<Workspace>>> {
        match self.idle.try_lock() {
            Ok(idle) => Some(idle),
            Err(TryLockError::Poisoned(idle)) => Some(idle.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Keeps a workspace for the next call. A large one is freed, and so is one that comes while another thread holds the lock.
    pub(super) fn put_back(&self, ws: Workspace) {
        if ws.bytes() <= IDLE_BYTES
            && let Some(mut idle) = self.idle()
        {
            idle.push(ws);
        }
    }

    /// Inspects texts that were tokenised and checked.
    pub(super) fn inspect_checked(
        &self,
        texts: Vec<TokenIds>,
        options: &EncodeOptions,
        skipped: usize,
    ) -> Result<Vec<Inspection>> {
        let results = self.with_token_weights(&texts, options, skipped)?;
        let inspection = |((embedding, token_weights), text): ((Embedding, _), &TokenIds)| Inspection {
            tokens: self.pieces(&text.ids),
            token_weights,
            embedding,
        };
        Ok(results.into_iter().zip(&texts).map(inspection).collect())
    }

    /// Embeds texts that were tokenised and checked. If lexical weights were asked for, each embedding comes with the weight of every token.
    pub(super) fn with_token_weights(
        &self,
        texts: &[TokenIds],
        options: &EncodeOptions,
        skipped: usize,
    ) -> Result<Vec<(Embedding, Option<Vec<f32>>)>> {
        let run = |batch: &[&TokenIds], _: &[usize]| {
            let mut weights = None;
            let embeddings = self.run_batch(batch, options, skipped, |of_batch| weights = of_batch)?;
            let mut weights = weights.into_iter().flatten();
            let with_weights = |embedding: Result<Embedding, NotFinite>| {
                let token_weights = weights.next().transpose()?;
                Ok((embedding?, token_weights))
            };
            Ok(embeddings.into_iter().map(with_weights).collect())
        };
        let results: Vec<Result<_, NotFinite>> = self.in_batches(texts, options.progress.as_ref(), run)?;
        results.into_iter().enumerate().map(|(index, result)| result.map_err(|bad| bad.of_input(index))).collect()
    }

    /// Computes the last hidden states of token ids, each sequence complete with `<s>` and `</s>`: for training heads, or for poolings that the
    /// engine does not have. `each` is called once for every sequence, with its place in `ids` and its states, `[tokens, hidden]` row by row. The
    /// longest sequences come first; never more than one batch of states is held. The states have the bits that [`Model::encode_ids`] computes
    /// with.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// let model = trivec::Model::starter()?;
    /// let options = trivec::EncodeOptions::default();
    /// let ids = [model.token_ids("one text", &options)?.0, model.token_ids("another", &options)?.0];
    /// let hidden = model.info().hidden;
    /// model.hidden_states(&ids, &options, |place, states| assert_eq!(states.len(), ids[place].len() * hidden))?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Model::encode_ids`], except that a reranker has states too. States are not checked for NaN and infinity.
    pub fn hidden_states<S: AsRef<[u32]>>(
        &self,
        ids: &[S],
        options: &EncodeOptions,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let max_length = self.check_ranges(options)?;
        let ids = self.checked_ids(ids, max_length)?;
        let hidden = self.info.hidden;
        let run = |texts: &[&TokenIds], places: &[usize]| {
            let compute = Compute { kernels: self.kernels, team: &self.team };
            let mut batch = TextBatch::default();
            texts.iter().for_each(|text| batch.push(&text.ids));
            let mut ws = self.take_workspace();
            self.forward(compute, &batch, Wanted::AllTokens, options, &mut ws)?;
            let mut own = Vec::new();
            for (range, &place) in batch.ranges().zip(places) {
                own.clear();
                range.for_each(|row| own.extend_from_slice(&ws.states.row(row)[..hidden]));
                each(place, &own);
            }
            self.put_back(ws);
            Ok(texts.iter().map(|_| ()).collect())
        };
        self.in_batches(&ids, options.progress.as_ref(), run).map(|_: Vec<()>| ())
    }

    /// Runs one forward pass, or returns [`Error::Cancelled`] if the call is cancelled before its end.
    fn forward(
        &self,
        compute: Compute<'_>,
        batch: &TextBatch,
        wanted: Wanted,
        options: &EncodeOptions,
        ws: &mut Workspace,
    ) -> Result<()> {
        let cancelled = || is_cancelled(options.cancel.as_ref());
        match self.encoder.forward(compute, batch, wanted, ws, &cancelled) {
            true => Ok(()),
            false => Err(Error::Cancelled),
        }
    }
}

/// Whether the caller has asked to end the call.
pub(super) fn is_cancelled(cancel: Option<&Cancel>) -> bool {
    cancel.is_some_and(Cancel::is_cancelled)
}
