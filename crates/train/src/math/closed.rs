//! Heads in closed form: what training begins with where the model has none.

use std::collections::BTreeMap;

use super::f64 as algebra;

/// A linear map in f64, `W x + b`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Map {
    /// `[outputs, inputs]`
    pub weight: Vec<f64>,
    /// `[outputs]`
    pub bias: Vec<f64>,
    pub outputs: usize,
    pub inputs: usize,
}

impl Map {
    pub(crate) fn identity(d: usize) -> Map {
        let weight = (0..d * d).map(|at| if at / d == at % d { 1.0 } else { 0.0 }).collect();
        Map { weight, bias: vec![0.0; d], outputs: d, inputs: d }
    }

    /// A head of the engine, widened to f64.
    pub(crate) fn of(map: &trivec::internal::HeadMap) -> Map {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
        Map { weight: wide(&map.weight), bias: wide(&map.bias), outputs: map.outputs, inputs: map.inputs }
    }

    /// This map followed by the map `A y + a_bias`, with `a` `[outputs, self.outputs]`: `(A W) x + (A b + a_bias)`.
    pub(crate) fn then(&self, a: &[f64], a_bias: &[f64]) -> Map {
        let outputs = a_bias.len();
        let mut bias = algebra::product(a, &self.bias, [outputs, self.outputs, 1]);
        bias.iter_mut().zip(a_bias).for_each(|(bias, a)| *bias += a);
        let weight = algebra::product(a, &self.weight, [outputs, self.outputs, self.inputs]);
        Map { weight, bias, outputs, inputs: self.inputs }
    }
}

/// The whitening map of rows `[rows, d]`: `(Σ + λI)^(-1/2) (x - μ)`, λ the mean variance. Its outputs are centred, and about equally wide in
/// every direction.
pub(crate) fn whitening(rows: &[f32], d: usize) -> Map {
    let (mean, mut covariance) = algebra::moments(rows, d);
    let ridge = ((0..d).map(|i| covariance[i * d + i]).sum::<f64>() / d as f64).max(1e-12);
    (0..d).for_each(|i| covariance[i * d + i] += ridge);
    let weight = algebra::inverse_root(&covariance, d);
    let bias = algebra::product(&weight, &mean, [d, d, 1]).into_iter().map(|x| -x).collect();
    Map { weight, bias, outputs: d, inputs: d }
}

/// The target weight of the rarest pieces; that of pieces in every text is 0.
const LEXICAL_SCALE: f64 = 0.30;
/// The target weight of pieces without a letter or digit: below 0, so that an error of the regression does not give them a weight.
const NO_WORD: f64 = -0.05;

/// How rare each piece is: 0 for one in every text, 1 for one in a single text.
pub(crate) fn rarity<'a>(texts: impl Iterator<Item = &'a [u32]>) -> BTreeMap<u32, f64> {
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    let mut all = 0u32;
    for text in texts {
        all += 1;
        let mut seen = text.to_vec();
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
    }
    let most = f64::from(all.max(2)).ln();
    counts
        .into_iter()
        .map(|(id, count)| (id, (f64::from(all.max(1)) / f64::from(count)).ln().max(0.0) / most))
        .collect()
}

/// The sparse head by ridge regression from token states `[rows, d]` to how rare their pieces are. `word` says whether a piece has a letter or a
/// digit.
pub(crate) fn lexical(
    rows: &[f32],
    ids: &[u32],
    d: usize,
    rarity: &BTreeMap<u32, f64>,
    word: impl Fn(u32) -> bool,
) -> Map {
    let target = |id: &u32| match word(*id) {
        true => LEXICAL_SCALE * rarity.get(id).copied().unwrap_or(1.0),
        false => NO_WORD,
    };
    let targets: Vec<f64> = ids.iter().map(target).collect();
    let count = targets.len().max(1) as f64;
    let (mean, mut gram) = algebra::moments(rows, d);
    let mean_target = targets.iter().sum::<f64>() / count;
    let mut with_target = vec![0.0; d];
    for (row, y) in rows.chunks_exact(d).zip(&targets) {
        for ((sum, &x), mean) in with_target.iter_mut().zip(row).zip(&mean) {
            *sum += (f64::from(x) - mean) * (y - mean_target) / count;
        }
    }
    let ridge = (1e-3 * (0..d).map(|i| gram[i * d + i]).sum::<f64>() / d as f64).max(1e-12);
    (0..d).for_each(|i| gram[i * d + i] += ridge);
    // With the ridge the matrix has an inverse.
    let weight = algebra::solve(&gram, &with_target, d).unwrap_or_else(|| vec![0.0; d]);
    let along: f64 = weight.iter().zip(&mean).map(|(w, m)| w * m).sum();
    Map { weight, bias: vec![mean_target - along], outputs: 1, inputs: d }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn whitened_rows_are_centred_and_a_wide_direction_has_a_variance_near_one() {
        let (d, count) = (6, 4000);
        let mut random = Random::new(1, 2);
        let mut rows: Vec<f32> = (0..d * count).map(|_| random.signed()).collect();
        rows.chunks_exact_mut(d).for_each(|row| {
            row[0] = row[0] * 20.0 + 3.0;
            row[1] += row[0];
        });
        let map = whitening(&rows, d);
        let mapped: Vec<f32> = rows
            .chunks_exact(d)
            .flat_map(|row| {
                let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                let out = algebra::product(&map.weight, &row, [d, d, 1]);
                out.iter().zip(&map.bias).map(|(x, b)| (x + b) as f32).collect::<Vec<_>>()
            })
            .collect();
        let (mean, covariance) = algebra::moments(&mapped, d);
        assert!(mean.iter().all(|x| x.abs() < 1e-4), "{mean:?}");
        // A direction of variance v has v / (v + λ) after it: near 1 for the widest, in which most of this first value lies.
        assert!(covariance[0] > 0.4 && covariance[0] < 1.01, "{}", covariance[0]);
    }

    #[test]
    fn the_lexical_head_gives_rare_pieces_their_target_weights() {
        let (d, count) = (8, 3000);
        let mut random = Random::new(9, 2);
        let ids: Vec<u32> = (0..count).map(|_| 10 + random.below(4) as u32).collect();
        let rows: Vec<f32> = ids
            .iter()
            .flat_map(|id| (0..d).map(|i| if i as u32 == id - 10 { 1.0 } else { 0.0 }).collect::<Vec<f32>>())
            .collect();
        let rarity = BTreeMap::from([(10, 0.0), (11, 0.5), (12, 1.0), (13, 1.0)]);
        let map = lexical(&rows, &ids, d, &rarity, |id| id != 13);
        for (i, expected) in [0.0, 0.15, 0.30, -0.05].into_iter().enumerate() {
            let found = map.weight[i] + map.bias[0];
            assert!((found - expected).abs() < 0.01, "{i}: {found}");
        }
    }
}
