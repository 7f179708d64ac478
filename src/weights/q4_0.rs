//! Turns a packed file's panels of q4_0 blocks back into the order that the checkpoint had: the inverse of what packing does.

use trivec_kernels::{I4_BLOCK, PANEL, Q4_0_BLOCK_BYTES};

use super::checkpoint::StoredTensor;
use super::format::{WeightFormat, panel_shape};
use super::store::STORED_BLOCK_BYTES;
use crate::error::Result;

/// The q4_0 blocks `[outputs, inputs/32, 18]` of a layer, copied out of the `panels` of a packed file.
pub(super) fn unpack_blocks(panels: &StoredTensor, outputs: usize, inputs: usize) -> Result<StoredTensor> {
    let shape = panel_shape(WeightFormat::Int4, true, outputs, inputs);
    if panels.entry.dtype != "U8" || panels.entry.shape != shape || !inputs.is_multiple_of(I4_BLOCK) {
        let (found, found_shape) = (&panels.entry.dtype, &panels.entry.shape);
        return Err(panels.refuse(format!("it is {found} {found_shape:?}, expected U8 {shape:?}")));
    }
    let blocks = inputs / I4_BLOCK;
    let panels_bytes = panels.bytes();
    let mut rows = vec![0; outputs * blocks * STORED_BLOCK_BYTES];
    for (index, block) in rows.chunks_exact_mut(STORED_BLOCK_BYTES).enumerate() {
        let (output, at) = (index / blocks, index % blocks);
        let lane = output % PANEL;
        let from = &panels_bytes[output / PANEL * shape[1] + at * Q4_0_BLOCK_BYTES..][..Q4_0_BLOCK_BYTES];
        block[..2].copy_from_slice(&from[lane * 2..][..2]);
        for (j, pair) in block[2..].iter_mut().enumerate() {
            *pair = from[PANEL * 2 + (j / 4 * PANEL + lane) * 4 + j % 4];
        }
    }
    Ok(panels.as_blocks(vec![outputs, blocks, STORED_BLOCK_BYTES], &rows))
}
