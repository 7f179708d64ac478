//! The softmax of a row of scores, and the logarithm of its denominator.

use wide::f32x8;

/// `log Σ exp(x)`. The maximum is subtracted before `exp`, which would overflow: scores reach ±100 at the usual temperature.
pub(crate) fn log_sum_exp(row: &[f32]) -> f64 {
    let most = super::largest(row).0;
    let (parts, rest) = row.as_chunks::<8>();
    let by = f32x8::splat(most);
    // Eight f32 sums of terms that are at most 1, added in f64. Rows are a few hundred long, which f32 sums exactly enough.
    let lanes = parts.iter().fold(f32x8::ZERO, |sum, part| sum + (f32x8::new(*part) - by).exp());
    let mut sum: f64 = lanes.to_array().into_iter().map(f64::from).sum();
    sum += rest.iter().map(|&x| f64::from(x - most).exp()).sum::<f64>();
    f64::from(most) + sum.ln()
}

/// `out = exp(x - log Σ exp(x))`; returns `log Σ exp(x)`.
pub(crate) fn softmax(row: &[f32], out: &mut [f32]) -> f64 {
    let total = log_sum_exp(row);
    let by = total as f32;
    let (parts, rest) = row.as_chunks::<8>();
    let (out_parts, out_rest) = out.as_chunks_mut::<8>();
    for (out, x) in out_parts.iter_mut().zip(parts) {
        *out = (f32x8::new(*x) - f32x8::splat(by)).exp().to_array();
    }
    for (out, x) in out_rest.iter_mut().zip(rest) {
        *out = (f64::from(*x) - total).exp() as f32;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_sum_to_one_and_large_scores_do_not_overflow() {
        for row in [&[115.0, 114.0, -115.0, -1e4, 3.0, 2.0, 1.0, 0.0, 115.0][..], &[-3.0], &[0.1; 31]] {
            let mut out = vec![0.0; row.len()];
            let total = softmax(row, &mut out);
            let most = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
            let expected = most + row.iter().map(|&x| (f64::from(x) - most).exp()).sum::<f64>().ln();
            assert!((total - expected).abs() < 1e-6 * expected.abs().max(1.0), "{total} {expected}");
            for (&x, &p) in row.iter().zip(&out) {
                assert!((f64::from(p) - (f64::from(x) - expected).exp()).abs() < 1e-5, "{x} {p}");
            }
            assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}
