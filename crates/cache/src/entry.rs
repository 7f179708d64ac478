//! What an entry is: its key, its bytes, and the checksum over both.
//!
//! An entry is one representation of one sequence of token ids: `dense`, `lexical` or `colbert`. So a text that was embedded with `dense`
//! today and is wanted with `dense,sparse` tomorrow lacks one entry, not two. The ids are those that the encoder saw, after normalisation,
//! truncation, prompt and special tokens, so none of these settings is in the key. One number is: how many ids at the start belong to a
//! prompt that the dense vector leaves out.

use sha2::{Digest, Sha256};

use trivec::{Embedding, LexicalWeights, Modes, TokenVectors};

/// Bytes of a key: a digest of model and token ids; the representation and, for a dense vector, whether it is normalised; the requested
/// length of a dense vector (0: all of it).
pub(super) const KEY_BYTES: usize = 32 + 1 + 4;

/// Bytes of the checksum before an entry's payload.
pub(super) const CHECK_BYTES: usize = 32;

pub(super) type Key = [u8; KEY_BYTES];

/// What is wanted of each text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The representations.
    pub modes: Modes,
    /// How many leading values of the dense vector; `None`: all.
    pub dimensions: Option<usize>,
    /// Whether the dense vector is scaled to length 1; `None`: as the model says.
    pub normalize: Option<bool>,
    /// Tokens at the start of each text that its dense vector leaves out.
    pub prompt_tokens: usize,
}

/// The lengths that a model's vectors have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    pub dense: usize,
    pub colbert: usize,
}

/// One of the three representations of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Dense,
    Lexical,
    Colbert,
}

impl From<Modes> for Wanted {
    /// Wants these representations in their full length.
    fn from(modes: Modes) -> Wanted {
        Wanted { modes, dimensions: None, normalize: None, prompt_tokens: 0 }
    }
}

impl Wanted {
    /// The representations that are wanted.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        let Modes { dense, sparse, colbert } = self.modes;
        [(dense, Part::Dense), (sparse, Part::Lexical), (colbert, Part::Colbert)]
            .into_iter()
            .filter_map(|(wanted, part)| wanted.then_some(part))
    }
}

/// The digest of a model and a sequence of token ids: what the keys of a text's entries begin with.
pub(super) fn digest_of_ids(model: &[u8; 32], ids: &[u32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(model);
    for id in ids {
        hash.update(id.to_le_bytes());
    }
    hash.finalize().into()
}

/// The key of the entry for one representation of a text; `digest` is the text's [`digest_of_ids`].
pub(super) fn key(digest: &[u8; 32], part: Part, wanted: &Wanted) -> Key {
    let (tag, dimensions) = match part {
        // The length of a vector is far below 2^32.
        Part::Dense => (
            wanted.normalize.map_or(b'd', |yes| if yes { b'n' } else { b'r' }),
            wanted.dimensions.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        ),
        Part::Lexical => (b'l', 0),
        Part::Colbert => (b'c', 0),
    };
    let mut key = [0; KEY_BYTES];
    key[..32].copy_from_slice(digest);
    if part == Part::Dense && wanted.prompt_tokens > 0 {
        // The same ids give another vector where some of them are a prompt that does not count.
        let mut hash = Sha256::new();
        hash.update(digest);
        hash.update((wanted.prompt_tokens as u64).to_le_bytes());
        key[..32].copy_from_slice(&hash.finalize());
    }
    key[32] = tag;
    key[33..].copy_from_slice(&dimensions.to_le_bytes());
    key
}

/// The bytes of a representation as they are stored after the checksum; `None` if `embedding` does not have it.
pub(super) fn payload(embedding: &Embedding, part: Part) -> Option<Vec<u8>> {
    let floats = |values: &[f32]| {
        let mut bytes = Vec::with_capacity(4 * values.len());
        values.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        bytes
    };
    match part {
        Part::Dense => embedding.dense.as_deref().map(floats),
        Part::Lexical => embedding.lexical.as_ref().map(|lexical| {
            let mut bytes: Vec<u8> = lexical.ids().iter().flat_map(|id| id.to_le_bytes()).collect();
            bytes.extend(floats(lexical.weights()));
            bytes
        }),
        Part::Colbert => embedding.colbert.as_ref().map(|colbert| floats(colbert.as_slice())),
    }
}

/// A payload with the checksum before it, as it is stored.
pub(super) fn seal(key: &Key, payload: &[u8]) -> Vec<u8> {
    let mut stored = checksum(key, payload).to_vec();
    stored.extend_from_slice(payload);
    stored
}

/// SHA-256 over key and payload, so that a payload filed under the wrong key is detected as well as a changed one.
fn checksum(key: &Key, payload: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(payload);
    hash.finalize().into()
}

/// Puts a stored representation into `embedding`, whose `tokens` are set already; `None` if the stored bytes are damaged or cannot belong
/// to this text.
pub(super) fn open(
    stored: &[u8],
    key: &Key,
    part: Part,
    wanted: &Wanted,
    widths: Widths,
    embedding: &mut Embedding,
) -> Option<()> {
    let (check, payload) = stored.split_at_checked(CHECK_BYTES)?;
    if check != checksum(key, payload) {
        return None;
    }
    let (words, rest) = payload.as_chunks::<4>();
    let floats = |words: &[[u8; 4]]| {
        let values: Vec<f32> = words.iter().map(|x| f32::from_le_bytes(*x)).collect();
        // The engine returns only finite values, but the file may come from an earlier build.
        values.iter().all(|x| x.is_finite()).then_some(values)
    };
    match part {
        _ if !rest.is_empty() => return None,
        Part::Dense if words.len() == wanted.dimensions.unwrap_or(widths.dense) => {
            embedding.dense = Some(floats(words)?);
        }
        Part::Lexical if words.len().is_multiple_of(2) => {
            let (ids, weights) = words.split_at(words.len() / 2);
            let ids = ids.iter().map(|x| u32::from_le_bytes(*x));
            let lexical = LexicalWeights::from_pairs(ids.zip(floats(weights)?).collect());
            // Fewer pairs would mean that an id was repeated or a weight was not above zero, which no embedding has.
            (lexical.len() == weights.len()).then_some(())?;
            embedding.lexical = Some(lexical);
        }
        Part::Colbert if widths.colbert > 0 && words.len() == (embedding.tokens - 1) * widths.colbert => {
            embedding.colbert = Some(TokenVectors::new(floats(words)?, widths.colbert));
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: Widths = Widths { dense: 3, colbert: 2 };
    const ALL: Wanted = Wanted { modes: Modes::ALL, dimensions: None, normalize: None, prompt_tokens: 0 };

    fn example() -> Embedding {
        Embedding {
            dense: Some(vec![1.0, -0.0, f32::MIN_POSITIVE]),
            lexical: Some(LexicalWeights::from_pairs(vec![(7, 0.5), (4, 0.25)])),
            colbert: Some(TokenVectors::new(vec![0.1, 0.2, 0.3, 0.4], 2)),
            tokens: 3,
            truncated: false,
        }
    }

    fn empty(tokens: usize) -> Embedding {
        Embedding { dense: None, lexical: None, colbert: None, tokens, truncated: false }
    }

    #[test]
    fn what_is_stored_comes_back_to_the_bit_and_nothing_else_does() {
        let digest = digest_of_ids(&[9; 32], &[0, 5, 2]);
        let mut back = empty(3);
        for part in ALL.parts() {
            let key = key(&digest, part, &ALL);
            let stored = seal(&key, &payload(&example(), part).unwrap());
            open(&stored, &key, part, &ALL, WIDTHS, &mut back).unwrap();
            for at in 0..stored.len() {
                for bit in 0..8 {
                    let mut changed = stored.clone();
                    changed[at] ^= 1 << bit;
                    assert_eq!(open(&changed, &key, part, &ALL, WIDTHS, &mut empty(3)), None, "{part:?} {at}");
                }
                assert_eq!(open(&stored[..at], &key, part, &ALL, WIDTHS, &mut empty(3)), None, "{part:?} cut at {at}");
            }
            let other = super::key(&digest_of_ids(&[9; 32], &[0, 6, 2]), part, &ALL);
            assert_eq!(open(&stored, &other, part, &ALL, WIDTHS, &mut empty(3)), None, "under another key");
        }
        assert_eq!(back, example());
        assert!(back.dense.unwrap()[1].is_sign_negative(), "-0.0 stays -0.0");
    }

    #[test]
    fn a_sound_entry_that_cannot_be_this_texts_is_refused() {
        let digest = [1; 32];
        let bytes_of = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let seal = |part, bytes: &[u8]| (key(&digest, part, &ALL), seal(&key(&digest, part, &ALL), bytes));
        for (part, bytes) in [
            (Part::Dense, vec![0; 8]),
            (Part::Dense, vec![0; 13]),
            (Part::Lexical, vec![0; 12]),
            (Part::Lexical, vec![0; 8]), // a weight of zero
            (Part::Colbert, vec![0; 8]),
            (Part::Dense, bytes_of(&[0.5, f32::NAN, 0.5])),
            (Part::Lexical, [&7u32.to_le_bytes()[..], &f32::INFINITY.to_le_bytes()].concat()),
            (Part::Colbert, bytes_of(&[0.1, 0.2, f32::NEG_INFINITY, 0.4])),
        ] {
            let (key, stored) = seal(part, &bytes);
            assert_eq!(open(&stored, &key, part, &ALL, WIDTHS, &mut empty(3)), None, "{part:?} {}", bytes.len());
        }
    }

    #[test]
    fn keys_differ_by_model_ids_representation_length_and_prompt() {
        let base = digest_of_ids(&[1; 32], &[0, 5, 2]);
        let wanted = |dimensions| Wanted { dimensions, ..ALL };
        let keys = [
            key(&base, Part::Dense, &ALL),
            key(&base, Part::Dense, &wanted(Some(2))),
            key(&base, Part::Dense, &wanted(Some(1))),
            key(&base, Part::Dense, &Wanted { prompt_tokens: 2, ..ALL }),
            key(&base, Part::Dense, &Wanted { prompt_tokens: 3, ..ALL }),
            key(&base, Part::Lexical, &ALL),
            key(&base, Part::Colbert, &ALL),
            key(&digest_of_ids(&[2; 32], &[0, 5, 2]), Part::Dense, &ALL),
            key(&digest_of_ids(&[1; 32], &[0, 5]), Part::Dense, &ALL),
            key(&digest_of_ids(&[1; 32], &[0, 5, 3]), Part::Dense, &ALL),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b), "{i}");
        }
        assert_eq!(key(&base, Part::Lexical, &ALL), key(&base, Part::Lexical, &wanted(Some(2))), "of dense alone");
    }
}
