//! Runs each f32 operation on every instruction set that this CPU has. Results must have the same bits on all of them, and be within a
//! bound of an f64 reference. ISAs that cannot run here are printed; `TRIVEC_REQUIRE_ISA=avx512` (a comma-separated list) makes the
//! tests fail if one of the list is among them.

use trivec_kernels::{AttentionShape, DEPTH_BLOCK, Isa, KEY_TILE, Kernels, LANES, MatMut, MatRef, QUERY_BLOCK};

/// A small generator with good bits (xorshift64*), so that tests need no dependency.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Roughly normal: the sum of four uniforms.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum::<f32>() * 1.7
    }

    fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }
}

/// The kernels of every ISA that this CPU has. Prints the others, and fails if one of these is required.
fn tables() -> Vec<&'static Kernels> {
    let required = std::env::var("TRIVEC_REQUIRE_ISA").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(Isa::ALL.iter().any(|isa| isa.name() == name), "TRIVEC_REQUIRE_ISA: there is no `{name}`");
    }
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_supported()) {
        println!("SKIPPED: this CPU has no {}", isa.name());
        assert!(!required.split(',').any(|name| name == isa.name()), "{} is required", isa.name());
    }
    Kernels::all_supported()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Runs `f` with the kernels of every ISA, asserts that all results have the same bits, and returns these.
fn same_on_all(what: &str, f: impl Fn(&Kernels) -> Vec<f32>) -> Vec<f32> {
    let tables = tables();
    let expected = f(tables[0]);
    for table in &tables[1..] {
        let found = f(table);
        if let Some(at) = (0..expected.len()).find(|&i| expected[i].to_bits() != found[i].to_bits()) {
            panic!(
                "{what}: {} gives {} at {at}, {} gives {}",
                tables[0].isa().name(),
                expected[at],
                table.isa().name(),
                found[at]
            );
        }
    }
    expected
}

/// Fails unless every `found` is within `bound(i)` of `expected` (NaN fails).
fn assert_close(what: &str, found: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= bound(i), "{what} at {i}: {found} is {error:e} from {expected}, allowed {:e}", bound(i));
    }
}

mod the_judge {
    use super::assert_close;

    #[test]
    #[should_panic(expected = "at 0")]
    fn sees_a_wrong_sign() {
        assert_close("judge", &[-1.0], &[1.0], |_| 1e-3);
    }

    #[test]
    #[should_panic(expected = "at 1")]
    fn sees_nan() {
        assert_close("judge", &[0.0, f32::NAN], &[0.0, 0.0], |_| 1e9);
    }

    #[test]
    #[should_panic(expected = "lengths")]
    fn sees_a_missing_value() {
        assert_close("judge", &[], &[0.0], |_| 1.0);
    }
}

#[test]
fn dot_over_all_lengths_and_alignments() {
    let mut random = Random(1);
    let (a, b) = (random.vec(4 * LANES + 8), random.vec(4 * LANES + 8));
    for len in 0..=3 * LANES {
        for offset in 0..3 {
            let (a, b) = (&a[offset..][..len], &b[2 * offset..][..len]);
            let found = same_on_all("dot", |k| vec![k.dot(a, b)]);
            let expected: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let size: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a * b).abs()).sum();
            // len/16 + 4 roundings (and two to spare), each of half an ulp of at most `size`.
            let bound = size * (len as f64 / 16.0 + 6.0) * f64::from(f32::EPSILON) / 2.0;
            assert_close(&format!("dot of {len}"), &found, &[expected], |_| bound);
        }
    }
}

#[test]
fn linear_over_tile_edges() {
    let mut random = Random(2);
    let depths = [1, 5, LANES, LANES + 1, 63, 64, DEPTH_BLOCK - 1, DEPTH_BLOCK, DEPTH_BLOCK + 7, 2 * DEPTH_BLOCK + 16];
    for rows in [0, 1, 2, 3, 5, 6, 7, 12, 13] {
        for outputs in [1, 2, 3, 4, 5, 8, 11] {
            for depth in depths {
                let (ldx, ldw, ldo) = (depth + rows % 3, depth + outputs % 2, outputs + 2);
                let (x, w, bias) = (random.vec(rows * ldx), random.vec(outputs * ldw), random.vec(outputs));
                let (x, w) = (MatRef::new(&x, rows, depth, ldx), MatRef::new(&w, outputs, depth, ldw));
                for bias in [None, Some(bias.as_slice())] {
                    // Whatever `out` held (7) is overwritten, and the gaps between its rows keep it.
                    let what = format!("linear [{rows}, {depth}] x [{outputs}, {depth}]");
                    let found = same_on_all(&what, |k| {
                        let mut out = vec![7.0; rows * ldo];
                        k.linear(x, w, bias, MatMut::new(&mut out, rows, outputs, ldo));
                        out
                    });
                    for row in 0..rows {
                        for output in 0..ldo {
                            let value = found[row * ldo + output];
                            if output >= outputs {
                                assert_eq!(value, 7.0, "{what}: wrote between the rows");
                                continue;
                            }
                            let products =
                                || x.row(row).iter().zip(w.row(output)).map(|(&a, &b)| f64::from(a) * f64::from(b));
                            let b = bias.map_or(0.0, |bias| f64::from(bias[output]));
                            let size = products().map(f64::abs).sum::<f64>() + b.abs();
                            // A block of the depth has depth/16 + 4 roundings; those of adding blocks and bias are fewer than six.
                            let bound =
                                size * (depth.min(DEPTH_BLOCK) as f64 / 16.0 + 10.0) * f64::from(f32::EPSILON) / 2.0;
                            assert_close(&what, &[value], &[products().sum::<f64>() + b], |_| bound);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_of_linear_does_not_depend_on_its_neighbours() {
    let mut random = Random(3);
    let (rows, outputs, depth) = (29, 23, DEPTH_BLOCK + 40);
    let (x, w) = (random.vec(rows * depth), random.vec(outputs * depth));
    for kernels in tables() {
        let mut together = vec![0.0; rows * outputs];
        kernels.linear(MatRef::dense(&x, depth), MatRef::dense(&w, depth), None, MatMut::dense(&mut together, outputs));
        for row in 0..rows {
            let mut alone = vec![0.0; outputs];
            let x = &x[row * depth..][..depth];
            kernels.linear(MatRef::dense(x, depth), MatRef::dense(&w, depth), None, MatMut::dense(&mut alone, outputs));
            assert_eq!(bits(&alone), bits(&together[row * outputs..][..outputs]), "{} row {row}", kernels.isa().name());
        }
        for output in 0..outputs {
            let mut alone = vec![0.0; rows];
            let w = &w[output * depth..][..depth];
            kernels.linear(MatRef::dense(&x, depth), MatRef::dense(w, depth), None, MatMut::dense(&mut alone, 1));
            let column: Vec<f32> = (0..rows).map(|row| together[row * outputs + output]).collect();
            assert_eq!(bits(&alone), bits(&column), "{} output {output}", kernels.isa().name());
        }
    }
}

#[test]
fn layer_norm_over_all_lengths() {
    let mut random = Random(4);
    for len in (1..=3 * LANES).chain([384, 1024]) {
        let (x, gain, bias) = (random.vec(len), random.vec(len), random.vec(len));
        let found = same_on_all("layer_norm", |k| {
            let mut row = x.clone();
            k.layer_norm(&mut row, &gain, &bias, 1e-5);
            row
        });
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / len as f64;
        let expected: Vec<f64> = (0..len)
            .map(|i| (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt() * f64::from(gain[i]) + f64::from(bias[i]))
            .collect();
        // The rounding error of the mean is in every difference to it, and dividing by a small deviation enlarges it.
        let loss = 1e-6 * (1.0 + 1.0 / (variance + 1e-5).sqrt());
        assert_close(&format!("layer_norm of {len}"), &found, &expected, |i| {
            loss * (1.0 + f64::from(gain[i]).abs() * 4.0)
        });
    }
    let constant = same_on_all("layer_norm", |k| {
        let mut row = vec![3.0; 40];
        k.layer_norm(&mut row, &[1.0; 40], &[0.5; 40], 1e-5);
        row
    });
    assert_close("a constant row", &constant, &[0.5; 40], |_| 1e-6);
}

/// `erf` in f64 by its series (small arguments) and continued fraction (large), good to 1e-14.
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 2.5 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..200).rev().fold(0.0, |tail, n| f64::from(n) / 2.0 / (z + tail));
        1.0 - (-z * z).exp() / ((z + fraction) * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

#[test]
fn gelu_over_a_dense_sweep() {
    let x: Vec<f32> = (-60_000..=60_000).map(|i| i as f32 * 1.7e-4).chain([0.0, -0.0, 1e-30, -1e30, 1e30]).collect();
    let found = same_on_all("gelu", |k| {
        let mut values = x.clone();
        k.gelu(&mut values);
        values
    });
    let expected: Vec<f64> =
        x.iter().map(|&x| f64::from(x) / 2.0 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2))).collect();
    assert_close("gelu", &found, &expected, |i| 2.5e-7 * f64::from(x[i].abs()));
    let nan = same_on_all("gelu of NaN", |k| {
        let mut values = vec![f32::NAN];
        k.gelu(&mut values);
        vec![f32::from(u8::from(values[0].is_nan()))]
    });
    assert_eq!(nan, [1.0]);
}

#[test]
fn l2_normalize_keeps_zero_rows() {
    let found = same_on_all("l2_normalize", |k| {
        let mut rows = vec![0.0, 0.0, 3.0, 4.0];
        k.l2_normalize(&mut rows[..2]);
        k.l2_normalize(&mut rows[2..]);
        rows
    });
    assert_close("l2_normalize", &found, &[0.0, 0.0, 0.6, 0.8], |_| 1e-7);
}

/// Attention of one head over a whole text, block by block.
fn attention(kernels: &Kernels, shape: AttentionShape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let AttentionShape { tokens, head_dim, .. } = shape;
    let mut packed = vec![f32::NAN; shape.packed_keys_len()];
    kernels.pack_keys(MatRef::dense(k, head_dim), &mut packed);
    // Scratch and outputs begin as NaN, which would show if they were read before they are written.
    let mut scratch = vec![f32::NAN; shape.scratch_len()];
    let mut out = vec![f32::NAN; tokens * head_dim];
    for from in (0..tokens).step_by(QUERY_BLOCK) {
        let rows = (tokens - from).min(QUERY_BLOCK);
        let queries = MatRef::dense(q, head_dim).rows_from(from, rows);
        let out = MatMut::dense(&mut out[from * head_dim..][..rows * head_dim], head_dim);
        kernels.attend(shape, queries, &packed, MatRef::dense(v, head_dim), &mut scratch, out);
    }
    out
}

#[test]
fn attention_over_tile_edges() {
    let mut random = Random(5);
    for head_dim in [1, 8, 16, 20, 32, 48, 64, 80, 128] {
        for tokens in
            [1, 2, 3, 6, 7, QUERY_BLOCK - 1, QUERY_BLOCK + 1, KEY_TILE - 1, KEY_TILE, KEY_TILE + 1, 2 * KEY_TILE + 5]
        {
            let scale = 1.0 / (head_dim as f32).sqrt();
            let shape = AttentionShape { tokens, head_dim, scale };
            let mut matrix = || random.vec(tokens * head_dim).iter().map(|x| x * 2.0).collect::<Vec<f32>>();
            let (q, k, v) = (matrix(), matrix(), matrix());
            let what = format!("attention over {tokens} tokens of {head_dim}");
            let found = same_on_all(&what, |kernels| attention(kernels, shape, &q, &k, &v));
            let row =
                |m: &[f32], i: usize| m[i * head_dim..][..head_dim].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            for i in 0..tokens {
                let scores: Vec<f64> = (0..tokens)
                    .map(|j| row(&q, i).iter().zip(row(&k, j)).map(|(a, b)| a * b).sum::<f64>() * f64::from(scale))
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let total: f64 = weights.iter().sum();
                let expected: Vec<f64> = (0..head_dim)
                    .map(|d| (0..tokens).map(|j| weights[j] * f64::from(v[j * head_dim + d])).sum::<f64>() / total)
                    .collect();
                // Scores reach about 50; their error enters the exponent.
                assert_close(&what, &found[i * head_dim..][..head_dim], &expected, |_| 3e-5);
            }
        }
    }
}

/// The other tests compare the ISAs of one CPU. This one compares architectures: the expected hash was computed on x86-64.
#[test]
fn bits_are_the_same_on_every_architecture() {
    let mut random = Random(6);
    let (rows, outputs, depth) = (7, 9, DEPTH_BLOCK + 21);
    let (x, w, bias) = (random.vec(rows * depth), random.vec(outputs * depth), random.vec(outputs));
    let shape = AttentionShape { tokens: KEY_TILE + 9, head_dim: 20, scale: 0.25 };
    let mut matrix = || random.vec(shape.tokens * shape.head_dim);
    let (q, k, v) = (matrix(), matrix(), matrix());
    let values = same_on_all("every kernel", |kernels| {
        let mut all = vec![0.0; rows * outputs];
        let (x, w) = (MatRef::dense(&x, depth), MatRef::dense(&w, depth));
        kernels.linear(x, w, Some(&bias), MatMut::dense(&mut all, outputs));
        all.push(kernels.dot(x.row(0), w.row(0)));
        let mut row = x.row(1).to_vec();
        kernels.gelu(&mut row);
        all.extend(&row);
        kernels.layer_norm(&mut row, x.row(2), w.row(2), 1e-5);
        all.extend(&row);
        kernels.l2_normalize(&mut row);
        all.extend(&row);
        all.extend(attention(kernels, shape, &q, &k, &v));
        all
    });
    // The FNV-1a hash of all bits.
    let hash = values.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, value| {
        value.to_le_bytes().iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    });
    assert_eq!(hash, 0xd78c_de84_9b70_0de9, "{hash:#018x}: another value means other bits in every embedding");
}

#[test]
fn attention_survives_extreme_scores() {
    let (tokens, head_dim) = (KEY_TILE + 3, 4);
    let shape = AttentionShape { tokens, head_dim, scale: 1.0 };
    let q = vec![100.0; tokens * head_dim];
    let mut k = vec![-100.0; tokens * head_dim];
    k[(tokens - 1) * head_dim..].fill(100.0);
    let v: Vec<f32> = (0..tokens * head_dim).map(|i| (i / head_dim) as f32).collect();
    let found = same_on_all("attention", |kernels| attention(kernels, shape, &q, &k, &v));
    assert!(found.iter().all(|&x| x == (tokens - 1) as f32), "all weight is on the last key: {:?}", &found[..4]);
}

#[test]
fn the_error_names_an_isa_that_is_unknown_or_not_supported() {
    let error = Kernels::by_name("mmx").unwrap_err().to_string();
    assert!(error.contains("`mmx` is unknown") && error.contains("scalar"), "{error}");
    assert_eq!(Kernels::by_name("scalar").unwrap().isa(), Isa::Scalar);
    let elsewhere: &[&str] = if cfg!(target_arch = "x86_64") {
        &["neon", "neondot", "neoni8mm"]
    } else if cfg!(target_arch = "aarch64") {
        &["avx2", "avx512", "avx512vnni"]
    } else {
        &["neon", "avx2", "avx512"]
    };
    for name in elsewhere {
        let error = Kernels::by_name(name).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` is not supported by this CPU")), "{error}");
    }
}
