//! Reads everything but the weights from a model's files: the pipeline after the encoder, the maximum length, the tokenizer.

use std::path::Path;
use std::sync::Arc;

use crate::config::{
    DensePipeline, Length, MIN_PAIR_TOKENS, ModelConfig, ModelKind, ModelSettings, Prompts, SENTENCE_FILES,
    SentenceSettings, TokenizerSettings, only_transformer,
};
use crate::error::{Error, Result};
use crate::text::{Beside, CompiledArrays, ExtraTokens, Tokenizer};
use crate::weights::{Checkpoint, Mapped, Source};

/// The settings of a model, except the sizes of its encoder.
#[derive(Debug)]
pub(crate) struct Settings {
    pub pipeline: DensePipeline,
    /// Longest input in tokens.
    pub max_length: usize,
    /// The field that sets the longest input, and its file.
    pub max_length_from: String,
    pub prompts: Prompts,
    /// How sentence-transformers compares the vectors.
    pub similarity: Option<String>,
}

const MODULES: &str = "modules.json";
const MODEL_SETTINGS: &str = "config_sentence_transformers.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const ADAPTER: &str = "adapter_config.json";

/// Reads the settings in the model's files other than `config.json`. `config` is the content of that file; a reranker's score function is
/// added to it. Also returns what the files say about the tokenizer.
pub(crate) fn read_settings(source: &Source, config: &mut ModelConfig) -> Result<(Settings, Beside)> {
    if source.open(ADAPTER)?.is_some() {
        let what =
            "the weights of an adapter belong to the model: merge them into it (`merge_and_unload()`) and save that";
        return Err(Error::format(&source.path(ADAPTER), what));
    }
    let mut pipeline = read_pipeline(source, config.kind)?;
    let model = match source.open(MODEL_SETTINGS)? {
        Some(bytes) => ModelSettings::from_json(&bytes, &source.path(MODEL_SETTINGS), config.kind)?,
        None => ModelSettings::default(),
    };
    if config.kind == ModelKind::Embedder {
        pipeline.truncate_dim = model.truncate_dim;
    }
    config.activation = model.activation.unwrap_or(config.activation);
    let sentence = read_sentence_settings(source, config.kind)?;
    let tokenizer = match source.open(TOKENIZER_CONFIG)? {
        Some(bytes) => TokenizerSettings::from_json(&bytes, &source.path(TOKENIZER_CONFIG))?,
        None => TokenizerSettings::default(),
    };
    let sentence_length = sentence.as_ref().and_then(|(file, of)| Some((*file, of.max_length?)));
    let (max_length, max_length_from) = match (sentence_length, tokenizer.max_length) {
        (Some((file, (field, length))), _) => within(length, field, file, source, config)?,
        (None, Some(length)) => within(length, "model_max_length", TOKENIZER_CONFIG, source, config)?,
        (None, None) => (config.max_tokens(), OF_POSITIONS.to_owned()),
    };
    let beside = Beside {
        tokens: read_extra_tokens(source)?,
        lower_case: sentence.is_some_and(|(_, of)| of.lower_case),
        cuts_right: tokenizer.cuts_right,
    };
    let settings =
        Settings { pipeline, max_length, max_length_from, prompts: model.prompts, similarity: model.similarity };
    Ok((settings, beside))
}

/// The field that sets the maximum length if no other field does.
const OF_POSITIONS: &str = "max_position_embeddings of config.json";

/// The steps from token states to the dense vector: those of `modules.json`, or BGE-M3's if there is no such file.
fn read_pipeline(source: &Source, kind: ModelKind) -> Result<DensePipeline> {
    let modules = source.open(MODULES)?;
    let path = source.path(MODULES);
    match (kind, modules) {
        (ModelKind::Embedder, None) => Ok(DensePipeline::of_bge_m3()),
        (ModelKind::Embedder, Some(modules)) => DensePipeline::from_modules(&modules, &path, |file| {
            Ok(source.open(file)?.map(|bytes| Box::from(&bytes[..])))
        }),
        // A reranker has no dense vector: its classifier reads the first token's state.
        (ModelKind::Reranker, modules) => {
            modules.map_or(Ok(()), |modules| only_transformer(&modules, &path))?;
            Ok(DensePipeline::default())
        }
    }
}

/// The settings in the first of the [`SENTENCE_FILES`] that has any, with the file's name.
fn read_sentence_settings(source: &Source, kind: ModelKind) -> Result<Option<(&'static str, SentenceSettings)>> {
    for file in SENTENCE_FILES {
        if let Some(bytes) = source.open(file)?
            && let Some(settings) = SentenceSettings::from_json(&bytes, &source.path(file), kind)?
        {
            return Ok(Some((file, settings)));
        }
    }
    Ok(None)
}

/// The length that a file sets, limited by the position table, and the field that set it.
fn within(length: Length, field: &str, file: &str, source: &Source, config: &ModelConfig) -> Result<(usize, String)> {
    match length {
        Length::Tokens(tokens) if tokens <= config.max_tokens() => {
            if config.kind == ModelKind::Reranker && tokens < MIN_PAIR_TOKENS {
                let what = format!("`{field}` is {tokens}, expected {MIN_PAIR_TOKENS} or more for a reranker's pairs");
                return Err(Error::format(&source.path(file), what));
            }
            Ok((tokens, format!("{field} of {file}")))
        }
        _ => Ok((config.max_tokens(), OF_POSITIONS.to_owned())),
    }
}

/// Reads the files that name tokens besides those of the tokenizer's own file.
fn read_extra_tokens(source: &Source) -> Result<ExtraTokens> {
    let names = [TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json"];
    let mut files = Vec::new();
    for name in names {
        files.push((source.open(name)?, source.path(name)));
    }
    let file = |at: usize| {
        let (bytes, path) = &files[at];
        bytes.as_ref().map(|bytes| (&bytes[..], path.as_path()))
    };
    ExtraTokens::read(file(0), file(1), file(2))
}

/// The compiled tokenizer in a packed file; `None` if the file has none.
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

/// Reads the tokenizer from `tokenizer.json`, or else from `sentencepiece.bpe.model`; `None` if neither is there.
pub(crate) fn read_tokenizer(source: &Source, beside: &Beside, config: &ModelConfig) -> Result<Option<Tokenizer>> {
    let (json, model) = ("tokenizer.json", "sentencepiece.bpe.model");
    let (name, tokenizer) = if let Some(bytes) = source.open(json)? {
        (json, Tokenizer::from_json_beside(&bytes, beside, &source.path(json))?)
    } else if let Some(bytes) = source.open(model)? {
        (model, Tokenizer::from_sentencepiece_beside(&bytes, beside, &source.path(model))?)
    } else {
        return Ok(None);
    };
    check_vocabulary(&tokenizer, config, &source.path(name))?;
    Ok(Some(tokenizer))
}

/// Checks that the token table has a row for every id of the tokenizer. Rows without an id are harmless: tables are padded to round numbers,
/// and no text leads to such a row.
fn check_vocabulary(tokenizer: &Tokenizer, config: &ModelConfig, path: &Path) -> Result<()> {
    let (ids, rows) = (tokenizer.vocab_size(), config.vocabulary);
    if ids <= rows {
        return Ok(());
    }
    let what = format!(
        "the tokenizer has {ids} ids, but the model's token table has {rows} rows: it is another model's, or the table has to be \
         enlarged with the tokens (`resize_token_embeddings`)"
    );
    Err(Error::format(path, what))
}
