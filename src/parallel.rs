//! The only place that knows about threads: a team that runs a list of independent tasks.
//!
//! Which thread runs a task, and when, never shows in a result: tasks own disjoint outputs.

use std::io;

use rayon::prelude::*;

/// A fixed number of threads that belong to one model.
#[derive(Debug)]
pub(crate) struct Team {
    /// Absent for one thread: the caller's own does the work.
    pool: Option<rayon::ThreadPool>,
    threads: usize,
}

impl Team {
    /// `threads`, or as many as CPUs this process may use (its affinity and its cgroup's quota count).
    pub(crate) fn new(threads: Option<usize>) -> io::Result<Team> {
        let threads = match threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let build = || {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|index| format!("trivec-{index}"))
                .build()
                .map_err(io::Error::other)
        };
        let pool = if threads > 1 { Some(build()?) } else { None };
        Ok(Team { pool, threads })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` on every task, each exactly once; `scratch` makes what a thread keeps between its tasks.
    pub(crate) fn for_each<T: Send, S>(
        &self,
        tasks: Vec<T>,
        scratch: impl Fn() -> S + Sync + Send,
        f: impl Fn(&mut S, T) + Sync + Send,
    ) {
        match &self.pool {
            Some(pool) if tasks.len() > 1 => {
                pool.install(|| tasks.into_par_iter().with_max_len(1).for_each_init(scratch, f));
            }
            _ => {
                let mut scratch = scratch();
                tasks.into_iter().for_each(|task| f(&mut scratch, task));
            }
        }
    }

    /// `f` of every item, in order.
    pub(crate) fn map<T: Sync, R: Send>(&self, items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
        match &self.pool {
            Some(pool) if items.len() > 1 => pool.install(|| items.par_iter().map(f).collect()),
            _ => items.iter().map(f).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 8] {
            let team = Team::new(Some(threads)).unwrap();
            let counts: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            team.for_each(
                (0..100).collect(),
                || (),
                |_, i: usize| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                },
            );
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            assert_eq!(team.map(&[1, 2, 3], |x| x * 2), [2, 4, 6]);
            assert_eq!(team.threads(), threads);
        }
    }
}
