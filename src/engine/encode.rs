//! Turns texts and token ids into embeddings: checks here what a call asks for, and has `batch.rs` compute it.

use std::path::Path;

use super::model::{Model, ModelInfo};
use super::options::EncodeOptions;
use crate::embedding::{Embedding, Inspection, Token, Tokens};
use crate::error::{Error, Result};
use crate::numbers::grouped;
use crate::text::{TokenIds, Tokenizer};

impl Model {
    /// Facts about the model: its sizes, limits, modes and prompts.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// One embedding per text, in the order of `texts`; an empty list gives an empty list.
    ///
    /// A text's result has the same bits whatever its neighbours, their order and the number of threads. An empty text is `<s></s>`,
    /// as for the reference.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// use trivec::{EncodeOptions, Model, Modes};
    ///
    /// let model = Model::starter()?;
    /// let options = EncodeOptions { modes: Modes::DENSE | Modes::SPARSE, dimensions: Some(128), ..Default::default() };
    /// let embeddings = model.encode(&["a text", "another text"], &options)?;
    /// assert_eq!(embeddings[1].dense.as_ref().map(Vec::len), Some(128));
    /// assert!(embeddings[1].lexical.is_some() && embeddings[1].colbert.is_none());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::ModeUnavailable`](crate::ErrorKind::ModeUnavailable) if a mode's head is missing, or the model is a reranker;
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range; [`ErrorKind::Model`](crate::ErrorKind::Model) if the model has no
    /// tokenizer; [`Error::NotFinite`] names the first text of which the model computes NaN or infinity; [`Error::Cancelled`] if
    /// [`EncodeOptions::cancel`] was set.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S], options: &EncodeOptions) -> Result<Vec<Embedding>> {
        let max_length = self.check(options)?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let applied = self.applied(options, max_length)?;
        let ids = self.team.map(texts, |text| applied.encode(text.as_ref()));
        self.encode_checked(&ids, options, applied.skipped)
    }

    /// One embedding per sequence of token ids, for texts that were tokenised elsewhere. Each sequence must be complete with `<s>`, `</s>` and
    /// its prompt.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// let model = trivec::Model::starter()?;
    /// let options = trivec::EncodeOptions::default();
    /// let (ids, truncated) = model.token_ids("a text", &options)?;
    /// assert!(!truncated && ids[0] == 0); // `<s>` is 0
    /// assert_eq!(model.encode_ids(&[ids], &options)?, model.encode(&["a text"], &options)?);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Model::encode`]; [`ErrorKind::Input`](crate::ErrorKind::Input) if a sequence is empty, longer than the maximum length, or
    /// has an id outside the vocabulary.
    pub fn encode_ids<S: AsRef<[u32]> + Sync>(&self, ids: &[S], options: &EncodeOptions) -> Result<Vec<Embedding>> {
        let max_length = self.check(options)?;
        let ids = self.checked_ids(ids, max_length)?;
        self.encode_checked(&ids, options, self.skipped(options))
    }

    /// How many tokens at the start of each sequence of ids are left out of its dense vector.
    pub(super) fn skipped(&self, options: &EncodeOptions) -> usize {
        if self.pipeline.pooling.include_prompt { 0 } else { options.prompt_tokens }
    }

    /// Checks token ids that were made elsewhere: their number and their range.
    pub(super) fn checked_ids<S: AsRef<[u32]>>(&self, ids: &[S], max_length: usize) -> Result<Vec<TokenIds>> {
        let vocabulary = self.info.vocabulary;
        let check = |(index, ids): (usize, &S)| {
            let ids = ids.as_ref();
            let what = if ids.is_empty() {
                "no token ids: expected at least one".to_owned()
            } else if ids.len() > max_length {
                format!("{} token ids, expected at most {}", grouped(ids.len()), grouped(max_length))
            } else if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                format!("token id {id}, expected one below {vocabulary}")
            } else {
                return Ok(TokenIds { ids: ids.to_vec(), truncated: false });
            };
            Err(Error::Input { index, what })
        };
        ids.iter().enumerate().map(check).collect()
    }

    /// The tokens with which [`Model::encode`] computes a text: `<s>`, those of the prompt (if there is one) and the text, `</s>`; truncated to the
    /// maximum length.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// let model = trivec::Model::starter()?;
    /// let text = model.tokenize("green tea", &trivec::EncodeOptions::default())?;
    /// let pieces: Vec<&str> = text.tokens.iter().map(|token| token.piece.as_str()).collect();
    /// assert_eq!((pieces[0], pieces[1], *pieces.last().unwrap()), ("<s>", "▁green", "</s>"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Model`](crate::ErrorKind::Model) if the model has no tokenizer; [`ErrorKind::Usage`](crate::ErrorKind::Usage) for
    /// options out of range, or a prompt that the model does not have.
    pub fn tokenize(&self, text: &str, options: &EncodeOptions) -> Result<Tokens> {
        let max_length = self.check_ranges(options)?;
        let applied = self.applied(options, max_length)?;
        let TokenIds { ids, truncated } = applied.encode(text);
        Ok(Tokens { tokens: self.pieces(&ids), truncated })
    }

    /// A text's token ids, truncated as by [`Model::encode`], and whether it was truncated.
    ///
    /// # Errors
    /// As [`Model::tokenize`].
    pub fn token_ids(&self, text: &str, options: &EncodeOptions) -> Result<(Vec<u32>, bool)> {
        let max_length = self.check_ranges(options)?;
        let TokenIds { ids, truncated } = self.applied(options, max_length)?.encode(text);
        Ok((ids, truncated))
    }

    /// A token's piece of the vocabulary; `None` for an id that has none, or without a tokenizer.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.tokenizer.as_ref()?.piece(id)
    }

    /// The tokens of ids, with their pieces.
    pub(super) fn pieces(&self, ids: &[u32]) -> Vec<Token> {
        let token = |&id: &u32| Token {
            id,
            piece: self.piece(id).unwrap_or_default().to_owned(),
            special: self.is_special(id),
        };
        ids.iter().map(token).collect()
    }

    /// Whether a token is special: see [`Tokenizer::is_special`](crate::text::Tokenizer::is_special). Without a tokenizer, none is.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.is_special(id))
    }

    /// Returns the text of tokens that follow others: see [`Tokenizer::decode_part`](crate::text::Tokenizer::decode_part).
    ///
    /// # Errors
    /// The first id that no token has.
    #[doc(hidden)]
    pub fn decode_part(&self, ids: &[u32], skip_special: bool, first: &mut bool) -> std::result::Result<String, u32> {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.decode_part(ids, skip_special, first),
            None => ids.first().map_or(Ok(String::new()), |&id| Err(id)),
        }
    }

    /// A text's embedding with its tokens and their weights, in every mode the model has; `options.modes` is not read.
    ///
    /// ```
    /// # #[cfg(feature = "starter")]
    /// # fn main() -> trivec::Result<()> {
    /// let model = trivec::Model::starter()?;
    /// let text = model.inspect("a green tea", &trivec::EncodeOptions::default())?;
    /// // A lexical weight for every token; `<s>` and `</s>` count, although their weights are not kept.
    /// let weights = text.token_weights.unwrap();
    /// assert_eq!((weights.len(), text.tokens.len()), (text.embedding.tokens, text.embedding.tokens));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "starter"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Model::tokenize`]; [`ErrorKind::ModeUnavailable`](crate::ErrorKind::ModeUnavailable) if the model is a reranker;
    /// [`Error::NotFinite`] if the model computes NaN or infinity of the text.
    pub fn inspect(&self, text: &str, options: &EncodeOptions) -> Result<Inspection> {
        let options = EncodeOptions { modes: self.info.modes, ..options.clone() };
        let max_length = self.check(&options)?;
        let applied = self.applied(&options, max_length)?;
        let tokens = applied.encode(text);
        match self.inspect_checked(vec![tokens], &options, applied.skipped)?.pop() {
            Some(inspection) => Ok(inspection),
            None => Err(Error::Input { index: 0, what: "no embedding".to_owned() }),
        }
    }

    /// [`Model::inspect`] of two texts, each with its own options. Both texts share a forward pass if their options ask for the same kind of
    /// vectors.
    ///
    /// # Errors
    /// As [`Model::inspect`]; an error about one text has its place, 0 or 1.
    pub fn inspect_pair(&self, a: &str, b: &str, options: [&EncodeOptions; 2]) -> Result<[Inspection; 2]> {
        let options = options.map(|options| EncodeOptions { modes: self.info.modes, ..options.clone() });
        let mut tokens = Vec::with_capacity(2);
        let mut skipped = [0; 2];
        for (at, text) in [a, b].into_iter().enumerate() {
            let max_length = self.check(&options[at])?;
            let applied = self.applied(&options[at], max_length)?;
            skipped[at] = applied.skipped;
            tokens.push(applied.encode(text));
        }
        let alike = skipped[0] == skipped[1]
            && (options[0].dimensions, options[0].normalize) == (options[1].dimensions, options[1].normalize)
            && (options[0].colbert_dimensions, options[0].colbert_raw)
                == (options[1].colbert_dimensions, options[1].colbert_raw);
        let mut inspections = Vec::with_capacity(2);
        if alike {
            inspections = self.inspect_checked(tokens, &options[0], skipped[0])?;
        } else {
            for (at, tokens) in tokens.into_iter().enumerate() {
                let own = self.inspect_checked(vec![tokens], &options[at], skipped[at]);
                inspections.extend(own.map_err(|error| error.at_input(|_| at))?);
            }
        }
        inspections.try_into().map_err(|_| Error::Input { index: 0, what: "no embedding".to_owned() })
    }

    /// [`Model::inspect`] for texts that were tokenised elsewhere: their embeddings in every mode the model has, with tokens and token weights,
    /// in the order of `ids`. The texts share forward passes.
    ///
    /// # Errors
    /// As [`Model::encode_ids`].
    pub fn inspect_ids<S: AsRef<[u32]>>(&self, ids: &[S], options: &EncodeOptions) -> Result<Vec<Inspection>> {
        let options = EncodeOptions { modes: self.info.modes, ..options.clone() };
        let max_length = self.check(&options)?;
        let ids = self.checked_ids(ids, max_length)?;
        self.inspect_checked(ids, &options, self.skipped(&options))
    }

    /// The model's tokenizer, or an error that names the missing file.
    pub(super) fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing = || {
            Error::format(
                &Path::new(&self.info.name).join("tokenizer.json"),
                "the file is missing: only token ids can be encoded",
            )
        };
        self.tokenizer.as_ref().ok_or_else(missing)
    }

    /// Checks that the model has the modes that a call asks for, and checks the options' numbers. Returns the maximum length.
    pub(super) fn check(&self, options: &EncodeOptions) -> Result<usize> {
        let info = &self.info;
        if info.rerank {
            return Err(Error::Reranker { mode: options.modes.names().next().unwrap_or("embedding") });
        }
        if options.modes.sparse && !info.modes.sparse {
            return Err(Error::ModeUnavailable { mode: "sparse", head: "sparse_linear" });
        }
        if options.modes.colbert && !info.modes.colbert {
            return Err(Error::ModeUnavailable { mode: "colbert", head: "colbert_linear" });
        }
        self.check_ranges(options)
    }

    /// Checks the options' numbers; returns the maximum length.
    pub(super) fn check_ranges(&self, options: &EncodeOptions) -> Result<usize> {
        let info = &self.info;
        check_range("max_length", options.max_length, 2, info.max_length)?;
        check_range("dimensions", options.dimensions, 1, info.dense_dim)?;
        // Without a ColBERT head any number passes here: asking for its mode is the error.
        check_range("colbert_dimensions", options.colbert_dimensions, 1, info.colbert_dim.unwrap_or(usize::MAX))?;
        Ok(options.max_length.unwrap_or(info.max_length))
    }
}

/// Refuses an option's value, if there is one, that does not lie in `from ..= to`.
pub(super) fn check_range(option: &'static str, value: Option<usize>, from: usize, to: usize) -> Result<()> {
    match value {
        Some(value) if !(from..=to).contains(&value) => Err(Error::Option {
            option,
            what: format!("found {}, expected {} to {}", grouped(value), grouped(from), grouped(to)),
        }),
        _ => Ok(()),
    }
}
