//! A fork-join team: the calling thread and its helpers run one function together, many times in quick succession.
//!
//! An encoder of 24 layers is some two hundred short parallel sections. A general pool hands each of them through queues and wakes
//! sleeping threads; here a helper that has finished waits for the next section by spinning for [`SPIN`], then sleeps. Starting and
//! joining a section costs a few cache-line transfers; a helper that comes late is not waited for; an idle team costs nothing.
//!
//! This is the only crate beside the kernels with `unsafe`: the function that is run borrows from the caller's stack, which the type
//! system cannot follow into threads that outlive the call. [`Team::run`] does not return before all of them have left it. And
//! [`allocator`] calls into C.

pub mod allocator;

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread spins for the next section before it sleeps: longer than the serial parts between sections, short enough that an
/// idle team does not show in `top`.
pub const SPIN: Duration = Duration::from_micros(60);

/// Spins between two looks at the clock.
const SPINS_PER_LOOK: usize = 64;

/// The function of a section, with its lifetime taken off.
type Job = *const (dyn Fn(usize) + Sync);

/// In [`Shared::state`]: the section's number is above, the number of helpers inside it below.
const SECTION: u64 = 1 << 32;
/// In [`Shared::state`]: nobody may enter any more.
const CLOSED: u64 = 1 << 31;
/// In [`Shared::state`]: the helpers inside.
const INSIDE: u64 = CLOSED - 1;

/// What all threads see.
struct Shared {
    /// The section's number, whether it is closed, and how many helpers are inside. A helper enters by counting itself while the section
    /// is open; the caller closes it when its own call has returned and then waits for those inside alone. So a helper that comes late,
    /// asleep or without a CPU, holds nobody up.
    state: AtomicU64,
    /// The function of the current section. Written by the caller while the section is closed and nobody is inside; read by helpers
    /// inside.
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    /// Whether every thread can have a CPU: only then is spinning no theft.
    spin: bool,
    /// By helper: whether it sleeps, or is about to.
    asleep: Vec<AtomicBool>,
    /// The first panic of a helper in this section.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only by the caller that holds `Team::caller`, while the section is closed and no helper is inside, and read only
// by helpers that have counted themselves into an open section (acquiring what the caller released by opening it) and have not left it
// (which the caller acquires before it writes again).
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
        let mut team = Team::for_helpers(helpers);
        for index in 0..helpers {
            let shared = Arc::clone(&team.shared);
            let name = format!("trivec-{}", index + 1);
            let helper = std::thread::Builder::new().name(name).spawn(move || help(&shared, index))?;
            team.handles.push(helper.thread().clone());
            team.helpers.push(helper);
        }
        Ok(team)
    }

    /// The caller's thread alone.
    pub fn alone() -> Team {
        Team::for_helpers(0)
    }

    /// A team that its helpers have yet to join.
    fn for_helpers(helpers: usize) -> Team {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(CLOSED),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            spin: std::thread::available_parallelism().is_ok_and(|cpus| helpers < cpus.get()),
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            panic: Mutex::new(None),
        });
        Team { shared, helpers: Vec::new(), handles: Vec::new(), caller: Mutex::new(()) }
    }

    /// Threads that take part, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `f` on this thread and at once on those of the team that come in time; returns when all calls have returned. `f` is told whose call
    /// it is, 0 for this thread's and always the same number for each of the others', so that a thread can find what it had in its caches. It must
    /// get all its work done by however few calls there are: a team that is busy with another caller's section adds none.
    ///
    /// # Panics
    /// If a call panics, with its panic, after all have returned.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        if self.helpers.is_empty() {
            return f(0);
        }
        let _caller = match self.caller.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::WouldBlock) => return f(0),
            // A panic in `f` poisons the lock; it guards no data.
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. No helper is inside the section when this function returns, and none can enter it.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(std::ptr::from_ref(f)) };
        // SAFETY: this thread holds `caller`, and the last section was closed and left by all: nobody reads the cell.
        unsafe { *shared.job.get() = Some(job) };
        let number = (shared.state.load(Ordering::Relaxed) / SECTION).wrapping_add(1);
        shared.state.store(number.wrapping_mul(SECTION), Ordering::SeqCst);
        for (asleep, helper) in shared.asleep.iter().zip(&self.handles) {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                helper.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        // Whatever happened, no helper may be left inside `f`.
        shared.state.fetch_or(CLOSED, Ordering::SeqCst);
        let mut spins = 0usize;
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            // Even with a CPU for every thread, another process may have taken one: let the helper run.
            if !shared.spin || spins.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
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
        self.shared.state.fetch_add(SECTION, Ordering::SeqCst);
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
        if !enter(shared, seen) {
            continue;
        }
        // SAFETY: this helper is inside an open section: the cell was written before and is not written now.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job {
            // SAFETY: the caller waits inside the borrow that the pointer was made of until this helper has left.
            let f = unsafe { &*job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(index + 1))) {
                let mut first = shared.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                match *first {
                    None => *first = Some(panic),
                    // Dropping it could panic again, and this helper would be counted as inside for ever.
                    Some(_) => std::mem::forget(panic),
                }
            }
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// Counts this helper into section `number`; `false` if it is closed or over.
fn enter(shared: &Shared, number: u64) -> bool {
    let mut state = shared.state.load(Ordering::Relaxed);
    while state / SECTION == number && state & CLOSED == 0 {
        match shared.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => state = now,
        }
    }
    false
}

/// Waits until the section's number is not `seen`; returns it.
fn wait_for_section(shared: &Shared, index: usize, seen: u64) -> u64 {
    let begin = Instant::now();
    // Without a CPU for every thread, spinning would take one from a thread that works: then only one look.
    loop {
        for _ in 0..SPINS_PER_LOOK {
            let now = shared.state.load(Ordering::Acquire) / SECTION;
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        if !shared.spin || begin.elapsed() > SPIN {
            break;
        }
    }
    loop {
        // Told before the last look: a caller that opens a section after it sees that this helper is to be woken.
        shared.asleep[index].store(true, Ordering::SeqCst);
        let now = shared.state.load(Ordering::SeqCst) / SECTION;
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
    use std::sync::atomic::AtomicUsize;

    /// A section that ends when every thread of the team has come.
    fn meet(team: &Team) {
        let here = AtomicUsize::new(0);
        team.run(&|_| {
            here.fetch_add(1, Ordering::SeqCst);
            while here.load(Ordering::SeqCst) < team.threads() {
                std::thread::yield_now();
            }
        });
        assert_eq!(here.load(Ordering::SeqCst), team.threads());
    }

    #[test]
    fn every_thread_can_take_part_in_every_section() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            assert_eq!(team.threads(), threads);
            (0..300).for_each(|_| meet(&team));
        }
    }

    #[test]
    fn every_thread_has_a_number_of_its_own() {
        let team = Team::new(3).unwrap();
        let threads: Vec<Mutex<Option<std::thread::ThreadId>>> = (0..3).map(|_| Mutex::new(None)).collect();
        for _ in 0..300 {
            let here = AtomicUsize::new(0);
            team.run(&|number| {
                let own = std::thread::current().id();
                assert_eq!(*threads[number].lock().unwrap().get_or_insert(own), own);
                here.fetch_add(1, Ordering::SeqCst);
                while here.load(Ordering::SeqCst) < 3 {
                    std::thread::yield_now();
                }
            });
        }
        assert_eq!(*threads[0].lock().unwrap(), Some(std::thread::current().id()));
        let seen: std::collections::HashSet<_> = threads.iter().map(|thread| *thread.lock().unwrap()).collect();
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn all_work_is_done_whoever_comes() {
        let team = Team::new(3).unwrap();
        for _ in 0..2000 {
            let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            team.run(&|_| {
                while next.fetch_add(1, Ordering::Relaxed) < 5 {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(done.load(Ordering::Relaxed), 5);
        }
    }

    #[test]
    fn helpers_wake_from_sleep() {
        let team = Team::new(3).unwrap();
        for _ in 0..3 {
            // All helpers have told that they sleep: not a matter of time, only of their getting there.
            while !team.shared.asleep.iter().all(|asleep| asleep.load(Ordering::SeqCst)) {
                std::thread::yield_now();
            }
            meet(&team);
        }
    }

    #[test]
    fn a_busy_team_leaves_the_work_to_the_caller() {
        let team = Team::new(2).unwrap();
        let inner = AtomicUsize::new(0);
        team.run(&|_| {
            team.run(&|_| {
                inner.fetch_add(1, Ordering::Relaxed);
            });
        });
        // One call inside each call: nobody else was free.
        assert!((1..=2).contains(&inner.load(Ordering::Relaxed)));
    }

    #[test]
    fn panics_come_back_and_leave_the_team_usable() {
        let team = Team::new(3).unwrap();
        let caller = std::thread::current().id();
        for of_helper in [false, true, false] {
            let here = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|_| {
                    here.fetch_add(1, Ordering::SeqCst);
                    while here.load(Ordering::SeqCst) < 3 {
                        std::thread::yield_now();
                    }
                    if (std::thread::current().id() != caller) == of_helper {
                        panic!("one");
                    }
                })
            }));
            assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"one"));
        }
        meet(&team);
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
                        team.run(&|_| {
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
