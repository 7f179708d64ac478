//! The normaliser: SentencePiece's precompiled character map, as the `tokenizers` library applies it, and the small steps around it.

use std::sync::Arc;

use base64::Engine;
use unicode_segmentation::UnicodeSegmentation;

use super::spec::{NormalizerSpec, PatternSpec};
use super::types::{CompiledArrays, Numbers};

/// The steps of a tokenizer's normaliser, in order.
#[derive(Debug)]
pub(super) struct Normalizer {
    steps: Vec<Step>,
}

/// A step of a normaliser.
#[derive(Debug)]
enum Step {
    CharsMap(Box<CharsMap>),
    /// Replaces each run of two or more spaces by this text.
    SpaceRuns(String),
    Replace {
        pattern: String,
        content: String,
    },
    Strip {
        left: bool,
        right: bool,
    },
    /// Converts each character by itself, as the library does: a capital sigma at the end of a word becomes `σ` and not `ς`.
    Lowercase,
}

impl Normalizer {
    /// The steps of `spec`, whose character maps are in it as base64. An error if a step is not supported.
    pub(super) fn new(spec: &Option<NormalizerSpec>) -> Result<Normalizer, String> {
        let mut steps = Vec::new();
        if let Some(spec) = spec {
            collect(spec, None, &mut steps)?;
        }
        Ok(Normalizer { steps })
    }

    /// The steps of `spec`, whose only character map is in the arrays `parts`.
    pub(super) fn in_place(spec: &Option<NormalizerSpec>, parts: &CompiledArrays) -> Result<Normalizer, String> {
        let mut steps = Vec::new();
        if let Some(spec) = spec {
            collect(spec, Some(parts), &mut steps)?;
        }
        Ok(Normalizer { steps })
    }

    /// The two arrays of the character map; empty if there is no map.
    ///
    /// # Errors
    /// If there are several.
    pub(super) fn arrays(&self) -> Result<(&[u32], &[u8]), String> {
        let mut maps = self.steps.iter().filter_map(|step| match step {
            Step::CharsMap(map) => Some(((*map.units).as_ref(), (*map.replacements).as_ref())),
            _ => None,
        });
        let first = maps.next().unwrap_or_default();
        match maps.next() {
            None => Ok(first),
            Some(_) => Err("the normaliser has several character maps: only one can be packed".to_owned()),
        }
    }

    /// Appends the normalised text to `out`.
    pub(super) fn normalize(&self, text: &str, out: &mut String) {
        let Some((last, first)) = self.steps.split_last() else {
            out.push_str(text);
            return;
        };
        let mut current = std::borrow::Cow::Borrowed(text);
        for step in first {
            let mut next = String::with_capacity(current.len());
            step.apply(&current, &mut next);
            current = next.into();
        }
        last.apply(&current, out);
    }
}

/// Appends the steps of `spec` to `steps`. The character map is that of `parts` if they are given, else the one in `spec`.
fn collect(spec: &NormalizerSpec, parts: Option<&CompiledArrays>, steps: &mut Vec<Step>) -> Result<(), String> {
    match spec {
        NormalizerSpec::Sequence { normalizers } => {
            normalizers.iter().try_for_each(|spec| collect(spec, parts, steps))?;
        }
        NormalizerSpec::Precompiled { precompiled_charsmap } => {
            let map = match parts {
                Some(parts) => CharsMap::in_place(Arc::clone(&parts.charsmap_units), Arc::clone(&parts.charsmap_text)),
                None => CharsMap::from_base64(precompiled_charsmap)?,
            };
            steps.push(Step::CharsMap(Box::new(map)));
        }
        NormalizerSpec::Replace { pattern: PatternSpec::Regex(regex), content } if regex == " {2,}" => {
            steps.push(Step::SpaceRuns(content.clone()));
        }
        NormalizerSpec::Replace { pattern: PatternSpec::Regex(regex), .. } => {
            return Err(format!("the normaliser replaces by the pattern `{regex}`: only ` {{2,}}` is supported"));
        }
        NormalizerSpec::Replace { pattern: PatternSpec::String(pattern), content } => {
            if pattern.is_empty() {
                return Err("the normaliser replaces the empty string".to_owned());
            }
            steps.push(Step::Replace { pattern: pattern.clone(), content: content.clone() });
        }
        NormalizerSpec::Strip { strip_left, strip_right } => {
            steps.push(Step::Strip { left: *strip_left, right: *strip_right })
        }
        NormalizerSpec::Lowercase => steps.push(Step::Lowercase),
    }
    Ok(())
}

impl Step {
    /// Appends `text` to `out`, changed as the step says.
    fn apply(&self, text: &str, out: &mut String) {
        match self {
            Step::CharsMap(map) => map.apply(text, out),
            Step::SpaceRuns(content) => collapse_spaces(text, content, out),
            Step::Replace { pattern, content } => {
                let mut rest = text;
                while let Some(at) = rest.find(pattern.as_str()) {
                    out.push_str(&rest[..at]);
                    out.push_str(content);
                    rest = &rest[at + pattern.len()..];
                }
                out.push_str(rest);
            }
            Step::Strip { left, right } => {
                let text = if *left { text.trim_start() } else { text };
                out.push_str(if *right { text.trim_end() } else { text });
            }
            Step::Lowercase => out.extend(text.chars().flat_map(char::to_lowercase)),
        }
    }
}

/// Appends `text` to `out`, with `content` in place of each run of two or more spaces.
fn collapse_spaces(text: &str, content: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find("  ") {
        out.push_str(&rest[..at]);
        out.push_str(content);
        rest = rest[at..].trim_start_matches(' ');
    }
    out.push_str(rest);
}

/// SentencePiece's character map: a double-array trie over bytes (darts-clone), whose values are offsets into a text of
/// replacements that end with NUL.
///
/// The `tokenizers` library does not apply the map as SentencePiece does (longest match anywhere). It looks up each grapheme cluster of
/// fewer than six bytes; a longer cluster, and one that is not found, it looks up character by character. The replacement of the *shortest*
/// entry that is a prefix of it stands for the whole cluster or character. XLM-RoBERTa's users have the library's ids, so that is the rule
/// here.
struct CharsMap {
    units: Numbers<u32>,
    /// The replacements, UTF-8, each followed by NUL.
    replacements: Numbers<u8>,
    /// The result of `lookup` for every ASCII character: a range of `replacements`, if it has one.
    ascii: Vec<Option<(u32, u32)>>,
}

impl std::fmt::Debug for CharsMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CharsMap({} units)", (*self.units).as_ref().len())
    }
}

/// Clusters of this many bytes or more are looked up by character.
const LONG_CLUSTER: usize = 6;

impl CharsMap {
    /// Reads the map as `tokenizer.json` has it: base64 of the trie's length in bytes, the trie, and the replacements.
    fn from_base64(text: &str) -> Result<CharsMap, String> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|e| format!("the normaliser's character map is not base64: {e}"))?;
        let trie_bytes = bytes.first_chunk::<4>().map(|b| u32::from_le_bytes(*b) as usize);
        let damaged = |what: &str| format!("the normaliser's character map of {} bytes {what}", bytes.len());
        let trie_bytes = trie_bytes.ok_or_else(|| damaged("is too short"))?;
        let trie = bytes[4..].get(..trie_bytes).filter(|trie| trie.len() % 4 == 0 && !trie.is_empty());
        let trie = trie.ok_or_else(|| damaged(&format!("announces a trie of {trie_bytes} bytes")))?;
        let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let replacements = String::from_utf8(bytes[4 + trie_bytes..].to_vec());
        let replacements = replacements.map_err(|_| damaged("has replacements that are not UTF-8"))?;
        Ok(CharsMap::in_place(Arc::new(units), Arc::new(replacements.into_bytes())))
    }

    /// The map in these two arrays.
    fn in_place(units: Numbers<u32>, replacements: Numbers<u8>) -> CharsMap {
        let mut map = CharsMap { units, replacements, ascii: Vec::new() };
        map.ascii = (0..128u8).map(|byte| map.lookup(&[byte])).collect();
        map
    }

    /// The replacement for the shortest prefix of `key` that has one, as a range of `replacements`. Every index is checked, so a damaged
    /// trie finds nothing or something wrong, but never panics.
    fn lookup(&self, key: &[u8]) -> Option<(u32, u32)> {
        // A unit of darts-clone: the offset in the bits from 10 on (times 256 if bit 9 is set), bit 8 for "has a leaf", the label below it.
        let (units, replacements) = ((*self.units).as_ref(), (*self.replacements).as_ref());
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut node = offset(*units.first()?);
        for &byte in key {
            if byte == 0 {
                return None;
            }
            node ^= usize::from(byte);
            let unit = *units.get(node)?;
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                return None;
            }
            node ^= offset(unit);
            if unit & (1 << 8) != 0 {
                let start = (*units.get(node)? & !(1 << 31)) as usize;
                let rest = replacements.get(start..)?;
                let end = start + rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
                // In a damaged map the range may not be UTF-8.
                std::str::from_utf8(&replacements[start..end]).ok()?;
                return Some((u32::try_from(start).ok()?, u32::try_from(end).ok()?));
            }
        }
        None
    }

    /// Appends the replacement at a range that `lookup` gave.
    fn push_replacement(&self, (start, end): (u32, u32), out: &mut String) {
        let bytes = &(*self.replacements).as_ref()[start as usize..end as usize];
        // `lookup` has checked that it is UTF-8. But if the mapped file is changed afterwards, that must not cause a panic.
        out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
    }

    /// Appends `text` to `out`, cluster by cluster, with the replacements.
    fn apply(&self, text: &str, out: &mut String) {
        let bytes = text.as_bytes();
        let is_ascii = |at: usize| bytes.get(at).is_none_or(u8::is_ascii);
        let mut at = 0;
        while at < bytes.len() {
            // An ASCII character that begins a cluster and is followed by another one, or by nothing, is the whole cluster; only CR LF is
            // one cluster of two.
            let byte = bytes[at];
            if byte.is_ascii() && is_ascii(at + 1) && !(byte == b'\r' && bytes.get(at + 1) == Some(&b'\n')) {
                match self.ascii[usize::from(byte)] {
                    Some(range) => self.push_replacement(range, out),
                    None => out.push(char::from(byte)),
                }
                at += 1;
                continue;
            }
            let cluster = text[at..].graphemes(true).next().unwrap_or_default();
            self.apply_cluster(cluster, out);
            at += cluster.len().max(1);
        }
    }

    /// Appends one grapheme cluster to `out`: its replacement, or that of each character that has one.
    fn apply_cluster(&self, cluster: &str, out: &mut String) {
        if cluster.len() < LONG_CLUSTER
            && let Some(range) = self.lookup(cluster.as_bytes())
        {
            self.push_replacement(range, out);
            return;
        }
        for c in cluster.chars() {
            match self.lookup(c.encode_utf8(&mut [0; 4]).as_bytes()) {
                Some(range) => self.push_replacement(range, out),
                None => out.push(c),
            }
        }
    }
}
