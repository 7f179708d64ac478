//! The tokenizer: how it is built, from a file's description or from a packed file's arrays, and how it encodes and decodes.

use std::ops::ControlFlow;
use std::path::Path;

use super::added::{AddedTokens, Part};
use super::compiled::{CompiledParts, CompiledSpec};
use super::extra::ExtraTokens;
use super::normalizer::Normalizer;
use super::numbering::number;
use super::sentencepiece;
use super::spec::{self, NormalizerSpec};
use super::types::{CompiledArrays, MIN_PAIR_TOKENS, SpecialTokens, TokenIds};
use super::unigram::Unigram;
use super::words::WordSplitter;
use crate::error::{Error, Result};

/// What a model's other files say about its tokenizer.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub tokens: ExtraTokens,
    /// Whether texts are converted to lower case before any other step.
    pub lower_case: bool,
    /// Whether another file says that texts are cut at their end. This overrules the tokenizer's own file.
    pub cuts_right: bool,
}

/// A tokenizer, immutable once read.
#[derive(Debug)]
pub struct Tokenizer {
    added: AddedTokens,
    normalizer: Normalizer,
    words: WordSplitter,
    unigram: Unigram,
    bos: u32,
    eos: u32,
    vocab_size: usize,
    /// What decides ids and is not in the arrays; needed to compile the tokenizer.
    spec: CompiledSpec,
}

impl Tokenizer {
    /// Reads `tokenizer.json`; `path` only names the file in errors.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is damaged, or has a normaliser, pre-tokenizer or model that XLM-RoBERTa's files do not have.
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Tokenizer> {
        Self::from_spec(spec::parse(bytes), &Beside::default(), path)
    }

    /// As [`Tokenizer::from_json`], with what the model's other files say.
    pub(crate) fn from_json_beside(bytes: &[u8], beside: &Beside, path: &Path) -> Result<Tokenizer> {
        Self::from_spec(spec::parse(bytes), beside, path)
    }

    /// Reads a SentencePiece unigram model of XLM-RoBERTa's kind (`sentencepiece.bpe.model`): the ids are those of the tokenizer that
    /// `transformers` 5 builds from it (`XLMRobertaTokenizer`), in which white space at the end of a text is no token. `path` only names
    /// the file in errors.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is damaged, or is a model of another kind.
    pub fn from_sentencepiece(bytes: &[u8], path: &Path) -> Result<Tokenizer> {
        Self::from_spec(sentencepiece::parse(bytes), &Beside::default(), path)
    }

    /// As [`Tokenizer::from_sentencepiece`], with what the model's other files say.
    pub(crate) fn from_sentencepiece_beside(bytes: &[u8], beside: &Beside, path: &Path) -> Result<Tokenizer> {
        Self::from_spec(sentencepiece::parse(bytes), beside, path)
    }

    /// Builds the tokenizer of a description that was read from the file `path`.
    fn from_spec(spec: std::result::Result<spec::Spec, String>, beside: &Beside, path: &Path) -> Result<Tokenizer> {
        let refuse = |what: String| Error::format(path, what);
        let mut spec = spec.map_err(refuse)?;
        if spec.truncation.is_some_and(|truncation| truncation.cuts_left()) && !beside.cuts_right {
            return Err(refuse(
                "`truncation` cuts texts at their beginning, expected \"direction\": \"Right\"".to_owned(),
            ));
        }
        if beside.lower_case {
            spec.normalizer = Some(NormalizerSpec::lower_cased(spec.normalizer));
        }
        let normalizer = Normalizer::new(&spec.normalizer).map_err(refuse)?;
        let words = WordSplitter::new(&spec.pre_tokenizer).map_err(refuse)?;
        let unigram = Unigram::new(spec.model).map_err(refuse)?;
        let (bos, eos) = spec.post_processor.bos_eos().map_err(refuse)?;
        beside.tokens.add_to(&mut spec.added_tokens);
        let compiled = CompiledSpec::new(
            number(spec.added_tokens, &unigram),
            spec.normalizer.as_ref(),
            spec.pre_tokenizer,
            (bos, eos),
            unigram.unknown(),
        );
        Self::assemble(compiled, normalizer, words, unigram).map_err(refuse)
    }

    /// Puts the parts of a tokenizer together; an error if they do not fit each other.
    fn assemble(
        spec: CompiledSpec,
        normalizer: Normalizer,
        words: WordSplitter,
        unigram: Unigram,
    ) -> std::result::Result<Tokenizer, String> {
        let added = AddedTokens::new(&spec.added_tokens, &normalizer)?;
        let largest_added = spec.added_tokens.iter().map(|token| token.id as usize + 1).max().unwrap_or(0);
        if largest_added > unigram.len() + spec.added_tokens.len() {
            let what = format!("an added token has id {}, but there are {} pieces", largest_added - 1, unigram.len());
            return Err(what);
        }
        let vocab_size = unigram.len().max(largest_added);
        let (bos, eos) = (spec.bos, spec.eos);
        if [bos, eos].iter().any(|&id| id as usize >= vocab_size) {
            return Err(format!("the post-processor adds ids {bos} and {eos}, expected ids below {vocab_size}"));
        }
        Ok(Tokenizer { added, normalizer, words, unigram, bos, eos, vocab_size, spec })
    }

    /// The number of ids, which is the largest id plus one, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The piece or added token with this id.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.unigram.piece(id).or_else(|| self.added.content(id))
    }

    /// Whether `id` is an added token that is special: `<s>`, `<mask>`, and special tokens that the model has added.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.is_special(id)
    }

    /// Returns the text of tokens as the `tokenizers` library's `decode` gives it: `▁` becomes a space, but is left out in the first token
    /// that is not skipped. With `skip_special` special tokens are skipped.
    ///
    /// # Errors
    /// The first id that no token has.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> std::result::Result<String, u32> {
        self.decode_part(ids, skip_special, &mut true)
    }

    /// As [`Tokenizer::decode`], for a part of a sequence of tokens. `first` must be true for the first part and is then updated from part
    /// to part: it becomes false once a token has been decoded that is not skipped, even one without text. On an error it may have been
    /// updated.
    ///
    /// # Errors
    /// The first id that no token has.
    pub(crate) fn decode_part(
        &self,
        ids: &[u32],
        skip_special: bool,
        first: &mut bool,
    ) -> std::result::Result<String, u32> {
        let mut text = String::new();
        for &id in ids {
            let piece = self.piece(id).ok_or(id)?;
            if skip_special && self.is_special(id) {
                continue;
            }
            if *first {
                text.extend(piece.chars().filter(|&c| c != '▁'));
            } else {
                text.extend(piece.chars().map(|c| if c == '▁' { ' ' } else { c }));
            }
            *first = false;
        }
        Ok(text)
    }

    /// The ids of `<s> text </s>`, at most `max_tokens`: of a longer text, the first `max_tokens - 2` tokens are kept. A `max_tokens` below
    /// 2 counts as 2.
    pub fn encode(&self, text: &str, max_tokens: usize, special: SpecialTokens) -> TokenIds {
        let TokenIds { mut ids, truncated } = self.begin(text, max_tokens.saturating_sub(2), special);
        ids.push(self.eos);
        TokenIds { ids, truncated }
    }

    /// The ids of a pair as rerankers need it, `<s> query </s></s> document </s>`, at most `max_tokens`: at most the first
    /// `max_tokens · 3 / 4` tokens of the query are kept, and as many of the document's first as then fit. A `max_tokens` below 17 counts
    /// as 17, which always leaves room for one token of the document.
    ///
    /// Source: FlagEmbedding `FlagReranker.compute_score_single_gpu`. Unlike this engine, it leaves a pair uncut if a query of that length
    /// and the special tokens leave no room for the document, which can only happen with a `max_tokens` below 17.
    pub fn encode_pair(&self, query: &str, document: &str, max_tokens: usize, special: SpecialTokens) -> TokenIds {
        self.encode_pair_within(query, document, max_tokens, (usize::MAX, usize::MAX), special)
    }

    /// As [`Tokenizer::encode_pair`], but with at most `max_query` tokens of the query and `max_document` of the document.
    pub(crate) fn encode_pair_within(
        &self,
        query: &str,
        document: &str,
        max_tokens: usize,
        (max_query, max_document): (usize, usize),
        special: SpecialTokens,
    ) -> TokenIds {
        let max_tokens = max_tokens.max(MIN_PAIR_TOKENS);
        // Three quarters of `max_tokens`, computed without a product that could overflow.
        let most = max_tokens / 4 * 3 + max_tokens % 4 * 3 / 4;
        let mut pair = self.begin(query, most.min(max_query), special);
        pair.ids.extend([self.eos, self.eos]);
        let room = (max_tokens - pair.ids.len() - 1).min(max_document);
        // `begin` puts a `<s>` first, which only the query keeps.
        let document = self.begin(document, room, special);
        pair.ids.extend_from_slice(&document.ids[1..]);
        pair.ids.push(self.eos);
        TokenIds { ids: pair.ids, truncated: pair.truncated || document.truncated }
    }

    /// `<s>` and then at most `kept` of the text's own tokens, without `</s>`.
    fn begin(&self, text: &str, kept: usize, special: SpecialTokens) -> TokenIds {
        let mut ids = vec![self.bos];
        // One token more than will be kept, which shows whether the text is longer.
        let wanted = kept.saturating_add(1);
        let _ = self.content(text, special, wanted, &mut ids);
        let truncated = ids.len() - 1 > kept;
        ids.truncate(kept.saturating_add(1));
        TokenIds { ids, truncated }
    }

    /// Appends the text's own tokens to `ids`, which holds only `<s>`: all of them, or at least the first `wanted`, after which it breaks.
    fn content(&self, text: &str, special: SpecialTokens, wanted: usize, ids: &mut Vec<u32>) -> ControlFlow<()> {
        let mut normalized = String::new();
        self.added.split_raw(text, special, |part| {
            let raw = match part {
                Part::Token(id) => return push(ids, id, wanted),
                Part::Text(raw) => raw,
            };
            normalized.clear();
            self.normalizer.normalize(&text[raw.clone()], &mut normalized);
            self.added.split_normalized(&normalized, special, |part| {
                let range = match part {
                    Part::Token(id) => return push(ids, id, wanted),
                    Part::Text(range) => range,
                };
                let first = raw.start == 0 && range.start == 0;
                self.words.split(&normalized[range], first, |word| {
                    self.unigram.encode(word, special, (wanted + 1).saturating_sub(ids.len()), ids, &self.added);
                    enough(ids, wanted)
                })
            })
        })
    }

    /// The parts of this tokenizer, from which [`Tokenizer::from_compiled`] makes it again. An error if it cannot be compiled.
    pub(crate) fn compile(&self) -> Result<CompiledParts<'_>, String> {
        let (text, ends, scores, units) = self.unigram.arrays();
        let (charsmap_units, charsmap_text) = self.normalizer.arrays()?;
        let spec = serde_json::to_string(&self.spec).map_err(|e| e.to_string())?;
        Ok(CompiledParts { spec, units, scores, text, ends, charsmap_units, charsmap_text })
    }

    /// Makes a tokenizer from these parts; `path` only names the file in errors. The arrays' lengths are checked here and their content
    /// when it is used: damaged arrays give wrong pieces, never a panic.
    pub(crate) fn from_compiled(spec: &str, arrays: &CompiledArrays, path: &Path) -> Result<Tokenizer> {
        let refuse = |what: String| Error::format(path, format!("the compiled tokenizer: {what}"));
        let spec = CompiledSpec::from_json(spec).map_err(refuse)?;
        let unigram = Unigram::in_place(arrays, spec.unknown, spec.unknown_score).map_err(refuse)?;
        let normalizer = Normalizer::in_place(&spec.normalizer, arrays).map_err(refuse)?;
        let words = WordSplitter::new(&spec.pre_tokenizer).map_err(refuse)?;
        Self::assemble(spec, normalizer, words, unigram).map_err(refuse)
    }
}

/// Appends an id, then does what [`enough`] does.
fn push(ids: &mut Vec<u32>, id: u32, wanted: usize) -> ControlFlow<()> {
    ids.push(id);
    enough(ids, wanted)
}

/// Breaks if at least `wanted` tokens follow the `<s>` in `ids`.
fn enough(ids: &[u32], wanted: usize) -> ControlFlow<()> {
    if ids.len() > wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
