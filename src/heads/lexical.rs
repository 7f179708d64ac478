//! The lexical head: one weight for every token, and the largest one for each token id.

use trivec_kernels::{Kernels, MatRef};

use super::finite::NotFinite;
use crate::embedding::LexicalWeights;
use crate::weights::FloatLinear;

/// Ids that never carry a lexical weight: `<s>`, `<pad>`, `</s>`, `<unk>`. `<mask>` is not among them.
const UNUSED_IDS: std::ops::RangeInclusive<u32> = 0..=3;

/// The lexical weight of every token, `max(0, W_s h + b_s)`, from states `[tokens, hidden]`.
///
/// Source: FlagEmbedding `_sparse_embedding`.
pub(crate) fn token_weights(kernels: &Kernels, head: &FloatLinear, states: MatRef<'_>) -> Result<Vec<f32>, NotFinite> {
    let weight = head.weight();
    let bias = head.bias().map_or(0.0, |bias| bias[0]);
    let of = |token: usize| {
        let x = kernels.dot(states.row(token), weight.row(0)) + bias;
        // Checked before negative values become 0, because minus infinity must be an error and not 0.
        if x.is_finite() { Ok(if x < 0.0 { 0.0 } else { x }) } else { Err(NotFinite { mode: "sparse", at: token }) }
    };
    (0..states.rows()).map(of).collect()
}

/// The lexical weights of a text: the largest weight of each token id, without [`UNUSED_IDS`] and without weights of 0.
///
/// Source: FlagEmbedding `_process_token_weights`.
pub(crate) fn lexical(ids: &[u32], token_weights: &[f32]) -> LexicalWeights {
    let pairs = ids.iter().copied().zip(token_weights.iter().copied());
    LexicalWeights::from_pairs(pairs.filter(|(id, _)| !UNUSED_IDS.contains(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_largest_weight_of_an_id_and_drops_unused_ids_and_zeros() {
        let weights = lexical(&[0, 250_001, 9, 1, 5, 9, 3, 7, 2], &[1.0, 0.3, 0.2, 1.0, 0.0, 0.5, 1.0, 0.1, 1.0]);
        assert_eq!(weights.iter().collect::<Vec<_>>(), [(7, 0.1), (9, 0.5), (250_001, 0.3)]);
        assert!(lexical(&[0, 2], &[1.0, 1.0]).is_empty());
        // NaN is not dropped as weights of 0 are, and counts as the largest.
        let broken = lexical(&[7, 9, 7], &[0.5, 0.2, -f32::NAN]);
        assert!(broken.ids() == [7, 9] && broken.weights()[0].is_nan());
    }
}
