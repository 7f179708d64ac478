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
    /// The same kernels, to be run on the calling thread alone.
    pub(crate) fn alone(self) -> Compute<'a> {
        Compute { team: Team::alone(), ..self }
    }
}

/// Rows are divided among `t` threads from this number times `t²` on. Each thread then has at least this number times `t` rows, so its
/// products take longer than memory needs to deliver all weights to each of the `t` threads.
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

/// The number of rows of one task, for work that is done row by row. Each thread's share of the rows is cut into equal tasks of at most 32.
pub(crate) fn rows_of_a_task(compute: Compute<'_>, rows: usize) -> usize {
    let share = rows.div_ceil(compute.team.threads());
    share.div_ceil(share.div_ceil(32).max(1)).max(1)
}
