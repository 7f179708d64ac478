//! Records, for calibration, the range and the sum of every input channel of every linear layer.

use std::sync::{Arc, Mutex, PoisonError};

use crate::parallel::Team;
use crate::tensor::MatRef;
use crate::weights::Site;

/// Something that is shown the inputs of the linear layers while a model runs.
pub(crate) trait Observe: std::fmt::Debug + Send {
    /// Is shown the input `rows` of the linear layers at `site` of encoder layer `layer`. The threads of `team` are idle meanwhile and may
    /// be used.
    fn see(&mut self, team: &Team, layer: usize, site: Site, rows: MatRef<'_>);
}

/// The observer of a forward pass, if there is one.
pub(crate) type Watch = Option<Arc<Mutex<dyn Observe>>>;

/// Shows the observer, if there is one, the input of the linear layers at a site.
pub(super) fn show(observer: &Watch, team: &Team, (layer, site): (usize, Site), rows: MatRef<'_>) {
    if let Some(observer) = observer {
        observer.lock().unwrap_or_else(PoisonError::into_inner).see(team, layer, site, rows);
    }
}

/// The statistics of one input channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    pub least: f32,
    pub greatest: f32,
    /// In f64, because a sum over thousands of rows would lose digits in f32.
    pub sum: f64,
}

impl Channel {
    /// The statistics before the first row.
    const NOTHING: Channel = Channel { least: f32::INFINITY, greatest: f32::NEG_INFINITY, sum: 0.0 };
}

/// The statistics of all channels of one site, and the number of rows that were seen there.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub channels: Vec<Channel>,
    pub rows: usize,
}

/// The observer that calibration uses: keeps the statistics of all channels of all sites.
#[derive(Debug, Default, Clone)]
pub(crate) struct Observer {
    /// For each encoder layer, the statistics of each [`Site`], in the order of the enum.
    layers: Vec<[Seen; 4]>,
}

impl Observe for Observer {
    fn see(&mut self, _team: &Team, layer: usize, site: Site, rows: MatRef<'_>) {
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
}

impl Observer {
    /// The statistics of a site of encoder layer `layer`; `None` if no rows were seen there.
    pub(crate) fn at(&self, layer: usize, site: Site) -> Option<&Seen> {
        self.layers.get(layer).map(|sites| &sites[site as usize]).filter(|seen| seen.rows > 0)
    }
}
