//! A fork-join team: the calling thread and its helpers run one function together, many times in quick succession.
//!
//! An encoder of 24 layers is some two hundred short parallel sections. A general pool passes each of them through queues and wakes
//! sleeping threads. Here a helper that has finished spins for [`SPIN`] while it waits for the next section, and then sleeps. Starting and
//! joining a section costs a few cache-line transfers; the caller does not wait for a helper that has not joined in time; an idle team uses
//! no CPU. A helper that keeps losing its CPU to other processes is left out for a while (`worth.rs`).
//!
//! Apart from the kernels, the engine's `src/weights/mmap.rs` and the C and Python borders of the bindings, only this crate has `unsafe`. The
//! function of a section borrows from the caller's stack, and the type system cannot follow that borrow into threads that outlive the call;
//! so [`Team::run`] does not return before all helpers have left the function. And `allocator`, `cpus` and `forked` call C functions.
//!
//! After `fork` the child process has only the thread that called `fork`. A team that the child inherited starts new helpers at its next call
//! (`forked.rs`).

pub mod allocator;
mod cpus;
mod forked;
mod worth;

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use worth::{Worth, is_late};

/// How long a thread spins for the next section before it sleeps: longer than the serial parts between sections, short enough that an
/// idle team does not show in `top`.
pub const SPIN: Duration = Duration::from_micros(60);

/// How many times a waiting helper spins between two looks at the clock.
const SPINS_PER_LOOK: usize = 64;

/// The function of a section, with its lifetime erased.
type Job = *const (dyn Fn(usize) + Sync);

/// In [`Shared::state`]: adds one to the section's number, which has the upper 32 bits. The lower 32 bits hold the flag and the counts below.
const SECTION: u64 = 1 << 32;
/// In [`Shared::state`]: the flag which says that no helper may enter the section any more.
const CLOSED: u64 = 1 << 31;
/// In [`Shared::state`]: adds one to the number of helpers that have entered, including those that have left.
const CAME: u64 = 1 << 16;
/// In [`Shared::state`]: the bits that count the helpers inside.
const INSIDE: u64 = CAME - 1;
/// The largest number of helpers that the bits between [`CAME`] and [`CLOSED`] can count.
const MOST: usize = (CLOSED / CAME) as usize - 1;

/// What a helper shares with the caller, in cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Place {
    /// Whether the helper sleeps, or is about to.
    asleep: AtomicBool,
    /// Whether the helper is in a section. The caller looks at this only after it has waited for long.
    inside: AtomicBool,
    /// Whether the helper is left out: it then sleeps and joins no section. Only the caller sets this.
    rests: AtomicBool,
}

/// What the caller and all helpers share.
struct Shared {
    /// The section's number, whether it is closed, how many helpers have entered it, and how many of them are inside. A helper enters by counting
    /// itself while the section is open; the caller closes it when its own call has returned and then waits only for those inside. So a helper
    /// that is asleep or has no CPU does not delay the caller.
    state: AtomicU64,
    /// The function of the current section. Written by the caller while the section is closed and no helper is inside; read by helpers
    /// inside.
    job: UnsafeCell<Option<Job>>,
    /// Set when the team is dropped: the helpers end.
    stop: AtomicBool,
    /// Whether there is a CPU for every thread. Otherwise spinning would take CPU time from threads that work.
    spin: bool,
    /// One for each helper.
    places: Vec<Place>,
    /// Whether the caller has recorded which helpers are late in this section.
    #[cfg(test)]
    noted: AtomicBool,
    /// The first panic of a helper in this section.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only by the caller that holds `Team::caller`, while the section is closed and no helper is inside, and read only
// by helpers that have counted themselves into an open section (acquiring what the caller released by opening it) and have not left it
// (which the caller acquires before it writes again).
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is only dereferenced during a section, while the caller waits.
unsafe impl Send for Shared {}

/// A fixed number of threads: the caller's and `threads - 1` helpers, or fewer helpers if there are fewer CPUs.
pub struct Team {
    threads: usize,
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    /// What is known of each helper. The caller holds the lock during its section, so that other callers find the team busy.
    caller: Mutex<Vec<Worth>>,
    /// How many helpers take part in sections, because they are not left out.
    asked: AtomicUsize,
    /// The clock: time since an arbitrary moment.
    clock: fn() -> Duration,
    /// In which process the helpers run.
    process: forked::Process,
    /// The team that replaces this one in a child of `fork`.
    heir: forked::Once<Team>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads()).finish()
    }
}

impl Team {
    /// A team of `threads` (at least 1) threads, the caller's included. It has at most one thread for each CPU that the calling thread may run
    /// on, because more would take CPUs from each other and make sections slower.
    ///
    /// # Errors
    /// The operating system's error if it cannot create the threads.
    pub fn new(threads: usize) -> std::io::Result<Team> {
        Self::on_cpus(threads, cpus::in_affinity_mask().unwrap_or(usize::MAX), since_start)
    }

    /// [`Team::new`] for a given number of CPUs and a given clock.
    fn on_cpus(threads: usize, cpus: usize, clock: fn() -> Duration) -> std::io::Result<Team> {
        let helpers = (threads.min(cpus).max(1) - 1).min(MOST);
        forked::watch()?;
        // Initialised now: a child that is forked during the initialisation would wait for it for ever.
        since_start();
        let mut team = Team::for_helpers(helpers);
        (team.threads, team.clock) = (threads.max(1), clock);
        for index in 0..helpers {
            let shared = Arc::clone(&team.shared);
            let name = format!("trivec-{}", index + 1);
            let helper = std::thread::Builder::new().name(name).spawn(move || help(&shared, index))?;
            team.handles.push(helper.thread().clone());
            team.helpers.push(helper);
        }
        Ok(team)
    }

    /// A team without helpers: the caller's thread runs every section alone.
    pub fn alone() -> Team {
        Team::for_helpers(0)
    }

    /// A team with all that `helpers` helpers need, but without their threads, which the caller of this function starts.
    fn for_helpers(helpers: usize) -> Team {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(CLOSED),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            spin: std::thread::available_parallelism().is_ok_and(|cpus| helpers < cpus.get()),
            places: (0..helpers).map(|_| Place::default()).collect(),
            #[cfg(test)]
            noted: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        Team {
            threads: 1,
            shared,
            helpers: Vec::new(),
            handles: Vec::new(),
            caller: Mutex::new((0..helpers).map(|_| Worth::NEW).collect()),
            asked: AtomicUsize::new(helpers),
            clock: since_start,
            process: forked::Process::this(),
            heir: forked::Once::default(),
        }
    }

    /// The team whose helpers run in this process: this one, or, in a child of `fork` that inherited it, a replacement that is made at its first
    /// use. If the system cannot create threads, the replacement has no helpers.
    fn here(&self) -> &Team {
        if self.helpers.is_empty() || self.process.is_this() {
            return self;
        }
        let heir = self.heir.get_or_make(|| {
            Self::on_cpus(self.threads, self.helpers.len() + 1, self.clock).unwrap_or_else(|_| {
                let mut alone = Team::for_helpers(0);
                alone.threads = self.threads;
                alone
            })
        });
        // The replacement may have been inherited by another fork, too.
        heir.here()
    }

    /// The number of threads that the team was asked to have, the caller's included. Callers cut their work into this many shares.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether a section that begins now can have helpers. A team on a single CPU never has any, and none can join while all of them are left out
    /// because other processes use their CPUs.
    pub fn has_help(&self) -> bool {
        self.here().asked.load(Ordering::Relaxed) > 0
    }

    /// Calls `f` on this thread and, at the same time, on the helpers that join in time; returns when all calls have returned. `f` gets the
    /// number of its thread: 0 for this one, and always the same number for each helper, so that a thread can reuse what is in its caches.
    /// Any number of calls, even one, must complete the work, because helpers may be busy with another caller's section.
    ///
    /// # Panics
    /// If a call of `f` panics, with the same panic, after all calls have returned.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        if self.helpers.is_empty() {
            return f(0);
        }
        if !self.process.is_this() {
            return self.here().run(f);
        }
        let mut worth = match self.caller.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::WouldBlock) => return f(0),
            // A panic in `f` poisons the lock, but never leaves the data half written.
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
        };
        let (shared, begin) = (&*self.shared, (self.clock)());
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == 0 {
            f(0);
            let now = (self.clock)();
            return self.went_without(&mut worth, now.saturating_sub(begin), now);
        }
        // SAFETY: only the lifetime changes. No helper is inside the section when this function returns, and none can enter it.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(std::ptr::from_ref(f)) };
        // SAFETY: this thread holds `caller`, and the last section was closed and left by all helpers, so no thread reads the cell.
        unsafe { *shared.job.get() = Some(job) };
        let number = (shared.state.load(Ordering::Relaxed) / SECTION).wrapping_add(1);
        shared.state.store(number.wrapping_mul(SECTION), Ordering::SeqCst);
        for ((place, helper), worth) in shared.places.iter().zip(&self.handles).zip(&*worth) {
            if !worth.rests() && place.asleep.load(Ordering::SeqCst) && place.asleep.swap(false, Ordering::SeqCst) {
                helper.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        let done = (self.clock)();
        let took = done.saturating_sub(begin);
        #[cfg(test)]
        shared.noted.store(false, Ordering::SeqCst);
        // Also after a panic, no helper may be left inside `f`.
        let came = (shared.state.fetch_or(CLOSED, Ordering::SeqCst) & !CLOSED) % SECTION / CAME;
        self.wait_for_helpers(&mut worth, took, done, came as u32);
        if asked < self.helpers.len() {
            self.went_without(&mut worth, took, done);
        }
        let of_helper = shared.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = of_helper {
            resume_unwind(panic);
        }
    }

    /// Waits until no helper is inside the closed section, which `came` helpers have entered, and records how much they helped. The
    /// caller's own part took `own` and ended at `done`.
    fn wait_for_helpers(&self, worth: &mut [Worth], own: Duration, done: Duration, came: u32) {
        let shared = &*self.shared;
        let mut spins = 0usize;
        let mut any_late = false;
        let mut late = Vec::new();
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if !any_late && spins.is_multiple_of(256) && is_late(own, (self.clock)().saturating_sub(done)) {
                any_late = true;
                late = shared.places.iter().map(|place| place.inside.load(Ordering::Relaxed)).collect();
                #[cfg(test)]
                shared.noted.store(true, Ordering::SeqCst);
            }
            // Even with a CPU for every thread, another process may have taken the helper's: yielding lets the helper run on this one.
            if !shared.spin || spins.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let asked = self.asked.load(Ordering::Relaxed);
        // The state says how many helpers came, but not which, so each is credited with an equal share.
        let share = own * came / asked as u32;
        let now = if any_late { (self.clock)() } else { done };
        for (index, (worth, place)) in worth.iter_mut().zip(&shared.places).enumerate() {
            if worth.rests() {
                continue;
            }
            let is_left_out = match late.get(index) {
                Some(true) => worth.was_late(own, now.saturating_sub(done), now),
                _ => worth.helped(share, now),
            };
            if is_left_out {
                place.rests.store(true, Ordering::SeqCst);
                self.asked.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Records for the helpers that are left out that a section ended at `now`, in which the caller computed for `own`. Readmits those whose time
    /// is over.
    fn went_without(&self, worth: &mut [Worth], own: Duration, now: Duration) {
        for ((worth, place), helper) in worth.iter_mut().zip(&self.shared.places).zip(&self.handles) {
            if worth.went_without(own, now) {
                place.rests.store(false, Ordering::SeqCst);
                self.asked.fetch_add(1, Ordering::Relaxed);
                // A helper that is left out sleeps, and sections do not wake it.
                helper.unpark();
            }
        }
    }
}

/// The time since the first call of this function.
fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl Drop for Team {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // In a child of `fork` the helpers do not exist, so there is nothing to wake or to join.
            self.helpers.drain(..).for_each(std::mem::forget);
            return;
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.state.fetch_add(SECTION, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for helper in self.helpers.drain(..) {
            // A helper catches every panic, so the result says nothing.
            let _ = helper.join();
        }
    }
}

/// The loop of a helper thread.
fn help(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = wait_for_section(shared, index, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let place = &shared.places[index];
        if place.rests.load(Ordering::SeqCst) || !enter(shared, seen) {
            continue;
        }
        place.inside.store(true, Ordering::Relaxed);
        // SAFETY: this helper entered while the section was open and has not left it: the cell was written before and is not written now.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job {
            // SAFETY: the pointer was made of a borrow, inside which the caller waits until this helper has left.
            let f = unsafe { &*job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(index + 1))) {
                let mut first = shared.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                match *first {
                    None => *first = Some(panic),
                    // The payload is not dropped: dropping it could panic again, and this helper would count as inside for ever.
                    Some(_) => std::mem::forget(panic),
                }
            }
        }
        place.inside.store(false, Ordering::Relaxed);
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// Counts this helper into section `number`, and returns whether it may take part: not if the section is closed or over.
fn enter(shared: &Shared, number: u64) -> bool {
    let mut state = shared.state.load(Ordering::Relaxed);
    while state / SECTION == number && state & CLOSED == 0 {
        match shared.state.compare_exchange_weak(state, state + CAME + 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => state = now,
        }
    }
    false
}

/// Waits until the section's number is no longer `seen`, and returns the new one. A helper that is left out sleeps until it is readmitted.
fn wait_for_section(shared: &Shared, index: usize, seen: u64) -> u64 {
    let (place, begin) = (&shared.places[index], Instant::now());
    // Without a CPU for every thread, a spinning helper would take one from a thread that works, so it spins for one round only.
    loop {
        for _ in 0..SPINS_PER_LOOK {
            let now = shared.state.load(Ordering::Acquire) / SECTION;
            if now != seen && !place.rests.load(Ordering::Relaxed) {
                return now;
            }
            std::hint::spin_loop();
        }
        if !shared.spin || begin.elapsed() > SPIN || place.rests.load(Ordering::Relaxed) {
            break;
        }
    }
    loop {
        // Stored before the last check, so that a caller that opens a section afterwards knows to wake this helper.
        place.asleep.store(true, Ordering::SeqCst);
        let now = shared.state.load(Ordering::SeqCst) / SECTION;
        let rests = place.rests.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst);
        if now != seen && !rests {
            place.asleep.store(false, Ordering::SeqCst);
            return now;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests;
