//! The only place that knows about threads: a team that runs a list of independent tasks.
//!
//! Which thread runs a task, and when, never shows in a result: tasks own disjoint outputs.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed number of threads that belong to one model.
#[derive(Debug)]
pub(crate) struct Team {
    team: trivec_team::Team,
}

impl Team {
    /// `threads`, or as many as CPUs this process may use (its affinity and its cgroup's quota count).
    pub(crate) fn new(threads: Option<usize>) -> io::Result<Team> {
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        Ok(Team { team: trivec_team::Team::new(threads)? })
    }

    pub(crate) fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Runs `f` on every task, each exactly once; `scratch` makes what a thread keeps between its tasks.
    pub(crate) fn for_each<T: Send, S>(
        &self,
        tasks: Vec<T>,
        scratch: impl Fn() -> S + Sync + Send,
        f: impl Fn(&mut S, T) + Sync + Send,
    ) {
        if tasks.len() <= 1 || self.threads() == 1 {
            let mut own = None;
            tasks.into_iter().for_each(|task| f(own.get_or_insert_with(&scratch), task));
            return;
        }
        // A task is taken out of its slot once; the lock is never contended, for every index is handed out once.
        let slots: Vec<Mutex<Option<T>>> = tasks.into_iter().map(|task| Mutex::new(Some(task))).collect();
        let next = AtomicUsize::new(0);
        self.team.run(&|| {
            let mut own = None;
            while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
                let task = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                if let Some(task) = task {
                    f(own.get_or_insert_with(&scratch), task);
                }
            }
        });
    }

    /// `f` of every item, in order.
    pub(crate) fn map<T: Sync, R: Send>(&self, items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        let tasks = items.iter().zip(&mut results).collect();
        self.for_each(tasks, || (), |(), (item, result): (&T, &mut Option<R>)| *result = Some(f(item)));
        results.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
