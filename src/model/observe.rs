//! What calibration sees: the largest magnitude of every input channel of every linear layer.

use crate::tensor::Matrix;
use crate::weights::Site;

/// The largest magnitudes so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Observer {
    /// By layer, by site: `[inputs]`, empty before anything was seen.
    layers: Vec<[Vec<f32>; 4]>,
}

impl Observer {
    /// Takes the rows that enter a layer.
    pub(crate) fn see(&mut self, layer: usize, site: Site, rows: &Matrix) {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Default::default);
        }
        let widest = &mut self.layers[layer][site as usize];
        widest.resize(rows.cols(), 0.0);
        for row in 0..rows.rows() {
            for (widest, x) in widest.iter_mut().zip(rows.row(row)) {
                *widest = widest.max(x.abs());
            }
        }
    }

    /// The largest magnitudes at a site; `None` if it was not seen.
    pub(crate) fn widest(&self, layer: usize, site: Site) -> Option<&[f32]> {
        self.layers.get(layer).map(|sites| sites[site as usize].as_slice()).filter(|widest| !widest.is_empty())
    }
}
