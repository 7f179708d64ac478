//! Runs products with weights of four bits on every instruction set that this CPU has. With int4 they must have the bits of int8 products with the
//! same integers; with a checkpoint's own blocks (q4_0), those of a plain reference.

mod common;

use common::{PLAIN, Random, Rows, assert_same, int8_panels, tables};
use half::f16;
use trivec_kernels::{
    Epilogue, I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, Kernels, MAX_INT_DEPTH, MatMut, PANEL, Panels, Q4_0_BLOCK_BYTES,
    Rows8Kind,
};

/// Int4 panels of random bytes, and the integers `[outputs, depth]` that these stand for, by the description of the layout in `gemm/int4.rs`.
fn int4_panels(random: &mut Random, outputs: usize, depth: usize) -> (Vec<u8>, Vec<i8>) {
    let groups = depth.div_ceil(I4_GROUP);
    let panels: Vec<u8> =
        (0..outputs.div_ceil(PANEL) * groups * I4_GROUP_BYTES).map(|_| (random.next() >> 32) as u8).collect();
    let mut weights = Vec::new();
    for o in 0..outputs {
        for d in 0..depth {
            let group = &panels[(o / PANEL * groups + d / I4_GROUP) * I4_GROUP_BYTES..][..I4_GROUP_BYTES];
            let (block, inside) = (d % I4_GROUP / I4_BLOCK, d % I4_BLOCK);
            let grid = i32::from(group[block * PANEL + o % PANEL]);
            let pair = group[2 * PANEL + block * 512 + (inside % 16 / 4 * PANEL + o % PANEL) * 4 + inside % 4];
            let u = i32::from(if inside < 16 { pair & 15 } else { pair >> 4 });
            // Weights beyond the range of a byte wrap around.
            weights.push(((u - (grid >> 4)) * (grid & 15)) as i8);
        }
    }
    (panels, weights)
}

#[test]
fn int4_products_are_those_of_the_integers_in_int8() {
    let mut random = Random(21);
    for depth in [1, 3, 4, 31, 32, 33, 60, 63, 64, 65, 127, 128, 129, 190, 256, 1000, 1088] {
        for outputs in [1, 16, 31, 32, 33, 64, 70] {
            let (panels, weights) = int4_panels(&mut random, outputs, depth);
            let bytes = int8_panels(&weights, outputs, depth);
            let (scales, bias) = (random.vec(outputs), random.vec(outputs));
            let values = random.vec(50 * depth);
            let few = if depth > 200 { vec![1, 2, 6, 13, 33, 50] } else { (0..=50).collect() };
            for rows in few {
                for kernels in tables() {
                    let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &values[..rows * depth], depth);
                    let finish = Epilogue { scales: Some(&scales), bias: Some(&bias), gelu: rows % 3 == 2 };
                    // Rows of `out` lie one value further apart than needed; the -7 between them must stay.
                    let mut out = [vec![-7.0; rows * (outputs + 1)], vec![-7.0; rows * (outputs + 1)]];
                    let [found, expected] = out.each_mut().map(|out| MatMut::new(out, rows, outputs, outputs + 1));
                    let w = Panels::new(&panels, outputs, depth.div_ceil(I4_GROUP) * I4_GROUP_BYTES);
                    kernels.linear_i4(x.view(), w, finish, found);
                    let w = Panels::new(&bytes, outputs, depth.next_multiple_of(4) * PANEL);
                    kernels.linear_i8(x.view(), w, finish, expected);
                    let what = format!("int4 [{rows}, {depth}] x {outputs}");
                    assert_same(&what, kernels.isa().name(), &out[0], &out[1]);
                    if rows == 2 && outputs < 40 {
                        for (o, out) in out[0][..outputs].iter().enumerate() {
                            let sum = (0..depth).map(|d| x.at(0, d) * i32::from(weights[o * depth + d])).sum::<i32>();
                            let mut value = [(sum as f32 * x.scales[0]).mul_add(scales[o], bias[o])];
                            kernels.gelu_fast(&mut value);
                            assert_same(&what, kernels.isa().name(), &[*out], &value);
                        }
                    }
                }
            }
        }
    }
}

/// A thread's memory for an unpacked panel keeps the size of the deepest product so far. What that product left there must not change the result
/// of one that is less deep.
#[test]
fn products_do_not_see_each_others_panels() {
    let mut random = Random(22);
    let (rows, outputs, deep, flat) = (30, 40, 4096, 100);
    let (panels, weights) = int4_panels(&mut random, outputs, flat);
    let (bytes, values) = (int8_panels(&weights, outputs, flat), random.vec(rows * flat));
    let (more, _) = int4_panels(&mut random, outputs, deep);
    let many = random.vec(rows * deep);
    for kernels in tables() {
        let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &values, flat);
        let w = Panels::new(&bytes, outputs, flat * PANEL);
        let mut expected = vec![0.0; rows * outputs];
        kernels.linear_i8(x.view(), w, Epilogue::default(), MatMut::dense(&mut expected, outputs));
        let check = || {
            let w = Panels::new(&panels, outputs, flat.div_ceil(I4_GROUP) * I4_GROUP_BYTES);
            let mut found = vec![0.0; rows * outputs];
            kernels.linear_i4(x.view(), w, Epilogue::default(), MatMut::dense(&mut found, outputs));
            assert_same("flat", kernels.isa().name(), &found, &expected);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                check();
                let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &many, deep);
                let w = Panels::new(&more, outputs, deep / I4_GROUP * I4_GROUP_BYTES);
                kernels.linear_i4(
                    x.view(),
                    w,
                    Epilogue::default(),
                    MatMut::dense(&mut vec![0.0; rows * outputs], outputs),
                );
                check();
            });
        });
    }
}

/// The largest weights and activations, up to the largest depth.
#[test]
fn int4_products_of_extremes_do_not_overflow() {
    let outputs = 32;
    for depth in [64, 4096, MAX_INT_DEPTH] {
        // Each is a grid (`m | z << 4`), a nibble `u` and their weight `(u - z) · m`. `pack` writes no grid whose weights go beyond a byte, as
        // those of 0xff and 0x0f do: -225 and 225 wrap around to 31 and -31.
        for (grid, u, weight) in
            [(0x8f, 0, -120), (0x08, 15, 120), (0xf1, 15, 0), (0xff, 0, 31), (0x0f, 15, -31), (0x80, 0, 0)]
        {
            let mut panel = vec![u | u << 4; depth / I4_GROUP * I4_GROUP_BYTES];
            panel.chunks_exact_mut(I4_GROUP_BYTES).for_each(|group| group[..2 * PANEL].fill(grid));
            for (value, rows) in [(-3.0f32, 1), (3.0, 1), (-3.0, 30), (3.0, 30)] {
                for kernels in tables() {
                    let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &vec![value; rows * depth], depth);
                    let w = Panels::new(&panel, outputs, panel.len());
                    let mut out = vec![0.0; rows * outputs];
                    kernels.linear_i4(x.view(), w, Epilogue::default(), MatMut::dense(&mut out, outputs));
                    let acc = 127 * value.signum() as i32 * weight * depth as i32;
                    let expected = vec![acc as f32 * x.scales[0]; rows * outputs];
                    assert_same("extremes", kernels.isa().name(), &out, &expected);
                }
            }
        }
    }
}

#[test]
fn a_part_of_the_rows_and_of_the_int4_panels_gives_the_same_outputs() {
    let (depth, outputs) = (100, 100);
    let mut random = Random(23);
    let (panels, _) = int4_panels(&mut random, outputs, depth);
    let values = random.vec(50 * depth);
    // All rows, and the row from which on they are multiplied again: few of few, few of many, and many of many.
    for (rows, first) in [(5, 3), (50, 48), (50, 10)] {
        for kernels in tables() {
            let x = Rows::quantize(kernels, Rows8Kind::Int8, PLAIN, &values[..rows * depth], depth);
            let w = Panels::new(&panels, outputs, depth.div_ceil(I4_GROUP) * I4_GROUP_BYTES);
            let (mut all, mut part) = (vec![0.0; rows * outputs], vec![0.0; (rows - first) * 36]);
            kernels.linear_i4(x.view(), w, Epilogue::default(), MatMut::dense(&mut all, outputs));
            let few = x.view().rows_from(first, rows - first);
            kernels.linear_i4(few, w.outputs_from(64, 36), Epilogue::default(), MatMut::dense(&mut part, 36));
            for (part, all) in part.chunks_exact(36).zip(all.chunks_exact(outputs).skip(first)) {
                assert_same("part", kernels.isa().name(), part, &all[64..]);
            }
        }
    }
}

#[test]
#[should_panic(expected = "depth of x and of the weight")]
fn an_int4_weight_of_another_depth_is_refused() {
    let x = Rows::quantize(Kernels::best(), Rows8Kind::Int8, PLAIN, &[1.0; 65], 65);
    let w = Panels::new(&[8u8; I4_GROUP_BYTES], 32, I4_GROUP_BYTES);
    Kernels::best().linear_i4(x.view(), w, Epilogue::default(), MatMut::dense(&mut [0.0; 32], 32));
}

#[test]
#[should_panic(expected = "rows for int4 weights")]
fn rows_for_q4_0_are_refused_by_int4() {
    let x = Rows::quantize(Kernels::best(), Rows8Kind::Q4_0, PLAIN, &[1.0; 64], 64);
    let w = Panels::new(&[8u8; I4_GROUP_BYTES], 32, I4_GROUP_BYTES);
    Kernels::best().linear_i4(x.view(), w, Epilogue::default(), MatMut::dense(&mut [0.0; 32], 32));
}

#[test]
fn products_with_q4_0_blocks_are_exact_on_every_isa() {
    let mut random = Random(13);
    for blocks in [1, 2, 5, 32, 37] {
        let depth = blocks * I4_BLOCK;
        for outputs in [1, 32, 45] {
            let weights: Vec<u8> = (0..outputs * depth).map(|_| random.below(16) as u8).collect();
            let block_scales: Vec<f16> = (0..outputs * blocks).map(|_| f16::from_f32(random.normal() * 0.1)).collect();
            let mut panels = vec![0u8; outputs.div_ceil(PANEL) * blocks * Q4_0_BLOCK_BYTES];
            for o in 0..outputs {
                for block in 0..blocks {
                    let to = &mut panels[(o / PANEL * blocks + block) * Q4_0_BLOCK_BYTES..][..Q4_0_BLOCK_BYTES];
                    to[o % PANEL * 2..][..2].copy_from_slice(&block_scales[o * blocks + block].to_le_bytes());
                    for j in 0..16 {
                        let weight = |d: usize| weights[o * depth + block * I4_BLOCK + d];
                        to[PANEL * 2 + (j / 4 * PANEL + o % PANEL) * 4 + j % 4] = weight(j) | weight(j + 16) << 4;
                    }
                }
            }
            let bias = random.vec(outputs);
            for rows in (0..=17).chain([33, 48, 63]) {
                let values = random.vec(rows * depth);
                for kernels in tables() {
                    let x = Rows::quantize(kernels, Rows8Kind::Q4_0, PLAIN, &values, depth);
                    let mut expected = Vec::new();
                    for r in 0..rows {
                        for o in 0..outputs {
                            let mut sum = 0.0f32;
                            for block in 0..blocks {
                                let from = block * I4_BLOCK;
                                let product = |d: usize| x.at(r, d) * (i32::from(weights[o * depth + d]) - 8);
                                let acc: i32 = (from..from + I4_BLOCK).map(product).sum();
                                let value = acc as f32 * x.scales[r * blocks + block];
                                sum = value.mul_add(block_scales[o * blocks + block].to_f32(), sum);
                            }
                            expected.push(sum + bias[o]);
                        }
                    }
                    let mut out = vec![0.0; rows * outputs];
                    let w = Panels::new(&panels, outputs, blocks * Q4_0_BLOCK_BYTES);
                    let finish = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                    kernels.linear_q4_0(x.view(), w, finish, MatMut::dense(&mut out, outputs));
                    assert_same(&format!("[{rows}, {depth}] x {outputs}"), kernels.isa().name(), &out, &expected);
                }
            }
        }
    }
}

/// Blocks of the largest nibbles and activations, which sums in 16 bits must be able to hold.
#[test]
fn products_with_q4_0_blocks_of_extremes_do_not_overflow() {
    let (blocks, outputs) = (3, PANEL);
    let depth = blocks * I4_BLOCK;
    for nibble in [0u8, 15] {
        let mut panels = vec![nibble | nibble << 4; blocks * Q4_0_BLOCK_BYTES];
        for block in panels.chunks_exact_mut(Q4_0_BLOCK_BYTES) {
            block[..PANEL * 2].chunks_exact_mut(2).for_each(|scale| scale.copy_from_slice(&f16::ONE.to_le_bytes()));
        }
        for value in [-3.0f32, 3.0] {
            for kernels in tables() {
                for rows in 1..=9 {
                    let x = Rows::quantize(kernels, Rows8Kind::Q4_0, PLAIN, &vec![value; rows * depth], depth);
                    let mut out = vec![0.0; rows * outputs];
                    let w = Panels::new(&panels, outputs, blocks * Q4_0_BLOCK_BYTES);
                    kernels.linear_q4_0(x.view(), w, Epilogue::default(), MatMut::dense(&mut out, outputs));
                    let acc = 127.0 * value.signum() * (f32::from(nibble) - 8.0) * I4_BLOCK as f32;
                    let of_row = |scales: &[f32]| scales.iter().fold(0.0, |sum: f32, scale| sum + acc * scale);
                    let expected: Vec<f32> =
                        x.scales.chunks_exact(blocks).flat_map(|scales| vec![of_row(scales); outputs]).collect();
                    assert_same("extremes", kernels.isa().name(), &out, &expected);
                }
            }
        }
    }
}
