//! Reads `sentencepiece.bpe.model`, which is a SentencePiece unigram model in spite of its name, and turns it into the tokenizer that
//! `transformers` builds from it.
//!
//! The reference is `XLMRobertaTokenizer` of transformers 5 (`XLMRobertaTokenizerFast` before), not SentencePiece itself:
//!
//! * The ids are fairseq's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then the model's pieces without its first three, then `<mask>`.
//! * The character map is applied as the `tokenizers` library does (`normalizer.rs`).
//! * Words are cut at white space and each begins with `▁`. So white space at the end of a text gives no token. A `tokenizer.json` in
//!   the same directory may differ: BGE-M3's own has no `WhitespaceSplit`, and a text that ends with a space gets a last `▁`. If both
//!   files exist, `tokenizer.json` counts, as it does for the library. (transformers 4 built the same tokenizer, except that white space
//!   which the character map does not replace, such as U+0085, did not end a word.)

use std::collections::HashSet;

use base64::Engine;

use super::protobuf::{self, Value};
use super::spec::{
    AddedTokenSpec, ModelSpec, NormalizerSpec, PostProcessorSpec, PreTokenizerSpec, PrependScheme, Spec,
};

/// The most pieces that are read, which is more than any vocabulary has.
const MAX_PIECES: usize = 1 << 20;
/// The tokens with the ids 0 to 3, before the model's pieces.
const SPECIALS: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];
const MASK: &str = "<mask>";
/// What the model's first three pieces must be: text and type.
const FIRST: [(&str, u64); 3] = [("<unk>", kind::UNKNOWN), ("<s>", kind::CONTROL), ("</s>", kind::CONTROL)];

/// The types of pieces: `ModelProto.SentencePiece.Type`.
mod kind {
    pub(super) const NORMAL: u64 = 1;
    pub(super) const UNKNOWN: u64 = 2;
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
    pub(super) const UNUSED: u64 = 5;
    pub(super) const BYTE: u64 = 6;
}

/// `ModelProto.SentencePiece`, a piece of the vocabulary.
struct Piece<'a> {
    text: &'a str,
    score: Option<f32>,
    kind: u64,
}

/// The fields of `ModelProto` that are used or checked; absent ones have the format's defaults.
struct Model<'a> {
    pieces: Vec<Piece<'a>>,
    /// Whether the file has the specs of the trainer and the normaliser. They follow the pieces, so a file that was cut between two fields
    /// has lost them.
    has_trainer: bool,
    has_normalizer: bool,
    /// 1 is unigram.
    model_type: u64,
    whitespace_as_suffix: bool,
    byte_fallback: bool,
    charsmap: &'a [u8],
    dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

/// Reads a model's file as the tokenizer's description. The error says what is wrong or not supported.
pub(super) fn parse(bytes: &[u8]) -> Result<Spec, String> {
    let model = Model::read(bytes).map_err(|what| format!("not a SentencePiece model: {what}"))?;
    model.check()?;
    model.into_spec()
}

impl<'a> Model<'a> {
    /// Reads the fields; an error if the file is damaged or cut.
    fn read(bytes: &'a [u8]) -> Result<Model<'a>, String> {
        let mut model = Model {
            pieces: Vec::new(),
            has_trainer: false,
            has_normalizer: false,
            model_type: 1,
            whitespace_as_suffix: false,
            byte_fallback: false,
            charsmap: &[],
            dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        protobuf::fields(bytes, |field, value| match field {
            1 => {
                let index = model.pieces.len();
                if index >= MAX_PIECES {
                    return Err(format!("it has more than {MAX_PIECES} pieces"));
                }
                let piece = value.bytes().and_then(Piece::read).map_err(|what| format!("piece {index}: {what}"))?;
                model.pieces.push(piece);
                Ok(())
            }
            2 => {
                model.has_trainer = true;
                protobuf::fields(value.bytes()?, |field, value| model.read_trainer(field, value))
            }
            3 => {
                model.has_normalizer = true;
                protobuf::fields(value.bytes()?, |field, value| model.read_normalizer(field, value))
            }
            _ => Ok(()),
        })?;
        if model.pieces.is_empty() {
            return Err("it has no pieces".to_owned());
        }
        if !(model.has_trainer && model.has_normalizer) {
            return Err("it has no trainer_spec or no normalizer_spec: the file is cut".to_owned());
        }
        Ok(model)
    }

    /// Stores a field of `TrainerSpec`.
    fn read_trainer(&mut self, field: u64, value: Value<'a>) -> Result<(), String> {
        match field {
            3 => self.model_type = value.varint()?,
            24 => self.whitespace_as_suffix = value.bool()?,
            35 => self.byte_fallback = value.bool()?,
            _ => {}
        }
        Ok(())
    }

    /// Stores a field of `NormalizerSpec`.
    fn read_normalizer(&mut self, field: u64, value: Value<'a>) -> Result<(), String> {
        match field {
            2 => self.charsmap = value.bytes()?,
            3 => self.dummy_prefix = value.bool()?,
            4 => self.remove_extra_whitespaces = value.bool()?,
            5 => self.escape_whitespaces = value.bool()?,
            _ => {}
        }
        Ok(())
    }

    /// Refuses settings and pieces that the tokenizer of [`Model::into_spec`] would not follow.
    fn check(&self) -> Result<(), String> {
        if self.model_type != 1 {
            let name = ["?", "unigram", "BPE", "word", "char"].get(self.model_type as usize).unwrap_or(&"?");
            return Err(format!(
                "the SentencePiece model is of type {} ({name}), expected 1 (unigram)",
                self.model_type
            ));
        }
        for (name, found, expected) in [
            ("trainer_spec.treat_whitespace_as_suffix", self.whitespace_as_suffix, false),
            ("trainer_spec.byte_fallback", self.byte_fallback, false),
            ("normalizer_spec.add_dummy_prefix", self.dummy_prefix, true),
            ("normalizer_spec.remove_extra_whitespaces", self.remove_extra_whitespaces, true),
            ("normalizer_spec.escape_whitespaces", self.escape_whitespaces, true),
        ] {
            if found != expected {
                return Err(format!("the SentencePiece model's `{name}` is {found}, expected {expected}"));
            }
        }
        for (index, (text, kind)) in FIRST.into_iter().enumerate() {
            let found = self.pieces.get(index).map(|piece| (piece.text, piece.kind));
            if found != Some((text, kind)) {
                let found = found.map(|(text, _)| text).unwrap_or("(nothing)").escape_debug();
                return Err(format!(
                    "piece {index} is `{found}`, expected `{text}`: not a model of XLM-RoBERTa's kind"
                ));
            }
        }
        let mut seen = HashSet::with_capacity(self.pieces.len());
        for (index, piece) in self.pieces.iter().enumerate() {
            let refuse = |what: &str| Err(format!("piece {index} (`{}`) {what}", piece.text.escape_debug()));
            match piece.kind {
                _ if piece.text.is_empty() => return refuse("is empty"),
                _ if !seen.insert(piece.text) => return refuse("comes twice"),
                kind::UNKNOWN if index > 0 => return refuse("is a second unknown piece"),
                kind::BYTE => return refuse("is a byte: byte fallback is not supported"),
                kind::NORMAL..=kind::UNUSED => {}
                other => return refuse(&format!("is of the type {other}, expected 1 to 6")),
            }
            match piece.score {
                Some(score) if !score.is_finite() => return refuse(&format!("has the score {score}")),
                None if piece.kind == kind::NORMAL => return refuse("has no score"),
                _ => {}
            }
        }
        Ok(())
    }

    /// The description of the tokenizer that `transformers` builds from the model.
    fn into_spec(self) -> Result<Spec, String> {
        let mut vocab: Vec<(String, f64)> = SPECIALS.iter().map(|&special| (special.to_owned(), 0.0)).collect();
        let mut added: Vec<AddedTokenSpec> =
            (0..).zip(SPECIALS).map(|(id, special)| AddedTokenSpec::plain(id, special, true)).collect();
        for piece in &self.pieces[FIRST.len()..] {
            if matches!(piece.kind, kind::CONTROL | kind::USER_DEFINED) {
                let special = piece.kind == kind::CONTROL;
                added.push(AddedTokenSpec::plain(vocab.len() as u32, piece.text, special));
            }
            vocab.push((piece.text.to_owned(), f64::from(piece.score.unwrap_or(0.0))));
        }
        added.push(AddedTokenSpec::plain(vocab.len() as u32, MASK, true));
        vocab.push((MASK.to_owned(), 0.0));
        let precompiled_charsmap = base64::engine::general_purpose::STANDARD.encode(self.charsmap);
        let normalizer = (!self.charsmap.is_empty()).then_some(NormalizerSpec::Precompiled { precompiled_charsmap });
        let metaspace = PreTokenizerSpec::Metaspace {
            replacement: '▁',
            add_prefix_space: None,
            prepend_scheme: Some(PrependScheme::Always),
            split: Some(true),
        };
        let pre_tokenizer =
            PreTokenizerSpec::Sequence { pretokenizers: vec![PreTokenizerSpec::WhitespaceSplit, metaspace] };
        let post_processor =
            PostProcessorSpec::RobertaProcessing { cls: ("<s>".to_owned(), 0), sep: ("</s>".to_owned(), 2) };
        Ok(Spec {
            version: None,
            truncation: None,
            added_tokens: added,
            normalizer,
            pre_tokenizer,
            post_processor,
            model: ModelSpec::unigram(vocab, 3),
        })
    }
}

impl<'a> Piece<'a> {
    fn read(bytes: &'a [u8]) -> Result<Piece<'a>, String> {
        let mut piece = Piece { text: "", score: None, kind: kind::NORMAL };
        protobuf::fields(bytes, |field, value| {
            match field {
                1 => piece.text = value.text()?,
                2 => piece.score = Some(value.float()?),
                3 => piece.kind = value.varint()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(piece)
    }
}
