//! The kernels and threads that a forward pass uses, and whether its rows are divided among the threads.

use trivec_kernels::Kernels;

use crate::parallel::Team;

/// The kernels, which were chosen once, and the threads that run them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute<'a> {
    pub kernels: &'static Kernels,
    pub team: &'a Team,
}

impl<'a> Compute<'a> {
    /// These kernels on the calling thread alone.
    pub(crate) fn alone(self) -> Compute<'a> {
        Compute { team: Team::alone(), ..self }
    }
}

/// With at least this many rows for each thread, times the number of threads, it pays that every thread reads all weights: the products
/// take longer than memory needs to deliver the weights to all threads.
const ROWS_A_THREAD: usize = 16;

/// Whether the rows are divided among the threads in all linear layers. Then a thread's results stay in its own caches until the next
/// layer; otherwise it would fetch them from the other threads' caches. With matrix registers this does not pay, because the same products
/// take an eighth of the time.
///
/// kernels/EXPERIMENTS.md has the gain.
pub(crate) fn rows_are_shared(compute: Compute<'_>, rows: usize) -> bool {
    let threads = compute.team.shares();
    threads > 1 && rows >= ROWS_A_THREAD * threads * threads && !compute.kernels.isa().has_matrix_registers()
}

/// Rows of a task that works row by row: a share for every thread, in equal parts of at most 32.
pub(crate) fn rows_of_a_task(compute: Compute<'_>, rows: usize) -> usize {
    let share = rows.div_ceil(compute.team.threads());
    share.div_ceil(share.div_ceil(32).max(1)).max(1)
}
