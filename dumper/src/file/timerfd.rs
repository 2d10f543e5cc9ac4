//! Timers whose expirations are read from a descriptor: timerfd_create(2).
//!
//! What time is left comes from `fdinfo` (timerfd_show in fs/timerfd.c). An interval timer that has
//! expired runs on only when it is looked at: timerfd_gettime(2) has it count the intervals that
//! have passed, as the next read would have. That changes nothing for the program.
//!
//! A timer goes on with the time that was left at the instant. One that was set to a time of the
//! wall clock (TFD_TIMER_ABSTIME on CLOCK_REALTIME) fires at that time. For other clocks the kernel
//! tells of an absolute time too, but the clock may be another one at the restore.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_gettime,
    timerfd_settime,
};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::sys::clock::clock_ns;
use crate::sys::proc::status::Fields;
use crate::sys::{fd, timerfd};

const NAME: &str = "anon_inode:[timerfd]";

/// The clocks that a timer can have, by their numbers (clock_gettime(2)).
const CLOCKS: [TimerfdClockId; 5] = [
    TimerfdClockId::Realtime,
    TimerfdClockId::Monotonic,
    TimerfdClockId::Boottime,
    TimerfdClockId::RealtimeAlarm,
    TimerfdClockId::BoottimeAlarm,
];

/// How often a timer is looked at that expires at each look.
const LOOKS: u32 = 20;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Table row.
pub struct Timerfd;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct TimerfdBody {
    /// The number of its clock, clock_gettime(2).
    clock: u32,
    /// The expirations that no read has taken yet.
    ticks: u64,
    /// When it expires next, in seconds and nanoseconds: after the instant, or since 1970 if
    /// `wall_clock` is set. Both are 0 if it is disarmed.
    next: (u64, u64),
    /// From one expiration to the next, in seconds and nanoseconds.
    interval: (u64, u64),
    /// Set to a time of the wall clock (TFD_TIMER_ABSTIME).
    wall_clock: bool,
    /// A read fails when the wall clock is set (TFD_TIMER_CANCEL_ON_SET).
    cancel_on_set: bool,
    flags: i32,
}

/// What `fdinfo` shows of a timer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    ticks: u64,
    left: (u64, u64),
    interval: (u64, u64),
}

impl Seen {
    fn read(timer: &OwnedFd) -> Result<Self> {
        let info = Fields::read(&format!("/proc/self/fdinfo/{}", timer.as_raw_fd()))?;
        let (left, interval) = (pair(info.text("it_value"))?, pair(info.text("it_interval"))?);
        Ok(Self { ticks: info.number("ticks"), left, interval })
    }

    /// Whether it has expired and counts on only when it is looked at, or is disarmed.
    fn is_waiting(&self) -> bool {
        self.left == (0, 0) && self.interval != (0, 0)
    }
}

/// The numbers of "(1, 500)".
fn pair(text: &str) -> Result<(u64, u64)> {
    let numbers = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')?.split_once(", "));
    let parsed = numbers.and_then(|(seconds, rest)| Some((seconds.parse().ok()?, rest.parse().ok()?)));
    parsed.ok_or_else(|| Error::os(format_args!("a time of a timerfd: {text:?}"), libc::EIO))
}

/// The time that is left and the expirations, as they are at one moment.
fn look(timer: &OwnedFd) -> Result<Seen> {
    let mut before = None;
    for _ in 0..LOOKS {
        timerfd_gettime(timer).doing(|| "asking a timerfd")?;
        // `fdinfo` shows the time before the expirations. If both are the same a second time,
        // nothing has happened in between.
        let (seen, again) = (Seen::read(timer)?, Seen::read(timer)?);
        let is_still = seen.ticks == again.ticks && !again.is_waiting();
        // A disarmed timer may have an interval, but it counts nothing.
        let is_disarmed = seen.is_waiting() && before == Some(seen);
        if is_still || is_disarmed {
            return Ok(seen);
        }
        before = Some(again);
    }
    // A timer that expires at each look expires at once after the restore too.
    Ok(Seen { left: (0, 1), ..Seen::read(timer)? })
}

/// The time of the wall clock when so much time has passed.
fn since_1970((seconds, nanoseconds): (u64, u64)) -> (u64, u64) {
    // Asked after the time that was left: the timer must not expire too early.
    let now = clock_ns(libc::CLOCK_REALTIME);
    let sum = now % SECOND + nanoseconds;
    (now / SECOND + seconds + sum / SECOND, sum % SECOND)
}

fn timespec((seconds, nanoseconds): (u64, u64)) -> Result<Timespec> {
    let damaged = |_| Error::damaged(format!("a timerfd with a time of {seconds} s and {nanoseconds} ns"));
    Ok(Timespec {
        tv_sec: i64::try_from(seconds).map_err(damaged)?,
        tv_nsec: i64::try_from(nanoseconds).map_err(damaged)?,
    })
}

impl OpenFile for Timerfd {
    type Body = TimerfdBody;
    const KIND: &'static str = "timerfd";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.target.as_os_str() == NAME
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<TimerfdBody> {
        let clock = observed.info.number("clockid") as u32;
        let set = TimerfdTimerFlags::from_bits_retain(observed.info.octal("settime flags") as u32);
        let is_wall_clock =
            [TimerfdClockId::Realtime, TimerfdClockId::RealtimeAlarm].map(|it| it as u32).contains(&clock);
        let wall_clock = is_wall_clock && set.contains(TimerfdTimerFlags::ABSTIME);
        let Seen { ticks, left, interval } = look(&observed.description()?)?;
        if ticks != 0 {
            timerfd::can_set_ticks().map_err(|error| error.on(&observed.subject))?;
        }
        let next = if wall_clock && left != (0, 0) { since_1970(left) } else { left };
        let cancel_on_set = wall_clock && set.contains(TimerfdTimerFlags::CANCEL_ON_SET);
        Ok(TimerfdBody { clock, ticks, next, interval, wall_clock, cancel_on_set, flags: observed.flags })
    }

    /// Its time runs from then on, and a long image takes long to be read.
    fn opens_last(&self) -> bool {
        true
    }

    fn restore(&self, body: TimerfdBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        let TimerfdBody { clock, ticks, next, interval, wall_clock, cancel_on_set, flags } = body;
        let doing = || format!("making a timerfd of clock {clock}");
        let known = CLOCKS.into_iter().find(|known| *known as u32 == clock);
        let known = known.ok_or_else(|| Error::damaged(format!("a timerfd of clock {clock}")))?;
        let timer = timerfd_create(known, TimerfdFlags::CLOEXEC).doing(doing)?;
        let mut set = TimerfdTimerFlags::empty();
        set.set(TimerfdTimerFlags::ABSTIME, wall_clock);
        set.set(TimerfdTimerFlags::CANCEL_ON_SET, cancel_on_set);
        let times = Itimerspec { it_interval: timespec(interval)?, it_value: timespec(next)? };
        // Setting the time forgets the expirations, so they come second. If it expires between the
        // two, that expiration is lost: once more.
        for _ in 0..LOOKS {
            timerfd_settime(&timer, set, &times).doing(doing)?;
            if ticks != 0 {
                timerfd::set_ticks(&timer, ticks)?;
            }
            if wall_clock || ticks == 0 || next == (0, 0) || !Seen::read(&timer)?.is_waiting() {
                break;
            }
        }
        fd::set_flags(&timer, flags)?;
        Ok(timer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::{observed_fd, this};

    fn made(clock: TimerfdClockId, set: TimerfdTimerFlags, value: (u64, u64), interval: (u64, u64)) -> OwnedFd {
        let timer = timerfd_create(clock, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK).unwrap();
        let times = Itimerspec { it_interval: timespec(interval).unwrap(), it_value: timespec(value).unwrap() };
        timerfd_settime(&timer, set, &times).unwrap();
        timer
    }

    fn again(timer: &OwnedFd) -> (TimerfdBody, OwnedFd) {
        let this = this();
        let observed = observed_fd(timer, &this);
        assert!(Timerfd.takes(&observed));
        let body = || Timerfd.dump(&observed, &mut none()).unwrap();
        (body(), Timerfd.restore(body(), &none()).unwrap())
    }

    fn flags_of(timer: &OwnedFd) -> u64 {
        Fields::read(&format!("/proc/self/fdinfo/{}", timer.as_raw_fd())).unwrap().octal("settime flags")
    }

    #[test]
    fn what_is_left_and_what_has_expired_come_back() {
        let plain = TimerfdTimerFlags::empty();
        let (body, timer) = again(&made(TimerfdClockId::Boottime, plain, (1000, 5), (7, 0)));
        let seen = Seen::read(&timer).unwrap();
        assert!((990..=1000).contains(&seen.left.0), "{:?}", seen.left);
        assert_eq!((seen.interval, seen.ticks, body.flags), ((7, 0), 0, libc::O_RDWR | libc::O_NONBLOCK));
        for interval in [(0, 0), (3, 0)] {
            let (_, timer) = again(&made(TimerfdClockId::Monotonic, plain, (0, 0), interval));
            let seen = Seen::read(&timer).unwrap();
            assert_eq!((seen.left, seen.interval, seen.ticks), ((0, 0), interval, 0));
        }
        // Disarmed, with an expiration; and one that expires all the time.
        for interval in [(0, 0), (0, 1)] {
            let expired = made(TimerfdClockId::Monotonic, plain, (0, 1), interval);
            std::thread::sleep(std::time::Duration::from_millis(2));
            let (body, timer) = again(&expired);
            assert!(body.ticks >= 1 && Seen::read(&timer).unwrap().ticks >= 1);
        }
    }

    /// It was 100 intervals ago that it was looked at.
    #[test]
    fn an_interval_timer_that_nobody_reads_has_counted() {
        let timer = made(TimerfdClockId::Monotonic, TimerfdTimerFlags::empty(), (0, 1_000_000), (0, 1_000_000));
        std::thread::sleep(std::time::Duration::from_millis(100));
        let (body, _) = again(&timer);
        assert!(body.ticks >= 99, "{}", body.ticks);
    }

    #[test]
    fn a_time_of_the_wall_clock_stays() {
        let then = (clock_ns(libc::CLOCK_REALTIME) / SECOND + 5000, 0);
        let absolute = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let (body, timer) = again(&made(TimerfdClockId::Realtime, absolute, then, (60, 0)));
        let off = (body.next.0 * SECOND + body.next.1).abs_diff(then.0 * SECOND);
        assert!(body.wall_clock && body.cancel_on_set && off < SECOND, "{off}");
        assert_eq!(flags_of(&timer), 3);
        // The farthest time that a kernel knows.
        let (_, timer) = again(&made(TimerfdClockId::Realtime, absolute, (i64::MAX as u64, 0), (0, 0)));
        assert!(Seen::read(&timer).unwrap().left.0 > 1 << 32);
    }
}
