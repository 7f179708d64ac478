//! The compiled tokenizer: everything that `tokenizer.json` says, as flat arrays in a packed file, which are used in place, and a few
//! hundred bytes of JSON, which are the only part that is parsed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::normalizer::Normalizer;
use super::spec::{AddedTokenSpec, NormalizerSpec, PreTokenizerSpec};
use super::unigram::Unigram;
use super::words::WordSplitter;
use super::{Numbers, Tokenizer};
use crate::error::{Error, Result};

/// The version of the arrays and of [`CompiledSpec`].
const VERSION: u32 = 1;

/// What decides ids beside the arrays.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompiledSpec {
    version: u32,
    pub(super) added_tokens: Vec<AddedTokenSpec>,
    /// With an empty character map, which is an array.
    normalizer: Option<NormalizerSpec>,
    pre_tokenizer: PreTokenizerSpec,
    pub(super) bos: u32,
    pub(super) eos: u32,
    unknown: u32,
    unknown_score: f64,
}

impl CompiledSpec {
    pub(super) fn new(
        added_tokens: Vec<AddedTokenSpec>,
        normalizer: Option<&NormalizerSpec>,
        pre_tokenizer: PreTokenizerSpec,
        (bos, eos): (u32, u32),
        (unknown, unknown_score): (u32, f64),
    ) -> CompiledSpec {
        let normalizer = normalizer.map(NormalizerSpec::without_map);
        CompiledSpec { version: VERSION, added_tokens, normalizer, pre_tokenizer, bos, eos, unknown, unknown_score }
    }
}

/// The arrays, wherever they lie.
#[derive(Clone)]
pub(crate) struct CompiledArrays {
    /// The trie of the pieces.
    pub units: Numbers<u32>,
    /// `[pieces]`: log-probabilities.
    pub scores: Numbers<f64>,
    /// The pieces one after another, UTF-8.
    pub text: Numbers<u8>,
    /// `[pieces]`: where each ends in `text`.
    pub ends: Numbers<u32>,
    /// The normaliser's character map; empty without one.
    pub charsmap_units: Numbers<u32>,
    pub charsmap_text: Numbers<u8>,
}

/// The arrays' content, to be written.
#[derive(Debug)]
pub(crate) struct CompiledParts<'a> {
    pub spec: String,
    pub units: &'a [u32],
    pub scores: &'a [f64],
    pub text: &'a [u8],
    pub ends: &'a [u32],
    pub charsmap_units: &'a [u32],
    pub charsmap_text: &'a [u8],
}

impl Tokenizer {
    /// The parts of this tokenizer, as [`Tokenizer::from_compiled`] takes them.
    pub(crate) fn compile(&self) -> Result<CompiledParts<'_>, String> {
        let (text, ends, scores, units) = self.unigram.arrays();
        let (charsmap_units, charsmap_text) = self.normalizer.arrays()?;
        let spec = serde_json::to_string(&self.spec).map_err(|e| e.to_string())?;
        Ok(CompiledParts { spec, units, scores, text, ends, charsmap_units, charsmap_text })
    }

    /// Makes a tokenizer of these parts; `path` only names the file in errors. The arrays' lengths are checked here and their content when
    /// it is used: damaged arrays give wrong pieces, never a panic.
    pub(crate) fn from_compiled(spec: &str, arrays: &CompiledArrays, path: &Path) -> Result<Tokenizer> {
        let refuse = |what: String| Error::format(path, format!("the compiled tokenizer: {what}"));
        // A later version may have other fields: its number is looked at first.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let found: Version = serde_json::from_str(spec).map_err(|e| refuse(e.to_string()))?;
        if found.version != VERSION {
            return Err(refuse(format!("format version {}, expected {VERSION}: pack the model again", found.version)));
        }
        let spec: CompiledSpec = serde_json::from_str(spec).map_err(|e| refuse(e.to_string()))?;
        let unigram = Unigram::in_place(arrays, spec.unknown, spec.unknown_score).map_err(refuse)?;
        let normalizer = Normalizer::in_place(&spec.normalizer, arrays).map_err(refuse)?;
        let words = WordSplitter::new(&spec.pre_tokenizer).map_err(refuse)?;
        Self::assemble(spec, normalizer, words, unigram).map_err(refuse)
    }
}
