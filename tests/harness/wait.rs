//! Waits for a condition, up to a limit. No test depends on timing: the limit only ends a test that
//! hangs.

use std::time::{Duration, Instant};

/// The limit of a wait for something that takes milliseconds. It is generous, because a loaded
/// machine is no failure.
pub const LONG: Duration = Duration::from_secs(120);

/// The time between two checks.
const STEP: Duration = Duration::from_millis(2);

/// Calls `look` until it returns something. Returns `None` after `limit`.
pub fn poll<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    poll_every(STEP, limit, look)
}

fn poll_every<T>(step: Duration, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        if step.is_zero() {
            std::hint::spin_loop();
        } else {
            std::thread::sleep(step);
        }
    }
}

/// Waits until `true_now` returns true. Panics with `what` after [`LONG`].
pub fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let found = poll(LONG, || true_now().then_some(()));
    assert!(found.is_some(), "waited {LONG:?} in vain until {what}");
}

/// As [`until`], but without a sleep between two checks. It is for a state that lasts only some
/// microseconds.
pub fn until_at_once(what: &str, mut true_now: impl FnMut() -> bool) {
    let found = poll_every(Duration::ZERO, LONG, || true_now().then_some(()));
    assert!(found.is_some(), "waited {LONG:?} in vain until {what}");
}
