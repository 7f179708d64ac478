//! Checks that no kernel touches memory outside its slices. Every slice lies directly before a page that may not be touched, and in a second run
//! directly after one. A kernel that reads or writes a byte too much ends this process by a signal.
#![cfg(unix)]

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use trivec_kernels::{
    AttentionShape, Epilogue, I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, IntKeyValues, IntScratch, Kernels, MatMut, MatRef,
    PANEL, Panels, Prepare, Q4_0_BLOCK_BYTES, Rows8, Rows8Kind, Streams, rotation_for, row8_stride,
};

/// Bytes of a guard: a multiple of the page size of every system.
const PAGE: usize = 1 << 16;

/// On which side of a slice the page lies that may not be touched.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    After,
    Before,
}

/// A slice between two pages that may not be touched, without a gap to one of them.
struct Guarded<T> {
    base: *mut c_void,
    bytes: usize,
    first: *mut T,
    len: usize,
}

impl<T: Copy> Guarded<T> {
    /// A copy of `values` with a page that may not be touched directly on this side.
    fn new(side: Side, values: &[T]) -> Self {
        let size = size_of_val(values);
        let room = size.next_multiple_of(PAGE);
        let bytes = room + 2 * PAGE;
        let guard = MprotectFlags::empty();
        // SAFETY: new memory, of which the first and the last page are made untouchable and the rest holds the elements; both ends of
        // the rest are aligned for them, and `size` is a multiple of their alignment.
        unsafe {
            let base =
                mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
                    .expect("memory is mapped");
            mprotect(base, PAGE, guard).expect("a page is protected");
            mprotect(base.byte_add(PAGE + room), PAGE, guard).expect("a page is protected");
            let offset = if side == Side::After { room - size } else { 0 };
            let first = base.byte_add(PAGE + offset).cast::<T>();
            first.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Guarded { base, bytes, first, len: values.len() }
        }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `new` wrote that many elements there, which live as long as this value.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; `&mut self` keeps other references away.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no reference outlives this value.
        unsafe { munmap(self.base, self.bytes).expect("memory is unmapped") }
    }
}

/// `len` values in -0.5 .. 0.5, the same in every run.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5).collect()
}

/// Runs `f` for both sides and every ISA of this CPU.
fn everywhere(f: impl Fn(Side, &Kernels)) {
    for side in [Side::After, Side::Before] {
        for kernels in Kernels::all_supported() {
            f(side, kernels);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_guard_is_there() {
    for side in [Side::After, Side::Before] {
        let memory = Guarded::new(side, &[1u8; 100]);
        let page = if side == Side::After { memory.as_ptr_range().end } else { memory.as_ptr().wrapping_sub(1) };
        let holds = |line: &&str| {
            let range = line.split(' ').next().unwrap_or_default();
            let (from, to) = range.split_once('-').unwrap_or_default();
            let number = |hex: &str| usize::from_str_radix(hex, 16).unwrap_or(0);
            (number(from)..number(to)).contains(&(page as usize))
        };
        // The file is not read at one moment, so while other tests map and unmap memory, a line can be missing.
        let read = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().find(holds).map(str::to_owned);
        let line = (0..1000).find_map(|_| read()).expect("the page is mapped");
        assert!(line.contains(" ---p "), "{side:?}: {line}");
    }
}

#[test]
fn rows() {
    everywhere(|side, kernels| {
        for len in [1, 2, 3, 15, 16, 17, 31, 32, 33, 48, 130] {
            let row = || Guarded::new(side, &values(len));
            let (gain, bias, mut a) = (row(), row(), row());
            kernels.dot(&gain, &bias);
            kernels.gelu(&mut a);
            kernels.gelu_fast(&mut a);
            kernels.layer_norm(&mut a, &gain, &bias, 1e-5);
            kernels.add_layer_norm(&mut a, &bias, &gain, &bias, 1e-5);
            kernels.l2_normalize(&mut a);
            kernels.round_bf16(&a, &mut Guarded::new(side, &vec![0u16; len]));
            let prepare = Prepare { centre: Some(&bias), inverse_smoothing: Some(&gain), rotation: rotation_for(len) };
            kernels.prepare_row(prepare, &a, &mut row());
            for kind in [Rows8Kind::Int8, Rows8Kind::Q4_0] {
                let mut out = Guarded::new(side, &vec![0i8; row8_stride(len)]);
                let mut scales = Guarded::new(side, &vec![0.0; kind.scales(len)]);
                let mut offsets = Guarded::new(side, &vec![0; kind.offsets(len)]);
                kernels.quantize_row(kind, prepare, &a, &mut row(), &mut out, &mut scales, &mut offsets);
            }
            for streams in [Streams::One, Streams::Two] {
                kernels.read_memory(&Guarded::new(side, &vec![1u8; 256 * len + len]), streams);
            }
        }
    });
}

/// Rows and outputs of products: one panel cut short, whole, and a part of a second; fewer and more rows than tiles of every ISA have.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    // From 17 rows on, matrix registers are used in pairs, and from 33 on for q4_0; the last one begins 16 rows before the end.
    [1, 2, 3, 4, 6, 7, 13, 17, 33, 34].into_iter().flat_map(|rows| [1, 31, 32, 33].map(|outputs| (rows, outputs)))
}

#[test]
fn integer_products() {
    everywhere(|side, kernels| {
        // 193 rows are more than AVX2 splits at a time (`int8_split.rs`).
        for (rows, outputs) in shapes().chain([(193, 33)]) {
            let of_outputs = || Guarded::new(side, &values(outputs));
            let (scales, bias) = (of_outputs(), of_outputs());
            let mut numbers = Guarded::new(side, &vec![0.0; rows * outputs]);
            for depth in [1, 3, 4, 5, 8, 12, 31, 32, 33, 64, 96, 128, 129, 193, 1056] {
                // With 127 in all places, AVX2 splits every quad (`int8_split.rs`); with 3, none.
                for (kind, value) in [(Rows8Kind::Int8, 3i8), (Rows8Kind::Int8, 127), (Rows8Kind::Q4_0, 3)] {
                    let data = Guarded::new(side, &vec![value; rows * row8_stride(depth)]);
                    let row_scales = Guarded::new(side, &vec![0.5; rows * kind.scales(depth)]);
                    let offsets = Guarded::new(side, &vec![9; rows * kind.offsets(depth)]);
                    let x = Rows8::new(kind, rows, depth, &data, &row_scales, &offsets);
                    let (padded, panels) = (kind.padded_depth(depth), outputs.div_ceil(PANEL));
                    let out = MatMut::dense(&mut numbers, outputs);
                    if kind == Rows8Kind::Int8 {
                        let w = Guarded::new(side, &vec![200u8; panels * PANEL * padded]);
                        let finish = Epilogue { scales: Some(&scales), bias: Some(&bias), gelu: true };
                        kernels.linear_i8(x, Panels::new(&w, outputs, PANEL * padded), finish, out);
                        let panel = depth.div_ceil(I4_GROUP) * I4_GROUP_BYTES;
                        let w = Guarded::new(side, &vec![0x2au8; panels * panel]);
                        let out = MatMut::dense(&mut numbers, outputs);
                        kernels.linear_i4(x, Panels::new(&w, outputs, panel), finish, out);
                    } else {
                        let panel = padded / I4_BLOCK * Q4_0_BLOCK_BYTES;
                        let w = Guarded::new(side, &vec![0x2au8; panels * panel]);
                        let finish = Epilogue { scales: None, bias: Some(&bias), gelu: false };
                        kernels.linear_q4_0(x, Panels::new(&w, outputs, panel), finish, out);
                    }
                }
            }
        }
    });
}

#[test]
fn float_products() {
    everywhere(|side, kernels| {
        for (rows, outputs) in shapes() {
            let bias = Guarded::new(side, &values(outputs));
            let finish = Epilogue { bias: Some(&bias), ..Epilogue::default() };
            let mut out = Guarded::new(side, &vec![0.0; rows * outputs]);
            for depth in [1, 2, 3, 16, 31, 33, 520] {
                let x = Guarded::new(side, &values(rows * depth));
                let w = Guarded::new(side, &values(outputs * depth));
                let view = MatRef::dense(&x, depth);
                kernels.linear(view, MatRef::dense(&w, depth), Some(&bias), MatMut::dense(&mut out, outputs));
                let panels = outputs.div_ceil(PANEL);
                let w = Guarded::new(side, &vec![0x3c00u16; panels * PANEL * depth]);
                let w = Panels::new(&w, outputs, PANEL * depth);
                kernels.linear_f16(view, w, finish, MatMut::dense(&mut out, outputs));
                let even = depth.next_multiple_of(2);
                let x = Guarded::new(side, &vec![0x3f80u16; rows * even]);
                let w = Guarded::new(side, &vec![0x3f80u16; panels * PANEL * even]);
                let w = Panels::new(&w, outputs, PANEL * even);
                kernels.linear_bf16(&x, even, w, finish, MatMut::dense(&mut out, outputs));
            }
        }
    });
}

#[test]
fn attention() {
    everywhere(|side, kernels| {
        for head_dim in [1, 3, 16, 20, 33, 64, 80] {
            for (tokens, queries) in [(1, 1), (2, 2), (5, 5), (63, 7), (65, 48), (130, 3)] {
                let matrix = |rows: usize| Guarded::new(side, &values(rows * head_dim));
                let (q, k, v, mut out) = (matrix(queries), matrix(tokens), matrix(tokens), matrix(queries));
                let (q, k, v) = (MatRef::dense(&q, head_dim), MatRef::dense(&k, head_dim), MatRef::dense(&v, head_dim));
                let shape = AttentionShape { tokens, head_dim, scale: 0.3 };
                let mut packed = Guarded::new(side, &vec![0.0; shape.packed_keys_len()]);
                let mut scratch = Guarded::new(side, &vec![0.0; shape.scratch_len()]);
                kernels.pack_keys(k, &mut packed);
                kernels.attend(shape, q, &packed, v, &mut scratch, MatMut::dense(&mut out, head_dim));
                let (mut scratch, mut packed) = (IntScratch::default(), IntKeyValues::default());
                kernels.pack_int(k, v, &mut scratch, &mut packed);
                kernels.attend_int(0.3, q, &packed, &mut scratch, MatMut::dense(&mut out, head_dim));
            }
        }
    });
}
