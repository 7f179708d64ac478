//! What calibration sees: the range and the mean of every input channel of every linear layer.

use crate::tensor::Matrix;
use crate::weights::Site;

/// What was seen of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    pub least: f32,
    pub greatest: f32,
    /// In f64: thousands of rows would lose digits otherwise.
    pub sum: f64,
}

impl Channel {
    const NOTHING: Channel = Channel { least: f32::INFINITY, greatest: f32::NEG_INFINITY, sum: 0.0 };
}

/// The channels of one site, after `rows` rows.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub channels: Vec<Channel>,
    pub rows: usize,
}

/// What was seen so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Observer {
    /// By layer, by site.
    layers: Vec<[Seen; 4]>,
}

impl Observer {
    /// Takes the rows that enter a layer.
    pub(crate) fn see(&mut self, layer: usize, site: Site, rows: &Matrix) {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Default::default);
        }
        let seen = &mut self.layers[layer][site as usize];
        seen.channels.resize(rows.cols(), Channel::NOTHING);
        seen.rows += rows.rows();
        for row in 0..rows.rows() {
            for (channel, &x) in seen.channels.iter_mut().zip(rows.row(row)) {
                channel.least = channel.least.min(x);
                channel.greatest = channel.greatest.max(x);
                channel.sum += f64::from(x);
            }
        }
    }

    /// What was seen at a site; `None` if nothing was.
    pub(crate) fn at(&self, layer: usize, site: Site) -> Option<&Seen> {
        self.layers.get(layer).map(|sites| &sites[site as usize]).filter(|seen| seen.rows > 0)
    }
}
