//! Computes the first states: the sum of the word, token type and position embeddings, layer-normalised.

use super::batch::TextBatch;
use crate::compute::Compute;
use crate::config::ModelConfig;
use crate::tensor::MatMut;
use crate::weights::EncoderWeights;

/// The row of the position table for each token of a text, as `XLMRobertaEmbeddings` numbers them: token `i` has row `i + pad_id + 1`, but
/// a literal `<pad>` in a text has row `pad_id` and is not counted.
pub(crate) fn position_ids(ids: &[u32], pad_id: u32) -> impl Iterator<Item = u32> + '_ {
    let mut last = pad_id;
    ids.iter().map(move |&id| {
        if id == pad_id {
            return pad_id;
        }
        last += 1;
        last
    })
}

/// Fills `states` `[tokens, hidden]` with the first states. The caller must have checked ids and lengths against the tables' sizes.
pub(crate) fn embed(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &EncoderWeights,
    batch: &TextBatch,
    states: MatMut<'_>,
) {
    let positions: Vec<u32> = batch.texts().flat_map(|ids| position_ids(ids, config.pad_id)).collect();
    let hidden = config.hidden;
    let mut token_type = vec![0.0; hidden];
    weights.token_types.copy_row(0, &mut token_type);
    let norm = &weights.embedding_norm;
    let rows = states.into_blocks(64, hidden);
    compute.team.for_each(
        rows,
        |_| vec![0.0; hidden],
        |position, mut block| {
            for row in 0..block.view.rows() {
                let token = block.row + row;
                let state = block.view.row_mut(row);
                weights.words.copy_row(batch.ids()[token] as usize, state);
                weights.positions.copy_row(positions[token] as usize, position);
                for ((state, kind), position) in state.iter_mut().zip(&token_type).zip(position.iter()) {
                    *state = *state + kind + position;
                }
                compute.kernels.layer_norm(state, norm.gain(), norm.bias(), config.layer_norm_eps);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_begin_after_the_pad_row_and_skip_literal_pads() {
        let positions = |ids: &[u32]| position_ids(ids, 1).collect::<Vec<_>>();
        assert_eq!(positions(&[0, 9, 9, 2]), [2, 3, 4, 5]);
        assert_eq!(positions(&[0, 1, 9, 1, 2]), [2, 1, 3, 1, 4]);
        assert_eq!(positions(&vec![7; 8192]).last(), Some(&8193));
    }
}
