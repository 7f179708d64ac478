//! Vectors that are rounded to 8, 4, 2 or 1 bits and stored as rows in panels of 32, in the layouts that the kernels' integer products
//! read: a query is multiplied with the 32 rows of a panel at a time. Every row has a scale, which its stored values are multiplied with.
//!
//! ```text
//! 8 bits   [dim/4][32 rows][4]   each byte is a value + 128                             multiplied by `linear_i8`
//! 4 bits   int4 panels           a value is (code - z) · m, m and z for 32 values       multiplied by `linear_i4`
//! 2 bits   [dim/4][32 rows]      four codes in a byte, for the values -90 -27 27 90     unpacked to 8 bits by a table
//! 1 bit    [dim/4][16 pairs]     four signs of each of two rows in a byte, for -1 1     unpacked to 8 bits by a table
//! ```
//! Rows of fewer than 8 bits are rotated first (a Walsh-Hadamard transform in blocks of up to 128), so that their values are close to
//! normally distributed; the query is rotated in the same way. The values of 2 bits are the levels of Lloyd and Max for a normal
//! distribution (±0.4528, ±1.510 standard deviations). What a row is rounded to depends on the row alone: neither on its neighbours nor on
//! its place in the panel.

use trivec_kernels::{I4_GROUP, I4_GROUP_BYTES, Kernels, PANEL, Prepare, Rows8, Rows8Kind, rotation_for, row8_stride};

use crate::error::{Error, Result};
use crate::settings::ColbertBits;

/// A row whose largest magnitude is below this is treated as zero.
const SMALLEST: f32 = 1e-30;
/// The largest magnitude in a 4-bit row, counted in the row's scale: 8 steps of the grid, each at most 15 wide.
const WIDEST_STEPS: f32 = 120.0;
/// The values of the four codes of 2 bits.
const LEVELS2: [i8; 4] = [-90, -27, 27, 90];
/// The border between an inner and an outer level, 0.9816 standard deviations, in the unit of [`LEVELS2`], in which 1.510 deviations are
/// 90.
const BORDER2: f32 = 0.9816 / 1.510 * 90.0;
/// One standard deviation in the unit of [`LEVELS2`].
const LEVEL_OF_DEVIATION: f32 = 90.0 / 1.510;

/// Bytes of a panel, whose rows have `dim` values.
pub(crate) fn panel_bytes(bits: ColbertBits, dim: usize) -> usize {
    let quads = dim.div_ceil(4);
    match bits {
        ColbertBits::Off => 0,
        ColbertBits::Eight => quads * 4 * PANEL,
        ColbertBits::Four => dim.div_ceil(I4_GROUP) * I4_GROUP_BYTES,
        ColbertBits::Two => quads * PANEL,
        ColbertBits::One => quads * PANEL / 2,
    }
}

/// A panel without rows. It is filled with the bytes that stand for 0 where `bits` has a 0; a place without a row has the scale 0 in any
/// case.
pub(crate) fn empty_panel(bits: ColbertBits, dim: usize) -> Vec<u8> {
    let fill = match bits {
        ColbertBits::Eight => 0x80,
        ColbertBits::Four => 0x88,
        _ => 0,
    };
    vec![fill; panel_bytes(bits, dim)]
}

/// The length of the blocks in which rows of so many bits are rotated; 1 if they are not.
fn rotation(bits: ColbertBits, dim: usize) -> usize {
    if bits == ColbertBits::Eight { 1 } else { rotation_for(dim) }
}

/// What is done with a row, stored or of a query, before it is rounded: only the rotation.
fn prepare<'a>(bits: ColbertBits, dim: usize) -> Prepare<'a> {
    Prepare { centre: None, inverse_smoothing: None, rotation: rotation(bits, dim) }
}

/// Added to a number below 2^22 in magnitude it gives a sum without room for a fraction: the number is rounded to the nearest integer,
/// halves to even, and the lowest bits of the sum are that integer.
const ROUND: f32 = 12_582_912.0; // 3 · 2^22

/// Rounds a number below 2^22 in magnitude to the nearest integer, halves to even, without a call of the math library.
fn round(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// The largest integer that is not above `x`, without a call of the math library. `x` must be from 0 to the largest i32.
fn floor(x: f32) -> f32 {
    x as i32 as f32
}

/// The largest magnitude in a row. Eight maxima are kept side by side, so that the compiler makes vector instructions of the loop.
fn widest(row: &[f32]) -> f32 {
    let mut largest = [0.0f32; 8];
    let (eights, rest) = row.as_chunks::<8>();
    for eight in eights {
        for i in 0..8 {
            let x = eight[i].abs();
            largest[i] = if x > largest[i] { x } else { largest[i] };
        }
    }
    rest.iter().chain(&largest).fold(0.0, |widest, x| widest.max(x.abs()))
}

/// Whether all values are finite. Sixteen at a time are tested without a branch, so that the compiler makes vector instructions of the
/// test.
pub(crate) fn are_finite(values: &[f32]) -> bool {
    values.chunks(16).all(|values| values.iter().fold(true, |finite, x| finite & x.is_finite()))
}

/// Rounds a row to `bits`, writes it to place `lane` of a panel, which must still be empty there, and returns the row's scale. `scratch`
/// holds the rotated row meanwhile.
pub(crate) fn put_row(panel: &mut [u8], lane: usize, bits: ColbertBits, row: &[f32], scratch: &mut Vec<f32>) -> f32 {
    let dim = row.len();
    let rotation = rotation(bits, dim);
    scratch.resize(dim, 0.0);
    match rotation {
        1 => scratch.copy_from_slice(row),
        _ => Kernels::best().prepare_row(prepare(bits, dim), row, scratch),
    }
    // The rotation is not normalised, and the query is rotated too, so that products become `rotation` times as large. The scale undoes
    // this.
    let undo = 1.0 / rotation as f32;
    let widest = widest(scratch);
    if widest < SMALLEST {
        return 0.0;
    }
    match bits {
        ColbertBits::Off => 0.0,
        ColbertBits::Eight => {
            let inverse = 127.0 / widest;
            for (d, x) in scratch.iter().enumerate() {
                panel[place8(lane, d)] = (round(x * inverse) as i8 as u8) ^ 0x80;
            }
            widest / 127.0 * undo
        }
        ColbertBits::Four => {
            put4(panel, lane, scratch, WIDEST_STEPS / widest);
            widest / WIDEST_STEPS * undo
        }
        ColbertBits::Two | ColbertBits::One => {
            let square: f32 = scratch.iter().map(|x| x * x).sum();
            let to_level = LEVEL_OF_DEVIATION / (square / dim as f32).sqrt();
            let mut product = 0.0;
            for (d, &x) in scratch.iter().enumerate() {
                if bits == ColbertBits::Two {
                    let code = usize::from(x >= 0.0)
                        + usize::from(x * to_level >= BORDER2)
                        + usize::from(x * to_level >= -BORDER2);
                    product += x * f32::from(LEVELS2[code]);
                    panel[d / 4 * PANEL + lane] |= (code as u8) << (2 * (d % 4));
                } else {
                    product += x.abs();
                    panel[d / 4 * (PANEL / 2) + lane / 2] |= u8::from(x >= 0.0) << (d % 4 + 4 * (lane % 2));
                }
            }
            // The scale makes the row's product with itself exact, which keeps the estimates of other products unbiased.
            square / product * undo
        }
    }
}

/// Where in an 8-bit panel the byte of value `d` of row `lane` is.
fn place8(lane: usize, d: usize) -> usize {
    d / 4 * (4 * PANEL) + lane * 4 + d % 4
}

/// Where in a 4-bit panel the byte with the code of value `d` of row `lane` is, and by how many bits the code is shifted in it.
fn place4(lane: usize, d: usize) -> (usize, u32) {
    let (group, block, inside) = (d / I4_GROUP, d % I4_GROUP / 32, d % 32);
    let at = group * I4_GROUP_BYTES + 2 * PANEL + block * 512 + inside % 16 / 4 * 128 + lane * 4 + inside % 4;
    (at, if inside < 16 { 0 } else { 4 })
}

/// Rounds a row to 4 bits and writes its codes and grids into a panel. Each block of 32 values, times `inverse`, gets a grid of sixteen
/// points that are `m` apart, of which point `z` is 0.
fn put4(panel: &mut [u8], lane: usize, row: &[f32], inverse: f32) {
    for (block, own) in row.chunks(32).enumerate() {
        // A last block of fewer values is filled up with zeros; the query has zeros there as well.
        let mut filled = [0.0; 32];
        let values: &[f32; 32] = own.try_into().unwrap_or_else(|_| {
            filled[..own.len()].copy_from_slice(own);
            &filled
        });
        let (low, high) = range(values, inverse);
        let steps = (high - low) / 15.0;
        let m = (floor(steps) + if steps > floor(steps) { 1.0 } else { 0.0 }).clamp(1.0, 15.0);
        // The far end of the grid must fit a signed byte.
        let room = floor(127.0 / m).min(15.0);
        let z = round(7.5 - (low + high) / (2.0 * m)).clamp(15.0 - room, room);
        panel[block / 2 * I4_GROUP_BYTES + block % 2 * PANEL + lane] = m as u8 | (z as u8) << 4;
        let per_step = inverse / m;
        let mut codes = [0u32; 32];
        for (code, x) in codes.iter_mut().zip(values) {
            let x = round(x * per_step) + z;
            let x = if x > 0.0 { x } else { 0.0 };
            let x = if x < 15.0 { x } else { 15.0 };
            *code = (x + ROUND).to_bits() & 15;
        }
        for quad in (0..16).step_by(4) {
            let byte = |i: usize| codes[quad + i] | codes[quad + i + 16] << 4;
            let four = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
            let (at, _) = place4(lane, block * 32 + quad);
            panel[at..at + 4].copy_from_slice(&four.to_le_bytes());
        }
    }
}

/// The smallest and the largest of 0 and the values times `factor`. Eight of each are kept side by side, so that the compiler makes vector
/// instructions of the loop.
fn range(values: &[f32; 32], factor: f32) -> (f32, f32) {
    let (mut low, mut high) = ([0.0f32; 8], [0.0f32; 8]);
    for eight in values.as_chunks::<8>().0 {
        for i in 0..8 {
            let x = eight[i] * factor;
            low[i] = if x < low[i] { x } else { low[i] };
            high[i] = if x > high[i] { x } else { high[i] };
        }
    }
    (low.into_iter().fold(0.0, f32::min), high.into_iter().fold(0.0, f32::max))
}

/// Copies a stored row, unchanged, from place `from_lane` of a panel to place `to_lane` of another, which must still be empty there.
pub(crate) fn copy_row(from: &[u8], from_lane: usize, to: &mut [u8], to_lane: usize, bits: ColbertBits, dim: usize) {
    match bits {
        ColbertBits::Off => {}
        ColbertBits::Eight => {
            for d in (0..dim).step_by(4) {
                let (a, b) = (place8(from_lane, d), place8(to_lane, d));
                to[b..b + 4].copy_from_slice(&from[a..a + 4]);
            }
        }
        ColbertBits::Four => {
            for block in 0..dim.div_ceil(32) {
                let grid = block / 2 * I4_GROUP_BYTES + block % 2 * PANEL;
                to[grid + to_lane] = from[grid + from_lane];
                for d in (block * 32..block * 32 + 16).step_by(4) {
                    let ((a, _), (b, _)) = (place4(from_lane, d), place4(to_lane, d));
                    to[b..b + 4].copy_from_slice(&from[a..a + 4]);
                }
            }
        }
        ColbertBits::Two => {
            for quad in 0..dim.div_ceil(4) {
                to[quad * PANEL + to_lane] = from[quad * PANEL + from_lane];
            }
        }
        ColbertBits::One => {
            for quad in 0..dim.div_ceil(4) {
                let signs = from[quad * PANEL / 2 + from_lane / 2] >> (4 * (from_lane % 2)) & 15;
                to[quad * PANEL / 2 + to_lane / 2] |= signs << (4 * (to_lane % 2));
            }
        }
    }
}

/// The int8 values of a row of an 8-bit panel.
pub(crate) fn row8(panel: &[u8], lane: usize, dim: usize) -> Vec<i8> {
    (0..dim).map(|d| (panel[place8(lane, d)] ^ 0x80) as i8).collect()
}

/// Writes int8 values to a row's place in an 8-bit panel.
pub(crate) fn put_row8(panel: &mut [u8], lane: usize, row: &[i8]) {
    row.iter().enumerate().for_each(|(d, &x)| panel[place8(lane, d)] = x as u8 ^ 0x80);
}

/// The vector, in f32, that a stored row stands for: near to the one that was rounded, and rotated back.
pub(crate) fn decode(panel: &[u8], lane: usize, bits: ColbertBits, dim: usize, scale: f32) -> Vec<f32> {
    let level = |d: usize| match bits {
        ColbertBits::Off => 0.0,
        ColbertBits::Eight => f32::from((panel[place8(lane, d)] ^ 0x80) as i8),
        ColbertBits::Four => {
            let ((at, shift), block) = (place4(lane, d), d / 32);
            let grid = panel[block / 2 * I4_GROUP_BYTES + block % 2 * PANEL + lane];
            (f32::from(panel[at] >> shift & 15) - f32::from(grid >> 4)) * f32::from(grid & 15)
        }
        ColbertBits::Two => f32::from(LEVELS2[usize::from(panel[d / 4 * PANEL + lane] >> (2 * (d % 4)) & 3)]),
        ColbertBits::One => {
            let signs = panel[d / 4 * (PANEL / 2) + lane / 2] >> (4 * (lane % 2));
            if signs >> (d % 4) & 1 == 1 { 1.0 } else { -1.0 }
        }
    };
    let levels: Vec<f32> = (0..dim).map(level).collect();
    // A second rotation undoes the first, except for a factor that the scale contains.
    let mut row = vec![0.0; dim];
    match rotation(bits, dim) {
        1 => row.copy_from_slice(&levels),
        _ => Kernels::best().prepare_row(prepare(bits, dim), &levels, &mut row),
    }
    row.iter_mut().for_each(|x| *x *= scale);
    row
}

/// For every byte of four 2-bit codes, the four bytes that an 8-bit panel has for their values.
const TABLE2: [[u8; 4]; 256] = {
    let mut table = [[0; 4]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 4 {
            table[byte][i] = (LEVELS2[byte >> (2 * i) & 3] as u8) ^ 0x80;
            i += 1;
        }
        byte += 1;
    }
    table
};

/// For every byte of 1-bit codes, the eight bytes that an 8-bit panel has for their values: four of one row, then four of the next.
const TABLE1: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 8 {
            table[byte][i] = if byte >> i & 1 == 1 { 129 } else { 127 };
            i += 1;
        }
        byte += 1;
    }
    table
};

/// Unpacks panels of 2 bits or of 1 bit to 8-bit panels, which replace the content of `to`.
pub(crate) fn unpack(bits: ColbertBits, panel: &[u8], to: &mut Vec<u8>) {
    to.clear();
    match bits {
        ColbertBits::Two => to.extend(panel.iter().flat_map(|&byte| TABLE2[usize::from(byte)])),
        _ => to.extend(panel.iter().flat_map(|&byte| TABLE1[usize::from(byte)])),
    }
}

/// Vectors to multiply with stored panels, rounded to int8 with a scale each: the token vectors of one query, or the dense vectors of
/// several queries.
#[derive(Debug, Clone)]
pub(crate) struct QueryRows {
    data: Vec<i8>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
    rows: usize,
    dim: usize,
}

impl QueryRows {
    /// Rounds vectors to int8, each after the rotation that rows stored in `bits` have had, so that they can be multiplied with such rows.
    ///
    /// # Errors
    /// [`Error::Option`] if a vector has not `dim` values or has one that is not finite.
    pub fn new<'a>(bits: ColbertBits, dim: usize, rows: impl IntoIterator<Item = &'a [f32]>) -> Result<QueryRows> {
        let mut query = QueryRows { data: Vec::new(), scales: Vec::new(), offsets: Vec::new(), rows: 0, dim };
        let mut scratch = vec![0.0; dim];
        for row in rows {
            if row.len() != dim || !row.iter().all(|x| x.is_finite()) {
                let what = format!("a vector of {} values, expected {dim} finite ones", row.len());
                return Err(Error::option("query vector", what));
            }
            let from = query.data.len();
            query.data.resize(from + row8_stride(dim), 0);
            let (mut scale, mut offset) = ([0.0], [0]);
            Kernels::best().quantize_row(
                Rows8Kind::Int8,
                prepare(bits, dim),
                row,
                &mut scratch,
                &mut query.data[from..],
                &mut scale,
                &mut offset,
            );
            query.scales.extend(scale);
            query.offsets.extend(offset);
            query.rows += 1;
        }
        Ok(query)
    }

    /// How many vectors there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The vectors as the kernels' products read them.
    pub fn as_rows8(&self) -> Rows8<'_> {
        Rows8::new(Rows8Kind::Int8, self.rows, self.dim, &self.data, &self.scales, &self.offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivec_kernels::{Epilogue, MatMut, Panels};

    /// A pseudorandom vector of length 1 whose values are about normally distributed.
    pub(crate) fn row(seed: u64, dim: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let mut row: Vec<f32> = (0..dim).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
        row
    }

    /// The products `[queries, rows]` of queries with the rows of a panel.
    fn products(bits: ColbertBits, dim: usize, queries: &[Vec<f32>], panel: &[u8], scales: &[f32]) -> Vec<f32> {
        let query = QueryRows::new(bits, dim, queries.iter().map(Vec::as_slice)).unwrap();
        let mut out = vec![0.0; queries.len() * scales.len()];
        let finish = Epilogue { scales: Some(scales), ..Epilogue::default() };
        let to = MatMut::dense(&mut out, scales.len());
        let mut unpacked = Vec::new();
        if bits == ColbertBits::Four {
            Kernels::best().linear_i4(query.as_rows8(), Panels::new(panel, scales.len(), panel.len()), finish, to);
            return out;
        }
        if bits != ColbertBits::Eight {
            unpack(bits, panel, &mut unpacked);
        }
        let panel = if unpacked.is_empty() { panel } else { &unpacked };
        Kernels::best().linear_i8(query.as_rows8(), Panels::new(panel, scales.len(), panel.len()), finish, to);
        out
    }

    #[test]
    fn products_are_near_those_of_the_vectors_and_do_not_depend_on_place_or_neighbours() {
        // Bounds of the error of a dot product of two random vectors of length 1, for 64 dimensions and more.
        for (bits, bound) in
            [(ColbertBits::Eight, 0.02), (ColbertBits::Four, 0.05), (ColbertBits::Two, 0.2), (ColbertBits::One, 0.4)]
        {
            for dim in [64, 100, 128, 384, 1024] {
                let rows: Vec<Vec<f32>> = (0..37).map(|i| row(i + 1, dim)).collect();
                let queries: Vec<Vec<f32>> = (0..3).map(|i| row(i + 100, dim)).chain([rows[5].clone()]).collect();
                let mut scratch = Vec::new();
                let mut panels = [empty_panel(bits, dim), empty_panel(bits, dim)];
                let mut scales = [vec![0.0; PANEL], vec![0.0; PANEL]];
                for (i, row) in rows.iter().enumerate() {
                    scales[i / PANEL][i % PANEL] = put_row(&mut panels[i / PANEL], i % PANEL, bits, row, &mut scratch);
                }
                let first = products(bits, dim, &queries, &panels[0], &scales[0]);
                for (q, query) in queries.iter().enumerate() {
                    for r in 0..PANEL {
                        let exact: f32 = query.iter().zip(&rows[r]).map(|(a, b)| a * b).sum();
                        let found = first[q * PANEL + r];
                        assert!((found - exact).abs() < bound, "{bits:?} {dim}: {found} for {exact}");
                    }
                }
                // A row that is decoded is near the one that was rounded: the bounds are of the squared distance.
                let read = decode(&panels[0], 5, bits, dim, scales[0][5]);
                let error: f32 = read.iter().zip(&rows[5]).map(|(a, b)| (a - b) * (a - b)).sum();
                let most = match bits {
                    ColbertBits::Eight => 0.001,
                    ColbertBits::Four => 0.02,
                    ColbertBits::Two => 0.25,
                    _ => 0.8,
                };
                assert!(error < most, "{bits:?} {dim}: {error}");
                // Row 5 alone in another panel, in place 30: copied there, and rounded there anew, it has the same bytes and products.
                let mut other = empty_panel(bits, dim);
                copy_row(&panels[0], 5, &mut other, 30, bits, dim);
                let mut put = empty_panel(bits, dim);
                let mut other_scales = vec![0.0; PANEL];
                other_scales[30] = put_row(&mut put, 30, bits, &rows[5], &mut scratch);
                assert_eq!(other, put, "{bits:?} {dim}");
                let moved = products(bits, dim, &queries, &other, &other_scales);
                for q in 0..queries.len() {
                    assert_eq!(moved[q * PANEL + 30].to_bits(), first[q * PANEL + 5].to_bits());
                }
            }
        }
    }

    /// The plain form of `put4`, which is not written for speed.
    fn put4_plain(panel: &mut [u8], lane: usize, row: &[f32], inverse: f32) {
        for (block, own) in row.chunks(32).enumerate() {
            let scaled = || own.iter().map(|x| x * inverse);
            let (low, high) = (scaled().fold(0.0, f32::min), scaled().fold(0.0, f32::max));
            let m = ((high - low) / 15.0).ceil().clamp(1.0, 15.0);
            let room = (127.0 / m).floor().min(15.0);
            let z = (7.5 - (low + high) / (2.0 * m)).round_ties_even().clamp(15.0 - room, room);
            panel[block / 2 * I4_GROUP_BYTES + block % 2 * PANEL + lane] = m as u8 | (z as u8) << 4;
            for d in 0..32 {
                let x = own.get(d).copied().unwrap_or(0.0);
                let code = ((x * (inverse / m)).round_ties_even() + z).clamp(0.0, 15.0) as u8;
                let (at, shift) = place4(lane, block * 32 + d);
                panel[at] = panel[at] & !(15 << shift) | code << shift;
            }
        }
    }

    #[test]
    fn rounding_to_four_bits_gives_the_bytes_of_the_plain_form() {
        for dim in [1, 31, 32, 33, 64, 100, 384, 1024] {
            let ones = |sign: f32| (0..dim).map(|d| if d % 3 == 0 { sign } else { sign * 1e-3 }).collect::<Vec<f32>>();
            let steps = (0..dim).map(|d| (d % 61) as f32 / 4.0 - 7.5).collect();
            for (lane, row) in (1..29).map(|i| row(i, dim)).chain([ones(1.0), ones(-1.0), steps]).enumerate() {
                let widest = row.iter().fold(0.0f32, |widest, x| widest.max(x.abs()));
                assert_eq!(widest.to_bits(), super::widest(&row).to_bits());
                let (mut fast, mut plain) = (empty_panel(ColbertBits::Four, dim), empty_panel(ColbertBits::Four, dim));
                put4(&mut fast, lane, &row, WIDEST_STEPS / widest);
                put4_plain(&mut plain, lane, &row, WIDEST_STEPS / widest);
                assert_eq!(fast, plain, "{dim} {lane}");
            }
        }
    }

    #[test]
    fn one_value_that_is_not_finite_is_found_wherever_it_is() {
        for at in 0..40 {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![f32::MAX; 40];
                assert!(are_finite(&values));
                values[at] = bad;
                assert!(!are_finite(&values), "{at} {bad}");
            }
        }
        assert!(are_finite(&[]));
    }

    #[test]
    fn rows_of_zeros_have_products_of_zero() {
        for bits in [ColbertBits::Eight, ColbertBits::Four, ColbertBits::Two, ColbertBits::One] {
            let mut panel = empty_panel(bits, 64);
            let scale = put_row(&mut panel, 3, bits, &[0.0; 64], &mut Vec::new());
            let mut scales = vec![0.0; PANEL];
            scales[3] = scale;
            assert!(products(bits, 64, &[row(1, 64)], &panel, &scales).iter().all(|p| *p == 0.0));
        }
    }

    #[test]
    fn query_vectors_with_nan_or_of_another_length_are_refused() {
        assert!(QueryRows::new(ColbertBits::Eight, 4, [[1.0, f32::NAN, 0.0, 0.0].as_slice()]).is_err());
        assert!(QueryRows::new(ColbertBits::Eight, 4, [[1.0, 0.0].as_slice()]).is_err());
    }
}
