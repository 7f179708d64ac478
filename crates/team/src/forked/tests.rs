use std::sync::Arc;

use super::*;

#[test]
fn a_value_is_made_once_and_dropped_with_its_once() {
    let value = Arc::new(7);
    let once = Once::default();
    assert_eq!(**once.get_or_make(|| Arc::clone(&value)), 7);
    assert_eq!(**once.get_or_make(|| unreachable!("it is there")), 7);
    assert_eq!(Arc::strong_count(&value), 2);
    drop(once);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn of_two_values_made_at_a_time_the_one_stored_first_is_used() {
    let once = Once::default();
    // The inner call stores its value while the outer one still makes its own.
    let outer = once.get_or_make(|| {
        assert_eq!(*once.get_or_make(|| 1), 1);
        2
    });
    assert_eq!(*outer, 1);
}

#[cfg(target_os = "linux")]
mod children {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use crate::Team;
    use crate::tests::{meet, team_of};

    /// Forks a child that runs `f`. The child ends with status 0 if `f` returns and 1 if it panics, or is killed by SIGALRM after a minute.
    fn in_child(f: impl FnOnce()) -> libc::pid_t {
        // SAFETY: the child has a copy of this thread, runs `f`, and ends without returning to the test harness.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: the call takes only a number; SIGALRM ends the process.
            unsafe { libc::alarm(60) };
            let failed = catch_unwind(AssertUnwindSafe(f)).is_err();
            // SAFETY: the call takes only a number, and nothing of this process is needed any more.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        pid
    }

    /// Waits for a child of [`in_child`] and asserts that its `f` returned.
    fn passes(pid: libc::pid_t) {
        let mut status = 0;
        // SAFETY: `pid` is a child of this process that nobody else waits for, and `status` has room for its status.
        let ended = unsafe { libc::waitpid(pid, &mut status, 0) };
        assert_eq!((ended, status), (pid, 0));
    }

    /// A section of a hundred tasks, each of which is done once, by any of the threads. Asserts that all were done.
    fn section(team: &Team) {
        let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
        team.run(&|_| {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= 100 {
                    return;
                }
                sum.fetch_add(task, Ordering::Relaxed);
            }
        });
        assert_eq!(sum.into_inner(), 4950);
    }

    #[test]
    fn a_child_has_all_threads_and_so_have_its_children() {
        let team = team_of(3);
        meet(&team);
        passes(in_child(|| {
            assert!(team.has_help());
            meet(&team);
            meet(&team);
            passes(in_child(|| meet(&team)));
            meet(&team);
        }));
        // The child of a child that has not used the team itself.
        passes(in_child(|| passes(in_child(|| meet(&team)))));
        meet(&team);
    }

    #[test]
    fn a_team_can_be_dropped_in_a_child_that_has_none_of_its_helpers() {
        for use_it in [false, true] {
            let mut team = Some(team_of(3));
            passes(in_child(|| {
                if let Some(team) = team.as_ref().filter(|_| use_it) {
                    meet(team);
                }
                team = None;
            }));
            meet(team.as_ref().unwrap());
        }
    }

    #[test]
    fn forks_in_the_middle_of_sections_of_many_callers() {
        let (team, stop) = (team_of(2), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        section(&team);
                    }
                });
            }
            // Caught, because a panic here would leave the threads above running, and the scope would wait for them for ever.
            let all = catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..50 {
                    passes(in_child(|| {
                        section(&team);
                        meet(&team);
                    }));
                }
            }));
            stop.store(true, Ordering::Relaxed);
            assert!(all.is_ok());
        });
    }
}
