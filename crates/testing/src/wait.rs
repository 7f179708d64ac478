//! How tests wait: for the event itself, looked for again and again. The deadline only ends a run that would never end, and is long
//! enough for a machine with many times more to do than it has processors.

use std::time::{Duration, Instant};

/// How long an event may take before its test fails.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Between two looks. Shorter ones would take time from what is waited for.
const LOOK: Duration = Duration::from_millis(2);

/// The value that `look` finds, once there is one.
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

/// Returns once `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()))
}
