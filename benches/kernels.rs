//! Times the f32 kernels on one thread, for each instruction set of this CPU. The "elements" of `linear` and `attention` are floating-point
//! operations, two for a multiply-add, to compare with the machine's f32 peak; those of `rows` are values.

mod workloads;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trivec_kernels::{AttentionShape, Kernels, MatMut, MatRef, QUERY_BLOCK};

/// `len` values in -0.5 .. 0.5, the same in every run.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5).collect()
}

/// The f32 product of one block of outputs.
fn linear(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    for [rows, outputs, depth] in workloads::sizes("f32_products") {
        let (x, w, bias) = (values(rows * depth), values(outputs * depth), values(outputs));
        let mut out = vec![0.0; rows * outputs];
        group.throughput(Throughput::Elements((2 * rows * outputs * depth) as u64));
        for kernels in Kernels::all_supported() {
            let shape = format!("{rows}x{outputs}x{depth}");
            group.bench_function(BenchmarkId::new(kernels.isa().name(), shape), |b| {
                b.iter(|| {
                    let out = MatMut::dense(&mut out, outputs);
                    kernels.linear(MatRef::dense(&x, depth), MatRef::dense(&w, depth), Some(&bias), out)
                })
            });
        }
    }
    group.finish();
}

/// f32 attention of one head: a whole block of queries over various numbers of keys.
fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("attention");
    let head_dim = 64;
    for tokens in workloads::numbers("attention_tokens") {
        let shape = AttentionShape { tokens, head_dim, scale: 0.125 };
        let (q, k, v) = (values(QUERY_BLOCK * head_dim), values(tokens * head_dim), values(tokens * head_dim));
        let (mut keys, mut scratch) = (vec![0.0; shape.packed_keys_len()], vec![0.0; shape.scratch_len()]);
        let mut out = vec![0.0; QUERY_BLOCK * head_dim];
        group.throughput(Throughput::Elements((4 * QUERY_BLOCK * tokens * head_dim) as u64));
        for kernels in Kernels::all_supported() {
            kernels.pack_keys(MatRef::dense(&k, head_dim), &mut keys);
            group.bench_function(BenchmarkId::new(kernels.isa().name(), tokens), |b| {
                b.iter(|| {
                    let (q, v) = (MatRef::dense(&q, head_dim), MatRef::dense(&v, head_dim));
                    kernels.attend(shape, q, &keys, v, &mut scratch, MatMut::dense(&mut out, head_dim))
                })
            });
        }
    }
    group.finish();
}

/// GELU of a row of 4,096 values, and layer norm of a row of 1,024.
fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("rows");
    let (gain, bias) = (values(1024), values(1024));
    for kernels in Kernels::all_supported() {
        let isa = kernels.isa().name();
        // The row is copied anew each time, because repeated GELU would drive its values into the subnormal range, which is slow.
        let (source, mut row) = (values(4096), values(4096));
        group.throughput(Throughput::Elements(4096));
        group.bench_function(BenchmarkId::new("gelu", isa), |b| {
            b.iter(|| {
                row.copy_from_slice(&source);
                kernels.gelu(&mut row)
            })
        });
        let mut row = values(1024);
        group.throughput(Throughput::Elements(1024));
        group.bench_function(BenchmarkId::new("layer_norm", isa), |b| {
            b.iter(|| kernels.layer_norm(&mut row, &gain, &bias, 1e-5))
        });
    }
    group.finish();
}

criterion_group!(benches, linear, attention, rows);
criterion_main!(benches);
