//! Attention in integers, run on every instruction set this CPU has: equal to the bit among the ISAs, and close to attention in f64; and the
//! memory that the probes read. `TRIVEC_REQUIRE_ISA` as in `int_kernels.rs`.

mod common;

use common::{Random, assert_same, tables};
use trivec_kernels::{IntKeyValues, IntScratch, Isa, Kernels, MatMut, MatRef, QUERY_BLOCK, Streams};

/// Attention in f64.
fn attention(q: &[f32], k: &[f32], v: &[f32], head_dim: usize, scale: f64) -> Vec<f64> {
    let tokens = k.len() / head_dim;
    let mut out = Vec::new();
    for q in q.chunks_exact(head_dim) {
        let dot = |k: &[f32]| q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>() * scale;
        let scores: Vec<f64> = k.chunks_exact(head_dim).map(dot).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        for d in 0..head_dim {
            let sum: f64 = (0..tokens).map(|t| weights[t] * f64::from(v[t * head_dim + d])).sum();
            out.push(sum / total);
        }
    }
    out
}

/// What an ISA makes of queries, keys and values, with buffers of its own.
fn attend(kernels: &Kernels, scale: f32, [q, k, v]: [&[f32]; 3], head_dim: usize) -> Vec<f32> {
    let (mut scratch, mut packed) = (IntScratch::default(), IntKeyValues::default());
    let view = |x| MatRef::dense(x, head_dim);
    kernels.pack_int(view(k), view(v), &mut scratch, &mut packed);
    let mut out = vec![0.0; q.len()];
    kernels.attend_int(scale, view(q), &packed, &mut scratch, MatMut::dense(&mut out, head_dim));
    out
}

#[test]
fn integer_attention_is_the_same_on_every_set_and_close() {
    let mut random = Random(19);
    let mut buffers: Vec<(IntKeyValues, IntScratch)> = Vec::new();
    buffers.resize_with(Isa::ALL.len(), Default::default);
    // Wide before narrow and back, long before short: what another head or a longer text left in the buffers must not show.
    for head_dim in [128, 80, 64, 32, 24, 16, 4, 1, 24, 80] {
        let scale = 1.0 / (head_dim as f32).sqrt();
        for tokens in [150, 1, 2, 63, 64, 65, 129] {
            let queries = tokens.min(QUERY_BLOCK);
            // All keys share a large part, as those of trained models do.
            let shared = random.vec(head_dim);
            let mut k = random.vec(tokens * head_dim);
            k.chunks_exact_mut(head_dim).for_each(|k| k.iter_mut().zip(&shared).for_each(|(k, s)| *k += 8.0 * s));
            let (q, v) = (random.vec(queries * head_dim), random.vec(tokens * head_dim));
            let expected = attention(&q, &k, &v, head_dim, f64::from(scale));
            let mut first: Option<Vec<f32>> = None;
            for (kernels, (packed, scratch)) in tables().into_iter().zip(&mut buffers) {
                let view = |x| MatRef::dense(x, head_dim);
                kernels.pack_int(view(&k), view(&v), scratch, packed);
                let mut out = vec![0.0; queries * head_dim];
                kernels.attend_int(scale, view(&q), packed, scratch, MatMut::dense(&mut out, head_dim));
                let what = format!("attention {tokens} x {head_dim}");
                assert_same(&what, kernels.isa().name(), &out, first.get_or_insert_with(|| out.clone()));
                // A query alone gives what it gives among others.
                let mut alone = vec![0.0; head_dim];
                let last = &q[(queries - 1) * head_dim..];
                kernels.attend_int(scale, view(last), packed, scratch, MatMut::dense(&mut alone, head_dim));
                assert_same(&what, kernels.isa().name(), &alone, &out[(queries - 1) * head_dim..]);
                for (i, (found, expected)) in out.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 0.03, "{what} at {i}: {found}, {expected}");
                }
            }
        }
    }
}

/// One key far above all others, as the first or last token of a trained model can be: many small weights together still count.
#[test]
fn many_small_weights_beside_a_large_one_are_kept() {
    let (head_dim, queries) = (64, 2);
    let mut random = Random(23);
    for (tokens, place) in [(512, 0), (2048, 2047), (8192, 0)] {
        for gap in [8.0, 10.4, 11.0, 13.0] {
            // The first dimension makes the gap, the others do nothing to the scores.
            let mut k = vec![0.0; tokens * head_dim];
            k[place * head_dim] = gap;
            let mut q = vec![0.0; queries * head_dim];
            q.chunks_exact_mut(head_dim).for_each(|q| q[0] = 1.0);
            // Values that agree in the many, so that their sum does not vanish.
            let mut v = random.vec(tokens * head_dim);
            v.iter_mut().for_each(|v| *v = 0.25 * *v + 1.0);
            v[place * head_dim..][..head_dim].fill(0.0);
            let expected = attention(&q, &k, &v, head_dim, 1.0);
            for kernels in tables() {
                let out = attend(kernels, 1.0, [&q, &k, &v], head_dim);
                for (found, expected) in out.iter().zip(&expected) {
                    let error = (f64::from(*found) - expected).abs();
                    // The bytes of the large one's values, which are 1 and a quarter away from the mean: half of a step of 1.25 / 127.
                    let most = 0.03 * expected + 1.25 / 254.0;
                    assert!(error < most, "{tokens} tokens, gap {gap}, {}: {found}, {expected}", kernels.isa().name());
                }
            }
        }
    }
}

/// Each value is rounded by its own size, and a weight by that of its value: a few wide ones cost the others little, and none nothing.
#[test]
fn values_of_all_sizes_are_weighed() {
    let (head_dim, queries) = (64, 7);
    let mut random = Random(31);
    for tokens in [1, 5, 64, 70, 300] {
        for spread in [0, 1, 4, 9] {
            let (mut q, k) = (random.vec(queries * head_dim), random.vec(tokens * head_dim));
            // A query to which all keys are alike: what is left are the values' roundings, and those of the weights.
            q[..head_dim].fill(0.0);
            let mut v = random.vec(tokens * head_dim);
            for (token, v) in v.chunks_exact_mut(head_dim).enumerate() {
                // Ten times as small from one key to the next, `spread` times; of 9 the last but one is zeros, the last denormal.
                let size = match token % 10 {
                    8 if spread == 9 => 0.0,
                    9 if spread == 9 => 1e-40,
                    step => 0.1f32.powi(step.min(spread) as i32),
                };
                v.iter_mut().for_each(|v| *v *= size);
            }
            let expected = attention(&q, &k, &v, head_dim, 0.125);
            let mut first: Option<Vec<f32>> = None;
            for kernels in tables() {
                let out = attend(kernels, 0.125, [&q, &k, &v], head_dim);
                let what = format!("{tokens} tokens, spread {spread}");
                assert_same(&what, kernels.isa().name(), &out, first.get_or_insert_with(|| out.clone()));
                for (i, (found, expected)) in out.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(
                        error < if i < head_dim { 0.006 } else { 0.02 },
                        "{what}, {}: {found}, {expected}",
                        kernels.isa().name()
                    );
                }
            }
        }
    }
}

/// What a query does not attend to must not cost what it attends to its digits, however large.
#[test]
fn values_without_weight_have_none() {
    let head_dim = 32;
    let value = |token: usize| (1 + token % 7) as f32;
    for tokens in [3, 64, 70] {
        for big in [1e2, 1e6, 1e12, 1e20, 1e28] {
            // One large value, or two of which the sum is 0.
            for large in [&[big][..], &[big, -big]] {
                let mut q = vec![0.0; head_dim];
                q[0] = 10.0;
                let (mut k, mut v) = (vec![0.0; tokens * head_dim], vec![0.0; tokens * head_dim]);
                for (token, (k, v)) in k.chunks_exact_mut(head_dim).zip(v.chunks_exact_mut(head_dim)).enumerate() {
                    k[0] = if token < large.len() { -10.0 } else { 10.0 };
                    v.fill(large.get(token).copied().unwrap_or(value(token)));
                }
                let attended = large.len()..tokens;
                let expected = attended.clone().map(value).sum::<f32>() / attended.len() as f32;
                for kernels in tables() {
                    let out = attend(kernels, 1.0, [&q, &k, &v], head_dim);
                    for found in out {
                        let isa = kernels.isa().name();
                        // Beyond 2^80 times as large, the others are taken for what they are in the mean.
                        let most = if big < 1e24 { 0.1 } else { 7.0 };
                        assert!(
                            (found - expected).abs() < most,
                            "{isa}, {tokens} tokens, {large:?}: {found}, {expected}"
                        );
                    }
                }
            }
        }
    }
}

/// Values that are all alike come out as they went in: the mean is not rounded.
#[test]
fn equal_values_are_kept() {
    let head_dim = 32;
    let mut random = Random(37);
    let one = random.vec(head_dim);
    for tokens in [1, 2, 65] {
        let (k, v) = (random.vec(tokens * head_dim), one.repeat(tokens));
        for kernels in tables() {
            let out = attend(kernels, 0.2, [&k[..head_dim], &k, &v], head_dim);
            for (found, expected) in out.iter().zip(&one) {
                assert!((found - expected).abs() <= 1e-6, "{tokens} tokens, {}: {found}", kernels.isa().name());
            }
        }
    }
}

/// The key that a query is nearest to, however large the scores.
#[test]
fn huge_scores_leave_the_largest() {
    let (tokens, head_dim) = (70, 64);
    for magnitude in [1.0, 1e3, 3e3, 1e6, 1e12, 1e15] {
        let mut random = Random(29);
        let k: Vec<f32> = random.vec(tokens * head_dim).iter().map(|x| x * magnitude).collect();
        let v: Vec<f32> = (0..tokens * head_dim).map(|i| (i / head_dim + 1) as f32).collect();
        let q = &k[3 * head_dim..][..head_dim];
        for kernels in tables() {
            // Ten times as large where they are small: one key has all the weight.
            let scale = if magnitude == 1.0 { 10.0 } else { 0.125 };
            let out = attend(kernels, scale, [q, &k, &v], head_dim);
            let (least, most) = out.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
            assert!(least > 3.97 && most < 4.03, "{} at {magnitude}: {least} to {most}", kernels.isa().name());
        }
    }
}

#[test]
fn a_negative_factor_is_that_of_the_queries() {
    let (tokens, head_dim) = (70, 32);
    let mut random = Random(41);
    let (q, kv) = (random.vec(4 * head_dim), random.vec(tokens * head_dim));
    let negated: Vec<f32> = q.iter().map(|x| -x).collect();
    for kernels in tables() {
        let (mut scratch, mut packed) = (IntScratch::default(), IntKeyValues::default());
        let view = |x| MatRef::dense(x, head_dim);
        kernels.pack_int(view(&kv), view(&kv), &mut scratch, &mut packed);
        let mut out = [(); 2].map(|()| vec![0.0; 4 * head_dim]);
        for ((out, q), scale) in out.iter_mut().zip([&q, &negated]).zip([-0.5, 0.5]) {
            kernels.attend_int(scale, view(q), &packed, &mut scratch, MatMut::dense(out, head_dim));
        }
        assert_same("negative", kernels.isa().name(), &out[0], &out[1]);
    }
}

#[test]
fn a_factor_that_is_nan_gives_nan() {
    let x = Random(43).vec(3 * 64);
    for kernels in tables() {
        for bits in [0x7fc0_0000, 0x7fc0_01ff, 0xffff_ffff] {
            let (mut scratch, mut packed, mut out) = (IntScratch::default(), IntKeyValues::default(), [0.0; 3 * 64]);
            let view = MatRef::dense(&x, 64);
            kernels.pack_int(view, view, &mut scratch, &mut packed);
            let scale = f32::from_bits(bits);
            kernels.attend_int(scale, view, &packed, &mut scratch, MatMut::dense(&mut out, 64));
            assert!(out.iter().all(|x| x.is_nan()), "{} by {bits:x}", kernels.isa().name());
        }
    }
}

#[test]
fn integer_attention_passes_nan_on() {
    let (tokens, head_dim) = (70, 32);
    for kernels in tables() {
        for place in 0..3 {
            let mut all =
                [vec![0.5f32; tokens * head_dim], vec![0.25; tokens * head_dim], vec![1.0; tokens * head_dim]];
            all[place][3] = f32::NAN;
            let [q, k, v] = &all;
            let (mut scratch, mut packed) = (IntScratch::default(), IntKeyValues::default());
            kernels.pack_int(MatRef::dense(k, head_dim), MatRef::dense(v, head_dim), &mut scratch, &mut packed);
            let mut out = vec![0.0; head_dim];
            let q = MatRef::new(&q[..head_dim], 1, head_dim, head_dim);
            kernels.attend_int(0.2, q, &packed, &mut scratch, MatMut::dense(&mut out, head_dim));
            assert!(out.iter().any(|x| x.is_nan()), "{} with NaN in {place}", kernels.isa().name());
        }
    }
}

#[test]
fn heads_of_any_width_are_taken() {
    // Wider than the scores of a block of queries: no buffer may stand in for another.
    let (tokens, head_dim) = (3, 64 * QUERY_BLOCK + 20);
    let mut random = Random(20);
    let (k, v) = (random.vec(tokens * head_dim), random.vec(tokens * head_dim));
    let scale = 1.0 / (head_dim as f32).sqrt();
    let expected = attention(&k, &k, &v, head_dim, f64::from(scale));
    let mut first: Option<Vec<f32>> = None;
    for kernels in tables() {
        let out = attend(kernels, scale, [&k, &k, &v], head_dim);
        assert_same("a wide head", kernels.isa().name(), &out, first.get_or_insert_with(|| out.clone()));
        for (found, expected) in out.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 0.03, "{found}, {expected}");
        }
    }
}

#[test]
fn memory_is_read_at_any_address() {
    let bytes = vec![1u8; 5000];
    for kernels in tables() {
        for from in 0..8 {
            // Four bytes of 1 are a small positive number.
            for streams in [Streams::One, Streams::Two] {
                let max = kernels.read_memory(&bytes[from..], streams);
                assert_eq!(max, 0x0101_0101, "{} from {from}", kernels.isa().name());
            }
        }
    }
}
