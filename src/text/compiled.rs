//! The compiled tokenizer: everything that `tokenizer.json` says, as flat arrays in a packed file, which are used in place, and a few
//! hundred bytes of JSON, which are the only part that is parsed.

use serde::{Deserialize, Serialize};

use super::spec::{AddedTokenSpec, NormalizerSpec, PreTokenizerSpec};

/// The version of the arrays and of [`CompiledSpec`].
const VERSION: u32 = 1;

/// What decides ids beside the arrays.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompiledSpec {
    version: u32,
    pub(super) added_tokens: Vec<AddedTokenSpec>,
    /// With an empty character map, which is an array.
    pub(super) normalizer: Option<NormalizerSpec>,
    pub(super) pre_tokenizer: PreTokenizerSpec,
    pub(super) bos: u32,
    pub(super) eos: u32,
    pub(super) unknown: u32,
    pub(super) unknown_score: f64,
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

    /// Reads what [`CompiledParts::spec`] holds.
    pub(super) fn from_json(json: &str) -> Result<CompiledSpec, String> {
        // A later version may have other fields: its number is looked at first.
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
