//! Reranking: a query and a document go through the encoder together, and a classifier says how well the one answers the other.

use super::batch::is_cancelled;
use super::encode::check_range;
use super::model::Model;
use super::options::{Cancel, Progress, Prompt};
use super::prompt::before;
use crate::compute::Compute;
use crate::config::MIN_PAIR_TOKENS;
use crate::embedding::{Reranked, Tokens};
use crate::error::{Error, Result};
use crate::heads;
use crate::model::{TextBatch, Wanted};
use crate::text::{SpecialTokens, TokenIds, Tokenizer};
use crate::weights::Classifier;

/// The most tokens of a pair if the options do not say: FlagReranker's default.
const DEFAULT_MAX_LENGTH: usize = 512;

// The tokenizer cuts pairs by the same number that options and files are checked against.
const _: () = assert!(MIN_PAIR_TOKENS == crate::text::MIN_PAIR_TOKENS);

/// How to rerank.
#[derive(Debug, Clone, Default)]
pub struct RerankOptions {
    /// Tokens kept of each pair, its four special tokens included: 17 to [`ModelInfo::max_length`](crate::ModelInfo::max_length);
    /// `None`: 512 as for the reference, or the model's maximum where that is less.
    ///
    /// The query keeps at most three quarters of them, the document what then fits.
    pub max_length: Option<usize>,
    /// The most tokens kept of the query; `max_length` may leave it fewer.
    pub max_query: Option<usize>,
    /// The most tokens kept of each document; `max_length` may leave it fewer.
    pub max_document: Option<usize>,
    /// How special tokens that are written out in a text are read.
    pub special_tokens: SpecialTokens,
    /// What is put before the query: the model's default prompt, unless another is named or given.
    pub prompt: Prompt,
    /// A flag by which another thread can end the call early.
    pub cancel: Option<Cancel>,
    /// A function to which the call reports its progress.
    pub progress: Option<Progress>,
}

impl Model {
    /// How well each document answers the query: one result per document, in the order of `documents`; an empty list gives an empty list.
    ///
    /// A pair is `<s> query </s></s> document </s>`, cut as FlagEmbedding's `FlagReranker` cuts it: see [`RerankOptions::max_length`].
    /// A pair's result has the same bits whatever its neighbours, their order and the number of threads.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// use trivec::{Model, RerankOptions};
    ///
    /// # let path = "tests/data/rerankers/reranker-h48"; // bge-reranker-v2-m3, for example
    /// let model = Model::load(path)?;
    /// let documents = ["The train leaves at ten.", "Soup is cooked with leek."];
    /// let mut results = model.rerank("When does the train leave?", &documents, &RerankOptions::default())?;
    /// results.sort_by(|a, b| b.score.total_cmp(&a.score));
    /// println!("{}", documents[results[0].index]);
    /// # assert_eq!(results.len(), 2);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::ModeUnavailable`](crate::ErrorKind::ModeUnavailable) if the model is no reranker;
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range; [`ErrorKind::Model`](crate::ErrorKind::Model) if the model
    /// has no tokenizer; [`Error::NotFinite`] names the first document whose logit is NaN or infinite; [`Error::Cancelled`] if
    /// [`RerankOptions::cancel`] was set.
    pub fn rerank<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[S],
        options: &RerankOptions,
    ) -> Result<Vec<Reranked>> {
        let pairs: Vec<(&str, &str)> = documents.iter().map(|document| (query, document.as_ref())).collect();
        self.rerank_pairs(&pairs, options)
    }

    /// As [`Model::rerank`], for `(query, document)` pairs that may have different queries.
    ///
    /// # Errors
    /// As [`Model::rerank`].
    pub fn rerank_pairs<Q, D>(&self, pairs: &[(Q, D)], options: &RerankOptions) -> Result<Vec<Reranked>>
    where
        Q: AsRef<str> + Sync,
        D: AsRef<str> + Sync,
    {
        let (classifier, tokenizer, max_length) = self.check_rerank(options)?;
        let prompt = self.prompt_text(&options.prompt)?;
        let pairs = self.team.map(pairs, |(query, document)| {
            let query = before(prompt, query.as_ref());
            encode_pair(tokenizer, &query, document.as_ref(), max_length, options)
        });
        let logits = self.in_batches(&pairs, options.progress.as_ref(), |batch, _| {
            self.logits(classifier, batch, options.cancel.as_ref())
        })?;
        let activation = self.encoder.config.activation;
        let result = |(index, (pair, logit)): (usize, (&TokenIds, f32))| {
            if !logit.is_finite() {
                return Err(Error::NotFinite { index, mode: "rerank", at: 0 });
            }
            let (tokens, truncated) = (pair.ids.len(), pair.truncated);
            Ok(Reranked { index, logit, score: heads::score(activation, logit), tokens, truncated })
        };
        pairs.iter().zip(logits).enumerate().map(result).collect()
    }

    /// A pair's tokens, truncated as by [`Model::rerank`].
    ///
    /// # Errors
    /// As [`Model::rerank`].
    pub fn tokenize_pair(&self, query: &str, document: &str, options: &RerankOptions) -> Result<Tokens> {
        let (_, tokenizer, max_length) = self.check_rerank(options)?;
        let query = before(self.prompt_text(&options.prompt)?, query);
        let TokenIds { ids, truncated } = encode_pair(tokenizer, &query, document, max_length, options);
        Ok(Tokens { tokens: self.pieces(&ids), truncated })
    }

    /// The most tokens kept of a pair under `options`: as many as they ask for, or the reference's 512, but never more than the model's maximum.
    pub fn pair_length(&self, options: &RerankOptions) -> usize {
        options.max_length.unwrap_or(DEFAULT_MAX_LENGTH).min(self.info.max_length)
    }

    /// Checks that the model can rerank under these options. Returns its classifier, its tokenizer and the maximum length of a pair.
    fn check_rerank(&self, options: &RerankOptions) -> Result<(&Classifier, &Tokenizer, usize)> {
        let missing = Error::ModeUnavailable { mode: "rerank", head: "classifier" };
        let classifier = self.heads.classifier.as_ref().ok_or(missing)?;
        let most = self.info.max_length;
        check_range("max_length", options.max_length, MIN_PAIR_TOKENS, most)?;
        Ok((classifier, self.tokenizer()?, self.pair_length(options)))
    }

    /// The logits of a batch of pairs, from one forward pass.
    fn logits(&self, classifier: &Classifier, pairs: &[&TokenIds], cancel: Option<&Cancel>) -> Result<Vec<f32>> {
        let compute = Compute { kernels: self.kernels, team: &self.team };
        let mut batch = TextBatch::default();
        pairs.iter().for_each(|pair| batch.push(&pair.ids));
        let mut ws = self.take_workspace();
        // The classifier reads only the first token's state of each pair.
        if !self.encoder.forward(compute, &batch, Wanted::FirstTokens, &mut ws, &|| is_cancelled(cancel)) {
            return Err(Error::Cancelled);
        }
        let states: Vec<&[f32]> = (0..pairs.len()).map(|pair| ws.states.row(pair)).collect();
        let logits = self.team.map(&states, |state| heads::logit(self.kernels, classifier, state));
        self.put_back(ws);
        Ok(logits)
    }
}

/// A pair's token ids, cut to `max_length` and to the limits of `options`.
fn encode_pair(
    tokenizer: &Tokenizer,
    query: &str,
    document: &str,
    max_length: usize,
    options: &RerankOptions,
) -> TokenIds {
    let each = (options.max_query.unwrap_or(usize::MAX), options.max_document.unwrap_or(usize::MAX));
    tokenizer.encode_pair_within(query, document, max_length, each, options.special_tokens)
}
