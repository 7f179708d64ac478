//! [`Kernels`]: one table of functions for each instruction set. A caller picks a table once and keeps it.

use std::fmt;
use std::sync::OnceLock;

use crate::attention::{self, AttentionShape};
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512, for_avx2, for_avx512};
use crate::isa::{Isa, Scalar};
use crate::view::{MatMut, MatRef};
use crate::{dot, elementwise, gemm};

/// The kernels of one instruction set. To hold a `&'static Kernels` is to know that this CPU can run them.
pub struct Kernels {
    isa: Isa,
    linear: fn(MatRef<'_>, MatRef<'_>, Option<&[f32]>, MatMut<'_>),
    dot: fn(&[f32], &[f32]) -> f32,
    gelu: fn(&mut [f32]),
    layer_norm: fn(&mut [f32], &[f32], &[f32], f32),
    pack_keys: fn(MatRef<'_>, &mut [f32]),
    attend: fn(AttentionShape, MatRef<'_>, &[f32], MatRef<'_>, &mut [f32], MatMut<'_>),
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa).finish()
    }
}

/// Names the instruction set that was asked for and those that could be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownIsa {
    name: String,
}

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Isa::ALL.iter().any(|isa| isa.name() == self.name);
        let problem = if known { "is not supported by this CPU" } else { "is unknown" };
        let names: Vec<_> = Kernels::all_supported().iter().map(|k| k.isa.name()).collect();
        write!(f, "instruction set `{}` {problem}: this CPU runs {}", self.name, names.join(", "))
    }
}

impl std::error::Error for UnknownIsa {}

impl Kernels {
    /// The fastest table this CPU runs.
    pub fn best() -> &'static Kernels {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| Isa::ALL.iter().rev().find_map(|&isa| Self::for_isa(isa)).unwrap_or(&SCALAR))
    }

    /// The table of the set called `name`, if this CPU runs it.
    pub fn by_name(name: &str) -> Result<&'static Kernels, UnknownIsa> {
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        isa.and_then(Self::for_isa).ok_or_else(|| UnknownIsa { name: name.to_owned() })
    }

    /// The table of `isa`, if this CPU runs it.
    pub fn for_isa(isa: Isa) -> Option<&'static Kernels> {
        isa.is_supported().then_some(match isa {
            Isa::Scalar => &SCALAR,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &SCALAR,
        })
    }

    /// The tables this CPU runs, slowest first.
    pub fn all_supported() -> Vec<&'static Kernels> {
        Isa::ALL.into_iter().filter_map(Self::for_isa).collect()
    }

    /// The table's instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `out[i, o] = Σ_d x[i, d] · weight[o, d] + bias[o]`: PyTorch's `Linear`, `x` `[rows, depth]`, `weight` `[outputs, depth]`,
    /// `out` `[rows, outputs]`.
    ///
    /// Lane `d mod 16` gathers a depth block of [`DEPTH_BLOCK`](crate::DEPTH_BLOCK) with fused multiply-adds, lanes are added by
    /// halves, blocks in ascending order, the bias last. No overflow handling beyond IEEE.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn linear(&self, x: MatRef<'_>, weight: MatRef<'_>, bias: Option<&[f32]>, out: MatMut<'_>) {
        assert_eq!(x.cols(), weight.cols(), "depth of x and of the weight");
        assert_eq!((out.rows(), out.cols()), (x.rows(), weight.rows()), "shape of out");
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows()), "length of the bias");
        (self.linear)(x, weight, bias, out)
    }

    /// `Σ a[i]·b[i]`, in the order of one depth block of [`Kernels::linear`].
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        (self.dot)(a, b)
    }

    /// `x ← x/2 · (1 + erf(x/√2))` for every value: the exact GELU. Error at most `2.5e-7·|x|`.
    pub fn gelu(&self, values: &mut [f32]) {
        (self.gelu)(values)
    }

    /// `row ← (row - mean) / √(variance + epsilon) · gain + bias`, mean and (biased) variance over the row, in two passes.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn layer_norm(&self, row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
        assert!(row.len() == gain.len() && row.len() == bias.len(), "lengths of row, gain and bias");
        (self.layer_norm)(row, gain, bias, epsilon)
    }

    /// `row ← row / max(‖row‖₂, 1e-12)`: `torch.nn.functional.normalize`.
    pub fn l2_normalize(&self, row: &mut [f32]) {
        let norm = self.dot(row, row).sqrt().max(1e-12);
        row.iter_mut().for_each(|x| *x /= norm);
    }

    /// Lays the keys of one head out for [`Kernels::attend`]: tiles of [`KEY_TILE`](crate::KEY_TILE) keys, in each tile one row
    /// of that many values for every dimension, missing keys 0.
    ///
    /// # Panics
    /// If `packed` is not [`AttentionShape::packed_keys_len`] long.
    pub fn pack_keys(&self, keys: MatRef<'_>, packed: &mut [f32]) {
        let shape = AttentionShape { tokens: keys.rows(), head_dim: keys.cols(), scale: 1.0 };
        assert_eq!(packed.len(), shape.packed_keys_len(), "length of the packed keys");
        (self.pack_keys)(keys, packed)
    }

    /// `out = softmax(scale · Q Kᵀ) V` for one head and up to [`QUERY_BLOCK`](crate::QUERY_BLOCK) queries, by tiles of keys with
    /// an online softmax: never more than a tile of scores exists. Each query's result depends on its own text alone.
    ///
    /// `queries` and `out` `[queries, head_dim]`, `values` `[tokens, head_dim]`; `scratch` of [`AttentionShape::scratch_len`].
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn attend(
        &self,
        shape: AttentionShape,
        queries: MatRef<'_>,
        packed_keys: &[f32],
        values: MatRef<'_>,
        scratch: &mut [f32],
        out: MatMut<'_>,
    ) {
        let AttentionShape { tokens, head_dim, .. } = shape;
        assert!(queries.rows() <= attention::QUERY_BLOCK, "queries in a block");
        assert_eq!((queries.cols(), values.cols(), values.rows()), (head_dim, head_dim, tokens), "queries and values");
        assert_eq!((out.rows(), out.cols()), (queries.rows(), head_dim), "shape of out");
        assert_eq!(packed_keys.len(), shape.packed_keys_len(), "length of the packed keys");
        assert!(scratch.len() >= shape.scratch_len(), "length of the scratch");
        (self.attend)(shape, queries, packed_keys, values, scratch, out)
    }
}

static SCALAR: Kernels = Kernels {
    isa: Isa::Scalar,
    linear: |x, weight, bias, out| gemm::linear(Scalar, x, weight, bias, out),
    dot: |a, b| dot::dot(Scalar, a, b),
    gelu: |values| elementwise::gelu(Scalar, values),
    layer_norm: |row, gain, bias, epsilon| elementwise::layer_norm(Scalar, row, gain, bias, epsilon),
    pack_keys: |keys, packed| attention::pack_keys(keys, packed),
    attend: |shape, queries, keys, values, scratch, out| {
        attention::attend(Scalar, shape, queries, keys, values, scratch, out)
    },
};

/// Compiles the generic kernel `$path` for a set's features, behind a function pointer's signature.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($isa:ident, [$($feature:tt),+], $path:path, ($($arg:ident: $type:ty),+) $(-> $ret:ty)?) => {{
        $(#[target_feature(enable = $feature)])+
        fn with_features(token: $isa, $($arg: $type),+) $(-> $ret)? {
            $path(token, $($arg),+)
        }
        |$($arg: $type),+| {
            // SAFETY: this function is reachable through the set's table alone, which `for_isa` hands out only after `detect`
            // has found all of its features.
            unsafe { with_features($isa::assume_detected(), $($arg),+) }
        }
    }};
}

#[cfg(target_arch = "x86_64")]
macro_rules! define_table {
    (Avx2, $features:tt) => { define_table!(AVX2, Avx2, $features); };
    (Avx512, $features:tt) => { define_table!(AVX512, Avx512, $features); };
    ($table:ident, $isa:ident, $features:tt) => {
        static $table: Kernels = Kernels {
            isa: Isa::$isa,
            linear: compiled!($isa, $features, gemm::linear,
                (x: MatRef<'_>, weight: MatRef<'_>, bias: Option<&[f32]>, out: MatMut<'_>)),
            dot: compiled!($isa, $features, dot::dot, (a: &[f32], b: &[f32]) -> f32),
            gelu: compiled!($isa, $features, elementwise::gelu, (values: &mut [f32])),
            layer_norm: compiled!($isa, $features, elementwise::layer_norm,
                (row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32)),
            pack_keys: |keys, packed| attention::pack_keys(keys, packed),
            attend: compiled!($isa, $features, attention::attend,
                (shape: AttentionShape, queries: MatRef<'_>, keys: &[f32], values: MatRef<'_>, scratch: &mut [f32],
                 out: MatMut<'_>)),
        };
    };
}
#[cfg(target_arch = "x86_64")]
for_avx2!(define_table);
#[cfg(target_arch = "x86_64")]
for_avx512!(define_table);
