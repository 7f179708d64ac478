//! Runs the integer and 16-bit kernels on every instruction set that this CPU has. Integer products, and what prepares and finishes them, must have
//! the same bits on all ISAs and as a plain reference; bf16 products must be within a bound. `TRIVEC_REQUIRE_ISA=avx512vnni` (a comma-separated
//! list) makes the tests fail if an ISA of the list cannot run here.

mod common;

use common::{PLAIN, Random, Rows, assert_same, int8_panels, tables};
use half::{bf16, f16};
use trivec_kernels::{
    Epilogue, I4_BLOCK, Kernels, MAX_INT_DEPTH, MatMut, MatRef, PANEL, Panels, Prepare, Rows8, Rows8Kind, rotation_for,
    row8_stride,
};

#[test]
fn int8_products_are_exact_on_every_isa() {
    let mut random = Random(11);
    for depth in [1, 3, 4, 5, 16, 63, 64, 100, 128, 260, 384, 1024] {
        for outputs in [1, 16, 31, 32, 33, 64, 70] {
            let rows = if depth > 100 { 35 } else { 50 };
            let weights: Vec<i8> = (0..outputs * depth).map(|_| random.i8()).collect();
            let panels = int8_panels(&weights, outputs, depth);
            let (values, scales, bias) = (random.vec(rows * depth), random.vec(outputs), random.vec(outputs));
            for take in (0..=14).chain([16, 17, 32, 33, rows]) {
                for (scales, bias) in [(Some(&scales[..]), Some(&bias[..])), (None, None)] {
                    for kernels in tables() {
                        let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &values[..take * depth], depth);
                        let mut expected = vec![-7.0; take * (outputs + 1)];
                        for r in 0..take {
                            for o in 0..outputs {
                                let acc: i64 =
                                    (0..depth).map(|d| i64::from(x.at(r, d)) * i64::from(weights[o * depth + d])).sum();
                                let scaled = acc as f32 * x.scales[r];
                                expected[r * (outputs + 1) + o] =
                                    scaled.mul_add(scales.map_or(1.0, |s| s[o]), bias.map_or(0.0, |b| b[o]));
                            }
                        }
                        // Rows of `out` lie one value further apart than needed; the -7 between them must stay.
                        let mut out = vec![-7.0; take * (outputs + 1)];
                        let view = MatMut::new(&mut out, take, outputs, outputs + 1);
                        let w = Panels::new(&panels, outputs, depth.next_multiple_of(4) * PANEL);
                        kernels.linear_i8(x.view(), w, Epilogue { scales, bias, gelu: false }, view);
                        assert_same(
                            &format!("int8 [{take}, {depth}] x {outputs}"),
                            kernels.isa().name(),
                            &out,
                            &expected,
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn int8_products_of_extremes_do_not_saturate() {
    let (depth, outputs) = (4096, 32);
    for weight in [-127i8, 127] {
        let panels = int8_panels(&vec![weight; outputs * depth], outputs, depth);
        for value in [-3.0f32, 3.0] {
            for kernels in tables() {
                let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &vec![value; depth], depth);
                let mut out = vec![0.0; outputs];
                let w = Panels::new(&panels, outputs, depth * PANEL);
                kernels.linear_i8(x.view(), w, Epilogue::default(), MatMut::dense(&mut out, outputs));
                let acc = 127.0 * value.signum() * f32::from(weight) * depth as f32;
                assert_same("extremes", kernels.isa().name(), &out, &vec![acc * x.scales[0]; outputs]);
            }
        }
    }
}

/// The ends and the middle of the bytes that weights can be stored as, also 0 (the weight -128), with activations of ±127, up to the largest
/// depth. One to seven rows give tiles of several shapes.
#[test]
fn int8_products_of_extreme_stored_bytes_are_exact() {
    let outputs = 32;
    for depth in [4, 8, 12, 36, 4100, MAX_INT_DEPTH] {
        let rows = if depth == MAX_INT_DEPTH { 2 } else { 7 };
        let stride = row8_stride(depth);
        // The bytes between rows (99) must not be multiplied.
        let mut data = vec![99i8; rows * stride];
        for (r, row) in data.chunks_exact_mut(stride).enumerate() {
            let sign = |d: usize| if r % 2 == 0 || d.is_multiple_of(3) { 127 } else { -127 };
            row[..depth].iter_mut().enumerate().for_each(|(d, a)| *a = sign(d));
        }
        let sum = |row: &[i8]| row[..depth].iter().map(|&a| i32::from(a)).sum::<i32>();
        let offsets: Vec<i32> = data.chunks_exact(stride).map(|row| -128 * sum(row)).collect();
        let scales = vec![1.0; rows];
        // All weights of an output are the same byte.
        let weight = |o: usize| [0u8, 255, 1, 128, 127, 129][o % 6];
        let panel: Vec<u8> = (0..depth * outputs).map(|i| weight(i / 4 % outputs)).collect();
        for take in 1..=rows {
            let x = Rows8::new(Rows8Kind::Int8, take, depth, &data[..take * stride], &scales[..take], &offsets[..take]);
            for kernels in tables() {
                let mut out = vec![0.0; take * outputs];
                let w = Panels::new(&panel, outputs, depth * PANEL);
                kernels.linear_i8(x, w, Epilogue::default(), MatMut::dense(&mut out, outputs));
                for (r, out) in out.chunks_exact(outputs).enumerate() {
                    let total = sum(&data[r * stride..]);
                    let expected: Vec<f32> =
                        (0..outputs).map(|o| ((i32::from(weight(o)) - 128) * total) as f32).collect();
                    assert_same(&format!("[{take}, {depth}] row {r}"), kernels.isa().name(), out, &expected);
                }
            }
        }
    }
}

/// Activations whose pairs sum to about 128, beyond which two products with stored bytes can saturate 16 bits (see `gemm/int8_split.rs`). In one
/// tile, rows have such activations nowhere, at both ends, everywhere, or in random places. 200 rows are more than are split at a time.
#[test]
fn int8_products_of_pairs_at_the_limit_of_16_bits_are_exact() {
    let mut random = Random(23);
    let outputs: usize = 40;
    for (rows, depth) in [(1, 4), (6, 8), (7, 36), (13, 100), (11, 1028), (200, 64)] {
        let stride = row8_stride(depth);
        // The bytes between rows (99) must not be multiplied.
        let mut data = vec![99i8; rows * stride];
        for (r, row) in data.chunks_exact_mut(stride).enumerate() {
            for (d, a) in row[..depth].iter_mut().enumerate() {
                let at_limit = match r % 4 {
                    0 => false,
                    1 => d < 4 || d >= depth - 4,
                    2 => true,
                    _ => random.below(20) == 0,
                };
                *a = if at_limit {
                    [127, -127, 64, -64, 65, -65, 1, -63][random.below(8) as usize]
                } else {
                    random.i8() / 4
                };
            }
        }
        let offsets: Vec<i32> = data
            .chunks_exact(stride)
            .map(|row| -128 * row[..depth].iter().map(|&a| i32::from(a)).sum::<i32>())
            .collect();
        let scales = vec![1.0; rows];
        let weights: Vec<u8> = (0..outputs.div_ceil(PANEL) * PANEL * depth)
            .map(|_| [0, 255, 128, random.i8() as u8][random.below(4) as usize])
            .collect();
        let x = Rows8::new(Rows8Kind::Int8, rows, depth, &data, &scales, &offsets);
        let w = Panels::new(&weights, outputs, depth * PANEL);
        let weight = |o: usize, d: usize| {
            let at = o / PANEL * depth * PANEL + d / 4 * 4 * PANEL + o % PANEL * 4 + d % 4;
            i32::from(weights[at]) - 128
        };
        let mut expected = vec![0.0; rows * outputs];
        for (r, expected) in expected.chunks_exact_mut(outputs).enumerate() {
            for (o, expected) in expected.iter_mut().enumerate() {
                *expected = (0..depth).map(|d| i32::from(data[r * stride + d]) * weight(o, d)).sum::<i32>() as f32;
            }
        }
        for kernels in tables() {
            let mut out = vec![0.0; rows * outputs];
            kernels.linear_i8(x, w, Epilogue::default(), MatMut::dense(&mut out, outputs));
            assert_same(&format!("[{rows}, {depth}]"), kernels.isa().name(), &out, &expected);
        }
    }
}

#[test]
fn a_part_of_the_rows_and_of_the_panels_gives_the_same_outputs() {
    let (depth, outputs) = (24, 100);
    let mut random = Random(12);
    let weights: Vec<i8> = (0..outputs * depth).map(|_| random.i8()).collect();
    let panels = int8_panels(&weights, outputs, depth);
    let values = random.vec(5 * depth);
    for kernels in tables() {
        let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &values, depth);
        let w = Panels::new(&panels, outputs, depth * PANEL);
        let (mut all, mut part) = (vec![0.0; 5 * outputs], vec![0.0; 2 * 36]);
        kernels.linear_i8(x.view(), w, Epilogue::default(), MatMut::dense(&mut all, outputs));
        let rows = x.view().rows_from(3, 2);
        kernels.linear_i8(rows, w.outputs_from(64, 36), Epilogue::default(), MatMut::dense(&mut part, 36));
        for r in 0..2 {
            assert_same("part", kernels.isa().name(), &part[r * 36..][..36], &all[(3 + r) * outputs + 64..][..36]);
        }
    }
}

#[test]
fn quantised_rows_are_the_same_on_every_isa_and_near_the_values() {
    let mut random = Random(14);
    for depth in [1, 8, 15, 16, 17, 32, 48, 64, 96, 128, 130, 384, 640, 1024] {
        let rotation = rotation_for(depth);
        assert!(depth % rotation == 0 && rotation <= 128);
        let mut values = random.vec(depth);
        values[depth / 2] *= 30.0;
        let smoothing: Vec<f32> = (0..depth).map(|_| 0.5 + random.normal().abs()).collect();
        let centre = random.vec(depth);
        for kind in [Rows8Kind::Int8, Rows8Kind::Q4_0] {
            for prepare in [PLAIN, Prepare { centre: Some(&centre), inverse_smoothing: Some(&smoothing), rotation }] {
                let expected = Rows::quantize(tables()[0], kind, prepare, &values, depth);
                for kernels in &tables()[1..] {
                    let found = Rows::quantize(kernels, kind, prepare, &values, depth);
                    assert_same(&format!("scales of {depth}"), kernels.isa().name(), &found.scales, &expected.scales);
                    assert_eq!(found.data, expected.data, "{} {depth}", kernels.isa().name());
                    assert_eq!(found.offsets, expected.offsets, "{} {depth}", kernels.isa().name());
                }
                let mut prepared = vec![0.0; depth];
                tables()[0].prepare_row(prepare, &values, &mut prepared);
                for (d, &y) in prepared.iter().enumerate() {
                    let scale = expected.scales[if kind == Rows8Kind::Q4_0 { d / I4_BLOCK } else { 0 }];
                    let q = expected.at(0, d);
                    assert!((-127..=127).contains(&q));
                    assert!((y - q as f32 * scale).abs() <= scale * 0.5001, "{y} as {q} x {scale}");
                }
                let group = if kind == Rows8Kind::Int8 { depth } else { I4_BLOCK };
                let bias = if kind == Rows8Kind::Int8 { -128 } else { -8 };
                for (index, offset) in expected.offsets.iter().enumerate() {
                    let sum: i32 = (index * group..depth.min((index + 1) * group)).map(|d| expected.at(0, d)).sum();
                    assert_eq!(*offset, bias * sum);
                }
                let padding = &expected.data[depth.next_multiple_of(16)..];
                assert!(padding.iter().all(|&byte| byte == 0), "padding of {depth}");
            }
        }
    }
}

#[test]
fn rows_of_zeros_have_scale_0_and_rows_that_are_not_finite_scale_nan() {
    for kernels in tables() {
        let zeros = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &[0.0; 40], 40);
        assert!(zeros.scales == [0.0] && zeros.offsets == [0] && zeros.data.iter().all(|&byte| byte == 0));
        let tiny = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &[f32::MIN_POSITIVE; 40], 40);
        assert!(tiny.scales == [0.0] && tiny.data.iter().all(|&byte| byte == 0));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 39] {
                let mut values = [1.0; 40];
                values[at] = bad;
                assert!(
                    Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &values, 40).scales[0].is_nan(),
                    "{bad} at {at}"
                );
            }
            // A group that is not finite always has the same NaN as its scale, and bytes of zero, because instruction sets round NaN to
            // different bytes.
            for depth in [1, 31, 64, 96, 130] {
                for kind in [Rows8Kind::Int8, Rows8Kind::Q4_0] {
                    let mut values = vec![1.0; depth];
                    values[0] = bad;
                    let found = Rows::quantize(kernels, kind, PLAIN, &values, depth);
                    let group = if kind == Rows8Kind::Int8 { depth } else { I4_BLOCK.min(depth) };
                    assert_eq!((found.scales[0].to_bits(), found.offsets[0]), (f32::NAN.to_bits(), 0), "{depth}");
                    assert!(found.data[..group].iter().all(|&byte| byte == 0), "{depth}");
                    assert!(found.data[depth.next_multiple_of(16)..].iter().all(|&byte| byte == 0), "{depth}");
                    assert!(found.scales[1..].iter().all(|scale| scale.is_finite()), "{depth}");
                }
            }
        }
    }
}

#[test]
fn the_rotation_is_its_own_inverse_up_to_a_factor() {
    let mut random = Random(15);
    for depth in [2, 4, 8, 16, 32, 64, 128, 384, 1536] {
        let prepare = Prepare { centre: None, inverse_smoothing: None, rotation: rotation_for(depth) };
        let values = random.vec(depth);
        for kernels in tables() {
            let (mut once, mut twice) = (vec![0.0; depth], vec![0.0; depth]);
            kernels.prepare_row(prepare, &values, &mut once);
            kernels.prepare_row(prepare, &once, &mut twice);
            for (d, value) in values.iter().enumerate() {
                let back = twice[d] / prepare.rotation as f32;
                assert!((back - value).abs() < 1e-5, "{} {depth} at {d}: {back}, {value}", kernels.isa().name());
            }
        }
    }
}

#[test]
fn smoothed_and_rotated_products_are_the_plain_ones() {
    let (depth, mut random) = (256, Random(16));
    let (x, w) = (random.vec(depth), random.vec(depth));
    let smoothing: Vec<f32> = (0..depth).map(|_| 0.5 + random.normal().abs()).collect();
    let inverse: Vec<f32> = smoothing.iter().map(|s| 1.0 / s).collect();
    let rotation = rotation_for(depth);
    for kernels in tables() {
        let (mut xr, mut wr) = (vec![0.0; depth], vec![0.0; depth]);
        kernels.prepare_row(Prepare { centre: None, inverse_smoothing: Some(&inverse), rotation }, &x, &mut xr);
        kernels.prepare_row(Prepare { centre: None, inverse_smoothing: Some(&smoothing), rotation }, &w, &mut wr);
        let found = kernels.dot(&xr, &wr) / rotation as f32;
        let expected = kernels.dot(&x, &w);
        assert!((found - expected).abs() < 1e-3, "{found}, {expected}");
    }
}

#[test]
fn gelu_fast_keeps_its_bound_and_layer_norm_its_bits() {
    let mut random = Random(17);
    let values: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 0.003).chain([-1e30, 1e30, -0.0]).collect();
    let row = random.vec(100);
    let (branch, gain, bias) = (random.vec(100), random.vec(100), random.vec(100));
    let mut first: Option<Vec<f32>> = None;
    for kernels in tables() {
        let mut found = values.clone();
        kernels.gelu_fast(&mut found);
        let mut exact = values.clone();
        kernels.gelu(&mut exact);
        for ((x, found), exact) in values.iter().zip(&found).zip(&exact) {
            let bound = 8e-5 + 1e-5 * x.max(0.0);
            assert!((found - exact).abs() <= bound, "gelu({x}) = {found}, {exact}");
        }
        let mut nan = [f32::NAN; 3];
        kernels.gelu_fast(&mut nan);
        assert!(nan.iter().all(|x| x.is_nan()));
        assert_same("gelu_fast", kernels.isa().name(), &found, first.get_or_insert_with(|| found.clone()));

        let mut sum: Vec<f32> = row.iter().zip(&branch).map(|(a, b)| a + b).collect();
        kernels.layer_norm(&mut sum, &gain, &bias, 1e-5);
        let mut fused = row.clone();
        kernels.add_layer_norm(&mut fused, &branch, &gain, &bias, 1e-5);
        assert_same("add_layer_norm", kernels.isa().name(), &fused, &sum);
    }
}

#[test]
fn f16_products_have_the_bits_of_a_plain_reference_and_bf16_products_are_close() {
    let mut random = Random(18);
    for depth in [1, 2, 7, 64, 130] {
        for outputs in [1, 32, 50] {
            for rows in (0..=14).chain([17, 33, 48]) {
                let (x, w, bias) = (random.vec(rows * depth), random.vec(outputs * depth), random.vec(outputs));
                let padded = depth.next_multiple_of(2);
                let mut f16s = vec![0u16; outputs.div_ceil(PANEL) * PANEL * depth];
                let mut bf16s = vec![0u16; outputs.div_ceil(PANEL) * PANEL * padded];
                for o in 0..outputs {
                    for d in 0..depth {
                        let weight = w[o * depth + d];
                        f16s[o / PANEL * PANEL * depth + d * PANEL + o % PANEL] = f16::from_f32(weight).to_bits();
                        let at = o / PANEL * PANEL * padded + (d / 2 * PANEL + o % PANEL) * 2 + d % 2;
                        bf16s[at] = bf16::from_f32(weight).to_bits();
                    }
                }
                let finish = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                let mut first: Option<Vec<f32>> = None;
                for kernels in tables() {
                    let mut found = vec![0.0; rows * outputs];
                    let panels = Panels::new(&f16s, outputs, depth * PANEL);
                    kernels.linear_f16(
                        MatRef::new(&x, rows, depth, depth),
                        panels,
                        finish,
                        MatMut::dense(&mut found, outputs),
                    );
                    let expected = first.get_or_insert_with(|| {
                        let mut expected = Vec::new();
                        for r in 0..rows {
                            for o in 0..outputs {
                                let weight = |d: usize| f16::from_f32(w[o * depth + d]).to_f32();
                                let sum = (0..depth).fold(0.0, |sum, d| weight(d).mul_add(x[r * depth + d], sum));
                                expected.push(sum + bias[o]);
                            }
                        }
                        expected
                    });
                    assert_same(&format!("f16 [{rows}, {depth}]"), kernels.isa().name(), &found, expected);

                    let mut x_bf16 = vec![0u16; rows * padded];
                    for (x, out) in x.chunks(depth).zip(x_bf16.chunks_mut(padded)) {
                        kernels.round_bf16(x, out);
                        for (x, out) in x.iter().zip(out.iter()) {
                            assert_eq!(bf16::from_f32(*x).to_bits(), *out, "{x} in bf16");
                        }
                    }
                    let panels = Panels::new(&bf16s, outputs, padded * PANEL);
                    kernels.linear_bf16(&x_bf16, padded, panels, finish, MatMut::dense(&mut found, outputs));
                    for r in 0..rows {
                        for o in 0..outputs {
                            let value = |x: f32| f64::from(bf16::from_f32(x).to_f32());
                            let products = (0..depth).map(|d| value(x[r * depth + d]) * value(w[o * depth + d]));
                            let (sum, size) = products
                                .fold((f64::from(bias[o]), f64::from(bias[o].abs())), |(sum, size), p| {
                                    (sum + p, size + p.abs())
                                });
                            let error = (f64::from(found[r * outputs + o]) - sum).abs();
                            // Each of `depth` additions rounds by up to 2^-24 of a partial sum. Instructions for bf16 add pairs; they are allowed
                            // twice as much.
                            assert!(
                                error <= size * (depth as f64 + 2.0) * 2.0f64.powi(-23),
                                "bf16 error {error:e} of {size}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "rows of 576460752303423492 values")]
#[cfg(target_pointer_width = "64")]
fn a_depth_that_wraps_round_is_refused() {
    // 32 rows, each with a stride of 2^59 + 128 bytes, are 4,096 bytes modulo 2^64.
    Rows8::new(Rows8Kind::Int8, 32, (1 << 59) + 4, &[0; 4096], &[0.0; 32], &[0; 32]);
}

#[test]
#[should_panic(expected = "depth of x and of the weight")]
fn a_weight_of_another_depth_is_refused() {
    let x = Rows::quantize(Kernels::best(), Rows8Kind::Int8, PLAIN, &[1.0; 64], 64);
    let w = Panels::new(&[128u8; 32 * 60], 32, 32 * 60);
    Kernels::best().linear_i8(x.view(), w, Epilogue::default(), MatMut::dense(&mut [0.0; 32], 32));
}

#[test]
#[should_panic(expected = "rows for int8 weights")]
fn rows_of_another_kind_are_refused() {
    let x = Rows::quantize(Kernels::best(), Rows8Kind::Q4_0, PLAIN, &[1.0; 64], 64);
    let w = Panels::new(&[128u8; 32 * 64], 32, 32 * 64);
    Kernels::best().linear_i8(x.view(), w, Epilogue::default(), MatMut::dense(&mut [0.0; 32], 32));
}

#[test]
fn special_values_become_bf16_as_the_half_crate_rounds_them() {
    let bits =
        [0x7fff_ffffu32, 0xffff_ffff, 0x7f80_0001, 0xff80_0001, 0x7fc0_0000, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 1];
    let row: Vec<f32> = bits.iter().cycle().take(37).map(|&bits| f32::from_bits(bits)).collect();
    for kernels in tables() {
        let mut out = vec![0u16; row.len()];
        kernels.round_bf16(&row, &mut out);
        for (x, out) in row.iter().zip(&out) {
            assert_eq!(bf16::from_f32(*x).to_bits(), *out, "{:x} in bf16 on {}", x.to_bits(), kernels.isa().name());
        }
    }
}

/// Numbers of rows and outputs that are too large are refused also where the sum of the first and the number wraps around.
#[test]
fn parts_beyond_the_end_are_refused_whatever_their_numbers() {
    let (depth, rows, outputs) = (8, 3, 2 * PANEL);
    let (data, scales, offsets) = (vec![0; rows * row8_stride(depth)], vec![1.0; rows], vec![0; rows]);
    let rows8 = Rows8::new(Rows8Kind::Int8, rows, depth, &data, &scales, &offsets);
    let bytes = vec![0u8; outputs * depth];
    let panels = Panels::new(&bytes, outputs, depth * PANEL);
    let message = |f: &dyn Fn()| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).expect_err("it is refused");
        panic.downcast_ref::<String>().expect("a formatted message").clone()
    };
    let last_panel = usize::MAX / PANEL * PANEL;
    for (first, number) in [(0, 4), (3, 1), (4, 0), (1, usize::MAX), (usize::MAX, 1), (usize::MAX, 3)] {
        let said = message(&|| {
            rows8.rows_from(first, number);
        });
        assert_eq!(said, format!("rows {first} + {number} of 3"));
    }
    for (first, number) in [(0, 65), (64, 1), (96, 0), (32, usize::MAX), (last_panel, 32), (last_panel, 64)] {
        let said = message(&|| {
            panels.outputs_from(first, number);
        });
        assert_eq!(said, format!("outputs {first} + {number} of 64"));
    }
    assert_eq!((rows8.rows_from(3, 0).rows(), panels.outputs_from(64, 0).outputs()), (0, 0));
}
