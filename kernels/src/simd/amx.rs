//! Sums of products by AMX. It has eight registers that hold matrices of 16 rows x 64 bytes, and one instruction adds to 16 x 16 sums the
//! products of 16 rows by 16 outputs over 64 bytes of depth (64 activations of int8, 32 of bf16).
//!
//! ```text
//! tmm0 tmm1      sums of rows 0 .. 16 by the panel's outputs 0 .. 16 and 16 .. 32       4 x 16 cycles of products for
//! tmm2 tmm3      sums of rows 16 .. 32                                                  4 x 8 cycles of loads; a sum waits 52
//! tmm4 tmm5      weights: 16 lines of the panel, 128 bytes apart                        cycles for the one before, so four sums
//! tmm6 tmm7      rows, read in place                                                    in turn keep the multiplier busy
//! ```
//! Panels already have the layout that the instruction needs: 64 bytes are 16 outputs x 4 depths of int8 or 2 of bf16. Nothing is rearranged.
//!
//! int8 sums are exact. For bf16 the instruction adds up the even and the odd depths of a step separately, and then adds both to the sum. It treats
//! subnormals as zero, and sums that overflow in both directions become NaN. The order is the same for any number of rows.
//!
//! Functions here are unsafe because they take no token: the CPU must have AMX, and the system must have allowed it (`cpu::amx::permitted`). Each
//! block of assembly begins with sums of zero and declares that it overwrites all matrix registers. Only their configuration (how many rows they
//! have), which no compiled code touches, stays from [`configure`] to [`release`].

use std::arch::asm;

use crate::layout::{GroupSums, MATRIX_STEP, MATRIX_TILE, Operands, PANEL, Sums};

/// The configuration that `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

/// Gives this thread's matrix registers their shapes: `rows` rows of sums and of activations, 1 ..= 16, and `depth_bytes` bytes of depth in a
/// step, a multiple of 4 up to 64.
///
/// # Safety
/// `cpu::amx::permitted()` has returned true. [`release`] follows.
#[inline(always)]
pub(crate) unsafe fn configure(rows: usize, depth_bytes: usize) {
    debug_assert!(
        (1..=MATRIX_TILE).contains(&rows) && (4..=MATRIX_STEP).contains(&depth_bytes) && depth_bytes.is_multiple_of(4)
    );
    let mut configuration =
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes_of_row: [0; 16], rows: [0; 16] };
    for register in 0..8 {
        let (rows, bytes) = match register {
            4 | 5 => (depth_bytes / 4, MATRIX_STEP),
            6 | 7 => (rows, depth_bytes),
            _ => (rows, MATRIX_STEP),
        };
        configuration.rows[register] = rows as u8;
        configuration.bytes_of_row[register] = bytes as u16;
    }
    // SAFETY: guaranteed by the caller; it reads the 64 bytes.
    unsafe {
        asm!(
            "ldtilecfg [{}]",
            in(reg) &raw const configuration,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags, readonly)
        );
    }
}

/// Releases the matrix registers, so that the operating system need not save them when it switches threads.
///
/// # Safety
/// `cpu::amx::permitted()` has returned true.
#[inline(always)]
pub(crate) unsafe fn release() {
    // SAFETY: guaranteed by the caller.
    unsafe {
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem, preserves_flags)
        );
    }
}

/// Sets the sums of one register of rows (`SINGLE`) or of two (`PAIR`) to zero, adds the products of all steps, and stores them.
macro_rules! multiply {
    ($dot:literal, $o:expr, $sums:expr, PAIR) => {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{w} + {line}*1]",
            // The rows are read from the second-level cache, once for each panel. The non-temporal hint (`t1`) keeps them from evicting the panel
            // from the first-level cache.
            "tileloaddt1 tmm6, [{x} + {stride}*1]",
            concat!($dot, " tmm0, tmm6, tmm4"),
            "tileloadd tmm5, [{w} + {line}*1 + 64]",
            concat!($dot, " tmm1, tmm6, tmm5"),
            "tileloaddt1 tmm7, [{y} + {stride}*1]",
            concat!($dot, " tmm2, tmm7, tmm4"),
            concat!($dot, " tmm3, tmm7, tmm5"),
            "mov {i}, {lines}",
            "3:",
            "prefetcht0 [{ahead}]",
            "add {ahead}, 64",
            "dec {i}",
            "jnz 3b",
            "add {w}, 2048", "add {x}, 64", "add {y}, 64",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {line}*1], tmm0",
            "tilestored [{out} + {line}*1 + 64], tmm1",
            "tilestored [{out} + {line}*1 + 2048], tmm2",
            "tilestored [{out} + {line}*1 + 2112], tmm3",
            w = inout(reg) $o.weights => _,
            x = inout(reg) $o.rows[0] => _,
            y = inout(reg) $o.rows[1] => _,
            stride = in(reg) $o.row_stride,
            line = in(reg) 128usize,
            n = inout(reg) $o.steps => _,
            i = out(reg) _,
            lines = in(reg) $o.lines,
            ahead = inout(reg) $o.ahead => _,
            out = in(reg) $sums,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
    ($dot:literal, $o:expr, $sums:expr, SINGLE) => {
        asm!(
            "tilezero tmm0", "tilezero tmm1",
            "2:",
            "tileloadd tmm6, [{x} + {stride}*1]",
            "tileloadd tmm4, [{w} + {line}*1]",
            concat!($dot, " tmm0, tmm6, tmm4"),
            "tileloadd tmm5, [{w} + {line}*1 + 64]",
            concat!($dot, " tmm1, tmm6, tmm5"),
            "mov {i}, {lines}",
            "3:",
            "prefetcht0 [{ahead}]",
            "add {ahead}, 64",
            "dec {i}",
            "jnz 3b",
            "add {w}, 2048", "add {x}, 64",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {line}*1], tmm0",
            "tilestored [{out} + {line}*1 + 64], tmm1",
            w = inout(reg) $o.weights => _,
            x = inout(reg) $o.rows[0] => _,
            stride = in(reg) $o.row_stride,
            line = in(reg) 128usize,
            n = inout(reg) $o.steps => _,
            i = out(reg) _,
            lines = in(reg) $o.lines,
            ahead = inout(reg) $o.ahead => _,
            out = in(reg) $sums,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// Prefetches sixteen cache lines, beginning `$from` bytes after the address `$at`.
macro_rules! sixteen_lines {
    ($at:literal, $from:literal) => {
        concat!(
            lines!(@four $at, $from, "0", "64", "128", "192"),
            lines!(@four $at, $from, "256", "320", "384", "448"),
            lines!(@four $at, $from, "512", "576", "640", "704"),
            lines!(@four $at, $from, "768", "832", "896", "960"),
        )
    };
}
macro_rules! lines {
    (@four $at:literal, $from:literal, $($line:literal),*) => {
        concat!($("prefetcht1 [", $at, " + ", $from, " + ", $line, "]\n"),*)
    };
}

/// How far ahead of a stream's weights the prefetch into the second-level cache goes: one step.
const STREAM_AHEAD: usize = MATRIX_STEP / 4 * 4 * PANEL;

/// As `multiply`, for int8: goes through the two halves of the depth in turn. The lists in brackets are the instructions for a second register
/// of rows.
macro_rules! multiply_halves {
    ($o:expr, $sums:expr, [$($pair:literal),*], [$($next:literal),*], [$($back:literal),*], [$($store:literal),*]) => {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "cmp {n}, 1",
            "jne 3f",
            // The prefetch of a half's last step continues with the same half of the next panel.
            "add {d}, {half}",
            "3:",
            multiply_halves!(@step $($pair),*),
            "add {w}, {half}", "add {x}, {depth}", $($next,)*
            multiply_halves!(@step $($pair),*),
            "sub {w}, {half}", "sub {x}, {depth}", $($back,)*
            "add {w}, 2048", "add {x}, 64",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {line}*1], tmm0",
            "tilestored [{out} + {line}*1 + 64], tmm1",
            $($store,)*
            w = inout(reg) $o.weights => _,
            x = inout(reg) $o.rows[0] => _,
            y = inout(reg) $o.rows[1] => _,
            stride = in(reg) $o.row_stride,
            line = in(reg) 128usize,
            n = inout(reg) $o.steps / 2 => _,
            d = inout(reg) STREAM_AHEAD => _,
            half = in(reg) $o.steps / 2 * 4 * PANEL * MATRIX_STEP / 4,
            depth = in(reg) $o.steps / 2 * MATRIX_STEP,
            out = in(reg) $sums,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
    (@step $($pair:literal),*) => {
        concat!(
            "tileloadd tmm4, [{w} + {line}*1]\n",
            sixteen_lines!("{w} + {d}", "0"),
            "tileloadd tmm6, [{x} + {stride}*1]\n",
            "tdpbsud tmm0, tmm6, tmm4\n",
            "tileloadd tmm5, [{w} + {line}*1 + 64]\n",
            "tdpbsud tmm1, tmm6, tmm5\n",
            sixteen_lines!("{w} + {d}", "1024"),
            $($pair, "\n"),*
        )
    };
}

/// See [`super::int::SimdInt::matrix_halves`].
///
/// # Safety
/// As there; `permitted()` has returned true.
#[inline(always)]
pub(crate) unsafe fn halves<const PAIR: bool>(o: Operands, sums: &mut Sums) {
    debug_assert!(o.steps >= 2 && o.steps.is_multiple_of(2));
    let out = sums.0.as_mut_ptr();
    // SAFETY: guaranteed by the caller; prefetches may have any address; the sums are 4,096 bytes. The stack is not used.
    unsafe {
        match PAIR {
            true => multiply_halves!(
                o,
                out,
                ["tileloadd tmm7, [{y} + {stride}*1]", "tdpbsud tmm2, tmm7, tmm4", "tdpbsud tmm3, tmm7, tmm5"],
                ["add {y}, {depth}"],
                ["sub {y}, {depth}", "add {y}, 64"],
                ["tilestored [{out} + {line}*1 + 2048], tmm2", "tilestored [{out} + {line}*1 + 2112], tmm3"]
            ),
            false => multiply_halves!(o, out, ["/* {y} */"], [], [], []),
        }
    }
}

/// See [`super::int::SimdInt::matrix_sums`].
///
/// # Safety
/// As there; `permitted()` has returned true.
#[inline(always)]
pub(crate) unsafe fn sums<const INT8: bool, const PAIR: bool>(o: Operands, sums: &mut Sums) {
    debug_assert!(o.steps > 0 && o.lines > 0);
    let out = sums.0.as_mut_ptr();
    // SAFETY: guaranteed by the caller; prefetches may have any address; the sums are 4,096 bytes. The stack is not used.
    unsafe {
        match (INT8, PAIR) {
            (true, true) => multiply!("tdpbsud", o, out, PAIR),
            (true, false) => multiply!("tdpbsud", o, out, SINGLE),
            (false, true) => multiply!("tdpbf16ps", o, out, PAIR),
            (false, false) => multiply!("tdpbf16ps", o, out, SINGLE),
        }
    }
}

/// See [`super::int::SimdInt::matrix_q4_0`].
///
/// # Safety
/// As there; `permitted()` has returned true.
#[inline(always)]
pub(crate) unsafe fn q4_0(x: *const i8, ldx: usize, w: *const i8, sums: &mut GroupSums) {
    // SAFETY: guaranteed by the caller; the sums of a block are 1,024 bytes.
    unsafe {
        asm!(
            "tileloadd tmm6, [{x} + {ldx}*1]",
            "tileloadd tmm4, [{w} + {line}*1]",
            "tilezero tmm0",
            "tdpbssd tmm0, tmm6, tmm4",
            "tileloadd tmm7, [{x} + {ldx}*1 + 32]",
            "tileloadd tmm5, [{w} + {line}*1 + 1024]",
            "tilezero tmm1",
            "tdpbssd tmm1, tmm7, tmm5",
            "tileloadd tmm6, [{x} + {ldx}*1 + 64]",
            "tileloadd tmm4, [{w} + {line}*1 + 2048]",
            "tilezero tmm2",
            "tdpbssd tmm2, tmm6, tmm4",
            "tileloadd tmm7, [{x} + {ldx}*1 + 96]",
            "tileloadd tmm5, [{w} + {line}*1 + 3072]",
            "tilezero tmm3",
            "tdpbssd tmm3, tmm7, tmm5",
            "tilestored [{sums} + {row}*1], tmm0",
            "tilestored [{sums} + {row}*1 + 1024], tmm1",
            "tilestored [{sums} + {row}*1 + 2048], tmm2",
            "tilestored [{sums} + {row}*1 + 3072], tmm3",
            x = in(reg) x, ldx = in(reg) ldx, w = in(reg) w, sums = in(reg) sums.0.as_mut_ptr(),
            line = in(reg) 128usize, row = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags)
        );
    }
}

/// See [`super::int::SimdInt::matrix_scores`].
///
/// # Safety
/// As there; `permitted()` has returned true.
#[inline(always)]
pub(crate) unsafe fn scores(q: *const i8, stride: usize, keys: *const u8, steps: usize, sums: *mut i32) {
    debug_assert!(steps > 0);
    // SAFETY: guaranteed by the caller.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tileloadd tmm6, [{q} + {stride}*1]",
            "tileloadd tmm4, [{k} + {line}*1]",
            "tdpbssd tmm0, tmm6, tmm4",
            "tileloadd tmm5, [{k} + {line}*1 + 64]",
            "tdpbssd tmm1, tmm6, tmm5",
            "tileloadd tmm4, [{k} + {line}*1 + 128]",
            "tdpbssd tmm2, tmm6, tmm4",
            "tileloadd tmm5, [{k} + {line}*1 + 192]",
            "tdpbssd tmm3, tmm6, tmm5",
            "add {q}, 64", "add {k}, 4096",
            "dec {n}",
            "jnz 2b",
            "tilestored [{sums} + {line}*1], tmm0",
            "tilestored [{sums} + {line}*1 + 64], tmm1",
            "tilestored [{sums} + {line}*1 + 128], tmm2",
            "tilestored [{sums} + {line}*1 + 192], tmm3",
            q = inout(reg) q => _, stride = in(reg) stride, k = inout(reg) keys => _, n = inout(reg) steps => _,
            sums = in(reg) sums, line = in(reg) 256usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

/// For [`crate::probe`]: does four products on registers alone `rounds` times, and returns how many multiply-adds they were.
///
/// # Safety
/// `cpu::amx::permitted()` has returned true.
pub(crate) unsafe fn probe<const INT8: bool>(rounds: usize) -> usize {
    macro_rules! turn {
        ($dot:literal) => {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                concat!($dot, " tmm0, tmm6, tmm4"),
                concat!($dot, " tmm1, tmm6, tmm5"),
                concat!($dot, " tmm2, tmm7, tmm4"),
                concat!($dot, " tmm3, tmm7, tmm5"),
                "dec {n}",
                "jnz 2b",
                n = inout(reg) rounds.max(1) => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem)
            )
        };
    }
    // SAFETY: guaranteed by the caller; registers alone.
    unsafe {
        configure(MATRIX_TILE, MATRIX_STEP);
        match INT8 {
            true => turn!("tdpbsud"),
            false => turn!("tdpbf16ps"),
        }
        release();
    }
    let depth = if INT8 { MATRIX_STEP } else { MATRIX_STEP / 2 };
    rounds.max(1) * 4 * MATRIX_TILE * (PANEL / 2) * depth
}
