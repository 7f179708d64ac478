//! Unigram segmentation: the most probable sequence of pieces (Kudo 2018, "Subword Regularization"), by Viterbi over bytes.

use std::sync::Arc;

use super::added::AddedTokens;
use super::spec::ModelSpec;
use super::trie::Trie;
use super::types::{CompiledArrays, Numbers, SpecialTokens};

/// How far the score of an unknown character is below the lowest score of a piece.
const UNKNOWN_PENALTY: f64 = 10.0;

/// After this many bytes of a word, it is first checked whether the wanted tokens are certain. Each later check is at twice the bytes of
/// the last, so that all checks together take linear time.
const FIRST_CHECK: usize = 64 << 10;

/// A vocabulary with log-probabilities, in flat arrays that may be in a mapped file. The arrays' content is checked when it is used.
pub(super) struct Unigram {
    /// Pieces one after another, UTF-8; piece `i` ends at `ends[i]`.
    text: Numbers<u8>,
    ends: Numbers<u32>,
    scores: Numbers<f64>,
    trie: Trie,
    unknown: u32,
    unknown_score: f64,
}

impl std::fmt::Debug for Unigram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unigram({} pieces)", self.len())
    }
}

/// The best way to reach a byte of the word.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// Where the last piece of this way begins; [`UNREACHED`] if no piece ends at this byte.
    from: u32,
    /// The id of that piece.
    id: u32,
}

/// The [`Best::from`] of a byte that no piece has reached.
const UNREACHED: u32 = u32::MAX;
const NOTHING: Best = Best { score: 0.0, from: UNREACHED, id: 0 };

impl Unigram {
    /// The vocabulary of `tokenizer.json`'s model; an error if it has no valid unknown piece, a score that is not finite, or too much text.
    pub(super) fn new(spec: ModelSpec) -> Result<Unigram, String> {
        let pieces = spec.vocab.len();
        let unknown = spec.unk_id.ok_or("the model has no `unk_id`")?;
        if unknown >= pieces {
            return Err(format!("`unk_id` is {unknown}, but there are {pieces} pieces"));
        }
        let bytes: usize = spec.vocab.iter().map(|(piece, _)| piece.len()).sum();
        if u32::try_from(bytes.max(pieces)).is_err() {
            return Err(format!("the vocabulary has {pieces} pieces of {bytes} bytes, which is too much"));
        }
        let (mut text, mut ends, mut scores) = (String::with_capacity(bytes), Vec::new(), Vec::new());
        let mut lowest = f64::INFINITY;
        for (id, (piece, score)) in spec.vocab.iter().enumerate() {
            if !score.is_finite() {
                return Err(format!("piece {id} (`{piece}`) has the score {score}"));
            }
            text.push_str(piece);
            ends.push(text.len() as u32);
            scores.push(*score);
            lowest = lowest.min(*score);
        }
        let trie = Trie::new(spec.vocab.iter().map(|(piece, _)| piece.as_str()))?;
        Ok(Unigram {
            text: Arc::new(text.into_bytes()),
            ends: Arc::new(ends),
            scores: Arc::new(scores),
            trie,
            unknown: unknown as u32,
            unknown_score: lowest - UNKNOWN_PENALTY,
        })
    }

    /// The vocabulary in the arrays `parts`. Their lengths are compared here; their content is checked when it is used.
    pub(super) fn in_place(parts: &CompiledArrays, unknown: u32, unknown_score: f64) -> Result<Unigram, String> {
        let (pieces, scores) = ((*parts.ends).as_ref().len(), (*parts.scores).as_ref().len());
        if scores != pieces || unknown as usize >= pieces {
            return Err(format!(
                "{pieces} pieces, {scores} scores, and {unknown} as the unknown one do not fit each other"
            ));
        }
        let (last, bytes) = ((*parts.ends).as_ref().last().copied().unwrap_or(0), (*parts.text).as_ref().len());
        if last as usize != bytes {
            return Err(format!("the pieces' text has {bytes} bytes, expected {last}"));
        }
        if !unknown_score.is_finite() {
            return Err(format!("the unknown piece's score is {unknown_score}"));
        }
        Ok(Unigram {
            text: Arc::clone(&parts.text),
            ends: Arc::clone(&parts.ends),
            scores: Arc::clone(&parts.scores),
            trie: Trie::from_units(Arc::clone(&parts.units)),
            unknown,
            unknown_score,
        })
    }

    /// The arrays that [`in_place`](Self::in_place) needs: the pieces' text, their ends, their scores, and the trie's units.
    pub(super) fn arrays(&self) -> (&[u8], &[u32], &[f64], &[u32]) {
        ((*self.text).as_ref(), (*self.ends).as_ref(), (*self.scores).as_ref(), self.trie.units())
    }

    /// The id of the unknown piece, and the score of an unknown character.
    pub(super) fn unknown(&self) -> (u32, f64) {
        (self.unknown, self.unknown_score)
    }

    /// The number of pieces.
    pub(super) fn len(&self) -> usize {
        (*self.ends).as_ref().len()
    }

    /// The text of the piece `id`, if there is one.
    pub(super) fn piece(&self, id: u32) -> Option<&str> {
        let ends = (*self.ends).as_ref();
        let end = *ends.get(id as usize)? as usize;
        let start = (id as usize).checked_sub(1).map_or(0, |before| ends[before] as usize);
        std::str::from_utf8((*self.text).as_ref().get(start..end)?).ok()
    }

    /// Appends the ids of the most probable pieces of a word: all of them, or of a long word at least the first `wanted`. Unknown
    /// characters next to each other become one token. With [`SpecialTokens::Literal`] the pieces of special tokens are not used.
    pub(super) fn encode(
        &self,
        word: &str,
        special: SpecialTokens,
        wanted: usize,
        ids: &mut Vec<u32>,
        added: &AddedTokens,
    ) {
        // Positions have 32 bits. Of a longer word only the first 2 GiB are read (nothing, if that cuts a character), which is far more
        // than any limit on tokens.
        let word = if word.len() < UNREACHED as usize { word } else { word.get(..1 << 31).unwrap_or_default() };
        let bytes = word.as_bytes();
        let scores = (*self.scores).as_ref();
        let mut best = vec![NOTHING; bytes.len().min(FIRST_CHECK) + 1];
        let mut next_check = FIRST_CHECK;
        let mut end = bytes.len();
        let mut at = 0;
        for c in word.chars() {
            if at >= next_check {
                next_check *= 2;
                if let Some(certain) = self.certain(&best, at, wanted) {
                    end = certain;
                    break;
                }
            }
            let here = best[at].score;
            let mut offer = |length: usize, score: f64, id: u32| {
                let target = at + length;
                if target >= best.len() {
                    best.resize((target + 1).max(best.len() * 2).min(bytes.len() + 1), NOTHING);
                }
                let candidate = score + here;
                if best[target].from == UNREACHED || candidate > best[target].score {
                    best[target] = Best { score: candidate, from: at as u32, id };
                }
            };
            let mut single = false;
            self.trie.prefixes(&bytes[at..], |length, id| {
                if special == SpecialTokens::Literal && added.is_special(id) {
                    return;
                }
                // An id beyond the vocabulary comes from a damaged array, as does an end inside a character.
                let Some(&score) = scores.get(id as usize).filter(|_| word.is_char_boundary(at + length)) else {
                    return;
                };
                offer(length, score, id);
                single |= length == c.len_utf8();
            });
            if !single {
                offer(c.len_utf8(), self.unknown_score, self.unknown);
            }
            at += c.len_utf8();
        }
        self.follow(&best, end, ids);
    }

    /// Appends the ids on the best path to `end`.
    fn follow(&self, best: &[Best], end: usize, ids: &mut Vec<u32>) {
        let first = ids.len();
        let mut at = end;
        while at > 0 {
            let Best { from, id, .. } = best[at];
            let fuses = id == self.unknown && ids.len() > first && ids.last() == Some(&self.unknown);
            if !fuses {
                ids.push(id);
            }
            at = from as usize;
        }
        ids[first..].reverse();
    }

    /// A byte, at most `at`, through which the best path goes whatever follows, if there are at least `wanted` tokens before it. All pieces
    /// that begin before `at` must have been offered.
    ///
    /// Whatever follows, the best path passes through one of the bytes from `at` on that have been reached. The best paths to these bytes
    /// are walked back, always from the latest byte, until they meet.
    fn certain(&self, best: &[Best], at: usize, wanted: usize) -> Option<usize> {
        let mut open: Vec<usize> = (at..best.len()).filter(|&end| best[end].from != UNREACHED).collect();
        while open.len() > 1 {
            let latest = open.pop()?;
            let from = best[latest].from as usize;
            if let Err(place) = open.binary_search(&from) {
                open.insert(place, from);
            }
        }
        let meeting = open.pop()?;
        let mut ids = Vec::new();
        self.follow(best, meeting, &mut ids);
        (ids.len() >= wanted).then_some(meeting)
    }
}
