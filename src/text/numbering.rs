//! Gives added tokens their ids.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::spec::AddedTokenSpec;
use super::unigram::Unigram;

/// Returns the added tokens with the ids that the `tokenizers` library gives them, by ascending id. A token that is also a piece has the
/// piece's id; the others get the ids after the pieces, in the order of `tokens`. The ids that `tokens` have are ignored. A token that
/// comes twice has the properties of its last occurrence, but is special if any occurrence is. Empty tokens are dropped.
///
/// Source: tokenizers `AddedVocabulary::add_tokens`.
pub(super) fn number(tokens: Vec<AddedTokenSpec>, pieces: &Unigram) -> Vec<AddedTokenSpec> {
    let mut ids: HashMap<String, Option<u32>> =
        tokens.iter().filter(|token| !token.content.is_empty()).map(|token| (token.content.clone(), None)).collect();
    if !ids.is_empty() {
        // If a piece comes twice, the last one counts.
        for id in 0..pieces.len() as u32 {
            if let Some(found) = pieces.piece(id).and_then(|piece| ids.get_mut(piece)) {
                *found = Some(id);
            }
        }
    }
    let mut next = pieces.len() as u32;
    let mut numbered: BTreeMap<u32, AddedTokenSpec> = BTreeMap::new();
    let mut special = HashSet::new();
    for token in tokens {
        let Some(known) = ids.get_mut(&token.content) else { continue };
        let id = *known.get_or_insert_with(|| {
            next += 1;
            next - 1
        });
        if token.special {
            special.insert(id);
        }
        numbered.insert(id, AddedTokenSpec { id, special: special.contains(&id), ..token });
    }
    numbered.into_values().collect()
}
