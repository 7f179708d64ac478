//! Rounds weights to int4: the weights of an output share one scale, and each block of 32 weights has its own grid of sixteen values (step `m`
//! and zero point `z`).
//!
//! ```text
//! weight = (u - z) · m · scale          u: 0 ..= 15, of the weight
//!                                       m: 1 ..= 15, z: 0 ..= 15, of the block; |(u - z) · m| <= 127
//! ```
//! The scale puts the output's widest weight (that of the largest magnitude) at the end of the widest grid, 8 · 15. A block that is half as
//! wide gets a grid twice as fine.
//! Compared with a symmetric f16 scale for every block (the best of thirty, 4.5 bits a weight instead of 4.25), the mean square error of
//! normally distributed weights is 5 % lower, because the zero point fits both sides of a block. Trying four scales with all their grids
//! would save another 1 %.

use trivec_kernels::{I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, PANEL};

/// The magnitude of an output's widest weight in units of its scale.
const WIDEST_STEPS: f32 = 120.0;

/// The byte that pads a panel: a grid with `m = z = 8`, or two nibbles of 8, which stand for the weight 0.
pub(super) const NO_WEIGHTS: u8 = 0x88;

/// A block's grid.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grid {
    m: u8,
    z: u8,
}

impl Grid {
    /// The nibble nearest to `steps`, a weight in units of the scale.
    fn nibble(self, steps: f32) -> u8 {
        let (m, z) = (f32::from(self.m), f32::from(self.z));
        ((steps / m).round_ties_even().clamp(-z, 15.0 - z) + z) as u8
    }

    /// The value of a nibble, in units of the scale.
    fn steps(self, nibble: u8) -> f32 {
        (f32::from(nibble) - f32::from(self.z)) * f32::from(self.m)
    }

    /// The squared error of rounding a block to this grid, in units of the scale.
    fn error(self, block: &[f32; I4_BLOCK]) -> f32 {
        // Adding and subtracting this number rounds to whole numbers, halves to even. Every weight of a model is rounded twelve times here,
        // and the standard function is a call on machines without an instruction for it.
        const ROUND: f32 = 12_582_912.0;
        let (m, low) = (f32::from(self.m), -f32::from(self.z));
        let (inverse, high) = (1.0 / m, low + 15.0);
        let mut sums = [0.0f32; 8];
        for steps in block.as_chunks::<8>().0 {
            for (sum, &steps) in sums.iter_mut().zip(steps) {
                let q = steps * inverse;
                let q = if q < low { low } else { q };
                let q = if q > high { high } else { q };
                let error = steps - ((q + ROUND) - ROUND) * m;
                *sum += error * error;
            }
        }
        sums.iter().sum()
    }

    /// The grid with the least squared error, among grids about as wide as the block.
    fn best(block: &[f32; I4_BLOCK]) -> Grid {
        // Every grid contains 0, so that no weight exceeds the range of a byte.
        let (low, high) = block.iter().fold((0.0f32, 0.0f32), |(low, high), &w| (w.min(low), w.max(high)));
        let mut best = (f32::INFINITY, Grid { m: 1, z: 8 });
        // Two finer grids, which clip the widest weights, and a wider one are tried too.
        let near = ((high - low) / 15.0).round_ties_even() as u8;
        for m in near.saturating_sub(2).max(1)..=(near + 1).min(15) {
            // The farther end of the grid stays within 127.
            let room = (127 / m).min(15);
            let middle = (7.5 - (low + high) / (2.0 * f32::from(m))).round_ties_even() as i32;
            let zero = |z: i32| z.clamp(i32::from(15 - room), i32::from(room)) as u8;
            for z in zero(middle - 1)..=zero(middle + 1) {
                let grid = Grid { m, z };
                let error = grid.error(block);
                if error < best.0 {
                    best = (error, grid);
                }
            }
        }
        best.1
    }
}

/// The scale of an output whose widest weight is `widest`.
pub(super) fn scale(widest: f32) -> f32 {
    widest / WIDEST_STEPS
}

/// The grids of an output's blocks.
#[derive(Debug)]
pub(super) struct Grids {
    scale: f32,
    /// `1 / scale`, 0 for an output of zeros.
    inverse: f32,
    grids: Vec<Grid>,
}

impl Grids {
    /// Chooses grids for the weights of an output, the widest of which has the magnitude `widest`.
    pub(super) fn of(weights: &[f32], widest: f32) -> Grids {
        let inverse = if widest > 1e-35 { WIDEST_STEPS / widest } else { 0.0 };
        let grid = |weights: &[f32]| {
            let mut block = [0.0; I4_BLOCK];
            block.iter_mut().zip(weights).for_each(|(steps, w)| *steps = w * inverse);
            Grid::best(&block)
        };
        Grids { scale: scale(widest), inverse, grids: weights.chunks(I4_BLOCK).map(grid).collect() }
    }

    /// Writes the grids of the output that is `lane` of `panel`, and zeros for all its weights.
    pub(super) fn begin(&self, panel: &mut [u8], lane: usize) {
        for (block, grid) in self.grids.iter().enumerate() {
            panel[block / 2 * I4_GROUP_BYTES + block % 2 * PANEL + lane] = grid.m | grid.z << 4;
            for d in block * I4_BLOCK..block * I4_BLOCK + I4_BLOCK / 2 {
                panel[place(lane, d)] = grid.z | grid.z << 4;
            }
        }
    }

    /// Rounds `target` to the grid of weight `d`, writes it to that weight's place in the panel, and returns the rounded value.
    pub(super) fn put(&self, panel: &mut [u8], lane: usize, d: usize, target: f32) -> f32 {
        let grid = self.grids[d / I4_BLOCK];
        let nibble = grid.nibble(target * self.inverse);
        let pair = &mut panel[place(lane, d)];
        *pair = if d % I4_BLOCK < 16 { *pair & 0xf0 | nibble } else { *pair & 0x0f | nibble << 4 };
        grid.steps(nibble) * self.scale
    }
}

/// The place in a panel of the byte that holds the nibble of weight `d`, and that of the weight 16 before or after it.
fn place(lane: usize, d: usize) -> usize {
    let (group, block, pair) = (d / I4_GROUP, d / I4_BLOCK % 2, d % 16);
    group * I4_GROUP_BYTES + 2 * PANEL + block * (PANEL * I4_BLOCK / 2) + (pair / 4 * PANEL + lane) * 4 + pair % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roughly normal weights with a standard deviation of 1.
    fn normal(len: usize) -> Vec<f32> {
        let mut state = 77u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..len).map(|_| (0..12).map(|_| next()).sum()).collect()
    }

    fn widest(weights: &[f32]) -> f32 {
        weights.iter().fold(0.0, |widest, w| w.abs().max(widest))
    }

    /// Packs one output to a lane of a panel; returns the panel and the rounded weights.
    fn pack(weights: &[f32], lane: usize) -> (Vec<u8>, Vec<f32>) {
        let grids = Grids::of(weights, widest(weights));
        let mut panel = vec![NO_WEIGHTS; weights.len().div_ceil(I4_GROUP) * I4_GROUP_BYTES];
        grids.begin(&mut panel, lane);
        let became = weights.iter().enumerate().map(|(d, &w)| grids.put(&mut panel, lane, d, w)).collect();
        (panel, became)
    }

    /// The integers of a panel `[depth][32 outputs]`, read independently of [`place`].
    fn unpack(panel: &[u8]) -> Vec<[i32; PANEL]> {
        let weight = |d: usize, o: usize| {
            let group = &panel[d / 64 * I4_GROUP_BYTES..][..I4_GROUP_BYTES];
            let grid = group[d / 32 % 2 * 32 + o];
            let pair = group[64 + d / 32 % 2 * 512 + (d % 16 / 4 * 32 + o) * 4 + d % 4];
            let u = if d % 32 < 16 { pair & 15 } else { pair >> 4 };
            (i32::from(u) - i32::from(grid >> 4)) * i32::from(grid & 15)
        };
        (0..panel.len() / I4_GROUP_BYTES * 64).map(|d| std::array::from_fn(|o| weight(d, o))).collect()
    }

    #[test]
    fn a_panel_holds_the_rounded_weights_and_zeros_elsewhere() {
        for (len, lane) in [(1, 0), (31, 5), (32, 31), (33, 7), (64, 1), (65, 30), (100, 16), (384, 2)] {
            let mut weights = normal(len);
            // A block of one sign, whose zero point is at an end.
            weights.iter_mut().take(32).for_each(|w| *w = w.abs() + 1.0);
            let (panel, became) = pack(&weights, lane);
            let scale = scale(widest(&weights));
            for (d, outputs) in unpack(&panel).iter().enumerate() {
                for (o, &w) in outputs.iter().enumerate() {
                    assert!((-127..=127).contains(&w));
                    match became.get(d).filter(|_| o == lane) {
                        Some(&became) => assert_eq!(w as f32 * scale, became, "weight {d} of {len}"),
                        None => assert_eq!(w, 0, "depth {d} of {len}, output {o}"),
                    }
                }
            }
        }
    }

    #[test]
    fn rounding_errors_are_small_for_even_uneven_and_one_sided_blocks() {
        let error = |weights: &[f32]| {
            let (_, became) = pack(weights, 3);
            let square = |(w, q): (&f32, &f32)| f64::from(w - q).powi(2);
            weights.iter().zip(&became).map(square).sum::<f64>()
                / weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>()
        };
        // A symmetric scale for every block (the best of thirty, in f16) would have an error of 0.0067.
        let normal = normal(4096);
        assert!((0.005..0.0065).contains(&error(&normal)), "{}", error(&normal));
        // Blocks with widths that differ by a factor of eight, and blocks of one sign.
        let uneven: Vec<f32> = normal.iter().enumerate().map(|(d, w)| w * [1.0, 0.125][d / 32 % 2]).collect();
        assert!(error(&uneven) < 0.0075, "{}", error(&uneven));
        let one_sign: Vec<f32> = normal.iter().map(|w| w.abs()).collect();
        assert!(error(&one_sign) < 0.003, "{}", error(&one_sign));
        // A weight a hundred times as wide as the others stays exact. The others are rounded to multiples of its scale, 400 / 120, and so by at
        // most half of that.
        let mut huge = normal[..256].to_vec();
        huge[40] = 400.0;
        let (_, became) = pack(&huge, 0);
        assert_eq!(became[40], 400.0);
        for (d, (w, q)) in huge.iter().zip(&became).enumerate().filter(|(d, _)| !(32..64).contains(d)) {
            assert!((w - q).abs() <= 400.0 / 240.0 * 1.0001, "weight {d}: {w} became {q}");
        }
    }

    #[test]
    fn values_of_every_grid_that_can_be_chosen_fit_into_int8() {
        for low in 0..=120 {
            for high in 0..=120 {
                let mut block = [0.0; I4_BLOCK];
                (block[3], block[20]) = (-(low as f32), high as f32);
                let Grid { m, z } = Grid::best(&block);
                assert!((1..=15).contains(&m) && z <= 15 && u32::from(m) * u32::from(z.max(15 - z)) <= 127, "{m} {z}");
                // The step is at most a little more than a fifteenth of the width, so both ends of the block are near a value of the grid.
                let error = Grid { m, z }.error(&block);
                assert!(
                    error <= 2.0 * (1.5 * (low + high) as f32 / 15.0 + 1.0).powi(2),
                    "{low} {high}: {m} {z} {error}"
                );
            }
        }
    }

    #[test]
    fn the_error_of_a_grid_is_that_of_its_nibbles() {
        for (index, block) in normal(3200).as_chunks::<I4_BLOCK>().0.iter().enumerate() {
            let block = block.map(|w| w * 40.0);
            let grid = Grid { m: 1 + index as u8 % 15, z: index as u8 % 16 };
            let square = |&w: &f32| (w - grid.steps(grid.nibble(w))).powi(2);
            let (found, expected) = (grid.error(&block), block.iter().map(square).sum::<f32>());
            assert!((found - expected).abs() <= 1e-3 * expected + 1e-3, "{found}, {expected}");
        }
    }

    #[test]
    fn outputs_of_zeros_stay_zero_and_those_with_nan_or_infinity_fit_into_int8() {
        for zeros in [vec![0.0; 70], vec![1e-38; 70]] {
            let (panel, became) = pack(&zeros, 9);
            assert!(became.iter().all(|&w| w == 0.0));
            assert!(unpack(&panel).iter().flatten().all(|&w| w == 0));
        }
        // Loading refuses a file with a scale that is not finite. Packing does not panic, and its integers fit into int8.
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = normal(70);
            weights[33] = bad;
            let (panel, _) = pack(&weights, 9);
            assert!(unpack(&panel).iter().flatten().all(|w| (-127..=127).contains(w)));
        }
    }
}
