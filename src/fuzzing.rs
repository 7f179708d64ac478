//! Entrances to the parsers for `fuzz/` and for the replay of its corpus; not part of the API.

use std::path::Path;

use crate::config::{DensePipeline, ModelConfig};
use crate::text::{SpecialTokens, Tokenizer};

/// Reads `bytes` as a safetensors file's header.
pub fn safetensors_header(bytes: &[u8]) -> bool {
    crate::weights::header_is_valid(bytes)
}

/// Reads `bytes` as `config.json`, and as `modules.json` whose pooling module they also are.
pub fn config(bytes: &[u8]) -> bool {
    let path = Path::new("fuzz");
    let modules = DensePipeline::from_modules(bytes, path, |_| Ok(bytes.into()));
    ModelConfig::from_json(bytes, path).is_ok() | modules.is_ok()
}

/// Reads `bytes` as `tokenizer.json` and, if it is one, tokenises some text with it.
pub fn tokenizer(bytes: &[u8]) -> bool {
    let Ok(tokenizer) = Tokenizer::from_json(bytes, Path::new("fuzz")) else { return false };
    for text in ["", "a  b <mask> </s>c", "\u{30cf}\u{3099}e\u{301}\r\n\u{0}", "苹果公司 ｶﾞ"] {
        for special in [SpecialTokens::Parse, SpecialTokens::Literal] {
            let tokens = tokenizer.encode(text, 8, special);
            assert!(tokens.ids.len() <= 8 && tokens.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        }
    }
    true
}
