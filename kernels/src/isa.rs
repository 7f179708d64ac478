//! Instruction sets, and the tokens that prove that this CPU has one.
//!
//! A token (`Avx2<VNNI>`, `Avx512<LEVEL>`) comes from its `detect()`, which asks the CPU; whoever holds one may run the code that is
//! compiled for it. The feature list of each ISA is written once (`for_each_simd`); the check here and the attributes in
//! `dispatch.rs` are made from it.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected as is_detected;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected as is_detected;

/// An instruction set that kernels are compiled for. A name means that set and no more: `neon` forces NEON without the byte products of
/// `neondot` and `neoni8mm`, on a CPU that has them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable code for any CPU.
    Scalar,
    /// AArch64 with NEON (Advanced SIMD), which every such CPU with an operating system has.
    Neon,
    /// NEON and its dot products of bytes (`SDOT`).
    NeonDot,
    /// NEON with `SDOT` and the products of matrices of bytes (`SMMLA` and its kin, the i8mm extension).
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
    /// These, and the matrix registers of AMX for int8 and bf16, where the operating system allows them (Linux from 5.16 on).
    Amx,
}

/// What the table of ISAs says of one of them. It has one row for each, slowest first.
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
            // An ISA's row is found by its place.
            assert!(ROWS[index].isa as usize == index, "rows in the order of the ISAs");
            all[index] = ROWS[index].isa;
            index += 1;
        }
        all
    };

    /// The name users write.
    pub fn name(self) -> &'static str {
        ROWS[self as usize].name
    }

    /// Whether the ISA has registers that hold matrices: with them, products of many rows take an eighth of the time of dot products.
    pub fn has_matrix_registers(self) -> bool {
        ROWS[self as usize].matrix_registers
    }

    /// Whether this CPU (and operating system) runs it.
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
        // Sets of other architectures are not supported.
        self == Isa::Scalar
    }
}

/// The token of portable code, which runs on every CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

/// Proof of AVX2, FMA and F16C, with `VNNI` of AVX-VNNI too.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool> {
    _proof: (),
}

/// Proof of AVX-512 F, BW, DQ and VL; from `LEVEL` 1 on of VNNI, from 2 on of BF16, at 3 of AMX and the operating system's permission to
/// use it.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512<const LEVEL: u8> {
    _proof: (),
}

/// Proof of NEON; from `LEVEL` 1 on of its dot products of bytes, at 2 of its products of matrices of bytes.
#[cfg(target_arch = "aarch64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon<const LEVEL: u8> {
    _proof: (),
}

/// Calls a macro once for each ISA with the name of its table, its [`Isa`], its token and its list of features: the one place where the
/// lists are written. After a list may stand a function that must return true as well.
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

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! define_token {
    ($table:ident, $isa:ident, $token:ty, [$($feature:tt),+] $(, $and:path)?) => {
        impl $token {
            /// The token, if this CPU (and operating system) has every feature of the ISA.
            pub(crate) fn detect() -> Option<Self> {
                ($(is_detected!($feature))&&+ $(&& $and())?).then_some(Self { _proof: () })
            }

            /// The token without asking.
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
