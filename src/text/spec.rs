//! `tokenizer.json` as it is written. Whatever this engine does not implement is refused by name, never ignored.

use serde::{Deserialize, Serialize};

/// The parts of the file that decide ids. `padding` and `decoder` do not; of `truncation` only the side does, because in the reference too
/// the caller sets the length.
#[derive(Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub truncation: Option<TruncationSpec>,
    #[serde(default)]
    pub added_tokens: Vec<AddedTokenSpec>,
    #[serde(default)]
    pub normalizer: Option<NormalizerSpec>,
    pub pre_tokenizer: PreTokenizerSpec,
    #[serde(default)]
    pub post_processor: PostProcessorSpec,
    pub model: ModelSpec,
}

/// How the file says that texts are cut.
#[derive(Deserialize)]
pub(super) struct TruncationSpec {
    #[serde(default)]
    direction: Option<String>,
}

impl TruncationSpec {
    /// Whether texts are cut at their beginning.
    pub(super) fn cuts_left(&self) -> bool {
        self.direction.as_deref().is_some_and(|direction| direction != "Right")
    }
}

/// An added token. The library demands all fields; here flags that are left out are false, which is all that a file written by hand can
/// mean.
#[derive(Debug, Deserialize, Serialize, Clone)]
pub(super) struct AddedTokenSpec {
    /// The id in the file, which is replaced: see `numbering::number`.
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}

/// A normaliser of the `tokenizers` library.
#[derive(Debug, Deserialize, Serialize, Clone)]
#[serde(tag = "type")]
pub(super) enum NormalizerSpec {
    Sequence { normalizers: Vec<NormalizerSpec> },
    Precompiled { precompiled_charsmap: String },
    Replace { pattern: PatternSpec, content: String },
    Strip { strip_left: bool, strip_right: bool },
    Lowercase,
}

/// What a `Replace` normaliser replaces.
#[derive(Debug, Deserialize, Serialize, Clone)]
pub(super) enum PatternSpec {
    String(String),
    Regex(String),
}

/// A pre-tokenizer of the `tokenizers` library.
#[derive(Debug, Deserialize, Serialize, Clone)]
#[serde(tag = "type")]
pub(super) enum PreTokenizerSpec {
    Sequence {
        pretokenizers: Vec<PreTokenizerSpec>,
    },
    WhitespaceSplit,
    Metaspace {
        replacement: char,
        add_prefix_space: Option<bool>,
        prepend_scheme: Option<PrependScheme>,
        split: Option<bool>,
    },
}

/// Whether `Metaspace` puts `▁` before a text that does not begin with it: only before the first part of a text, never, or before each
/// part.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrependScheme {
    First,
    Never,
    Always,
}

/// A post-processor of the `tokenizers` library, which adds special tokens to a text.
#[derive(Deserialize, Default)]
#[serde(tag = "type")]
pub(super) enum PostProcessorSpec {
    #[default]
    Absent,
    TemplateProcessing {
        single: Vec<TemplatePiece>,
        special_tokens: std::collections::BTreeMap<String, TemplateToken>,
    },
    RobertaProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    BertProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    /// Several post-processors. Only a sequence of exactly one is accepted, so that none is ignored.
    Sequence {
        processors: Vec<PostProcessorSpec>,
    },
}

#[derive(Deserialize)]
pub(super) enum TemplatePiece {
    SpecialToken { id: String },
    Sequence { id: String },
}

#[derive(Deserialize)]
pub(super) struct TemplateToken {
    ids: Vec<u32>,
}

impl AddedTokenSpec {
    /// A token that is looked for in the text as it is, without the white space around it.
    pub(super) fn plain(id: u32, content: &str, special: bool) -> AddedTokenSpec {
        let content = content.to_owned();
        AddedTokenSpec { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }
    }
}

impl NormalizerSpec {
    /// The normaliser that converts to lower case, then does the steps of `spec`.
    pub(super) fn lower_cased(spec: Option<NormalizerSpec>) -> NormalizerSpec {
        let mut normalizers = vec![NormalizerSpec::Lowercase];
        normalizers.extend(spec);
        NormalizerSpec::Sequence { normalizers }
    }

    /// These steps with empty character maps, because a compiled tokenizer stores the map in arrays.
    pub(super) fn without_map(&self) -> NormalizerSpec {
        match self {
            NormalizerSpec::Sequence { normalizers } => {
                NormalizerSpec::Sequence { normalizers: normalizers.iter().map(Self::without_map).collect() }
            }
            NormalizerSpec::Precompiled { .. } => NormalizerSpec::Precompiled { precompiled_charsmap: String::new() },
            other => other.clone(),
        }
    }
}

impl PostProcessorSpec {
    /// The ids that are put before and after a text. An error if the post-processor does anything else for one text.
    pub(super) fn bos_eos(&self) -> Result<(u32, u32), String> {
        match self {
            PostProcessorSpec::Absent => Err("there is no post-processor that adds <s> and </s>".to_owned()),
            PostProcessorSpec::Sequence { processors } => match &processors[..] {
                [only] => only.bos_eos(),
                _ => Err(format!("there are {} post-processors in a sequence, expected one", processors.len())),
            },
            PostProcessorSpec::RobertaProcessing { sep, cls } | PostProcessorSpec::BertProcessing { sep, cls } => {
                Ok((cls.1, sep.1))
            }
            PostProcessorSpec::TemplateProcessing { single, special_tokens } => {
                let token = |name: &str| match special_tokens.get(name).map(|token| &token.ids[..]) {
                    Some(&[id]) => Ok(id),
                    _ => Err(format!("the post-processor gives no single id for `{name}`")),
                };
                match &single[..] {
                    [
                        TemplatePiece::SpecialToken { id: bos },
                        TemplatePiece::Sequence { id },
                        TemplatePiece::SpecialToken { id: eos },
                    ] if id == "A" => Ok((token(bos)?, token(eos)?)),
                    _ => Err("the post-processor's template for one text is not `<s> A </s>`".to_owned()),
                }
            }
        }
    }
}

/// The Unigram model.
#[derive(Deserialize)]
pub(super) struct ModelSpec {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    pub unk_id: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
    /// Pieces with their log-probabilities.
    #[serde(default)]
    pub vocab: Vec<(String, f64)>,
}

impl ModelSpec {
    pub(super) fn unigram(vocab: Vec<(String, f64)>, unk_id: usize) -> ModelSpec {
        ModelSpec { kind: None, unk_id: Some(unk_id), byte_fallback: false, vocab }
    }
}

/// The type of a file's model. It is read if the whole file cannot be, so that the error for a model of another type names this type and
/// not the form of its vocabulary.
#[derive(Deserialize)]
struct Kind {
    model: ModelKind,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Reads `tokenizer.json`; an error if it is damaged, or is not a Unigram tokenizer that is supported.
pub(super) fn parse(bytes: &[u8]) -> Result<Spec, String> {
    let spec = serde_json::from_slice::<Spec>(bytes).map_err(|error| {
        let kind = serde_json::from_slice::<Kind>(bytes).ok().and_then(|kind| kind.model.kind);
        match kind {
            Some(kind) if kind != "Unigram" => format!("the model is {kind}, expected Unigram"),
            _ => format!("not a tokenizer of XLM-RoBERTa's kind: {error}"),
        }
    })?;
    match spec.model.kind.as_deref() {
        Some("Unigram") | None => {}
        Some(kind) => return Err(format!("the model is {kind}, expected Unigram")),
    }
    // Byte fallback has no effect in a vocabulary without byte pieces.
    let is_byte = |piece: &str| piece.len() == 6 && piece.starts_with("<0x") && piece.ends_with('>');
    if spec.model.byte_fallback && spec.model.vocab.iter().any(|(piece, _)| is_byte(piece)) {
        return Err(
            "the model's `byte_fallback` is true, and it has pieces for bytes: that is not supported".to_owned()
        );
    }
    match spec.version.as_deref() {
        Some("1.0") | None => Ok(spec),
        Some(version) => Err(format!("`version` is \"{version}\", expected \"1.0\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_of_one_post_processor_is_that_one() {
        let roberta = r#"{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0]}"#;
        let of = |json: &str| serde_json::from_str::<PostProcessorSpec>(json).map_err(|e| e.to_string())?.bos_eos();
        assert_eq!(of(roberta), Ok((0, 2)));
        assert_eq!(of(&format!(r#"{{"type":"Sequence","processors":[{roberta}]}}"#)), Ok((0, 2)));
        let two = of(&format!(r#"{{"type":"Sequence","processors":[{roberta},{roberta}]}}"#)).unwrap_err();
        assert!(two.contains("2 post-processors in a sequence, expected one"), "{two}");
        assert!(of(r#"{"type":"Sequence","processors":[]}"#).unwrap_err().contains("0 post-processors"));
        assert!(of(r#"{"type":"ByteLevel"}"#).unwrap_err().contains("ByteLevel"));
    }
}
