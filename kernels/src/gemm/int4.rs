//! The int4 matrix product. A panel of int4 weights is a compressed int8 panel: it is unpacked, and then multiplied by the int8 code.
//!
//! ```text
//! weight = (u - z) · m · output scale                u: 4 bits a weight; m, z: 4 bits each for 32 depths of an output
//!
//! a group of a panel, 64 depths by 32 outputs:       17 cache lines, 4.25 bits a weight
//!     64 bytes       [2 blocks][32 outputs]          m | z << 4
//!     2 x 512 bytes  [4 steps][32 outputs][4]        low nibbles: depths 0 .. 16 of the block, high nibbles: 16 .. 32
//! unpacked           [16 quads][32 outputs][4]       (u - z) · m + 128 modulo 256: what `int8.rs` and `matrix.rs` multiply
//! ```
//! 1. Results have the same bits as those of int8 weights with the same integers, on every instruction set.
//! 2. With few rows (a tile or a few), each tile unpacks and multiplies the panel group by group: an unpacked group is 2 KB, which stay in
//!    the first-level cache, and the sums stay in registers. AVX-512 unpacks on execution units that dot products leave idle: tiles of up
//!    to 8 rows leave registers for the unpacked weights ([`dots_of_registers`]); larger ones multiply a group that was unpacked to
//!    memory and meanwhile unpack the next one ([`dots_and_unpack`]). With many rows, the whole panel is unpacked first, and then all
//!    tiles are multiplied with it. Unpacking takes some four instructions for 64 weights, but an unpacked panel does not stay in the
//!    first-level cache. EXPERIMENTS.md has the gain of each way.
//! 3. Any bytes are valid weights: `pack` writes only weights with `|w| <= 127`, and what other bytes stand for wraps around modulo 256.
//!    Padding beyond the last depth is unpacked, but not multiplied.

use std::cell::Cell;
use std::mem::MaybeUninit;

use super::tiles::{Place, TileProduct, by_tiles, of_this_tile};
use super::{Epilogue, NextPanel, PREFETCH_BYTES, Panels, Prefetch, Source, epilogue, int8, matrix};
use crate::buffer::Buffer;
use crate::cpu::reads_one_stream;
use crate::layout::{I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, I4_GROUP_UNPACKED, LANES, MATRIX_TILE, PANEL, TileShape};
use crate::rows8::Rows8;
use crate::simd::int::SimdInt;
use crate::view::MatMut;

/// With fewer rows, dot products are faster than matrix registers. With this many rows, up to one matrix register of them, unpacking a panel piece
/// by piece is faster than unpacking it whole (EXPERIMENTS.md).
const FEWEST_FOR_MATRICES: usize = 9;

thread_local! {
    /// An unpacked panel: 32 bytes for each depth, 128 KB for BGE-M3's largest layer. This and the split rows of `int8_split.rs` are the
    /// only memory that the kernels themselves keep. It is thread-local because a caller does not know how many threads will run a product, and it
    /// carries no data from one product to the next.
    static PANEL_OF_BYTES: Cell<Buffer<u8>> = Cell::default();
}

/// See [`crate::Kernels::linear_i4`], which has checked the shapes.
#[inline(always)]
pub(crate) fn linear<S: SimdInt>(s: S, x: Rows8<'_>, w: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>) {
    if x.rows() == 0 {
        return;
    }
    if S::MATRICES && (FEWEST_FOR_MATRICES..=MATRIX_TILE).contains(&x.rows()) {
        return matrix::linear_few_i4(s, x, w, epilogue, out);
    }
    if x.rows() <= S::FEW_I4_ROWS {
        let unpacked = Unpacked { groups: [[MaybeUninit::uninit(); I4_GROUP_UNPACKED]; 2], own: 0, ready: false };
        // SAFETY: rows, panels and outputs of the same shape, as checked.
        return unsafe { by_tiles(s, w, FewRows { x, panels: w, epilogue, unpacked }, out) };
    }
    // The memory is taken out of the cell instead of borrowed in a closure, because closures are compiled without the ISA's features. On a
    // thread that is ending, the cell may already be destroyed.
    let mut bytes = PANEL_OF_BYTES.try_with(Cell::take).unwrap_or_default();
    bytes.grow(w.panel_len() / I4_GROUP_BYTES * I4_GROUP_UNPACKED);
    int8::linear(s, x, Packed { panels: w, bytes: &mut bytes, depth: x.depth() }, epilogue, out);
    let _ = PANEL_OF_BYTES.try_with(|kept| kept.set(bytes));
}

/// The product of few rows: every tile unpacks the weights it needs.
struct FewRows<'a> {
    x: Rows8<'a>,
    panels: Panels<'a, u8>,
    epilogue: Epilogue<'a>,
    unpacked: Unpacked,
}

/// Steps of the dot products over a group: 4 depths each.
const STEPS: usize = I4_GROUP / 4;
/// How many groups ahead of its current group a stream prefetches: as many bytes as int8 in two streams, rounded up.
const GROUPS_AHEAD: usize = PREFETCH_BYTES.div_ceil(I4_GROUP_BYTES);
/// How many groups ahead a single stream also prefetches into the second-level cache.
const GROUPS_FAR_AHEAD: usize = 12;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Most rows whose sums leave registers for a step of weights (both vectors, both halves) and their grids: 16 + 4 + 4 of 32, and three more.
const REGISTER_ROWS: usize = 8;

/// Two unpacked groups: the current one and the next one. They are uninitialised until a group is unpacked there, because tiles of up to 8
/// rows may need neither.
#[repr(C, align(64))]
struct Unpacked {
    groups: [[MaybeUninit<u8>; I4_GROUP_UNPACKED]; 2],
    /// Which of the two is the current group.
    own: usize,
    /// Whether the current group has been unpacked.
    ready: bool,
}

impl<S: SimdInt> TileProduct<S, u8> for FewRows<'_> {
    const TILE: TileShape = S::FEW_I4_TILE;

    // If `unpacked.ready` is set when a tile begins, the current group is its first one: the tile before has unpacked it.
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(
        &mut self,
        s: S,
        panel: &[u8],
        place: Place,
        out: *mut f32,
        ldo: usize,
    ) {
        let FewRows { x, panels, epilogue, ref mut unpacked } = *self;
        let Place { row, at, .. } = place;
        let (ldx, outputs) = (of_this_tile(x.stride()), panels.outputs());
        let ahead = place.prefetch(panel.len() / I4_GROUP_BYTES);
        let only = place.tiles == 1;
        // The panel that the next tile multiplies.
        let next = match row + R < x.rows() {
            true => Some(panel),
            false if at + PANEL < outputs => Some(panels.panel(at / PANEL + 1)),
            false => None,
        };
        let streams = only && !reads_one_stream();
        epilogue.prefetch::<S, N>(s, at);
        let mut acc = int8::begin_sums::<S, R, N>(s, &x.offsets()[row..][..R]);
        let groups = panel.len() / I4_GROUP_BYTES;
        // Two streams read the two halves of the groups in turn, as in `int8.rs`; of an odd number, the first half has one more. Unlike there, a
        // single stream is prefetched into the first-level cache too, because arithmetic takes longer than memory here (EXPERIMENTS.md).
        let half = if streams { groups.div_ceil(2) } else { groups };
        for turn in 0..groups {
            let group = in_turn(turn, half, streams);
            let from = panel.as_ptr().wrapping_add(group * I4_GROUP_BYTES);
            let mut ahead =
                Prefetch { first: ahead.first.wrapping_add(group * ahead.step), step: ahead.step / STEPS, far: false };
            if streams {
                // After the end of its half, a stream continues with the same half of the next panel.
                let skip = if group % half + GROUPS_AHEAD < half { 0 } else { groups - half };
                ahead = Prefetch {
                    first: from.wrapping_add((GROUPS_AHEAD + skip) * I4_GROUP_BYTES),
                    step: I4_GROUP_BYTES / STEPS,
                    far: false,
                };
            }
            let first = group * I4_GROUP;
            let [a, b] = &mut unpacked.groups;
            let (own, other) = if unpacked.own == 0 { (a, b) } else { (b, a) };
            let (own, other) = (own.as_mut_ptr().cast::<u8>(), other.as_mut_ptr().cast::<u8>());
            let next_group = match turn + 1 < groups {
                true => Some(panel.as_ptr().wrapping_add(in_turn(turn + 1, half, streams) * I4_GROUP_BYTES)),
                false => next.map(<[u8]>::as_ptr),
            };
            // SAFETY: groups, and room for them; `x.depth()` activations of each row.
            unsafe {
                let depth = (x.depth() - first).min(I4_GROUP);
                let x = x.row_ptr(row).add(first);
                if S::UNPACKS_BETWEEN && R <= REGISTER_ROWS && depth == I4_GROUP {
                    dots_of_registers::<S, R, N>(s, &mut acc, x, ldx, from, ahead, only && !streams);
                    // This group was multiplied without `unpacked`, so what is there is not the group that comes next.
                    unpacked.ready = false;
                    continue;
                }
                if !unpacked.ready {
                    s.unpack4(from, own);
                }
                match next_group {
                    Some(next_group) if S::UNPACKS_BETWEEN && depth == I4_GROUP => {
                        dots_and_unpack::<S, R, N>(s, &mut acc, x, ldx, own, ahead, next_group, other);
                        (unpacked.own, unpacked.ready) = (1 - unpacked.own, true);
                    }
                    _ => {
                        int8::add_dots::<S, R, N, 1>(s, &mut acc, x, ldx, own, depth, ahead);
                        unpacked.ready = false;
                    }
                }
            }
        }
        // SAFETY: guaranteed by the caller.
        unsafe { epilogue::finish_tile(s, acc, &x.scales()[row..], epilogue, (at, outputs), out, ldo) };
    }
}

/// The group that is multiplied in turn `turn`. With two streams, the groups of both halves alternate.
#[inline(always)]
fn in_turn(turn: usize, half: usize, streams: bool) -> usize {
    if streams { turn / 2 + turn % 2 * half } else { turn }
}

/// Adds the dot products of a group, whose weights are unpacked to registers. The CPU executes out of order, so it unpacks a step while it
/// still multiplies the steps before. With `far`, it also prefetches a group farther ahead into the second-level cache.
///
/// # Safety
/// 64 activations are readable at `x + r · ldx` for `r < R`, a group at `group`.
#[inline(always)]
unsafe fn dots_of_registers<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    acc: &mut [[S::I; N]; R],
    x: *const i8,
    ldx: usize,
    group: *const u8,
    ahead: Prefetch,
    far: bool,
) {
    // A group has one cache line more than the loop below prefetches. A panel's only tile prefetches that line here (EXPERIMENTS.md).
    let step = ahead.step.min(LINE);
    ahead.fetch(s, STEPS * step);
    for block in 0..2 {
        // SAFETY: guaranteed by the caller: both blocks' grids, and four steps of both vectors; 32 activations of each row for each block.
        unsafe {
            let mut grids = [s.load_grids(group.add(block * PANEL)); N];
            for (n, grids) in grids.iter_mut().enumerate().skip(1) {
                *grids = s.load_grids(group.add(block * PANEL + n * LANES));
            }
            // `black_box` hides the number of iterations: unrolled, the loop is slower (EXPERIMENTS.md).
            for quad in 0..std::hint::black_box(4) {
                let line = (block * 4 + quad) * 2;
                ahead.fetch(s, line * step);
                ahead.fetch(s, (line + 1) * step);
                if far {
                    let line = group.wrapping_add(GROUPS_FAR_AHEAD * I4_GROUP_BYTES + line * LINE);
                    s.prefetch_far(line);
                    s.prefetch_far(line.wrapping_add(LINE));
                }
                let nibbles = group.add(2 * PANEL + block * 512 + quad * 128);
                let mut w = [s.unpacked_step(grids[0], nibbles); N];
                for (n, w) in w.iter_mut().enumerate().skip(1) {
                    *w = s.unpacked_step(grids[n], nibbles.add(64 * n));
                }
                let x = x.add(block * I4_BLOCK + quad * 4);
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (half, at) in [0, I4_BLOCK / 2].into_iter().enumerate() {
                        let a = s.broadcast_a8(x.add(r * ldx + at));
                        for n in 0..N {
                            acc[n] = s.dot8(acc[n], w[n][half], a);
                        }
                    }
                }
            }
        }
    }
}

/// Adds the dot products of a group, and unpacks the next group between them.
///
/// # Safety
/// 64 activations are readable at `x + r · ldx` for `r < R`, an unpacked group at `w`, a group to unpack at `next_group`; 2 KB are writable at
/// `to`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn dots_and_unpack<S: SimdInt, const R: usize, const N: usize>(
    s: S,
    acc: &mut [[S::I; N]; R],
    x: *const i8,
    ldx: usize,
    w: *const u8,
    ahead: Prefetch,
    next_group: *const u8,
    to: *mut u8,
) {
    let mut quad = 0;
    for (block, vector) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        // SAFETY: guaranteed by the caller: both blocks' grids, four steps of both vectors, and sixteen quads.
        unsafe {
            let grids = s.load_grids(next_group.add(block * PANEL + vector * LANES));
            // `black_box` hides the number of iterations: the compiler would unroll the loop, do all unpacking first, and run out of
            // registers.
            for step in 0..std::hint::black_box(4) {
                ahead.fetch(s, quad * ahead.step);
                let nibbles = next_group.add(2 * PANEL + block * 512 + step * 128 + vector * 64);
                s.unpack_step(grids, nibbles, to.add(block * 1024 + step * 128 + vector * 64));
                s.add_quad8(acc, x.add(4 * quad), ldx, w.add(quad * 4 * PANEL));
                quad += 1;
            }
        }
    }
}

/// Panels that are unpacked one after the other.
struct Packed<'a> {
    panels: Panels<'a, u8>,
    /// Room for one unpacked panel.
    bytes: &'a mut [u8],
    /// Depth of the rows: that of the panels without the padding of their last group.
    depth: usize,
}

impl Source<u8> for Packed<'_> {
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn outputs(&self) -> usize {
        self.panels.outputs()
    }

    /// The first half of the next panel is prefetched while a panel is unpacked and the second half while it is multiplied, so that memory
    /// is never idle.
    #[inline(always)]
    fn ready<S: SimdInt>(&mut self, s: S, index: usize, _tiles: usize) -> (&[u8], NextPanel) {
        let panel = self.panels.panel(index);
        let half = panel.len() / 2;
        let next = panel.as_ptr().wrapping_add(panel.len());
        let groups = panel.chunks_exact(I4_GROUP_BYTES).zip(self.bytes.chunks_exact_mut(I4_GROUP_UNPACKED));
        for (index, (group, to)) in groups.enumerate() {
            let ahead = next.wrapping_add(index * (I4_GROUP_BYTES / 2));
            for line in 0..(I4_GROUP_BYTES / 2).div_ceil(64) {
                s.prefetch(ahead.wrapping_add(line * 64));
            }
            // SAFETY: a group, and what it becomes.
            unsafe { s.unpack4(group.as_ptr(), to.as_mut_ptr()) };
        }
        (&self.bytes[..self.depth * PANEL], NextPanel { first: next.wrapping_add(half), bytes: half, far: false })
    }
}
