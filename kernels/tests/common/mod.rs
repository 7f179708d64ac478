//! What the tests of integer and 16-bit kernels share.
#![allow(dead_code)] // every test crate compiles this file and uses a part of it

use std::sync::atomic::{AtomicBool, Ordering};

use trivec_kernels::{Isa, Kernels, PANEL, Prepare, Rows8, Rows8Kind, Streams, row8_stride};

/// A small random generator (xorshift64*), so that tests need no dependency.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to `n - 1`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    /// Roughly normal: the sum of four uniform numbers.
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum::<f32>() * 1.7
    }

    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }

    /// -127 ..= 127, both ends more often than the others.
    pub fn i8(&mut self) -> i8 {
        match self.below(8) {
            0 => 127,
            1 => -127,
            _ => (self.below(255) as i32 - 127) as i8,
        }
    }
}

/// The kernels of every ISA that this CPU has. Each call changes in how many streams weights are read, on which no result may depend.
pub fn tables() -> Vec<&'static Kernels> {
    static TWO: AtomicBool = AtomicBool::new(false);
    if TWO.fetch_not(Ordering::Relaxed) {
        Streams::Two.set()
    } else {
        Streams::One.set()
    }
    let required = std::env::var("TRIVEC_REQUIRE_ISA").unwrap_or_default();
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_supported()) {
        println!("SKIPPED: this CPU has no {}", isa.name());
        assert!(!required.split(',').any(|name| name == isa.name()), "{} is required", isa.name());
    }
    Kernels::all_supported()
}

/// Asserts that all values have the bits that were expected.
pub fn assert_same(what: &str, isa: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found.to_bits() == expected.to_bits(), "{what} on {isa} at {i}: {found}, expected {expected}");
    }
}

/// Quantised rows that own their memory.
pub struct Rows {
    pub kind: Rows8Kind,
    pub rows: usize,
    pub depth: usize,
    pub data: Vec<i8>,
    pub scales: Vec<f32>,
    pub offsets: Vec<i32>,
}

impl Rows {
    /// Quantises `values`, rows of `depth` values.
    pub fn quantize(kernels: &Kernels, kind: Rows8Kind, prepare: Prepare<'_>, values: &[f32], depth: usize) -> Rows {
        let rows = values.len() / depth;
        let (stride, n, m) = (row8_stride(depth), kind.scales(depth), kind.offsets(depth));
        // The buffers are not zero at first, because nothing of what is in them may stay.
        let mut all = Rows {
            kind,
            rows,
            depth,
            data: vec![77; rows * stride],
            scales: vec![f32::NAN; rows * n],
            offsets: vec![-1; rows * m],
        };
        let mut scratch = vec![f32::NAN; depth];
        for (row, values) in values.chunks_exact(depth).enumerate() {
            let (data, scales) = (&mut all.data[row * stride..][..stride], &mut all.scales[row * n..][..n]);
            let offsets = &mut all.offsets[row * m..][..m];
            kernels.quantize_row(kind, prepare, values, &mut scratch, data, scales, offsets);
        }
        all
    }

    pub fn view(&self) -> Rows8<'_> {
        Rows8::new(self.kind, self.rows, self.depth, &self.data, &self.scales, &self.offsets)
    }

    /// The byte of a row at depth `d`.
    pub fn at(&self, row: usize, d: usize) -> i32 {
        i32::from(self.data[row * row8_stride(self.depth) + d])
    }
}

/// No preparation: rows are only rounded.
pub const PLAIN: Prepare<'static> = Prepare { centre: None, inverse_smoothing: None, rotation: 1 };

/// Lays weights `[outputs, depth]` out in int8 panels.
pub fn int8_panels(weights: &[i8], outputs: usize, depth: usize) -> Vec<u8> {
    let padded = depth.next_multiple_of(4);
    let mut panels = vec![128u8; outputs.div_ceil(PANEL) * PANEL * padded];
    for o in 0..outputs {
        for d in 0..depth {
            let at = o / PANEL * PANEL * padded + (d / 4 * PANEL + o % PANEL) * 4 + d % 4;
            panels[at] = (weights[o * depth + d] as u8) ^ 0x80;
        }
    }
    panels
}
