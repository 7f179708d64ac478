//! Instruction sets, and the tokens that prove that this CPU has one.
//!
//! A token (`Avx2<VNNI>`, `Avx512<LEVEL>`, `Neon<LEVEL>`) comes from its `detect()`, which asks the CPU; whoever holds one may run the code that is
//! compiled for it. The feature list of each ISA is written once, in `for_each_simd`, from which the check here and the
//! `#[target_feature]` attributes in `dispatch.rs` are generated.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected as is_detected;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected as is_detected;

/// An instruction set (ISA) that kernels are compiled for. Each means the instructions that it names and no more: who asks for `neon` gets NEON
/// without the byte products of `neondot` and `neoni8mm`, even on a CPU that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable code for any CPU.
    Scalar,
    /// AArch64 with NEON (Advanced SIMD), which every AArch64 CPU that runs an operating system has.
    Neon,
    /// NEON and its dot products of bytes (`SDOT`).
    NeonDot,
    /// NEON with `SDOT` and products of small matrices of bytes (the i8mm extension).
    NeonI8mm,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// AVX2 and the 256-bit dot products of AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 and its dot products of bytes and 16-bit integers (VNNI).
    Avx512Vnni,
    /// AVX-512 with VNNI and the dot products of bf16.
    Avx512Bf16,
    /// All of `Avx512Bf16`, and the matrix registers of AMX for int8 and bf16, where the operating system allows them (Linux from 5.16 on).
    Amx,
}

/// A row of the table of ISAs, which has one for each of them, slowest first.
struct Row {
    isa: Isa,
    name: &'static str,
    /// See [`Isa::has_matrix_registers`].
    matrix_registers: bool,
}

const ROWS: [Row; 10] = [
    Row { isa: Isa::Scalar, name: "scalar", matrix_registers: false },
    Row { isa: Isa::Neon, name: "neon", matrix_registers: false },
    Row { isa: Isa::NeonDot, name: "neondot", matrix_registers: false },
    Row { isa: Isa::NeonI8mm, name: "neoni8mm", matrix_registers: false },
    Row { isa: Isa::Avx2, name: "avx2", matrix_registers: false },
    Row { isa: Isa::AvxVnni, name: "avxvnni", matrix_registers: false },
    Row { isa: Isa::Avx512, name: "avx512", matrix_registers: false },
    Row { isa: Isa::Avx512Vnni, name: "avx512vnni", matrix_registers: false },
    Row { isa: Isa::Avx512Bf16, name: "avx512bf16", matrix_registers: false },
    Row { isa: Isa::Amx, name: "amx", matrix_registers: true },
];

impl Isa {
    /// All instruction sets, slowest first.
    pub const ALL: [Isa; ROWS.len()] = {
        let mut all = [Isa::Scalar; ROWS.len()];
        let mut index = 0;
        while index < all.len() {
            // `name` and `has_matrix_registers` use the ISA's number as the index of its row.
            assert!(ROWS[index].isa as usize == index, "rows in the order of the ISAs");
            all[index] = ROWS[index].isa;
            index += 1;
        }
        all
    };

    /// The name by which users choose this instruction set, such as `avx2`.
    pub fn name(self) -> &'static str {
        ROWS[self as usize].name
    }

    /// Whether the ISA has registers that hold matrices (AMX). With them, products of many rows take at best an eighth of the time of dot products.
    pub fn has_matrix_registers(self) -> bool {
        ROWS[self as usize].matrix_registers
    }

    /// Whether this CPU (and its operating system) can run the instruction set.
    pub fn is_supported(self) -> bool {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        macro_rules! look_at {
            ($table:ident, $isa:ident, $token:ty, $($features:tt)+) => {
                if self == Isa::$isa {
                    return <$token>::detect().is_some();
                }
            };
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        for_each_simd!(look_at);
        // Instruction sets of other architectures are not supported.
        self == Isa::Scalar
    }
}

/// The token of portable code, which runs on every CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

/// Proves that the CPU has AVX2, FMA and F16C; with `VNNI`, also AVX-VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool> {
    _proof: (),
}

/// Proves that the CPU has AVX-512 F, BW, DQ and VL; from `LEVEL` 1 on also VNNI, from 2 on also BF16, and at 3 also AMX with the operating
/// system's permission to use it.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512<const LEVEL: u8> {
    _proof: (),
}

/// Proves that the CPU has NEON; from `LEVEL` 1 on also its dot products of bytes, and at 2 also its products of matrices of bytes.
#[cfg(target_arch = "aarch64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon<const LEVEL: u8> {
    _proof: (),
}

/// Calls a macro once for each ISA of this architecture (except portable code) with the name of its table, its [`Isa`], its token and its list of
/// CPU features. These lists are written nowhere else. A list may be followed by a function that must return true as well.
#[cfg(target_arch = "x86_64")]
macro_rules! for_each_simd {
    ($callback:ident) => {
        $callback!(AVX2, Avx2, Avx2<false>, ["avx", "avx2", "fma", "f16c"]);
        $callback!(AVX_VNNI, AvxVnni, Avx2<true>, ["avx", "avx2", "fma", "f16c", "avxvnni"]);
        $callback!(
            AVX512,
            Avx512,
            Avx512<0>,
            ["avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"]
        );
        $callback!(
            AVX512_VNNI,
            Avx512Vnni,
            Avx512<1>,
            ["avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"]
        );
        $callback!(
            AVX512_BF16,
            Avx512Bf16,
            Avx512<2>,
            ["avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16"]
        );
        // AMX has no stable feature name; its instructions are written in assembly.
        $callback!(
            AMX,
            Amx,
            Avx512<3>,
            ["avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16"],
            crate::cpu::amx::permitted
        );
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! for_each_simd {
    ($callback:ident) => {
        $callback!(NEON, Neon, Neon<0>, ["neon"]);
        $callback!(NEON_DOT, NeonDot, Neon<1>, ["neon", "dotprod"]);
        $callback!(NEON_I8MM, NeonI8mm, Neon<2>, ["neon", "dotprod", "i8mm"]);
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use for_each_simd;

/// Implements `detect` and `assume_detected` for an ISA's token.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! define_token {
    ($table:ident, $isa:ident, $token:ty, [$($feature:tt),+] $(, $and:path)?) => {
        impl $token {
            /// The token, if this CPU (and operating system) has every feature of the ISA.
            pub(crate) fn detect() -> Option<Self> {
                ($(is_detected!($feature))&&+ $(&& $and())?).then_some(Self { _proof: () })
            }

            /// The token, without asking the CPU.
            ///
            /// # Safety
            /// `detect` has returned `Some` in this process.
            pub(crate) unsafe fn assume_detected() -> Self {
                Self { _proof: () }
            }
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
for_each_simd!(define_token);
