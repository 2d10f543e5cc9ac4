//! Clocks, clock_gettime(2), and the limit of a wait.

use std::time::{Duration, Instant};

use crate::sys::proc::stat::TICKS_PER_SECOND;

/// The end of a wait. A loop that polls checks it once a round, which costs one reading of the
/// clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline `limit` from now on. A limit that no clock can hold is never over.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// Whether the time is up.
    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// The time that is left; zero once it is up.
    pub fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    /// This deadline, or `limit` from now on if that comes first.
    #[must_use]
    pub fn at_most(self, limit: Duration) -> Self {
        Self::after(self.left().min(limit))
    }

    /// Sleeps for `step` and returns true, or returns false at once if the time is up.
    pub fn sleep(self, step: Duration) -> bool {
        let goes_on = !self.is_over();
        if goes_on {
            std::thread::sleep(step);
        }
        goes_on
    }
}

/// The pauses of a loop that polls for what another task does at once, when it has a processor.
///
/// sched_yield(2) is not for that: each call costs the task a whole time slice (`yield_task_fair`
/// in kernel/sched/fair.c). On a busy machine a wait of 400 us that yields lasts some 8 ms.
pub struct Pauses(Instant);

impl Pauses {
    /// How long a wake-up would cost more than it saves.
    const SPINS: Duration = Duration::from_micros(40);
    /// How long most waits last at most.
    const SHORT: Duration = Duration::from_millis(1);

    /// The wait begins now.
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Waits for a moment, longer the later it is.
    pub fn pause(&self) {
        match self.0.elapsed() {
            elapsed if elapsed < Self::SPINS => std::hint::spin_loop(),
            elapsed if elapsed < Self::SHORT => std::thread::sleep(Duration::from_micros(20)),
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// Ticks since boot, in the unit of a process's start time.
pub fn boot_ticks() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME) / (1_000_000_000 / TICKS_PER_SECOND)
}

/// Nanoseconds of a clock.
pub fn clock_ns(clock: i32) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live local.
    unsafe { libc::clock_gettime(clock, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_ends_when_its_limit_is_over() {
        let (over, far, never) =
            (Deadline::after(Duration::ZERO), Deadline::after(Duration::from_secs(60)), Deadline::after(Duration::MAX));
        assert!(over.is_over() && over.left().is_zero() && !over.sleep(Duration::from_secs(60)));
        assert!(!far.is_over() && far.left() > Duration::from_secs(50) && far.sleep(Duration::ZERO));
        assert!(!never.is_over() && never.at_most(Duration::ZERO).is_over());
        assert!(far.at_most(Duration::MAX).left() <= Duration::from_secs(60));
    }
}
