//! Matrices as rows of numbers: f32 products by the engine's kernels, and the f64 algebra of the closed forms.

pub(crate) mod closed;
pub(crate) mod f64;
pub(crate) mod softmax;

use rayon::prelude::*;
use trivec_kernels::{Kernels, MatMut, MatRef};
use wide::f32x8;

/// How many rows of a product one task computes. An element's bits do not depend on the task.
const TASK_ROWS: usize = 64;

/// The product `x · wᵀ + bias` of `x` `[rows, depth]` and `w` `[outputs, depth]`, on all threads of the current pool. Its bits are the same
/// for any number of threads and on every instruction set.
pub(crate) fn product(x: &[f32], w: &[f32], depth: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, outputs) = (x.len() / depth, w.len() / depth);
    let mut out = vec![0.0; rows * outputs];
    let weight = MatRef::dense(w, depth);
    let tasks = out.par_chunks_mut(TASK_ROWS * outputs).zip(x.par_chunks(TASK_ROWS * depth));
    tasks.for_each(|(out, x)| {
        Kernels::best().linear(MatRef::dense(x, depth), weight, bias, MatMut::dense(out, outputs));
    });
    out
}

/// As [`product`], without a bias and on this thread alone, into `out` `[rows, outputs]`.
pub(crate) fn product_into(x: &[f32], w: &[f32], depth: usize, out: &mut [f32]) {
    let outputs = w.len() / depth;
    Kernels::best().linear(MatRef::dense(x, depth), MatRef::dense(w, depth), None, MatMut::dense(out, outputs));
}

/// The transpose: `[rows, cols]` as `[cols, rows]`.
pub(crate) fn transposed(x: &[f32], cols: usize) -> Vec<f32> {
    /// A square block with sides of this many values fits into the first-level cache.
    const SIDE: usize = 32;
    let rows = x.len() / cols.max(1);
    let mut out = vec![0.0; x.len()];
    for first_row in (0..rows).step_by(SIDE) {
        for first_col in (0..cols).step_by(SIDE) {
            for row in first_row..rows.min(first_row + SIDE) {
                for col in first_col..cols.min(first_col + SIDE) {
                    out[col * rows + row] = x[row * cols + col];
                }
            }
        }
    }
    out
}

/// `out += factor · x`
pub(crate) fn add_scaled(out: &mut [f32], factor: f32, x: &[f32]) {
    let (out_parts, out_rest) = out.as_chunks_mut::<8>();
    let (x_parts, x_rest) = x.as_chunks::<8>();
    let by = f32x8::splat(factor);
    for (out, x) in out_parts.iter_mut().zip(x_parts) {
        *out = (f32x8::new(*out) + by * f32x8::new(*x)).to_array();
    }
    for (out, x) in out_rest.iter_mut().zip(x_rest) {
        *out += factor * x;
    }
}

/// The largest value of a row and the first index that has it: (0, 0) if the row is empty, (NaN, 0) if any of its values is NaN.
pub(crate) fn largest(row: &[f32]) -> (f32, usize) {
    let (parts, rest) = row.as_chunks::<8>();
    let lanes = parts.iter().fold(f32x8::splat(f32::NEG_INFINITY), |most, part| most.fast_max(f32x8::new(*part)));
    let most = lanes.to_array().into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max);
    let broken = row.iter().any(|x| x.is_nan());
    match row.iter().position(|&x| x == most) {
        Some(place) if !broken => (most, place),
        _ if row.is_empty() => (0.0, 0),
        // NaN is passed on, so that broken inputs give a NaN loss.
        _ => (f32::NAN, 0),
    }
}

/// Normalises every row of `[rows, cols]` to length 1, as the engine does, and returns the lengths that the rows had (at least 1e-12).
pub(crate) fn normalize_rows(rows: &mut [f32], cols: usize) -> Vec<f32> {
    let one = |row: &mut [f32]| {
        let norm = Kernels::best().dot(row, row).sqrt().max(1e-12);
        row.iter_mut().for_each(|x| *x /= norm);
        norm
    };
    rows.par_chunks_mut(cols * TASK_ROWS)
        .flat_map_iter(|rows| rows.chunks_mut(cols).map(one).collect::<Vec<_>>())
        .collect()
}

/// The backward pass of [`normalize_rows`]: turns the gradient `∂n` of the normalised rows, in place, into that of the rows before,
/// `(∂n - n (n·∂n)) / ‖r‖`.
pub(crate) fn normalize_backward(gradient: &mut [f32], normalized: &[f32], norms: &[f32], cols: usize) {
    gradient.par_chunks_mut(cols).zip(normalized.par_chunks(cols)).zip(norms.par_iter()).for_each(
        |((gradient, row), norm)| {
            let along = Kernels::best().dot(gradient, row);
            for (g, n) in gradient.iter_mut().zip(row) {
                *g = (*g - n * along) / norm;
            }
        },
    );
}

/// How many texts one task of [`outer_sums`] sums.
const TASK_TEXTS: usize = 16;

/// `Σ rᵢ xᵢᵀ` `[k, d]` and `Σ rᵢ` `[k]` over the rows of `r` `[rows, k]` and `x` `[rows, d]`. Each text has the rows between two of `starts`.
/// The sums are made of parts of a fixed number of texts, so that the bits do not depend on the threads.
pub(crate) fn outer_sums(r: &[f32], x: &[f32], [k, d]: [usize; 2], starts: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let parts: Vec<usize> = (0..starts.len() - 1).step_by(TASK_TEXTS).collect();
    let sums: Vec<(Vec<f32>, Vec<f32>)> = parts
        .into_par_iter()
        .map(|first| {
            let last = (first + TASK_TEXTS).min(starts.len() - 1);
            let rows = starts[first]..starts[last];
            let r = &r[rows.start * k..rows.end * k];
            let mut sum = vec![0.0; k * d];
            if !rows.is_empty() {
                product_into(&transposed(r, k), &transposed(&x[rows.start * d..rows.end * d], d), rows.len(), &mut sum);
            }
            let mut bias = vec![0.0; k];
            r.chunks_exact(k).for_each(|row| add_scaled(&mut bias, 1.0, row));
            (sum, bias)
        })
        .collect();
    let mut total = (vec![0.0; k * d], vec![0.0; k]);
    for (sum, bias) in &sums {
        add_scaled(&mut total.0, 1.0, sum);
        add_scaled(&mut total.1, 1.0, bias);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn numbers(count: usize) -> Vec<f32> {
        let mut random = Random::new(7, 7);
        (0..count).map(|_| random.signed()).collect()
    }

    #[test]
    fn products_and_sums_are_those_of_the_formula() {
        let (rows, k, d) = (70, 5, 9);
        let (x, w) = (numbers(rows * d), numbers(k * d));
        let found = product(&x, &w, d, Some(&[1.0; 5]));
        for row in 0..rows {
            for out in 0..k {
                let expected: f32 = 1.0 + (0..d).map(|i| x[row * d + i] * w[out * d + i]).sum::<f32>();
                assert!((found[row * k + out] - expected).abs() < 1e-5);
            }
        }
        let r = numbers(rows * k);
        let (sum, bias) = outer_sums(&r, &x, [k, d], &[0, 3, 3, 50, 70]);
        for out in 0..k {
            assert!((bias[out] - (0..rows).map(|row| r[row * k + out]).sum::<f32>()).abs() < 1e-5);
            for i in 0..d {
                let expected: f32 = (0..rows).map(|row| r[row * k + out] * x[row * d + i]).sum();
                assert!((sum[out * d + i] - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn largest_gives_the_first_of_equal_values_and_passes_nan_on() {
        let mut row = numbers(37);
        row[11] = 3.0;
        row[35] = 3.0;
        assert_eq!(largest(&row), (3.0, 11));
        assert_eq!((largest(&[-2.0]), largest(&[])), ((-2.0, 0), (0.0, 0)));
        for place in [0, 9, 36] {
            let mut broken = row.clone();
            broken[place] = f32::NAN;
            assert!(largest(&broken).0.is_nan(), "{place}");
        }
    }

    #[test]
    fn a_matrix_transposed_twice_is_itself() {
        let x = numbers(33 * 65);
        assert_eq!(transposed(&transposed(&x, 65), 33), x);
    }
}
