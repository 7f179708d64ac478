//! What the tests of small numbers share.
#![allow(dead_code)] // every test crate compiles this file and uses a part of it

use trivec_kernels::{Isa, Kernels};

/// xorshift64*.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum::<f32>() * 1.7
    }

    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }

    /// -127 ..= 127, the ends more often than their share.
    pub fn i8(&mut self) -> i8 {
        match self.below(8) {
            0 => 127,
            1 => -127,
            _ => (self.below(255) as i32 - 127) as i8,
        }
    }
}

pub fn tables() -> Vec<&'static Kernels> {
    let required = std::env::var("TRIVEC_REQUIRE_ISA").unwrap_or_default();
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_supported()) {
        println!("SKIPPED: this CPU has no {}", isa.name());
        assert!(!required.split(',').any(|name| name == isa.name()), "{} is required", isa.name());
    }
    Kernels::all_supported()
}

pub fn assert_same(what: &str, isa: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found.to_bits() == expected.to_bits(), "{what} on {isa} at {i}: {found}, expected {expected}");
    }
}
