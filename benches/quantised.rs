//! Times the integer and 16-bit kernels and a layer's row operations on one thread, for each instruction set of this CPU; then one layer of
//! BGE-M3's shape, the starter packed in each format, and the tokenizer. "Elements" are operations, two for a multiply-add, to compare with
//! the peaks that `trivec bench --probe` prints; where a model runs, they are tokens.

mod workloads;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trivec::pack::{Calibration, PackOptions, pack, packed_layer};
use trivec::{EncodeOptions, LoadOptions, Model, Modes, WeightFormat};
use trivec_kernels::{
    Epilogue, I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, IntKeyValues, IntScratch, Kernels, MatMut, MatRef, PANEL, Panels,
    Prepare, Q4_0_BLOCK_BYTES, QUERY_BLOCK, Rows8, Rows8Kind, rotation_for, row8_stride,
};

/// `len` values in -0.5 .. 0.5, the same in every run.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5).collect()
}

/// The products of one block of outputs with weights of each format.
fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("products");
    for [rows, outputs, depth] in workloads::sizes("products") {
        group.throughput(Throughput::Elements((2 * rows * outputs * depth) as u64));
        let x = values(rows * depth);
        let mut out = vec![0.0; rows * outputs];
        for kernels in Kernels::all_supported() {
            let mut run = |name: &str, f: &mut dyn FnMut(&mut [f32])| {
                let id =
                    BenchmarkId::new(format!("{name} {}", kernels.isa().name()), format!("{rows}x{outputs}x{depth}"));
                group.bench_function(id, |b| b.iter(|| f(&mut out)));
            };
            for kind in [Rows8Kind::Int8, Rows8Kind::Q4_0] {
                let (stride, n, m) = (row8_stride(depth), kind.scales(depth), kind.offsets(depth));
                let (mut data, mut scales) = (vec![0; rows * stride], vec![0.0; rows * n]);
                let (mut offsets, mut scratch) = (vec![0; rows * m], vec![0.0; depth]);
                for r in 0..rows {
                    let (data, scales) = (&mut data[r * stride..][..stride], &mut scales[r * n..][..n]);
                    let prepare = Prepare { centre: None, inverse_smoothing: None, rotation: rotation_for(depth) };
                    let offsets = &mut offsets[r * m..][..m];
                    kernels.quantize_row(kind, prepare, &x[r * depth..][..depth], &mut scratch, data, scales, offsets);
                }
                let rows8 = Rows8::new(kind, rows, depth, &data, &scales, &offsets);
                if kind == Rows8Kind::Int8 {
                    let w = vec![140u8; outputs * depth];
                    let panels = Panels::new(&w, outputs, depth * PANEL);
                    run("int8", &mut |out| {
                        kernels.linear_i8(rows8, panels, Epilogue::default(), MatMut::dense(out, outputs))
                    });
                    let panel = depth / I4_GROUP * I4_GROUP_BYTES;
                    let w = vec![0x84u8; outputs / PANEL * panel];
                    let panels = Panels::new(&w, outputs, panel);
                    run("int4", &mut |out| {
                        kernels.linear_i4(rows8, panels, Epilogue::default(), MatMut::dense(out, outputs))
                    });
                } else {
                    let panel = depth / I4_BLOCK * Q4_0_BLOCK_BYTES;
                    let w = vec![0x2au8; outputs / PANEL * panel];
                    let panels = Panels::new(&w, outputs, panel);
                    run("4-bit blocks", &mut |out| {
                        kernels.linear_q4_0(rows8, panels, Epilogue::default(), MatMut::dense(out, outputs))
                    });
                }
            }
            let w = vec![0x3c00u16; outputs * depth];
            let panels = Panels::new(&w, outputs, depth * PANEL);
            let x_view = MatRef::dense(&x, depth);
            run("f16", &mut |out| kernels.linear_f16(x_view, panels, Epilogue::default(), MatMut::dense(out, outputs)));
            let x_bf16 = vec![0x3f80u16; rows * depth];
            run("bf16", &mut |out| {
                kernels.linear_bf16(&x_bf16, depth, panels, Epilogue::default(), MatMut::dense(out, outputs));
            });
        }
    }
    group.finish();
}

/// Integer attention of one head: a whole block of queries over various numbers of keys.
fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("integer attention");
    let head_dim = 64;
    for tokens in workloads::numbers("integer_attention_tokens") {
        let (q, k) = (values(QUERY_BLOCK * head_dim), values(tokens * head_dim));
        let (mut scratch, mut packed) = (IntScratch::default(), IntKeyValues::default());
        let mut out = vec![0.0; QUERY_BLOCK * head_dim];
        group.throughput(Throughput::Elements((4 * QUERY_BLOCK * tokens * head_dim) as u64));
        for kernels in Kernels::all_supported() {
            let view = |x| MatRef::dense(x, head_dim);
            kernels.pack_int(view(&k), view(&k), &mut scratch, &mut packed);
            group.bench_function(BenchmarkId::new(kernels.isa().name(), tokens), |b| {
                b.iter(|| kernels.attend_int(0.125, view(&q), &packed, &mut scratch, MatMut::dense(&mut out, head_dim)))
            });
        }
    }
    group.finish();
}

/// Preparing and rounding a row of activations to int8, and layer norm of the sum of two rows.
fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("rows");
    let (x, ones) = (values(4096), vec![1.0; 1024]);
    for kernels in Kernels::all_supported() {
        let isa = kernels.isa().name();
        for depth in [1024, 4096] {
            let (mut data, mut scratch) = (vec![0; row8_stride(depth)], vec![0.0; depth]);
            let prepare = Prepare { centre: None, inverse_smoothing: Some(&x[..depth]), rotation: rotation_for(depth) };
            group.bench_function(BenchmarkId::new(format!("quantise {isa}"), depth), |b| {
                b.iter(|| {
                    let (mut scale, mut offset) = ([0.0], [0]);
                    let row = &x[..depth];
                    kernels.quantize_row(
                        Rows8Kind::Int8,
                        prepare,
                        row,
                        &mut scratch,
                        &mut data,
                        &mut scale,
                        &mut offset,
                    );
                    scale
                })
            });
        }
        let mut row = x[..1024].to_vec();
        group.bench_function(BenchmarkId::new(format!("add and layer norm {isa}"), 1024), |b| {
            b.iter(|| kernels.add_layer_norm(&mut row, &x[..1024], &ones, &ones, 1e-5))
        });
    }
    group.finish();
}

/// One layer of BGE-M3's shape (hidden 1024, 16 heads of 64, feed-forward 4096) on all threads, over few tokens, one text and a batch.
fn layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("one layer");
    // Lexical weights need every row of the layer's output, where a dense vector would need only the first; their head costs one dot product a row.
    let options = EncodeOptions { modes: Modes::SPARSE, ..Default::default() };
    for format in [WeightFormat::Int8, WeightFormat::Int4, WeightFormat::Bf16] {
        let bytes = packed_layer(format).expect("a layer is made");
        let model = Model::from_packed_bytes(&bytes, &LoadOptions::default()).expect("it loads");
        for [texts, tokens] in workloads::sizes("layer") {
            let text: Vec<u32> = (0..tokens as u32).map(|i| i * 37 % 900 + 4).collect();
            let batch = vec![text; texts];
            group.throughput(Throughput::Elements((tokens * texts) as u64));
            group.bench_function(BenchmarkId::new(format.name(), format!("{texts}x{tokens}")), |b| {
                b.iter(|| model.encode_ids(&batch, &options).expect("it embeds"))
            });
        }
    }
    group.finish();
}

/// The starter (12 layers, hidden 384) packed in each format: one text of various lengths, on all threads.
fn end_to_end(c: &mut Criterion) {
    let mut group = c.benchmark_group("starter");
    let starter = Model::load("models/starter").expect("the starter's checkpoint loads");
    for format in WeightFormat::ALL {
        let mut bytes = Vec::new();
        let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(format) };
        pack(&starter, &options, std::path::Path::new("memory"), &mut bytes).expect("the starter packs");
        let model = Model::from_packed_bytes(&bytes, &LoadOptions::default()).expect("it loads");
        for tokens in workloads::numbers("starter_tokens") {
            let ids: Vec<u32> = (0..tokens as u32).map(|i| i * 37 % 1000 + 4).collect();
            group.throughput(Throughput::Elements(tokens as u64));
            group.bench_function(BenchmarkId::new(format.name(), tokens), |b| {
                b.iter(|| model.encode_ids(&[&ids], &EncodeOptions::default()))
            });
        }
    }
    group.finish();
}

/// Loading a model with its tokenizer, and turning texts into ids.
fn tokenizer(c: &mut Criterion) {
    let mut group = c.benchmark_group("tokenizer");
    let starter = Model::load("models/starter").expect("the starter's checkpoint loads");
    let mut bytes = Vec::new();
    let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(WeightFormat::Int8) };
    pack(&starter, &options, std::path::Path::new("memory"), &mut bytes).expect("the starter packs");
    group.bench_function("load the starter, packed", |b| {
        b.iter(|| Model::from_packed_bytes(&bytes, &LoadOptions { threads: Some(1), ..Default::default() }))
    });
    group.bench_function("load the starter, a checkpoint with tokenizer.json", |b| {
        b.iter(|| Model::load_with("models/starter", &LoadOptions { threads: Some(1), ..Default::default() }))
    });
    let options = EncodeOptions::default();
    let short = "The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸";
    group.bench_function("a sentence", |b| b.iter(|| starter.tokenize(short, &options)));
    let long = short.repeat(40);
    group.bench_function("forty sentences", |b| b.iter(|| starter.tokenize(&long, &options)));
    group.finish();
}

criterion_group!(benches, products, attention, rows, layer, end_to_end, tokenizer);
criterion_main!(benches);
