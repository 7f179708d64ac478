//! Matrix products, `X · Wᵀ`, one file a kind of weight, and the layouts they read.
//!
//! | weights | activations | layout of the weights | file |
//! |---|---|---|---|
//! | f32 | f32 | row-major, as in a checkpoint | `f32.rs` |
//! | int8 | int8, a scale a row | panels of 32 outputs: `[depth/4][32 outputs][4]` bytes `w + 128` | `int8.rs` |
//! | int4 | int8, a scale a row or 32 values | panels of 32 outputs: `[depth/32]` blocks of 32 f16 scales and 512 bytes of nibbles | `int4.rs` |
//! | f16 | f32 | panels of 32 outputs: `[depth][32 outputs]` | `half.rs` |
//! | bf16 | bf16 | panels of 32 outputs: `[depth/2][32 outputs][2]` | `half.rs` |
//!
//! A panel is one stream through memory: a thread that works on consecutive panels reads consecutive bytes, each once for the rows of
//! a register tile. Blocks of 16 outputs x 4 depths (64 bytes) suit every instruction set: one register of AVX-512, two of
//! AVX2, four of NEON.

pub(crate) mod f32;
pub(crate) mod half;
pub(crate) mod int4;
pub(crate) mod int8;

/// Outputs of a panel: two vectors.
pub const PANEL: usize = 32;

/// Depth of a block of 4-bit weights that share a scale.
pub const I4_BLOCK: usize = 32;

/// Bytes of a block of 4-bit weights of one panel: 32 scales in f16, then 512 bytes of nibbles.
pub const I4_BLOCK_BYTES: usize = PANEL * 2 + PANEL * I4_BLOCK / 2;

/// Largest depth of an integer product: `depth · 255 · 128` stays below 2^31.
pub const MAX_INT_DEPTH: usize = 1 << 16;

/// How far ahead of the weights in use the stream is asked for: some 30 cache lines, about the time of a memory access at the
/// speed of one core.
const PREFETCH_BYTES: usize = 4096;

/// Weights in panels of [`PANEL`] outputs: `T` is `u8` (int8 and int4) or `u16` (f16 and bf16).
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a, T> {
    data: &'a [T],
    outputs: usize,
    panel_len: usize,
}

impl<'a, T> Panels<'a, T> {
    /// Panels of `panel_len` elements each, the last one padded to a whole panel.
    ///
    /// # Panics
    /// If `data` is not as long as they are.
    pub fn new(data: &'a [T], outputs: usize, panel_len: usize) -> Self {
        let panels = outputs.div_ceil(PANEL);
        assert_eq!(Some(data.len()), panels.checked_mul(panel_len), "{panels} panels of {panel_len}");
        Panels { data, outputs, panel_len }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Outputs `first .. first + outputs`; `first` begins a panel.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn outputs_from(&self, first: usize, outputs: usize) -> Self {
        assert!(
            first.is_multiple_of(PANEL) && first + outputs <= self.outputs,
            "{first} + {outputs} of {}",
            self.outputs
        );
        let data = &self.data[first / PANEL * self.panel_len..][..outputs.div_ceil(PANEL) * self.panel_len];
        Panels { data, outputs, panel_len: self.panel_len }
    }

    pub(crate) fn panel_len(&self) -> usize {
        self.panel_len
    }

    fn panel(&self, index: usize) -> &'a [T] {
        &self.data[index * self.panel_len..][..self.panel_len]
    }
}

/// What turns accumulators into outputs: `out[r, o] = acc · row_scale[r] · output_scale[o] + bias[o]`, then GELU if asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finish<'a> {
    /// `[outputs]`; `None` is 1. Not for f16 and bf16 weights.
    pub scales: Option<&'a [f32]>,
    /// `[outputs]`; `None` is 0.
    pub bias: Option<&'a [f32]>,
    /// Whether outputs go through [`crate::Kernels::gelu_fast`], while they are in registers. For int8 and int4 weights.
    pub gelu: bool,
}

impl Finish<'_> {
    pub(crate) fn check(&self, outputs: usize) {
        assert!(self.scales.is_none_or(|scales| scales.len() == outputs), "length of the scales");
        assert!(self.bias.is_none_or(|bias| bias.len() == outputs), "length of the bias");
    }
}

/// Calls `$f::<S, R>($args)` with `R` = `$rows`, which is 1 ..= `$max` <= 12.
macro_rules! with_rows {
    ($rows:expr, $max:expr, $f:ident::<$S:ident>($($arg:expr),* $(,)?)) => {
        match $rows {
            12 if $max >= 12 => $f::<$S, 12>($($arg),*),
            11 if $max >= 11 => $f::<$S, 11>($($arg),*),
            10 if $max >= 10 => $f::<$S, 10>($($arg),*),
            9 if $max >= 9 => $f::<$S, 9>($($arg),*),
            8 if $max >= 8 => $f::<$S, 8>($($arg),*),
            7 if $max >= 7 => $f::<$S, 7>($($arg),*),
            6 if $max >= 6 => $f::<$S, 6>($($arg),*),
            5 if $max >= 5 => $f::<$S, 5>($($arg),*),
            4 if $max >= 4 => $f::<$S, 4>($($arg),*),
            3 if $max >= 3 => $f::<$S, 3>($($arg),*),
            2 if $max >= 2 => $f::<$S, 2>($($arg),*),
            _ => $f::<$S, 1>($($arg),*),
        }
    };
}
pub(crate) use with_rows;

/// The rows of the next tile when `left` are left and a tile has at most `max`: as equal as they can be, for a tile of a few rows
/// takes as long to load its weights as a full one.
pub(crate) fn tile_rows(left: usize, max: usize) -> usize {
    left.div_ceil(left.div_ceil(max))
}

/// Loads of two vectors of per-output numbers, of which `outputs` exist.
#[inline(always)]
pub(crate) fn load_pair<S: crate::simd::Simd>(s: S, values: Option<&[f32]>, from: usize, default: f32) -> [S::V; 2] {
    let Some(values) = values else { return [s.splat(default); 2] };
    let mut pair = [s.splat(default); 2];
    for (i, v) in pair.iter_mut().enumerate() {
        let at = from + i * crate::LANES;
        if at < values.len() {
            let left = (values.len() - at).min(crate::LANES);
            // SAFETY: `left` elements remain from `at` on.
            *v = unsafe { s.load_first(values.as_ptr().add(at), left) };
        }
    }
    pair
}

/// Writes the first `cols <= 32` of two vectors.
///
/// # Safety
/// `cols` elements at `p` are writable.
#[inline(always)]
pub(crate) unsafe fn store_pair<S: crate::simd::Simd>(s: S, p: *mut f32, cols: usize, v: [S::V; 2]) {
    // SAFETY: by the caller's word.
    unsafe {
        if cols == PANEL {
            s.store(p, v[0]);
            s.store(p.add(crate::LANES), v[1]);
        } else {
            s.store_first(p, cols.min(crate::LANES), v[0]);
            if cols > crate::LANES {
                s.store_first(p.add(crate::LANES), cols - crate::LANES, v[1]);
            }
        }
    }
}
