//! `X · Wᵀ` in f32 on one thread by three implementations: trivec's kernel on this CPU's best instruction set, the crate `gemm`, and three
//! plain loops. "Elements" are operations, two a multiply-add.
//!
//! Before anything is timed, the results are compared: a product that is fast and wrong is no yardstick.

#[path = "../workloads/mod.rs"]
mod workloads;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trivec_kernels::{Kernels, MatMut, MatRef};

/// Deterministic values around zero.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5).collect()
}

/// The product as one writes it down: three loops.
fn naive(x: &[f32], w: &[f32], depth: usize, out: &mut [f32]) {
    let outputs = w.len() / depth;
    for (row, out) in x.chunks_exact(depth).zip(out.chunks_exact_mut(outputs)) {
        for (weights, out) in w.chunks_exact(depth).zip(out) {
            *out = row.iter().zip(weights).map(|(a, b)| a * b).sum();
        }
    }
}

/// The product by the crate `gemm`, on this thread alone.
fn by_gemm(x: &[f32], w: &[f32], depth: usize, out: &mut [f32]) {
    let (rows, outputs) = (x.len() / depth, w.len() / depth);
    assert_eq!(out.len(), rows * outputs);
    // SAFETY: `out` is [rows, outputs], `x` [rows, depth] and `w`, read as its transpose, [depth, outputs]: the strides stay inside.
    unsafe {
        gemm::gemm(
            rows,
            outputs,
            depth,
            out.as_mut_ptr(),
            1,
            outputs as isize,
            false,
            x.as_ptr(),
            1,
            depth as isize,
            w.as_ptr(),
            depth as isize,
            1,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The largest difference of two results, relative to the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    // `max` would leave NaN out.
    off.fold(0.0f32, |worst, x| if x.is_nan() || x > worst { x } else { worst }) / largest
}

fn linear(c: &mut Criterion) {
    let kernels = Kernels::best();
    assert!(difference(&[1.0, f32::NAN], &[1.0, 2.0]).is_nan() && difference(&[1.0, 1.0], &[1.0, 2.0]) > 0.4);
    let mut group = c.benchmark_group("linear f32");
    for [rows, outputs, depth] in workloads::sizes("whole_products") {
        let (x, w, mut expected, mut out) =
            (values(rows * depth), values(outputs * depth), vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
        group.throughput(Throughput::Elements((2 * rows * outputs * depth) as u64));
        let shape = format!("{rows}x{outputs}x{depth}");
        let ours = |out: &mut [f32]| {
            kernels.linear(MatRef::dense(&x, depth), MatRef::dense(&w, depth), None, MatMut::dense(out, outputs));
        };
        naive(&x, &w, depth, &mut expected);
        type Product<'a> = &'a dyn Fn(&mut [f32]);
        let products: [(&str, Product<'_>); 3] = [
            (kernels.isa().name(), &ours),
            ("gemm", &|out| by_gemm(&x, &w, depth, out)),
            ("three loops", &|out| naive(&x, &w, depth, out)),
        ];
        for (name, product) in products {
            product(&mut out);
            let off = difference(&out, &expected);
            assert!(off < 1e-4, "{name}, {shape}: off by {off:e}");
            group.bench_function(BenchmarkId::new(name, &shape), |b| b.iter(|| product(&mut out)));
        }
    }
    group.finish();
}

criterion_group!(benches, linear);
criterion_main!(benches);
