//! How tests wait for an event: they look for it again and again. The deadline only ends a test that would never end, and is long enough
//! for a machine that runs many times more threads than it has processors.

use std::time::{Duration, Instant};

/// How long an event may take before its test fails.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// The pause between two looks. With a shorter one, looking would take processor time from what the test waits for.
const LOOK: Duration = Duration::from_millis(2);

/// Calls `look` until it returns a value, and returns that. Panics after [`DEADLINE`]; `what` names the event.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not in {DEADLINE:?}");
        std::thread::sleep(LOOK);
    }
}

/// Waits until `condition` holds. Panics after [`DEADLINE`]; `what` names the condition.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()))
}
