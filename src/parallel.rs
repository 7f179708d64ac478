//! The threads of a model: a team that runs a list of independent tasks. No other module starts threads.
//!
//! Which thread runs a task, and when, never shows in a result: tasks own disjoint outputs.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// A fixed number of threads that belong to one model.
#[derive(Debug)]
pub struct Team {
    team: trivec_team::Team,
}

impl Team {
    /// Makes a team of `threads` threads, the caller's included. `None` means as many as CPUs this process may use, as its affinity and its
    /// cgroup's quota say.
    ///
    /// # Errors
    /// The operating system's error if it cannot start the threads.
    pub fn new(threads: Option<usize>) -> io::Result<Team> {
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        Ok(Team { team: trivec_team::Team::new(threads)? })
    }

    /// The team of the calling thread alone.
    pub fn alone() -> &'static Team {
        static ALONE: OnceLock<Team> = OnceLock::new();
        ALONE.get_or_init(|| Team { team: trivec_team::Team::alone() })
    }

    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// How many shares to cut work into: one for each thread, or one while other processes keep the helpers from running (`trivec_team`).
    /// The number may change from call to call; no result depends on it.
    pub(crate) fn shares(&self) -> usize {
        if self.team.has_help() { self.threads() } else { 1 }
    }

    /// Runs `f` on every task, each exactly once. `scratch` gets a thread's number and makes the value that the thread keeps between its
    /// tasks. A thread mostly runs consecutive tasks, in order, so that it reads memory in sequence. The calling thread gets the first share of
    /// the tasks and each other thread always the same share, so that lists of the same length reuse what the previous list left in its caches.
    pub fn for_each<T: Send, S>(
        &self,
        tasks: Vec<T>,
        scratch: impl Fn(usize) -> S + Sync + Send,
        f: impl Fn(&mut S, T) + Sync + Send,
    ) {
        // While its helpers are left out, the team is called even for one task, because it counts the time until it tries them again.
        if self.threads() == 1 || (tasks.len() <= 1 && self.team.has_help()) {
            let mut own = None;
            tasks.into_iter().for_each(|task| f(own.get_or_insert_with(|| scratch(0)), task));
            return;
        }
        // A task is taken out of its slot once; the lock is never contended, for every index is handed out once.
        let slots: Vec<Mutex<Option<T>>> = tasks.into_iter().map(|task| Mutex::new(Some(task))).collect();
        // A single thread gets one run: taking tasks from the back of other runs would read memory backwards.
        let runs = Runs::new(slots.len(), self.shares());
        self.team.run(&|run| {
            let mut own = None;
            while let Some(index) = runs.next(run) {
                let task = slots[index].lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(task) = task {
                    f(own.get_or_insert_with(|| scratch(run)), task);
                }
            }
        });
    }

    /// Calls `f` on every item and returns the results in the order of the items.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        let tasks = items.iter().zip(&mut results).collect();
        self.for_each(tasks, |_| (), |(), (item, result): (&T, &mut Option<R>)| *result = Some(f(item)));
        results.into_iter().flatten().collect()
    }
}

/// Scratch values that threads borrow and return. No more are made than are borrowed at the same time.
#[derive(Debug, Default)]
pub struct Pool<T>(Mutex<Vec<(usize, T)>>);

impl<T: Default> Pool<T> {
    /// Borrows a free value, preferably one that the thread of this number had last, because it may be in that thread's caches. Makes a new
    /// value if none is free. The value goes back to the pool when the result is dropped.
    pub fn take(&self, thread: usize) -> Pooled<'_, T> {
        let mut free = self.free();
        let own = free.iter().position(|&(had, _)| had == thread);
        let item = own.map(|own| free.swap_remove(own)).or_else(|| free.pop());
        Pooled { thread, item: item.map(|(_, item)| item).unwrap_or_default(), pool: self }
    }

    /// The sum of `f` over the values that are not borrowed.
    pub fn sum(&self, f: impl Fn(&T) -> usize) -> usize {
        self.free().iter().map(|(_, item)| f(item)).sum()
    }
}

impl<T> Pool<T> {
    fn free(&self) -> MutexGuard<'_, Vec<(usize, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value borrowed from a [`Pool`].
#[derive(Debug)]
pub struct Pooled<'a, T: Default> {
    thread: usize,
    item: T,
    pool: &'a Pool<T>,
}

impl<T: Default> Deref for Pooled<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: Default> DerefMut for Pooled<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

impl<T: Default> Drop for Pooled<'_, T> {
    fn drop(&mut self) {
        let item = std::mem::take(&mut self.item);
        self.pool.free().push((self.thread, item));
    }
}

/// The indices of a list of tasks, divided into one run for each thread. A thread takes its own run from the front. Then it takes from the
/// back of the longest remaining run, which belongs to a thread that is late or slow.
struct Runs {
    /// For each run, the first remaining index (upper half) and the index after the last (lower half).
    left: Vec<AtomicU64>,
}

impl Runs {
    fn new(tasks: usize, threads: usize) -> Runs {
        let bound = |run: usize| (run * tasks / threads) as u64;
        Runs { left: (0..threads).map(|run| AtomicU64::new(bound(run) << 32 | bound(run + 1))).collect() }
    }

    /// The index of the next task for the thread whose run is `own`; `None` when no task is left.
    fn next(&self, own: usize) -> Option<usize> {
        let split = |run: u64| (run >> 32, run & u64::from(u32::MAX));
        let take = |run: &AtomicU64, front: bool| {
            run.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                let (first, end) = split(state);
                let rest = if front { (first + 1) << 32 | end } else { first << 32 | end.wrapping_sub(1) };
                (first < end).then_some(rest)
            })
        };
        if let Some(state) = self.left.get(own).and_then(|run| take(run, true).ok()) {
            return Some(split(state).0 as usize);
        }
        loop {
            let with_length = |run| {
                let (first, end) = split(AtomicU64::load(run, Ordering::Relaxed));
                (run, end - first)
            };
            let (longest, length) = self.left.iter().map(with_length).max_by_key(|&(_, length)| length)?;
            if length == 0 {
                return None;
            }
            if let Ok(state) = take(longest, false) {
                return Some(split(state).1 as usize - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_thread_takes_its_own_run_in_order_then_from_the_back_of_the_longest() {
        let runs = Runs::new(10, 3);
        assert_eq!([0, 1, 2].map(|run| runs.next(run)), [Some(0), Some(3), Some(6)]);
        assert_eq!([runs.next(0), runs.next(0)], [Some(1), Some(2)]);
        // Two tasks are left in the second run, three in the third.
        assert_eq!([runs.next(0), runs.next(1), runs.next(0)], [Some(9), Some(4), Some(8)]);
        // A thread without a run of its own takes from the others.
        let mut rest = [runs.next(7), runs.next(7)];
        rest.sort();
        assert_eq!((rest, runs.next(2)), ([Some(5), Some(7)], None));
        // Fewer tasks than threads.
        let runs = Runs::new(1, 4);
        assert_eq!([runs.next(0), runs.next(3)], [Some(0), None]);
    }

    #[test]
    fn a_pool_gives_each_thread_what_it_had() {
        let pool = Pool::<Vec<u32>>::default();
        {
            let (mut first, mut second) = (pool.take(0), pool.take(1));
            assert!(first.is_empty() && second.is_empty());
            first.push(7);
            second.extend([8, 9]);
        }
        assert_eq!(pool.sum(Vec::len), 3);
        {
            let (second, first) = (pool.take(1), pool.take(0));
            assert_eq!((&*first, &*second), (&vec![7], &vec![8, 9]));
            assert!(pool.take(1).is_empty());
        }
        // A thread that had no value before gets one that another thread returned.
        let taken = [pool.take(5), pool.take(5), pool.take(5)];
        assert_eq!(taken.iter().map(|item| item.len()).sum::<usize>(), 3);
        assert!(pool.take(0).is_empty());
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 8] {
            let team = Team::new(Some(threads)).unwrap();
            let counts: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            team.for_each(
                (0..100).collect(),
                |_| (),
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
