//! A fork-join team: the calling thread and its helpers run one function together, many times in quick succession.
//!
//! An encoder of 24 layers is some two hundred short parallel sections. A general pool hands each of them through queues and wakes
//! sleeping threads; here a helper that has finished waits for the next section by spinning for [`SPIN`], then sleeps. Starting and
//! joining a section costs a few cache-line transfers; an idle team costs nothing.
//!
//! This is the only crate beside the kernels with `unsafe`: the function that is run borrows from the caller's stack, which the type
//! system cannot follow into threads that outlive the call. [`Team::run`] does not return before all of them have left it.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread spins for the next section before it sleeps: longer than the serial parts between sections, short enough that an
/// idle team does not show in `top`.
pub const SPIN: Duration = Duration::from_micros(60);

/// Spins between two looks at the clock.
const SPINS_PER_LOOK: usize = 64;

/// The function of a section, with its lifetime taken off.
type Job = *const (dyn Fn() + Sync);

/// What all threads see.
struct Shared {
    /// Counts sections; odd values are not special, a helper compares with the last it saw.
    section: AtomicUsize,
    /// The function of the current section. Written by the caller before `section` changes, read by helpers after.
    job: UnsafeCell<Option<Job>>,
    /// Helpers that have not finished the current section.
    running: AtomicUsize,
    stop: AtomicBool,
    /// Whether every thread can have a CPU: only then is spinning no theft.
    spin: bool,
    /// By helper: whether it sleeps, or is about to.
    asleep: Vec<AtomicBool>,
    /// The first panic of a helper in this section.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only by the caller that holds `Team::caller`, while no helper is inside a section (`running` is 0), and read by
// helpers only between a change of `section` (which they acquire) and their decrement of `running` (which the caller acquires).
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is only dereferenced during a section, while the caller waits.
unsafe impl Send for Shared {}

/// A fixed number of threads: the caller's and `threads - 1` helpers.
pub struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    /// Held during a section.
    caller: Mutex<()>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads()).finish()
    }
}

impl Team {
    /// A team of `threads` (at least 1) threads, the caller's included.
    ///
    /// # Errors
    /// What the operating system says if it does not give so many.
    pub fn new(threads: usize) -> std::io::Result<Team> {
        let helpers = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            section: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            spin: std::thread::available_parallelism().is_ok_and(|cpus| helpers < cpus.get()),
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            panic: Mutex::new(None),
        });
        let mut team = Team { shared, helpers: Vec::new(), handles: Vec::new(), caller: Mutex::new(()) };
        for index in 0..helpers {
            let shared = Arc::clone(&team.shared);
            let name = format!("trivec-{}", index + 1);
            let helper = std::thread::Builder::new().name(name).spawn(move || help(&shared, index))?;
            team.handles.push(helper.thread().clone());
            team.helpers.push(helper);
        }
        Ok(team)
    }

    /// Threads that take part, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `f` on every thread of the team at once and returns when all calls have returned. If the team is busy with another caller's
    /// section, `f` is called on this thread alone: `f` must get all its work done by however few calls there are.
    ///
    /// # Panics
    /// If a call panics, with its panic, after all have returned.
    pub fn run(&self, f: &(dyn Fn() + Sync)) {
        if self.helpers.is_empty() {
            return f();
        }
        let _caller = match self.caller.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::WouldBlock) => return f(),
            // A panic in `f` poisons the lock; it guards no data.
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The helpers are done with the pointer before this function returns (see `wait` below).
        let job = unsafe { std::mem::transmute::<*const (dyn Fn() + Sync + '_), Job>(std::ptr::from_ref(f)) };
        // SAFETY: this thread holds `caller` and no helper is inside a section: nobody reads the cell.
        unsafe { *shared.job.get() = Some(job) };
        shared.running.store(self.helpers.len(), Ordering::Relaxed);
        shared.section.fetch_add(1, Ordering::SeqCst);
        for (asleep, helper) in shared.asleep.iter().zip(&self.handles) {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                helper.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(f));
        // Whatever happened, no helper may be left inside `f`.
        let mut spins = 0usize;
        while shared.running.load(Ordering::Acquire) != 0 {
            spins += 1;
            // Even with a CPU for every thread, another process may have taken one: let the helper run.
            if !shared.spin || spins.is_multiple_of(4096) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let of_helper = shared.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = of_helper {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.section.fetch_add(1, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for helper in self.helpers.drain(..) {
            // A helper catches every panic; there is nothing to hear.
            let _ = helper.join();
        }
    }
}

/// A helper's life.
fn help(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = wait_for_section(shared, index, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the section has begun (acquired in `wait_for_section`) and this helper has not left it: the cell is not written.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job {
            // SAFETY: the caller waits for `running` inside the borrow that the pointer was made of.
            let f = unsafe { &*job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
                shared.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(panic);
            }
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

/// Waits until the section's number is not `seen`; returns it.
fn wait_for_section(shared: &Shared, index: usize, seen: usize) -> usize {
    let begin = Instant::now();
    while shared.spin {
        for _ in 0..SPINS_PER_LOOK {
            let now = shared.section.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        if begin.elapsed() > SPIN {
            break;
        }
    }
    loop {
        // Told before the last look: a caller that changes the section after it sees that this helper is to be woken.
        shared.asleep[index].store(true, Ordering::SeqCst);
        let now = shared.section.load(Ordering::SeqCst);
        if now != seen {
            shared.asleep[index].store(false, Ordering::SeqCst);
            return now;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_takes_part_in_every_section() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            assert_eq!(team.threads(), threads);
            let calls = AtomicUsize::new(0);
            for section in 1..=500 {
                team.run(&|| {
                    calls.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(calls.load(Ordering::Relaxed), section * threads);
            }
        }
    }

    #[test]
    fn sections_begin_after_sleep() {
        let team = Team::new(3).unwrap();
        let calls = AtomicUsize::new(0);
        let count = || {
            calls.fetch_add(1, Ordering::Relaxed);
        };
        team.run(&count);
        // All helpers have told that they sleep: not a matter of time, only of their getting there.
        while !team.shared.asleep.iter().all(|asleep| asleep.load(Ordering::SeqCst)) {
            std::thread::yield_now();
        }
        team.run(&count);
        assert_eq!(calls.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn a_busy_team_leaves_the_work_to_the_caller() {
        let team = Team::new(2).unwrap();
        let inner = AtomicUsize::new(0);
        team.run(&|| {
            team.run(&|| {
                inner.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(inner.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn panics_come_back_and_leave_the_team_usable() {
        let team = Team::new(3).unwrap();
        for _ in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| team.run(&|| panic!("one"))));
            assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"one"));
        }
        let calls = AtomicUsize::new(0);
        team.run(&|| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn many_callers_share_a_team() {
        let team = Team::new(2).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let next = AtomicUsize::new(0);
                        team.run(&|| {
                            while next.fetch_add(1, Ordering::Relaxed) < 10 {
                                total.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 200 * 10);
    }
}
