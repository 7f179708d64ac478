//! Runs integer attention on every instruction set that this CPU has. Results must have the same bits on all of them, and be close to attention in
//! f64. A last test is for `read_memory`. `TRIVEC_REQUIRE_ISA` makes a test fail if an ISA that it lists cannot run here.

mod common;

use common::{Random, assert_same, tables};
use trivec_kernels::{IntKeyValues, IntScratch, Isa, Kernels, MatMut, MatRef, QUERY_BLOCK, Streams};

/// The reference: attention in f64.
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

/// Integer attention with the kernels of an ISA, in new buffers.
fn attend(kernels: &Kernels, scale: f32, [q, k, v]: [&[f32]; 3], head_dim: usize) -> Vec<f32> {
    let (mut scratch, mut packed) = (IntScratch::default(), IntKeyValues::default());
    let view = |x| MatRef::dense(x, head_dim);
    kernels.pack_int(view(k), view(v), &mut scratch, &mut packed);
    let mut out = vec![0.0; q.len()];
    kernels.attend_int(scale, view(q), &packed, &mut scratch, MatMut::dense(&mut out, head_dim));
    out
}

#[test]
fn integer_attention_is_the_same_on_every_isa_and_close_to_f64() {
    let mut random = Random(19);
    let mut buffers: Vec<(IntKeyValues, IntScratch)> = Vec::new();
    buffers.resize_with(Isa::ALL.len(), Default::default);
    // The buffers are used again and again, by wide heads before narrow ones and back, and by long texts before short ones, because nothing that
    // an earlier use left in them may change a result.
    for head_dim in [128, 80, 64, 32, 24, 16, 4, 1, 24, 80] {
        let scale = 1.0 / (head_dim as f32).sqrt();
        for tokens in [150, 1, 2, 63, 64, 65, 129] {
            let queries = tokens.min(QUERY_BLOCK);
            // All keys have a large part in common, as those of trained models have.
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
                // A query alone has the same result as among others.
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

/// One key has a score far above all others, as that of the first or last token of a trained model can be. The many small weights of the others
/// must still count together.
#[test]
fn many_small_weights_count_next_to_a_large_one() {
    let (head_dim, queries) = (64, 2);
    let mut random = Random(23);
    for (tokens, place) in [(512, 0), (2048, 2047), (8192, 0)] {
        for gap in [8.0, 10.4, 11.0, 13.0] {
            // Only the first dimension contributes to the scores: 0 for all keys but one, `gap` for that one.
            let mut k = vec![0.0; tokens * head_dim];
            k[place * head_dim] = gap;
            let mut q = vec![0.0; queries * head_dim];
            q.chunks_exact_mut(head_dim).for_each(|q| q[0] = 1.0);
            // The values of the many keys are all near 1, so that their weighted sum is not near 0.
            let mut v = random.vec(tokens * head_dim);
            v.iter_mut().for_each(|v| *v = 0.25 * *v + 1.0);
            v[place * head_dim..][..head_dim].fill(0.0);
            let expected = attention(&q, &k, &v, head_dim, 1.0);
            for kernels in tables() {
                let out = attend(kernels, 1.0, [&q, &k, &v], head_dim);
                for (found, expected) in out.iter().zip(&expected) {
                    let error = (f64::from(*found) - expected).abs();
                    // 3 % for the small weights. Then the rounding of the large one's value, which is about 1.25 away from the mean: half of a
                    // step of 1.25 / 127.
                    let most = 0.03 * expected + 1.25 / 254.0;
                    assert!(error < most, "{tokens} tokens, gap {gap}, {}: {found}, {expected}", kernels.isa().name());
                }
            }
        }
    }
}

/// Each token's value has its own scale, so that a few large values cost the others little precision, and zeros cost nothing.
#[test]
fn values_of_very_different_sizes_keep_their_precision() {
    let (head_dim, queries) = (64, 7);
    let mut random = Random(31);
    for tokens in [1, 5, 64, 70, 300] {
        for spread in [0, 1, 4, 9] {
            let (mut q, k) = (random.vec(queries * head_dim), random.vec(tokens * head_dim));
            // To the first query all keys are alike, so that its only errors are the rounding of values and of weights. It has a tighter bound.
            q[..head_dim].fill(0.0);
            let mut v = random.vec(tokens * head_dim);
            for (token, v) in v.chunks_exact_mut(head_dim).enumerate() {
                // In each ten tokens, values get ten times smaller from one to the next, `spread` times. With a spread of 9, the last but one
                // is zero and the last subnormal.
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

/// However large the values are that a query does not attend to, they must not take precision from those that it attends to.
#[test]
fn values_without_weight_do_not_spoil_the_others() {
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
                        // A value that is more than 2^80 (1.2e24) times larger makes all others count as the mean, so only their range, 1 to 7,
                        // is left.
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

/// If all values are the same, the output is that value, because the mean is not rounded to bytes.
#[test]
fn equal_values_come_out_unchanged() {
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

/// The key with the largest score gets all the weight, however large the scores are. The query equals key 3, whose value is 4.
#[test]
fn the_key_with_the_largest_of_huge_scores_gets_all_the_weight() {
    let (tokens, head_dim) = (70, 64);
    for magnitude in [1.0, 1e3, 3e3, 1e6, 1e12, 1e15] {
        let mut random = Random(29);
        let k: Vec<f32> = random.vec(tokens * head_dim).iter().map(|x| x * magnitude).collect();
        let v: Vec<f32> = (0..tokens * head_dim).map(|i| (i / head_dim + 1) as f32).collect();
        let q = &k[3 * head_dim..][..head_dim];
        for kernels in tables() {
            // Keys of the usual size need a large factor, so that one key gets all the weight.
            let scale = if magnitude == 1.0 { 10.0 } else { 0.125 };
            let out = attend(kernels, scale, [q, &k, &v], head_dim);
            let (least, most) = out.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
            assert!(least > 3.97 && most < 4.03, "{} at {magnitude}: {least} to {most}", kernels.isa().name());
        }
    }
}

#[test]
fn a_negative_scale_is_the_same_as_negated_queries() {
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
fn a_scale_of_nan_gives_nan() {
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
fn a_head_wider_than_a_block_of_scores_works() {
    // A head wider than the buffer of a block's scores (48 x 64), in case a buffer of that size is used for a row.
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
            // Four bytes of 1 are a small positive f32 at any alignment, so it is the largest of all.
            for streams in [Streams::One, Streams::Two] {
                let max = kernels.read_memory(&bytes[from..], streams);
                assert_eq!(max, 0x0101_0101, "{} from {from}", kernels.isa().name());
            }
        }
    }
}
