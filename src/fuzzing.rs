//! Entry points to the parsers, for the fuzz targets in `fuzz/` and for the test that replays their corpus; not part of the API. Each
//! returns whether it accepted the bytes, and panics if a result is wrong.

use std::path::Path;

use crate::config::{DensePipeline, ModelConfig};
use crate::text::{SpecialTokens, Tokenizer};

/// Reads `bytes` as a safetensors file's header.
pub fn safetensors_header(bytes: &[u8]) -> bool {
    crate::weights::header_is_valid(bytes)
}

/// Reads `bytes` as `config.json`, and as `modules.json`, for which the same bytes are the content of every file that it names.
pub fn config(bytes: &[u8]) -> bool {
    let path = Path::new("fuzz");
    let modules = DensePipeline::from_modules(bytes, path, |_| Ok(Some(bytes.into())));
    ModelConfig::from_json(bytes, path).is_ok() | modules.is_ok()
}

/// Reads `bytes` as `tokenizer.json` and, if it is one, tokenises some text with it.
pub fn tokenizer(bytes: &[u8]) -> bool {
    tokenises(Tokenizer::from_json(bytes, Path::new("fuzz")))
}

/// Reads `bytes` as a SentencePiece model and, if it is one, tokenises some text with it.
pub fn sentencepiece(bytes: &[u8]) -> bool {
    tokenises(Tokenizer::from_sentencepiece(bytes, Path::new("fuzz")))
}

/// Tokenises some texts and checks the number and the range of their ids. Returns false if there is no tokenizer.
fn tokenises(tokenizer: crate::Result<Tokenizer>) -> bool {
    let Ok(tokenizer) = tokenizer else { return false };
    for text in ["", "a  b <mask> </s>c", "\u{30cf}\u{3099}e\u{301}\r\n\u{0}", "苹果公司 ｶﾞ"] {
        for special in [SpecialTokens::Parse, SpecialTokens::Literal] {
            let tokens = tokenizer.encode(text, 8, special);
            assert!(tokens.ids.len() <= 8 && tokens.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        }
    }
    true
}

/// Reads `bytes` as the pickle of a state dict.
pub fn torch_pickle(bytes: &[u8]) -> bool {
    crate::weights::pickle_is_valid(bytes)
}

/// Reads `bytes` as a file of `torch.save`: zip directory, pickle, tensors and checksums.
pub fn torch_file(bytes: &[u8]) -> bool {
    crate::weights::torch_is_valid(bytes)
}

/// Reads `bytes` as a packed file and, if it is one, tokenises and embeds with it.
pub fn packed(bytes: &[u8]) -> bool {
    let options = crate::LoadOptions { threads: Some(1), ..Default::default() };
    let Ok(model) = crate::Model::from_packed_bytes(bytes, &options) else { return false };
    let info = model.info();
    // A file from the fuzzer may describe a model that is sound but large. Only small ones are run.
    if info.parameters > 1 << 20 || info.layers > 4 {
        return true;
    }
    if info.rerank {
        let options = crate::RerankOptions { max_length: Some(info.max_length.min(17)), ..Default::default() };
        for (query, document) in [("", ""), ("a  b <mask>", "</s>c e\u{301}\r\n"), ("苹果公司", "ｶﾞ a b c d e f g h")]
        {
            if let Ok(tokens) = model.tokenize_pair(query, document, &options) {
                assert!(tokens.tokens.iter().all(|token| (token.id as usize) < info.vocabulary));
                assert!(works(&model.rerank(query, &[document], &options)));
            }
        }
        return true;
    }
    let options =
        crate::EncodeOptions { modes: info.modes, max_length: Some(info.max_length.min(8)), ..Default::default() };
    let last = (info.vocabulary - 1) as u32;
    let embedded = model.encode_ids(&[[0, last]], &options);
    assert!(works(&embedded), "{embedded:?}");
    for text in ["", "a  b <mask> </s>c", "\u{30cf}\u{3099}e\u{301}\r\n\u{0}", "苹果公司 ｶﾞ"] {
        if let Ok(tokens) = model.tokenize(text, &options) {
            assert!(tokens.tokens.iter().all(|token| (token.id as usize) < info.vocabulary));
            assert!(works(&model.encode(&[text], &options)));
        }
    }
    true
}

/// Whether a sound model may return this: a result, or the error that the result is not finite, which large weights cause.
fn works<T>(result: &crate::Result<T>) -> bool {
    matches!(result, Ok(_) | Err(crate::Error::NotFinite { .. }))
}
