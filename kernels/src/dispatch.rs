//! [`Kernels`]: one table of functions for each instruction set. A caller picks a table once and keeps it.

use std::fmt;
use std::sync::OnceLock;

use crate::attention::{self, AttentionShape};
use crate::attention_int::{self, IntKeyValues, IntScratch};
use crate::cpu::Streams;
use crate::gemm::{self, Epilogue, Panels};
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::isa::for_each_simd;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512};
use crate::isa::{Isa, Scalar};
use crate::layout::{I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, MAX_INT_DEPTH, PANEL, Q4_0_BLOCK_BYTES};
use crate::operations::for_each_operation;
use crate::rows8::{self, MAX_ROTATION, Prepare, Rows8, Rows8Kind, row8_stride};
use crate::view::{MatMut, MatRef};
use crate::{dot, elementwise, probe};

/// Defines [`Kernels`], with a function pointer for each operation of the list, and the table of portable code.
macro_rules! define_kernels {
    ($($kind:ident $name:ident($($arg:ident: $type:ty),+) $(-> $ret:ty)? => $path:path;)+) => {
        /// The kernels of one instruction set. Whoever holds a `&'static Kernels` knows that this CPU can run them.
        #[allow(clippy::type_complexity)] // the signatures of the methods below, each once
        pub struct Kernels {
            isa: Isa,
            $($name: fn($($type),+) $(-> $ret)?,)+
        }

        static SCALAR: Kernels = Kernels {
            isa: Isa::Scalar,
            $($name: |$($arg),+| in_scalar!($kind $path, $($arg),+),)+
        };
    };
}

/// A call of an operation's function in portable code.
macro_rules! in_scalar {
    (generic $path:path, $($arg:ident),+) => { $path(Scalar, $($arg),+) };
    (portable $path:path, $($arg:ident),+) => { $path($($arg),+) };
}
for_each_operation!(define_kernels);

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa).finish()
    }
}

/// The error for an instruction set that does not exist or that this CPU does not run. Its message names those that this CPU runs.
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
    /// The kernels of the fastest instruction set that this CPU runs.
    pub fn best() -> &'static Kernels {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| Isa::ALL.iter().rev().find_map(|&isa| Self::for_isa(isa)).unwrap_or(&SCALAR))
    }

    /// The kernels of the instruction set called `name`.
    ///
    /// # Errors
    /// [`UnknownIsa`] if no instruction set has this name, or this CPU does not run it.
    pub fn by_name(name: &str) -> Result<&'static Kernels, UnknownIsa> {
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        isa.and_then(Self::for_isa).ok_or_else(|| UnknownIsa { name: name.to_owned() })
    }

    /// The kernels of `isa`, if this CPU runs it.
    pub fn for_isa(isa: Isa) -> Option<&'static Kernels> {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        macro_rules! look_at {
            ($table:ident, $isa:ident, $token:ty, $($features:tt)+) => {
                if isa == Isa::$isa {
                    return <$token>::detect().map(|_| &$table);
                }
            };
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        for_each_simd!(look_at);
        // Instruction sets of other architectures are not supported.
        (isa == Isa::Scalar).then_some(&SCALAR)
    }

    /// The kernels of every instruction set that this CPU runs, slowest first.
    pub fn all_supported() -> Vec<&'static Kernels> {
        Isa::ALL.into_iter().filter_map(Self::for_isa).collect()
    }

    /// The instruction set that these kernels are compiled for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `out[i, o] = Σ_d x[i, d] · weight[o, d] + bias[o]`: PyTorch's `Linear`, `x` `[rows, depth]`, `weight` `[outputs, depth]`,
    /// `out` `[rows, outputs]`.
    ///
    /// The order of additions is fixed, so every instruction set gives the same bits. The depth is cut into blocks of
    /// [`DEPTH_BLOCK`](crate::DEPTH_BLOCK) values. Within a block, sixteen partial sums are kept: sum `d mod 16` takes the products of
    /// depth `d` in ascending order, by fused multiply-add. Then the upper eight sums are added to the lower eight, the upper four of those
    /// to the lower four, and so on until one is left. The blocks' sums are added in ascending order, and the bias comes last. Whatever `out`
    /// held before is overwritten. Overflow gives infinity and NaN, as IEEE 754 says.
    ///
    /// ```
    /// use trivec_kernels::{Kernels, MatMut, MatRef};
    ///
    /// let (x, weight, mut out) = ([1.0, 2.0], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.0; 3]);
    /// Kernels::best().linear(MatRef::dense(&x, 2), MatRef::dense(&weight, 2), Some(&[0.0, 0.0, 10.0]), MatMut::dense(&mut out, 3));
    /// assert_eq!(out, [1.0, 2.0, 13.0]);
    /// ```
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
    /// an online softmax, so that the whole score matrix is never in memory. A query's result does not depend on the other queries.
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

    /// `row ← LayerNorm(row + branch)`, see [`Kernels::layer_norm`].
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_layer_norm(&self, row: &mut [f32], branch: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) {
        assert!(row.len() == branch.len(), "lengths of row and branch");
        assert!(row.len() == gain.len() && row.len() == bias.len(), "lengths of row, gain and bias");
        (self.add_layer_norm)(row, branch, gain, bias, epsilon)
    }

    /// GELU by one polynomial, for values that are then rounded to 8 or 16 bits. Error at most `8e-5 + 1e-5·max(x, 0)`.
    pub fn gelu_fast(&self, values: &mut [f32]) {
        (self.gelu_fast)(values)
    }

    /// Quantises a row for the integer products: `y = H ((row - centre) ∘ inverse_smoothing)` (see [`Kernels::prepare_row`]); for each group
    /// (the row or, for q4_0, a block of 32) `scale = max |y| / 127`; `out = round(y / scale)`, halves to even. `offsets` get the groups'
    /// corrections (see [`Rows8Kind`]). A group whose largest magnitude is below 1e-35 gets the scale 0, a group with a NaN or an infinity the
    /// scale NaN, and both get zeros in `out`. `scratch` has room for a row.
    ///
    /// # Panics
    /// If the lengths do not fit each other or the kind.
    #[allow(clippy::too_many_arguments)] // the row, its preparation, scratch, and the three parts of the result
    pub fn quantize_row(
        &self,
        kind: Rows8Kind,
        prepare: Prepare<'_>,
        row: &[f32],
        scratch: &mut [f32],
        out: &mut [i8],
        scales: &mut [f32],
        offsets: &mut [i32],
    ) {
        let depth = row.len();
        check_prepare(prepare, depth);
        assert!(depth > 0 && depth <= MAX_INT_DEPTH, "a row of {depth} values");
        assert!(scratch.len() >= depth && out.len() == row8_stride(depth), "lengths of scratch and out");
        assert_eq!((scales.len(), offsets.len()), (kind.scales(depth), kind.offsets(depth)), "scales and corrections");
        (self.quantize_row)(kind, prepare, row, scratch, out, scales, offsets)
    }

    /// The first half of [`Kernels::quantize_row`]: `out = H ((row - centre) ∘ inverse_smoothing)`; `row` and `out` have `depth` values. `H` is
    /// the unscaled Walsh-Hadamard transform of each block of `prepare.rotation` values. It is symmetric, and `H H` is the identity times
    /// `prepare.rotation`. So the product `W · row` stays what it is if each row of `W` is multiplied by the smoothing, transformed by `H`
    /// and divided by `prepare.rotation`, and `W · centre` is added to the bias.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn prepare_row(&self, prepare: Prepare<'_>, row: &[f32], out: &mut [f32]) {
        check_prepare(prepare, row.len());
        assert_eq!(row.len(), out.len(), "lengths of row and out");
        (self.prepare_row)(prepare, row, out)
    }

    /// `out = row` in bf16, halves to even.
    ///
    /// # Panics
    /// If `out` is shorter than `row`.
    pub fn round_bf16(&self, row: &[f32], out: &mut [u16]) {
        assert!(out.len() >= row.len(), "lengths of row and out");
        (self.round_bf16)(row, out)
    }

    /// `out[r, o] = (Σ_d a[r, d] · w[o, d]) · row_scale[r] · output_scale[o] + bias[o]` with exact integer sums: the same bits on every
    /// instruction set. Weights lie in panels, `[depth/4][32 outputs][4]` bytes `w + 128`. If `epilogue` asks for GELU, it follows.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn linear_i8(&self, x: Rows8<'_>, weight: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>) {
        assert_eq!(x.kind(), Rows8Kind::Int8, "rows for int8 weights");
        check_product(x.rows(), x.depth() * PANEL, &weight, epilogue, &out);
        (self.linear_i8)(x, weight, epilogue, out)
    }

    /// [`linear_i8`](Self::linear_i8) with int4 weights: compressed panels in groups of [`I4_GROUP_BYTES`](crate::I4_GROUP_BYTES), which are
    /// unpacked to int8 panels. The result has the same bits as that of `linear_i8` with the unpacked panels.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn linear_i4(&self, x: Rows8<'_>, weight: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>) {
        assert_eq!(x.kind(), Rows8Kind::Int8, "rows for int4 weights");
        check_product(x.rows(), x.depth().div_ceil(I4_GROUP) * I4_GROUP_BYTES, &weight, epilogue, &out);
        (self.linear_i4)(x, weight, epilogue, out)
    }

    /// `out[r, o] = Σ_blocks (Σ_d a · w) · activation_scale[r, block] · block_scale[o, block] + bias[o]` with a checkpoint's own 4-bit blocks
    /// (q4_0, of [`Q4_0_BLOCK_BYTES`](crate::Q4_0_BLOCK_BYTES)). The sums of blocks are exact, and are added in ascending order by fused
    /// multiply-adds: the same bits on every instruction set. If `epilogue` asks for GELU, it follows; `epilogue.scales` is not used.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn linear_q4_0(&self, x: Rows8<'_>, weight: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>) {
        assert_eq!(x.kind(), Rows8Kind::Q4_0, "rows for 4-bit blocks");
        check_product(x.rows(), x.depth() / I4_BLOCK * Q4_0_BLOCK_BYTES, &weight, epilogue, &out);
        (self.linear_q4_0)(x, weight, epilogue, out)
    }

    /// `out = x Wᵀ + b` with weights in f16, widened exactly, and f32 sums in ascending order.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn linear_f16(&self, x: MatRef<'_>, weight: Panels<'_, u16>, epilogue: Epilogue<'_>, out: MatMut<'_>) {
        check_product(x.rows(), x.cols() * PANEL, &weight, epilogue, &out);
        (self.linear_f16)(x, weight, epilogue, out)
    }

    /// `out = x Wᵀ + b` with rows and weights in bf16 and f32 sums. `x` is `[rows, depth]`, `depth` even.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn linear_bf16(
        &self,
        x: &[u16],
        depth: usize,
        weight: Panels<'_, u16>,
        epilogue: Epilogue<'_>,
        out: MatMut<'_>,
    ) {
        assert!(depth.is_multiple_of(2) && Some(x.len()) == depth.checked_mul(out.rows()), "shape of x");
        check_product(out.rows(), depth * PANEL, &weight, epilogue, &out);
        (self.linear_bf16)(x, depth, weight, epilogue, out)
    }

    /// The largest number of rows of `row_bytes` bytes that a caller should give to one product: that many stay in the second-level cache while
    /// all weights are read once for them.
    pub fn product_rows(&self, row_bytes: usize) -> usize {
        // 192 rows of 4 KB stay in a cache of 1 MB (32 register tiles of f32, 16 of int8); fewer rows would read the weights more often.
        // Matrix registers multiply so fast that the weights must be read less often; CPUs with AMX have caches of 2 MB (EXPERIMENTS.md).
        const ROWS: usize = 192;
        match self.isa.has_matrix_registers() {
            true => ((1 << 20) / row_bytes.max(1)).clamp(ROWS, 512),
            false => ROWS,
        }
    }

    /// Quantises one head's keys and values `[tokens, head_dim]` and lays them out for [`Kernels::attend_int`].
    ///
    /// # Panics
    /// If the shapes differ or there is no token.
    pub fn pack_int(&self, keys: MatRef<'_>, values: MatRef<'_>, scratch: &mut IntScratch, packed: &mut IntKeyValues) {
        assert!(keys.rows() > 0 && keys.cols() > 0 && keys.cols() <= MAX_INT_DEPTH, "shape of the keys");
        assert_eq!((keys.rows(), keys.cols()), (values.rows(), values.cols()), "keys and values");
        (self.pack_int)(keys, values, scratch, packed)
    }

    /// `out = softmax(scale · Q Kᵀ) V` for one head and up to [`QUERY_BLOCK`](crate::QUERY_BLOCK) queries, with integer products and an
    /// online softmax in f32: the same bits on every instruction set (but which NaN a NaN is), and independent of the other queries. Scores
    /// that overflow f32 give NaN. Queries whose largest magnitude is below 1e-35 count as zeros. Keys and values count as the text's mean if
    /// their distance to it is below 1e-35, or below 2^-80 of the text's largest magnitude.
    ///
    /// Rounding errors: a token's value is off by at most 1/254 of its largest distance to the text's mean value, and an attention weight by at
    /// most 1/508 of the largest weight in its tile of 64 tokens.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or if `packed` was made with [`Isa::Amx`] of more than 16 keys and this is another ISA.
    pub fn attend_int(
        &self,
        scale: f32,
        queries: MatRef<'_>,
        packed: &IntKeyValues,
        scratch: &mut IntScratch,
        out: MatMut<'_>,
    ) {
        assert!(queries.rows() <= attention::QUERY_BLOCK, "queries in a block");
        assert_eq!(queries.cols(), packed.head_dim(), "dimensions of queries and keys");
        assert!(self.isa.has_matrix_registers() || !packed.for_matrices(), "packed for matrix registers");
        assert_eq!((out.rows(), out.cols()), (queries.rows(), queries.cols()), "shape of out");
        (self.attend_int)(scale, queries, packed, scratch, out)
    }

    /// Runs `rounds` of a loop over registers with the ISA's fastest products of a kind, and returns its operations (a multiply-add counts as
    /// two). Callers measure with it the peak that a product of this instruction set could reach. (For int8 without VNNI the loop includes
    /// adding pairs, on AVX-512 also applying the weights' signs.)
    pub fn probe(&self, probe: probe::Probe, rounds: usize) -> f64 {
        (self.probe)(probe, rounds)
    }

    /// Reads the bytes with vector loads, except a few at the ends, and returns the bits of the largest f32 among them, so that the reads cannot be
    /// optimised away. Callers measure with it how fast memory is read in one stream or in two.
    pub fn read_memory(&self, bytes: &[u8], streams: Streams) -> u64 {
        (self.read_memory)(bytes, streams)
    }
}

/// Panics if the preparation does not fit rows of `depth` values.
fn check_prepare(prepare: Prepare<'_>, depth: usize) {
    let Prepare { centre, inverse_smoothing, rotation } = prepare;
    assert!(centre.is_none_or(|centre| centre.len() == depth), "length of the centre");
    assert!(inverse_smoothing.is_none_or(|inverse| inverse.len() == depth), "length of the smoothing");
    let fits = rotation.is_power_of_two() && rotation <= MAX_ROTATION && depth.is_multiple_of(rotation);
    assert!(fits, "a rotation of {rotation} over {depth} values");
}

/// Panics if the weights' panels do not have `panel_len` elements, or the epilogue or the shape of `out` do not fit.
fn check_product<T>(rows: usize, panel_len: usize, weight: &Panels<'_, T>, epilogue: Epilogue<'_>, out: &MatMut<'_>) {
    assert_eq!(weight.panel_len(), panel_len, "depth of x and of the weight");
    assert_eq!((out.rows(), out.cols()), (rows, weight.outputs()), "shape of out");
    epilogue.check(weight.outputs());
}

/// Compiles the generic kernel `$path` for an ISA's features, and wraps it in a function without the token, which fits into an ISA's table.
/// `tools/check_spills` finds the compiled function by `$name` inside the table.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($name:ident, $token:ty, [$($feature:tt),+], $path:path, ($($arg:ident: $type:ty),+) $(-> $ret:ty)?) => {{
        $(#[target_feature(enable = $feature)])+
        #[inline(never)] // on AArch64 every function has NEON's features, so this one would be inlined into the closure below
        #[allow(clippy::too_many_arguments)] // the token and the kernel's own
        fn $name(token: $token, $($arg: $type),+) $(-> $ret)? {
            $path(token, $($arg),+)
        }
        |$($arg: $type),+| {
            // SAFETY: this function is reachable through the ISA's table alone, which `for_isa` hands out only after `detect`
            // has found all of its features.
            unsafe { $name(<$token>::assume_detected(), $($arg),+) }
        }
    }};
}

/// Defines the macro `operation!(name, token, features)`, which gives the function that an ISA's table holds for the operation `name`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! define_operation {
    ($d:tt $($kind:ident $name:ident($($arg:ident: $type:ty),+) $(-> $ret:ty)? => $path:path;)+) => {
        macro_rules! operation {
            $(
                ($name, $d token:ty, $d features:tt) => {
                    in_set!($kind $name, $d token, $d features, $path, ($($arg: $type),+) $(-> $ret)?)
                };
            )+
        }
    };
}

/// What `operation!` expands to: a function that is compiled for the ISA, or a portable one.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! in_set {
    (generic $($operation:tt)+) => { compiled!($($operation)+) };
    (portable $name:ident, $token:ty, $features:tt, $path:path, ($($arg:ident: $type:ty),+)) => { |$($arg),+| $path($($arg),+) };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
for_each_operation!(define_operation, $);

/// Defines an ISA's table: the operations that are compiled for it, and for all others the functions of the ISA that it extends.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! table {
    ($table:ident, $isa:ident, $token:ty, $features:tt, [$($operation:ident),+] $(, extends $base:ident)?) => {
        static $table: Kernels = Kernels {
            isa: Isa::$isa,
            $($operation: operation!($operation, $token, $features),)+
            $(..$base)?
        };
    };
}

/// Says which operations are compiled for each ISA. Of an ISA that extends another, only the operations that use its additional instructions are
/// compiled; for the rest its table has the other's functions, because the code would be the same.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! define_table {
    (AVX_VNNI, $($row:tt)+) => { define_table!(dots AVX2, AVX_VNNI, $($row)+); };
    (AVX512_VNNI, $($row:tt)+) => { define_table!(dots AVX512, AVX512_VNNI, $($row)+); };
    (NEON_DOT, $($row:tt)+) => { define_table!(dots NEON, NEON_DOT, $($row)+); };
    (NEON_I8MM, $($row:tt)+) => { define_table!(dots NEON_DOT, NEON_I8MM, $($row)+); };
    (AVX512_BF16, $isa:ident, $token:ty, $features:tt) => {
        table!(AVX512_BF16, $isa, $token, $features, [round_bf16, linear_bf16, probe], extends AVX512_VNNI);
    };
    (AMX, $isa:ident, $token:ty, $features:tt, $and:path) => {
        table!(AMX, $isa, $token, $features,
            [linear_i8, linear_i4, linear_q4_0, linear_bf16, pack_int, attend_int, probe], extends AVX512_BF16);
    };
    // An ISA that adds dot products of bytes to `$base`.
    (dots $base:ident, $table:ident, $isa:ident, $token:ty, $features:tt) => {
        table!($table, $isa, $token, $features,
            [quantize_row, linear_i8, linear_i4, linear_q4_0, pack_int, attend_int, probe], extends $base);
    };
    ($table:ident, $isa:ident, $token:ty, $features:tt) => {
        table!($table, $isa, $token, $features, [
            linear, dot, gelu, layer_norm, pack_keys, attend, add_layer_norm, gelu_fast, quantize_row, prepare_row, round_bf16,
            linear_i8, linear_i4, linear_q4_0, linear_f16, linear_bf16, pack_int, attend_int, probe, read_memory
        ]);
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
for_each_simd!(define_table);
