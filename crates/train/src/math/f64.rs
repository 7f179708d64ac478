//! Algebra of small dense f64 matrices, stored row by row. The closed forms and the export are computed with it.

use rayon::prelude::*;

/// The product `a [n, k] · b [k, m]`, on all threads. Each element is summed in ascending order of `k`, so that its bits are always the same.
pub(crate) fn product(a: &[f64], b: &[f64], [n, k, m]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; n * m];
    out.par_chunks_mut(m.max(1)).enumerate().for_each(|(row, out)| {
        for inner in 0..k {
            let factor = a[row * k + inner];
            for (out, x) in out.iter_mut().zip(&b[inner * m..][..m]) {
                *out += factor * x;
            }
        }
    });
    out
}

/// The transpose: `[rows, cols]` as `[cols, rows]`.
pub(crate) fn transposed(x: &[f64], cols: usize) -> Vec<f64> {
    let rows = x.len() / cols.max(1);
    (0..x.len()).map(|at| x[at % rows * cols + at / rows]).collect()
}

/// The mean `[d]` and the covariance `[d, d]` of the f32 rows `[rows, d]`. They are summed in parts of a fixed size, so that the bits do not
/// depend on the threads.
pub(crate) fn moments(rows: &[f32], d: usize) -> (Vec<f64>, Vec<f64>) {
    /// Rows of a part.
    const PART: usize = 2048;
    let count = (rows.len() / d).max(1) as f64;
    let sums: Vec<Vec<f64>> = rows
        .par_chunks(PART * d)
        .map(|part| {
            let mut sum = vec![0.0; d];
            part.chunks_exact(d).for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x)));
            sum
        })
        .collect();
    let mut mean = vec![0.0; d];
    sums.iter().for_each(|part| mean.iter_mut().zip(part).for_each(|(mean, x)| *mean += x / count));
    // A task for each row of the covariance would read all rows d times; a task for each part of the rows reads its rows once.
    let parts: Vec<Vec<f64>> = rows
        .par_chunks(PART * d)
        .map(|part| {
            let mut sum = vec![0.0; d * d];
            let mut centred = vec![0.0; d];
            for row in part.chunks_exact(d) {
                centred.iter_mut().zip(row).zip(&mean).for_each(|((c, &x), m)| *c = f64::from(x) - m);
                for (sum, &factor) in sum.chunks_exact_mut(d).zip(&centred) {
                    sum.iter_mut().zip(&centred).for_each(|(sum, x)| *sum += factor * x);
                }
            }
            sum
        })
        .collect();
    let mut covariance = vec![0.0; d * d];
    parts.iter().for_each(|part| covariance.iter_mut().zip(part).for_each(|(all, x)| *all += x / count));
    (mean, covariance)
}

/// The inverse square root of a symmetric matrix whose eigenvalues are all positive, by the coupled Newton-Schulz iteration
/// (N. Higham, Functions of Matrices, 6.7). It needs products only, so that its bits are the same on every machine.
pub(crate) fn inverse_root(matrix: &[f64], d: usize) -> Vec<f64> {
    /// The most steps, far more than needed: the root of a small eigenvalue grows by a half in each step, so that 30 steps are enough for an
    /// eigenvalue of 1e-10 of the bound.
    const MOST: usize = 60;
    // An upper bound of the eigenvalues: the largest sum of magnitudes in a row.
    let bound =
        matrix.chunks_exact(d).map(|row| row.iter().map(|x| x.abs()).sum::<f64>()).fold(0.0, f64::max).max(1e-300);
    let mut root: Vec<f64> = matrix.iter().map(|x| x / bound).collect();
    let mut inverse: Vec<f64> = (0..d * d).map(|at| if at / d == at % d { 1.0 } else { 0.0 }).collect();
    for _ in 0..MOST {
        let mut step = product(&inverse, &root, [d, d, d]);
        let mut off = 0.0f64;
        for (at, x) in step.iter_mut().enumerate() {
            let identity = if at / d == at % d { 1.0 } else { 0.0 };
            off = off.max((*x - identity).abs());
            *x = 1.5 * identity - 0.5 * *x;
        }
        root = product(&root, &step, [d, d, d]);
        inverse = product(&step, &inverse, [d, d, d]);
        if off < 1e-13 {
            break;
        }
    }
    let scale = bound.sqrt();
    inverse.iter_mut().for_each(|x| *x /= scale);
    inverse
}

/// Solves `a x = b`, `a` `[n, n]`, by elimination with the largest pivot of the column. `None` if `a` is singular to working precision.
pub(crate) fn solve(a: &[f64], b: &[f64], n: usize) -> Option<Vec<f64>> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    let largest = a.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    for col in 0..n {
        let pivot =
            (col..n).fold(col, |best, row| if a[row * n + col].abs() > a[best * n + col].abs() { row } else { best });
        if a[pivot * n + col].abs() <= largest * 1e-12 {
            return None;
        }
        if pivot != col {
            (0..n).for_each(|i| a.swap(col * n + i, pivot * n + i));
            b.swap(col, pivot);
        }
        let (above, below) = a.split_at_mut((col + 1) * n);
        let pivot_row = &above[col * n..];
        for (row, values) in below.chunks_exact_mut(n).enumerate() {
            let factor = values[col] / pivot_row[col];
            if factor != 0.0 {
                values[col..].iter_mut().zip(&pivot_row[col..n]).for_each(|(x, p)| *x -= factor * p);
                b[col + 1 + row] -= factor * b[col];
            }
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|i| a[row * n + i] * b[i]).sum();
        b[row] = (b[row] - known) / a[row * n + row];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_inverse_root_squared_is_the_inverse() {
        let d = 24;
        let mut random = Random::new(3, 1);
        let x: Vec<f64> = (0..d * d).map(|_| f64::from(random.signed())).collect();
        let mut spd = product(&x, &transposed(&x, d), [d, d, d]);
        (0..d).for_each(|i| spd[i * d + i] += 0.01);
        let root = inverse_root(&spd, d);
        let inverse = product(&root, &root, [d, d, d]);
        let identity = product(&inverse, &spd, [d, d, d]);
        for (at, x) in identity.iter().enumerate() {
            let expected = if at / d == at % d { 1.0 } else { 0.0 };
            assert!((x - expected).abs() < 1e-8, "{at}: {x}");
        }
    }

    #[test]
    fn solutions_satisfy_their_equations_and_a_singular_matrix_has_none() {
        let n = 17;
        let mut random = Random::new(4, 1);
        let a: Vec<f64> = (0..n * n).map(|_| f64::from(random.signed())).collect();
        let b: Vec<f64> = (0..n).map(|_| f64::from(random.signed())).collect();
        let x = solve(&a, &b, n).unwrap();
        for row in 0..n {
            let found: f64 = (0..n).map(|i| a[row * n + i] * x[i]).sum();
            assert!((found - b[row]).abs() < 1e-9);
        }
        assert!(solve(&[1.0, 2.0, 2.0, 4.0], &[1.0, 1.0], 2).is_none());
    }

    #[test]
    fn moments_are_those_of_the_rows() {
        let rows = [1.0f32, 2.0, 3.0, 6.0, 5.0, 4.0];
        let (mean, covariance) = moments(&rows, 2);
        assert_eq!(mean, [3.0, 4.0]);
        for (found, expected) in covariance.iter().zip([8.0 / 3.0, 4.0 / 3.0, 4.0 / 3.0, 8.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }
}
