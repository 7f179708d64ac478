//! Matrix products, `X · Wᵀ`, with one file for each kind of weight, and the layouts that they read.
//!
//! | weights | activations | layout of the weights | file |
//! |---|---|---|---|
//! | f32 | f32 | row-major, as in a checkpoint | `f32.rs` |
//! | int8 | int8, a scale a row | panels of 32 outputs: `[depth/4][32 outputs][4]` bytes `w + 128` | `int8.rs`; AVX2: `int8_split.rs` |
//! | int4 | int8, a scale a row | int8 panels, compressed: `[depth/64]` groups of 64 bytes of grids and 1,024 bytes of nibbles | `int4.rs` |
//! | q4_0 (4-bit blocks) | int8, a scale for 32 values | panels of 32 outputs: `[depth/32]` blocks of 32 f16 scales and 512 bytes of nibbles | `q4_0.rs` |
//! | f16 | f32 | panels of 32 outputs: `[depth][32 outputs]` | `half.rs` |
//! | bf16 | bf16 | panels of 32 outputs: `[depth/2][32 outputs][2]` | `half.rs` |
//!
//! The 4-bit blocks are those that a checkpoint may have itself. A panel is read from front to back: a thread that works on consecutive panels
//! reads consecutive bytes, each once for the rows of a register tile. Blocks of 16 outputs x 4 depths (64 bytes) suit every instruction set:
//! one register of AVX-512, two of AVX2, four of NEON.

use crate::cpu::reads_one_stream;
use crate::layout::{LANES, PANEL};
use crate::simd::Simd;
use crate::simd::int::SimdInt;

mod epilogue;
pub(crate) mod f32;
pub(crate) mod half;
pub(crate) mod int4;
pub(crate) mod int8;
pub(crate) mod int8_split;
pub(crate) mod matrix;
pub(crate) mod matrix_q4_0;
pub(crate) mod q4_0;
pub(crate) mod tiles;

/// How many bytes ahead of the weights in use the prefetch goes: a core takes about the latency of memory to read as many.
const PREFETCH_BYTES: usize = 4096;

/// How many bytes ahead the prefetch goes where a core reads in a single stream (EXPERIMENTS.md compares other distances).
pub(crate) const ONE_STREAM_BYTES: usize = 6144;

/// What a register tile prefetches while it is computed. A panel's only tile prefetches as many bytes as its panel has, a fixed distance ahead;
/// of several tiles over a panel, each prefetches its share of the next one. The addresses may lie beyond the weights.
#[derive(Clone, Copy)]
pub(crate) struct Prefetch {
    /// Where the tile's first step prefetches.
    pub first: *const u8,
    /// How far the address moves with every step of the tile, in bytes.
    pub step: usize,
    /// Whether to prefetch into the second-level cache instead of the first.
    pub far: bool,
}

impl Prefetch {
    /// What tile `index` of the `tiles` over a panel prefetches, if each reads the panel `step` bytes at a time.
    pub fn of<T>(panel: &[T], step: usize, index: usize, tiles: usize) -> Prefetch {
        NextPanel::after(panel, tiles).share(size_of_val(panel) / step, index, tiles)
    }

    /// Prefetches the cache line `at` bytes after `first`.
    #[inline(always)]
    pub fn fetch<S: Simd>(self, s: S, at: usize) {
        let line = self.first.wrapping_add(at);
        match self.far {
            true => s.prefetch_far(line),
            false => s.prefetch(line),
        }
    }
}

/// The bytes that are needed after a panel, which all tiles over this panel prefetch together.
#[derive(Clone, Copy)]
pub(crate) struct NextPanel {
    first: *const u8,
    bytes: usize,
    far: bool,
}

impl NextPanel {
    /// What to prefetch where panels are read in place: for one tile, the bytes a fixed distance ahead; for several, the next panel.
    fn after<T>(panel: &[T], tiles: usize) -> NextPanel {
        let bytes = size_of_val(panel);
        let one_stream = reads_one_stream();
        let ahead = match tiles {
            0 | 1 if one_stream => ONE_STREAM_BYTES,
            0 | 1 => PREFETCH_BYTES,
            _ => bytes,
        };
        NextPanel { first: panel.as_ptr().cast::<u8>().wrapping_add(ahead), bytes, far: one_stream && tiles <= 1 }
    }

    /// The share of tile `index` of `tiles`, which it prefetches in `steps` steps.
    fn share(self, steps: usize, index: usize, tiles: usize) -> Prefetch {
        let of_tile = self.bytes / tiles.max(1);
        Prefetch { first: self.first.wrapping_add(index * of_tile), step: of_tile / steps.max(1), far: self.far }
    }
}

/// Weights that a product takes panel by panel: read in place, or unpacked first.
pub(crate) trait Source<T> {
    /// Whether panels are read in place, not unpacked to other memory.
    const IN_PLACE: bool;
    /// Number of outputs.
    fn outputs(&self) -> usize;
    /// Panel `index`, ready to be multiplied, and what the `tiles` over it should prefetch.
    fn ready<S: SimdInt>(&mut self, s: S, index: usize, tiles: usize) -> (&[T], NextPanel);
}

impl<T, W: Source<T>> Source<T> for &mut W {
    const IN_PLACE: bool = W::IN_PLACE;
    #[inline(always)]
    fn outputs(&self) -> usize {
        W::outputs(self)
    }
    #[inline(always)]
    fn ready<S: SimdInt>(&mut self, s: S, index: usize, tiles: usize) -> (&[T], NextPanel) {
        W::ready(self, s, index, tiles)
    }
}

/// Panels that are read in place.
impl<T> Source<T> for Panels<'_, T> {
    const IN_PLACE: bool = true;
    #[inline(always)]
    fn outputs(&self) -> usize {
        self.outputs
    }
    #[inline(always)]
    fn ready<S: SimdInt>(&mut self, _s: S, index: usize, tiles: usize) -> (&[T], NextPanel) {
        let panel = self.panel(index);
        (panel, NextPanel::after(panel, tiles))
    }
}

/// Weights in panels of [`PANEL`] outputs: `T` is `u8` (int8, int4 and q4_0) or `u16` (f16 and bf16).
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a, T> {
    data: &'a [T],
    outputs: usize,
    panel_len: usize,
}

impl<'a, T> Panels<'a, T> {
    /// Views `data` as panels of `panel_len` elements, one for every 32 outputs; the last one is padded to a whole panel.
    ///
    /// # Panics
    /// If `data` does not have exactly that many elements.
    pub fn new(data: &'a [T], outputs: usize, panel_len: usize) -> Self {
        let panels = outputs.div_ceil(PANEL);
        assert_eq!(Some(data.len()), panels.checked_mul(panel_len), "{panels} panels of {panel_len}");
        Panels { data, outputs, panel_len }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Outputs `first .. first + outputs`, where `first` begins a panel.
    ///
    /// # Panics
    /// If `first` is no multiple of 32, or if there are fewer outputs.
    pub fn outputs_from(&self, first: usize, outputs: usize) -> Self {
        assert!(
            first.is_multiple_of(PANEL) && first <= self.outputs && outputs <= self.outputs - first,
            "outputs {first} + {outputs} of {}",
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

/// The epilogue of a product, which turns sums into outputs: `out[r, o] = acc · row_scale[r] · output_scale[o] + bias[o]`, then GELU if asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// The scale of each output; `None` is 1. For int8 and int4 weights alone.
    pub scales: Option<&'a [f32]>,
    /// The bias of each output; `None` is 0.
    pub bias: Option<&'a [f32]>,
    /// Whether [`crate::Kernels::gelu_fast`] is applied to the outputs, while they are in registers. Has no effect with f16 and bf16 weights.
    pub gelu: bool,
}

impl Epilogue<'_> {
    /// Panics unless there are as many scales and biases as `outputs`.
    pub(crate) fn check(&self, outputs: usize) {
        assert!(self.scales.is_none_or(|scales| scales.len() == outputs), "length of the scales");
        assert!(self.bias.is_none_or(|bias| bias.len() == outputs), "length of the bias");
    }

    /// Prefetches the scales and biases of `N` vectors of outputs from `at` on, so that they have arrived when the sums are complete:
    /// like the weights, each is read from memory once in a forward pass.
    #[inline(always)]
    pub(crate) fn prefetch<S: Simd, const N: usize>(&self, s: S, at: usize) {
        for values in [self.scales, self.bias].into_iter().flatten() {
            for n in 0..N {
                s.prefetch(values.as_ptr().wrapping_add(at + n * LANES).cast());
            }
        }
    }
}

/// Loads `N` vectors of `values`, of which each output has one, from output `at` on; without `values`, all lanes are `default`. Lanes beyond
/// the last output are 0 or `default`, and nobody stores what is computed from them.
#[inline(always)]
pub(crate) fn load_vectors<S: Simd, const N: usize>(
    s: S,
    values: Option<&[f32]>,
    at: usize,
    default: f32,
) -> [S::V; N] {
    let mut vectors = [s.splat(default); N];
    let Some(values) = values else { return vectors };
    for (n, v) in vectors.iter_mut().enumerate() {
        let at = at + n * LANES;
        if at < values.len() {
            let left = (values.len() - at).min(LANES);
            // SAFETY: `left` elements remain from `at` on.
            *v = unsafe { s.load_first(values.as_ptr().add(at), left) };
        }
    }
    vectors
}

/// Writes the first `cols` elements of `N` vectors, or all if there are fewer.
///
/// # Safety
/// `cols` elements at `p` are writable, or `16 N` if that is fewer.
#[inline(always)]
pub(crate) unsafe fn store_vectors<S: Simd, const N: usize>(s: S, p: *mut f32, cols: usize, vectors: [S::V; N]) {
    for (n, v) in vectors.into_iter().enumerate() {
        let at = n * LANES;
        // SAFETY: guaranteed by the caller.
        unsafe {
            if cols >= at + LANES {
                s.store(p.add(at), v);
            } else if cols > at {
                s.store_first(p.add(at), cols - at, v);
            }
        }
    }
}
