//! Measures how long products of a few rows take when their weights have to be read from memory.

use std::time::{Duration, Instant};

use super::encoder::Encoder;
use crate::compute::Compute;
use crate::linear::{Activations, LinearTask, run_linear};
use crate::tensor::Matrix;
use crate::weights::Linear;

/// As many rows as a short query has tokens: such products wait for memory, not for arithmetic.
const ROWS: usize = 4;

impl Encoder {
    /// The two feed-forward layers of every encoder layer: the largest linear layers, of which a pass reads all weights once.
    fn feed_forward_layers(&self) -> impl Iterator<Item = &Linear> {
        self.weights.layers.iter().flat_map(|own| [&own.ffn_in, &own.ffn_out])
    }

    /// Bytes of the weights of the feed-forward layers.
    pub(crate) fn feed_forward_bytes(&self) -> f64 {
        self.feed_forward_layers().map(|own| own.bytes_per_weight() * (own.outputs * own.inputs) as f64).sum()
    }

    /// Times the products of the feed-forward layers in two ways, 0 and 1; `choose` is called to switch to one of them. Each way computes
    /// each layer once, with all other layers in between, so that the weights come from memory. Returns for each way the seconds of one
    /// pass over all these layers, as a median; `None` if the first pass, which is not counted, took longer than `limit`.
    pub(crate) fn time_products(
        &self,
        compute: Compute<'_>,
        limit: Duration,
        choose: impl Fn(usize),
    ) -> Option<[f64; 2]> {
        let linears: Vec<&Linear> = self.feed_forward_layers().collect();
        let (mut rows, mut out, mut input) = (Matrix::default(), Matrix::default(), Activations::default());
        let mut product = |linear: &Linear| {
            rows.reshape(ROWS, linear.inputs);
            out.reshape(ROWS, linear.outputs);
            input.fill(compute, linear.input(), rows.view());
            let task = input.product(linear, rows.view());
            let from = Instant::now();
            run_linear(compute, LinearTask::cut(compute, task, out.view_mut()), false);
            from.elapsed().as_secs_f64()
        };
        // The first pass may have to map pages or read them from a disk, so it is not counted.
        let begin = Instant::now();
        for linear in &linears {
            product(linear);
            if begin.elapsed() > limit {
                return None;
            }
        }
        let mut all = [Vec::new(), Vec::new()];
        for sweep in 0..2 {
            for (index, linear) in linears.iter().enumerate() {
                let way = (index / 2 + sweep) % 2;
                choose(way);
                all[way].push(product(linear));
            }
        }
        // A product that another process interrupts takes several times as long as others. The median ignores it.
        Some(all.map(|mut seconds| median(&mut seconds) * linears.len() as f64))
    }
}

/// The median, by sorting; the upper one of an even number of values, 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
