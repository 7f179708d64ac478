//! Records, for calibration, the range and the mean of every input channel of every linear layer.

use std::sync::{Arc, Mutex, PoisonError};

use crate::parallel::Team;
use crate::tensor::MatRef;
use crate::weights::Site;

/// Observes the inputs of the linear layers while a model runs.
pub(crate) trait Observe: std::fmt::Debug + Send {
    /// Takes the rows that enter a layer. The threads of `team` are idle meanwhile and may be used.
    fn see(&mut self, team: &Team, layer: usize, site: Site, rows: MatRef<'_>);
}

/// The observer, if there is one.
pub(crate) type Watch = Option<Arc<Mutex<dyn Observe>>>;

/// Passes a layer's input to the observer, if there is one.
pub(super) fn show(observer: &Watch, team: &Team, (layer, site): (usize, Site), rows: MatRef<'_>) {
    if let Some(observer) = observer {
        observer.lock().unwrap_or_else(PoisonError::into_inner).see(team, layer, site, rows);
    }
}

/// The statistics of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    pub least: f32,
    pub greatest: f32,
    /// In f64, because a sum over thousands of rows would lose digits in f32.
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

/// The statistics so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Observer {
    /// By layer, by site.
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
    /// The statistics of a site; `None` if it has had no input.
    pub(crate) fn at(&self, layer: usize, site: Site) -> Option<&Seen> {
        self.layers.get(layer).map(|sites| &sites[site as usize]).filter(|seen| seen.rows > 0)
    }
}
