//! Clocks: clock_gettime(2).

use crate::sys::proc::stat::TICKS_PER_SECOND;

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
