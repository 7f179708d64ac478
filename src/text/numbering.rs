//! The ids of added tokens.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::spec::AddedTokenSpec;
use super::unigram::Unigram;

/// Gives the tokens of a file the ids that the library gives them, in ascending order: a token that is a piece has the piece's id, the others
/// follow the pieces in the order of the file. The ids that the file has are not read, and a token that comes twice has the properties of
/// its last place; but once special, it stays so.
///
/// Source: tokenizers `AddedVocabulary::add_tokens`.
pub(super) fn number(tokens: Vec<AddedTokenSpec>, pieces: &Unigram) -> Vec<AddedTokenSpec> {
    let mut ids: HashMap<String, Option<u32>> =
        tokens.iter().filter(|token| !token.content.is_empty()).map(|token| (token.content.clone(), None)).collect();
    if !ids.is_empty() {
        // Of a piece that comes twice the last one counts.
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
