//! Instruction sets, and the tokens that prove one is there.
//!
//! A token (`Avx2`, `Avx512`) comes from its `detect()`, which asks the CPU; whoever holds one may run the code that is
//! compiled for it. The feature list of each set is written once (`for_avx2`, `for_avx512`); the check here and the attributes
//! in `dispatch.rs` are made from it.

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable code for any CPU.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// All sets, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];

    /// The name users write.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this CPU (and operating system) runs it.
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Proof of nothing: portable code runs everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

/// Calls a macro with a set's token, its [`Isa`] and its list of features: the one place where the lists are written.
#[cfg(target_arch = "x86_64")]
macro_rules! for_avx2 {
    ($callback:ident) => {
        $callback!(Avx2, ["avx", "avx2", "fma"]);
    };
}
#[cfg(target_arch = "x86_64")]
macro_rules! for_avx512 {
    ($callback:ident) => {
        $callback!(Avx512, ["avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"]);
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use {for_avx2, for_avx512};

#[cfg(target_arch = "x86_64")]
macro_rules! define_token {
    ($isa:ident, [$($feature:tt),+]) => {
        /// Proof that this CPU has every feature of the set.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $isa {
            _proof: (),
        }

        impl $isa {
            /// The token, if this CPU (and operating system) has every feature of the set.
            pub(crate) fn detect() -> Option<Self> {
                ($(std::arch::is_x86_feature_detected!($feature))&&+).then_some($isa { _proof: () })
            }

            /// The token without asking.
            ///
            /// # Safety
            /// `detect` has returned `Some` in this process.
            pub(crate) unsafe fn assume_detected() -> Self {
                $isa { _proof: () }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
for_avx2!(define_token);
#[cfg(target_arch = "x86_64")]
for_avx512!(define_token);
