//! The compiled tokenizer: everything that decides ids in `tokenizer.json`, as a packed file holds it. Most of it is flat arrays, which are
//! used in place; the rest is a few hundred bytes of JSON, the only part that is parsed.

use serde::{Deserialize, Serialize};

use super::spec::{AddedTokenSpec, NormalizerSpec, PreTokenizerSpec};

/// The version of the format of the arrays and of [`CompiledSpec`].
const VERSION: u32 = 1;

/// What decides ids and is not in the arrays; a packed file has it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompiledSpec {
    version: u32,
    pub(super) added_tokens: Vec<AddedTokenSpec>,
    /// The normaliser, without its character map, which is in the arrays.
    pub(super) normalizer: Option<NormalizerSpec>,
    pub(super) pre_tokenizer: PreTokenizerSpec,
    pub(super) bos: u32,
    pub(super) eos: u32,
    /// The id and the score of an unknown character.
    pub(super) unknown: u32,
    pub(super) unknown_score: f64,
}

impl CompiledSpec {
    /// Takes the settings of a tokenizer: `added_tokens` with their ids, and the `normalizer` with or without its character map.
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

    /// Reads the JSON of [`CompiledParts::spec`]; an error if it is damaged or of another version.
    pub(super) fn from_json(json: &str) -> Result<CompiledSpec, String> {
        // Another version may have other fields, so the version is read first.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let found: Version = serde_json::from_str(json).map_err(|e| e.to_string())?;
        if found.version != VERSION {
            return Err(format!("format version {}, expected {VERSION}: pack the model again", found.version));
        }
        serde_json::from_str(json).map_err(|e| e.to_string())
    }
}

/// The content of a compiled tokenizer, to be written: `spec` is [`CompiledSpec`] as JSON, the others are the arrays of `CompiledArrays`.
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
