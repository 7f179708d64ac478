//! The lexical score of two texts, and the token ids that make it.

use crate::embedding::LexicalWeights;

/// Lexical score: the sum over shared ids of the product of their weights. Not divided by anything, so a text's
/// score with itself is not 1. `NaN` if a weight is not finite, whether its id is shared or not.
///
/// Source: FlagEmbedding `compute_lexical_matching_score`. Summed in f64, in ascending id order.
pub fn score(a: &LexicalWeights, b: &LexicalWeights) -> f32 {
    if a.weights().iter().chain(b.weights()).any(|weight| !weight.is_finite()) {
        return f32::NAN;
    }
    merge(a, b).fold(0.0, |sum, shared| sum + f64::from(shared.left) * f64::from(shared.right)) as f32
}

/// One token id that both texts have, with its weight in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedToken {
    /// The token id.
    pub id: u32,
    /// Its weight in the first text.
    pub left: f32,
    /// Its weight in the second text.
    pub right: f32,
}

impl SharedToken {
    /// What the token adds to the lexical score.
    pub fn product(&self) -> f32 {
        self.left * self.right
    }
}

/// The shared ids, ascending: the terms of the lexical score.
///
/// ```
/// use trivec::{LexicalWeights, similarity::{lexical, shared}};
///
/// let a = LexicalWeights::from_pairs(vec![(7, 0.5), (9, 0.25)]);
/// let b = LexicalWeights::from_pairs(vec![(8, 1.0), (9, 0.5)]);
/// assert_eq!((shared(&a, &b)[0].id, shared(&a, &b)[0].product()), (9, 0.125));
/// assert_eq!(lexical(&a, &b), 0.125);
/// ```
pub fn shared(a: &LexicalWeights, b: &LexicalWeights) -> Vec<SharedToken> {
    merge(a, b).collect()
}

/// The ids that both texts have, ascending, with their weights. Walks both id lists once.
fn merge<'a>(a: &'a LexicalWeights, b: &'a LexicalWeights) -> impl Iterator<Item = SharedToken> + 'a {
    let mut right = b.iter().peekable();
    a.iter().filter_map(move |(id, left)| {
        while right.next_if(|&(other, _)| other < id).is_some() {}
        right.next_if(|&(other, _)| other == id).map(|(_, right)| SharedToken { id, left, right })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_products_of_shared_ids_only() {
        let a = LexicalWeights::from_pairs(vec![(9, 0.5), (5, 0.25), (700, 2.0)]);
        let b = LexicalWeights::from_pairs(vec![(700, 0.5), (5, 4.0), (6, 100.0)]);
        assert_eq!(score(&a, &b), 0.25 * 4.0 + 2.0 * 0.5);
        assert_eq!(shared(&a, &b).iter().map(|s| s.id).collect::<Vec<_>>(), [5, 700]);
        let nothing = score(&a, &LexicalWeights::default());
        assert!(nothing == 0.0 && nothing.is_sign_positive(), "not -0, which an empty sum is");
        for (bad, id) in [(f32::NAN, 9), (f32::INFINITY, 9), (f32::NAN, 8), (f32::INFINITY, 8)] {
            let broken = LexicalWeights::from_pairs(vec![(id, bad), (5, 1.0)]);
            assert!(score(&a, &broken).is_nan() && score(&broken, &a).is_nan(), "{bad} of {id}");
        }
    }
}
