//! What a layer's inputs are like where no text can be run: read off the weights before them.
//!
//! A layer norm gives `h = γ n + β` with `n` of mean 0 and variance 1. What a linear layer makes of it is a sum of many terms, close to normal:
//!
//! ```text
//! z_j ~ N(μ_j, σ_j²)     μ_j = b_j + Σ_k w_jk β_k     σ_j² = Σ_k (w_jk γ_k)²          the terms taken as independent
//! E[GELU(z)] = μ Φ(μ / s) + σ² / s · φ(μ / s),  s = √(1 + σ²)                         from ∫ z Φ(z) over the normal density
//! ```
//! A width is that of [`WIDTHS`] standard deviations. Only the ratios of a layer's widths matter.

use crate::weights::{Linear, Norm};

/// How many standard deviations count as the width of a normal value.
const WIDTHS: f32 = 4.0;

/// The least value of GELU, by magnitude: how wide a unit is that is never switched on.
const GELU_LEAST: f32 = 0.17;

/// Centre and width of each channel.
pub(super) type Channels = (Vec<f32>, Vec<f32>);

/// Of what a layer norm gives.
pub(super) fn of_norm(norm: &Norm) -> Channels {
    let of = |(gain, bias): (&f32, &f32)| (*bias, WIDTHS * gain.abs() + bias.abs());
    norm.gain().iter().zip(norm.bias()).map(of).unzip()
}

/// Of the heads' outputs: they are means of values, weighted by attention; how much narrower that makes them is the same for all.
pub(super) fn of_attention(norm: &Norm, value: &Linear) -> Channels {
    normal(norm, value).map(|(mean, deviation)| (mean, WIDTHS * deviation + mean.abs())).unzip()
}

/// Of the GELU of a feed-forward's first layer.
pub(super) fn of_gelu(norm: &Norm, first: &Linear) -> Channels {
    let of = |(mean, deviation): (f32, f32)| (mean_gelu(mean, deviation), (mean + WIDTHS * deviation).max(GELU_LEAST));
    normal(norm, first).map(of).unzip()
}

/// Mean and standard deviation of each output of `linear` over what `norm` gives.
fn normal(norm: &Norm, linear: &Linear) -> impl Iterator<Item = (f32, f32)> {
    (0..linear.outputs).map(move |output| {
        let (mut mean, mut variance) = (linear.bias().map_or(0.0, |bias| f64::from(bias[output])), 0.0);
        for ((w, gain), bias) in linear.weight().row(output).iter().zip(norm.gain()).zip(norm.bias()) {
            mean += f64::from(w * bias);
            variance += f64::from(w * gain).powi(2);
        }
        (mean as f32, variance.sqrt() as f32)
    })
}

/// The mean of GELU over a normal distribution.
fn mean_gelu(mean: f32, deviation: f32) -> f32 {
    let (mean, variance) = (f64::from(mean), f64::from(deviation).powi(2));
    let s = (1.0 + variance).sqrt();
    let density = (-0.5 * (mean / s).powi(2)).exp() / std::f64::consts::TAU.sqrt();
    (mean * normal_cdf(mean / s) + variance / s * density) as f32
}

/// `Φ` within 1e-7 (Abramowitz & Stegun 1964, 26.2.17).
fn normal_cdf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let tail =
        series.iter().rev().fold(0.0, |sum, c| (sum + c) * t) * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_gelu_is_that_of_its_integral() {
        for (mean, deviation) in [(0.0, 1.0), (-2.0, 0.5), (1.5, 3.0), (0.3, 0.0), (-40.0, 20.0)] {
            // The midpoint rule over ten deviations each way.
            let steps = 100_000;
            let gelu = |z: f64| z * normal_cdf(z);
            let sum: f64 = (0..steps)
                .map(|i| 10.0 * (2.0 * (i as f64 + 0.5) / steps as f64 - 1.0))
                .map(|n| gelu(mean + deviation * n) * (-0.5 * n * n).exp())
                .sum();
            let integral = sum * 20.0 / steps as f64 / std::f64::consts::TAU.sqrt();
            let found = f64::from(mean_gelu(mean as f32, deviation as f32));
            assert!((found - integral).abs() < 1e-4 * (1.0 + deviation), "{mean} {deviation}: {found} {integral}");
        }
        assert!((normal_cdf(1.0) - 0.841_344_746).abs() < 1e-7 && (normal_cdf(-1.0) - 0.158_655_254).abs() < 1e-7);
    }
}
