//! What a model has beside its weights, read from its files: the pipeline behind the encoder, the maximum length, the tokenizer.

use std::path::Path;
use std::sync::Arc;

use crate::config::{DensePipeline, ModelConfig, SentenceConfig, parse_json};
use crate::error::{Error, Result};
use crate::text::{CompiledArrays, Tokenizer};
use crate::weights::{Checkpoint, Mapped, Source};

pub(crate) fn read_pipeline(source: &Source) -> Result<DensePipeline> {
    let Some(modules) = source.open("modules.json")? else { return Ok(DensePipeline::default()) };
    let read = |file: &str| Ok(Box::from(&source.require(file)?[..]));
    DensePipeline::from_modules(&modules, &source.path("modules.json"), read)
}

/// The length that `sentence_bert_config.json` sets, within what the position table serves.
pub(crate) fn read_max_length(source: &Source, config: &ModelConfig) -> Result<usize> {
    let name = "sentence_bert_config.json";
    let Some(bytes) = source.open(name)? else { return Ok(config.max_tokens()) };
    let sentence: SentenceConfig = parse_json(&bytes, &source.path(name))?;
    if sentence.do_lower_case {
        return Err(Error::format(&source.path(name), "`do_lower_case` is true, which is not supported"));
    }
    match sentence.max_seq_length {
        Some(length) if length < 2 => {
            Err(Error::format(&source.path(name), format!("`max_seq_length` is {length}, expected 2 or more")))
        }
        length => Ok(length.unwrap_or(usize::MAX).min(config.max_tokens())),
    }
}

pub(super) fn read_packed_tokenizer(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Option<Tokenizer>> {
    let Some(spec) = checkpoint.find(&["tokenizer.spec"]) else { return Ok(None) };
    let path = spec.file.clone();
    let text = std::str::from_utf8(spec.bytes()).map_err(|_| spec.refuse("it is not UTF-8"))?;
    let require = |name: &str| {
        let name = format!("tokenizer.{name}");
        checkpoint.find(&[&name]).ok_or_else(|| Error::tensor(&path, &name, "it is missing"))
    };
    let u32s = |name: &str| Ok::<_, Error>(Arc::new(Mapped::<u32>::new(require(name)?, "U32")?));
    let bytes = |name: &str| Ok::<_, Error>(Arc::new(Mapped::<u8>::new(require(name)?, "U8")?));
    let arrays = CompiledArrays {
        units: u32s("units")?,
        scores: Arc::new(Mapped::<f64>::new(require("scores")?, "F64")?),
        text: bytes("text")?,
        ends: u32s("ends")?,
        charsmap_units: u32s("charsmap_units")?,
        charsmap_text: bytes("charsmap_text")?,
    };
    let tokenizer = Tokenizer::from_compiled(text, &arrays, &path)?;
    check_vocabulary(&tokenizer, config, &path)?;
    Ok(Some(tokenizer))
}

/// `tokenizer.json`, or without it `sentencepiece.bpe.model`.
pub(crate) fn read_tokenizer(source: &Source, config: &ModelConfig) -> Result<Option<Tokenizer>> {
    let (json, model) = ("tokenizer.json", "sentencepiece.bpe.model");
    let (name, tokenizer) = if let Some(bytes) = source.open(json)? {
        (json, Tokenizer::from_json(&bytes, &source.path(json))?)
    } else if let Some(bytes) = source.open(model)? {
        (model, Tokenizer::from_sentencepiece(&bytes, &source.path(model))?)
    } else {
        return Ok(None);
    };
    check_vocabulary(&tokenizer, config, &source.path(name))?;
    Ok(Some(tokenizer))
}

fn check_vocabulary(tokenizer: &Tokenizer, config: &ModelConfig, path: &Path) -> Result<()> {
    if tokenizer.vocab_size() == config.vocabulary {
        return Ok(());
    }
    let what = format!(
        "the tokenizer has {} ids, but the model's token table has {} rows",
        tokenizer.vocab_size(),
        config.vocabulary
    );
    Err(Error::format(path, what))
}
