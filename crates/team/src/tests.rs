use super::*;

/// A team of `threads` threads, however few CPUs there are. Its clock stands still, so that no helper ever counts as late.
pub(crate) fn team_of(threads: usize) -> Team {
    Team::on_cpus(threads, usize::MAX, || Duration::ZERO).unwrap()
}

/// A section that ends when every thread of the team has come.
pub(crate) fn meet(team: &Team) {
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
        let team = team_of(threads);
        assert_eq!(team.threads(), threads);
        (0..300).for_each(|_| meet(&team));
    }
}

#[test]
fn every_thread_has_a_number_of_its_own() {
    let team = team_of(3);
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
    let team = team_of(3);
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
    let team = team_of(3);
    for _ in 0..3 {
        // Waits until all helpers have said that they sleep. However long that takes, they get there.
        while !team.shared.places.iter().all(|place| place.asleep.load(Ordering::SeqCst)) {
            std::thread::yield_now();
        }
        meet(&team);
    }
}

#[test]
fn a_busy_team_leaves_the_work_to_the_caller() {
    let team = team_of(2);
    let inner = AtomicUsize::new(0);
    team.run(&|_| {
        team.run(&|_| {
            inner.fetch_add(1, Ordering::Relaxed);
        });
    });
    // Each outer call made one inner call, by itself, because the team was busy; the helper may not have made an outer call.
    assert!((1..=2).contains(&inner.load(Ordering::Relaxed)));
}

#[test]
fn panics_come_back_and_leave_the_team_usable() {
    let team = team_of(3);
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

/// A clock that stands still until [`pass`] moves it: milliseconds. Each test below has its own.
type Clock = AtomicU64;

/// Lets `ms` milliseconds pass.
fn pass(clock: &Clock, ms: u64) {
    clock.fetch_add(ms, Ordering::SeqCst);
}

/// A section in which helper `late` is still busy `ms` milliseconds after the caller has finished.
fn section_with_a_stall(team: &Team, clock: &Clock, late: usize, ms: u64) {
    let came = AtomicBool::new(false);
    team.run(&|number| {
        if number == 0 {
            while !came.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        } else if number == late {
            came.store(true, Ordering::SeqCst);
            // Waits until the caller has closed the section and this helper is the only one inside.
            while team.shared.state.load(Ordering::SeqCst) & (CLOSED | INSIDE) != CLOSED + 1 {
                std::thread::yield_now();
            }
            pass(clock, ms);
            // Waits until the caller has looked at the clock again and noted which helpers are late.
            while !team.shared.noted.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
    });
}

/// Runs a section of fifty tasks, each of which must be done once. Returns the numbers of the threads that did some.
fn who_works(team: &Team) -> Vec<usize> {
    let (next, who) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let tasks: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
    team.run(&|number| {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            task.fetch_add(1, Ordering::Relaxed);
            who.lock().unwrap().push(number);
        }
    });
    assert!(tasks.iter().all(|task| task.load(Ordering::Relaxed) == 1));
    let mut who = who.into_inner().unwrap();
    who.sort_unstable();
    who.dedup();
    who
}

#[test]
fn a_helper_that_stalls_is_left_out_for_a_while_and_used_again() {
    static CLOCK: Clock = Clock::new(0);
    let team = Team::on_cpus(2, 2, || Duration::from_millis(CLOCK.load(Ordering::SeqCst))).unwrap();
    assert!(team.has_help());
    // The first stall costs a rest of 1 ms, the second a pause of 8 ms, because the helper has saved no time in between.
    for pause in [1, 8] {
        section_with_a_stall(&team, &CLOCK, 1, 4);
        assert!(!team.has_help());
        for _ in 1..pause {
            assert_eq!(who_works(&team), [0]);
            team.run(&|_| pass(&CLOCK, 1));
            assert!(!team.has_help());
        }
        team.run(&|_| pass(&CLOCK, 1));
        assert!(team.has_help());
        meet(&team);
    }
}

#[test]
fn the_others_go_on_helping() {
    static CLOCK: Clock = Clock::new(0);
    let team = Team::on_cpus(3, 3, || Duration::from_millis(CLOCK.load(Ordering::SeqCst))).unwrap();
    section_with_a_stall(&team, &CLOCK, 2, 4);
    assert!(team.has_help());
    let here = AtomicUsize::new(0);
    team.run(&|number| {
        assert_ne!(number, 2);
        here.fetch_add(1, Ordering::SeqCst);
        while here.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
    });
    assert!(!who_works(&team).contains(&2));
    team.run(&|number| {
        if number == 0 {
            pass(&CLOCK, 1)
        }
    });
    meet(&team);
}

#[test]
fn a_team_on_one_cpu_has_no_helpers_but_reports_all_its_threads() {
    let team = Team::on_cpus(4, 1, || Duration::ZERO).unwrap();
    assert_eq!((team.threads(), team.has_help()), (4, false));
    assert_eq!(who_works(&team), [0]);
}

#[test]
fn many_callers_share_a_team() {
    let team = team_of(2);
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
